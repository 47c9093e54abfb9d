from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstbench.plan import PlannedCell
from rstbench.report.scores import expected, score

# Two sources, three images, two members.
RIGHT = np.array([[[1, 1], [1, 0], [0, 1]], [[1, 0], [0, 0], [0, 1]]], dtype=bool)


def cell(kind: str, q: tuple[float, ...] = (0.25, 0.75), tries: int = 1) -> PlannedCell:
    members = tuple(map(str, range(len(q))))
    return PlannedCell({}, {}, (0,), (), (), members, q, "attack", False, (), kind, tries)


def test_scores_by_hand() -> None:
    assert expected(RIGHT, [0.25, 0.75]).tolist() == [[1, 0.25, 0.75], [0.25, 0, 0.75]]
    assert score(cell("mean"), RIGHT).scores.tolist() == [0.625, 0.125, 0.75]
    worst = score(cell("worst_source"), RIGHT)
    assert (worst.scores.tolist(), worst.source) == ([0.25, 0, 0.75], 1)
    assert score(cell("pointwise"), RIGHT).scores.tolist() == [0.25, 0, 0.75]
    assert score(cell("any_of", tries=2), RIGHT).scores.tolist() == [0.625**2, 0.125**2, 0.75**2]


def test_equal_scores_are_equal_whatever_their_sum_was_made_of() -> None:
    # Six of 36, in every arrangement: the bootstrap counts distinct scores.
    generator = np.random.default_rng(0)
    drawn = np.array([generator.permutation(36) < 6 for _ in range(200)]).reshape(200, 6, 6).transpose(1, 0, 2)
    assert len(np.unique(score(cell("mean", (1 / 6,) * 6), drawn).scores)) == 1


def test_the_first_of_equally_bad_sources_is_the_worst() -> None:
    # By rounding alone, 3/6 as a sum of sixths is not the same number in every order.
    right = np.array([[[1, 1, 1, 0, 0, 0]], [[0, 0, 0, 1, 1, 1]]], dtype=bool)
    assert score(cell("worst_source", (1 / 6,) * 6), right).source == 0


def test_the_game_scores_its_own_mixture() -> None:
    # Held out: member 0 is never right, so the defense commits to member 1.
    held_out = np.array([[[0, 1], [0, 1]]], dtype=bool)
    found = score(cell("game"), RIGHT, held_out)
    assert found.mixture == (0.0, 1.0)
    assert found.scores.tolist() == [0, 0, 1]


def test_a_defense_may_commit_to_one_member() -> None:
    # Held out, member 0 withstands both sources once, member 1 never does, though a mixture of both would do better.
    held_out = np.array([[[1, 0], [0, 1], [1, 0]], [[1, 1], [1, 0], [0, 1]]], dtype=bool)
    found = score(replace(cell("game"), commits="member"), RIGHT, held_out)
    assert found.mixture == (1.0, 0.0)
    assert found.scores.tolist() == [1, 0, 0]


def test_what_is_no_score_is_refused() -> None:
    with pytest.raises(ValueError, match="held-out"):
        score(cell("game"), RIGHT)
    with pytest.raises(ValueError, match="'median' is not known"):
        score(cell("median"), RIGHT)


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, tuple[float, ...]]:
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 12), st.integers(1, 4)))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    q = generator.dirichlet(np.ones(shape[2]))
    return generator.random(shape) < draw(st.floats(0.1, 0.95)), tuple(q.tolist())


@settings(max_examples=150, deadline=None)
@given(tables(), st.integers(1, 6))
def test_the_order_of_adversaries(table: tuple[np.ndarray, tuple[float, ...]], tries: int) -> None:
    right, q = table
    by_kind = {
        kind: score(cell(kind, q, tries), right).scores for kind in ("mean", "worst_source", "pointwise", "any_of")
    }
    for scores in by_kind.values():
        assert scores.shape == (right.shape[1],)
        assert ((scores >= 0) & (scores <= 1)).all()
    for source in range(len(right)):  # pointwise is below what any single source gives, image by image
        assert (by_kind["pointwise"] <= score(cell("mean", q), right[[source]]).scores).all()
    assert by_kind["pointwise"].mean() <= by_kind["worst_source"].mean() + 1e-12
    assert by_kind["worst_source"].mean() <= by_kind["mean"].mean() + 1e-11
    assert (by_kind["any_of"] <= by_kind["mean"]).all()
    assert (score(cell("any_of", q, tries + 1), right).scores <= by_kind["any_of"]).all()


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(0, 2**32))
def test_no_order_of_images_sources_or_members_matters(table: tuple[np.ndarray, tuple[float, ...]], seed: int) -> None:
    right, q = table
    generator = np.random.default_rng(seed)
    images, sources, members = (generator.permutation(right.shape[axis]) for axis in (1, 0, 2))
    shuffled = right[sources][:, images][:, :, members]
    for kind in ("mean", "pointwise", "any_of"):
        before, after = cell(kind, q, 3), replace(cell(kind, q, 3), probabilities=tuple(np.array(q)[members].tolist()))
        expectation = score(before, right).scores[images]
        np.testing.assert_allclose(score(after, shuffled).scores, expectation, atol=1e-11)
