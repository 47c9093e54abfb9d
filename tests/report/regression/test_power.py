from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rstbench.report.regression.interval import of_differences
from rstbench.report.regression.power import about_to_equate, about_to_see, images_to_see, mcnemar_power
from tests.report.regression.sides import differences


@pytest.mark.parametrize(("n", "drop", "discordant"), [(30, 0.2, 0.3), (45, 0.1, 0.1), (40, 0.05, 0.4)])
def test_the_power_is_counted_over_all_outcomes(n: int, drop: float, discordant: float) -> None:
    fall, rise = (discordant + drop) / 2, (discordant - drop) / 2
    chance = 0.0
    for fallen in range(n + 1):
        for risen in range(n + 1 - fallen):
            if risen < fallen and stats.binomtest(risen, fallen + risen).pvalue <= 0.05:
                chance += stats.multinomial.pmf([fallen, risen, n - fallen - risen], n, [fall, rise, 1 - fall - rise])
    assert mcnemar_power(n, drop, discordant, 0.05) == pytest.approx(chance, abs=1e-9)


def test_the_power_is_what_simulated_sets_show() -> None:
    generator = np.random.Generator(np.random.Philox(0))
    fallen, risen, _ = generator.multinomial(500, [0.05, 0.01, 0.94], size=4000).T
    p = 2 * stats.binom.cdf(risen, fallen + risen, 0.5)
    assert mcnemar_power(500, 0.04, 0.06, 0.05) == pytest.approx(float((p <= 0.05).mean()), abs=0.02)


@pytest.mark.parametrize(("drop", "discordant"), [(0.01, 0.01), (0.01, 0.05), (0.05, 0.2), (0.5, 1.0)])
def test_so_many_images_see_the_drop(drop: float, discordant: float) -> None:
    n = images_to_see(drop, discordant)
    assert n is not None
    assert mcnemar_power(n, drop, discordant, 0.05) >= 0.8 > mcnemar_power(n - 1, drop, discordant, 0.05)
    rough = about_to_see(drop, discordant, 0.05, 0.8)
    assert rough is not None and 0.8 * n <= rough <= 1.05 * n


def test_more_is_needed_for_smaller_drops_more_noise_and_stricter_levels() -> None:
    base = images_to_see(0.02, 0.05) or 0
    assert (images_to_see(0.01, 0.05) or 0) > base
    assert (images_to_see(0.02, 0.10) or 0) > base
    assert (images_to_see(0.02, 0.05, alpha=0.01) or 0) > base
    assert (images_to_see(0.02, 0.05, power=0.95) or 0) > base
    assert images_to_see(1e-5, 0.5) is None and about_to_see(1e-5, 0.5, 0.05, 0.8) is None
    assert about_to_see(0.0, 0.1, 0.05, 0.8) is None


@pytest.mark.parametrize(("drop", "discordant"), [(0.0, 0.1), (0.2, 0.1), (0.1, 1.1)])
def test_impossible_drops_are_refused(drop: float, discordant: float) -> None:
    with pytest.raises(ValueError, match="drop"):
        images_to_see(drop, discordant)


@pytest.mark.parametrize(("mean", "square"), [(0.0, 0.002), (-0.002, 0.002)])
def test_so_many_images_show_that_nothing_changed(mean: float, square: float) -> None:
    n = about_to_equate(mean, square, 0.01, 0.05, 0.8)
    assert n is not None
    generator = np.random.Generator(np.random.Philox(1))
    shares = [(square - mean) / 2, (square + mean) / 2, 1 - square]
    drawn, counts = np.unique(generator.multinomial(n, shares, size=150), axis=0, return_counts=True)
    within = 0
    for (fall, rise, _), count in zip(drawn, counts, strict=True):
        low, high, _ = of_differences(differences(fall, rise, n), 0.05)
        within += int(count) * (low >= -0.01 and high <= 0.01)
    assert 0.68 <= within / 150 <= 0.95


def test_images_that_agree_are_within_a_point_from_some_four_hundred_on() -> None:
    n = about_to_equate(0.0, 0.0, 0.01, 0.05, 0.8) or 0
    exact = np.log(0.025) / np.log(0.99)
    assert exact <= n <= 1.08 * exact
    assert about_to_equate(0.01, 0.02, 0.01, 0.05, 0.8) is None
    assert about_to_equate(0.0099999, 0.5, 0.01, 0.05, 0.8) is None
    fractional = about_to_equate(-0.002, 0.001, 0.01, 0.05, 0.8, size=1 / 6)
    assert fractional is not None and fractional < (about_to_equate(-0.001, 0.001, 0.01, 0.05, 0.8) or 0) * 2
