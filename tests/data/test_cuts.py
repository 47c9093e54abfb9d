from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstbench.data.cuts import split, stratified_subset
from rstbench.errors import DataError, SpecError

LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=200).map(lambda values: np.asarray(values, dtype=np.int64))
SEEDS = st.integers(0, 2**63 - 1)


@settings(max_examples=150, deadline=None)
@given(labels=LABELS, fraction=st.floats(0.001, 0.499), seed=SEEDS)
def test_split_is_a_stratified_partition(labels: np.ndarray, fraction: float, seed: int) -> None:
    counts = np.bincount(labels, minlength=7)
    if counts.max() < 2:
        with pytest.raises(DataError, match="cannot be cut"):
            split(labels, fraction, seed)
        return
    train, validation = split(labels, fraction, seed)
    assert train.dtype == validation.dtype == np.int64
    assert (np.diff(train) > 0).all() and (np.diff(validation) > 0).all()
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert set(labels[train]) == set(labels)  # no class leaves training
    wanted = max(1, round(fraction * len(labels)))
    spare = int(np.maximum(counts - 1, 0).sum())
    assert len(validation) == min(wanted, spare)
    again = split(labels, fraction, seed)
    assert np.array_equal(again[0], train) and np.array_equal(again[1], validation)


@settings(max_examples=150, deadline=None)
@given(labels=LABELS, n=st.integers(1, 220), seed=SEEDS)
def test_subset_has_exactly_n_in_even_shares(labels: np.ndarray, n: int, seed: int) -> None:
    chosen = stratified_subset(labels, n, seed)
    assert chosen.dtype == np.int64
    assert len(chosen) == len(set(chosen)) == min(n, len(labels))
    assert (np.diff(chosen) > 0).all()
    exact = np.bincount(labels, minlength=7) * min(n, len(labels)) / len(labels)
    assert (np.abs(np.bincount(labels[chosen], minlength=7) - exact) < 1).all()


def test_seeds_and_purposes_draw_differently() -> None:
    labels = np.arange(1000) % 10
    first, second = stratified_subset(labels, 100, 0), stratified_subset(labels, 100, 1)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, split(labels, 0.1, 0)[1])


def test_too_few_for_every_class_does_not_prefer_the_first_classes() -> None:
    labels = np.arange(1000) % 100
    assert sorted(labels[stratified_subset(labels, 10, 3)]) != list(range(10))


def test_a_full_class_hands_its_share_on() -> None:
    train, validation = split(np.array([0, 1, 1, 1, 1]), 0.49, 0)
    assert len(validation) == 2 and 0 in train


def test_chosen_indices_are_golden() -> None:
    """A change here moves every validation part and every subset, and so every stored result."""
    labels = np.arange(40) % 4
    assert split(labels, 0.1, 0)[1].tolist() == [12, 13, 27, 30]
    assert stratified_subset(labels, 6, 5).tolist() == [14, 15, 23, 25, 36, 38]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_impossible_fraction(fraction: float) -> None:
    with pytest.raises(SpecError, match="between 0 and 1"):
        split(np.arange(4), fraction, 0)


def test_impossible_number() -> None:
    with pytest.raises(SpecError, match="at least one"):
        stratified_subset(np.arange(4), 0, 0)
