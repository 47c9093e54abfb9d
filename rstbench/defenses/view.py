"""What an attack sees of a defense. An attack knows no network and no ticket: only a `View`.

A plain callable from images to logits is a view too: wrap it in `CallableView`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Criterion = Callable[[Tensor, Tensor], Tensor]
"""(logits (N, C), labels (N,)) -> loss (N,), to be maximised by the attacker."""


@dataclass(frozen=True)
class Step:
    """What a view tells about one batch: gradient of the mean objective of each image, and where it stands."""

    gradient: Tensor
    """(N, C, H, W), of the objective of each image to that image; detached."""
    loss: Tensor
    """(N,), the objective; detached."""
    standing: Tensor
    """(N,) bool: the view still predicts the label (for an expectation: at least one member does)."""


class View(Protocol):
    """What the adversary may compute with."""

    def logits(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] -> (N, classes)."""

    def step(self, images: Tensor, labels: Tensor, criterion: Criterion) -> Step:
        """Objective, its gradient to the images, and which images still stand."""


def input_gradient(
    forward: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, criterion: Criterion
) -> tuple[Tensor, Tensor, Tensor]:
    """One forward and one backward pass, to the images only: (gradient, loss, logits), all detached.

    The gradient is zero where the answer does not depend on the images: a broken defense, but not an error.
    """
    with torch.enable_grad():
        leaf = images.detach().requires_grad_(True)
        logits = forward(leaf)
        loss = criterion(logits, labels)
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(loss.sum(), leaf, allow_unused=True, materialize_grads=True)
        else:
            gradient = torch.zeros_like(leaf)
    return gradient.detach(), loss.detach(), logits.detach()


class CallableView:
    """A single differentiable prediction: `forward` maps images (N, C, H, W) in [0, 1] to logits (N, classes)."""

    def __init__(self, forward: Callable[[Tensor], Tensor]) -> None:
        self._forward = forward

    def logits(self, images: Tensor) -> Tensor:
        return self._forward(images)

    def step(self, images: Tensor, labels: Tensor, criterion: Criterion) -> Step:
        gradient, loss, logits = input_gradient(self._forward, images, labels, criterion)
        return Step(gradient, loss, logits.argmax(1) == labels)
