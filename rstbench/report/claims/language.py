"""What a claim is made of: rows of tables, quantities of them, statements about quantities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import inf
from typing import Literal

from rstbench.report.claims.rules import Need

Part = str
"""Which part of a row's transfer matrix: "" (its score), "diagonal", "off_diagonal", or "source RATIO"."""


@dataclass(frozen=True)
class Pick:
    """One row of a suite's table, by the columns that name it; numbers are compared as numbers.

    variant: the row's own; None: that of the reading (`Claim.readings`). part: of its transfer matrix.
    """

    dataset: str
    network: str
    defense: str
    ratio: str = ""
    candidate_set: str = ""
    attack: str = "pgd20"
    eps: str = "8"
    attack_source: str = ""
    metric: str = "robust_acc"
    variant: str | None = ""
    part: Part = ""

    def read(self, reading: str) -> Pick:
        """The pick under a reading, its variant filled in."""
        return self if self.variant is not None else replace(self, variant=reading)

    def words(self) -> str:
        """The row in words."""
        chosen = f"({self.candidate_set})" if self.candidate_set else ""
        attack = self.metric if not self.attack else ("natural" if self.attack == "none" else self.attack)
        budget = f"at {self.eps}" if self.eps else ""
        source = f"from {self.attack_source}" if self.attack_source else ""
        parts = (self.defense, self.ratio, chosen, self.network, self.dataset, attack, budget, source)
        return " ".join(part for part in (*parts, self.variant or "", self.part) if part)


@dataclass(frozen=True)
class Term:
    """A row with its factor in a sum."""

    factor: float
    pick: Pick


@dataclass(frozen=True)
class Quantity:
    """A number made of rows.

    sum: of factor times row; points of accuracy, or the row's own unit. share: 100 * first row / second row. lead: the
    first row less the best of the others, which is the one of the largest mean over seeds.
    """

    form: Literal["sum", "share", "lead"]
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Statement:
    """A quantity lies strictly between `low` and `high`.

    said: the same for the paper's own numbers, without a margin of ours; None where the bounds are ours.
    """

    label: str
    quantity: Quantity
    low: float
    high: float
    said: tuple[float, float] | None = None


@dataclass(frozen=True)
class Check:
    """Two places of the paper against one another. agrees: None where nothing can be said."""

    agrees: bool | None
    words: str


Kind = Literal["number", "difference", "ordering", "existence", "range", "ratio"]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper's text.

    section: of the paper; letters are appendices. words: ours, short. kind: how it is judged. rows: what it needs, in
    words. suites: names without number-bound endings, e.g. "figure1_"; rows are looked for in this order. checks: of
    the paper against itself, beyond the statements. readings: variants that stand for one protocol; the first decides.
    """

    id: str
    section: str
    words: str
    kind: Kind
    suites: tuple[str, ...]
    statements: tuple[Statement, ...]
    need: Need = "all"
    checks: tuple[Callable[[], Check], ...] = ()
    readings: tuple[str, ...] = ("",)
    note: str = ""

    def picks(self) -> Iterator[Pick]:
        """Every row that the claim names, under its first reading."""
        for statement in self.statements:
            for term in statement.quantity.terms:
                yield term.pick.read(self.readings[0])


def less(one: Pick, other: Pick) -> Quantity:
    """One row less another."""
    return Quantity("sum", (Term(1.0, one), Term(-1.0, other)))


def lead(one: Pick, others: Iterable[Pick]) -> Quantity:
    """One row less the best of others: above zero where it is the best of all."""
    return Quantity("lead", (Term(1.0, one), *(Term(-1.0, other) for other in others)))


def minus(one: Quantity, other: Quantity) -> Quantity:
    """One sum less another."""
    return Quantity("sum", (*one.terms, *(Term(-term.factor, term.pick) for term in other.terms)))


def value(pick: Pick) -> Quantity:
    """The row itself."""
    return Quantity("sum", (Term(1.0, pick),))


def share(one: Pick, other: Pick) -> Quantity:
    """One row in percent of another."""
    return Quantity("share", (Term(1.0, one), Term(1.0, other)))


def above(label: str, quantity: Quantity, bound: float = 0.0, plain: bool = True) -> Statement:
    """The quantity exceeds a bound. plain: the bound is the paper's own, not one of our words with numbers."""
    return Statement(label, quantity, bound, inf, (bound, inf) if plain else None)


def below(label: str, quantity: Quantity, bound: float = 0.0, plain: bool = True) -> Statement:
    """The quantity falls short of a bound."""
    return Statement(label, quantity, -inf, bound, (-inf, bound) if plain else None)


def equals(label: str, quantity: Quantity, number: float, margin: float) -> Statement:
    """The quantity is a number of the paper, within a margin of ours."""
    return Statement(label, quantity, number - margin, number + margin, (number, number))


def between(label: str, quantity: Quantity, low: float, high: float, margin: float = 0.0) -> Statement:
    """The quantity lies in a range of the paper's, widened by a margin of ours."""
    return Statement(label, quantity, low - margin, high + margin, (low, high))
