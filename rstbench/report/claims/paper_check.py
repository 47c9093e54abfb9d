"""Claims against the paper's own tables: every number here is computed from paper_tables.csv."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from rstbench.report.claims.language import Check, Claim, Pick, Quantity, Statement
from rstbench.report.claims.readings import pick_key, row_key
from rstbench.report.claims.rules import ROUNDING, needed
from rstbench.report.paper import paper_rows

Verdict = Literal["agrees", "contradicts", "silent"]


@dataclass(frozen=True)
class PaperSide:
    """What the paper's tables say of a claim. values: of each statement, None where no table has its rows."""

    verdict: Verdict
    values: tuple[float | None, ...]
    words: str


@lru_cache(maxsize=1)
def _values() -> dict[tuple[object, ...], tuple[tuple[str, str], ...]]:
    """(table, value) pairs by row; several tables repeat the dense networks."""
    found: dict[tuple[object, ...], tuple[tuple[str, str], ...]] = {}
    for row in paper_rows():
        key = row_key({**row.columns, "variant": ""})
        found[key] = (*found.get(key, ()), (row.columns["table"], row.value))
    return found


def paper_number(pick: Pick) -> float | None:
    """The paper's value of a row, whichever table has it; None if none has, or two differ."""
    if pick.part:
        return None
    texts = {value for _, value in _values().get(pick_key(pick), ())}
    return float(texts.pop()) if len(texts) == 1 else None


def paper_quantity(quantity: Quantity) -> float | None:
    """The quantity by the paper's values; None if one of them is missing. Every variant counts as the paper's row."""
    numbers = [paper_number(term.pick.read("")) for term in quantity.terms]
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers):
        return None
    if quantity.form == "share":
        return 100 * known[0] / known[1]
    if quantity.form == "lead":
        return known[0] - max(known[1:])
    return sum(term.factor * number for term, number in zip(quantity.terms, known, strict=True))


def holds_in_paper(statement: Statement, number: float) -> bool | None:
    """Whether the paper's own number is what its text says, but for rounding; None where the bounds are ours."""
    if statement.said is None:
        return None
    low, high = statement.said
    if low == high or abs(low) + abs(high) != float("inf"):
        return low - ROUNDING <= number <= high + ROUNDING
    return low < number < high


def against_paper(claim: Claim) -> PaperSide:
    """The claim held against the paper's tables, and its own places against one another."""
    values = tuple(paper_quantity(statement.quantity) for statement in claim.statements)
    judged = [
        verdict
        for statement, number in zip(claim.statements, values, strict=True)
        if number is not None and (verdict := holds_in_paper(statement, number)) is not None
    ]
    checks = [check() for check in claim.checks]
    enough = needed(claim.need, len(claim.statements))
    failing = judged.count(False)
    contradicted = failing > len(claim.statements) - enough or any(check.agrees is False for check in checks)
    words = [_numbers(claim, values)] if any(number is not None for number in values) else []
    words += [check.words for check in checks]
    if contradicted:
        return PaperSide("contradicts", values, "; ".join(words))
    if judged or any(check.agrees for check in checks):
        return PaperSide("agrees", values, "; ".join(words))
    return PaperSide("silent", values, "; ".join(words) or "no table of the paper has these rows")


def _numbers(claim: Claim, values: Sequence[float | None]) -> str:
    known = [
        (statement, number) for statement, number in zip(claim.statements, values, strict=True) if number is not None
    ]
    shown = ", ".join(f"{statement.label} {number:.2f}" for statement, number in known[:6])
    held = [verdict for statement, number in known if (verdict := holds_in_paper(statement, number)) is not None]
    more = f" and {len(known) - 6} more" if len(known) > 6 else ""
    count = f" ({held.count(True)} of {len(held)} as the text has it)" if held else ""
    return f"by the paper's tables: {shown}{more}{count}"


# ---- places of the paper against one another -------------------------------------------------------------------------


def sum_against(row: Pick, gain: float, where: str, said: float, elsewhere: str) -> Check:
    """A row of a table plus a gain that the text states, against a sum that the text states elsewhere."""
    number = paper_number(row)
    if number is None:
        return Check(None, f"no table has {row.words()}")
    total = number + gain
    agrees = abs(total - said) <= ROUNDING
    verb = "is" if agrees else "is not"
    return Check(
        agrees,
        f"{where} adds {gain:.2f} to {number:.2f}, which makes {total:.2f} and {verb} the {said:.2f} of {elsewhere}",
    )


def set_in_table(table: int, defense: str, candidate_set: str, words: str) -> Check:
    """Whether a table has a defense with the candidate set that the text names."""
    sets = list(
        dict.fromkeys(
            row.columns["candidate_set"]
            for row in paper_rows()
            if row.columns["table"] == str(table) and row.columns["defense"] == defense
        )
    )
    wanted = sorted(map(Decimal, candidate_set.split()))
    there = any(sorted(map(Decimal, found.split())) == wanted for found in sets)
    return Check(
        there, f"{words}: Table {table} has the sets {'; '.join(sets)}" + ("" if there else ", and not this one")
    )


def masks_of_set(table: int, defense: str, said: float) -> Check:
    """The raw masks of a table's candidate set in percent of fp32 weights, against the text's overhead."""
    members = next(
        len(row.columns["candidate_set"].split())
        for row in paper_rows()
        if row.columns["table"] == str(table) and row.columns["defense"] == defense
    )
    one = 100 / 32
    return Check(
        abs(members * one - said) <= 0.5,
        f"a mask is one bit beside the 32 of its weight, {one:.2f} %; the candidate set of Table {table} has "
        f"{members}, which makes {members * one:.2f} %, not {said:g} %",
    )


def range_of_worst(gains: Sequence[tuple[Quantity, Quantity]], low: float, high: float) -> Check:
    """The smaller of two gains, network by network, against the range that the text states; the larger is named too."""
    pairs = [(paper_quantity(one), paper_quantity(other)) for one, other in gains]
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    if not known:
        return Check(None, "no table has these gains")
    worst = [min(pair) for pair in known]
    best = max(max(pair) for pair in known)
    agrees = abs(min(worst) - low) <= ROUNDING and abs(max(worst) - high) <= ROUNDING
    return Check(
        agrees,
        f"the smaller of both gains spans {min(worst):.2f} to {max(worst):.2f}, the text says {low:.2f} to {high:.2f}; "
        f"the largest gain of all is {best:.2f}",
    )
