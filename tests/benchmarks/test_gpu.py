"""On a GPU: images/s of a search step, its share of the measured matrix rate, and PGD-20 on ten thousand images."""

from __future__ import annotations

from statistics import median

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from rstbench.evaluation.craft import Target, craft
from rstbench.networks import build
from rstbench.networks.init import initialise
from rstbench.spec.training import Engine, SearchSpec
from rstbench.tickets.search import Scores
from rstbench.training import Run, generator
from tests.benchmarks.alternating import Case, Work, alternate, record, record_seconds, seconds
from tests.benchmarks.plain import PlainSearch
from tests.benchmarks.results import Results
from tests.benchmarks.subject import Subject, quiet
from tests.networks.specs import spec as model_of

pytestmark = pytest.mark.gpu

FORWARD_FLOP = 1.11e9
"""Of one image through a PreActResNet-18, convolutions only."""
STEP_FORWARDS = 17
"""PGD-7: seven forward passes and input gradients, one forward pass and one full backward pass."""
RATIO, LR = 0.2, 0.1
PRODUCT = 8192
"""Rows of the matrices whose product measures the matrix rate."""
ENGINES = {
    "fp32, same bits": Engine(),
    "bf16, channels_last": Engine(precision="bf16", layout="channels_last"),
    "bf16, channels_last, CUDA graphs": Engine(precision="bf16", layout="channels_last", compiler="cuda_graphs"),
    "bf16, channels_last, torch.compile": Engine(precision="bf16", layout="channels_last", compiler="inductor"),
}
SORTED = "mask sorted in every forward pass"


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


def _matrix_rate(device: torch.device) -> float:
    """FLOP/s of square bf16 matrix products, the median of nine: what a step is a share of."""
    one, other = (torch.randn(PRODUCT, PRODUCT, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        one @ other
    return 10 * 2 * PRODUCT**3 / median(seconds(lambda: [one @ other for _ in range(10)], device) for _ in range(9))


def _network(device: torch.device) -> torch.nn.Module:
    network = build(model_of("preact_resnet18"))
    initialise(network, "signed_kaiming_constant", 0)
    return network.to(device)


def _run(engine: Engine, device: torch.device) -> Run:
    spec = SearchSpec(engine=engine)
    return Run(Scores(_network(device), RATIO, "element", spec, 0), spec, 0, device)


def _batch(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    images, labels = torch.rand(size, 3, 32, 32, generator=random), torch.randint(10, (size,), generator=random)
    return images.to(device), labels.to(device)


@pytest.mark.parametrize("engine", list(ENGINES))
@pytest.mark.parametrize("size", [256, 512])
def test_search_step(benchmark: BenchmarkFixture, gpu_results: Results, size: int, engine: str) -> None:
    device = _device()
    rate = _matrix_rate(device)
    images, labels = _batch(size, device)
    run = _run(ENGINES[engine], device)
    plain = PlainSearch(_network(device), run.subject.variables, RATIO, SearchSpec())
    noise = torch.Generator(device).manual_seed(0)
    case = Case("Search step, PreActResNet-18, PGD-7", f"batch {size}", "a step", device)
    work: dict[str, Work] = {
        SORTED: lambda: plain.step(images, labels, noise),
        engine: lambda: run.step(images, labels, LR, generator(1)),  # compiles or captures in `alternate`'s warm-up
    }
    times = alternate(benchmark, case, work, rounds=9)
    speed = size / median(times.of[engine])
    share = speed * STEP_FORWARDS * FORWARD_FLOP / rate
    note = f"{speed:.0f} images/s, {100 * share:.0f} % of {rate / 1e12:.0f} TFLOP/s measured in bf16"
    record(gpu_results, benchmark, case, times, engine, SORTED, None, note)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_pgd20(benchmark: BenchmarkFixture, gpu_results: Results, subject: Subject, precision: str) -> None:
    device = _device()
    network = subject.network().to(device)
    # The subject's images again and again: the same share stands, whatever their number.
    images = subject.images.repeat(-(-10_000 // len(subject.images)), 1, 1, 1)[:10_000]
    labels = subject.labels.repeat(-(-10_000 // len(subject.labels)))[:10_000]
    spec = subject.pgd(batch=1000, engine={"precision": precision})

    def attack() -> None:
        craft(Target([network], 10, device), images, labels, range(len(images)), spec, 0, quiet)

    case = Case("PGD-20, PreActResNet-18", "10 000 images", "an attack", device)
    times = alternate(benchmark, case, {precision: attack}, rounds=5)
    found = record_seconds(gpu_results, benchmark, case, times, precision, 3.0 if precision == "bf16" else None)
    assert precision == "fp32" or found <= 3.0
