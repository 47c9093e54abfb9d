"""Steps that are recorded once and replayed; on a CPU through a stand-in for CUDA graphs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rstbench.data.tensors import as_float
from rstbench.errors import DeviceError
from rstbench.networks import build
from rstbench.networks.init import initialise
from rstbench.spec.training import SearchSpec
from rstbench.tickets.family import search_subject
from rstbench.training import Run, Weights, generator
from rstbench.training.recorded import Recorded
from tests.networks.specs import digits
from tests.training.problem import CPU, Killed, Memory, Notes, data, images, same, settings
from tests.training.tape import Recorder

GRAPHS = {"engine": {"compiler": "cuda_graphs"}}


def _run(spec: SearchSpec, kind: str, record: Recorder | None = None, device: torch.device = CPU) -> Run:
    network = build(digits("preact_resnet10", width=0.0625, classes=3, last_bn_affine=spec.last_bn_affine))
    initialise(network, "signed_kaiming_constant", 0)
    mine = Weights(network) if kind == "weights" else search_subject(network, 0.5, "element", spec, 0)
    return Run(mine, spec, 0, device, record)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("scores", {"inner": {"kind": "pgd", "steps": 2}}),
        ("scores", {"inner": {"kind": "fgsm"}, "last_bn_affine": True}),
        ("scores", {"inner": {"kind": "none"}}),
        ("scores", {"inner": {"kind": "pgd", "steps": 2}, "objective": "trades"}),
        ("scores", {"inner_bn": "eval", "family": (0.2, 0.5)}),
        ("weights", {"inner": {"kind": "fgsm_rs"}}),
        ("weights", {"inner": {"kind": "fgsm_rs"}, "objective": "trades"}),
    ],
)
def test_recorded_steps_have_the_bits_of_those_that_are_not(kind: str, changes: dict[str, Any]) -> None:
    record = Recorder()
    plain, recorded = _run(settings(**changes), kind), _run(settings(**changes, **GRAPHS), kind, record)
    for number in range(4):
        batch, labels = images(12, seed=number)
        losses = [
            run.step(as_float(batch), labels, 0.1 / (number + 1), generator("step", number))
            for run in (plain, recorded)
        ]
        assert torch.equal(*losses)
    assert (record.recorded, record.replayed) == (1, 4)
    theirs = plain.subject.variables
    assert all(torch.equal(value, theirs[name]) for name, value in recorded.subject.variables.items())
    buffers = dict(plain.subject.network.named_buffers())
    assert all(torch.equal(value, buffers[name]) for name, value in recorded.subject.network.named_buffers())


@pytest.mark.parametrize("kind", ["scores", "weights"])
def test_so_it_is_in_a_whole_run_in_bfloat16_with_validation(kind: str) -> None:
    record = Recorder()
    engine = {"precision": "bf16", "layout": "channels_last"}
    expected = _run(settings(engine=engine), kind).train(data(), Memory(), Notes())
    spec = settings(engine={**engine, "compiler": "cuda_graphs"})
    assert same(_run(spec, kind, record).train(data(), Memory(), Notes()), expected)
    assert (record.recorded, record.replayed) == (1, 9)


def test_a_recorded_run_that_was_killed_goes_on_with_the_same_bits() -> None:
    spec, memory = settings(**GRAPHS), Memory()
    with pytest.raises(Killed):
        _run(spec, "scores", Recorder()).train(data(), memory, Notes(kill_at=5))
    resumed = _run(spec, "scores", Recorder()).train(data(), Memory(memory.state), Notes())
    assert same(resumed, _run(settings(), "scores").train(data(), Memory(), Notes()))


def test_other_shapes_are_recorded_anew() -> None:
    record = Recorder()
    total = torch.zeros(())

    def add(one: Tensor, other: Tensor) -> Tensor:
        total.add_(one.sum())
        return one + other

    function = Recorded(add, lambda: [total], record)
    for count in (2, 3, 3, 2):
        found = function(torch.full((count,), 1.0), torch.full((count,), 2.0))
        assert torch.equal(found, torch.full((count,), 3.0))
    assert (record.recorded, record.replayed) == (3, 4)
    assert total == 10  # what was run before a recording left nothing


def test_a_cpu_has_no_cuda_graphs() -> None:
    with pytest.raises(DeviceError, match="cuda_graphs needs a GPU, and this run is on cpu; ask for none or inductor"):
        _run(settings(**GRAPHS), "scores")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["scores", "weights"])
def test_a_gpus_recorded_steps_have_the_bits_of_those_that_are_not(kind: str) -> None:
    device = torch.device("cuda")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        changes = {"inner": {"kind": "pgd", "steps": 2}}
        runs = [_run(settings(**changes, **extra), kind, device=device) for extra in ({}, GRAPHS)]
        for number in range(3):
            batch, labels = images(12, seed=number)
            losses = [
                run.step(as_float(batch.to(device)), labels.to(device), 0.1, generator("step", number)) for run in runs
            ]
            assert torch.equal(*losses)
    finally:
        torch.use_deterministic_algorithms(False)
    theirs = runs[0].subject.variables
    assert all(torch.equal(value, theirs[name]) for name, value in runs[1].subject.variables.items())
