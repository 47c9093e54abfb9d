"""Rates of a machine, as `rstbench calibrate` leaves them in `<store>/calibration.json`. No torch.

Format 1::

    {"format": 1, "machines": [{"machine": {"hardware", "device", "cores", "torch"}, "date": "2026-11-21",
      "rates": [{"what": "step", "of": {...}, "seconds": 0.0012}, ...],
      "shares": [{"attack": {...}, "share": 0.62, "nodes": 12}, ...]}]}

rates: seconds of one unit of work (`units`). shares: passes that attacks in the store made, by their own count, over
those that were assumed; median over `nodes` of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from rstbench.errors import StoreError
from rstbench.estimate.machine import Machine
from rstbench.estimate.units import Unit
from rstbench.spec.base import canonical_json

FORMAT = 1
FILE = "calibration.json"

_Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


@dataclass(frozen=True)
class _Rate:
    what: str
    of: dict[str, Any]
    seconds: _Seconds


@dataclass(frozen=True)
class Share:
    """Passes made over passes assumed, of an attack's nodes in the store. attack: `attack_fields`."""

    attack: dict[str, Any]
    share: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    nodes: int


@dataclass(frozen=True)
class _Entry:
    machine: Machine
    date: str
    rates: list[_Rate]
    shares: list[Share] = field(default_factory=list)


_ENTRIES: TypeAdapter[list[_Entry]] = TypeAdapter(list[_Entry])


@dataclass(frozen=True)
class Calibration:
    """What was measured on one machine. rates: seconds of each unit; date: of the last measurement."""

    machine: Machine
    date: str
    rates: Mapping[Unit, float]
    shares: Sequence[Share] = ()

    def with_rates(self, rates: Mapping[Unit, float], date: str, shares: Sequence[Share]) -> Calibration:
        """The same with newer rates and shares in place of older ones of the same units and attacks."""
        of_each = {canonical_json(each.attack): each for each in (*self.shares, *shares)}
        return replace(self, date=date, rates={**self.rates, **rates}, shares=list(of_each.values()))


_ALIKE = ("kind", "view", "stop", "form", "version", "abort_early", "norm")
"""Fields of attacks that leave images out, or end, in the same way, whatever their budget and their steps."""


def attack_fields(attack: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a craft node's attack that decide how many passes of an image it makes."""
    return {name: value for name, value in attack.items() if name not in ("samples", "batch", "engine")}


class Shares:
    """Passes made over passes assumed: of an attack, or else, by their median, of the attacks that are like it."""

    def __init__(self, shares: Sequence[Share]) -> None:
        self._known = {canonical_json(each.attack): each.share for each in shares}
        alike: dict[str, list[float]] = {}
        for each in shares:
            alike.setdefault(_alike(each.attack), []).append(each.share)
        self._alike = {text: median(found) for text, found in alike.items()}

    def of(self, attack: Mapping[str, Any]) -> float:
        """The share of a craft node's attack; 1 where nothing like it is known."""
        if not self._known:
            return 1.0
        fields = attack_fields(attack)
        known = self._known.get(canonical_json(fields))
        return self._alike.get(_alike(fields), 1.0) if known is None else known


def _alike(fields: Mapping[str, Any]) -> str:
    return canonical_json({name: fields.get(name) for name in _ALIKE})


def read(root: Path) -> list[Calibration]:
    """All calibrations of the store at `root`. Raises `StoreError` for a file that cannot be understood."""
    path = root / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}: {error}; {_REMEDY}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise StoreError(f"{path}: not a calibration of format {FORMAT}; {_REMEDY}")
    try:
        entries = _ENTRIES.validate_python(found.get("machines"))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise StoreError(f"{path}: machines.{where}: {fault['msg']}; {_REMEDY}") from error
    return [
        Calibration(
            entry.machine,
            entry.date,
            {Unit(rate.what, canonical_json(rate.of)): rate.seconds for rate in entry.rates},
            entry.shares,
        )
        for entry in entries
    ]


_REMEDY = "remove the file and calibrate again"


def of_machine(root: Path, machine: Machine) -> Calibration | None:
    """The calibration of a machine, or None. One whose GPU has no name here is any with a GPU like it in the rest."""
    for found in read(root):
        same = replace(machine, hardware=machine.hardware or found.machine.hardware)
        if found.machine == same:
            return found
    return None


def write(root: Path, calibration: Calibration) -> Path:
    """Keep a calibration, in place of the machine's former one; returns the file.

    Written beside and renamed, so a reader sees the old file or the new one. Raises `StoreError` if it cannot be
    written, or if what is there cannot be understood.
    """
    others = [each for each in read(root) if each.machine != calibration.machine]
    machines = [
        {
            "machine": asdict(each.machine),
            "date": each.date,
            "rates": [
                {"what": unit.what, "of": unit.fields, "seconds": seconds} for unit, seconds in each.rates.items()
            ],
            "shares": [asdict(share) for share in each.shares],
        }
        for each in [*others, calibration]
    ]
    path, temporary = root / FILE, None
    try:
        handle, temporary = tempfile.mkstemp(dir=root, prefix=f".{FILE}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"format": FORMAT, "machines": machines}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path
