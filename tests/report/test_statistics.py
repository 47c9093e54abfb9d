from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from rstbench.report.statistics import bootstrap, t_over_seeds, wilson


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy_and_statsmodels(case: tuple[int, int]) -> None:
    correct, n = case
    ours = wilson(correct, n)
    theirs = stats.binomtest(correct, n).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((100 * theirs.low, 100 * theirs.high), abs=1e-9)
    assert (ours.low, ours.high) == pytest.approx(
        tuple(100 * end for end in proportion_confint(correct, n, method="wilson")), abs=1e-9
    )
    assert 0 <= ours.low <= 100 * correct / n <= ours.high <= 100


def test_wilson_gives_the_textbook_values() -> None:
    # Newcombe (1998), Table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for correct, n, low, high in (
        (81, 263, 25.53, 36.62),
        (15, 148, 6.24, 16.05),
        (0, 20, 0, 16.11),
        (1, 29, 0.61, 17.18),
    ):
        interval = wilson(correct, n)
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.005)
        assert interval.kind == "wilson"


@given(st.integers(1, 50), st.integers(2, 100))
def test_more_images_narrow_wilson(correct: int, factor: int) -> None:
    few, many = wilson(correct, 100), wilson(correct * factor, 100 * factor)
    assert many.high - many.low < few.high - few.low


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=20, max_size=300), st.integers(0, 2**32))
def test_bootstrap_contains_the_mean_and_stays_in_range(sixths: list[int], seed: int) -> None:
    scores = np.array(sixths) / 6
    interval = bootstrap(scores, seed)
    assert 0 <= interval.low <= 100 * scores.mean() + 1e-9
    assert 100 * scores.mean() - 1e-9 <= interval.high <= 100


@pytest.mark.parametrize("distinct", [6, 10_000])
def test_bootstrap_is_that_of_resampled_images(distinct: int) -> None:
    scores = np.random.default_rng(3).integers(0, distinct + 1, 400) / distinct
    drawn = np.random.default_rng(4).choice(scores, size=(20_000, 400)).mean(axis=1)
    interval = bootstrap(scores)
    assert (interval.low, interval.high) == pytest.approx(tuple(100 * np.quantile(drawn, [0.025, 0.975])), abs=0.15)
    assert interval.kind == "bootstrap"


def test_bootstrap_of_zeros_and_ones_agrees_with_wilson_on_many_images() -> None:
    scores = np.repeat([0.0, 1.0], [4000, 6000])
    ours, closed = bootstrap(scores), wilson(6000, 10_000)
    assert (ours.low, ours.high) == pytest.approx((closed.low, closed.high), abs=0.05)


@pytest.mark.parametrize("distinct", [7, 2000])
def test_bootstrap_is_repeatable(distinct: int) -> None:
    scores = np.random.default_rng(0).integers(0, distinct, 2000) / distinct
    assert bootstrap(scores) == bootstrap(scores)
    assert bootstrap(scores) != bootstrap(scores, seed=1)


def test_more_images_narrow_the_bootstrap() -> None:
    scores = np.random.default_rng(0).integers(0, 7, 200) / 6
    few, many = bootstrap(scores), bootstrap(np.tile(scores, 16))
    assert (many.high - many.low) == pytest.approx((few.high - few.low) / 4, rel=0.05)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_scores_without_spread_do_not_get_an_interval_without_width(score: float) -> None:
    interval = bootstrap(np.full(50, score))
    assert interval.high - interval.low > 5
    assert interval.kind == "wilson"


def test_t_is_that_of_scipy() -> None:
    means = [50.1, 51.3, 49.8]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(means), scale=stats.sem(means))
    interval = t_over_seeds(means)
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert interval.kind == "t over seeds"


def test_t_is_clipped_to_percentages() -> None:
    interval = t_over_seeds([1.0, 99.0])
    assert (interval.low, interval.high) == (0, 100)


@pytest.mark.parametrize(("correct", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_wilson_refuses_impossible_counts(correct: int, n: int) -> None:
    with pytest.raises(ValueError, match="images"):
        wilson(correct, n)


@pytest.mark.parametrize("scores", [[], [1.5], [-0.1], [float("nan")]])
def test_bootstrap_refuses_what_is_no_score(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="within"):
        bootstrap(np.array(scores))


def test_t_refuses_a_single_seed() -> None:
    with pytest.raises(ValueError, match="two seeds"):
        t_over_seeds([50.0])
