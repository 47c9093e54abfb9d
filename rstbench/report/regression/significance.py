"""Paired tests: could so large a difference come from the choice of test images alone?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rstbench.report.regression.rows import Floats

EXACT_SUM = 2**19
_MOST_PARTS = 720
"""Scores are multiples of one part of a whole, if it is one of so many parts or fewer: 6 by 6 networks have 36."""
DRAWS = 99_999
_NUMBERS = 40_000_000
SEED = 0
_DIGITS = 12

MCNEMAR = "McNemar, exact"
SIGNS = "sign flips, exact"


def mcnemar(differences: Floats) -> float:
    """McNemar's (1947) exact two-sided p, of differences (N,) that are -1, 0 or 1.

    Of the images whose verdict differs, as many should fall as rise: a binomial test of 1/2 on them alone. 1 without
    any.
    """
    fell, rose = int((differences < 0).sum()), int((differences > 0).sum())
    if fell == rose:
        return 1.0
    from statsmodels.stats.contingency_tables import mcnemar as exact

    return float(min(1.0, exact([[0, fell], [rose, 0]], exact=True).pvalue))


def sign_flips(differences: Floats, seed: int = SEED) -> tuple[float, str]:
    """Two-sided p of Fisher's (1935) paired permutation test of the mean of `differences`, (N,), and how it was had.

    Each image's two scores may be exchanged, which flips the sign of its difference. Exact where all differences are
    whole multiples of one part of 1, as expectations over members are, and their amounts sum up to no more than
    `EXACT_SUM` parts. Else `DRAWS` draws from numpy's Philox with `seed` (fewer, but 9 999 at least, where nearly every
    image differs by an amount of its own), and then (1 + as extreme) / (1 + draws), which is never too small (Phipson
    and Smyth 2010).

    scipy.stats.permutation_test is the same test; it flips image by image, which is exact for few images only.
    """
    amounts, counts = np.unique(np.abs(np.round(differences[differences != 0], _DIGITS)), return_counts=True)
    if len(amounts) == 0:
        return 1.0, SIGNS
    seen = abs(float(np.sum(differences)))
    # Sums of the same terms in another order differ in the last digits, and must count as equal.
    seen -= 1e-9 * max(1.0, seen)
    for parts in range(1, _MOST_PARTS + 1):
        steps = np.round(amounts * parts)
        if bool(np.all(np.abs(amounts * parts - steps) < 1e-9 * parts)):
            if float(steps @ counts) > EXACT_SUM:
                break
            return _counted(steps.astype(np.int64), counts.astype(np.int64), seen * parts), SIGNS
    draws = int(min(DRAWS, max(9_999, _NUMBERS // len(amounts))))
    generator = np.random.Generator(np.random.Philox(seed))
    extreme = 0
    step = max(1, 2_000_000 // len(amounts))
    for begin in range(0, draws, step):
        size = (min(step, draws - begin), len(amounts))
        sums = (2.0 * generator.binomial(counts, 0.5, size=size) - counts) @ amounts
        extreme += int((np.abs(sums) >= seen).sum())
    p = (1 + extreme) / (1 + draws)
    if extreme == 0:
        # No draw can tell less than one in their number; among hundreds of rows that would hide every loss (Hoeffding).
        exponent = seen**2 / (2 * float(counts @ amounts**2))
        p = min(p, 2 * float(np.exp(-min(600.0, exponent))))
    return p, f"sign flips, {draws} draws"


def _counted(steps: NDArray[np.int64], counts: NDArray[np.int64], seen: float) -> float:
    """Share of all sign patterns whose sum of whole steps is as extreme.

    The sum's characteristic function is a product of cosines; its Fourier transform is the share of every sum.
    """
    most = int(steps @ counts)
    angle = 2 * np.pi * np.arange(2 * most + 1) / (2 * most + 1)
    waves = np.ones(2 * most + 1)
    for step, count in zip(steps, counts, strict=True):
        waves *= np.cos(angle * step) ** int(count)
    shares = np.fft.fft(waves).real / (2 * most + 1)
    sums = np.minimum(np.arange(2 * most + 1), 2 * most + 1 - np.arange(2 * most + 1))
    # What the transform leaves of rounding must not make a p smaller than the least that there is.
    return float(np.clip(shares[sums >= seen].sum(), 2.0 ** (1 - min(1000, int(counts.sum()))), 1.0))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's (1979) adjusted p over all rows that could be significant; None stays None.

    The chance that any row without a difference is called better or worse is at most the level that these are held
    against, however the rows hang together. A row of which no image differs can reach no level and is not counted
    (Tarone 1990): the caller gives None for it.
    """
    tested = [p for p in p_values if p is not None]
    if len(tested) < 2:
        return list(p_values)
    from statsmodels.stats.multitest import multipletests

    adjusted = iter(multipletests(tested, method="holm")[1])
    return [None if p is None else float(next(adjusted)) for p in p_values]
