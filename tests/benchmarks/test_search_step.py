"""One optimiser step of a ticket search, PGD-7, on a full-width PreActResNet-18 and CIFAR-sized images."""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from rstbench.networks import build
from rstbench.networks.init import initialise
from rstbench.spec.training import Engine, SearchSpec
from rstbench.tickets.search import Scores
from rstbench.training import Run, generator
from tests.benchmarks.alternating import Case, alternate, record
from tests.benchmarks.plain import PlainSearch
from tests.benchmarks.results import Results
from tests.networks.specs import spec as model_of

CPU = torch.device("cpu")
LR, RATIO = 0.1, 0.2
FLOORS = {16: (5.0, 8.0), 64: (2.3, 4.5), 256: (1.5, 2.5)}
ROUNDS = {16: 5, 64: 3, 256: 2}


def _run(engine: Engine) -> Run:
    network = build(model_of("preact_resnet18"))
    initialise(network, "signed_kaiming_constant", 0)
    spec = SearchSpec(engine=engine)
    return Run(Scores(network, RATIO, "element", spec, 0), spec, 0, CPU)


def _plain(run: Run) -> PlainSearch:
    network = build(model_of("preact_resnet18"))
    initialise(network, "signed_kaiming_constant", 0)
    return PlainSearch(network, run.subject.variables, RATIO, SearchSpec())


def _batch(size: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.rand(size, 3, 32, 32, generator=random), torch.randint(10, (size,), generator=random)


@pytest.mark.parametrize("size", list(FLOORS))
def test_search_step(benchmark: BenchmarkFixture, results: Results, size: int) -> None:
    exact, fast = _run(Engine()), _run(Engine(precision="bf16", layout="channels_last"))
    plain = _plain(exact)
    images, labels = _batch(size)
    # The first step warms both up and shows that they do the same; ties are broken alike in this one.
    plain.masked.stable = True
    exact.step(images, labels, LR, generator(0))
    plain.step(images, labels, generator(0))
    for name, scores in exact.subject.variables.items():
        assert scores.detach().numpy().tobytes() == plain.masked.scores[name].detach().numpy().tobytes(), name
    plain.masked.stable = False
    fast.step(images[:16], labels[:16], LR, generator(0))
    case = Case("Search step, PreActResNet-18, PGD-7", f"batch {size}", "a step")
    times = alternate(
        benchmark,
        case,
        {
            "mask sorted in every forward pass": lambda: plain.step(images, labels, generator(1)),
            "bf16, channels_last": lambda: fast.step(images, labels, LR, generator(1)),
            "fp32, same bits": lambda: exact.step(images, labels, LR, generator(1)),
        },
        ROUNDS[size],
        warm_up=False,
    )
    floors = dict(zip(("fp32, same bits", "bf16, channels_last"), FLOORS[size], strict=True))
    reference = "mask sorted in every forward pass"
    found = {name: record(results, benchmark, case, times, name, reference, floor) for name, floor in floors.items()}
    assert all(found[name] >= floor for name, floor in floors.items()), found
