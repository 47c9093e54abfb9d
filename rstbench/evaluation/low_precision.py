"""What keeps crafting in low precision honest: fp32 decides who has fallen, and an fp32 attack stands beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rstbench.defenses.view import Criterion, Step, View
from rstbench.defenses.views import Member
from rstbench.evaluation.judge import predict
from rstbench.spec.attacks import AllMembersSpec, CraftedSpec, FgsmSpec, PgdSpec

COMPARED = 128
"""Images, the first ones, that are attacked in fp32 as well."""

Standing = Callable[[Tensor, Tensor], Tensor]
"""(images (N, C, H, W), labels (N,)) -> (N,) bool, whether a view in fp32 still predicts the label."""


class Confirmed:
    """A view whose gradients come in low precision, and in which an image falls only where fp32 agrees."""

    def __init__(self, view: View, standing: Standing) -> None:
        self._view, self._standing = view, standing

    def logits(self, images: Tensor) -> Tensor:
        return self._view.logits(images)

    def step(self, images: Tensor, labels: Tensor, criterion: Criterion) -> Step:
        step = self._view.step(images, labels, criterion)
        fallen = (~step.standing).nonzero().squeeze(1)
        if len(fallen) == 0:
            return step
        standing = step.standing.clone()
        standing[fallen] = self._standing(images[fallen], labels[fallen])
        return Step(step.gradient, step.loss, standing)


def confirmed(view: View, members: Sequence[Member], weights: Sequence[float], spec: CraftedSpec) -> View:
    """The view as an attack may believe it; members: their answers without gradients are fp32 (`engine.InEngine`).

    Unchanged in fp32, for attacks that ask no view whether an image has fallen, and for view `switch`, where one more
    look would be one more draw.
    """
    if spec.engine.precision == "fp32" or isinstance(spec, FgsmSpec | AllMembersSpec) or spec.view == "switch":
        return view
    if isinstance(spec, PgdSpec) and spec.stop == "never":
        return view

    def by_view(images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            return view.logits(images).argmax(1) == labels

    def by_any(images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            right = [m(images).argmax(1) == labels for m, p in zip(members, weights, strict=True) if p > 0]
        return torch.stack(right).any(0)

    return Confirmed(view, by_any if spec.view == "eot" else by_view)


@dataclass(frozen=True)
class AgainstFp32:
    """Robust accuracies on the first images, judged in fp32: of what low precision crafted, and of what fp32 did.

    images: how many. low, exact: in [0, 1], the members' weighted mean.
    """

    images: int
    low: float
    exact: float

    @property
    def weaker(self) -> bool:
        """Whether low precision left more standing, by however little: the flag `low_precision_weaker`."""
        return self.low > self.exact


def against_fp32(
    members: Sequence[nn.Module],
    weights: Sequence[float],
    crafted: Tensor,
    labels: Tensor,
    batch: int,
    exactly: Callable[[int], Tensor],
) -> AgainstFp32:
    """Compare the images (N, C, H, W) that low precision crafted with those of the same attack in fp32.

    labels: int64 (N,); exactly: the fp32 attack's images of the first so many, as the caller can craft them. The
    verdicts are those of the plain members. Accuracy is all that is compared: of an attack that nothing bounds, low
    precision may go further for the same.
    """
    count = min(COMPARED, len(crafted))

    def accuracy(images: Tensor) -> float:
        right = 0.0
        for member, weight in zip(members, weights, strict=True):
            if weight > 0:
                predictions, _ = predict(member, images, batch, lambda done, total, note: None)
                right += weight * float((predictions == labels[:count]).double().mean())
        return round(right, 9)  # sums of equal parts in another order are equal

    return AgainstFp32(count, accuracy(crafted[:count]), accuracy(exactly(count)))
