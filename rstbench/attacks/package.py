"""What every use of the AutoAttack package needs: its random numbers kept apart, its warnings caught."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from rstbench.defenses.view import View

NORMS = {"linf": "Linf", "l2": "L2"}


@contextmanager
def own_generator(seed: int) -> Iterator[None]:
    """torch's global generators seeded for the block, and afterwards as they were: the package draws from no other."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed)
        yield


def seed_of(seed: int, *parts: object) -> int:
    """A seed for one part of a run, in [0, 2^63)."""
    text = "/".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


class Warnings:
    """Stands where the package logs, and counts its warnings."""

    def __init__(self) -> None:
        self.count = 0

    def warning(self, message: str) -> None:
        """Count a warning; what it says is told by who was given this."""
        self.count += 1

    def taken(self) -> bool:
        """Whether there were any since this was last asked."""
        count, self.count = self.count, 0
        return count > 0


class Logits:
    """The view's logits as a model that the package can ask, attack and differentiate.

    Gradients go to the images and to nothing else: FAB calls `backward`, which would otherwise leave gradients in the
    weights of whoever's network it attacks. An answer that does not depend on the images has gradient zero. The
    package writes into logits, so it gets a copy. Not differentiable twice.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._classes = 0

    def __call__(self, images: Tensor) -> Tensor:
        if len(images) == 0:
            return images.new_zeros(0, self._classes)
        if torch.is_grad_enabled() and images.requires_grad:
            logits: Tensor = _ToImages.apply(images, self._view)
        else:
            logits = self._view.logits(images).clone()
        self._classes = logits.shape[1]
        return logits


class _ToImages(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, view: View) -> Tensor:
        with torch.enable_grad():
            leaf = images.detach().requires_grad_(True)
            logits = view.logits(leaf)
        ctx.leaf, ctx.logits = leaf, logits
        return logits.detach().clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, None]:
        if not ctx.logits.requires_grad:
            return torch.zeros_like(ctx.leaf), None
        (gradient,) = torch.autograd.grad(ctx.logits, ctx.leaf, outer, allow_unused=True, materialize_grads=True)
        del ctx.logits
        return gradient, None
