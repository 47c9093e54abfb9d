"""Two rows side by side, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from rstbench.report.regression.rows import Floats, Row

_DIGITS = 12


@dataclass(frozen=True)
class Pairs:
    """Scores of the same images, before and after: (N,) in [0, 1], each the mean over the seeds compared.

    The images are the units. Scores of one image under several seeds hang together, so seeds make its score finer and
    count as no further images. whole: neither side has images or seeds that the other lacks.
    """

    before: Floats
    after: Floats
    seeds: tuple[int, ...]
    whole: bool

    @property
    def differences(self) -> Floats:
        """After minus before, (N,) in [-1, 1]."""
        return np.round(self.after - self.before, _DIGITS)

    @property
    def binary(self) -> bool:
        """Whether every score is 0 or 1, as those of one deterministic network are."""
        return all(bool(np.isin(each, (0.0, 1.0)).all()) for each in (self.before, self.after))


def pair(before: Row, after: Row) -> tuple[Pairs | None, list[str]]:
    """The images that both rows have under the seeds that both have, and what is to be said of that.

    None where there are no per-image results on both sides, no common image, or other labels: these are other data.
    Rows without a common seed are paired by image alone, each with all of its seeds.
    """
    if not before.scores or not after.scores:
        lacking = [name for name, row in (("the baseline", before), ("the new side", after)) if not row.scores]
        return None, [f"no per-image results of {' and '.join(lacking)}: intervals are compared"]
    notes = []
    common = sorted(before.scores.keys() & after.scores.keys())
    seeds = [common or sorted(row.scores) for row in (before, after)]
    if not common:
        notes.append(f"other seeds ({_listed(seeds[0])} before, {_listed(seeds[1])} now): paired by image alone")
    elif any(len(row.scores) != len(common) for row in (before, after)):
        notes.append(f"on the common seeds only ({_listed(common)})")
    chosen = [[row.scores[seed] for seed in names] for row, names in zip((before, after), seeds, strict=True)]
    index = reduce(np.intersect1d, (each.index for side in chosen for each in side))
    sizes = [max(len(each.index) for each in side) for side in chosen]
    if len(index) == 0:
        return None, [*notes, "no test image in common: intervals are compared"]
    if any(size != len(index) for size in sizes):
        notes.append(f"on the {len(index)} common test images only ({sizes[0]} before, {sizes[1]} now)")
    labels: list[NDArray[np.int64]] = []
    means: list[Floats] = []
    for side in chosen:
        scores = []
        for each in side:
            order = np.argsort(each.index, kind="stable")
            at = order[np.searchsorted(each.index, index, sorter=order)]
            scores.append(each.score[at])
            labels += [] if each.label is None else [each.label[at]]
        means.append(np.round(np.stack(scores).mean(axis=0), _DIGITS))
    if any(not np.array_equal(each, labels[0]) for each in labels[1:]):
        return None, ["the same test indices have other labels: these are other data, and intervals are compared"]
    # Whatever is left out above is noted.
    return Pairs(means[0], means[1], tuple(common), whole=not notes), notes


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
