"""Inside an epoch the host asks for no value of the device, so that it can work ahead of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rstbench.data.tensors import delivered
from rstbench.spec.training import SearchSpec
from rstbench.tickets.search import Scores
from rstbench.training import Run, Subject, TrainingData, Weights, generator
from tests.training.problem import CPU, Memory, Notes, data, images, settings, subject
from tests.training.tape import waits

META = torch.device("meta")
"""A device without values: whatever asks for one fails."""

SPECS = [
    {"inner": {"kind": "pgd", "steps": 2}},
    {"inner": {"kind": "fgsm_rs"}, "objective": "trades", "augmentation": {"padding": 2, "flip": True}},
    {"inner": {"kind": "fgsm"}, "inner_bn": "eval", "engine": {"precision": "bf16", "layout": "channels_last"}},
]


class Waiting(TorchDispatchMode):
    """Notes what the host waits for, while it may not."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = False
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if waits(func, args) and not self.allowed:
            self.seen.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def _may_wait(mode: Waiting, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        before, mode.allowed = mode.allowed, True
        try:
            return function(*args)
        finally:
            mode.allowed = before

    return call


@pytest.mark.parametrize("changes", SPECS)
@pytest.mark.parametrize("kind", ["scores", "weights"])
def test_an_epoch_waits_for_no_value(kind: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(subject(kind), settings(epochs=2, **changes), 0, CPU)
    mode = Waiting()
    for name in ("_end_of_epoch", "_check_finite", "_save"):
        monkeypatch.setattr(run, name, _may_wait(mode, getattr(run, name)))
    # Its loss is read where the epoch ends, and there alone.
    monkeypatch.setattr("rstbench.training.run.float", _may_wait(mode, float), raising=False)
    memory = Memory()
    with mode:
        run.train(data(60), memory, Notes(), save_every_s=1e9)
    assert mode.seen == []
    assert memory.saves == 2  # at the ends of epochs


def test_the_watch_sees_what_waits() -> None:
    values = torch.arange(4.0)
    for wait in (
        lambda: values.sum().item(),
        lambda: bool(values.isfinite().all()),
        lambda: values[values > 1],
        lambda: values.nonzero(),
        lambda: values.equal(values),
    ):
        with Waiting() as mode:
            wait()
        assert len(mode.seen) == 1


def _on(device: torch.device, kind: str) -> Subject:
    network = subject(kind).network.to(device)
    return Weights(network) if kind == "weights" else Scores(network, 0.5, "element", SearchSpec(), 0)


@pytest.mark.parametrize("changes", SPECS[:2])
@pytest.mark.parametrize("kind", ["scores", "weights"])
def test_a_step_runs_where_there_are_no_values(kind: str, changes: dict[str, Any]) -> None:
    """The paths of other devices than a CPU, selection of masks among them."""
    run = Run(_on(META, kind), settings(**changes), 0, META)
    batch = torch.rand(12, 1, 8, 8, device=META)
    loss = run.step(batch, torch.zeros(12, dtype=torch.int64, device=META), 0.1, generator(0))
    assert loss.shape == () and loss.device.type == "meta"


def test_numbers_are_delivered_to_where_they_are_wanted() -> None:
    values = torch.arange(3)
    assert delivered(values, CPU) is values  # and are not copied where they are
    assert delivered(values, META).device == META


class Strict:
    """Progress that lets the device be waited for in the first step, which sets libraries up, and after the last."""

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self, done: float, total: float, note: str) -> None:
        self.steps += 1
        torch.cuda.set_sync_debug_mode("error" if done < total - 1 else "default")


@pytest.mark.gpu
@pytest.mark.parametrize("changes", [*SPECS, {"engine": {"compiler": "cuda_graphs"}}])
@pytest.mark.parametrize("kind", ["scores", "weights"])
def test_a_gpu_is_not_waited_for(kind: str, changes: dict[str, Any]) -> None:
    device = torch.device("cuda")
    on_device = TrainingData(*(part.to(device) for part in (*images(120), *images(9, seed=1))))
    strict = Strict()
    try:
        Run(_on(device, kind), settings(epochs=1, **changes), 0, device).train(
            on_device, Memory(), strict, save_every_s=1e9
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert strict.steps == 10
