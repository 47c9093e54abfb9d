"""What was run on a store, as the store remembers it: enough to plan it again without its suite files and its data.

A note lies in `<store>/suites/<sha256>.json`: the suite as given and as its profile ran it, the name of its file, what
is known of its data sets and models, and which cells were asked for. A note says nothing about results, so the same run
leaves the same note, and it stands there once.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from rstbench.data.remembered import DataFacts
from rstbench.errors import RstbenchError, StoreError
from rstbench.plan import Plan, plan
from rstbench.report.files import write_text
from rstbench.spec.base import canonical_json
from rstbench.spec.models import DatasetSpec
from rstbench.spec.suite import Suite
from rstbench.store import Store

FOLDER = "suites"
_FORMAT = 1
_MAX_BYTES = 16 * 2**20
_FACTS: TypeAdapter[DataFacts] = TypeAdapter(DataFacts)


@dataclass(frozen=True)
class Ran:
    """A suite that was run. file: as it was named, empty if the suite was made and not written.

    seeds, only: as they were asked for beside it.
    """

    plan: Plan
    file: str
    seeds: tuple[int, ...]
    only: Mapping[str, str]

    @property
    def command(self) -> str:
        """What runs it again."""
        suite = self.plan.suite
        if not self.file:
            return f"suite {suite.run.name}, which rstbench made"
        words = ["rstbench", "run", self.file, "--profile", str(suite.profile)]
        words += [word for seed in self.seeds for word in ("--seed", str(seed))]
        words += [word for pair in self.only.items() for word in ("--only", "=".join(pair))]
        return shlex.join(words)


def file_name(path: Path) -> str:
    """A suite's file as notes and leaderboards name it: as it was given, but never where it lies on a disk."""
    return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()


def remember(store: Store, ran: Plan, given: Path | Suite, seeds: Sequence[int], only: Mapping[str, str]) -> None:
    """Leave a note of a run in the store, if there is none of it yet. Raises `StoreError` if it cannot be written.

    given: the suite as it was named; seeds, only: as they were asked for beside it.
    """
    suite, own = ran.suite, set(ran.suite.run.datasets.values())
    text = canonical_json(
        {
            "format": _FORMAT,
            "file": file_name(given) if isinstance(given, Path) else "",
            "suite": {
                "profile": suite.profile,
                "paper": suite.paper.model_dump(mode="json", by_alias=True, exclude_unset=True),
                "run": suite.run.model_dump(mode="json", by_alias=True, exclude_unset=True),
            },
            "facts": [
                [spec.model_dump(mode="json"), _FACTS.dump_python(known, mode="json")]
                for spec, known in ran.facts.items()
                if spec in own
            ],
            "models": {name: dict(each) for name, each in ran.models.items()},
            "seeds": list(seeds),
            "only": dict(only),
        }
    )
    path = store.root / FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
    try:
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            write_text(path, text)
    except OSError as error:
        raise StoreError(f"the store {store.root} cannot be written ({error.strerror or error})") from error


def remembered(store: Store, profile: str | None = None) -> list[Ran]:
    """The suites that were run on the store, planned again, each once, by the names of suite and profile.

    profile: only those. Raises `StoreError` for a note that is damaged, or that this version no longer understands.
    """
    notes: dict[str, Path] = {}
    for root in store.roots:
        for path in sorted((root / FOLDER).glob("*.json")):
            notes.setdefault(path.stem, path)
    found = [_read(path) for path in notes.values()]
    chosen = [ran for ran in found if profile in (None, str(ran.plan.suite.profile))]
    return sorted(chosen, key=lambda ran: (ran.plan.suite.run.name, ran.command))


def _read(path: Path) -> Ran:
    try:
        data = path.read_bytes() if path.stat().st_size <= _MAX_BYTES else b""
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from error
    if hashlib.sha256(data).hexdigest() != path.stem:
        raise StoreError(f"{path}: damaged (its SHA-256 is not its name); remove it and run the suite again")
    try:
        note = json.loads(data)
        if note["format"] != _FORMAT:
            raise ValueError(f"format {note['format']!r}")
        suite = Suite.model_validate_json(json.dumps(note["suite"]))
        facts = {
            DatasetSpec.model_validate_json(json.dumps(spec)): _FACTS.validate_python(known)
            for spec, known in note["facts"]
        }
        planned = plan(suite, facts, note["only"], note["models"])
        return Ran(planned, str(note["file"]), tuple(map(int, note["seeds"])), dict(note["only"]))
    except (ValueError, KeyError, TypeError, RecursionError, ValidationError, RstbenchError) as error:
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise StoreError(
            f"{path}: a suite that this version does not understand ({reason}); run the suite again, or name suites"
        ) from error
