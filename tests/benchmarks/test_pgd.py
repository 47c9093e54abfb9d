"""PGD-20 on a network of which about half stands: what an evaluation spends most of its time on."""

from __future__ import annotations

import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from rstbench.evaluation.craft import Target, craft
from rstbench.evaluation.judge import predict
from rstbench.spec.attacks import CraftedSpec
from rstbench.spec.base import distance
from tests.benchmarks.alternating import Case, Times, alternate, record
from tests.benchmarks.plain import pgd
from tests.benchmarks.results import Results
from tests.benchmarks.subject import Subject, quiet

CPU = torch.device("cpu")
MASKED, PLAIN_PATH, BF16, OURS = "mask sorted in every pass, whole batch", "our plain path", "bf16", "fp32"
CHECKED = "fp32, with reliability checks"


def test_pgd20(benchmark: BenchmarkFixture, results: Results, subject: Subject) -> None:
    network, masked = subject.network(), subject.masked()
    images, labels = subject.images, subject.labels
    made: dict[str, Tensor] = {}
    attack: dict[str, list[float]] = {PLAIN_PATH: [], BF16: [], OURS: []}

    def crafted(name: str, spec: CraftedSpec) -> None:
        target = Target([network], 10, CPU)
        found = craft(target, images, labels, range(len(images)), spec, 0, quiet)
        assert found.seconds is not None
        made[name] = found.images
        attack[name].append(found.seconds)

    def reference() -> None:
        epsilon, noise = distance(subject.epsilon), torch.Generator().manual_seed(0)
        made[MASKED] = pgd(masked, images, labels, epsilon, epsilon / 4, 20, noise)

    exact = subject.pgd(batch=len(images))
    bf16 = subject.pgd(batch=len(images), engine={"precision": "bf16"})
    plain = subject.pgd(batch=len(images), engine={"layout": "contiguous", "folding": False})
    standing = f"{len(images)} images, all classified right at first"
    case = Case("PGD-20, PreActResNet-18", standing, "an attack")
    times = alternate(
        benchmark,
        case,
        {
            MASKED: reference,
            PLAIN_PATH: lambda: crafted(PLAIN_PATH, plain),
            BF16: lambda: crafted(BF16, bf16),
            OURS: lambda: crafted(OURS, exact),
        },
        rounds=3,
        warm_up=False,
    )
    # The checks look at the first 64 images, whatever the size of the data set; here they would look at most.
    whole, times = times, Times({MASKED: times.of[MASKED], **attack})
    right = {name: predict(network, each, len(images), quiet)[0] == labels for name, each in made.items()}
    differ = {name: int((each != right[PLAIN_PATH]).sum()) for name, each in right.items()}
    notes = {
        name: f"{100 * float(each.double().mean()):.0f} % stand, {differ[name]} verdicts differ from our plain path"
        for name, each in right.items()
    }
    record(results, benchmark, case, times, OURS, MASKED, None, notes[OURS])
    found = record(results, benchmark, case, times, BF16, MASKED, 7.0, notes[BF16])
    record(results, benchmark, case, times, PLAIN_PATH, MASKED, None, f"reference: {notes[MASKED]}")
    record(results, benchmark, case, times, OURS, PLAIN_PATH)
    record(results, benchmark, case, times.beside(CHECKED, whole.of[OURS]), CHECKED, MASKED)
    assert 0.2 < float(right[PLAIN_PATH].double().mean()) < 0.8, "epsilon is not the one at which half stand"
    assert differ[OURS] == differ[BF16] == 0
    assert found >= 7.0
