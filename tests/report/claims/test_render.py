from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rstbench.report.claims import rules, words
from rstbench.report.claims.catalogue import CLAIMS
from rstbench.report.claims.judge import Finding, Where, judge
from rstbench.report.claims.language import above, below, between, equals, less, value
from rstbench.report.claims.render import as_json, render
from rstbench.report.claims.vocabulary import counted
from rstbench.store import Store
from tests.report.claims.scenes import C10, DENSE, RN18, claim, fill, row, suite

WHERE = Where("paper", "store", "suites")
RATIOS = ("0.05", "0.10", "0.20")


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finding, ...]:
    """Supported, refuted, not run, and inconsistent ones."""
    folder = tmp_path_factory.mktemp("render")
    here, store = suite(folder), Store(folder / "store")
    accuracy = {"0.05": 60.0, "0.10": 30.0, "0.20": 55.0, "": 50.0}

    def rate(cell, position):  # type: ignore[no-untyped-def]
        columns = cell.columns
        chosen = columns["attack"] == "pgd20" and columns["dataset"] == C10 and columns["defense"] != "r2s"
        return accuracy[columns["ratio"]] + position / 4 * bool(columns["ratio"]) if chosen else None

    fill(store, here, rate)
    known = next(each for each in CLAIMS if each.id == "rst10-wide-accuracy")
    claims = (
        claim(above("RST less dense", less(row(), DENSE)), id="supported"),
        claim(*(above(f"at {r}", less(row(ratio=r), DENSE)) for r in RATIOS), id="refuted", words="all | better"),
        claim(
            above("natural", value(row("dense_at", "", attack="none", eps="", metric="natural_acc"))),
            id="absent",
            note="a note",
        ),
        replace(known, suites=("figure1_",)),
        claim(above("x", value(DENSE)), id="elsewhere", suites=("table9_",)),
    )
    return judge(claims, [here], store, WHERE)


def test_text(findings: tuple[Finding, ...]) -> None:
    text = render(findings, WHERE)
    assert "5 claims: 1 supported, 1 refuted, 2 not run, 1 inconsistent." in text
    assert "[4] supported: SUPPORTED\n" in text
    assert "RST less dense: 10.25 [9.63, 10.87]" in text
    assert "2 for, 0 open, 1 against; needs 3 of 3 (n 400, seeds 0 1 2, t over seeds)" in text
    # What speaks against the claim comes first.
    assert text.index("at 0.10: -19.75") < text.index("at 0.20: 5.25") < text.index("at 0.05: 10.25")
    assert "note        a note" in text
    assert "no suite table9_*.yaml in suites" in text
    assert "INCONSISTENT (MEASURED: NOT RUN)" in text
    assert f"A number of the text is met within {rules.MARGIN:g} points" in text


def test_what_is_for_a_claim_of_existence_comes_first(findings: tuple[Finding, ...]) -> None:
    every = findings[1]
    (reading,) = every.readings
    labels = [one.statement.label for one in words.telling(reading, replace(every.claim, need="any"), 2)[0]]
    assert labels == ["at 0.05", "at 0.20"]
    assert words.telling(reading, every.claim, 2)[1] == 1


def test_markdown(findings: tuple[Finding, ...]) -> None:
    page = render(findings, WHERE, "markdown")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(rows) == len(findings) + 2
    assert "all \\| better" in page
    for status in rules.STATUSES:
        assert f"- **{status}**: " in page


def test_json(findings: tuple[Finding, ...]) -> None:
    data = json.loads(render(findings, WHERE, "json"))
    assert data == json.loads(json.dumps(as_json(findings, WHERE)))
    assert data["counts"] == {
        "supported": 1, "refuted": 1, "indicative for": 0, "indicative against": 0, "undecided": 0, "not run": 2,
        "inconsistent": 1,
    }  # fmt: skip
    assert data["rules"]["margin"] == rules.MARGIN
    refuted = data["claims"][1]
    assert refuted["readings"][0]["needed"] == 3
    assert [each["side"] for each in refuted["readings"][0]["measured"]] == ["for", "against", "for"]
    first = data["claims"][0]["readings"][0]["measured"][0]
    assert first["low"] == 0.0 and first["high"] is None and first["by_seed"] == [10.0, 10.25, 10.5]
    assert data["claims"][2]["readings"][0]["not_run"][0]["rows"] == [f"dense_at {RN18} {C10} natural"]
    assert data["claims"][3]["paper"]["verdict"] == "contradicts"
    assert data["claims"][4]["commands"] == []


def test_how_a_claim_is_judged() -> None:
    one = value(DENSE)
    assert words.how(claim(above("x", one))) == "ordering: above 0.00"
    assert words.how(claim(below("x", one, 3.0), below("y", one, 3.0))) == "ordering: all 2, each below 3.00"
    several = claim(above("x", one), above("y", one, 1.0), between("z", one, 2.0, 3.0), need="most", kind="range")
    assert words.how(several) == "range: more than half of 3, each within its own bounds"
    number = claim(equals("x", one, -2.08, 1.0), equals("y", one, -2.08, 1.0), need="any", kind="number")
    assert words.how(number) == "number: at least one of 2, each between -3.08 and -1.08"
    distance = above("x", value(counted("feature_distance", "a", RN18, C10)), 0.01234567)
    assert words.bounds_text(distance) == "above 0.01235"


def test_every_claim_of_the_paper_is_shown(tmp_path: Path) -> None:
    findings = judge(CLAIMS, [], Store(tmp_path / "none"), WHERE)
    text, page = render(findings, WHERE), render(findings, WHERE, "markdown")
    for each in CLAIMS:
        assert f"] {each.id}: " in text and f"`{each.id}`" in page
    assert {finding.status for finding in findings} == {"not run", "inconsistent"}
