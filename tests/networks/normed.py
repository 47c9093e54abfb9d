"""Networks with batch norm as training leaves it, and what they answer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rstbench.networks import build
from rstbench.networks.init import initialise
from tests.networks.specs import spec

IMAGENET = ("resnet18", "resnet50", "resnet101")
LABELS = torch.arange(4)


def network(family: str, seed: int = 0, side: int = 16, **changes: Any) -> nn.Module:
    """In training mode, with running statistics as training leaves them, and scales and shifts where there are some."""
    width = 0.25 if family in IMAGENET else 0.125
    module = build(spec(family, **({"width": width, "image_size": side} | changes)))
    initialise(module, "kaiming_normal", seed)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for norm in norms(module):
            norm.momentum = None
            if norm.affine:
                norm.weight.copy_(0.3 + 1.7 * torch.rand(norm.weight.shape, generator=random))
                norm.bias.copy_(torch.rand(norm.bias.shape, generator=random) - 0.5)
        module.train()(images(16, side))
    return module


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]


def images(count: int = 4, side: int = 16, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(9))


def answer(module: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and the gradient of the cross-entropy to the images."""
    leaf = inputs.clone().requires_grad_(True)
    logits = module(leaf)
    (gradient,) = torch.autograd.grad(functional.cross_entropy(logits, LABELS, reduction="sum"), leaf)
    return logits.detach(), gradient


def apart(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).detach().norm() / expected.detach().norm())
