"""A training problem of milliseconds: 8x8 images of one channel whose classes differ in brightness."""

from __future__ import annotations

from typing import Any

import torch

from rstbench.networks import build
from rstbench.networks.init import initialise
from rstbench.spec.training import SearchSpec
from rstbench.tickets.search import Scores
from rstbench.training import Outcome, Run, Subject, TrainingData, Weights
from tests.networks.specs import digits

CPU = torch.device("cpu")


def images(count: int, seed: int = 0, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    noise = torch.randint(0, 60, (count, 1, 8, 8), generator=random)
    return (noise + 80 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels


def data(count: int = 40, held_out: int = 9) -> TrainingData:
    return TrainingData(*images(count), *images(held_out, seed=1))


def settings(**changes: Any) -> SearchSpec:
    fields: dict[str, Any] = {
        "epochs": 3,
        "batch": 12,
        "lr_schedule": {"milestones": (2,)},
        "inner": {"kind": "fgsm_rs"},
        "validation": {"steps": 2},
        "augmentation": {"padding": 1},
    }
    return SearchSpec(**(fields | changes))


def subject(kind: str = "scores", seed: int = 0) -> Subject:
    network = build(digits("preact_resnet10", width=0.0625, classes=3))
    initialise(network, "signed_kaiming_constant", seed)
    return Weights(network) if kind == "weights" else Scores(network, 0.5, "element", SearchSpec(), seed)


class Memory:
    """Saved state in memory."""

    def __init__(self, state: bytes | None = None) -> None:
        self.state = state
        self.saves = 0

    def load(self) -> bytes | None:
        return self.state

    def save(self, data: bytes) -> None:
        self.state = data
        self.saves += 1


class Notes:
    """What progress was told; raises `Killed` at step `kill_at`."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at = kill_at
        self.told: list[tuple[float, float, str]] = []

    def __call__(self, done: float, total: float, note: str) -> None:
        self.told.append((done, total, note))
        if done == self.kill_at:
            raise Killed


class Killed(Exception):
    """The run was interrupted here."""


def run(spec: SearchSpec, kind: str = "scores", seed: int = 0) -> Run:
    return Run(subject(kind), spec, seed, CPU)


def train(
    spec: SearchSpec, kind: str = "scores", saved: bytes | None = None, on: TrainingData | None = None
) -> Outcome:
    return run(spec, kind).train(on or data(), Memory(saved), Notes())


def same(one: Outcome, other: Outcome) -> bool:
    """Equal to the last bit."""
    facts = [(outcome.best_epoch, outcome.best_accuracy, outcome.history) for outcome in (one, other)]
    tensors = [{f"{part}/{name}": value for part in ("last", "best") for name, value in getattr(outcome, part).items()}
               for outcome in (one, other)]  # fmt: skip
    return (
        facts[0] == facts[1]
        and tensors[0].keys() == tensors[1].keys()
        and all(torch.equal(value, tensors[1][name]) for name, value in tensors[0].items())
    )
