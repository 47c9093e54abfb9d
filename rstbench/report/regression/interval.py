"""How far apart two accuracies can be: intervals of a difference, that hold with few images and few differences too."""

from __future__ import annotations

import numpy as np

from rstbench.report.regression.rows import Floats

DRAWS = 40_000
"""So many move an end by about a hundredth of the interval's width, and the same way every time."""
_NUMBERS = 40_000_000
SEED = 0
_DIGITS = 12
_LEVEL = 0.95
"""Of the intervals that tables print."""


def of_differences(differences: Floats, alpha: float, seed: int = SEED) -> tuple[float, float, float]:
    """Two-sided interval at level 1 - alpha of the mean of `differences`, (N,), each within [-1, 1]; and a p-value.

    The p-value is the least alpha whose interval leaves out 0, at most 1.

    Gaffke's (2005) bound, as Learned-Miller and Thomas (2019) have it: the images get random weights, uniform among all
    that sum to one (Dirichlet), together with one further image whose difference is the worst there can be, -1 for the
    lower end and 1 for the upper; the ends are quantiles alpha/2 and 1 - alpha/2 of the weighted mean. It knows
    no normal distribution, so it holds where most differences are 0: if all N are, its ends are those of Clopper and
    Pearson, -+(1 - (alpha/2)^(1/N)) ("rule of three": about 3.7/N at 5 %). For 0/1 scores with losses only its lower
    end is Clopper and Pearson's too; with many differing images it is the bootstrap's. That it always covers is
    conjectured, not proven; tests count it out for few differing images, and simulate it for fractions.

    Drawn from numpy's Philox with `seed`. Raises ValueError for differences out of range, or none.
    """
    n = len(differences)
    if n == 0 or not bool(np.all(np.abs(differences) <= 1)):
        raise ValueError("differences must be within [-1, 1], and not empty")
    values, counts = np.unique(np.round(differences, _DIGITS), return_counts=True)
    return of_counts(values, counts.astype(np.float64), alpha, seed)


def of_counts(values: Floats, counts: Floats, alpha: float, seed: int = SEED) -> tuple[float, float, float]:
    """`of_differences` of `values`, each `counts` times."""
    n = float(counts.sum())
    if len(values) == 1 and values[0] == 0.0:
        end = 1.0 - (alpha / 2) ** (1.0 / n)
        return -end, end, 1.0
    generator = np.random.Generator(np.random.Philox(seed))
    draws = int(min(DRAWS, max(10_000, _NUMBERS // len(values))))
    means, extra = np.empty(draws), np.empty(draws)
    step = max(1, 2_000_000 // len(values))
    for begin in range(0, draws, step):
        end_at = min(begin + step, draws)
        # Weights of images with the same difference only matter in sum, and sums of Dirichlet weights are Dirichlet.
        weights = generator.standard_gamma(counts, size=(end_at - begin, len(counts)))
        one = generator.standard_exponential(end_at - begin)
        total = weights.sum(axis=1) + one
        means[begin:end_at], extra[begin:end_at] = weights @ values / total, one / total
    below, above = means - extra, means + extra
    p = 2 * (1 + min(int((below <= 0).sum()), int((above >= 0).sum()))) / (1 + draws)
    low, high = float(np.quantile(below, alpha / 2)), float(np.quantile(above, 1 - alpha / 2))
    if p * (1 + draws) <= 2:
        p = min(p, 2 * min(_tail(values, counts), _tail(-values, counts)))
    return max(-1.0, low), min(1.0, high), min(1.0, p)


def _tail(values: Floats, counts: Floats) -> float:
    """At most so large is the chance that the weighted mean with -1 added is 0 or less (Chernoff's bound).

    Draws tell no p below one in their number, and among hundreds of rows that alone would hide every loss. The weights
    are exponential variables over their sum, so the sum's moment generating function is a product.
    """
    from scipy.optimize import minimize_scalar

    def exponent(t: float) -> float:
        return -float(counts @ np.log1p(t * values)) - float(np.log1p(-t))

    least = float(minimize_scalar(exponent, bounds=(0.0, 1.0 - 1e-9), method="bounded").fun)
    return float(np.exp(max(-600.0, min(0.0, least))))


def of_intervals(
    before: tuple[float, float, float], after: tuple[float, float, float], alpha: float
) -> tuple[float, float, float]:
    """Interval at level 1 - alpha of the difference of two accuracies, after minus before, and its two-sided p.

    before, after: (value, low, high) in percent, the ends those of a 95 % interval. Their distances to the values are
    added in squares (Donner and Zou 2012; for Wilson's intervals it is Newcombe's method 10, 1998), as for independent
    test images. They are the same images as a rule, which makes it wider than need be: no false alarm comes of that,
    but drops are missed. For levels other than 95 % the distances are scaled as a normal distribution's would be.
    """
    from scipy.special import ndtr, ndtri

    (old, old_low, old_high), (new, new_low, new_high) = before, after
    difference = new - old
    down = float(np.hypot(new - new_low, old_high - old))
    up = float(np.hypot(new_high - new, old - old_low))
    published = float(ndtri(0.5 + _LEVEL / 2))
    factor = -float(ndtri(alpha / 2)) / published
    towards_zero = down if difference > 0 else up
    if difference == 0:
        p = 1.0
    elif towards_zero == 0:
        p = 0.0
    else:
        p = 2 * float(ndtr(-abs(difference) / towards_zero * published))
    return max(-100.0, difference - factor * down), min(100.0, difference + factor * up), p
