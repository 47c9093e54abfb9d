"""When a claim is supported, when it is refuted, and when neither. The one place where that is decided.

A claim is a list of statements and how many of them it needs: all, most (more than half) or any. A statement says that
a quantity, such as the difference of two accuracies, lies between two bounds. Its interval covers what a new seed would
change where there are several seeds (Student's t on the seeds' own differences), else what other test images would
(paired bootstrap where all cells share their images).

**One statement** holds where its interval lies within the bounds, fails where it lies outside them, and is open else.

**Several.** Of m statements a claim needs u to be true. It is supported where u of them hold, each at the level
1 - 0.05 / (m - u + 1), and refuted where m - u + 1 of them fail, each at the level 1 - 0.05 / u. These are Bonferroni's
corrections for partial conjunctions (Benjamini and Heller 2008): "all of fourteen" needs no correction to be supported,
and one of fourteen failures must stand out among fourteen to refute it.

**Words with numbers.** "Loses 2.08 points" is an equivalence: the difference must lie within `MARGIN` of the number,
for no two trainings agree to a hundredth. "Better" means above zero; "notably" by more than `NOTABLE`; "comparable" no
worse than `COMPARABLE` (the paper calls losses of 2.08 and 2.43 comparable); "decent" at least `DECENT` of the dense
adversarially trained network's accuracy; "almost zero" below `ALMOST_ZERO`; sizes agree within `SIZE_MARGIN`, because
the paper rounds them to tens of percent, and "comparable sizes" are those within `COMPARABLE_SIZE`.

**Settings.** `supported` and `refuted` are said only where everything ran in the claim's own setting: its networks and
data, the paper's schedules and attacks, every statement that the claim makes, and at least `SEEDS` seeds. They speak of
that network and those data and of nothing else. With fewer seeds, with substitutes, or with some ratios left out by the
profile, the same decision is called `indicative for` or `indicative against`.

**The paper against itself.** Where the numbers of the paper's tables do not give the number of its text, or where two
places of the text exclude each other, the claim is `inconsistent`, whatever was measured; the measurement's own
decision stands beside it. A difference of two values with two decimals may be off by `ROUNDING`. Only numbers and plain
orderings are held against the paper; bounds that are ours are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

LEVEL = 0.95
SEEDS = 3
MARGIN = 1.0
NOTABLE = 1.0
COMPARABLE = 3.0
DECENT = 0.5
ALMOST_ZERO = 1.0
SIZE_MARGIN = 2.5
COMPARABLE_SIZE = 20.0
ROUNDING = 0.0151

Need = Literal["all", "most", "any"]
Decision = Literal["for", "against", "open"]
Status = Literal["supported", "refuted", "indicative for", "indicative against", "undecided", "not run", "inconsistent"]
STATUSES: tuple[Status, ...] = (
    "supported", "refuted", "indicative for", "indicative against", "undecided", "not run", "inconsistent",
)  # fmt: skip

STATUS_WORDS: dict[Status, str] = {
    "supported": f"in the paper's own setting, with {SEEDS} seeds or more, the intervals lie on the claim's side",
    "refuted": "there the intervals lie on the other side; said of the named networks and data only",
    "indicative for": "on the claim's side, but with fewer seeds, substitutes, or ratios left out",
    "indicative against": "on the other side, but with fewer seeds, substitutes, or ratios left out",
    "undecided": "the intervals reach to both sides",
    "not run": "the store lacks what decides it",
    "inconsistent": "the paper contradicts itself there, by its own tables",
}


class Weighed(Protocol):
    """A statement with its interval at any level."""

    def decide(self, level: float) -> Decision:
        """Whether the interval of this level lies within the statement's bounds, outside, or neither."""


def needed(need: Need, statements: int) -> int:
    """How many of so many statements must be true."""
    return {"all": statements, "most": statements // 2 + 1, "any": 1}[need]


def support_level(need: Need, statements: int) -> float:
    """Level of the intervals that support a claim of so many statements."""
    return 1 - (1 - LEVEL) / (statements - needed(need, statements) + 1)


def refutation_level(need: Need, statements: int) -> float:
    """Level of the intervals that refute a claim of so many statements."""
    return 1 - (1 - LEVEL) / needed(need, statements)


def decide(need: Need, measured: Sequence[Weighed], statements: int) -> Decision | None:
    """The claim's decision from what was measured of its statements; None if what is missing could still decide."""
    enough = needed(need, statements)
    holding = sum(one.decide(support_level(need, statements)) == "for" for one in measured)
    failing = sum(one.decide(refutation_level(need, statements)) == "against" for one in measured)
    if holding >= enough:
        return "for"
    if failing >= statements - enough + 1:
        return "against"
    return "open" if len(measured) == statements else None


def status(decision: Decision | None, own_setting: bool) -> Status:
    """What a decision of the measurements is called."""
    if decision is None:
        return "not run"
    if decision == "open":
        return "undecided"
    if own_setting:
        return "supported" if decision == "for" else "refuted"
    return "indicative for" if decision == "for" else "indicative against"
