"""ARC, the attack on randomised ensembles of Dbouk and Shanbhag (2022)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rstbench.attacks.found import Found
from rstbench.attacks.threat import Threat, project

Member = Callable[[Tensor], Tensor]


def arc(
    members: Sequence[Member],
    probabilities: Sequence[float],
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    steps: int,
    rho: float,
    rivals: int,
    batch: int | None = None,
) -> Found:
    """Adversarial images of the same shape as `inputs`, within `threat` and [0, 1], that lower the expected accuracy.

    members: maps from images (N, C, H, W) to logits (N, classes), differentiable. probabilities: of the members, as
    the defense draws them; a member that is never drawn is left out. inputs: float32 (N, C, H, W) in [0, 1]; labels:
    int64 (N,). rho: how far beyond a boundary a step aims, in units of epsilon. rivals: classes, by logit, whose
    boundaries are considered; where there are fewer, all of them. batch: images worked on at once, of those that still
    count; None: all. Draws nothing. No `losses`: what the attack lowers is a step function, and that it stays flat on
    an image says nothing of its gradients.

    Every step builds a local perturbation around the image so far, member by member, the likeliest first. The member's
    nearest boundary is taken from its linearisation, in the dual norm; the local perturbation is turned towards it
    just far enough and scaled back to the local radius; it is kept where the expected accuracy of the projected image,
    sum_m p_m [member m is right], does not rise: ties are kept. The image then moves by what was kept.

    Source: Dbouk and Shanbhag, ICML 2022 (arXiv 2206.06737), the algorithm for differentiable members, and its cheaper
    form that considers the `rivals` highest logits only; where the text leaves a choice, the authors' published code
    as they run it, without a random start. Deviations:

    - how far to turn: the argument for linear members asks for a boundary's distance from the centre of the local
      ball, and that is what we take. The authors' code takes the distance from where the local perturbation has come
      to, and reaches the optimum of linear ensembles more rarely.
    - local radius: epsilon in both norms (theirs: epsilon for l-infinity, epsilon / 4 for L2); halved for an image
      that a whole step did not move, as nothing random would ever free it.
    - a member that already errs is passed over for that image; their code turns back to the boundary it has crossed,
      which is undone unless it fools others of no less weight.
    - members are linearised at the projected image; theirs at the unprojected one, which may lie outside the ball and
      outside [0, 1].
    - expected accuracies are compared with a tolerance of 1e-9, so that rounding breaks no tie. Images that no member
      gets right are left alone, which changes nothing.
    """
    ordered = sorted((pair for pair in zip(probabilities, members, strict=True) if pair[0] > 0), key=lambda p: -p[0])
    ensemble = _Ensemble([member for _, member in ordered], [float(weight) for weight, _ in ordered])
    radii = torch.full((len(inputs),), threat.epsilon, device=inputs.device)
    images, right = inputs.clone(), ensemble.right(inputs, labels)
    for _ in range(steps):
        rows = right.any(0).nonzero().squeeze(1)
        if len(rows) == 0:
            break
        size = batch or len(rows)
        for at in range(0, len(rows), size):
            part = rows[at : at + size]
            state = _State(images[part], inputs[part], labels[part], right[:, part], radii[part])
            current = _step(ensemble, state, threat, rho * threat.epsilon, rivals)
            moved = (current.images != state.images).flatten(1).any(1)
            radii[part] = torch.where(moved, state.radii, state.radii / 2)
            images[part], right[:, part] = current.images, current.right
    return Found(images)


_TIE = 1e-9
_TINY = 1e-30  # of lengths that are divided by: far below those of any image or gradient, above fp32's smallest


class _Ensemble:
    def __init__(self, members: Sequence[Member], weights: Sequence[float]) -> None:
        self.members, self._weights = members, weights

    def right(self, images: Tensor, labels: Tensor) -> Tensor:
        """Which member is right, bool (members, N)."""
        with torch.no_grad():
            answers = [member(images).argmax(1) == labels for member in self.members]
        return torch.stack(answers)

    def expected(self, right: Tensor) -> Tensor:
        """The probability that a drawn member is right, double (N,)."""
        weights = torch.tensor(self._weights, dtype=torch.float64, device=right.device)
        return weights @ right.double()


@dataclass
class _State:
    """Images (N, C, H, W) so far, their clean ones, labels (N,), who is right (members, N), local radii (N,)."""

    images: Tensor
    clean: Tensor
    labels: Tensor
    right: Tensor
    radii: Tensor

    def rows(self, rows: Tensor) -> _State:
        return _State(self.images[rows], self.clean[rows], self.labels[rows], self.right[:, rows], self.radii[rows])


def _step(ensemble: _Ensemble, state: _State, threat: Threat, margin: float, rivals: int) -> _State:
    """The images after one step, and who is right about them."""
    current = state.rows(torch.arange(len(state.images), device=state.images.device))
    for number, member in enumerate(ensemble.members):
        boundary = _nearest_boundary(member, current, current.right[number].nonzero().squeeze(1), threat.norm, rivals)
        rows = boundary.rows
        if len(rows) == 0:
            continue
        part = current.rows(rows)
        turned = _turned(part.images - state.images[rows], boundary, threat.norm, part.radii, margin)
        candidate = project(state.images[rows] + turned, part.clean, threat)
        right = ensemble.right(candidate, part.labels)
        kept = ensemble.expected(right) <= ensemble.expected(part.right) + _TIE
        current.images[rows[kept]], current.right[:, rows[kept]] = candidate[kept], right[:, kept]
    return current


@dataclass
class _Boundary:
    """Nearest linearised boundaries of one member."""

    rows: Tensor
    """(M,) int64, the images that the member gets right and where its gradient does not vanish."""
    distance: Tensor
    """(M,), from the image, in the norm of the threat."""
    direction: Tensor
    """(M, C, H, W), the shortest way there, of norm one."""
    normal: Tensor
    """(M, C, H, W), of dual norm one: its product with a perturbation is the way made towards the boundary."""


def _nearest_boundary(member: Member, state: _State, rows: Tensor, norm: str, rivals: int) -> _Boundary:
    images = state.images[rows]
    distance = torch.full((len(rows),), torch.inf, device=images.device)
    difference = torch.zeros_like(images)
    for gap, slope in _gaps(member, images, rivals):
        length = _dual(slope, norm)
        near = torch.where(length > _TINY, gap / length.clamp_min(_TINY), torch.inf)
        nearer = near < distance
        distance[nearer], difference[nearer] = near[nearer], slope[nearer]
    sloping = distance.isfinite()
    rows, distance, difference = rows[sloping], distance[sloping], difference[sloping]
    normal = -difference / _wide(_dual(difference, norm).clamp_min(_TINY))
    return _Boundary(rows, distance, -difference.sign() if norm == "linf" else normal, normal)


def _gaps(member: Member, images: Tensor, rivals: int) -> Iterator[tuple[Tensor, Tensor]]:
    """How far each rival's logit is below the highest, (M,), and the gradient of that, (M, C, H, W); rival by rival."""
    with torch.enable_grad():
        leaf = images.detach().requires_grad_(True)
        logits = member(leaf).float()
        if len(images) == 0 or not logits.requires_grad:  # a member behind which autograd ends has no boundary to see
            return
        highest = logits.topk(min(rivals + 1, logits.shape[1]), dim=1).values
        gaps = [highest[:, 0] - highest[:, rival] for rival in range(1, highest.shape[1])]
    for number, gap in enumerate(gaps):
        more = number + 1 < len(gaps)
        (slope,) = torch.autograd.grad(gap.sum(), leaf, retain_graph=more, allow_unused=True, materialize_grads=True)
        yield gap.detach(), slope.detach()


def _turned(local: Tensor, boundary: _Boundary, norm: str, radii: Tensor, margin: float) -> Tensor:
    """The local perturbations (M, C, H, W) turned towards the boundary and scaled to the radii (M,).

    margin: beyond the boundary, in units of the pixel range.
    """
    from_centre = boundary.distance + (boundary.normal * local).flatten(1).sum(1)
    # The sum has at most norm radius + length, whence the length at which, scaled back to the radius, it still reaches
    # the boundary. Beyond the radius there is no such length.
    enough = radii * boundary.distance / (radii - from_centre).clamp_min(_TINY) + margin
    turned = local + _wide(torch.where(from_centre < radii, enough, radii)) * boundary.direction
    return turned * _wide(radii / _norm(turned, norm).clamp_min(_TINY))


def _norm(delta: Tensor, norm: str) -> Tensor:
    """(N, ...) -> (N,)."""
    flat = delta.flatten(1)
    found: Tensor = flat.abs().amax(dim=1) if norm == "linf" else torch.linalg.vector_norm(flat, dim=1)
    return found


def _dual(slope: Tensor, norm: str) -> Tensor:
    """Norm of gradients (N, ...) dual to the threat's, (N,)."""
    found: Tensor = torch.linalg.vector_norm(slope.flatten(1), ord=1 if norm == "linf" else 2, dim=1)
    return found


def _wide(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
