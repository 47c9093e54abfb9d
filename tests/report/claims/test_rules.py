from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstbench.report.claims.rules import (
    LEVEL,
    Decision,
    Need,
    decide,
    needed,
    refutation_level,
    status,
    support_level,
)


@dataclass(frozen=True)
class Fixed:
    """A statement whose side does not depend on the level."""

    side: Decision

    def decide(self, level: float) -> Decision:
        return self.side


@dataclass(frozen=True)
class Clear:
    """A statement that is decided up to a level."""

    side: Decision
    up_to: float

    def decide(self, level: float) -> Decision:
        return self.side if level <= self.up_to else "open"


def of(text: str) -> list[Fixed]:
    sides: dict[str, Decision] = {"+": "for", "-": "against", "?": "open"}
    return [Fixed(sides[letter]) for letter in text]


@pytest.mark.parametrize(
    "need, sides, count, decision",
    [
        ("all", "+++", 3, "for"),
        ("all", "++?", 3, "open"),
        ("all", "++-", 3, "against"),
        ("all", "++", 3, None),  # the third could still refute it
        ("all", "-", 3, "against"),  # nothing that is missing could save it
        ("most", "++-", 3, "for"),
        ("most", "++--", 4, "against"),  # half is not most
        ("most", "++?-", 4, "open"),
        ("most", "+++", 5, "for"),
        ("any", "+", 9, "for"),
        ("any", "--", 3, None),
        ("any", "---", 3, "against"),
        ("any", "--?", 3, "open"),
    ],
)
def test_decisions(need: Need, sides: str, count: int, decision: Decision | None) -> None:
    assert decide(need, of(sides), count) == decision


def test_levels_are_corrected_where_there_is_a_choice() -> None:
    assert support_level("all", 14) == LEVEL
    assert refutation_level("all", 14) == pytest.approx(1 - 0.05 / 14)
    assert support_level("any", 14) == pytest.approx(1 - 0.05 / 14)
    assert refutation_level("any", 14) == LEVEL
    assert support_level("all", 1) == refutation_level("any", 1) == LEVEL


def test_one_failure_of_many_has_to_stand_out() -> None:
    rest = [Clear("for", 1.0)] * 13
    assert decide("all", [*rest, Clear("against", LEVEL)], 14) == "open"
    assert decide("all", [*rest, Clear("against", 1 - 0.05 / 14)], 14) == "against"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["all", "most", "any"]), st.text(alphabet="+-?", min_size=1, max_size=12))
def test_what_is_decided_stays_decided(need: Need, sides: str) -> None:
    whole = decide(need, of(sides), len(sides))
    assert whole is not None
    for end in range(1, len(sides)):
        assert decide(need, of(sides[:end]), len(sides)) in (None, whole)
    assert (whole == "for") == (sides.count("+") >= needed(need, len(sides)))


def test_names_of_decisions() -> None:
    assert status(None, True) == "not run"
    assert status("open", True) == status("open", False) == "undecided"
    assert (status("for", True), status("against", True)) == ("supported", "refuted")
    assert (status("for", False), status("against", False)) == ("indicative for", "indicative against")
