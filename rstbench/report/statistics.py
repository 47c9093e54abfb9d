"""95 % intervals: of accuracies, in percent, and of other measures, in their own unit.

Which one fits what was measured:

- `wilson`: one deterministic defense, so every image scores 0 or 1. Covers the choice of test images.
- `bootstrap`: scores are fractions (means over members or sources). Percentile bootstrap over images; covers the
  choice of test images.
- `t over seeds`: two seeds or more. Student's t on the means of the seeds; covers what a new seed would change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 10_000
BOOTSTRAP_SEED = 0
_CHUNK = 2_000_000
"""Numbers drawn at once, so that many images do not fill the memory."""

Right = NDArray[np.bool_]
"""Whether predictions are right, (S, N, M): by source, image and member."""

Kind = Literal["wilson", "bootstrap", "t over seeds"]


@dataclass(frozen=True)
class Interval:
    """A two-sided interval at `LEVEL`; `low` and `high` in percent, within [0, 100], where it is of accuracies."""

    low: float
    high: float
    kind: Kind


def wilson(correct: int, n: int) -> Interval:
    """Wilson's score interval (1927) of `correct` among `n` images, without continuity correction.

    Raises ValueError unless 0 <= correct <= n and n > 0.
    """
    if not 0 <= correct <= n or n < 1:
        raise ValueError(f"{correct} of {n} images")
    # scipy.special, not scipy.stats: the same functions, and a second less to import.
    from scipy.special import ndtri

    z2 = float(ndtri(0.5 + LEVEL / 2)) ** 2
    share = correct / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = (z2 * share * (1 - share) / n + z2**2 / (4 * n**2)) ** 0.5 / (1 + z2 / n)
    # At the ends the formula gives exactly 0 and 1, the computer almost.
    low = 0.0 if correct == 0 else centre - half
    high = 1.0 if correct == n else centre + half
    return _interval(low, high, "wilson")


def bootstrap(scores: NDArray[np.float64], seed: int = BOOTSTRAP_SEED) -> Interval:
    """Percentile bootstrap over images of the mean of `scores`, shape (N,), each in [0, 1].

    `RESAMPLES` resamples of N images, drawn with replacement from numpy's Philox with `seed`. Scores without any spread
    give resamples without any; there it is Wilson's interval, which is too wide for fractions, not too narrow.
    Raises ValueError for scores out of range or none.
    """
    if scores.ndim != 1 or len(scores) == 0 or not bool(np.all((scores >= 0) & (scores <= 1))):
        raise ValueError("scores must be one-dimensional, not empty, and within [0, 1]")
    # A resample is fixed by how often it holds each distinct score, and these counts are multinomial. K members give
    # few distinct scores, so this draws exactly what N indices would, at a thousandth of the cost.
    values, counts = np.unique(np.round(scores, 12), return_counts=True)
    n = len(scores)
    if len(values) == 1:
        return wilson(round(float(values[0]) * n), n)
    low, high = _quantiles(scores, values, counts, seed)
    return _interval(low, high, "bootstrap")


def bootstrap_mean(values: NDArray[np.float64], seed: int = BOOTSTRAP_SEED) -> Interval:
    """Percentile bootstrap over images of the mean of any `values`, shape (N,): `low` and `high` in their unit.

    As `bootstrap`, but for its bounds and its Wilson interval: values without any spread have an interval without.
    Raises ValueError for values that are not finite, or none.
    """
    if values.ndim != 1 or len(values) == 0 or not bool(np.isfinite(values).all()):
        raise ValueError("values must be one-dimensional, not empty, and finite")
    distinct, counts = np.unique(values, return_counts=True)
    return Interval(*_quantiles(values, distinct, counts, seed), "bootstrap")


def _quantiles(
    scores: NDArray[np.float64], values: NDArray[np.float64], counts: NDArray[np.int64], seed: int
) -> tuple[float, float]:
    """Of the means of resamples. values, counts: the distinct scores, and how often each occurs."""
    n = len(scores)
    generator = np.random.Generator(np.random.Philox(seed))
    means = np.empty(RESAMPLES)
    # With nearly as many scores as images, drawing images is the cheaper of the two.
    by_count = 8 * len(values) < n
    step = max(1, _CHUNK // (len(values) if by_count else n))
    for begin in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - begin)
        if by_count:
            drawn = generator.multinomial(n, counts / n, size=size) @ values / n
        else:
            drawn = scores[generator.integers(n, size=(size, n), dtype=np.int32)].mean(axis=1)
        means[begin : begin + size] = drawn
    low, high = np.quantile(means, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return float(low), float(high)


def t_over_seeds(means: Sequence[float]) -> Interval:
    """Student's t interval of the mean of `means`, one mean in percent for each of two seeds or more."""
    found = t_of_means(means)
    return _interval(found.low / 100, found.high / 100, found.kind)


def t_of_means(means: Sequence[float]) -> Interval:
    """Student's t interval of the mean of any `means`, one for each of two seeds or more, in their unit."""
    if len(means) < 2:
        raise ValueError("a t interval needs the means of two seeds or more")
    from scipy.special import stdtrit

    values = np.asarray(means, dtype=np.float64)
    centre = float(values.mean())
    quantile = float(stdtrit(len(values) - 1, 0.5 + LEVEL / 2))
    half = quantile * float(values.std(ddof=1)) / len(values) ** 0.5
    return Interval(centre - half, centre + half, "t over seeds")


def _interval(low: float, high: float, kind: Kind) -> Interval:
    return Interval(100 * min(1.0, max(0.0, low)), 100 * min(1.0, max(0.0, high)), kind)
