"""PGD-20 of other libraries on the same plain network: masks and weights multiplied once, as their users would.

Weights need no gradient, which spares those libraries that would compute one. Same images, epsilon, step size, number
of steps and random start; each library in the batch that ours gets.
"""

from __future__ import annotations

from functools import partial
from statistics import median

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from rstbench.evaluation.craft import Target, craft
from rstbench.evaluation.judge import predict
from rstbench.evaluation.numerics import exact_fp32
from rstbench.spec.base import distance
from tests.benchmarks.alternating import Case, Work, alternate, record
from tests.benchmarks.results import Results
from tests.benchmarks.subject import Subject, quiet
from tests.peers import theirs

pytestmark = pytest.mark.peers

CPU = torch.device("cpu")
OURS, BF16, PLAIN_PATH, FASTEST = "fp32", "bf16", "our plain path", "the fastest of them"


def _torchattacks(epsilon: float, step: float) -> theirs.Attack:
    def attack(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        import torchattacks

        made = torchattacks.PGD(network, eps=epsilon, alpha=step, steps=20, random_start=True)
        found: Tensor = made(images, labels)
        return found

    return attack


def _peers(epsilon: float, step: float) -> dict[str, theirs.Attack]:
    return {
        "torchattacks": _torchattacks(epsilon, step),
        "advertorch": theirs.advertorch("LinfPGDAttack", eps=epsilon, nb_iter=20, eps_iter=step, rand_init=True),
        "foolbox": theirs.foolbox("LinfPGD", epsilon, abs_stepsize=step, steps=20, random_start=True),
        "adv-lib": theirs.adv_lib("pgd_linf", ε=epsilon, steps=20, random_init=True, absolute_step_size=step),
    }


def test_pgd20_of_others(benchmark: BenchmarkFixture, results: Results, subject: Subject) -> None:
    for library in ("torchattacks", "foolbox", "adv_lib"):
        pytest.importorskip(library, reason=f"needs {library}: tox -e bench-peers")
    network, images, labels = subject.network(), subject.images, subject.labels
    epsilon = distance(subject.epsilon)
    made: dict[str, Tensor] = {}
    attack: dict[str, list[float]] = {OURS: [], BF16: [], PLAIN_PATH: []}

    def ours(name: str, **engine: object) -> None:
        spec = subject.pgd(batch=len(images), engine=engine)
        found = craft(Target([network], 10, CPU), images, labels, range(len(images)), spec, 0, quiet)
        assert found.seconds is not None
        made[name] = found.images
        attack[name].append(found.seconds)

    def other(name: str, run: theirs.Attack) -> None:
        with torch.random.fork_rng(devices=[]), exact_fp32(CPU):
            torch.manual_seed(0)
            made[name] = run(network, images.clone(), labels.clone()).detach()

    peers = _peers(epsilon, epsilon / 4)
    case = Case("PGD-20, PreActResNet-18, plain network", f"{len(images)} images", "an attack")
    work: dict[str, Work] = {name: partial(other, name, run) for name, run in peers.items()}
    work[BF16] = partial(ours, BF16, precision="bf16")
    work[OURS] = partial(ours, OURS)
    times = alternate(benchmark, case, work, rounds=3, warm_up=False)
    for name in (OURS, BF16):  # without our reliability checks, which the others do not make
        times = times.beside(name, attack[name])
    ours(PLAIN_PATH, layout="contiguous", folding=False)
    right = {name: predict(network, each, len(images), quiet)[0] == labels for name, each in made.items()}
    notes = {
        name: f"{100 * float(each.double().mean()):.0f} % stand, "
        f"{int((each != right[PLAIN_PATH]).sum())} verdicts differ from our plain path"
        for name, each in right.items()
    }
    for name in peers:
        record(results, benchmark, case, times, OURS, name, None, f"{notes[OURS]}; theirs: {notes[name]}")
    fastest = min(peers, key=lambda name: median(times.of[name]))
    both = times.beside(FASTEST, times.of[fastest])
    record(results, benchmark, case, both, OURS, FASTEST, None, f"against {fastest}")
    found = record(results, benchmark, case, both, BF16, FASTEST, 2.0, f"against {fastest}; {notes[BF16]}")
    assert torch.equal(right[OURS], right[PLAIN_PATH])
    assert torch.equal(right[BF16], right[PLAIN_PATH])
    # From other starts other images fall, but not many more or fewer.
    for name in peers:
        assert abs(float(right[name].double().mean()) - float(right[OURS].double().mean())) <= 0.1, notes
    assert found >= 2.0
