"""Views of a switching defense: the expectation over its members, and their averaged prediction (paper, Section 6.3).

A fixed member is `defenses.view.CallableView(member)`. Each view composes with every gradient attack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rstbench.defenses.view import CallableView, Criterion, Step, input_gradient

Member = Callable[[Tensor], Tensor]


class ExpectationView:
    """EOT: gradient of the expected loss over the members, exactly (all K members, weighted by probability).

    The paper says that the gradient is averaged over all members; the mean of the members' gradients *is* the
    gradient of their mean loss, so nothing is left open here. Logits, where an attack asks for them, are the log of the
    expected probabilities.
    """

    def __init__(self, members: Sequence[Member], probabilities: Sequence[float]) -> None:
        # A member that is never drawn neither counts as standing nor costs a pass.
        self._members = [pair for pair in zip(members, probabilities, strict=True) if pair[1] > 0]

    def logits(self, images: Tensor) -> Tensor:
        return torch.stack([p * m(images).softmax(1) for m, p in self._members]).sum(0).clamp_min(1e-30).log()

    def step(self, images: Tensor, labels: Tensor, criterion: Criterion) -> Step:
        gradient = torch.zeros_like(images)
        loss = torch.zeros(len(images), device=images.device)
        standing = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        for member, probability in self._members:
            # One member at a time: memory stays that of one network.
            member_gradient, member_loss, logits = input_gradient(member, images, labels, criterion)
            gradient += probability * member_gradient
            loss += probability * member_loss
            standing |= logits.argmax(1) == labels
        return Step(gradient, loss, standing)


class EnsembleView(CallableView):
    """Ensemble: gradient through the averaged prediction of all members.

    The paper does not say whether logits or probabilities are averaged: `average` does, and the logarithm of averaged
    probabilities stands in for logits.
    """

    def __init__(self, members: Sequence[Member], probabilities: Sequence[float], average: str = "logits") -> None:
        pairs = [pair for pair in zip(members, probabilities, strict=True) if pair[1] > 0]

        def logits(images: Tensor) -> Tensor:
            return torch.stack([p * m(images) for m, p in pairs]).sum(0)

        def log_probabilities(images: Tensor) -> Tensor:
            return torch.stack([p * m(images).softmax(1) for m, p in pairs]).sum(0).clamp_min(1e-30).log()

        super().__init__(logits if average == "logits" else log_probabilities)
