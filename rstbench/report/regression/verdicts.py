"""From two sides to a verdict for every row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rstbench.errors import SpecError
from rstbench.report.regression.compare import Measured, measure
from rstbench.report.regression.options import Options
from rstbench.report.regression.power import about_to_equate, about_to_see
from rstbench.report.regression.rows import Row, Side
from rstbench.report.regression.significance import holm

_LEAST_ALPHA = 0.001


class Verdict(StrEnum):
    """What is said of a row.

    worse, better: the difference is significant (two-sided, corrected for the number of rows) and not shown to lie
    within the margin. same: the interval of the difference lies within the margin, or nothing was computed anew.
    cannot tell: neither. missing: only the baseline has the row; new: only the new side has it.
    """

    worse = "worse"
    better = "better"
    same = "same"
    cannot_tell = "cannot tell"
    missing = "missing"
    new = "new"


@dataclass(frozen=True)
class Compared:
    """A row and its verdict. before, after: the rows as they were read; None where one is missing.

    p: corrected for all rows (Holm). why: the verdict's reason, as half a sentence. n_same, n_worse: about how many
    test images would show that the difference is within the margin, or that it is one, if it is as large as it looks;
    only for "cannot tell", and None where no number would.
    """

    key: tuple[str, ...]
    label: str
    verdict: Verdict
    before: Row | None
    after: Row | None
    measured: Measured | None = None
    p: float | None = None
    why: str = ""
    n_same: int | None = None
    n_worse: int | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What else is to be said, each a sentence without its stop."""
        if self.measured is None:
            return ()
        luck: tuple[str, ...] = ()
        if self.measured.relation == "re-searched":
            luck = (
                "other networks: the luck of the search is in the difference, and neither test nor interval has it",
            )
        return (*luck, *self.measured.notes)


@dataclass(frozen=True)
class Check:
    """All rows, in the baseline's order, then new ones."""

    baseline: Side
    new: Side
    options: Options
    rows: tuple[Compared, ...]

    def of(self, verdict: Verdict) -> list[Compared]:
        """The rows of a verdict."""
        return [row for row in self.rows if row.verdict == verdict]

    @property
    def failures(self) -> list[Compared]:
        """The rows that make the check fail."""
        return self.of(Verdict.worse) + (self.of(Verdict.missing) if self.options.strict else [])

    @property
    def exit_code(self) -> int:
        """1 where there is a regression, else 0."""
        return 1 if self.failures else 0


def check(baseline: Side, new: Side, options: Options) -> Check:
    """Compare all rows. Raises `SpecError` if the sides have no row in common: then nothing was checked."""
    if options.alpha < _LEAST_ALPHA:
        raise SpecError(f"--alpha {options.alpha:g}: intervals are drawn, and have no ends below {_LEAST_ALPHA:g}")
    pairs = counterparts(baseline.rows, new.rows)
    if not pairs:
        raise SpecError(
            f"{baseline.name} and {new.name} have no row in common, so there is nothing to check. "
            f"{_example(baseline)}; {_example(new)}"
        )
    measured = {key: measure(before, after, options.alpha) for key, (before, after) in pairs.items()}
    adjusted = dict(zip(pairs, holm([found.p for found in measured.values()]), strict=True))
    tested = max(1, sum(p is not None for p in adjusted.values()))
    rows = []
    for row in baseline.rows:
        if row.key in pairs:
            rows.append(_judged(*pairs[row.key], measured[row.key], adjusted[row.key], tested, options))
        else:
            rows.append(Compared(row.key, row.label, Verdict.missing, row, None, why="only the baseline has it"))
    found = {after.key for _, after in pairs.values()}
    for row in new.rows:
        if row.key not in found:
            rows.append(Compared(row.key, row.label, Verdict.new, None, row, why="the baseline does not have it"))
    return Check(baseline, new, options, tuple(rows))


def counterparts(before: Sequence[Row], after: Sequence[Row]) -> dict[tuple[str, ...], tuple[Row, Row]]:
    """Rows of both sides that belong together, by the key before: those of one alias, then those of one key."""
    found: dict[tuple[str, ...], tuple[Row, Row]] = {}
    taken: set[tuple[str, ...]] = set()
    for name in ("alias", "key"):
        there = {getattr(row, name): row for row in after if row.key not in taken}
        for row in before:
            other = there.get(getattr(row, name))
            if getattr(row, name) and row.key not in found and other is not None:
                found[row.key] = row, other
                taken.add(other.key)
    return {row.key: found[row.key] for row in before if row.key in found}


def _example(side: Side) -> str:
    return (
        f"{side.name} has e.g. {' '.join(filter(None, side.rows[0].key))!r}" if side.rows else f"{side.name} is empty"
    )


def _judged(before: Row, after: Row, found: Measured, p: float | None, tested: int, options: Options) -> Compared:
    verdict, why = _verdict(found, p, options)
    n_same = n_worse = None
    if verdict is Verdict.cannot_tell:
        n_same, n_worse = needed(found, options, tested)
        if p is not None and p <= options.alpha:
            n_worse = None  # That there is a difference is shown already; it is not large enough.
    return Compared(before.key, before.label, verdict, before, after, found, p, why, n_same, n_worse)


def points(number: float) -> str:
    """A number of points, in words."""
    return f"{number:g} point" if number == 1 else f"{number:g} points"


def _verdict(found: Measured, p: float | None, options: Options) -> tuple[Verdict, str]:
    margin, difference = options.margin, found.difference
    if found.identical:
        return Verdict.same, "nothing changed"
    significant = p is not None and p <= options.alpha
    within = -margin <= found.low and found.high <= margin
    large = options.drop is not None and -difference >= options.drop - 1e-9
    if significant and difference < 0 and large:
        return Verdict.worse, f"a significant drop of at least {points(options.drop or 0.0)}"
    if within:
        shown = f"{'lower' if difference < 0 else 'higher'}, but " if significant else ""
        return Verdict.same, f"{shown}within {points(margin)}"
    if significant and difference > 0:
        return Verdict.better, "significantly higher"
    if significant and options.drop is None:
        return Verdict.worse, "significantly lower"
    if significant:
        return Verdict.cannot_tell, f"lower, but by less than {points(options.drop or 0.0)} as far as seen"
    if found.n and found.fell == found.rose == 0:
        excluded = f"{found.n} images exclude no more than {found.high:.2f} points"
        return Verdict.cannot_tell, f"no score changed, but {excluded}"
    return Verdict.cannot_tell, f"neither a change nor its absence (within {points(margin)}) is shown"


def needed(found: Measured, options: Options, tested: int = 1) -> tuple[int | None, int | None]:
    """About how many test images would show the difference to be within the margin; and how many that it is there.

    If the difference and the share of images that differ are what they look like here. Each with chance
    `options.power`. tested: rows that the level is shared among. The first is None where the difference looks larger
    than the margin, the second where it is none. Without per-image results, the squares of an interval shrink with n.
    """
    alpha = options.alpha / tested
    if found.mean is None or found.square is None:
        return _by_width(found, options, alpha)
    see = about_to_see(found.mean, found.square, alpha, options.power)
    margin = options.margin / 100
    return about_to_equate(found.mean, found.square, margin, options.alpha, options.power, found.size), see


def _by_width(found: Measured, options: Options, alpha: float) -> tuple[int | None, int | None]:
    """From the interval's width, which falls as the root of n. Nothing where the number of images is not known."""
    from scipy.special import ndtri

    if not found.n:
        return None, None
    n, away = found.n, abs(found.difference)
    # In points, of one image.
    spread = (found.high - found.low) / 2 / float(ndtri(1 - options.alpha / 2)) * n**0.5
    luck, either = float(ndtri(options.power)), float(ndtri((1 + options.power) / 2))

    def images(room: float, quantiles: float) -> int | None:
        return math.ceil((spread * quantiles / room) ** 2) if room > 0 else None

    same = images(options.margin - away, float(ndtri(1 - options.alpha / 2)) + either)
    return same, images(away, float(ndtri(1 - alpha / 2)) + luck)


def worst_first(rows: Sequence[Compared]) -> list[Compared]:
    """Rows by verdict, worst first; in their order within one."""
    order = [Verdict.worse, Verdict.missing, Verdict.cannot_tell, Verdict.better, Verdict.new, Verdict.same]
    return sorted(rows, key=lambda row: order.index(row.verdict))
