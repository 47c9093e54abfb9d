"""How many test images it takes."""

from __future__ import annotations

import math

import numpy as np

MOST = 10**8
"""More images than any test set has; beyond, no number is said."""


def mcnemar_power(n: int, drop: float, discordant: float, alpha: float) -> float:
    """Chance that McNemar's exact two-sided test at level alpha says "lower" on n images.

    drop: how much lower the accuracy is, a share in (0, 1]; discordant: share of images whose verdict differs, at least
    `drop`. Exact: summed over how many of the n images differ (all but 1e-12 of the chance) and how many of them fall.
    """
    from scipy.stats import binom

    low, high = (int(each) for each in binom.ppf([1e-12, 1 - 1e-12], n, discordant))
    differing = np.arange(max(low, 0), min(high, n) + 1)
    # The largest count of risen images that is significant: P(X <= k) <= alpha / 2 under 1/2.
    most = binom.ppf(alpha / 2, differing, 0.5).astype(np.int64)
    most = np.where(binom.cdf(most, differing, 0.5) <= alpha / 2, most, most - 1)
    seen = binom.cdf(most, differing, (discordant - drop) / (2 * discordant))
    return float((binom.pmf(differing, n, discordant) * seen).sum())


def images_to_see(drop: float, discordant: float, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """The least number of images from which on McNemar's exact test sees a drop with chance `power`.

    Arguments as in `mcnemar_power`. None if it is more than `MOST`. Raises ValueError unless 0 < drop <= discordant
    <= 1 and alpha and power lie between 0 and 1.
    """
    if not (0 < drop <= discordant <= 1 and 0 < alpha < 1 and 0 < power < 1):
        raise ValueError(f"drop {drop}, discordant {discordant}, alpha {alpha}, power {power}")
    guess = _normal(drop, discordant, alpha, power)
    if guess > MOST:
        return None
    low, high = 0, max(2, guess)
    while mcnemar_power(high, drop, discordant, alpha) < power:
        low, high = high, 2 * high
    # The power of an exact test dips now and then as n grows, by little: the bisection ends beside such a dip.
    while high - low > 1:
        middle = (low + high) // 2
        if mcnemar_power(middle, drop, discordant, alpha) < power:
            low = middle
        else:
            high = middle
    return high


def _normal(mean: float, square: float, alpha: float, power: float) -> int:
    """Connor's (1987) number of pairs. mean, square: of a difference and its square."""
    from scipy.special import ndtri

    spread = max(0.0, square - mean**2)
    root = -float(ndtri(alpha / 2)) * square**0.5 + float(ndtri(power)) * spread**0.5
    count: int = math.ceil((root / mean) ** 2)
    return count


def about_to_see(mean: float, square: float, alpha: float, power: float) -> int | None:
    """Roughly how many images it takes to see a mean difference of this size; None if there is none, or over `MOST`.

    mean: of the differences, a share; square: of their squares (for 0/1 scores: the share of discordant images).
    """
    if mean == 0:
        return None
    found = _normal(abs(mean), max(square, mean**2), alpha, power)
    # With so few differing images that no verdict is possible, the normal distribution says too little.
    least = math.ceil((1 - math.log2(alpha)) / max(square, 1e-12)) if square < 1 else 1
    found = max(found, least)
    return found if found <= MOST else None


def about_to_equate(
    mean: float, square: float, margin: float, alpha: float, power: float, size: float = 1.0
) -> int | None:
    """Roughly how many images it takes until the interval lies within the margin with chance `power`, if these stay.

    As `about_to_see`; margin: a share; size: by how much a score changes where it does, 1 for 0/1 scores. None where
    the mean itself is not within the margin, or over `MOST`.
    """
    if abs(mean) >= margin:
        return None
    low, high = 0, 1
    while _chance_within(high, mean, square, margin, alpha, size) < power:
        low, high = high, 2 * high
        if low > MOST:
            return None
    while high - low > max(1, high // 1000):
        middle = (low + high) // 2
        if _chance_within(middle, mean, square, margin, alpha, size) < power:
            low = middle
        else:
            high = middle
    return high if high <= MOST else None


_NODES = 80


def _chance_within(n: int, mean: float, square: float, margin: float, alpha: float, size: float) -> float:
    """Chance that the interval of n differences, each -size, 0 or size, lies within the margin.

    Over quantiles of how many images rise and how many fall, taken as independent. The interval's ends are those of
    `interval.of_differences`, whose weights are gamma variables: mean, variance and third cumulant give its quantiles
    after Cornish and Fisher (1938).
    """
    from scipy.special import ndtri
    from scipy.stats import binom

    changed, sign = min(1.0, square / size**2), mean / size
    at = (np.arange(_NODES) + 0.5) / _NODES
    rise = binom.ppf(at, n, max(0.0, changed + sign) / 2)[:, None]
    fall = binom.ppf(at, n, max(0.0, changed - sign) / 2)[None, :]
    z = -float(ndtri(alpha / 2))
    inside = np.ones((_NODES, _NODES), dtype=bool)
    for up, down in ((rise, fall), (fall, rise)):
        centre = 1 + size * (up - down)
        deviation = np.sqrt(1 + size**2 * (up + down))
        skewness = 2 * (1 + size**3 * (up - down)) / deviation**3
        inside &= centre + deviation * (z + skewness * (z**2 - 1) / 6) <= margin * n
    return float(inside.mean())
