"""Small networks that attacks are tried on."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def small_net(classes: int = 5, channels: int = 3, seed: int = 1) -> nn.Sequential:
    """A convolutional network with batch norm in evaluation mode, and weights that need no gradient."""
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, classes),
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
        network[1].running_mean.copy_(torch.randn(8, generator=generator))
        network[1].running_var.copy_(torch.rand(8, generator=generator) + 0.5)
    return network.eval().requires_grad_(False)


def images(count: int, channels: int = 3, side: int = 8, seed: int = 2) -> Tensor:
    """Uniform pixels in [0, 1], (N, C, H, W)."""
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed))


def linear(weight: Tensor, bias: Tensor) -> nn.Module:
    """Logits weight @ x + bias; weight (classes, pixels)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False)
