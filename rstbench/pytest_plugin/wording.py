"""What a test that fails says: which rows, from where to where, on how many images, and how sure that is."""

from __future__ import annotations

from rstbench.report.regression.verdicts import Check, Verdict, worst_first
from rstbench.report.regression.words import counts, method, sentence

_SHOWN = 20
"""Rows that are listed; a table of hundreds helps nobody in a test's output."""


def told(found: Check) -> str:
    """A check as text, what fails first; rows that are the same are only counted."""
    fallen, missing = found.of(Verdict.worse), found.of(Verdict.missing)
    if fallen:
        head = f"robust accuracy fell: {_rows(len(fallen))} worse than in {found.baseline.name}"
    elif missing:
        head = f"{_rows(len(missing))} of {found.baseline.name} missing"
    else:
        head = f"no row worse than in {found.baseline.name}"
    listed = [row for row in worst_first(found.rows) if row.verdict is not Verdict.same]
    lines = [f"  {row.label}\n    {sentence(row)}" for row in listed[:_SHOWN]]
    if len(listed) > _SHOWN:
        lines.append(f"  ... and {len(listed) - _SHOWN} more")
    notes = [f"{note}." for side in (found.baseline, found.new) for note in side.notes]
    return "\n".join([f"{head} ({counts(found)})", *lines, *notes, method(found)])


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
