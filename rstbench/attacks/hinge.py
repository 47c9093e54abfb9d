"""Descent of the expected accuracy of a random switch, on hinged margins over subsets of its members."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, cycle, islice

import torch
from torch import Tensor

from rstbench.attacks.draws import Draws
from rstbench.attacks.found import Found
from rstbench.attacks.margin import margin
from rstbench.attacks.threat import Threat, ascend, project, random_start
from rstbench.defenses.view import input_gradient

Member = Callable[[Tensor], Tensor]

_HALVINGS = 6
_ALL_SETS = 10  # members up to which every set of them is tried
_TIE = 1e-9
_TINY = 1e-30


def hinge(
    members: Sequence[Member],
    probabilities: Sequence[float],
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    draws: Draws,
    steps: int,
    restarts: int,
    batch: int | None = None,
    confirm: bool = False,
) -> Found:
    """Adversarial images of the same shape as `inputs`, within `threat` and [0, 1], that lower the expected accuracy.

    members: maps from images (N, C, H, W) to logits (N, classes), differentiable. probabilities: of the members, as
    the defense draws them; a member that is never drawn is left out. inputs: float32 (N, C, H, W) in [0, 1]; labels:
    int64 (N,); draws: for starts only. batch: images worked on at once, of those that a restart is for; None: all.
    confirm: whether members answer in lower precision where a gradient is asked for. A member that errs by such an
    answer is then asked again without gradients, and errs only if that is wrong as well: what has fallen would be given
    up a rounding error too early.

    What a switch is judged by, sum_m p_m [member m is right], has no gradient. In its place stands the sum over members
    of min(margin, 0): a member that errs pulls no more, so that the others get all of the budget, where the mean loss
    keeps pushing those that are fooled already. Each member's gradient is scaled to dual norm one, so that margins
    count as distances to boundaries, whatever the scale of its logits. Where not all members can be fooled at once the
    sum is no guide to which, so restarts go through the sets of members, the likeliest first, each twice: once in steps
    of steepest ascent and once (l-infinity) along the gradient itself, which on few pixels ends nearer to the optimum;
    then again. The first starts at the clean image, the others at random points of the ball. Steps begin at 2 epsilon
    and are halved six times. A set that is no likelier than what is fooled already is passed over for that image. Kept
    is the image of the lowest expected accuracy on the way, the clean one among them.

    For two classes and linear members the sum is concave, and small ensembles fall to their optimum. Source: our own;
    it complements ARC (`attacks.arc`), which fools members one by one and misses some sets of three.
    """
    pairs = [(member, float(p)) for member, p in zip(members, probabilities, strict=True) if p > 0]
    weights = torch.tensor([p for _, p in pairs], dtype=torch.float64, device=inputs.device)
    best = inputs.clone()
    lowest = torch.full((len(inputs),), torch.inf, dtype=torch.float64, device=inputs.device)
    for restart, (subset, mass) in enumerate(islice(_subsets([p for _, p in pairs]), restarts)):
        # Where so much or more is fooled already, fooling this subset gains nothing.
        left = (lowest > 1 - mass + _TIE).nonzero().squeeze(1)
        size = batch or max(len(left), 1)
        for at in range(0, len(left), size):
            rows = left[at : at + size]
            clean, truth = inputs[rows], labels[rows]
            images = random_start(clean, threat, draws.rows(rows.cpu())) if restart > 0 else clean
            for number in range(steps + 1):
                right, ascent = _pull([member for member, _ in pairs], images, truth, subset, threat.norm, confirm)
                expected = weights @ right.double()
                better = expected < lowest[rows] - _TIE
                best[rows[better]], lowest[rows[better]] = images[better], expected[better]
                if number < steps:
                    step_size = 2 * threat.epsilon * 0.5 ** (_HALVINGS * number // steps)
                    images = project(_moved(images, ascent, step_size, threat, restart % 2 == 1), clean, threat)
    return Found(best)


def _subsets(weights: Sequence[float]) -> Iterator[tuple[set[int], float]]:
    """Sets of members with their probability, the likeliest first, each twice for two kinds of step; without end."""
    members = range(len(weights))
    # Of many members nobody tries all sets; the likeliest leave out few.
    smallest = 0 if len(weights) <= _ALL_SETS else len(weights) - 3
    found = [set(chosen) for size in members[smallest:] for chosen in combinations(members, size + 1)]
    found.sort(key=lambda subset: -round(sum(weights[m] for m in subset), 9))
    for chosen in cycle(found):
        mass = sum(weights[member] for member in chosen)
        yield from ((chosen, mass), (chosen, mass))


def _moved(images: Tensor, ascent: Tensor, step_size: float, threat: Threat, plain: bool) -> Tensor:
    """One step; plain: along the gradient itself, its largest entry `step_size`, and not along its sign."""
    if not plain or threat.norm != "linf":
        return ascend(images, ascent, step_size, threat)
    largest = ascent.flatten(1).abs().amax(dim=1).clamp_min(_TINY)
    return images + step_size * ascent / largest.view(-1, 1, 1, 1)


def _pull(
    members: Sequence[Member], images: Tensor, labels: Tensor, subset: set[int], norm: str, confirm: bool
) -> tuple[Tensor, Tensor]:
    """Which member is right, bool (members, N); and the sum of unit gradients over those of the subset that are."""
    ascent, right = torch.zeros_like(images), []
    for number, member in enumerate(members):
        gradient, _, logits = input_gradient(member, images, labels, margin)
        right.append(logits.argmax(1) == labels)
        if confirm and len(fallen := (~right[-1]).nonzero().squeeze(1)):
            with torch.no_grad():
                right[-1][fallen] = member(images[fallen]).argmax(1) == labels[fallen]
        if number not in subset:
            continue
        length = torch.linalg.vector_norm(gradient.flatten(1), ord=1 if norm == "linf" else 2, dim=1)
        weight = right[-1] / length.clamp_min(_TINY)
        ascent += gradient * weight.view(-1, 1, 1, 1)
    return torch.stack(right), ascent
