"""What can be checked of a figure only across the suite file: that what its panels show is defined and measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rstbench.spec import faults as wording
from rstbench.spec.derived import DERIVED
from rstbench.spec.faults import Complaint
from rstbench.spec.overlay import Node

_DEFENSES = {
    "lines": (("tickets",), "a line runs over remaining ratios, so it needs a defense of kind tickets"),
    "heatmap": (
        ("r2s", "switch"),
        "a heat map shows transfer between members, so it needs a defense of kind r2s or switch",
    ),
    "scatter": (
        ("r2s", "switch"),
        "a scatter shows pairs of members, so it needs a defense of kind r2s or switch",
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
_ALL_MEMBERS = ("arc", "hinge")
"""Kinds of attacks that take all members of a switch at once."""
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
    asked = [(_text(panel.get("attack")), _text(panel.get("measure")))]
    for place in places:
        one = _mapping(root.get(*place))
        for key in ("defense", "attack", "measure", "source"):
            yield from _defined(root, (*place, key), "defenses" if key == "source" else f"{key}s")
        own = (_text(one.get("attack")), _text(one.get("measure")))
        asked.append(own if any(own) else asked[0])
        if kind in _DEFENSES:
            yield from _fits(root, (*place, "defense"), *_DEFENSES[kind])
        yield from _measured(root, panel, (*place, "defense"), asked[-1], _text(one.get("source")))
        if kind == "scatter":
            yield from _single_sources(root, (*place, "attack") if own[0] else (*path, "attack"))
            yield from _overlap(root, panel, (*place, "defense"))
    if "dashed" in panel:
        yield from _defined(root, (*path, "dashed"), "defenses")
        yield from _fits(root, (*path, "dashed"), *_DASHED)
        for question in dict.fromkeys(asked[1:]):
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


def _single_sources(root: Node, path: wording.Path) -> Iterator[Complaint]:
    """A pair is a source and a member: the images have to be made against one member."""
    name = _text(root.get(*path))
    attack = _mapping(root.get("attacks", name))
    kind, view = _text(attack.get("kind")), _text(attack.get("view"))
    if kind in ("clean", *_ALL_MEMBERS, *DERIVED) or view not in ("", "member"):
        words = f"view {view}" if view not in ("", "member") else f"kind {kind}"
        message = f"a scatter is of images made against single members, and this attack is of {words}"
        yield Complaint(path, wording.show(name), message + "; name one of view member, such as pgd")


def _overlap(root: Node, panel: Mapping[str, Node], path: wording.Path) -> Iterator[Complaint]:
    """The horizontal axis: a measure of kind mask_overlap, and a cell of it for this defense at this place."""
    measures = _mapping(root.get("measures"))
    found = [name for name, one in measures.items() if _text(_mapping(one).get("kind")) == "mask_overlap"]
    if not found:
        message = "a scatter goes over the overlap of masks; add a measure of kind mask_overlap"
        yield Complaint(path, None, message + ", and a cell of it for this defense")
        return
    yield from _measured(root, panel, path, ("", found[0]))


def _measured(
    root: Node, panel: Mapping[str, Node], path: wording.Path, question: tuple[str, str], source: str = ""
) -> Iterator[Complaint]:
    attack, measure = question
    wanted = {"defense": _text(root.get(*path)), "attack": attack, "measure": measure, "source": source}
    places = {axis: _text(panel.get(axis)) for axis in ("dataset", "network")}
    rooms = {"defense": "defenses", "source": "defenses"} | {
        key: f"{key}s" for key in ("attack", "measure", "dataset", "network")
    }
    named = {**wanted, **places}
    if any(name and name not in _mapping(root.get(rooms[key])) for key, name in named.items()) or not wanted["defense"]:
        return  # reported where the name stands
    for cell in _cells(root):
        same = all(_text(cell.get(key)) == name for key, name in wanted.items())
        own_seed = _text(cell.get("source_seed")) in ("", "same")
        if same and own_seed and all(_covers(root, cell, axis, name) for axis, name in places.items()):
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
