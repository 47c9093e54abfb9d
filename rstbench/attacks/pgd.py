"""Projected gradient descent, L-infinity and L2."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rstbench.attacks.draws import Draws
from rstbench.attacks.found import Found
from rstbench.attacks.threat import Threat, ascend, project, random_start
from rstbench.defenses.view import View


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each image, (N, C), (N,) -> (N,)."""
    return functional.cross_entropy(logits, labels, reduction="none")


def pgd(
    view: View,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    draws: Draws,
    step_size: float,
    steps: int,
    restarts: int = 1,
    start: str = "uniform",
    stop: str = "never",
) -> Found:
    """Adversarial images of the same shape as `inputs`, within `threat` and [0, 1], and the losses of the last restart.

    inputs: float32 (N, C, H, W) in [0, 1]; labels: int64 (N,); step_size in units of the pixel range;
    draws: of which only the starts are drawn.
    start: "uniform" in the ball, or "zero". stop: "never" takes every step with every image; "source_fooled"
    leaves an image where the view first misclassifies it. Of several restarts, the image of the highest loss is kept,
    which with many classes may be one that fools nobody while another does (authors' code).

    Source: Madry et al. 2018; `stop="source_fooled"` is what the authors of the paper run (they step only the images
    that are still classified right). An image that stopped is dropped from the batch, which is exact up to the
    rounding of another batch size: it would not have been stepped again. So `inputs` may be far more than a batch, of a
    view that cuts them (`evaluation.batches.InParts`): what is left is then asked about in full batches.
    """
    best: Tensor | None = None
    best_loss = losses = torch.empty(0)
    for _ in range(restarts):
        images = random_start(inputs, threat, draws) if start == "uniform" else inputs.clone()
        images, losses = _ascent(view, images, inputs, labels, threat, step_size, steps, stop)
        if restarts == 1:
            return Found(images, losses)
        loss = view.step(images, labels, cross_entropy).loss
        if best is None:
            best, best_loss = images, loss
        else:
            better = loss > best_loss
            best[better], best_loss[better] = images[better], loss[better]
    return Found(inputs.clone() if best is None else best, losses)


def _ascent(
    view: View, images: Tensor, clean: Tensor, labels: Tensor, threat: Threat, step_size: float, steps: int, stop: str
) -> tuple[Tensor, Tensor]:
    """The images after all steps, and the losses (steps, N) before each; NaN where an image had stopped."""
    losses = torch.full((steps, len(images)), torch.nan, device=images.device)
    if stop == "never":
        for number in range(steps):
            step = view.step(images, labels, cross_entropy)
            losses[number] = step.loss
            images = project(ascend(images, step.gradient, step_size, threat), clean, threat)
        return images, losses
    result = images.clone()
    rows = torch.arange(len(images), device=images.device)
    for number in range(steps):
        step = view.step(images, labels, cross_entropy)
        losses[number, rows] = step.loss
        gradient = step.gradient
        still = step.standing.nonzero().squeeze(1)  # the one number of a step that a GPU is waited for
        if len(still) < len(rows):
            result[rows] = images
            rows, images, clean, labels, gradient = (part[still] for part in (rows, images, clean, labels, gradient))
            if len(rows) == 0:
                return result, losses
        images = project(ascend(images, gradient, step_size, threat), clean, threat)
    result[rows] = images
    return result, losses
