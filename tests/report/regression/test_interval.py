"""Intervals of a difference: exact where that can be counted, simulated where not."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from rstbench.report.regression.interval import of_differences, of_intervals
from rstbench.report.regression.significance import sign_flips
from rstbench.report.statistics import wilson
from tests.report.regression.sides import differences


@pytest.mark.parametrize("n", [1, 20, 500, 10_000])
def test_images_that_agree_exclude_what_clopper_and_pearson_do(n: int) -> None:
    low, high, p = of_differences(np.zeros(n), 0.05)
    assert (-low, high) == pytest.approx((stats.binomtest(0, n).proportion_ci().high,) * 2)
    assert p == 1.0


@pytest.mark.parametrize(("fall", "n"), [(1, 500), (7, 60), (30, 30)])
def test_where_images_only_fall_the_lower_end_is_clopper_and_pearson_s(fall: int, n: int) -> None:
    low, high, _ = of_differences(differences(fall, 0, n), 0.05)
    assert low == pytest.approx(-stats.binomtest(fall, n).proportion_ci().high, rel=0.02)
    mirrored = of_differences(differences(0, fall, n), 0.05)
    assert mirrored[:2] == pytest.approx((-high, -low), rel=0.05, abs=2e-4)


def test_with_many_differing_images_it_is_the_normal_interval() -> None:
    values = differences(900, 1100, 10_000)
    half = 1.96 * values.std() / 100
    low, high, p = of_differences(values, 0.05)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=3e-4)
    assert p < 0.001


def test_it_is_repeatable_and_its_p_fits() -> None:
    values = (np.random.default_rng(0).integers(-3, 4, 200) - 0.3) / 6
    assert of_differences(values, 0.05) == of_differences(values, 0.05)
    low, high, p = of_differences(values, 0.05)
    assert (p <= 0.05) == (low > 0 or high < 0)
    again = of_differences(values, p)
    assert min(abs(again[0]), abs(again[1])) < 0.02 * (high - low)


@pytest.mark.parametrize("values", [np.zeros(0), np.array([1.5]), np.array([np.nan])])
def test_differences_out_of_range_are_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="differences"):
        of_differences(values, 0.05)


@cache
def _within(fall: int, rise: int, n: int) -> bool:
    low, high, _ = of_differences(differences(fall, rise, n), 0.05)
    return low >= -0.01 and high <= 0.01


@pytest.mark.parametrize(("n", "rise"), [(300, 0.0), (400, 0.0), (400, 0.002)])
def test_a_drop_of_the_margin_is_hardly_ever_called_the_same(n: int, rise: float) -> None:
    # Counted out over the images that fall and rise: at most alpha / 2.
    chance = 0.0
    for risen in range(int(n * rise * 3) + 3):
        for fallen in range(int(0.012 * n) + 1 + risen):
            p = stats.multinomial.pmf([fallen, risen, n - fallen - risen], n, [0.01 + rise, rise, 0.99 - 2 * rise])
            chance += p if p > 1e-4 and _within(fallen, risen, n) else 0
    assert chance <= 0.025


def test_rare_large_losses_and_frequent_small_gains_are_no_difference() -> None:
    # Flipping signs takes their size for chance, and alone would find a gain in one set of ten.
    generator = np.random.Generator(np.random.Philox(1))
    left_out = flipped = 0
    for _ in range(40):
        values = generator.choice([-1, 1 / 6, 0], p=[0.01, 0.06, 0.93], size=300)
        low, high, _ = of_differences(values, 0.05)
        left_out += low > 0 or high < 0
        flipped += sign_flips(values)[0] <= 0.05
    assert left_out <= 3
    assert flipped > left_out


def test_intervals_of_independent_samples_are_newcombe_s() -> None:
    old, new = wilson(430, 500), wilson(300, 400)
    low, high, p = of_intervals((86.0, old.low, old.high), (75.0, new.low, new.high), 0.05)
    assert (low, high) == pytest.approx(
        [100 * e for e in confint_proportions_2indep(300, 400, 430, 500, method="newcomb")]
    )
    assert p < 0.001
    assert of_intervals((50, 40, 60), (50, 40, 60), 0.05)[2] == 1.0
    assert of_intervals((50, 50, 50), (60, 60, 60), 0.05) == (10, 10, 0.0)


def test_the_p_of_intervals_fits_them() -> None:
    ends = [100 * each for each in proportion_confint(200, 500, method="wilson")]
    for drop in (1.0, 5.0, 8.0, 20.0):
        low, high, p = of_intervals((40, *ends), (40 - drop, ends[0] - drop, ends[1] - drop), 0.05)
        assert (p <= 0.05) == (high < 0)
        wide = of_intervals((40, *ends), (40 - drop, ends[0] - drop, ends[1] - drop), 0.01)
        assert wide[0] < low and wide[1] > high


def test_a_p_beyond_what_draws_can_tell_is_still_told() -> None:
    # Only losses: the sum of 60 exponential weights is below one further weight with chance 2^-60.
    p = of_differences(differences(60, 0, 200), 0.05)[2]
    assert 2 * 2.0**-60 <= p < 1e-14
    few = of_differences(differences(3, 1, 200), 0.05)[2]
    assert few > 0.1
