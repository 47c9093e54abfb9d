"""A statement as measured: its value, its interval at any level, and whether that decides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rstbench.report.claims.language import Statement
from rstbench.report.claims.rules import LEVEL, Decision
from rstbench.report.statistics import BOOTSTRAP_SEED, RESAMPLES

Kind = Literal["t over seeds", "paired bootstrap", "bootstrap", "exact"]
_CHUNK = 2_000_000


@dataclass(frozen=True)
class Outcome:
    """A statement with its numbers, in the quantity's own unit (accuracies: points).

    by_seed: the quantity under each seed. n: images behind one seed, 0 where none are counted. groups: of a single
    seed, one array (N,) for each set of images, whose means add up to the quantity; terms that share their images are
    added up image by image, which is what pairs them. width: the widest that one image can move a group's term.
    substitutes: flags of what ran in place of the paper's own setting. flags: reliability flags (`spec.flags`) that its
    cells have recorded, which change no number.
    """

    statement: Statement
    by_seed: tuple[float, ...]
    seeds: tuple[int, ...]
    n: int
    groups: tuple[NDArray[np.float64], ...] = field(repr=False, default=())
    width: float = 0.0
    substitutes: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def value(self) -> float:
        """Mean over seeds."""
        return float(np.mean(self.by_seed))

    @property
    def kind(self) -> Kind:
        """What the interval covers: new seeds, other test images, or nothing (a count)."""
        if not self.n and len(set(self.by_seed)) == 1:
            return "exact"
        if len(self.by_seed) > 1:
            return "t over seeds"
        return "paired bootstrap" if len(self.groups) == 1 else "bootstrap"

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Two-sided interval of the quantity at `level`."""
        if self.kind == "exact":
            return self.value, self.value
        if self.kind == "t over seeds":
            return t_interval(self.by_seed, level)
        if not any(np.ptp(np.round(group, 9)) for group in self.groups):
            # No image differs from another. The share of those that would is bounded by the exact binomial.
            half = sum(self.width * (1 - ((1 - level) / 2) ** (1 / len(group))) for group in self.groups)
            return self.value - half, self.value + half
        low, high = np.quantile(self._resampled, [0.5 - level / 2, 0.5 + level / 2])
        return float(low), float(high)

    @cached_property
    def _resampled(self) -> NDArray[np.float64]:
        generator = np.random.Generator(np.random.Philox(BOOTSTRAP_SEED))
        means = [resampled_means(group, generator) for group in self.groups]
        total: NDArray[np.float64] = np.sort(np.sum(means, axis=0))
        return total

    def decide(self, level: float) -> Decision:
        """`for` if the interval of this level lies within the statement's bounds, `against` if outside, else `open`."""
        low, high = self.interval(level)
        if self.statement.low < low and high < self.statement.high:
            return "for"
        if high <= self.statement.low or low >= self.statement.high:
            return "against"
        return "open"


def t_interval(values: Sequence[float], level: float) -> tuple[float, float]:
    """Student's t interval of the mean of two values or more."""
    from scipy.special import stdtrit

    array = np.asarray(values, dtype=np.float64)
    quantile = float(stdtrit(len(array) - 1, 0.5 + level / 2))
    half = quantile * float(array.std(ddof=1)) / len(array) ** 0.5
    return float(array.mean()) - half, float(array.mean()) + half


def resampled_means(values: NDArray[np.float64], generator: Any) -> NDArray[np.float64]:
    """Means of `RESAMPLES` resamples of the values, shape (N,), drawn with replacement."""
    # A resample is fixed by how often it holds each distinct value; of differences of 0/1 scores there are few.
    distinct, counts = np.unique(np.round(values, 12), return_counts=True)
    n = len(values)
    by_count = 8 * len(distinct) < n
    step = max(1, _CHUNK // (len(distinct) if by_count else n))
    means = np.empty(RESAMPLES)
    for begin in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - begin)
        if by_count:
            drawn = generator.multinomial(n, counts / n, size=size) @ distinct / n
        else:
            drawn = values[generator.integers(n, size=(size, n), dtype=np.int32)].mean(axis=1)
        means[begin : begin + size] = drawn
    return means
