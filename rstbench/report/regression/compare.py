"""One row against its counterpart: what was measured, before any verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rstbench.report.regression.interval import of_differences, of_intervals
from rstbench.report.regression.pairs import Pairs, pair
from rstbench.report.regression.rows import Row
from rstbench.report.regression.significance import MCNEMAR, mcnemar, sign_flips
from rstbench.report.statistics import wilson

Relation = Literal["re-evaluated", "re-searched", "unknown"]

INTERVALS = "intervals"


@dataclass(frozen=True)
class Measured:
    """A row before and after: accuracies, difference and its interval in points; after minus before.

    p: two-sided, before any correction; None where the difference can be no matter of chance (see `identical`), or no
    image differs. test: which one. n: test images compared; None if not known. fell, rose: images whose score changed.
    mean, square: of the images' differences and of their squares, as shares; None without per-image results. size: by
    how much a score changes where it does (weighted by itself), 1 for 0/1 scores.
    binary: all scores are 0 or 1. identical: the same networks gave every image of both sides the same score, or the
    value was computed from the very same bits.
    """

    before: float
    after: float
    low: float
    high: float
    p: float | None
    test: str
    n: int | None
    fell: int | None
    rose: int | None
    mean: float | None
    square: float | None
    size: float
    binary: bool
    identical: bool
    relation: Relation
    seeds: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def difference(self) -> float:
        """After minus before, in points."""
        return self.after - self.before


def measure(before: Row, after: Row, alpha: float) -> Measured:
    """Compare a row with its counterpart: images where both have them, else intervals."""
    pairs, notes = pair(before, after)
    related = relation(before, after)
    same_bits = bool(before.evidence) and before.evidence == after.evidence
    for name in before.setting.keys() & after.setting.keys():
        old, new = before.setting[name], after.setting[name]
        if old != new:
            notes.append(f"{name}: {old or 'none'} before, {new or 'none'} now")
    if pairs is not None:
        return _by_images(pairs, related, same_bits, notes, alpha)
    return _by_intervals(before, after, related, same_bits, notes, alpha)


def _by_images(pairs: Pairs, related: Relation, same_bits: bool, notes: list[str], alpha: float) -> Measured:
    differences = pairs.differences
    unchanged = not differences.any()
    low, high, p_interval = of_differences(differences, alpha)
    if pairs.binary:
        p, test = mcnemar(differences), MCNEMAR
    else:
        # Signs are flipped as if gains and losses were of like size. Where rare images fall by a whole network's
        # verdict and many rise by a sixth, that finds differences where there are none: the interval must agree.
        p, test = sign_flips(differences)
        p = max(p, p_interval)
    return Measured(
        before=100 * float(pairs.before.mean()),
        after=100 * float(pairs.after.mean()),
        low=100 * low,
        high=100 * high,
        p=None if unchanged else p,
        test=test,
        n=len(differences),
        fell=int((differences < 0).sum()),
        rose=int((differences > 0).sum()),
        mean=float(differences.mean()),
        square=float((differences**2).mean()),
        size=1.0 if unchanged else float((differences**2).sum() / np.abs(differences).sum()),
        binary=pairs.binary,
        identical=unchanged and pairs.whole and (related == "re-evaluated" or (same_bits and related == "unknown")),
        relation=related,
        seeds=pairs.seeds,
        notes=tuple(notes),
    )


def _by_intervals(
    before: Row, after: Row, related: Relation, same_bits: bool, notes: list[str], alpha: float
) -> Measured:
    old, new = _interval(before), _interval(after)
    sizes = [row.n for row in (before, after) if row.n is not None]
    if old is None or new is None:
        low, high, p = -100.0, 100.0, 1.0
        notes.append("neither interval nor number of images on one side: nothing can be told")
    else:
        low, high, p = of_intervals(old, new, alpha)
    identical = same_bits and before.value == after.value and related != "re-searched"
    return Measured(
        before=before.value,
        after=after.value,
        low=low,
        high=high,
        p=None if identical else p,
        test=INTERVALS,
        n=min(sizes) if len(sizes) == 2 else None,
        fell=None,
        rose=None,
        mean=None,
        square=None,
        size=1.0,
        binary=False,
        identical=identical,
        relation=related,
        seeds=tuple(sorted(set(before.seeds) & set(after.seeds))),
        notes=tuple([] if identical else notes),
    )


def _interval(row: Row) -> tuple[float, float, float] | None:
    if row.low is not None and row.high is not None:
        return row.value, min(row.low, row.value), max(row.high, row.value)
    if not row.n:
        return None
    found = wilson(round(row.value / 100 * row.n), row.n)
    return row.value, min(found.low, row.value), max(found.high, row.value)


def relation(before: Row, after: Row) -> Relation:
    """Whether the same networks were asked, as far as both sides say, under the seeds that both have."""
    if not before.networks or not after.networks:
        return "unknown"
    common = before.networks.keys() & after.networks.keys()
    if not common:
        return "re-searched"
    same = all(_same(before.networks[seed], after.networks[seed]) for seed in common)
    return "re-evaluated" if same else "re-searched"


def _same(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Networks are told apart by "key" or "key:digest"; where one side has less, what both have is compared."""
    if len(one) != len(other) or not one:
        return False
    for first, second in zip(one, other, strict=True):
        (key, _, digest), (other_key, _, other_digest) = first.partition(":"), second.partition(":")
        length = min(len(key), len(other_key))
        if length == 0 or key[:length] != other_key[:length]:
            return False
        if digest and other_digest and digest != other_digest:
            return False
    return True
