"""From stored predictions to accuracies.

The score of an image under one seed is the mean over sources of the probability-weighted mean over members of
[prediction == label]: for a random switch whose adversary draws its source uniformly, that is exactly the
expected accuracy, diagonal included. Ours is the mean over images, then over seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstbench.errors import StoreError
from rstbench.plan import Node, Plan, PlannedCell
from rstbench.report.statistics import Interval, bootstrap, t_over_seeds, wilson
from rstbench.store import Store

SAMPLES = "samples.parquet"

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """Predictions of one network: test index, label and predicted class, each int64 (N,)."""

    index: Integers
    label: Integers
    prediction: Integers


@dataclass(frozen=True)
class SeedMeasurement:
    """One cell under one seed. scores: (N,) in [0, 1]; matrix: source x member accuracies in percent."""

    seed: int
    scores: NDArray[np.float64]
    matrix: NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        """Mean score, in percent."""
        return 100 * float(self.scores.mean())


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
        """Accuracy of each member in percent, mean over sources and seeds."""
        means: NDArray[np.float64] = self.matrix.mean(axis=0)
        return means


def read_columns(store: Store, key: str, names: tuple[str, ...]) -> dict[str, NDArray[Any]] | None:
    """Columns of a value's per-sample file, or None if the value is not in the store.

    Raises `StoreError` if the file is damaged or lacks a column.
    """
    if not store.has(key):
        return None
    value = store.value(key)
    import pyarrow
    import pyarrow.parquet

    try:
        data = pyarrow.BufferReader(value.read(SAMPLES))
        table = pyarrow.parquet.read_table(data, columns=list(names), use_threads=False)
        columns = {name: table.column(name).to_numpy() for name in names}
    except (pyarrow.ArrowException, KeyError) as error:
        raise StoreError(
            f"{value.directory / SAMPLES}: not per-sample results with the columns {', '.join(names)} ({error})"
        ) from error
    for name, column in columns.items():
        if column.dtype.kind not in "iuf" or (name in ("index", "label", "prediction") and column.dtype.kind == "f"):
            raise StoreError(f"{value.directory / SAMPLES}: column {name} holds {column.dtype}, or empty places")
    return columns


def read_samples(store: Store, key: str) -> Samples | None:
    """The predictions under `key`, or None if they are not in the store. Raises `StoreError` if they are damaged."""
    columns = read_columns(store, key, ("index", "label", "prediction"))
    if columns is None:
        return None
    samples = Samples(*(columns[name].astype(np.int64, copy=False) for name in ("index", "label", "prediction")))
    if len(samples.index) == 0 or len(np.unique(samples.index)) != len(samples.index):
        raise StoreError(f"{store.value(key).directory / SAMPLES}: no images, or one image more than once")
    return samples


def read_seed(cell: PlannedCell, position: int, store: Store) -> list[list[Samples]] | None:
    """Predictions of the cell under its seed number `position`, by source and member; None if any is missing.

    Raises `StoreError` if they do not concern the same images with the same labels.
    """
    keys = cell.predictions[position]
    if not all(store.has(key) for row in keys for key in row):
        return None
    first: Samples | None = None
    result: list[list[Samples]] = []
    for row in keys:
        read: list[Samples] = []
        for key in row:
            samples = read_samples(store, key)
            if samples is None:
                return None
            first = first or samples
            if not (np.array_equal(samples.index, first.index) and np.array_equal(samples.label, first.label)):
                raise StoreError(
                    f"value {key[:12]}: its images or labels are not those of {keys[0][0][:12]}, "
                    f"though both are predictions under seed {cell.seeds[position]}"
                )
            read.append(samples)
        result.append(read)
    return result


def measure_seed(cell: PlannedCell, position: int, store: Store) -> SeedMeasurement | None:
    """The cell under its seed number `position`, or None if any of its predictions is not in the store."""
    read = read_seed(cell, position, store)
    if read is None:
        return None
    matrix = np.empty((len(cell.sources), len(cell.members)))
    scores = np.zeros(len(read[0][0].label))
    for s, row in enumerate(read):
        for m, samples in enumerate(row):
            correct = samples.prediction == samples.label
            matrix[s, m] = 100 * correct.mean()
            scores += correct * (cell.probabilities[m] / len(read))
    # Weights like 1/6 do not sum to 1 in binary.
    return SeedMeasurement(cell.seeds[position], np.clip(np.round(scores, 12), 0.0, 1.0), matrix)


def measure(cell: PlannedCell, store: Store) -> Measurement | None:
    """What the store holds of a cell, or None if any value is missing (the cell was not run, or not to its end).

    Raises `StoreError` if predictions are damaged or do not fit each other.
    """
    if not all(store.has(key) for seed in cell.predictions for row in seed for key in row):
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
    if len(present) > 1:
        interval = t_over_seeds(means)
    elif len(cell.sources) == len(cell.members) == 1:
        interval = wilson(round(float(present[0].scores.sum())), n)
    else:
        interval = bootstrap(present[0].scores)
    matrix = np.mean([seed.matrix for seed in present], axis=0)
    return Measurement(float(np.mean(means)), interval, n, tuple(present), matrix)


@dataclass(frozen=True)
class CellResult:
    """A cell and what is known of it: per seed, where that seed is complete, and as a whole, where all are."""

    cell: PlannedCell
    seeds: tuple[SeedMeasurement | None, ...]
    measurement: Measurement | None


def measure_plan(plan: Plan, store: Store) -> tuple[CellResult, ...]:
    """Every cell of the plan, in its order. Reads every prediction once."""
    results = []
    for cell in plan.cells:
        seeds = tuple(measure_seed(cell, position, store) for position in range(len(cell.seeds)))
        results.append(CellResult(cell, seeds, combine(cell, seeds)))
    return tuple(results)


def describe(cell: PlannedCell) -> str:
    """A cell in words, for messages."""
    columns = cell.columns
    words = [columns[name] for name in ("defense", "network", "dataset", "attack", "variant") if columns[name]]
    return "cell " + ", ".join(words)


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
