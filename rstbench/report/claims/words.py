"""Findings as texts that every format uses: how a claim is judged, and its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf

from rstbench.report.claims.judge import Finding, Reading
from rstbench.report.claims.language import Claim, Statement
from rstbench.report.claims.outcomes import Outcome
from rstbench.report.claims.rules import needed, refutation_level, support_level
from rstbench.spec.flags import RELIABILITY

_ORDER = {"against": 0, "open": 1, "for": 2}


def how(claim: Claim) -> str:
    """How a claim is judged: kind, how many statements must be true, and within which bounds."""
    count = len(claim.statements)
    bounds = {(statement.low, statement.high) for statement in claim.statements}
    each = bounds_text(claim.statements[0]) if len(bounds) == 1 else "within its own bounds"
    if count == 1:
        return f"{claim.kind}: {each}"
    need = {"all": f"all {count}", "most": f"more than half of {count}", "any": f"at least one of {count}"}[claim.need]
    return f"{claim.kind}: {need}, each {each}"


def bounds_text(statement: Statement) -> str:
    """The bounds of a statement in words."""
    if isinf(statement.high):
        return f"above {number(statement, statement.low)}"
    if isinf(statement.low):
        return f"below {number(statement, statement.high)}"
    return f"between {number(statement, statement.low)} and {number(statement, statement.high)}"


def number(statement: Statement, value: float) -> str:
    """A value of the statement's quantity: points and percents with two decimals, else four digits."""
    accuracies = all(term.pick.metric.endswith("_acc") for term in statement.quantity.terms)
    if accuracies or statement.quantity.form == "share":
        return f"{value + 0.0:.2f}"
    return f"{value + 0.0:.4g}"


def outcome_text(outcome: Outcome) -> str:
    """A measured statement with its 95 % interval."""
    low, high = outcome.interval()
    statement = outcome.statement
    text = f"{statement.label}: {number(statement, outcome.value)}"
    return text if outcome.kind == "exact" else f"{text} [{number(statement, low)}, {number(statement, high)}]"


def evidence(reading: Reading) -> str:
    """What the intervals rest on: images, seeds, and their kind."""
    if not reading.outcomes:
        return ""
    sizes = sorted({one.n for one in reading.outcomes if one.n})
    seeds = list(dict.fromkeys(" ".join(map(str, one.seeds)) for one in reading.outcomes))
    kinds = list(dict.fromkeys(one.kind for one in reading.outcomes))
    images = f"n {' or '.join(map(str, sizes))}, " if sizes else ""
    return f"{images}seeds {' or '.join(seeds)}, {' or '.join(kinds)}"


def flags(reading: Reading) -> str:
    """Reliability flags behind a reading, in the order of columns."""
    found = {flag for one in reading.outcomes for flag in one.flags}
    return ", ".join(flag for flag in RELIABILITY if flag in found)


def tally(reading: Reading, claim: Claim) -> str:
    """How many statements lie on which side, where there are several."""
    count = reading.statements
    if count < 2 or not reading.outcomes:
        return ""
    sides = [side(one, reading, claim) for one in reading.outcomes]
    parts = [f"{sides.count('for')} for", f"{sides.count('open')} open", f"{sides.count('against')} against"]
    if reading.missing:
        parts.append(f"{len(reading.missing)} not run")
    return f"{', '.join(parts)}; needs {needed(claim.need, count)} of {count}"


def side(outcome: Outcome, reading: Reading, claim: Claim) -> str:
    """The side of one statement at the claim's levels of decision."""
    supports = outcome.decide(support_level(claim.need, reading.statements)) == "for"
    refutes = outcome.decide(refutation_level(claim.need, reading.statements)) == "against"
    return "for" if supports else "against" if refutes else "open"


def telling(reading: Reading, claim: Claim, most: int) -> tuple[Sequence[Outcome], int]:
    """The outcomes that tell most, at most so many, and how many are left.

    Those against the claim first, then the open ones; of a claim that needs only one, those for it first.
    """
    sign = -1 if claim.need == "any" else 1
    ordered = sorted(reading.outcomes, key=lambda one: (sign * _ORDER[side(one, reading, claim)], sign * distance(one)))
    return ordered[:most], max(0, len(ordered) - most)


def distance(outcome: Outcome) -> float:
    """How far the value lies within its bounds; negative outside."""
    return min(outcome.value - outcome.statement.low, outcome.statement.high - outcome.value)


def paper_text(finding: Finding) -> str:
    """What the paper's own tables say, and whether that is what its text says."""
    return (
        f"{finding.paper.verdict}: {finding.paper.words}" if finding.paper.verdict != "silent" else finding.paper.words
    )


def measured_text(finding: Finding) -> str:
    """The status, and the measurement's own where the paper's contradiction stands before it."""
    if finding.status == finding.measured:
        return finding.status
    return f"{finding.status} (measured: {finding.measured})"
