"""How many test images a check needs, from what is at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from rstbench.errors import SpecError
from rstbench.report.regression.compare import Measured
from rstbench.report.regression.options import Options
from rstbench.report.regression.power import about_to_equate, about_to_see, images_to_see, mcnemar_power
from rstbench.report.regression.rows import Row

SHARES = (0.01, 0.02, 0.05, 0.10, 0.20)
"""Shares of discordant images that are shown where none is given."""


@dataclass(frozen=True)
class Needed:
    """Images needed to see a drop. label: of the row, empty without one; basis: where the share comes from.

    discordant: share of images whose verdict differs (for fractional scores: mean square of the differences), by chance
    alone; n: of the row now, and power: the chance to see the drop with as many. images: None for more than any test
    set has. same: images until the interval lies within the margin, if there is no change.
    """

    label: str
    discordant: float
    basis: str
    images: int | None
    same: int | None
    n: int | None = None
    power: float | None = None


def given(drop: float, discordant: float | None, options: Options) -> list[Needed]:
    """For a share of discordant images, or for several where none is given. drop: in points.

    Raises `SpecError` if the drop is out of range, or more than the images that differ can make.
    """
    share = _share(drop)
    if discordant is not None and not share <= discordant <= 1:
        raise SpecError(
            f"--discordant {discordant:g}: must be a share of images between the drop ({share:g}) and 1; "
            "every drop needs at least as many images whose verdict differs"
        )
    shares = [discordant] if discordant is not None else [each for each in SHARES if each >= share] or [share]
    return [_needed("", each, "given" if discordant is not None else "example", share, options) for each in shares]


def of_pairs(drop: float, label: str, found: Measured, options: Options) -> Needed | None:
    """From a row before and after; None without per-image results."""
    if found.square is None or found.mean is None:
        return None
    # A third of an image: with none that differ so far, the share is unknown and not 0.
    spread = max(found.square - found.mean**2, 1 / 3 / (found.n or 1))
    return _needed(label, spread, "baseline and new", _share(drop), options, found.n, found.binary)


def of_row(drop: float, row: Row, options: Options) -> Needed | None:
    """From the baseline alone: how far its seeds differ; with one seed, the most that chance can do.

    None without per-image results. Seeds are searches of their own, so this is the share of a network searched anew.
    """
    if not row.scores:
        return None
    seeds = sorted(row.scores)
    squares = []
    for one, other in pairwise(seeds):
        first, second = row.scores[one], row.scores[other]
        _, at, of = np.intersect1d(first.index, second.index, return_indices=True)
        if len(at):
            squares.append(float(((second.score[of] - first.score[at]) ** 2).mean()))
    binary = all(bool(np.isin(each.score, (0.0, 1.0)).all()) for each in row.scores.values())
    n = len(row.scores[seeds[0]].index)
    if squares:
        return _needed(row.label, float(np.mean(squares)), "between seeds", _share(drop), options, n, binary)
    scores = row.scores[seeds[0]].score
    most = 2 * float(scores.var())
    return _needed(row.label, most, "one seed: as if nothing were in common", _share(drop), options, n, binary)


def shared_among(options: Options, rows: int) -> Options:
    """With the level that Holm's correction holds the least p of so many rows against."""
    return replace(options, alpha=options.alpha / max(1, rows))


def _share(drop: float) -> float:
    if not 0 < drop <= 100:
        raise SpecError(f"--power {drop:g}: must be a drop in points, above 0 and at most 100")
    return drop / 100


def _needed(
    label: str, chance: float, basis: str, drop: float, options: Options, n: int | None = None, binary: bool = True
) -> Needed:
    """chance: the share without the drop where it is estimated; where it is given, the drop is part of it."""
    square = chance if basis in ("given", "example") else min(1.0, chance + (drop if binary else drop**2))
    square = max(square, drop if binary else drop**2)
    if binary:
        images = images_to_see(drop, square, options.alpha, options.power)
        power = None if n is None else mcnemar_power(n, drop, square, options.alpha)
    else:
        images, power = about_to_see(drop, square, options.alpha, options.power), None
    same = about_to_equate(0.0, chance, options.margin / 100, options.alpha, options.power)
    return Needed(label, square, basis, images, same, n, power)


def smallest(found: Sequence[Needed]) -> int | None:
    """Images that are enough for all rows; None if a row needs more than any test set has, or there is none."""
    counts = [each.images for each in found]
    known = [count for count in counts if count is not None]
    return max(known) if known and len(known) == len(counts) else None
