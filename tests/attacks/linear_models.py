"""Linear models in the middle of the pixel range, whose worst cases are known in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.attacks.networks import linear


@dataclass(frozen=True)
class Linear:
    """network: logits weight @ x + bias. inputs: (N, 1, 1, pixels), at least 0.3 from 0 and 1; labels as predicted."""

    network: nn.Module
    inputs: Tensor
    labels: Tensor
    weight: Tensor

    def margin_gradient(self) -> Tensor:
        """Of rival minus label to the image, (N, rivals, pixels), for every other class."""
        gap = self.weight.unsqueeze(0) - self.weight[self.labels].unsqueeze(1)
        others = torch.arange(len(self.weight)).unsqueeze(0) != self.labels.unsqueeze(1)
        return gap[others].view(len(self.inputs), -1, self.weight.shape[1])

    def margins(self, images: Tensor) -> Tensor:
        """Rival minus label, (N, rivals)."""
        logits = self.network(images)
        others = torch.arange(logits.shape[1]).unsqueeze(0) != self.labels.unsqueeze(1)
        return (logits - logits.gather(1, self.labels[:, None]))[others].view(len(images), -1)

    def dual_norm(self, norm: str) -> Tensor:
        """How much a ball of radius one in `norm` adds to each margin at most, (N, rivals)."""
        gap = self.margin_gradient()
        return gap.abs().sum(2) if norm == "linf" else gap.norm(dim=2)

    def optimum(self, norm: str, epsilon: float) -> Tensor:
        """The greatest margin within epsilon, (N,)."""
        return (self.margins(self.inputs) + epsilon * self.dual_norm(norm)).amax(1)

    def distance(self, norm: str) -> Tensor:
        """From each image to the decision boundary, (N,)."""
        return (-self.margins(self.inputs) / self.dual_norm(norm)).amin(1)


def linear_model(classes: int, count: int, pixels: int = 48, scale: float = 1.0, seed: int = 0) -> Linear:
    """Normal weights of standard deviation `scale`; the biases put every class in reach of the images."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, pixels, generator=generator) * scale
    inputs = 0.3 + 0.4 * torch.rand(count, 1, 1, pixels, generator=generator)
    network = linear(weight, -weight.sum(1) / 2)
    return Linear(network, inputs, network(inputs).argmax(1), weight)
