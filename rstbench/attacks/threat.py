"""Threat models and the geometry of their balls. Distances in units of the pixel range [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Threat:
    """Images within `epsilon` of the clean one in `norm`, and in [0, 1].

    norm: "linf" or "l2" (over all pixels and channels of an image). epsilon: in units of the pixel range.
    """

    norm: str
    epsilon: float


def _flat_norm(delta: Tensor) -> Tensor:
    """(N, ...) -> (N, 1, ...): L2 norm of each image, broadcastable against it."""
    return delta.flatten(1).norm(dim=1).view(-1, *([1] * (delta.dim() - 1)))


def project(images: Tensor, clean: Tensor, threat: Threat) -> Tensor:
    """The images (N, ...) pulled back into the ball around `clean`, then into [0, 1].

    Clipping to [0, 1] moves every pixel towards the clean one, so it cannot leave either ball again.
    """
    delta = images - clean
    if threat.norm == "linf":
        delta = delta.clamp(-threat.epsilon, threat.epsilon)
    else:
        delta = delta * (threat.epsilon / _flat_norm(delta).clamp_min(1e-12)).clamp_max(1.0)
    return (clean + delta).clamp(0.0, 1.0)


def ascend(images: Tensor, gradient: Tensor, step_size: float, threat: Threat) -> Tensor:
    """One steepest-ascent step of length `step_size` in the norm; not projected. A zero gradient moves nothing."""
    if threat.norm == "linf":
        return images + step_size * gradient.sign()
    return images + step_size * gradient / _flat_norm(gradient).clamp_min(1e-12)


def random_start(clean: Tensor, threat: Threat, generator: torch.Generator) -> Tensor:
    """A uniform point of the ball around each clean image, clipped to [0, 1].

    Drawn on the CPU, so that the start is the same on every device. L2: a Gaussian direction, and a radius whose
    d-th power is uniform.
    """
    shape = clean.shape
    if threat.norm == "linf":
        noise = (torch.rand(shape, generator=generator, dtype=clean.dtype) * 2 - 1) * threat.epsilon
    else:
        noise = torch.randn(shape, generator=generator, dtype=clean.dtype)
        radius = torch.rand(shape[0], generator=generator, dtype=torch.float64) ** (1.0 / noise[0].numel())
        noise = noise / _flat_norm(noise).clamp_min(1e-12)
        noise = noise * (threat.epsilon * radius).to(clean.dtype).view(-1, *([1] * (clean.dim() - 1)))
    return (clean + noise.to(clean.device)).clamp(0.0, 1.0)


def distances(images: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """(linf, l2) distance of each image to its clean one, shapes (N,), computed in double precision."""
    delta = (images.double() - clean.double()).flatten(1)
    return delta.abs().amax(dim=1), delta.norm(dim=1)
