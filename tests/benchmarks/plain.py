"""The reference: what the published loops do, written plainly for these benchmarks.

The mask is made in every forward pass: scores copied, all of them sorted, 0 and 1 assigned by index, multiplied into
the weights, with the identity as its backward. Every step of every attack is a full backward pass, which computes
gradients of the scores that nobody asked for. An evaluation runs the whole batch until the end, also where nearly all
of it has fallen. No line is anybody's; what they do in which order is edge-popup's (Ramanujan et al. 2020) and its
adversarial descendants', including the paper's own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from rstbench.spec.base import distance
from rstbench.spec.training import SearchSpec
from rstbench.tickets.mask import maskable


class _Kept(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, ratio: float, stable: bool) -> Tensor:
        mask = scores.clone()
        order = scores.flatten().sort(stable=stable).indices
        dropped = int((1 - ratio) * scores.numel())
        flat = mask.flatten()  # a view: `mask` is contiguous
        flat[order[:dropped]] = 0
        flat[order[dropped:]] = 1
        return mask

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0], None, None


class MaskedNetwork(nn.Module):
    """A network whose mask is part of every forward pass.

    network: its weights are theta, and frozen here. scores: layer name -> tensor of the weight's shape. stable: break
    ties as rstbench does (the published code leaves them to an unstable sort, which is faster).
    """

    def __init__(self, network: nn.Module, scores: dict[str, Tensor], ratio: float, stable: bool = False) -> None:
        super().__init__()
        self.network, self.ratio, self.stable = network.requires_grad_(False), ratio, stable
        self.theta = {name: weight.detach() for name, weight in maskable(network).items()}
        self.scores = {name: each.detach().clone().requires_grad_(True) for name, each in scores.items()}

    def masks(self) -> dict[str, Tensor]:
        """0 and 1 in the shape of each layer's weight."""
        return {name: _Kept.apply(each.abs(), self.ratio, self.stable) for name, each in self.scores.items()}

    def forward(self, images: Tensor) -> Tensor:
        weights = {name: self.theta[name] * mask for name, mask in self.masks().items()}
        logits: Tensor = functional_call(self.network, weights, (images,))
        return logits


class AppliedMask(nn.Module):
    """The same network with masks that are known: what is left in a forward pass is their product with the weights.

    What a careful user of the published code would hand to an attack library.
    """

    def __init__(self, masked: MaskedNetwork) -> None:
        super().__init__()
        self.network, self.theta = masked.network, masked.theta
        self.mask = {name: mask.detach() for name, mask in masked.masks().items()}

    def forward(self, images: Tensor) -> Tensor:
        weights = {name: theta * self.mask[name] for name, theta in self.theta.items()}
        logits: Tensor = functional_call(self.network, weights, (images,))
        return logits


class PlainSearch:
    """The search step of the published code, under PGD or a single FGSM step from a random start."""

    def __init__(self, network: nn.Module, scores: dict[str, Tensor], ratio: float, spec: SearchSpec) -> None:
        self.masked, self.spec = MaskedNetwork(network, scores, ratio), spec
        self.optimiser = torch.optim.SGD(
            self.masked.scores.values(), lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay
        )

    def step(self, images: Tensor, labels: Tensor, noise: torch.Generator) -> None:
        """One optimiser step on images (N, C, H, W) in [0, 1]; batch norm in training mode throughout."""
        self.masked.train()
        inner = self.spec.inner.with_step_size()
        epsilon, size = distance(inner.epsilon), distance(inner.step_size or "0")
        steps = inner.steps if inner.kind == "pgd" else 1
        adversarial = _started(images, epsilon, noise)
        for _ in range(steps):
            adversarial = ascended(self.masked, adversarial, images, labels, epsilon, size)
        self.optimiser.zero_grad()
        functional.cross_entropy(self.masked(adversarial), labels, reduction="none").mean().backward()
        self.optimiser.step()


def _started(clean: Tensor, epsilon: float, noise: torch.Generator) -> Tensor:
    drawn = torch.rand(clean.shape, generator=noise, device=noise.device).to(clean.device)
    return (clean + (drawn * 2 - 1) * epsilon).clamp(0, 1)


def ascended(network: nn.Module, images: Tensor, clean: Tensor, labels: Tensor, epsilon: float, size: float) -> Tensor:
    """Images after one signed step within epsilon, by a full backward pass."""
    leaf = images.detach().requires_grad_(True)
    functional.cross_entropy(network(leaf), labels, reduction="sum").backward()
    assert leaf.grad is not None
    moved = leaf.detach() + size * leaf.grad.sign()
    return (clean + (moved - clean).clamp(-epsilon, epsilon)).clamp(0, 1)


def pgd(
    network: nn.Module, clean: Tensor, labels: Tensor, epsilon: float, size: float, steps: int, noise: torch.Generator
) -> Tensor:
    """PGD from a uniform start: the whole batch in every pass, and a step only where the label is still predicted."""
    images = _started(clean, epsilon, noise)
    for _ in range(steps):
        leaf = images.detach().requires_grad_(True)
        logits = network(leaf)
        functional.cross_entropy(logits, labels, reduction="sum").backward()
        assert leaf.grad is not None
        moved = leaf.detach() + size * leaf.grad.sign()
        moved = (clean + (moved - clean).clamp(-epsilon, epsilon)).clamp(0, 1)
        standing = logits.detach().argmax(1) == labels
        images = torch.where(standing.view(-1, 1, 1, 1), moved, images.detach())
    return images


def expectation_pgd(
    networks: list[MaskedNetwork],
    clean: Tensor,
    labels: Tensor,
    epsilon: float,
    size: float,
    steps: int,
    noise: torch.Generator,
) -> Tensor:
    """PGD on the mean loss of all networks, one full backward pass through each at every step."""
    images = _started(clean, epsilon, noise)
    for _ in range(steps):
        leaf = images.detach().requires_grad_(True)
        for network in networks:
            (functional.cross_entropy(network(leaf), labels, reduction="sum") / len(networks)).backward()
        assert leaf.grad is not None
        moved = leaf.detach() + size * leaf.grad.sign()
        images = (clean + (moved - clean).clamp(-epsilon, epsilon)).clamp(0, 1)
    return images
