"""Layers that the families share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rstbench.errors import SpecError
from rstbench.networks.spec import ModelSpec


class Normalise(nn.Module):
    """(x - mean) / std per channel; x is (N, C, H, W) in [0, 1].

    Mean and std are buffers, so they follow the module to its device, but not part of the state: they belong to
    the spec, and a checkpoint holds only what was learned or gathered.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self._values = (mean, std)
        self.register_buffer("mean", torch.empty(1, len(mean), 1, 1), persistent=False)
        self.register_buffer("std", torch.empty(1, len(std), 1, 1), persistent=False)
        self.reset()

    def reset(self) -> None:
        """Write mean and std again, as after building on the meta device."""
        for buffer, values in zip((self.mean, self.std), self._values, strict=True):
            buffer.copy_(torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std

    def extra_repr(self) -> str:
        return f"mean={self._values[0]}, std={self._values[1]}"


class Classifier(nn.Conv2d):
    """The last layer as a 1x1 convolution over pooled features: (N, F, 1, 1) to logits (N, classes)."""

    def __init__(self, features: int, classes: int, bias: bool) -> None:
        super().__init__(features, classes, kernel_size=1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).flatten(1)


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution with padding 1, without bias."""
    return nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)


def conv1x1(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """1x1 convolution without bias, as in projection shortcuts."""
    return nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False)


def batch_norm(channels: int, spec: ModelSpec, last: bool = False) -> nn.BatchNorm2d:
    """Batch norm that tracks running statistics, with scale and shift only if the spec says so.

    last: it is the one that the network calls `last_norm`.
    """
    affine = spec.bn_affine or (last and spec.last_bn_affine)
    return nn.BatchNorm2d(channels, affine=affine, track_running_stats=True)


def last_batch_norm(network: nn.Module) -> str:
    """Name of the batch norm that is nearest the classifier on the main path, as the network declares it.

    Raises `SpecError` if the network declares none, or the one it declares has no scale and shift.
    """
    name = getattr(network, "last_norm", None)
    if not isinstance(name, str):
        raise SpecError(f"a {type(network).__name__} does not say which batch norm is its last; only ours do")
    if getattr(network.get_submodule(name), "weight", None) is None:
        raise SpecError(f"the last batch norm ({name}) has no scale and shift; build it with last_bn_affine")
    return name
