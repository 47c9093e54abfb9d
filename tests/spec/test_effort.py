from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rstbench.spec.effort import passes_per_image, training_passes
from rstbench.spec.training import InnerAttack, SearchSpec, TrainingSpec
from rstbench.training import generator, inner_images, training_loss
from rstbench.training.family import gather


class Counted(nn.Module):
    """Counts the images that pass forward, and those that pass back to the input or to the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.forwards = self.to_input = self.to_weights = 0

    def forward(self, images: Tensor) -> Tensor:
        self.forwards += len(images)
        if images.requires_grad:
            images.register_hook(lambda gradient: self._count("to_input", len(gradient)))
        logits: Tensor = self.layer(images.flatten(1))
        if self.layer.weight.requires_grad and logits.requires_grad:
            logits.register_hook(lambda gradient: self._count("to_weights", len(gradient)))
        return logits

    def _count(self, what: str, images: int) -> None:
        setattr(self, what, getattr(self, what) + images)


class Subject:
    """As much of a subject as gathering needs."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.variables: dict[str, Tensor] = {}

    def refresh(self) -> None:
        pass

    def collect_gradients(self) -> None:
        pass

    def require_gradients(self, on: bool) -> None:
        self.network.requires_grad_(on)

    def snapshot(self) -> dict[str, Tensor]:
        return {}


SPECS: list[dict[str, Any]] = [
    {},
    {"inner": InnerAttack(kind="none")},
    {"inner": InnerAttack(kind="fgsm_rs")},
    {"objective": "trades"},
    {"objective": "trades", "inner": InnerAttack(kind="fgsm_rs")},
]


@pytest.mark.parametrize("fields", SPECS)
def test_the_passes_of_a_step_are_those_that_are_made(fields: dict[str, Any]) -> None:
    training, network = TrainingSpec(**fields), Counted()
    images, labels = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    network.requires_grad_(False)
    adversarial = inner_images(network, images, labels, training.inner, generator(0), training.objective)
    network.requires_grad_(True)
    training_loss(network, images, adversarial, labels, training).backward()  # type: ignore[no-untyped-call]
    assert network.forwards + network.to_input + 2 * network.to_weights == 2 * passes_per_image(training)


@pytest.mark.parametrize("fields", SPECS)
def test_the_passes_of_a_family_include_its_statistics(fields: dict[str, Any]) -> None:
    family, alone = SearchSpec(family=(0.1, 0.2, 0.3), epochs=1, **fields), SearchSpec(epochs=1, **fields)
    network = Counted()
    gather(Subject(network), family, network, [(torch.rand(2, 1, 2, 2), torch.tensor([0, 1]), generator(0))])
    gathered = 3 * (network.forwards + network.to_input + network.to_weights)
    validation = 2 * alone.validation.steps + 1
    assert training_passes(alone, 2, 5) == 2 * passes_per_image(alone) + 5 * validation
    assert training_passes(family, 2, 5) == 2 * passes_per_image(alone) + 3 * 5 * validation + gathered
    rarely = family.model_copy(update={"epochs": 10, "validation": family.validation.model_copy(update={"every": 5})})
    assert training_passes(rarely, 2, 5) == 20 * passes_per_image(alone) + 2 * (15 * validation + gathered)
