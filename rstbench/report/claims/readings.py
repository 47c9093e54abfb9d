"""Rows of planned tables as numbers: found by what names them, read once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rstbench.plan import Plan, PlannedCell
from rstbench.report.claims.language import Pick
from rstbench.report.measure import Records, SeedMeasurement, keys_behind, measure_seed
from rstbench.report.paper import comparable
from rstbench.report.predictions import read_columns
from rstbench.report.quantity import read_quantity
from rstbench.spec.flags import RELIABILITY
from rstbench.store import Store

NAMES = (
    "dataset", "network", "defense", "ratio", "candidate_set", "attack", "eps", "attack_source", "metric", "variant",
)  # fmt: skip
"""Columns that say which row a pick is."""


def row_key(columns: Mapping[str, str | None]) -> tuple[object, ...]:
    """The row that these columns name; equal numbers are equal, a candidate set has no order."""
    return tuple(comparable(name, columns.get(name) or "") for name in NAMES)


def pick_key(pick: Pick) -> tuple[object, ...]:
    """As `row_key`, of a pick."""
    return row_key({name: getattr(pick, name) for name in NAMES})


@dataclass(frozen=True, eq=False)
class Planned:
    """A suite file and its plan under the profile.

    plan: None where there is none, for the `reason` given. A plan with a reason was made without its data: the rows are
    known, and what the store holds of them is not.
    """

    path: Path
    plan: Plan | None
    reason: str = ""

    @property
    def name(self) -> str:
        """Name of the file without its ending."""
        return self.path.stem


@dataclass(frozen=True)
class Scores:
    """A row under one seed. index: test images (N,), None for a count; scores: (N,) in the row's unit, or (1,)."""

    index: NDArray[np.int64] | None
    scores: NDArray[np.float64]
    widest: float

    @property
    def mean(self) -> float:
        """The row's value under this seed."""
        return float(self.scores.mean())


class Rows:
    """Rows of several plans, and what the store holds of them. Each is read once."""

    def __init__(self, suites: Sequence[Planned], store: Store) -> None:
        self.suites, self._store = tuple(suites), store
        self._cells = {
            suite.path: {row_key(cell.columns): cell for cell in suite.plan.cells}
            for suite in self.suites
            if suite.plan is not None
        }
        self._records = {suite.path: Records(suite.plan, store) for suite in self.suites if suite.plan is not None}
        self._seeds: dict[tuple[Path, tuple[object, ...], int], SeedMeasurement | None] = {}

    def among(self, patterns: Iterable[str]) -> list[Planned]:
        """The suites whose names begin as one of the patterns says, in the patterns' order; a whole name may be one."""
        found = [
            suite
            for pattern in patterns
            for suite in self.suites
            if suite.name == pattern or (pattern.endswith("_") and suite.name.startswith(pattern))
        ]
        return list(dict.fromkeys(found))

    def cell(self, suite: Planned, pick: Pick) -> PlannedCell | None:
        """The pick's cell in the suite, or None if its profile has none."""
        return self._cells.get(suite.path, {}).get(pick_key(pick))

    def scores(self, suite: Planned, pick: Pick) -> dict[int, Scores]:
        """The pick under every seed that the store holds in full. Raises `StoreError` if values are damaged."""
        cell = self.cell(suite, pick)
        if cell is None:
            return {}
        if cell.values:
            read = {seed: self._quantity(suite, cell, position) for position, seed in enumerate(cell.seeds)}
            return {seed: scores for seed, scores in read.items() if scores is not None}
        found = {}
        for position, seed in enumerate(cell.seeds):
            key = (suite.path, pick_key(pick), position)
            if key not in self._seeds:
                self._seeds[key] = measure_seed(cell, position, self._store)
            measured = self._seeds[key]
            if measured is not None:
                scores = 100 * np.asarray(_part(cell, measured, pick.part), dtype=np.float64)
                found[seed] = Scores(measured.index, scores, 100.0)
        return found

    def flags(self, suite: Planned, pick: Pick) -> set[str]:
        """Reliability flags that the nodes behind the pick have recorded."""
        cell, records = self.cell(suite, pick), self._records.get(suite.path)
        if cell is None or records is None:
            return set()
        keys = [key for position in range(len(cell.seeds)) for key in keys_behind(cell, position)]
        recorded = {str(flag) for key in records.nodes(keys) for flag in records.record(key).get("flags", ())}
        return recorded & set(RELIABILITY)

    def _quantity(self, suite: Planned, cell: PlannedCell, position: int) -> Scores | None:
        read = None if suite.plan is None else read_quantity(cell, position, suite.plan.nodes, self._store)
        if read is None:
            return None
        if read.images is None:
            return Scores(None, np.array([read.value]), 0.0)
        columns = read_columns(self._store, cell.values[position], ("index", "value"))
        index = np.arange(len(read.images)) if columns is None else columns["index"].astype(np.int64)
        return Scores(index, read.images, float(np.ptp(read.images)))


def _part(cell: PlannedCell, measured: SeedMeasurement, part: str) -> NDArray[np.float64]:
    """Scores (N,) of one part of the transfer matrix; right: bool (S, N, M)."""
    if not part:
        return measured.scores
    right = measured.right.astype(np.float64)
    if part.startswith("source "):
        wanted = part.removeprefix("source ")
        if wanted not in cell.sources:
            raise ValueError(f"part {part!r}: the sources are {', '.join(cell.sources)}")
        row: NDArray[np.float64] = right[cell.sources.index(wanted)] @ np.asarray(cell.probabilities)
        return row
    if cell.sources != cell.members:
        raise ValueError(f"part {part!r}: only a switch under transferred attacks has a diagonal")
    own: NDArray[np.float64] = np.mean([right[i, :, i] for i in range(len(right))], axis=0)
    if part == "diagonal":
        return own
    if part == "off_diagonal":
        k = len(right)
        off: NDArray[np.float64] = (right.sum(axis=(0, 2)) - k * own) / (k * (k - 1))
        return off
    raise ValueError(f"a part {part!r} of a transfer matrix is not known")
