"""What an attack hands back."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Found:
    """Adversarial images and what their making told. Nothing here is a verdict: that is the evaluation's.

    images: float32 (N, C, H, W) in [0, 1], on the device of the inputs.
    losses: (steps, N) float, the objective of each image before each step; NaN where an image was no longer stepped.
        None for an attack that follows no loss.
    queries: (N,) int64, how often a black-box attack asked about each image. None for any other attack.
    flags: reliability flags (`spec.flags.RELIABILITY`) that the attack itself raises.
    """

    images: Tensor
    losses: Tensor | None = None
    queries: Tensor | None = None
    flags: tuple[str, ...] = ()
