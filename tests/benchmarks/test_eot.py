"""PGD-20 on the exact expectation over six tickets: six gradients a step."""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from rstbench.evaluation.craft import Target, craft
from rstbench.networks import build
from rstbench.networks.init import initialise
from rstbench.spec.base import distance
from rstbench.spec.training import SearchSpec
from rstbench.tickets.search import Scores
from tests.benchmarks.alternating import Case, alternate, record
from tests.benchmarks.plain import MaskedNetwork, expectation_pgd
from tests.benchmarks.results import Results
from tests.benchmarks.subject import INIT, pgd_at, quiet
from tests.networks.specs import spec as model_of

CPU = torch.device("cpu")
RATIOS = (0.05, 0.07, 0.10, 0.15, 0.20, 0.30)
EPSILON = "8/255"
MASKED, ONE_BY_ONE, TOGETHER = "mask sorted in every pass", "one member at a time", "all members in one pass"


@pytest.mark.parametrize("size", [16, 64])
def test_expectation_over_members(benchmark: BenchmarkFixture, results: Results, size: int) -> None:
    networks, masked = [], []
    for seed, ratio in enumerate(RATIOS):
        scores = Scores(_network(seed), ratio, "element", SearchSpec(), seed)
        scores.refresh()
        networks.append(scores.network.eval())
        masked.append(MaskedNetwork(_network(seed), scores.variables, ratio).eval())
    random = torch.Generator().manual_seed(0)
    images, labels = torch.rand(size, 3, 32, 32, generator=random), torch.randint(10, (size,), generator=random)
    target, epsilon = Target(networks, 10, CPU), distance(EPSILON)

    def crafted(members: str) -> None:
        spec = pgd_at(EPSILON, batch=size, view="eot", stop="never", engine={"members": members})
        craft(target, images, labels, range(size), spec, 0, quiet)

    def reference() -> None:
        noise = torch.Generator().manual_seed(0)
        expectation_pgd(masked, images, labels, epsilon, epsilon / 4, 20, noise)

    case = Case("PGD-20 on the expectation over six quarter-width PreActResNet-18", f"batch {size}", "an attack")
    work = {MASKED: reference, TOGETHER: lambda: crafted("together"), ONE_BY_ONE: lambda: crafted("one_by_one")}
    times = alternate(benchmark, case, work, 3, warm_up=False)
    for name in (ONE_BY_ONE, TOGETHER):
        record(results, benchmark, case, times, name, MASKED)


def _network(seed: int) -> torch.nn.Module:
    network = build(model_of("preact_resnet18", width=0.25))
    initialise(network, INIT, seed)
    return network
