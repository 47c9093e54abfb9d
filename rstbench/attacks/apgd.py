"""Auto-PGD, L-infinity and L2, on the cross-entropy or the difference of logits ratio."""

from __future__ import annotations

import torch
from torch import Tensor

from rstbench.attacks.draws import Draws
from rstbench.attacks.found import Found
from rstbench.attacks.margin import margin
from rstbench.attacks.package import NORMS, own_generator
from rstbench.attacks.pgd import cross_entropy
from rstbench.attacks.threat import Threat
from rstbench.compat import import_autoattack
from rstbench.defenses.view import Criterion, View

PUBLISHED_STEPS = 100
_SMALL = 1e-6  # the package adds 1e-12 to the length of a gradient before it divides by it


def apgd(
    view: View,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    draws: Draws,
    loss: str = "ce",
    steps: int = PUBLISHED_STEPS,
    restarts: int = 1,
    keep: str = "fooling",
) -> Found:
    """Adversarial images of the shape of `inputs`, within `threat` and [0, 1], and the losses of the last restart.

    inputs: float32 (N, C, H, W) in [0, 1]; labels: int64 (N,); draws: of which only the starts are drawn.
    loss: "ce" or "dlr". keep: "fooling" returns for each image the last one that fooled the view, or the one of the
    highest loss where none did (never the clean one); "best_loss" the one of the highest loss in any case. Of several
    restarts the best is kept: one that fools before one that does not, then the higher loss. `steps` + 1 gradients
    per restart. losses: (steps, N), the loss at the point where each step begins, before the attack falls back to its
    best point where it does.

    Source: Croce and Hein 2020 (Algorithm 1; DLR: Eq. 6), run by their package, `APGDAttack.attack_single_run` with
    the published momentum (0.75), rho (0.75), first step (2 epsilon) and checkpoints. Deviations from its `perturb`:

    - every image takes every step of every restart; the package leaves out an image that is misclassified on its
      first query or fooled by an earlier restart, which for a view that answers at random is luck;
    - loss, gradient and standing come from `view.step`, so that under an expectation the objective is the expected
      loss, and an image counts as fooled where no member is right any more;
    - starts have the package's distribution (max-norm sphere of a uniform draw; L2 sphere of a normal one), but each
      image draws from its own generator;
    - a gradient below 1e-6 everywhere is scaled up first: the package's L2 step would shrink with it and vanish;
    - DLR needs three classes. With two, it is replaced by the margin itself, of which the cross-entropy is then a
      monotone function, but one that saturates.

    Flags: zero_gradients, if at the start of a restart the gradient of an image that still stands is exactly zero
    (the package's own check, which it makes for DLR only); few_classes, if DLR was replaced; reduced_budget below
    100 steps.
    """
    flags = {"reduced_budget"} if steps < PUBLISHED_STEPS else set()
    if len(inputs) == 0:
        return Found(inputs.clone(), torch.zeros(steps, 0, device=inputs.device), flags=tuple(sorted(flags)))
    clean = inputs.contiguous()
    kept: tuple[Tensor, Tensor, Tensor] | None = None
    losses = torch.empty(0)
    for number in range(restarts):
        queries = _Queries(view)
        attack = import_autoattack().autopgd_base.APGDAttack(
            queries, n_iter=steps, norm=NORMS[threat.norm], eps=threat.epsilon, rho=0.75, eot_iter=1,
            device=inputs.device, is_tf_model=True,
        )  # fmt: skip
        queries.criterion = cross_entropy if loss == "ce" else _dlr(attack.dlr_loss, flags)
        attack.init_hyperparam(clean)
        with own_generator(number):  # it draws a start of its own before it takes ours
            best, stood, highest, last_fooling = attack.attack_single_run(clean, labels, _start(clean, threat, draws))
        trace, standing = torch.stack(queries.losses), torch.stack(queries.standing)
        losses = trace[:steps]
        if queries.blind:
            flags.add("zero_gradients")
        found, fooled = best, torch.zeros_like(stood)
        if keep == "fooling":
            found, fooled = torch.where(_wide(stood, clean), best, last_fooling), ~stood
            highest = torch.where(stood, highest, trace.gather(0, _last(~standing)[None])[0])
        if kept is None:
            kept = found, fooled, highest
        else:
            better = (fooled & ~kept[1]) | ((fooled == kept[1]) & (highest > kept[2]))
            kept = (
                torch.where(_wide(better, clean), found, kept[0]),
                torch.where(better, fooled, kept[1]),
                torch.where(better, highest, kept[2]),
            )
    return Found(inputs.clone() if kept is None else kept[0].detach(), losses, flags=tuple(sorted(flags)))


class _Queries:
    """What the package asks for loss and gradient where the model brings its own; it keeps what the view answered."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.criterion: Criterion = cross_entropy
        self.losses: list[Tensor] = []
        self.standing: list[Tensor] = []
        self.blind = False

    def get_logits_loss_grad_xent(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        step = self._view.step(images.detach(), labels, self.criterion)
        largest = step.gradient.flatten(1).abs().amax(dim=1)
        if not self.losses:
            self.blind = bool(((largest == 0) & step.standing).any())
        scale = torch.where((largest > 0) & (largest < _SMALL), largest, 1.0)
        self.losses.append(step.loss)
        self.standing.append(step.standing)
        return _votes(step.standing, labels), step.loss, step.gradient / _wide(scale, images)


def _dlr(dlr: Criterion, flags: set[str]) -> Criterion:
    def criterion(logits: Tensor, labels: Tensor) -> Tensor:
        if logits.shape[1] >= 3:
            return dlr(logits, labels)
        flags.add("few_classes")
        return margin(logits, labels)

    return criterion


def _votes(standing: Tensor, labels: Tensor) -> Tensor:
    """Stand-ins for logits, whose largest is at the label exactly where the image stands: all the package reads."""
    votes = torch.zeros(len(labels), int(labels.max()) + 2, device=labels.device)
    return votes.scatter_(1, torch.where(standing, labels, labels + 1)[:, None], 1.0)


def _start(clean: Tensor, threat: Threat, draws: Draws) -> Tensor:
    shape = clean.shape[1:]
    if threat.norm == "linf":
        noise = draws.uniform(shape) * 2 - 1
        length = noise.flatten(1).abs().amax(dim=1)
    else:
        noise = draws.normal(shape)
        length = noise.flatten(1).norm(dim=1)
    noise = (noise / (_wide(length, noise) + 1e-12)).to(clean.device)
    return (clean + threat.epsilon * noise).clamp(0.0, 1.0)


def _last(true: Tensor) -> Tensor:
    """Index of the last True in each column of (steps, N); 0 where there is none."""
    places = torch.arange(len(true), device=true.device)[:, None]
    return (places * true).amax(dim=0)


def _wide(values: Tensor, images: Tensor) -> Tensor:
    return values.view(-1, *([1] * (images.dim() - 1)))
