"""Views of a switching defense: the expectation over its members, and their averaged prediction (paper, Section 6.3).

A fixed member is `defenses.view.CallableView(member)`. Each view composes with every gradient attack.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from rstbench.defenses.view import CallableView, Criterion, Step, input_gradient

Member = Callable[[Tensor], Tensor]
Together = Callable[[Tensor], Tensor]
"""K members in one pass: images (N, C, H, W), the same for all, or (K, N, C, H, W) -> logits (K, N, classes)."""


class ExpectationView:
    """EOT: gradient of the expected loss over the members, exactly (all K members, weighted by probability).

    The paper says that the gradient is averaged over all members; the mean of the members' gradients *is* the
    gradient of their mean loss. With `unit_gradients` every member's gradient is first scaled to unit L2 length for
    each image, the other way to read it: a member that is sure of itself, whose gradient all but vanishes, then counts
    no less. Logits, where an attack asks for them, are the log of the expected probabilities.

    together: asks all members of a probability above zero in one pass, in place of one by one: the same up to rounding.
    """

    def __init__(
        self,
        members: Sequence[Member],
        probabilities: Sequence[float],
        unit_gradients: bool = False,
        together: Together | None = None,
    ) -> None:
        self._unit_gradients = unit_gradients
        # A member that is never drawn neither counts as standing nor costs a pass.
        self._members = [pair for pair in zip(members, probabilities, strict=True) if pair[1] > 0]
        self._together = together

    def logits(self, images: Tensor) -> Tensor:
        return _log_expected(self._members, images, self._together)

    def step(self, images: Tensor, labels: Tensor, criterion: Criterion) -> Step:
        gradient = torch.zeros_like(images)
        loss = torch.zeros(len(images), device=images.device)
        standing = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        passes = self._passes(images, labels, criterion)
        for (_, probability), (member_gradient, member_loss, logits) in zip(self._members, passes, strict=True):
            gradient += probability * (_unit(member_gradient) if self._unit_gradients else member_gradient)
            loss += probability * member_loss
            standing |= logits.argmax(1) == labels
        return Step(gradient, loss, standing)

    def _passes(self, images: Tensor, labels: Tensor, criterion: Criterion) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Gradient, loss and logits of each member."""
        if self._together is None:
            for member, _ in self._members:
                # One member at a time: memory stays that of one network.
                yield input_gradient(member, images, labels, criterion)
            return

        def losses(logits: Tensor, labels: Tensor) -> Tensor:
            return torch.stack([criterion(each, labels) for each in logits])

        of_each = images.expand(len(self._members), *images.shape)
        yield from zip(*input_gradient(self._together, of_each, labels, losses), strict=True)


def _unit(gradient: Tensor) -> Tensor:
    # Scaled by its largest entry first: the squares of a vanishing gradient would underflow.
    shape = (-1, *([1] * (gradient.dim() - 1)))
    largest = gradient.flatten(1).abs().amax(dim=1).view(shape)
    scaled = gradient / largest.clamp_min(torch.finfo(gradient.dtype).tiny)
    length: Tensor = torch.linalg.vector_norm(scaled.flatten(1), dim=1)
    return scaled / length.view(shape).clamp_min(1e-12)


def _answers(pairs: Sequence[tuple[Member, float]], images: Tensor, together: Together | None) -> Iterable[Tensor]:
    return [member(images) for member, _ in pairs] if together is None else together(images)


def _log_expected(pairs: Sequence[tuple[Member, float]], images: Tensor, together: Together | None) -> Tensor:
    # The log of the expected probabilities, of logarithms: where every member is sure, probabilities underflow, and
    # their logarithms and gradients would be lost.
    answers = zip(pairs, _answers(pairs, images, together), strict=True)
    return torch.stack([math.log(p) + logits.log_softmax(1) for (_, p), logits in answers]).logsumexp(0)


class EnsembleView(CallableView):
    """Ensemble: gradient through the averaged prediction of all members.

    The paper does not say whether logits or probabilities are averaged: `average` does, and the logarithm of averaged
    probabilities stands in for logits. together: as of `ExpectationView`.
    """

    def __init__(
        self,
        members: Sequence[Member],
        probabilities: Sequence[float],
        average: str = "logits",
        together: Together | None = None,
    ) -> None:
        pairs = [pair for pair in zip(members, probabilities, strict=True) if pair[1] > 0]

        def logits(images: Tensor) -> Tensor:
            answers = zip(pairs, _answers(pairs, images, together), strict=True)
            return torch.stack([p * each for (_, p), each in answers]).sum(0)

        super().__init__(logits if average == "logits" else lambda images: _log_expected(pairs, images, together))


class SwitchView(CallableView):
    """The defense as it is queried: every image of every query meets a member of its own, drawn afresh.

    An adversary that knows nothing of the switch sees this. generator: on the CPU; the answers depend on the order of
    the queries, so this view is reproducible only as a whole. Members of probability zero are never asked.
    """

    def __init__(self, members: Sequence[Member], probabilities: Sequence[float], generator: torch.Generator) -> None:
        pairs = [pair for pair in zip(members, probabilities, strict=True) if pair[1] > 0]
        weights = torch.tensor([float(p) for _, p in pairs], dtype=torch.float64)

        def logits(images: Tensor) -> Tensor:
            drawn = torch.multinomial(weights, len(images), replacement=True, generator=generator).to(images.device)
            parts, places = [], []
            for number, (member, _) in enumerate(pairs):
                rows = (drawn == number).nonzero().squeeze(1)
                if len(rows):
                    parts.append(member(images[rows]))
                    places.append(rows)
            return torch.cat(parts)[torch.cat(places).argsort()]

        super().__init__(logits)
