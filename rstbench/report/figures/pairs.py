"""Transfer between the members of a switch: the matrix, and each of its pairs beside the overlap of their masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rstbench.report.measure import CellResult
from rstbench.report.statistics import Interval, t_over_seeds, wilson

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

    heat: the whole matrix. places: (P, 2), source and member of each pair; overlap: (P,), in [0, 1], mean over seeds,
    of their masks. by_chance: mean overlap that masks of as many weights would have at random; None if not recorded.
    """

    heat: Heat
    places: NDArray[np.intp]
    overlap: Array
    by_chance: float | None

    @property
    def accuracy(self) -> Array:
        """Of the member on images made against the source, percent, (P,)."""
        return self._at(self.heat.values)

    @property
    def low(self) -> Array:
        """Lower ends of the accuracies' intervals, percent, (P,)."""
        return self._at(self.heat.low)

    @property
    def high(self) -> Array:
        """Upper ends of the accuracies' intervals, percent, (P,)."""
        return self._at(self.heat.high)

    @property
    def white_box(self) -> float:
        """Mean accuracy of members on images made against themselves, percent."""
        return float(self.heat.values.diagonal().mean())

    def _at(self, matrix: Array) -> Array:
        found: Array = matrix[self.places[:, 0], self.places[:, 1]]
        return found


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


def pairs_of(result: CellResult, overlap: CellResult) -> Pairs | None:
    """The matrix of a cell beside the overlaps of the same switch; None if either is not complete, or is of no pairs.

    Raises ValueError if the sources of the images are not the members themselves.
    """
    heat, shared = heat_of(result), overlap.quantity
    if heat is None or shared is None or not shared.pairs:
        return None
    if heat.sources != heat.members:
        raise ValueError("a scatter is of images made against single members")
    places = np.array(sorted(shared.pairs), dtype=np.intp)
    return Pairs(heat, places, np.array([shared.pairs[i, j] for i, j in places.tolist()]), shared.by_chance)


def _interval(percentages: list[float], images: int) -> Interval:
    if len(percentages) > 1:
        return t_over_seeds(percentages)
    return wilson(round(percentages[0] * images / 100), images)
