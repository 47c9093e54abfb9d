"""The attacks of other libraries, each at the settings of ours: (network, images, labels) -> images of that shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rstbench.compat import import_advertorch, import_autoattack

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
PACKAGE_NORMS = {"linf": "Linf", "l2": "L2"}


def advertorch(name: str, **settings: Any) -> Attack:
    """An attack of `advertorch.attacks` on the summed cross-entropy, which scales no image's gradient by others."""

    def attack(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        import_advertorch()
        from advertorch import attacks

        found: Tensor = getattr(attacks, name)(network, nn.CrossEntropyLoss(reduction="sum"), **settings).perturb(
            images, labels
        )
        return found

    return attack


def advertorch_cw(**settings: Any) -> Attack:
    def attack(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        import_advertorch()
        from advertorch.attacks import CarliniWagnerL2Attack

        found: Tensor = CarliniWagnerL2Attack(network, 10, **settings).perturb(images, labels)
        return found

    return attack


def foolbox(name: str, epsilon: float | None, **settings: Any) -> Attack:
    """An attack of `foolbox.attacks`; epsilon: None for a minimum-norm attack."""

    def attack(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        library = pytest.importorskip("foolbox", reason="needs foolbox: tox -e peers")
        model = library.PyTorchModel(network, bounds=(0, 1), device="cpu")
        found: Tensor = getattr(library.attacks, name)(**settings)(model, images, labels, epsilons=epsilon)[0]
        # Where its minimum-norm attacks find nothing, they hand in a black image, at any distance.
        black = found.flatten(1).abs().amax(dim=1) == 0
        return torch.where(black.view(-1, 1, 1, 1), images, found) if epsilon is None else found

    return attack


def adv_lib(name: str, **settings: Any) -> Attack:
    """An attack of `adv_lib.attacks`."""

    def attack(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        library = pytest.importorskip("adv_lib.attacks", reason="needs adv-lib: tox -e peers")
        found: Tensor = getattr(library, name)(network, images, labels, **settings)
        return found

    return attack


def adv_lib_apgd(norm: str, epsilon: float, loss: str) -> Attack:
    order = math.inf if norm == "linf" else 2
    return adv_lib("apgd", eps=epsilon, norm=order, n_iter=100, n_restarts=1, loss_function=loss)


def package_apgd(norm: str, epsilon: float, loss: str) -> Attack:
    def attack(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        found: Tensor = (
            import_autoattack()
            .autopgd_base.APGDAttack(
                network, n_iter=100, n_restarts=1, norm=PACKAGE_NORMS[norm], eps=epsilon, loss=loss, seed=0,
                device="cpu",
            )
            .perturb(images, labels)
        )  # fmt: skip
        return found

    return attack


def package_square(norm: str, epsilon: float, queries: int) -> Attack:
    """With the schedule scaled to the queries, as the paper has it; AutoAttack leaves it at 10 000."""

    def attack(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        found: Tensor = (
            import_autoattack()
            .square.SquareAttack(
                network, norm=PACKAGE_NORMS[norm], n_queries=queries, eps=epsilon, p_init=0.8, seed=0,
                resc_schedule=True, device="cpu",
            )
            .perturb(images, labels)
        )  # fmt: skip
        return found

    return attack
