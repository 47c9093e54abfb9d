"""Subjects that stand for a network at each of several ratios: batch-norm statistics and validation of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from rstbench.spec.training import TrainingSpec
from rstbench.training.objective import inner_images, training_loss
from rstbench.training.subject import Subject

Batch = tuple[Tensor, Tensor, torch.Generator]
"""Float images (N, C, H, W) in [0, 1] as a training step gets them, labels (N,), and what the step draws from."""


@runtime_checkable
class FamilySubject(Subject, Protocol):
    """A subject with several networks, one for each ratio, of which one is chosen at a time."""

    ratios: tuple[float, ...]

    def draw(self, noise: torch.Generator) -> None:
        """Choose the ratio that the next step trains."""

    def choose(self, remaining_ratio: float) -> None:
        """Choose a ratio."""

    def keep(self) -> None:
        """Hold the chosen network, with the buffers that it has now, for the next snapshot."""


def each_ratio(
    subject: FamilySubject,
    spec: TrainingSpec,
    forward: Callable[[Tensor], Tensor],
    batches: Callable[[], Iterable[Batch]],
) -> Iterator[float]:
    """Choose each ratio in turn, with batch-norm statistics gathered for it on `batches()`, and keep its network.

    When it is closed or exhausted, the running statistics are again those that training had.
    """
    buffers = dict(subject.network.named_buffers())
    held = {name: buffer.clone() for name, buffer in buffers.items()}
    try:
        for ratio in subject.ratios:
            subject.choose(ratio)
            gather(subject, spec, forward, batches())
            subject.keep()
            yield ratio
    finally:
        for name, buffer in buffers.items():
            buffer.copy_(held[name])


@torch.no_grad()
def gather(subject: Subject, spec: TrainingSpec, forward: Callable[[Tensor], Tensor], batches: Iterable[Batch]) -> None:
    """Replace running statistics of batch norm by plain averages over the forward passes of training steps.

    The same passes count as in training: those of the inner attack too if `spec.inner_bn` is "train". If it is "eval",
    the images are made with the statistics of their own batch, since there are none yet to be had; only the passes of
    the loss count. Nothing is trained.
    """
    subject.refresh()
    subject.require_gradients(False)
    network = subject.network
    norms = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for the plain average
    network.train()
    try:
        for images, labels, noise in batches:
            for norm in norms:
                norm.track_running_stats = spec.inner_bn == "train"
            adversarial = inner_images(forward, images, labels, spec.inner, noise, spec.objective)
            for norm in norms:
                norm.track_running_stats = True
            training_loss(forward, images, adversarial, labels, spec)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum, norm.track_running_stats = momentum, True
