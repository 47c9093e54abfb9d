from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rstbench.report.regression import significance
from rstbench.report.regression.significance import MCNEMAR, SIGNS, holm, mcnemar, sign_flips
from tests.report.regression.sides import differences


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 500))
@settings(max_examples=40, deadline=None)
def test_mcnemar_is_the_binomial_test_of_discordant_images(fall: int, rise: int, more: int) -> None:
    found = mcnemar(differences(fall, rise, fall + rise + more))
    expected = stats.binomtest(fall, fall + rise).pvalue if fall + rise else 1.0
    assert found == pytest.approx(expected) and found <= 1.0
    assert found == mcnemar(differences(rise, fall, fall + rise + more))


def test_mcnemar_at_the_edges() -> None:
    assert mcnemar(differences(0, 0, 5)) == 1.0
    assert mcnemar(differences(1, 0, 1)) == 1.0  # one image proves nothing
    assert mcnemar(differences(5, 0, 5)) == 2 / 2**5 > 0.05  # nor do five, even if all of them fall
    assert mcnemar(differences(6, 0, 6)) == 2 / 2**6 < 0.05
    assert mcnemar(differences(0, 2000, 2000)) < 1e-300


@given(st.lists(st.integers(-6, 6), min_size=1, max_size=9))
@settings(max_examples=40, deadline=None)
def test_sign_flips_count_all_patterns(sixths: list[int]) -> None:
    values = np.array(sixths) / 6
    p, how = sign_flips(values)
    sums = [
        abs(sum(s * v for s, v in zip(signs, sixths, strict=True))) for signs in product((-1, 1), repeat=len(sixths))
    ]
    assert how == SIGNS
    assert p == pytest.approx(np.mean([each >= abs(sum(sixths)) for each in sums]))


def test_sign_flips_are_those_of_scipy() -> None:
    values = np.random.default_rng(1).integers(-30, 60, 12) / 108
    theirs = stats.permutation_test(
        (values,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", vectorized=True
    )
    assert sign_flips(values)[0] == pytest.approx(theirs.pvalue)


@given(st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=20, deadline=None)
def test_of_zeros_and_ones_both_tests_are_one(fall: int, rise: int) -> None:
    values = differences(fall, rise, 100)
    assert sign_flips(values)[0] == pytest.approx(mcnemar(values))


def test_drawn_sign_flips_agree_with_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).integers(-3, 4, 120) / 6
    exact, how = sign_flips(values)
    monkeypatch.setattr(significance, "EXACT_SUM", 1)
    drawn, drawn_how = sign_flips(values)
    assert (how, drawn_how) == (SIGNS, "sign flips, 99999 draws")
    assert drawn == pytest.approx(exact, abs=0.005) and drawn == sign_flips(values)[0]
    # Beyond what draws can tell a bound stands in for them: never below the exact p, and never 0.
    assert 2.0**-299 <= sign_flips(np.full(300, -0.5))[0] < 1e-60
    assert sign_flips(np.full(30_000, -0.5))[0] > 0


def test_thousands_of_fractions_are_counted_exactly() -> None:
    values = np.random.default_rng(3).integers(-20, 21, 5_000) / 36
    p, how = sign_flips(values)
    assert how == SIGNS and p == pytest.approx(
        2 * stats.norm.sf(abs(values.sum()) / (values**2).sum() ** 0.5), rel=0.02
    )
    assert sign_flips(np.full(400, 1 / 6))[0] < 1e-13


def test_differences_that_are_no_parts_are_drawn() -> None:
    values = np.random.default_rng(3).normal(0, 0.1, 1_000).clip(-1, 1)
    p, how = sign_flips(values)
    assert how == "sign flips, 40000 draws" and p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.02)


def test_holm_leaves_out_rows_that_cannot_be_significant() -> None:
    assert holm([]) == [] and holm([None, 0.03]) == [None, 0.03]
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06], nan_ok=True)
    assert MCNEMAR != SIGNS
