"""From stored values to what a table says: from predictions to accuracies, and from measures to quantities.

The score of an image under one seed follows from its predictions as the cell asks (`scores`). Ours is the mean over
images, then over seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstbench.errors import StoreError
from rstbench.plan import Node, Plan, PlannedCell
from rstbench.report.predictions import Integers, Samples, read_grid, read_seed
from rstbench.report.quantity import Quantity, SeedQuantity, combine_quantities, read_quantity
from rstbench.report.scores import score
from rstbench.report.statistics import Interval, Right, bootstrap, t_over_seeds, wilson
from rstbench.store import Store


@dataclass(frozen=True)
class SeedMeasurement:
    """One cell under one seed.

    index: test indices, int64 (N,); right: bool (S, N, M), by source, image and member; scores: (N,) in [0, 1].
    worst_source: number of the source that was chosen for all images; mixture: member probabilities of the game.
    """

    seed: int
    index: Integers
    right: Right
    scores: NDArray[np.float64]
    worst_source: int | None = None
    mixture: tuple[float, ...] = ()

    @property
    def accuracy(self) -> float:
        """Mean score, in percent."""
        return 100 * float(self.scores.mean())

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Accuracy by source and member, in percent."""
        means: NDArray[np.float64] = 100 * self.right.mean(axis=1)
        return means


@dataclass(frozen=True)
class Measurement:
    """One cell over all its seeds. accuracy in percent; n: test images; matrix: source x member, mean over seeds."""

    accuracy: float
    interval: Interval
    n: int
    seeds: tuple[SeedMeasurement, ...]
    matrix: NDArray[np.float64]

    @property
    def members(self) -> NDArray[np.float64]:
        """Accuracy of each member in percent, mean over sources and seeds, whatever source the adversary prefers."""
        means: NDArray[np.float64] = self.matrix.mean(axis=0)
        return means


def keys_behind(cell: PlannedCell, position: int) -> list[str]:
    """Keys of the nodes that the cell is read from under its seed number `position`.

    Those of all predictions, on held-out images too; or that of its measure.
    """
    grids = [*cell.predictions[position : position + 1], *cell.held_out[position : position + 1]]
    return [*(key for grid in grids for row in grid for key in row), *cell.values[position : position + 1]]


def measure_seed(cell: PlannedCell, position: int, store: Store) -> SeedMeasurement | None:
    """The cell under its seed number `position`, or None if any of its predictions is not in the store."""
    if not all(store.has(key) for key in keys_behind(cell, position)):
        return None
    read = read_seed(cell, position, store)
    held_out = read_grid(cell.held_out[position], cell.seeds[position], store) if cell.score == "game" else []
    if read is None or held_out is None:
        return None
    right = _right(read)
    scored = score(cell, right, _right(held_out) if held_out else None)
    return SeedMeasurement(cell.seeds[position], read[0][0].index, right, scored.scores, scored.source, scored.mixture)


def _right(read: Sequence[Sequence[Samples]]) -> Right:
    return np.array([np.stack([one.prediction == one.label for one in row], axis=-1) for row in read])


def measure(cell: PlannedCell, store: Store) -> Measurement | None:
    """The accuracy of a cell, or None if any value is missing (the cell was not run, or not to its end).

    Raises `StoreError` if predictions are damaged or do not fit each other.
    """
    if not all(store.has(key) for position in range(len(cell.seeds)) for key in keys_behind(cell, position)):
        return None
    seeds = [measure_seed(cell, position, store) for position in range(len(cell.seeds))]
    return combine(cell, seeds)


def combine(cell: PlannedCell, seeds: Iterable[SeedMeasurement | None]) -> Measurement | None:
    """The measurement over seeds, given in the cell's order; None if one is missing.

    Raises `StoreError` if seeds have different numbers of images.
    """
    present = [seed for seed in seeds if seed is not None]
    if len(present) != len(cell.seeds):
        return None
    n = len(present[0].scores)
    if any(len(seed.scores) != n for seed in present):
        counts = ", ".join(f"{len(seed.scores)} under seed {seed.seed}" for seed in present)
        raise StoreError(f"{describe(cell)}: test images differ between seeds ({counts})")
    means = [seed.accuracy for seed in present]
    scores = present[0].scores
    if len(present) > 1:
        interval = t_over_seeds(means)
    elif len(cell.members) == 1 and bool(np.isin(scores, (0.0, 1.0)).all()):
        interval = wilson(int(scores.sum()), n)
    else:
        interval = bootstrap(scores)
    matrix = np.mean([seed.matrix for seed in present], axis=0)
    return Measurement(float(np.mean(means)), interval, n, tuple(present), matrix)


@dataclass(frozen=True)
class CellResult:
    """A cell and what is known of it: per seed, where that seed is complete, and as a whole, where all are.

    An accuracy has `seeds` and `measurement`; a measure has `seed_quantities` and `quantity`, and in place of the
    former nothing.
    """

    cell: PlannedCell
    seeds: tuple[SeedMeasurement | None, ...]
    measurement: Measurement | None
    seed_quantities: tuple[SeedQuantity | None, ...] = ()
    quantity: Quantity | None = None

    @property
    def done(self) -> bool:
        """Whether all of its seeds are in the store."""
        return self.measurement is not None or self.quantity is not None

    @property
    def value(self) -> float | None:
        """The accuracy in percent, or the quantity in its unit; None if it is not complete."""
        if self.measurement is not None:
            return self.measurement.accuracy
        return self.quantity.value if self.quantity is not None else None

    @property
    def interval(self) -> Interval | None:
        """Of `value`, in its unit; None if it is not complete, or is no matter of chance."""
        return None if self._whole is None else self._whole.interval

    @property
    def n(self) -> int | None:
        """Test images; None if it is not complete, or was measured without any."""
        return None if self._whole is None else self._whole.n

    @property
    def _whole(self) -> Measurement | Quantity | None:
        return self.measurement or self.quantity


def measure_plan(plan: Plan, store: Store) -> tuple[CellResult, ...]:
    """Every cell of the plan, in its order. Reads every value once. Raises `StoreError` if one is damaged."""
    results = []
    for cell in plan.cells:
        positions = range(len(cell.seeds))
        if cell.values:
            found = tuple(read_quantity(cell, position, plan.nodes, store) for position in positions)
            results.append(CellResult(cell, (None,) * len(found), None, found, combine_quantities(found)))
            continue
        seeds = tuple(measure_seed(cell, position, store) for position in positions)
        results.append(CellResult(cell, seeds, combine(cell, seeds)))
    return tuple(results)


def describe(cell: PlannedCell) -> str:
    """A cell in words, for messages: all that tells it from the other rows of its table."""
    columns = cell.columns
    attack = "natural" if columns["attack"] == "none" else columns["attack"] or columns["metric"]
    words = [columns["defense"], columns["network"], columns["dataset"], attack, columns["variant"]]
    words += [f"{before} {columns[name]}" for name, before in _TOLD.items() if columns.get(name)]
    return "cell " + ", ".join(word for word in words if word)


_TOLD = {"ratio": "ratio", "candidate_set": "ratios", "eps": "epsilon", "attack_source": "from"}
"""Columns that need a word before them."""


class Records:
    """Records of a plan's nodes, each read once."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self._plan, self._store = plan, store
        self._read: dict[str, Mapping[str, Any]] = {}

    def nodes(self, keys: Iterable[str]) -> dict[str, Node]:
        """The nodes under `keys` and all that they are computed from, in the plan's order of discovery."""
        found: dict[str, Node] = {}
        waiting = list(keys)
        while waiting:
            key = waiting.pop()
            if key not in found and key in self._plan.nodes:
                found[key] = self._plan.nodes[key]
                waiting.extend(found[key].inputs.values())
        return {key: found[key] for key in self._plan.nodes if key in found} if found else {}

    def record(self, key: str) -> Mapping[str, Any]:
        """The record under `key`; empty if it is not in the store (yet)."""
        if key not in self._read:
            if not self._store.has(key):
                return {}
            self._read[key] = self._store.value(key).record
        return self._read[key]
