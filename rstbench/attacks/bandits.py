"""Bandits with time and data priors, black box, L-infinity and L2."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from rstbench.attacks.draws import Draws, handed
from rstbench.attacks.found import Found
from rstbench.attacks.threat import Threat, ascend, project
from rstbench.defenses.view import View
from rstbench.errors import SpecError

PUBLISHED_QUERIES = 10_000


def bandits(
    view: View,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    draws: Draws,
    queries: int,
    fd_eta: float,
    image_lr: float,
    online_lr: float,
    exploration: float,
    tile: int | None,
) -> Found:
    """Adversarial images of the same shape as `inputs`, within `threat` and [0, 1]; what each cost in queries.

    inputs: float32 (N, C, H, W) in [0, 1]; labels: int64 (N,); draws: one direction of exploration for each image and
    step. queries: asked about each image at most. fd_eta: L2 length of the finite differences, image_lr: step of the
    image in the threat's norm, both in units of the pixel range; online_lr: step of the prior; exploration: L2 length
    of what is added to the prior. tile: side, in pixels, of the square prior that is upsampled to the image (nearest
    neighbour); None: a prior as large as the image. Raises `SpecError` if the tile is larger than the image.

    An image that the view misclassifies is kept as it is and asked about no more, the clean one included; an image
    that is never misclassified comes back as the last step left it. `losses` is the cross-entropy before each step.

    Source: Ilyas, Engstrom and Madry, "Prior Convictions", ICLR 2019 (bandit optimisation with time and data priors);
    authors' published code, and its settings as defaults of the spec. One gradient estimate, of two queries, a step;
    the loss is the cross-entropy; query points are not clipped to [0, 1] (theirs neither). Deviations:

    - queries: every answer of the view counts. One for the clean image, and three a step: two for the gradient, one
      to see whether the new image fools. The authors count the two only, so their budget of 10 000 is ours of 15 000.
    - l-infinity: the prior is stored as the argument of a hyperbolic tangent, to which its exponentiated gradient
      simply adds. The same in exact arithmetic; theirs overflows on steep losses and sticks where it rounds to one.
    - losses are taken in double precision, and without subtracting numbers that are nearly equal: in fp32 the loss of
      an image that the model is sure of rounds to zero, and with it every difference.
    - a derivative that is not finite moves no prior. L2 projections clip to [0, 1] first (`threat.project`).

    Flag: reduced_budget below 10 000 queries.
    """
    if tile is not None and tile > min(inputs.shape[2:]):
        raise SpecError(
            f"bandits: `tile` is {tile}, but the images are {inputs.shape[2]} x {inputs.shape[3]} pixels; "
            "give a tile that is no larger, or none"
        )
    settings = _Settings(fd_eta, image_lr, online_lr, exploration)
    side = inputs.shape[1:] if tile is None else torch.Size((inputs.shape[1], tile, tile))
    flags = ("reduced_budget",) if queries < PUBLISHED_QUERIES else ()
    steps = max(queries - 1, 0) // 3
    images, asked = inputs.clone(), torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)
    losses = torch.full((steps, len(inputs)), torch.nan, device=inputs.device)
    if queries < 1 or len(inputs) == 0:
        return Found(images, losses, asked, flags)
    loss, standing = _asked(view, inputs, labels)
    asked += 1
    rows = standing.nonzero().squeeze(1)
    current = _State(inputs, inputs, labels, torch.zeros(len(inputs), *side, device=inputs.device)).rows(rows)
    loss, drawn = loss[rows], draws.rows(rows)
    noise = drawn.normal(side)
    for number in range(steps):
        if len(rows) == 0:
            break
        losses[number, rows] = loss.float()
        _update_prior(view, current, handed(noise, current.prior), threat, settings)
        towards = _upsampled(current.visible(threat), inputs.shape)
        current.images = project(ascend(current.images, towards, settings.image_lr, threat), current.clean, threat)
        loss, standing = _asked(view, current.images, current.labels)
        asked[rows] += 3
        images[rows] = current.images
        if number + 1 < steps:
            noise = drawn.normal(side)  # while a GPU still works on its answers
        still = standing.nonzero().squeeze(1)  # the one number of a step that a GPU is waited for
        if len(still) < len(rows):
            rows, loss, current = rows[still], loss[still], current.rows(still)
            kept = still.cpu()
            drawn, noise = drawn.rows(kept), noise[kept]
    return Found(images, losses, asked, flags)


@dataclass(frozen=True)
class _Settings:
    fd_eta: float
    image_lr: float
    online_lr: float
    exploration: float


@dataclass
class _State:
    """What is known of the images that still stand; `prior` (M, C, h, w) is that of the tangent for l-infinity."""

    images: Tensor
    clean: Tensor
    labels: Tensor
    prior: Tensor

    def visible(self, threat: Threat) -> Tensor:
        return self.prior.tanh() if threat.norm == "linf" else self.prior

    def rows(self, rows: Tensor) -> _State:
        return _State(self.images[rows], self.clean[rows], self.labels[rows], self.prior[rows])


def _update_prior(view: View, state: _State, drawn: Tensor, threat: Threat, settings: _Settings) -> None:
    noise = drawn * (settings.exploration / math.sqrt(math.prod(drawn.shape[1:])))
    prior = state.visible(threat)
    answers = []
    for point in (prior + noise, prior - noise):
        direction = _unit(_upsampled(point, state.images.shape))
        answers.append(_asked(view, state.images + settings.fd_eta * direction, state.labels)[0])
    derivative = (answers[0] - answers[1]) / (settings.fd_eta * settings.exploration)
    derivative = torch.where(derivative.isfinite(), derivative, 0.0)
    state.prior = state.prior + (settings.online_lr * derivative).to(noise).view(-1, 1, 1, 1) * noise


def _asked(view: View, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """One query about each image: its cross-entropy in double, and whether the view still predicts the label."""
    with torch.no_grad():
        logits = view.logits(images)
    standing = logits.argmax(1) == labels
    right = logits.double().gather(1, labels[:, None]).squeeze(1)
    wrong = logits.double().scatter(1, labels[:, None], -torch.inf).logsumexp(1)
    loss: Tensor = functional.softplus(wrong - right)
    return loss, standing


def _upsampled(prior: Tensor, shape: torch.Size) -> Tensor:
    if prior.shape[2:] == shape[2:]:
        return prior
    upsampled: Tensor = functional.interpolate(prior, size=tuple(shape[2:]), mode="nearest")
    return upsampled


def _unit(direction: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(direction.flatten(1), dim=1)
    unit: Tensor = direction / length.clamp_min(1e-12).view(-1, 1, 1, 1)
    return unit
