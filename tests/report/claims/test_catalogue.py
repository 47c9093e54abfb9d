from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from rstbench.places import paper_columns, places
from rstbench.report.claims.catalogue import CLAIMS
from rstbench.report.claims.language import Claim
from rstbench.report.claims.readings import pick_key, row_key
from rstbench.report.claims.rules import needed
from rstbench.spec.load import load_suite
from tests.suites import SHIPPED


@pytest.fixture(scope="module")
def rows() -> dict[str, set[tuple[object, ...]]]:
    """Rows of every shipped suite that a claim names, in the paper's setting."""
    names = {name for claim in CLAIMS for name in claim.suites}
    suites = {path.stem: load_suite(path) for path in SHIPPED if _named(path, names)}
    return {
        stem: {row_key(paper_columns(suite.paper, place)) for place in places(suite)} for stem, suite in suites.items()
    }


def _named(path: Path, names: set[str]) -> bool:
    return path.stem in names or any(name.endswith("_") and path.stem.startswith(name) for name in names)


def test_there_are_enough_claims_and_each_is_complete() -> None:
    assert len(CLAIMS) >= 25
    assert max(Counter(claim.id for claim in CLAIMS).values()) == 1
    assert max(Counter(claim.words for claim in CLAIMS).values()) == 1
    for claim in CLAIMS:
        assert re.fullmatch(r"[1-7](\.\d)?|[A-I]", claim.section), claim.id
        assert re.fullmatch(r"[a-z0-9-]+", claim.id)
        assert claim.words and claim.statements and claim.suites
        assert 1 <= needed(claim.need, len(claim.statements)) <= len(claim.statements)
        assert len({statement.label for statement in claim.statements}) == len(claim.statements), claim.id


def test_bounds_are_bounds() -> None:
    for claim in CLAIMS:
        for statement in claim.statements:
            assert statement.low < statement.high
            if statement.said is not None:
                # A margin of ours may only widen what the paper says.
                assert statement.low <= statement.said[0] <= statement.said[1] <= statement.high
            if statement.quantity.form == "share":
                assert len(statement.quantity.terms) == 2


@pytest.mark.parametrize("name", ["inherited-mostly-best", "tuned-natural-best-low", "adversarial-rtt-natural-best"])
def test_mostly_the_best_is_counted_by_places_and_not_by_pairs(name: str) -> None:
    """One pair of lines for each of two rivals would let a lead over the weaker one stand for both."""
    (found,) = [claim for claim in CLAIMS if claim.id == name]
    assert {statement.quantity.form for statement in found.statements} == {"lead"}
    places = [statement.quantity.terms[0].pick for statement in found.statements]
    assert len(places) == len(set(places)) and all(len(each.quantity.terms) == 3 for each in found.statements)


def test_every_section_of_results_has_claims() -> None:
    sections = {claim.section for claim in CLAIMS}
    named = {"4.2", "4.3", "4.4", "4.5", "4.6", "4.7", "5.1", "5.2", "5.3", "5.4", "5.5", "6.1", "6.2", "6.3"}
    assert named | set("BCDEFGHI") <= sections


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_every_row_of_a_claim_is_in_its_suites(claim: Claim, rows: dict[str, set[tuple[object, ...]]]) -> None:
    stems = [stem for stem in rows if any(stem == n or (n.endswith("_") and stem.startswith(n)) for n in claim.suites)]
    assert stems
    there = set().union(*(rows[stem] for stem in stems))
    absent = [pick.words() for pick in claim.picks() if pick_key(pick) not in there]
    assert not absent
