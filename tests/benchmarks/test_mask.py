"""The mask is computed once per optimiser step: this is its cost for the largest layer of a ResNet-18."""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from rstbench.tickets.mask import kept_units, select

UNITS = 512 * 512 * 3 * 3


@pytest.mark.parametrize("ratio", [0.05, 0.2, 0.5])
def test_select(benchmark: BenchmarkFixture, ratio: float) -> None:
    scores = torch.rand(UNITS, generator=torch.Generator().manual_seed(0))
    kept = kept_units(UNITS, ratio)
    assert int(benchmark(select, scores, kept).sum()) == kept
