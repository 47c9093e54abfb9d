"""The mask is computed once per optimiser step: this is its cost for the largest layer of a ResNet-18."""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from rstbench.tickets.mask import kept_units, select
from tests.benchmarks.alternating import Case, alternate, record
from tests.benchmarks.results import Results

UNITS = 512 * 512 * 3 * 3


def _sorted(scores: Tensor, ratio: float) -> Tensor:
    mask = scores.clone()
    order = scores.sort().indices
    dropped = int((1 - ratio) * len(scores))
    mask[order[:dropped]] = 0
    mask[order[dropped:]] = 1
    return mask


@pytest.mark.parametrize("ratio", [0.05, 0.2, 0.5])
def test_select(benchmark: BenchmarkFixture, results: Results, ratio: float) -> None:
    # Scores of a start lie on a grid of 2^-24, as these do, so many are equal.
    scores = torch.rand(UNITS, generator=torch.Generator().manual_seed(0))
    kept = kept_units(UNITS, ratio)
    mask = select(scores, kept)
    assert int(mask.sum()) == kept == int(_sorted(scores, ratio).sum())
    assert float(scores[mask].min()) >= float(scores[~mask].max())
    case = Case("Mask of one layer, 2.4 million weights", f"{100 * ratio:g} % remain", "a mask")
    work = {"full sort": lambda: _sorted(scores, ratio), "selection": lambda: select(scores, kept)}
    times = alternate(benchmark, case, work, 9)
    record(results, benchmark, case, times, "selection", "full sort")
