"""Signs that an attack on a model says little about it: cheap checks on one batch, and on the losses of an attack.

They raise flags of `spec.flags.RELIABILITY` and change no number. After AutoAttack's own checks (Croce and Hein 2020;
randomised output, softmax output, zero gradients) and the list of Carlini et al., "On Evaluating Adversarial
Robustness" (2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rstbench.attacks.margin import margin
from rstbench.attacks.pgd import cross_entropy
from rstbench.defenses.view import Criterion, View
from rstbench.evaluation.batches import out_of_memory

RANDOMISED = 1e-5
"""Difference between answers to two equal queries, relative to the largest logit. Equal batches give equal bits on most
devices; kernels that add in no fixed order differ by some 1e-7."""
SUMS_TO_ONE = 1e-5
"""How far the sum of a row of probabilities may be from one."""
CONSTANT = 1e-6
"""Spread of each logit over the images, relative to the largest logit, up to which an output is constant."""
VANISHING = 0.02
"""Share of the images still classified right from which on vanishing gradients are flagged: not a single one of 64."""
NOT_RISING = 0.5
"""Share of the traced images from which on losses that do not rise are flagged."""


def probe(view: View, images: Tensor, labels: Tensor, *, deterministic: bool) -> tuple[str, ...]:
    """Flags that one batch raises, in the order of the table. Two queries and two gradients; nothing is drawn.

    images: float32 (N, C, H, W) in [0, 1] on the view's device, some 64 to 256 clean ones (for those that an attack
    found there is `constant_output`). labels: int64 (N,). deterministic: whether the attacks to come take the view for
    deterministic; only then randomness is a flag, and without, one query is enough.

    - randomised_output: two equal queries differ by more than 1e-5 of the largest logit, on any image.
    - zero_gradients: on at least 2 % of the images that the view still gets right the gradient of the cross-entropy is
      exactly zero, or that of the margin loss is (`vanishing_gradients` tells which); or there is no gradient at all.
    - softmax_output: no entry below zero, and every row sums to one within 1e-5.
    - constant_output: all images get the same logits, within 1e-6 of the largest; needs two images that differ.
    """
    if len(images) == 0:
        return ()
    with torch.no_grad():
        # Infinite entries, of logarithms of probabilities, have no differences.
        logits = torch.nan_to_num(view.logits(images), 0.0, 0.0, 0.0)
        again = torch.nan_to_num(view.logits(images), 0.0, 0.0, 0.0) if deterministic else logits
    largest = float(logits.abs().max())
    flags = []
    if float((again - logits).abs().max()) > RANDOMISED * largest:
        flags.append("randomised_output")
    if max(vanishing_gradients(view, images, labels)) >= VANISHING:
        flags.append("zero_gradients")
    if float(logits.min()) >= 0 and float((logits.sum(1) - 1).abs().max()) <= SUMS_TO_ONE:
        flags.append("softmax_output")
    return (*flags, *_constant(images, logits, largest))


def constant_output(view: View, images: Tensor) -> tuple[str, ...]:
    """`probe`'s flag constant_output alone, for one query: a detector shows on attacked images only."""
    if len(images) == 0:
        return ()
    with torch.no_grad():
        logits = torch.nan_to_num(view.logits(images), 0.0, 0.0, 0.0)
    return _constant(images, logits, float(logits.abs().max()))


def _constant(images: Tensor, logits: Tensor, largest: float) -> tuple[str, ...]:
    differ = bool((images != images[:1]).any())
    constant = differ and float((logits.amax(0) - logits.amin(0)).max()) <= CONSTANT * largest
    return ("constant_output",) if constant else ()


def vanishing_gradients(view: View, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Share of the images still classified right on which a gradient is exactly zero: (cross-entropy, margin loss).

    images: (N, C, H, W); labels: int64 (N,). Zero cross-entropy gradients with a margin that has some are those of
    saturated logits: in fp32 the probability of the label is one, and the rest underflows. Margin losses then still
    see. Zeros of both are those of a model through which no gradient comes: (1.0, 1.0) where autograd has none. A
    gradient that is not a number counts as vanished. (0.0, 0.0) where nothing is classified right.
    """
    return _share(view, images, labels, cross_entropy), _share(view, images, labels, margin)


def _share(view: View, images: Tensor, labels: Tensor, criterion: Criterion) -> float:
    try:
        step = view.step(images, labels, criterion)
    except RuntimeError as error:
        # Logits were computed before without gradients, so what fails here is the way back.
        if out_of_memory(error):
            raise
        return 1.0
    standing = int(step.standing.sum())
    gradient = torch.nan_to_num(step.gradient.flatten(1), nan=0.0)
    vanished = (gradient == 0).all(1) & step.standing
    return int(vanished.sum()) / standing if standing else 0.0


def trace_flags(losses: Tensor, standing: Tensor) -> tuple[str, ...]:
    """Flags that the losses of an attack raise.

    losses: (steps, N), the objective of each image before each step, to be maximised; NaN where it was not stepped.
    standing: (N,) bool, whether the image was classified right before the attack; the others do not count.

    - loss_not_rising: on at least half of the images that count and have two finite entries or more, the last one is
      not above the first. A budget of zero raises it, too.
    """
    rising = Rising()
    rising.add(losses, standing)
    return rising.flags()


@dataclass
class Rising:
    """`trace_flags` of many batches: counts, so that their losses need not be kept."""

    traced: int = 0
    risen: int = 0

    def add(self, losses: Tensor, standing: Tensor) -> None:
        """The losses (steps, N) of another batch, and (N,) which of its images stood before the attack."""
        finite = losses.isfinite()
        traced = standing.to(losses.device) & (finite.sum(0) >= 2)
        losses, finite = losses[:, traced], finite[:, traced]
        if losses.numel() == 0:
            return
        steps = torch.arange(len(losses), device=losses.device)[:, None]
        first = torch.where(finite, steps, len(losses)).amin(0)
        last = torch.where(finite, steps, -1).amax(0)
        images = torch.arange(losses.shape[1], device=losses.device)
        self.traced += losses.shape[1]
        self.risen += int((losses[last, images] > losses[first, images]).sum())

    def flags(self) -> tuple[str, ...]:
        """Those of all batches together."""
        fallen = self.traced - self.risen
        return ("loss_not_rising",) if self.traced and fallen >= NOT_RISING * self.traced else ()
