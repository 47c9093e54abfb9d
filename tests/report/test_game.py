from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstbench.report.game import best_member, fit, value


def grid(members: int, steps: int) -> np.ndarray:
    """All mixtures whose probabilities are multiples of 1 / steps."""
    counts = itertools.product(range(steps + 1), repeat=members - 1)
    return np.array([(*c, steps - sum(c)) for c in counts if sum(c) <= steps]) / steps


def near(members: int) -> tuple[float, ...]:
    return (1.0 / members,) * members


def test_matching_pennies() -> None:
    # Each source fools one member: whoever commits to one is always fooled, whoever mixes evenly every other time.
    right = np.array([[[0, 1]], [[1, 0]]], dtype=bool)
    mixture = fit(right, (0.9, 0.1))
    np.testing.assert_allclose(mixture, [0.5, 0.5], atol=1e-8)
    assert value(right, mixture) == pytest.approx(0.5)


def test_by_hand_with_three_members() -> None:
    # Image 0 falls unless member 0 answers, image 1 unless member 1 or 2 does: q_0 + (q_1 + q_2) = 1 whatever q is.
    # Image 2 falls to one of two sources unless members 0 and 2 share: min(q_0, q_2).
    right = np.array([[[1, 0, 0], [0, 1, 1], [1, 0, 0]], [[1, 0, 0], [0, 1, 1], [0, 0, 1]]], dtype=bool)
    mixture = fit(right, near(3))
    np.testing.assert_allclose(mixture, [0.5, 0, 0.5], atol=1e-8)
    assert value(right, mixture) == pytest.approx(1.5 / 3)


def test_where_nothing_is_at_stake_the_defense_stays_as_it_is() -> None:
    lost, safe = np.zeros((3, 4, 2), dtype=bool), np.ones((3, 4, 2), dtype=bool)
    for right in (lost, safe):
        assert fit(right, (0.3, 0.7)).tolist() == [0.3, 0.7]


def test_of_several_optimal_mixtures_the_nearest_is_taken() -> None:
    # Any q with q_2 = 0 is optimal.
    right = np.array([[[1, 1, 0]]], dtype=bool)
    mixture = fit(right, (0.2, 0.5, 0.3))
    assert mixture[2] == 0
    assert mixture.sum() == pytest.approx(1)
    # 0.3 must go from the third member; the other two only gain.
    assert mixture[0] >= 0.2 - 1e-8
    assert mixture[1] >= 0.5 - 1e-8


def test_a_single_member_by_hand() -> None:
    # Whom no source fools counts: two images for member 1, one for the others, though member 0 is right most often.
    right = np.array(
        [[[1, 1, 0], [1, 1, 0], [1, 0, 1], [1, 0, 0]], [[0, 1, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0]]], dtype=bool
    )
    assert best_member(right, near(3)).tolist() == [0, 1, 0]
    # Of equal ones, whom the defense would draw more often; then the first.
    assert best_member(right[:, 2:], (0.2, 0.3, 0.5)).tolist() == [0, 0, 1]
    assert best_member(right[:, 2:], (0.4, 0.2, 0.4)).tolist() == [1, 0, 0]


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 15), st.integers(1, 4)))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    return generator.random(shape) < draw(st.floats(0.2, 0.9))


@settings(max_examples=60, deadline=None)
@given(tables())
def test_no_mixture_of_a_grid_is_better(right: np.ndarray) -> None:
    members = right.shape[2]
    mixture = fit(right, near(members))
    assert mixture.sum() == pytest.approx(1)
    assert (mixture >= 0).all()
    best = max(value(right, q) for q in grid(members, 12))
    assert value(right, mixture) >= best - 1e-7
    assert value(right, mixture) >= value(right, np.array(near(members))) - 1e-7
    # Weak duality, without any linear programme: the best member against each image alone bounds it from above.
    assert value(right, mixture) <= right.any(axis=2).all(axis=0).mean() + 1e-9


@settings(max_examples=40, deadline=None)
@given(tables(), st.integers(0, 2**32))
def test_the_mixture_does_not_depend_on_the_order_of_images_or_sources(right: np.ndarray, seed: int) -> None:
    members = right.shape[2]
    generator = np.random.default_rng(seed)
    shuffled = right[generator.permutation(len(right))][:, generator.permutation(right.shape[1])]
    mixture = fit(right, near(members))
    assert fit(shuffled, near(members)).tolist() == mixture.tolist()
    # Of members, the value does not; which of several optimal mixtures is taken may.
    order = generator.permutation(members)
    renamed = right[:, :, order]
    assert value(renamed, fit(renamed, near(members))) == pytest.approx(value(right, mixture), abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(tables())
def test_more_sources_never_help_the_defense(right: np.ndarray) -> None:
    members = right.shape[2]
    fewer, all_of_them = right[: max(1, len(right) - 1)], right
    best_of_fewer = value(fewer, fit(fewer, near(members)))
    assert value(all_of_them, fit(all_of_them, near(members))) <= best_of_fewer + 1e-7


def test_a_battery_of_fifty_sources_on_five_hundred_images() -> None:
    generator = np.random.default_rng(0)
    # Images and members differ in how easily they fall, so that neither all nor nothing is decided.
    right = generator.random((50, 500, 6)) < generator.beta([6, 6, 4, 2, 1, 0.5], 0.3, size=(1, 500, 6))
    mixture = fit(right, near(6))
    others = [*np.eye(6), *generator.dirichlet(np.ones(6), 200), *(mixture + 1e-3 * (np.eye(6) - mixture))]
    assert value(right, mixture) >= max(value(right, q) for q in others) - 1e-7
    assert value(right, mixture) > value(right, np.full(6, 1 / 6)) + 0.01


@settings(max_examples=40, deadline=None)
@given(tables())
def test_no_single_member_beats_the_mixture(right: np.ndarray) -> None:
    members = right.shape[2]
    worth = [value(right, alone) for alone in np.eye(members)]
    alone = best_member(right, near(members))
    assert value(right, alone) == pytest.approx(max(worth))
    assert value(right, alone) <= value(right, fit(right, near(members))) + 1e-8
