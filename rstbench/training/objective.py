"""What one step minimises, and at which learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from rstbench.attacks.draws import Draws, Shared
from rstbench.attacks.pgd import cross_entropy, pgd
from rstbench.attacks.threat import Threat
from rstbench.defenses.view import CallableView, Criterion, Step
from rstbench.spec.base import distance
from rstbench.spec.training import InnerAttack, LrSchedule, TrainingSpec


def learning_rate(base: float, schedule: LrSchedule, position: float, epochs: int) -> float:
    """Learning rate at `position`, in epochs since the start (fractional within an epoch).

    multistep falls at whole epochs, cosine at every step (to zero at the end), after a linear warm-up.
    """
    if position < schedule.warmup_epochs:
        return base * position / schedule.warmup_epochs
    if schedule.kind == "multistep":
        return base * schedule.factor ** sum(position >= milestone for milestone in schedule.milestones)
    if schedule.kind == "cosine":
        done = (position - schedule.warmup_epochs) / max(epochs - schedule.warmup_epochs, 1e-12)
        return base * 0.5 * (1.0 + math.cos(math.pi * done))
    return base


def divergence(logits: Tensor, target: Tensor) -> Tensor:
    """KL divergence of each image, (N, C), (N, C) -> (N,): of the predictions of `logits` from those of `target`."""
    predictions = logits.log_softmax(1), target.log_softmax(1)
    return functional.kl_div(*predictions, reduction="none", log_target=True).sum(1)


class _DivergenceView(CallableView):
    """What TRADES maximises: the divergence from fixed predictions, whatever criterion an attack brings."""

    def __init__(self, forward: Callable[[Tensor], Tensor], target: Tensor) -> None:
        super().__init__(forward)
        self._target = target

    def step(self, images: Tensor, labels: Tensor, criterion: Criterion) -> Step:
        return super().step(images, labels, lambda logits, _: divergence(logits, self._target))


def inner_images(
    forward: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    inner: InnerAttack,
    noise: torch.Generator | Draws,
    objective: str = "ce",
) -> Tensor:
    """Adversarial training images (N, C, H, W): the inner maximisation of Eq. 1. `kind="none"` returns `images`.

    noise: what a uniform start is drawn from. objective: "ce" maximises the cross-entropy of the labels; "trades" the
    divergence from the predictions on `images`, which take one more forward pass, in the same mode of batch norm.
    """
    if inner.kind == "none":
        return images
    step_size = inner.with_step_size().step_size
    view = CallableView(forward)
    if objective == "trades":
        with torch.no_grad():
            view = _DivergenceView(forward, forward(images))
    return pgd(
        view,
        images,
        labels,
        threat=Threat("linf", distance(inner.epsilon)),
        draws=Shared(noise, len(images)) if isinstance(noise, torch.Generator) else noise,
        step_size=distance(step_size or "0"),
        steps=inner.steps if inner.kind == "pgd" else 1,
        start="zero" if inner.kind == "fgsm" else "uniform",
    ).images


def training_loss(
    forward: Callable[[Tensor], Tensor], images: Tensor, adversarial: Tensor, labels: Tensor, spec: TrainingSpec
) -> Tensor:
    """What a step minimises, a mean over images (N, C, H, W) and their adversarial counterparts; scalar.

    "ce": cross-entropy on the adversarial images (paper, Eq. 1). "trades": cross-entropy on the clean ones plus
    `trades_beta` times the divergence of the predictions on the adversarial ones from those on the clean ones (Zhang et
    al. 2019, Eq. 5), with gradients through both, as its authors' code has it. Deviations from that code: batch norm is
    in the mode `inner_bn` inside the inner maximisation (theirs: evaluation), the start is that of the inner attack
    (theirs: normal noise of 0.001).
    """
    if spec.objective == "ce":
        return cross_entropy(forward(adversarial), labels).mean()
    clean = forward(images)
    return cross_entropy(clean, labels).mean() + spec.trades_beta * divergence(forward(adversarial), clean).mean()
