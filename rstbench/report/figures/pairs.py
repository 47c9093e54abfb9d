"""Transfer between the members of a switch: the matrix, and each of its pairs beside the overlap of their masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rstbench.errors import StoreError
from rstbench.report.measure import CellResult, describe
from rstbench.report.statistics import Interval, bootstrap_mean, t_of_means, t_over_seeds, wilson

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Heat:
    """A transfer matrix: source x member, accuracy and the ends of its interval in percent, each (S, M)."""

    sources: tuple[str, ...]
    members: tuple[str, ...]
    values: Array
    low: Array
    high: Array
    intervals: str


@dataclass(frozen=True)
class Pairs:
    """Ordered pairs of a switch's members, i to j with i != j.

    heat: accuracies, the whole matrix. drawn: what the panel shows of them, `heat` itself or the gains. places: (P, 2),
    source and member of each pair; overlap: (P,), in [0, 1], mean over seeds, of their masks. by_chance: mean overlap
    that masks of as many weights would have at random; None if not recorded.
    """

    heat: Heat
    drawn: Heat
    places: NDArray[np.intp]
    overlap: Array
    by_chance: float | None

    @property
    def values(self) -> Array:
        """Of each pair, (P,), percent or points; `low` and `high` are the ends of its interval."""
        return self._at(self.drawn.values)

    @property
    def low(self) -> Array:
        """Lower ends, (P,)."""
        return self._at(self.drawn.low)

    @property
    def high(self) -> Array:
        """Upper ends, (P,)."""
        return self._at(self.drawn.high)

    @property
    def white_box(self) -> float:
        """Mean, of what is drawn, over members on images made against themselves."""
        return float(self.drawn.values.diagonal().mean())

    def _at(self, matrix: Array) -> Array:
        found: Array = matrix[self.places[:, 0], self.places[:, 1]]
        return found


def gains_of(result: CellResult) -> Heat | None:
    """Accuracy of each member above its accuracy on images made against itself, in points.

    Intervals are paired: of the differences image by image under one seed (bootstrap), of the differences between means
    under several (Student's t).
    """
    if result.measurement is None:
        return None
    seeds = result.measurement.seeds
    matrices = np.stack([seed.matrix - seed.matrix.diagonal() for seed in seeds])
    low, high = np.zeros(matrices.shape[1:]), np.zeros(matrices.shape[1:])
    kinds = set()
    for source, member in np.ndindex(low.shape):
        if source == member:
            continue
        if len(seeds) > 1:
            interval = t_of_means([float(matrix[source, member]) for matrix in matrices])
        else:
            right = seeds[0].right[:, :, member].astype(np.float64)
            interval = bootstrap_mean(100 * (right[source] - right[member]))
        low[source, member], high[source, member] = interval.low, interval.high
        kinds.add(str(interval.kind))
    return Heat(result.cell.sources, result.cell.members, matrices.mean(axis=0), low, high, ", ".join(sorted(kinds)))


def heat_of(result: CellResult) -> Heat | None:
    """Intervals of each entry: Wilson's over images under one seed, Student's t over the means of several."""
    if result.measurement is None:
        return None
    seeds = result.measurement.seeds
    matrices = np.stack([seed.matrix for seed in seeds])
    low, high = np.empty(matrices.shape[1:]), np.empty(matrices.shape[1:])
    kinds = set()
    for place in np.ndindex(low.shape):
        interval = _interval([float(matrix[place]) for matrix in matrices], len(seeds[0].scores))
        low[place], high[place] = interval.low, interval.high
        kinds.add(str(interval.kind))
    sources, members = result.cell.sources, result.cell.members
    return Heat(sources, members, matrices.mean(axis=0), low, high, ", ".join(sorted(kinds)))


def pairs_of(result: CellResult, overlap: CellResult, gain: bool) -> Pairs:
    """The matrix of a cell, or its gains, beside the overlaps of the same switch, both of them in the store.

    Raises `StoreError` where the overlaps of single pairs are not recorded, ValueError if the sources of the images are
    not the members themselves.
    """
    heat, shared = heat_of(result), overlap.quantity
    if heat is None or shared is None:
        raise ValueError("pairs of what is not in the store")
    if not shared.pairs:
        raise StoreError(f"{describe(overlap.cell)}: it holds no overlaps of single pairs")
    if heat.sources != heat.members:
        raise ValueError("a scatter is of images made against single members")
    drawn = (gains_of(result) if gain else None) or heat
    places = np.array(sorted(shared.pairs), dtype=np.intp)
    overlaps = np.array([shared.pairs[i, j] for i, j in places.tolist()])
    return Pairs(heat, drawn, places, overlaps, shared.by_chance)


def _interval(percentages: list[float], images: int) -> Interval:
    if len(percentages) > 1:
        return t_over_seeds(percentages)
    return wilson(round(percentages[0] * images / 100), images)
