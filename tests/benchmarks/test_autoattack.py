"""AutoAttack through the adapter beside the package itself, both at the same settings below the published ones."""

from __future__ import annotations

import logging

import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from rstbench.compat import import_autoattack
from rstbench.evaluation.craft import Target, craft
from rstbench.evaluation.numerics import exact_fp32
from rstbench.spec.attacks import AutoAttackSpec
from rstbench.spec.base import distance
from rstbench.spec.budgets import written_out
from rstbench.training import derive_seed
from tests.benchmarks.alternating import Case, Times, alternate, record, seconds
from tests.benchmarks.plain import AppliedMask
from tests.benchmarks.results import Results
from tests.benchmarks.subject import Subject, quiet

CPU = torch.device("cpu")
IMAGES, STEPS, QUERIES = 8, 2, 30
ROUNDS = 3
PACKAGE, APPLIED = "the package on the same module", "the package on a module that multiplies its masks in"
MASKED = "the package on the masked module, timed once"
SAME, FAST = "adapter, plain network", "adapter, folded and channels_last"


def test_autoattack(benchmark: BenchmarkFixture, results: Results, subject: Subject) -> None:
    images, labels = subject.images[:IMAGES], subject.labels[:IMAGES]
    network, applied = subject.network(), AppliedMask(subject.masked()).eval()
    made: dict[str, Tensor] = {}
    attack: dict[str, list[float]] = {SAME: [], FAST: []}

    def adapted(name: str, **engine: object) -> None:
        spec = AutoAttackSpec.model_validate(
            {
                "kind": "autoattack", "epsilon": subject.epsilon, "steps": STEPS, "square_queries": QUERIES,
                "batch": IMAGES, "engine": engine,
            }
        )  # fmt: skip
        target = Target([network], 10, CPU)
        full = written_out(spec, False, 32, True)
        found = craft(target, images, labels, range(IMAGES), full, 0, quiet)
        assert found.seconds is not None
        made[name] = found.images
        attack[name].append(found.seconds)

    def package(name: str, module: nn.Module) -> None:
        whole = import_autoattack().AutoAttack(
            module, norm="Linf", eps=distance(subject.epsilon), seed=derive_seed(0, "autoattack") % 2**32,
            version="standard", device="cpu",
        )  # fmt: skip
        whole.logger.setLevel(logging.WARNING)
        base = import_autoattack().autopgd_base  # what its steps decide besides is computed when it is made
        fewer = {"n_iter": STEPS, "norm": "Linf", "eps": whole.epsilon, "seed": whole.seed, "logger": whole.logger}
        whole.apgd = base.APGDAttack(module, **fewer, rho=0.75, device="cpu")
        whole.apgd_targeted = base.APGDAttack_targeted(module, **fewer, rho=0.75, device="cpu")
        whole.fab.n_iter, whole.square.n_queries = STEPS, QUERIES
        with torch.random.fork_rng(devices=[]), exact_fp32(CPU):
            torch.manual_seed(0)
            made[name], _ = whole.run_standard_evaluation(images, labels, batch_size=IMAGES)

    case = Case("AutoAttack, PreActResNet-18", f"{IMAGES} images, {STEPS} steps, {QUERIES} queries", "an attack")
    times = alternate(
        benchmark,
        case,
        {
            APPLIED: lambda: package(APPLIED, applied),
            FAST: lambda: adapted(FAST),
            PACKAGE: lambda: package(PACKAGE, network),
            SAME: lambda: adapted(SAME, layout="contiguous", folding=False),
        },
        rounds=ROUNDS,
        warm_up=False,
    )
    assert torch.equal(made[SAME], made[PACKAGE]), "the two do not do the same"
    # Without what `craft` does around any attack, which does not grow with steps and queries and so is nothing beside
    # the published ones.
    once = seconds(lambda: package(MASKED, subject.masked()))  # minutes: a sort of all scores in every pass
    times = Times({APPLIED: times.of[APPLIED], PACKAGE: times.of[PACKAGE], MASKED: [once] * ROUNDS, **attack})
    overhead = record(results, benchmark, case, times, SAME, PACKAGE, 1 / 1.03)
    faster = record(results, benchmark, case, times, FAST, MASKED, 1.3)
    record(results, benchmark, case, times, FAST, APPLIED)
    record(results, benchmark, case, times, FAST, PACKAGE)
    assert overhead >= 1 / 1.03
    assert faster >= 1.3
