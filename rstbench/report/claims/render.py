"""Findings as text for a terminal, as Markdown, or as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any, Literal

from rstbench.report.claims import rules, words
from rstbench.report.claims.judge import Finding, Reading, Where
from rstbench.report.claims.outcomes import Outcome
from rstbench.report.markdown import escape

Format = Literal["text", "markdown", "json"]

_SHOWN = 4
"""Statements of a claim that text and Markdown show; JSON has all."""


def render(findings: Sequence[Finding], where: Where, format: Format = "text") -> str:
    """The findings in one of the formats, in the order given, with how many have which status."""
    if format == "json":
        return json.dumps(as_json(findings, where), indent=2, ensure_ascii=False) + "\n"
    return "\n".join(_markdown(findings, where) if format == "markdown" else _text(findings, where)) + "\n"


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    found = Counter(finding.status for finding in findings)
    return {status: found[status] for status in rules.STATUSES}


def _counted(findings: Sequence[Finding]) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in _counts(findings).items() if count)
    return f"{len(findings)} claims: {counts}."


def _margins() -> str:
    return (
        f"A number of the text is met within {rules.MARGIN:g} points; comparable: at most {rules.COMPARABLE:g} worse; "
        f"notably: by more than {rules.NOTABLE:g}; decent: {100 * rules.DECENT:g} % of the dense network's accuracy. "
        "Intervals: 95 %; decisions about several rows are corrected by Bonferroni."
    )


def _text(findings: Sequence[Finding], where: Where) -> Iterator[str]:
    yield f"Claims of the paper, profile {where.profile}, store {where.store}"
    yield _counted(findings)
    yield _margins()
    for finding in findings:
        yield ""
        yield f"[{finding.claim.section}] {finding.claim.id}: {words.measured_text(finding).upper()}"
        yield f"  {finding.claim.words}"
        yield f"  judged by   {words.how(finding.claim)}"
        for reading in finding.readings:
            yield from (f"  {line}" for line in _reading_lines(finding, reading))
        yield f"  the paper   {words.paper_text(finding)}"
        for remark in _remarks(finding):
            yield f"  note        {remark}"
        for command in finding.commands:
            yield f"  would run   {command}"


def _reading_lines(finding: Finding, reading: Reading) -> Iterator[str]:
    claim = finding.claim
    named = f"{reading.variant}: {reading.status}; " if len(finding.readings) > 1 and reading.variant else ""
    if not reading.outcomes:
        yield f"ours        {named}not measured"
        return
    shown, more = words.telling(reading, claim, _SHOWN)
    tally = words.tally(reading, claim)
    first = f"{named}{tally}{' (' if tally else ''}{words.evidence(reading)}{')' if tally else ''}"
    yield f"ours        {first}"
    for outcome in shown:
        yield f"            {words.outcome_text(outcome)}"
    if more:
        yield f"            and {more} more"
    if reading is finding.readings[0] or reading.reasons != finding.readings[0].reasons:
        yield from (f"setting     {reason}" for reason in reading.reasons)
    if flags := words.flags(reading):
        yield f"flagged     {flags}"


def _remarks(finding: Finding) -> list[str]:
    return [*([finding.claim.note] if finding.claim.note else []), *finding.remarks]


def _markdown(findings: Sequence[Finding], where: Where) -> Iterator[str]:
    yield "# Claims of the paper"
    yield ""
    yield f"Profile `{where.profile}`. {_counted(findings)} {_margins()}"
    yield ""
    yield "| section | claim | status | ours | the paper's own tables |"
    yield "| --- | --- | --- | --- | --- |"
    for finding in findings:
        claim = finding.claim
        cells = (
            claim.section, f"{claim.words} (`{claim.id}`; {words.how(claim)})", words.measured_text(finding),
            "; ".join(_ours(finding)), words.paper_text(finding),
        )  # fmt: skip
        yield "| " + " | ".join(escape(cell) for cell in cells) + " |"
    yield ""
    yield from (f"- **{status}**: {meaning}." for status, meaning in rules.STATUS_WORDS.items())


def _ours(finding: Finding) -> Iterator[str]:
    for reading in finding.readings:
        named = f"{reading.variant}: {reading.status}: " if len(finding.readings) > 1 and reading.variant else ""
        if reading.outcomes:
            shown, more = words.telling(reading, finding.claim, _SHOWN)
            numbers = ", ".join(map(words.outcome_text, shown)) + (f" and {more} more" if more else "")
            tally = words.tally(reading, finding.claim)
            yield f"{named}{tally + ': ' if tally else ''}{numbers} ({words.evidence(reading)})"
            if reading is finding.readings[0] or reading.reasons != finding.readings[0].reasons:
                yield from reading.reasons
            if flags := words.flags(reading):
                yield f"flagged: {flags}"
    yield from _remarks(finding)
    yield from (f"`{command}`" for command in finding.commands)


def as_json(findings: Sequence[Finding], where: Where) -> dict[str, Any]:
    """Everything that is known, for programs. Bounds that are infinite are null."""
    return {
        "profile": where.profile,
        "store": where.store,
        "rules": {
            "level": rules.LEVEL, "seeds": rules.SEEDS, "margin": rules.MARGIN, "notable": rules.NOTABLE,
            "comparable": rules.COMPARABLE, "decent": rules.DECENT, "almost_zero": rules.ALMOST_ZERO,
            "size_margin": rules.SIZE_MARGIN, "comparable_size": rules.COMPARABLE_SIZE, "rounding": rules.ROUNDING,
        },
        "statuses": dict(rules.STATUS_WORDS),
        "counts": _counts(findings),
        "claims": [_finding(finding) for finding in findings],
    }  # fmt: skip


def _finding(finding: Finding) -> dict[str, Any]:
    claim = finding.claim
    return {
        "id": claim.id,
        "section": claim.section,
        "claim": claim.words,
        "kind": claim.kind,
        "judged_by": words.how(claim),
        "need": claim.need,
        "suites": list(claim.suites),
        "rows": list(dict.fromkeys(pick.words() for pick in claim.picks())),
        "status": finding.status,
        "measured": finding.measured,
        "paper": {
            "verdict": finding.paper.verdict,
            "words": finding.paper.words,
            "values": {
                statement.label: value
                for statement, value in zip(claim.statements, finding.paper.values, strict=True)
                if value is not None
            },
        },
        "readings": [_reading(finding, reading) for reading in finding.readings],
        "commands": list(finding.commands),
        "notes": _remarks(finding),
    }


def _reading(finding: Finding, reading: Reading) -> dict[str, Any]:
    count = reading.statements
    return {
        "variant": reading.variant,
        "status": reading.status,
        "statements": count,
        "needed": rules.needed(finding.claim.need, count) if count else None,
        "support_level": rules.support_level(finding.claim.need, count) if count else None,
        "refutation_level": rules.refutation_level(finding.claim.need, count) if count else None,
        "setting": list(reading.reasons),
        "measured": [_outcome(one, words.side(one, reading, finding.claim)) for one in reading.outcomes],
        "not_run": [
            {"label": one.statement.label, "rows": [pick.words() for pick in one.picks]} for one in reading.missing
        ],
        "not_in_profile": [one.statement.label for one in reading.left_out],
    }


def _outcome(outcome: Outcome, side: str) -> dict[str, Any]:
    low, high = outcome.interval()
    return {
        "label": outcome.statement.label,
        "low": outcome.statement.low if isfinite(outcome.statement.low) else None,
        "high": outcome.statement.high if isfinite(outcome.statement.high) else None,
        "value": outcome.value,
        "ci_low": low,
        "ci_high": high,
        "interval": outcome.kind,
        "by_seed": list(outcome.by_seed),
        "seeds": list(outcome.seeds),
        "n": outcome.n or None,
        "side": side,
        "substitutes": list(outcome.substitutes),
        "flags": list(outcome.flags),
    }
