"""Threat models and the geometry of their balls. Distances in units of the pixel range [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rstbench.attacks.draws import Draws


@dataclass(frozen=True)
class Threat:
    """Images within `epsilon` of the clean one in `norm`, and in [0, 1].

    norm: "linf" or "l2" (over all pixels and channels of an image). epsilon: in units of the pixel range.
    """

    norm: str
    epsilon: float


def _flat_norm(delta: Tensor) -> Tensor:
    """(N, ...) -> (N, 1, ...): L2 norm of each image, broadcastable against it."""
    norms: Tensor = torch.linalg.vector_norm(delta.flatten(1), dim=1)
    return norms.view(-1, *([1] * (delta.dim() - 1)))


def project(images: Tensor, clean: Tensor, threat: Threat) -> Tensor:
    """The images (N, ...) pulled back into the ball around `clean` and into [0, 1].

    L2: into [0, 1] first, as AdverTorch does, so that what clipping takes is not taken from the budget; shrinking the
    difference to an image in [0, 1] cannot leave that range again. For l-infinity the order makes no difference.
    """
    if threat.norm == "linf":
        delta = (images - clean).clamp(-threat.epsilon, threat.epsilon)
    else:
        delta = images.clamp(0.0, 1.0) - clean
        delta = delta * (threat.epsilon / _flat_norm(delta).clamp_min(1e-12)).clamp_max(1.0)
    return (clean + delta).clamp(0.0, 1.0)


def ascend(images: Tensor, gradient: Tensor, step_size: float, threat: Threat) -> Tensor:
    """One steepest-ascent step of length `step_size` in the norm; not projected. A zero gradient moves nothing.

    However small a gradient is (of a network that is very sure of itself), the step has its full length: the squares
    of its entries would underflow, so it is scaled by its largest entry first.
    """
    if threat.norm == "linf":
        return images + step_size * gradient.sign()
    largest = gradient.flatten(1).abs().amax(dim=1).view(-1, *([1] * (gradient.dim() - 1)))
    direction = gradient / largest.clamp_min(torch.finfo(gradient.dtype).tiny)
    return images + step_size * direction / _flat_norm(direction).clamp_min(1e-12)


def random_start(clean: Tensor, threat: Threat, draws: Draws) -> Tensor:
    """A uniform point of the ball around each clean image (N, C, H, W), clipped to [0, 1]; of one draw for each image.

    L2: a Gaussian direction, and a radius whose d-th power is uniform.
    """
    shape = clean.shape[1:]
    if threat.norm == "linf":
        noise = (draws.uniform(shape) * 2 - 1) * threat.epsilon
    else:
        noise = draws.normal(shape)
        radius = draws.uniform(()).double() ** (1.0 / math.prod(shape))
        noise = noise / _flat_norm(noise).clamp_min(1e-12)
        noise = noise * (threat.epsilon * radius).float().view(-1, *([1] * len(shape)))
    return (clean + noise.to(clean.device, clean.dtype)).clamp(0.0, 1.0)


def distances(images: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """(linf, l2) distance of each image to its clean one, shapes (N,), computed in double precision."""
    delta = (images.double() - clean.double()).flatten(1)
    return delta.abs().amax(dim=1), torch.linalg.vector_norm(delta, dim=1)
