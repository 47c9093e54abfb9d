from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rstbench.tickets.selection import blocks, nth_smallest

COUNT = 30_000


def layer(kind: str, seed: int) -> NDArray[np.float32]:
    """Scores as they may come, in more numbers than are simply partitioned."""
    random = np.random.Generator(np.random.Philox(seed))
    values = {
        "uniform": random.random(COUNT),
        "tied": random.integers(0, 5, COUNT),
        "equal": np.zeros(COUNT),
        "rising": np.arange(COUNT),
        "in step": np.arange(COUNT) % 61,  # the sample sees one value alone
        "one apart": np.where(np.arange(COUNT) == 7, 1.0, 0.0),
        "infinite": np.where(random.random(COUNT) < 0.3, np.inf, random.random(COUNT)),
        "both": np.where(random.random(COUNT) < 0.5, np.inf, -np.inf),
    }[kind]
    return values.astype(np.float32)


KINDS = ["uniform", "tied", "equal", "rising", "in step", "one apart", "infinite", "both"]


@settings(deadline=None, max_examples=40)
@given(kind=st.sampled_from(KINDS), rank=st.integers(0, COUNT - 1), seed=st.integers(0, 99))
def test_it_is_the_value_that_sorting_finds(kind: str, rank: int, seed: int) -> None:
    values = layer(kind, seed)
    assert nth_smallest(values, rank) == np.sort(values)[rank]


@pytest.mark.parametrize("rank", [0, 1, COUNT - 1])
@pytest.mark.parametrize("kind", KINDS)
def test_at_both_ends_too(kind: str, rank: int) -> None:
    values = layer(kind, 0)
    assert nth_smallest(values, rank) == np.sort(values)[rank]


def test_what_is_not_a_number_comes_last() -> None:
    values = layer("uniform", 0)
    values[np.random.Generator(np.random.Philox(1)).random(COUNT) < 0.4] = np.nan
    numbers = int(np.count_nonzero(~np.isnan(values)))
    assert nth_smallest(values, numbers - 1) == np.nanmax(values)
    assert np.isnan(nth_smallest(values, numbers))


def test_most_values_are_never_partitioned(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    partition = np.partition

    def watched(values: NDArray[np.float32], *more: object) -> NDArray[np.float32]:
        sizes.append(len(values))
        return partition(values, *more)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(np, "partition", watched)
    values = np.random.Generator(np.random.Philox(0)).random(1 << 20).astype(np.float32)
    nth_smallest(values, int(0.8 * len(values)))
    assert len(sizes) == 2 and sum(sizes) < 0.06 * len(values)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_blocks_cover_tensors_of_one_layout_entry_by_entry(layout: torch.memory_format) -> None:
    one = torch.arange(2 * 48 * 40 * 40.0).view(2, 48, 40, 40).contiguous(memory_format=layout)
    other = torch.zeros_like(one)
    parts = list(blocks(one, other))
    assert len(parts) == 3
    for source, place in parts:
        place.copy_(source)
    assert torch.equal(one, other)


def test_tensors_of_different_layouts_stay_whole() -> None:
    one = torch.rand(2, 3, 4, 4)
    other = one.contiguous(memory_format=torch.channels_last)
    ((first, second),) = blocks(one, other)
    assert first is one and second is other
    assert next(iter(blocks(one[:, :, ::2])))[0].shape == (2, 3, 2, 4)
