"""What can be checked only across a suite file: names that refer to each other, and rows that must differ.

It reads the tree, not the specs: a file with faults elsewhere is checked all the same. What is of the wrong type is
passed over here, for the schema reports it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rstbench.spec import faults as wording
from rstbench.spec.across_figure import across_figure
from rstbench.spec.base import linf_text
from rstbench.spec.derived import DERIVED
from rstbench.spec.faults import Complaint
from rstbench.spec.overlay import Node
from rstbench.spec.suite import MATRIX_AXES


def across(root: Node) -> Iterator[Complaint]:
    """Everything that is wrong between the parts of a suite file."""
    for axis in MATRIX_AXES:
        yield from _names(root, ("matrix", axis), f"{axis}s")
        yield from _repeated(root, ("matrix", axis))
    yield from _repeated(root, ("seeds",))
    yield from _layout(root)
    for name, defense in _entries(root, "defenses"):
        yield from _defense(root, name, _mapping(defense))
    for name, attack in _entries(root, "attacks"):
        yield from _chosen(root, name, _mapping(attack))
    for room in ("trainings", "searches"):
        for name, _ in _entries(root, room):
            yield from _increasing(root, (room, name, "lr_schedule", "milestones"))
    for name, _ in _entries(root, "measures"):
        yield from _names(root, ("measures", name, "over"), "datasets")
        yield from _repeated(root, ("measures", name, "over"))
    yield from _cells(root)
    yield from across_figure(root)


_REFERENCES = {"training": "trainings", "search": "searches", "weights_dataset": "datasets"}
_OF_KINDS = {"weights": ("dense",), "members": ("dense", "ticket", "lottery"), "of": ("r2s", "switch")}


def _defense(root: Node, name: str, fields: Mapping[str, Node]) -> Iterator[Complaint]:
    """What a defense refers to: schedules, data, and other defenses of certain kinds."""
    for key, room in _REFERENCES.items():
        if key in fields:
            yield from _name(root, ("defenses", name, key), room)
    if "training" in _mapping(fields.get("tuning")):
        yield from _name(root, ("defenses", name, "tuning", "training"), "trainings")
    for key, kinds in _OF_KINDS.items():
        places: list[wording.Path] = [("defenses", name, key)] if key in fields else []
        if key == "members":
            places = [(*place, index) for place in places for index in range(len(_list(root, place)))]
            yield from _repeated(root, ("defenses", name, key))
        for place in places:
            yield from _name(root, place, "defenses")
            node = root.get(*place)
            kind = _text(_mapping(root.get("defenses", _text(node))).get("kind"))
            if kind and kind not in kinds:
                message = f"is a defense of kind {kind}; `{key}` takes {wording.listing(kinds)}"
                yield Complaint(place, wording.show(_text(node)), message)


def _chosen(root: Node, name: str, attack: Mapping[str, Node]) -> Iterator[Complaint]:
    """What a derived attack chooses from."""
    places: list[wording.Path] = []
    if "of" in attack:
        places.append(("attacks", name, "of"))
    places += [("attacks", name, "over", index) for index in range(len(_list(root, ("attacks", name, "over"))))]
    for place in places:
        yield from _name(root, place, "attacks")
        node = root.get(*place)
        kind = _text(_mapping(root.get("attacks", _text(node))).get("kind"))
        if kind in (*DERIVED, "clean"):
            message = f"an attack of kind {kind} makes no images to choose from"
            yield Complaint(place, wording.show(_text(node)), message + "; name attacks such as pgd or autoattack")
    yield from _repeated(root, ("attacks", name, "over"))


def _mapping(node: Node | None) -> Mapping[str, Node]:
    return node.value if node is not None and isinstance(node.value, dict) else {}


def _entries(root: Node, room: str) -> Iterator[tuple[str, Node]]:
    yield from _mapping(root.get(room)).items()


def _list(root: Node, path: wording.Path) -> list[Any]:
    node = root.get(*path)
    return [item.value for item in node.value] if node is not None and isinstance(node.value, list) else []


def _name(root: Node, path: wording.Path, room: str) -> Iterator[Complaint]:
    node = root.get(*path)
    known = list(_mapping(root.get(room)))
    if node is not None and isinstance(node.value, str) and node.value not in known:
        message, suggestion = wording.unknown(f"not defined in `{room}`", node.value, known)
        yield Complaint(path, wording.show(node.value), message, suggestion)


def _names(root: Node, path: wording.Path, room: str) -> Iterator[Complaint]:
    for index in range(len(_list(root, path))):
        yield from _name(root, (*path, index), room)


def _repeated(root: Node, path: wording.Path) -> Iterator[Complaint]:
    values = _list(root, path)
    for index, value in enumerate(values):
        if isinstance(value, str | int) and any(
            value == other and type(value) is type(other) for other in values[:index]
        ):
            yield Complaint((*path, index), wording.show(value), "stands twice in this list")


def _layout(root: Node) -> Iterator[Complaint]:
    rows = _list(root, ("table", "rows"))
    yield from _repeated(root, ("table", "rows"))
    yield from _repeated(root, ("table", "columns"))
    for index, value in enumerate(_list(root, ("table", "columns"))):
        if isinstance(value, str) and value in rows:
            yield Complaint(("table", "columns", index), wording.show(value), "already labels the rows")


def _increasing(root: Node, path: wording.Path) -> Iterator[Complaint]:
    values = _list(root, path)
    if all(isinstance(value, int) for value in values) and values != sorted(set(values)):
        yield Complaint(path, wording.show(values), "milestones must increase")


def _measured(root: Node, path: wording.Path, measure: str, defense: str) -> Iterator[Complaint]:
    """Faults of a measure that is not defined for such a defense."""
    asked = _text(_mapping(root.get("measures", measure)).get("kind"))
    kind = _text(_mapping(root.get("defenses", defense)).get("kind"))
    members = [str(name) for name in _list(root, ("defenses", defense, "members"))]
    of = {name: _text(_mapping(root.get("defenses", name)).get("kind")) for name in members}
    dense = [name for name, its in of.items() if its in ("dense", "model")]
    message = ""
    if asked == "mask_overlap" and kind in ("dense", "ticket", "tickets", "lottery", "model", "ensemble"):
        message = f"overlap is between the masks of a switching defense's members, and '{defense}' is none"
    elif asked == "mask_overlap" and kind == "switch" and dense:
        message = f"overlap is between masks, and member '{dense[0]}' ({of[dense[0]]}) has none"
    elif asked == "parameters" and kind in ("r2s", "switch", "ensemble"):
        message = f"how many parameters '{defense}' ({kind}) keeps depends on how far its masks overlap"
        message += "; measure bytes, or the parameters of a single member"
    elif asked == "feature_distance" and kind in ("r2s", "switch", "ensemble"):
        message = f"feature maps are of one network, and '{defense}' is {kind}; name one of its members"
    if message:
        yield Complaint(path, wording.show(measure), message)


def _reused(root: Node, path: wording.Path, cell: Mapping[str, Node]) -> Iterator[Complaint]:
    """Faults of a cell whose attack, or one that it chooses from, keeps images from smaller epsilons."""
    defense, attack = (_text(cell.get(key)) for key in ("defense", "attack"))
    chosen = [_text(_mapping(root.get("attacks", attack)).get("of")), *_list(root, ("attacks", attack, "over"))]
    names = [name for name in (attack, *chosen) if name and _list(root, ("attacks", str(name), "smaller_epsilons"))]
    kind = _text(_mapping(root.get("defenses", defense)).get("kind"))
    if kind in ("r2s", "switch", "ensemble"):
        reason = f"'{defense}' ({kind}) is several"
    elif _text(cell.get("source")) not in ("", defense) or _text(cell.get("source_seed")) == "other":
        reason = "these images are made against another than the one that is judged"
    else:
        return
    for name in dict.fromkeys(names):
        message = f"`smaller_epsilons` of '{name}' keeps what fools one network, attacked and judged itself; {reason}"
        yield Complaint(path, wording.show(attack), message)


@dataclass(frozen=True, slots=True)
class _Row:
    """What makes a row of the table unique: two cells with equal rows could not be told apart."""

    defense: str
    attack: str
    distance: tuple[str, str]
    source: tuple[str, str]
    dataset: str
    network: str


def _cells(root: Node) -> Iterator[Complaint]:
    seen: dict[tuple[_Row, str], int] = {}
    headlines: dict[_Row, int] = {}
    for index in range(len(_list(root, ("table", "cells")))):
        path = ("table", "cells", index)
        for key in ("defense", "attack", "measure", *MATRIX_AXES):
            yield from _name(root, (*path, key), f"{key}s")
        yield from _name(root, (*path, "source"), "defenses")
        cell = _mapping(root.get(*path))
        for axis in MATRIX_AXES:
            value = _text(cell.get(axis))
            known, among = _mapping(root.get(f"{axis}s")), _list(root, ("matrix", axis))
            # With a misspelt axis this would only repeat that fault in other words.
            if value in known and value not in among and all(str(other) in known for other in among):
                yield Complaint((*path, axis), wording.show(value), f"not in the matrix; add it to `matrix.{axis}`")
        defense, attack = (_text(cell.get(key)) for key in ("defense", "attack"))
        fields = _mapping(root.get("attacks", attack))
        defended = _mapping(root.get("defenses", defense))
        view = _text(fields.get("view"))
        source = _text(cell.get("source")) or defense
        kind = _text(_mapping(root.get("defenses", source)).get("kind"))
        if view in ("eot", "ensemble", "switch") and kind in ("dense", "ticket", "tickets", "lottery", "model"):
            message = f"the view {view} is over the members of a switching defense, and '{source}' is none"
            yield Complaint((*path, "attack"), wording.show(attack), message + "; use view member or a defense r2s")
        if (
            kind == "ensemble"
            and fields
            and _text(fields.get("kind")) not in ("clean", *DERIVED)
            and view != "ensemble"
        ):
            message = f"'{source}' is a deterministic ensemble, whose adversary differentiates its own average"
            yield Complaint((*path, "attack"), wording.show(attack), message + "; use an attack with view ensemble")
        yield from _reused(root, (*path, "attack"), cell)
        if "measure" in cell:
            yield from _measured(root, (*path, "measure"), _text(cell.get("measure")), defense)
        if not fields or not defended:
            continue
        repeated: set[int] = set()
        headed: set[int] = set()
        for row in _rows(root, cell, defense, attack, fields):
            variant = _text(fields.get("variant"))
            repeated.add(seen.setdefault((row, variant), index))
            if "headline" in fields and fields["headline"].value is True:
                headed.add(headlines.setdefault(row, index))
        for other in sorted(repeated - {index}):
            message = f"gives a row of the table that cell {other} gives too (same defense, attack, source, distance"
            yield Complaint(path, None, message + " and variant); give one of the attacks a `variant` or drop a cell")
        for other in sorted(headed - repeated - {index}):
            message = f"a second headline of the same table entry; cell {other} has one already"
            yield Complaint((*path, "attack"), wording.show(attack), message)


def _rows(
    root: Node, cell: Mapping[str, Node], defense: str, attack: str, fields: Mapping[str, Node]
) -> Iterator[_Row]:
    axes = [
        [_text(cell[axis])] if axis in cell else [v for v in _list(root, ("matrix", axis)) if isinstance(v, str)]
        for axis in MATRIX_AXES
    ]
    report_as = _text(fields.get("report_as")) or attack
    source = (_text(cell.get("source")), _text(cell.get("source_seed")) or "same")
    distance = _distance(root, fields)
    for dataset in axes[0]:
        for network in axes[1]:
            yield _Row(defense, report_as, distance, source, dataset, network)


def _distance(root: Node, fields: Mapping[str, Node]) -> tuple[str, str]:
    kind = _text(fields.get("kind"))
    if kind == "clean":
        trained_for = fields.get("of_epsilon")
        return "", "" if trained_for is None else _reduced(trained_for.value)
    if kind in DERIVED:
        chosen = fields.get("over") or fields.get("of")
        first = chosen.value[0] if chosen is not None and isinstance(chosen.value, list) and chosen.value else chosen
        other = _mapping(root.get("attacks", _text(first)))
        # One that chooses from itself would not end.
        return _distance(root, other) if _text(other.get("kind")) not in (*DERIVED, "") else ("", "")
    if kind == "cw_l2":
        limit = fields.get("within_epsilon")
        return "l2", "" if limit is None else _number(limit.value)
    norm = _text(fields.get("norm")) or "linf"
    given = fields["epsilon"].value if "epsilon" in fields else "8/255"
    return norm, _reduced(given)


def _reduced(given: Any) -> str:
    try:
        return linf_text(given)  # 8/255 and 16/510 are one distance
    except ValueError:
        return _number(given)


def _number(given: Any) -> str:
    return repr(float(given) if isinstance(given, int) else given)


def _text(node: Node | None) -> str:
    return node.value if node is not None and isinstance(node.value, str) else ""
