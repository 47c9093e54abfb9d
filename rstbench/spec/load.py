"""A suite file in, a `Suite` out, or every fault of the file at once.

Checked are the file's own part, and each of the four profiles with its overlay merged in; a fault of the file's own
part is reported once, a fault of an overlay at the overlay's line.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from rstbench.errors import SpecError
from rstbench.spec import faults as wording
from rstbench.spec.across import across
from rstbench.spec.faults import Complaint, Fault
from rstbench.spec.overlay import Node, merge, read_tree
from rstbench.spec.suite import PROFILES, Suite, SuiteFile, SuiteSpec

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
        return model.model_validate(data), list(across(root))
    except ValidationError as error:
        return None, [*wording.complaints(error, model, data), *across(root)]


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
