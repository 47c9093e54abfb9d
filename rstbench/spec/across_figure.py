"""What can be checked of a figure only across the suite file: that what its panels show is defined and measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rstbench.spec import faults as wording
from rstbench.spec.faults import Complaint
from rstbench.spec.overlay import Node

_DEFENSES = {
    "lines": (("tickets",), "a line runs over remaining ratios, so it needs a defense of kind tickets"),
    "heatmap": (
        ("r2s", "switch"),
        "a heat map shows transfer between members, so it needs a defense of kind r2s or switch",
    ),
    "bars": (
        ("dense", "ticket", "lottery", "r2s", "switch", "ensemble", "model"),
        "a bar is one value, and a series of tickets has several",
    ),
    "distribution": (
        ("dense", "ticket", "lottery", "model"),
        "a distribution is over the test images of one network",
    ),
}
_DASHED = ("dense", "ticket", "lottery", "model", "ensemble"), "a dashed line is one value, of one network"


def across_figure(root: Node) -> Iterator[Complaint]:
    """What is wrong between `figure` and the rest of the suite.

    Names that are not defined, defenses of a kind that the panel cannot show, and values that no cell of the table
    measures. What is of the wrong type is passed over, for the schema reports it.
    """
    panels = root.get("figure", "panels")
    count = len(panels.value) if panels is not None and isinstance(panels.value, list) else 0
    for index in range(count):
        yield from _panel(root, ("figure", "panels", index))


def _panel(root: Node, path: wording.Path) -> Iterator[Complaint]:
    panel = _mapping(root.get(*path))
    kind = _text(panel.get("kind"))
    for key in ("dataset", "network", "attack", "measure"):
        yield from _defined(root, (*path, key), f"{key}s")
    series = panel.get("series")
    places = (
        [(*path, "series", i) for i in range(len(series.value))] if series and isinstance(series.value, list) else []
    )
    asked = [(panel.get("attack"), panel.get("measure"))]
    for place in places:
        one = _mapping(root.get(*place))
        for key in ("defense", "attack", "measure"):
            yield from _defined(root, (*place, key), f"{key}s")
        own = (one.get("attack"), one.get("measure"))
        asked.append(own if own != (None, None) else asked[0])
        if kind in _DEFENSES:
            yield from _fits(root, (*place, "defense"), *_DEFENSES[kind])
        yield from _measured(root, panel, (*place, "defense"), asked[-1])
    if "dashed" in panel:
        yield from _defined(root, (*path, "dashed"), "defenses")
        yield from _fits(root, (*path, "dashed"), *_DASHED)
        for question in {(_text(attack), _text(measure)): (attack, measure) for attack, measure in asked[1:]}.values():
            yield from _measured(root, panel, (*path, "dashed"), question)


def _defined(root: Node, path: wording.Path, room: str) -> Iterator[Complaint]:
    name = _text(root.get(*path))
    known = list(_mapping(root.get(room)))
    if name and name not in known:
        message, suggestion = wording.unknown(f"not defined in `{room}`", name, known)
        yield Complaint(path, wording.show(name), message, suggestion)


def _fits(root: Node, path: wording.Path, kinds: tuple[str, ...], reason: str) -> Iterator[Complaint]:
    name = _text(root.get(*path))
    kind = _text(_mapping(root.get("defenses", name)).get("kind"))
    if kind and kind not in kinds:
        yield Complaint(path, wording.show(name), f"{reason}; this is of kind {kind}")


def _measured(
    root: Node, panel: Mapping[str, Node], path: wording.Path, question: tuple[Node | None, Node | None]
) -> Iterator[Complaint]:
    wanted = {"defense": _text(root.get(*path)), "attack": _text(question[0]), "measure": _text(question[1])}
    places = {axis: _text(panel.get(axis)) for axis in ("dataset", "network")}
    rooms = {"defense": "defenses"} | {key: f"{key}s" for key in ("attack", "measure", "dataset", "network")}
    named = {**wanted, **places}
    if any(name and name not in _mapping(root.get(rooms[key])) for key, name in named.items()) or not wanted["defense"]:
        return  # reported where the name stands
    for cell in _cells(root):
        same = all(_text(cell.get(key)) == name for key, name in wanted.items())
        own_images = "source" not in cell and _text(cell.get("source_seed")) in ("", "same")
        if same and own_images and all(_covers(root, cell, axis, name) for axis, name in places.items()):
            return
    what = ", ".join(f"{key}: {name}" for key, name in named.items() if name)
    yield Complaint(path, None, f"no cell of the table measures this; add {{{what}}} to `table.cells`")


def _covers(root: Node, cell: Mapping[str, Node], axis: str, name: str) -> bool:
    if axis in cell:
        return _text(cell[axis]) == name
    matrix = root.get("matrix", axis)
    return matrix is not None and isinstance(matrix.value, list) and name in [item.value for item in matrix.value]


def _cells(root: Node) -> Iterator[Mapping[str, Node]]:
    cells = root.get("table", "cells")
    for cell in cells.value if cells is not None and isinstance(cells.value, list) else ():
        yield _mapping(cell)


def _mapping(node: Node | None) -> Mapping[str, Any]:
    return node.value if node is not None and isinstance(node.value, dict) else {}


def _text(node: Node | None) -> str:
    return node.value if node is not None and isinstance(node.value, str) else ""
