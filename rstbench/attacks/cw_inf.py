"""Carlini and Wagner's margin loss under l-infinity, in two forms: with a penalty, and projected to epsilon."""

from __future__ import annotations

import torch
from torch import Tensor

from rstbench.attacks.draws import Draws
from rstbench.attacks.found import Found
from rstbench.attacks.margin import margin
from rstbench.attacks.threat import Threat, ascend, project, random_start
from rstbench.defenses.view import View
from rstbench.errors import SpecError

SHRINK = 0.9
"""Factor of tau after an iterate without excess."""
CHECKS = 10
"""How often a run looks whether to abort."""
STAGES = 6
"""Of the bounded form: in each, steps are half as long as in the one before."""
_BELOW_ONE = 0.999999
_MEAN, _SQUARE, _TINY = 0.9, 0.999, 1e-8  # Adam's decay rates and its epsilon


def cw_inf_penalty(
    view: View,
    inputs: Tensor,
    labels: Tensor,
    *,
    tau: float,
    steps: int = 100,
    initial_const: float = 0.1,
    lr: float = 0.01,
) -> Found:
    """Images of the same shape as `inputs`, in [0, 1], that fool the view; the clean image where none was found.

    inputs: float32 (N, C, H, W) in [0, 1]; labels: int64 (N,); tau in units of the pixel range. Losses: None.

    The loop of the L2 attack (Carlini and Wagner 2017; AdverTorch's settings) with the distance replaced: Adam, on
    w of images (tanh(w) + 1) / 2, minimises initial_const * max(label's logit - greatest other, 0)
    + sum over pixels of max(|delta| - tau, 0), once, without a search for the constant. Whenever an image has no excess
    over its tau, that tau shrinks by 0.9, whether or not the image fools the view. Nothing projects to tau.
    Source: no library has this attack; these are the settings and the penalty of earlier published code of the paper's
    first author. It shrinks one tau once no image of the *batch* has any excess, and aborts on the batch's summed loss.

    Here every image has its own tau, its own abort and its own Adam state, so that regrouping images changes nothing
    but rounding; tau therefore falls faster. The same tenths of the run as in AdverTorch are looked at: an image whose
    loss has not fallen since the last look is stepped no further. Of the iterates that fool the view (an expectation:
    that fool every member) the one nearest in l-infinity is kept, the one at the abort included. The penalty's slope is
    1 at every pixel over tau, and beats the margin wherever initial_const times the margin's slope is below that. As
    tau shrinks from the first step on, and Adam moves a mid-grey pixel by lr / 2 a step, the two meet near 5/255
    for a tau of 8/255 and near 7/255 for one of 12/255: the form depends on its tau less than a projected attack does.
    """
    # AdverTorch's change of variables: pixels at 0 and 1 stay finite, and hardly move in 100 steps.
    w = torch.atanh((inputs * 2 - 1) * _BELOW_ONE)
    origin = (torch.tanh(w) + 1) / 2
    result, nearest = inputs.clone(), inputs.new_full((len(inputs),), torch.inf)
    # What follows is of the images that are still stepped; `rows` says which these are.
    rows = torch.arange(len(inputs), device=inputs.device)
    taus, before = inputs.new_full((len(inputs),), tau), inputs.new_full((len(inputs),), torch.inf)
    mean, square = torch.zeros_like(w), torch.zeros_like(w)
    for number in range(steps):
        squashed = torch.tanh(w)
        images = (squashed + 1) / 2
        step = view.step(images, labels, _shortfall)

        distance = (images - inputs[rows]).flatten(1).abs().amax(dim=1)
        nearer = ~step.standing & (distance < nearest[rows])
        result[rows[nearer]], nearest[rows[nearer]] = images[nearer], distance[nearer]

        delta = images - origin
        over = (delta.abs() - taus.view(-1, 1, 1, 1)).clamp_min(0.0)
        excess = over.flatten(1).sum(dim=1)
        slope = torch.where(over > 0, delta.sign(), 0.0) - initial_const * step.gradient
        gradient = slope * (1 - squashed**2) / 2
        mean = _MEAN * mean + (1 - _MEAN) * gradient
        square = _SQUARE * square + (1 - _SQUARE) * gradient**2
        scale = (square / (1 - _SQUARE ** (number + 1))).sqrt() + _TINY
        w = w - lr * mean / (1 - _MEAN ** (number + 1)) / scale
        taus = torch.where(excess > 0, taus, taus * SHRINK)

        if number % max(steps // CHECKS, 1) == 0:
            loss = excess - initial_const * step.loss
            going = ~(loss > before * _BELOW_ONE)
            live = (rows, labels, origin, w, mean, square, taus, loss)
            rows, labels, origin, w, mean, square, taus, before = (part[going] for part in live)
            if len(rows) == 0:
                break
    return Found(result)


def _shortfall(logits: Tensor, labels: Tensor) -> Tensor:
    # Behind the boundary there is nothing more to gain (confidence 0).
    return margin(logits, labels).clamp_max(0.0)


def cw_inf_bounded(
    view: View,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    draws: Draws,
    steps: int = 100,
    step_size: float,
) -> Found:
    """Images of the same shape as `inputs`, within `threat` and [0, 1]: of all iterates those of the greatest margin.

    inputs: float32 (N, C, H, W) in [0, 1]; labels: int64 (N,); step_size in units of the pixel range; draws: of which
    only the starts are drawn. Signed steps on the margin loss (greatest other logit minus the label's), from a uniform
    start, projected to epsilon after each; `step_size` is that of the first, and halves five times, after every sixth
    of the steps. The start and the last iterate are candidates too, so that there are steps + 1 forward and backward
    passes. An expectation's margin is the mean over its members: the iterate that is kept may fool fewer members than
    another. Losses: (steps, N), the margin.

    Source: PGD on the loss f_6 of Carlini and Wagner 2017, as Madry et al. 2018 (Section 5) run it. Ours are the
    schedule, which starts with steps across the ball so that an image is not bound to the rival it is nearest to at
    first (constant steps found smaller margins), and keeping the best iterate. On two-class linear models it ends in
    the optimal corner; with several classes in that of one rival, not always the best. Raises `SpecError` if the threat
    is not l-infinity.
    """
    if threat.norm != "linf":
        raise SpecError(f"CW-Inf takes signed steps, which are of the l-infinity norm; the threat's is {threat.norm}")
    images = best = random_start(inputs, threat, draws)
    losses = inputs.new_empty((steps, len(inputs)))
    greatest = inputs.new_full((len(inputs),), -torch.inf)
    for number in range(steps + 1):
        step = view.step(images, labels, margin)
        better = step.loss > greatest
        best = torch.where(better.view(-1, 1, 1, 1), images, best)
        greatest = torch.where(better, step.loss, greatest)
        if number < steps:
            losses[number] = step.loss
            size = step_size * 0.5 ** (number * STAGES // steps)
            images = project(ascend(images, step.gradient, size, threat), inputs, threat)
    return Found(best, losses)
