"""Carlini and Wagner's minimum-norm attack in L2, as AdverTorch implements it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rstbench.attacks.found import Found
from rstbench.compat import import_advertorch
from rstbench.defenses.view import View

_LEAST = -1000.0


def cw_l2(
    view: View,
    inputs: Tensor,
    labels: Tensor,
    *,
    classes: int,
    confidence: float = 0.0,
    binary_search_steps: int = 1,
    iterations: int = 100,
    initial_const: float = 0.1,
    lr: float = 0.01,
    abort_early: bool = True,
) -> Found:
    """Images of the same shape as `inputs`, in [0, 1], that fool the view; the clean image where none was found.

    inputs: float32 (N, C, H, W) in [0, 1]; labels: int64 (N,), below `classes`, the number of logits (at least 2).
    Defaults: what the paper runs. Only `view.logits` is asked; the parameters behind it collect no gradients. Of all
    iterates that fool the view, each image keeps the one nearest in L2. Nothing bounds its distance.

    Source: Carlini and Wagner 2017, Section VI-A, through `advertorch.attacks.CarliniWagnerL2Attack` 0.2.3, with its
    habits:
    - With confidence 0 it rests on the decision boundary: another numerical batch may undo a success by its rounding.
    - `abort_early` looks at the *sum* of the batch's losses, ten times a search step, and ends the search step for the
      whole batch once that has not fallen; so with it a distance may depend on which images share a batch, and an image
      that was found in the very iteration of the abort is lost. Without it each image goes its own way; with one search
      step it is then found at the same distance or nearer, at several times the cost. A sum above 1e6 (saturated
      logits) aborts at once: AdverTorch's starting value.
    - It takes rivals' logits below -10000 for -10000; here such logits are shifted, which is the one thing amended.
    - A pixel at 0 or 1 hardly moves in 100 iterations: it starts at atanh(0.999999) = 7.25, and goes 0.01 a step.
    """
    import_advertorch()
    from advertorch.attacks import CarliniWagnerL2Attack

    attack = CarliniWagnerL2Attack(
        lambda images: _ImagesOnly.apply(images, view),
        classes,
        confidence=confidence,
        learning_rate=lr,
        binary_search_steps=binary_search_steps,
        max_iterations=iterations,
        abort_early=abort_early,
        initial_const=initial_const,
        clip_min=0.0,
        clip_max=1.0,
    )
    with torch.enable_grad():
        # AdverTorch flattens images with `view`, which refuses the layout channels_last.
        images: Tensor = attack.perturb(inputs.contiguous(), labels)
    return Found(images.detach().clamp(0.0, 1.0))


class _ImagesOnly(torch.autograd.Function):
    """The view's logits, whose backward pass ends at the images.

    AdverTorch calls `backward`, which would leave gradients in the parameters of whatever network stands behind.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, view: View) -> Tensor:
        with torch.enable_grad():
            ctx.leaf = images.detach().requires_grad_(True)
            ctx.logits = view.logits(ctx.leaf).float()
        logits: Tensor = ctx.logits.detach()
        # AdverTorch leaves the label out of the rivals by 10000 off its own; logits below that would win against it.
        # What is added to all logits of an image alike changes neither its margin nor its class.
        least = logits.amin(dim=1, keepdim=True)
        return torch.where(least < _LEAST, logits - least, logits)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        if not ctx.logits.requires_grad:  # a defense whose answer does not depend on the image
            return torch.zeros_like(ctx.leaf), None
        (gradient,) = torch.autograd.grad(ctx.logits, ctx.leaf, gradients[0], allow_unused=True, materialize_grads=True)
        return gradient, None
