"""A suite file in, a `Suite` out, or every fault of the file at once.

Checked are the file's own part, and each of the four profiles with its overlay merged in; a fault of the file's own
part is reported once, a fault of an overlay at the overlay's line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rstbench.errors import SpecError
from rstbench.spec import faults as wording
from rstbench.spec.base import linf_text
from rstbench.spec.faults import Complaint, Fault
from rstbench.spec.overlay import Node, merge, read_tree
from rstbench.spec.suite import MATRIX_AXES, PROFILES, Suite, SuiteFile, SuiteSpec

MAX_BYTES = 1_000_000
FIXED_KEYS = ("schema", "name", "profiles")
"""What an overlay may not change: it is the same suite under every profile."""


def load_suite(path: Path, profile: str = "paper") -> Suite:
    """The suite at `path`, as the paper has it and as `profile` runs it.

    Raises SpecError: with all faults of the file, each with file and line, whichever profile they concern; or with
    the one reason why the file cannot be read.
    """
    if profile not in PROFILES:
        message, suggestion = wording.unknown(f"unknown profile '{profile}'", profile, PROFILES)
        raise SpecError(message + (f"; did you mean '{suggestion}'?" if suggestion else ""))
    specs, faults = _check(Path(path))
    if faults:
        count = f"{len(faults)} fault" + ("s" if len(faults) > 1 else "")
        raise SpecError("\n  ".join([f"{path}: {count}", *(fault.render(path) for fault in faults)]))
    return Suite(profile=profile, paper=specs["paper"], run=specs[profile])


def find_faults(path: Path) -> list[Fault]:
    """All faults of the suite file at `path`, by line. Raises SpecError where there is no text to find faults in."""
    return _check(Path(path))[1]


def _check(path: Path) -> tuple[dict[str, SuiteSpec], list[Fault]]:
    root, faults = read_tree(_read(path))
    if root is None and not faults:
        raise SpecError(f"{path}: the file is empty; a suite begins with `schema: 1`")
    if root is None:
        return {}, faults
    if not isinstance(root.value, dict):
        raise SpecError(f"{path}:{root.line}: a suite is a mapping (key: value) at the top, beginning with `schema: 1`")
    specs, found = _validate(root)
    # Pydantic and the checks across the file may stumble over one another; a place is reported once per message.
    unique = {(fault.line, fault.path, fault.message): fault for fault in [*faults, *found]}
    return specs, sorted(unique.values(), key=lambda fault: fault.line)


def _read(path: Path) -> str:
    try:
        if path.is_dir():
            raise SpecError(f"{path}: this is a directory; a suite is a YAML file")
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(f"{path}: {path.stat().st_size} bytes; a suite has at most {MAX_BYTES}")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        others = [other.name for other in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        near = wording.nearest(path.name, others)
        raise SpecError(f"{path}: no such file" + (f"; did you mean '{path.parent / near}'?" if near else "")) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SpecError(f"{path}:{line}: not UTF-8 text (byte 0x{error.object[error.start]:02x})") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror or error}") from None


def _validate(root: Node) -> tuple[dict[str, SuiteSpec], list[Fault]]:
    whole = _complaints(root, SuiteFile)[1]
    faults = [_placed(root, complaint) for complaint in whole]
    known = {_essence(complaint) for complaint in whole}
    assert isinstance(root.value, dict)
    own = Node({key: node for key, node in root.value.items() if key != "profiles"}, root.line)
    specs: dict[str, SuiteSpec] = {}
    for profile in PROFILES:
        overlay = root.get("profiles", profile)
        merged = own
        if overlay is not None and isinstance(overlay.value, dict):
            for key in FIXED_KEYS:
                if key in overlay.value:
                    message = "an overlay cannot change this; it belongs to the suite under every profile"
                    faults.append(Fault(overlay.value[key].line, ("profiles", profile, key), None, message))
            changes = {key: node for key, node in overlay.value.items() if key not in FIXED_KEYS}
            merged = merge(own, Node(changes, overlay.line), profile)
        spec, found = _complaints(merged, SuiteSpec)
        for complaint in found:
            if merged.nearest(complaint.path).profile is not None or _essence(complaint) not in known:
                faults.append(_of_profile(merged, complaint, profile))
        if spec is not None:
            specs[profile] = spec
    return specs, faults


def _complaints(root: Node, model: type[SuiteSpec]) -> tuple[SuiteSpec | None, list[Complaint]]:
    data = root.plain()
    try:
        return model.model_validate(data), list(_across(root))
    except ValidationError as error:
        return None, [*wording.complaints(error, model, data), *_across(root)]


def _essence(complaint: Complaint) -> tuple[wording.Path, str]:
    """What stays the same where an overlay has changed only the list of what is allowed."""
    return complaint.path, complaint.message.partition(";")[0]


def _placed(root: Node, complaint: Complaint) -> Fault:
    line = root.nearest(complaint.path).line
    return Fault(line, complaint.path, complaint.value, complaint.message, complaint.suggestion)


def _of_profile(root: Node, complaint: Complaint, profile: str) -> Fault:
    node = root.nearest(complaint.path)
    value, message, suggestion = complaint.value, complaint.message, complaint.suggestion
    if len(complaint.path) == 1 and message.startswith(wording.UNKNOWN_KEY):
        changeable = [field.alias or name for name, field in SuiteSpec.model_fields.items()]
        changeable = [key for key in changeable if key not in FIXED_KEYS]
        message, suggestion = wording.unknown(wording.UNKNOWN_KEY, complaint.path[0], changeable)
    if node.profile is not None or node.overlay_line is not None:
        line = node.line if node.profile is not None else node.overlay_line or node.line
        return Fault(line, ("profiles", profile, *complaint.path), value, message, suggestion)
    # The place is the file's own and right there; only with this overlay it no longer fits.
    return Fault(node.line, complaint.path, value, f"under the overlay of profile {profile}: {message}", suggestion)


# ---- what can be checked only across the file ----------------------------------------------------------------------
# These read the tree, not the specs: a file with faults elsewhere is checked all the same. What is of the wrong type
# is passed over here, for the schema has reported it.


def _across(root: Node) -> Iterator[Complaint]:
    for axis in MATRIX_AXES:
        yield from _names(root, ("matrix", axis), f"{axis}s")
        yield from _repeated(root, ("matrix", axis))
    yield from _repeated(root, ("seeds",))
    yield from _layout(root)
    for name, defense in _entries(root, "defenses"):
        for key, room in (("training", "trainings"), ("search", "searches")):
            if key in _mapping(defense):
                yield from _name(root, ("defenses", name, key), room)
    for room in ("trainings", "searches"):
        for name, _ in _entries(root, room):
            yield from _increasing(root, (room, name, "lr_schedule", "milestones"))
    yield from _cells(root)


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


@dataclass(frozen=True, slots=True)
class _Row:
    """What makes a row of the table unique: two cells with equal rows could not be told apart."""

    defense: str
    attack: str
    distance: tuple[str, str]
    dataset: str
    network: str


def _cells(root: Node) -> Iterator[Complaint]:
    seen: dict[tuple[_Row, str], int] = {}
    headlines: dict[_Row, int] = {}
    for index in range(len(_list(root, ("table", "cells")))):
        path = ("table", "cells", index)
        for key in ("defense", "attack", *MATRIX_AXES):
            yield from _name(root, (*path, key), f"{key}s")
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
        kind = _text(defended.get("kind"))
        if view in ("eot", "ensemble") and kind in ("dense", "ticket"):
            message = f"the view {view} is over the members of a switching defense, and '{defense}' is none"
            yield Complaint((*path, "attack"), wording.show(attack), message + "; use view member or a defense r2s")
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
            message = f"gives a row of the table that cell {other} gives too (same defense, attack name, distance and"
            yield Complaint(path, None, message + " variant); give one of the attacks a `variant` or drop a cell")
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
    distance = ("", "") if _text(fields.get("kind")) == "clean" else _distance(fields)
    for dataset in axes[0]:
        for network in axes[1]:
            yield _Row(defense, report_as, distance, dataset, network)


def _distance(fields: Mapping[str, Node]) -> tuple[str, str]:
    norm = _text(fields.get("norm")) or "linf"
    given = fields["epsilon"].value if "epsilon" in fields else "8/255"
    try:
        return norm, linf_text(given)  # 8/255 and 16/510 are one distance
    except ValueError:
        return norm, repr(float(given) if isinstance(given, int) else given)


def _text(node: Node | None) -> str:
    return node.value if node is not None and isinstance(node.value, str) else ""
