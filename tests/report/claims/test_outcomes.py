from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rstbench.report.claims.language import Pick, Statement, above, equals, less, value
from rstbench.report.claims.outcomes import Outcome, resampled_means, t_interval
from rstbench.report.statistics import bootstrap, t_of_means

A, B = Pick("cifar10", "n", "a"), Pick("cifar10", "n", "b")
BETTER = above("a less b", less(A, B))


def images(*groups: NDArray[np.float64], statement: Statement = BETTER, width: float = 200.0) -> Outcome:
    mean = float(sum(group.mean() for group in groups))
    return Outcome(statement, (mean,), (0,), max(map(len, groups)), groups, width)


def seeds(*values: float, statement: Statement = BETTER) -> Outcome:
    return Outcome(statement, values, tuple(range(len(values))), 100)


def test_several_seeds_have_students_t() -> None:
    outcome = seeds(1.0, 2.0, 4.5)
    expected = t_of_means([1.0, 2.0, 4.5])
    assert outcome.kind == "t over seeds"
    assert outcome.interval() == pytest.approx((expected.low, expected.high))
    assert t_interval([1.0, 2.0, 4.5], 0.99)[1] > expected.high


def test_one_seed_has_a_bootstrap_of_its_images() -> None:
    right = np.random.default_rng(0).random(500) < 0.6
    outcome = images(100 * right.astype(float))
    expected = bootstrap(right.astype(float))
    assert outcome.kind == "paired bootstrap"
    assert outcome.interval() == pytest.approx((expected.low, expected.high), abs=0.3)


def test_pairing_is_sharper_than_two_sets_of_images() -> None:
    generator = np.random.default_rng(1)
    common = generator.random(400) < 0.5
    a, b = 100.0 * common, 100.0 * (common & (generator.random(400) < 0.95))
    paired, apart = images(a - b), images(a, -b)
    assert paired.value == pytest.approx(apart.value)
    assert apart.kind == "bootstrap"
    assert np.diff(paired.interval())[0] < 0.5 * np.diff(apart.interval())[0]
    assert paired.decide(0.95) == "for"
    assert apart.decide(0.95) == "open"


def test_images_without_any_difference_do_not_prove_equality() -> None:
    same = equals("a less b", less(A, B), 0.0, 1.0)
    few, many = (images(np.zeros(n), statement=same) for n in (50, 5000))
    assert few.decide(0.95) == "open"
    assert many.decide(0.95) == "for"
    low, high = few.interval()
    # 1 - 0.025 ** (1/50): the exact binomial's bound of none in fifty, times the widest difference of two scores.
    assert high == pytest.approx(200 * 0.0711, abs=0.05) and low == -high


def test_a_count_is_exact() -> None:
    outcome = Outcome(equals("size", value(A), 40.0, 2.5), (41.0,), (0,), 0)
    assert outcome.kind == "exact"
    assert outcome.interval(0.999) == (41.0, 41.0)
    assert outcome.decide(0.999) == "for"


@pytest.mark.parametrize(
    "low, high, side",
    [(0.0, 10.0, "for"), (-5.0, 20.0, "for"), (12.0, 20.0, "against"), (-20.0, -3.0, "against"), (4.9, 5.1, "open")],
)
def test_sides(low: float, high: float, side: str) -> None:
    outcome = seeds(4.0, 5.0, 6.0, statement=Statement("x", less(A, B), low, high))
    assert outcome.interval() == pytest.approx((2.516, 7.484), abs=0.001)
    assert outcome.decide(0.95) == side


def test_a_higher_level_decides_less() -> None:
    outcome = seeds(1.0, 1.2, 1.4)
    assert outcome.decide(0.95) == "for"
    assert outcome.decide(0.9999) == "open"


@pytest.mark.parametrize("values", [np.array([0.0, 1.0, -1.0] * 200), np.random.default_rng(2).normal(size=600)])
def test_resamples_have_the_standard_error(values: NDArray[np.float64]) -> None:
    means = resampled_means(values, np.random.Generator(np.random.Philox(0)))
    assert means.mean() == pytest.approx(values.mean(), abs=0.003)
    assert means.std() == pytest.approx(values.std() / len(values) ** 0.5, rel=0.03)
