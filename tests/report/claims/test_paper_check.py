from __future__ import annotations

from functools import partial

import pytest

from rstbench.report.claims import paper_check
from rstbench.report.claims.catalogue import CLAIMS
from rstbench.report.claims.language import Claim, Pick, above, equals, lead, less, share, value
from rstbench.report.claims.paper_check import against_paper, paper_number, paper_quantity
from rstbench.report.claims.vocabulary import CIFAR10, RESNET18, SIX, WIDE, counted, natural, robust
from rstbench.report.paper import paper_rows

BY_ID = {claim.id: claim for claim in CLAIMS}
DENSE = robust("dense_at", RESNET18, CIFAR10)


def claim(*statements: object, **changes: object) -> Claim:
    fields = {"id": "x", "section": "4", "words": "x", "kind": "number", "suites": ("table3_",)}
    return Claim(**fields, statements=statements, **changes)  # type: ignore[arg-type]


def test_numbers_come_from_the_tables() -> None:
    assert paper_number(DENSE) == 50.19  # which four tables repeat
    assert paper_number(natural("dense_at", WIDE, CIFAR10)) == 85.93
    assert paper_number(counted("params_m", "rst", "resnet50", "imagenet", "0.40", eps="2")) == 9.41
    assert paper_number(Pick(CIFAR10, RESNET18, "r2s", candidate_set="0.30 0.2 0.15 0.1 0.07 0.05")) == 63.93
    assert paper_number(robust("rst", RESNET18, CIFAR10, "0.20")) is None  # in figures only
    assert paper_number(Pick(CIFAR10, RESNET18, "r2s", candidate_set=SIX, part="diagonal")) is None


def test_no_table_of_the_paper_differs_from_another() -> None:
    for row in paper_rows():
        fields = {name: row.columns[name] for name in row.columns if name not in ("table", "norm")}
        assert paper_number(Pick(**fields)) == float(row.value)


def test_quantities() -> None:
    r2s = Pick(CIFAR10, RESNET18, "r2s", candidate_set=SIX, variant=None)
    assert paper_quantity(less(r2s, DENSE)) == pytest.approx(13.74)
    assert paper_quantity(share(DENSE, r2s)) == pytest.approx(100 * 50.19 / 63.93)
    assert paper_quantity(less(r2s, robust("rst", RESNET18, CIFAR10, "0.20"))) is None
    assert paper_quantity(lead(r2s, [DENSE, robust("dense_at", WIDE, CIFAR10)])) == pytest.approx(63.93 - 52.27)


@pytest.mark.parametrize(
    "number, verdict", [(50.19, "agrees"), (50.20, "agrees"), (50.21, "contradicts"), (50.10, "contradicts")]
)
def test_a_number_may_be_off_by_rounding(number: float, verdict: str) -> None:
    # The margin is ours, and does not soften what the paper says of itself.
    assert against_paper(claim(equals("dense", value(DENSE), number, 1.0))).verdict == verdict


def test_bounds_of_ours_do_not_accuse_the_paper() -> None:
    strict = above("dense", value(DENSE), 90.0)
    assert against_paper(claim(strict)).verdict == "contradicts"
    ours = above("dense", value(DENSE), 90.0, plain=False)
    assert against_paper(claim(ours)).verdict == "silent"
    # Nor do they acquit it: "comparable" sizes are comparable by a bound of ours.
    assert against_paper(BY_ID["imagenet-sizes"]).verdict == "silent"


def test_how_many_must_agree() -> None:
    right, wrong = above("right", value(DENSE), 50.0), above("wrong", value(DENSE), 60.0)
    assert against_paper(claim(right, wrong, need="any")).verdict == "agrees"
    assert against_paper(claim(right, wrong)).verdict == "contradicts"
    assert against_paper(claim(right, right, wrong, need="most")).verdict == "agrees"
    absent = above("absent", value(robust("rst", RESNET18, CIFAR10, "0.20")), 0.0)
    assert against_paper(claim(absent)).verdict == "silent"
    # What no table has could still be what one of two needs.
    assert against_paper(claim(wrong, absent, need="any")).verdict != "contradicts"


def test_the_known_contradictions_and_no_others() -> None:
    found = {each.id: against_paper(each).words for each in CLAIMS if against_paper(each).verdict == "contradicts"}
    assert set(found) == {
        "rst10-wide-accuracy", "rst5-wide-cw-inf", "mask-overhead", "r2s-rtt-robust-gain", "r2s-rtt-natural-gain",
    }  # fmt: skip
    assert "51.33" in found["rst10-wide-accuracy"] and "51.39" in found["rst10-wide-accuracy"]
    assert "2.54" in found["rst5-wide-cw-inf"] and "2.88" in found["rst5-wide-cw-inf"]
    assert "18.75" in found["mask-overhead"]
    assert "0.40" in found["r2s-rtt-robust-gain"]


def test_numbers_of_the_text_that_the_tables_give() -> None:
    agreeing = {each.id for each in CLAIMS if against_paper(each).verdict == "agrees"}
    assert {"r2s-gain-pgd20", "r2s-gain-autoattack", "best-sets", "r2s-rtt-gain", "imagenet-resnet101-eps2"} <= agreeing
    assert "12.71" in against_paper(BY_ID["r2s-gain-adaptive"]).words


def test_contradictions_follow_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """With other tables the same claims agree: nothing is decided but by the numbers."""
    numbers = {DENSE: 50.25}
    before = paper_check.paper_number
    monkeypatch.setattr(paper_check, "paper_number", lambda pick: numbers.get(pick, before(pick)))
    assert against_paper(BY_ID["rst10-wide-accuracy"]).verdict == "agrees"


def test_checks() -> None:
    there = paper_check.set_in_table(9, "r2s_adv_rtt", "0.10 0.07 0.05 0.03", "small")
    assert there.agrees
    assert not paper_check.set_in_table(9, "r2s_adv_rtt", SIX, "six").agrees
    assert paper_check.masks_of_set(3, "r2s", 18.75).agrees
    nothing = paper_check.sum_against(robust("rst", RESNET18, CIFAR10, "0.20"), 1.0, "a", 2.0, "b")
    assert nothing.agrees is None
    assert against_paper(claim(above("x", value(DENSE)), checks=(partial(lambda: nothing),))).verdict == "agrees"
