"""One run: learning rate, optimiser steps with their inner attack, validation, epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from rstbench.attacks.draws import Shared
from rstbench.attacks.pgd import cross_entropy, pgd
from rstbench.attacks.threat import Threat
from rstbench.data.tensors import as_float, augment
from rstbench.defenses.view import CallableView
from rstbench.errors import DivergenceError
from rstbench.spec.base import distance
from rstbench.spec.models import Engine, InnerAttack, LrSchedule, TrainingSpec, Validation
from rstbench.training.seeds import derive_seed, generator
from rstbench.training.state import Checkpoints, RunState, UnusableState, pack_state, restore_state
from rstbench.training.subject import Subject

Progress = Callable[[float, float, str], None]
"""(done, total, note): called now and then; done and total in optimiser steps or images."""


@dataclass(frozen=True)
class TrainingData:
    """uint8 images (N, C, H, W) and int64 labels (N,), on the device that trains."""

    images: Tensor
    labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor


@dataclass
class Outcome:
    """What a run leaves: snapshots of the last and of the best epoch, and its history."""

    last: dict[str, Tensor]
    best: dict[str, Tensor]
    best_epoch: int
    best_accuracy: float
    history: list[dict[str, float]] = field(default_factory=list)


@contextmanager
def numerics(engine: Engine, device: torch.device) -> Iterator[None]:
    """Autocast to bfloat16 where the engine asks for it."""
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=engine.precision == "bf16", cache_enabled=False):
        yield


def learning_rate(base: float, schedule: LrSchedule, position: float, epochs: int) -> float:
    """Learning rate at `position`, in epochs since the start (fractional within an epoch).

    multistep falls at whole epochs, cosine at every step (to zero at the end), after a linear warm-up.
    """
    if position < schedule.warmup_epochs:
        return base * position / schedule.warmup_epochs
    if schedule.kind == "multistep":
        return base * schedule.factor ** sum(position >= milestone for milestone in schedule.milestones)
    if schedule.kind == "cosine":
        done = (position - schedule.warmup_epochs) / max(epochs - schedule.warmup_epochs, 1e-12)
        return base * 0.5 * (1.0 + math.cos(math.pi * done))
    return base


def inner_images(
    forward: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, inner: InnerAttack, noise: torch.Generator
) -> Tensor:
    """Adversarial training images (N, C, H, W): the inner maximisation of Eq. 1. `kind="none"` returns `images`."""
    if inner.kind == "none":
        return images
    step_size = inner.with_step_size().step_size
    return pgd(
        CallableView(forward),
        images,
        labels,
        threat=Threat("linf", distance(inner.epsilon)),
        draws=Shared(noise, len(images)),
        step_size=distance(step_size or "0"),
        steps=inner.steps if inner.kind == "pgd" else 1,
        start="zero" if inner.kind == "fgsm" else "uniform",
    ).images


class Run:
    """One run over a subject. `train` does all of it; `step` is one optimiser step."""

    def __init__(self, subject: Subject, spec: TrainingSpec, seed: int, device: torch.device) -> None:
        self.subject, self.spec, self.seed, self.device = subject, spec, seed, device
        self._layout = torch.channels_last if spec.engine.layout == "channels_last" else torch.contiguous_format
        subject.network.to(device).to(memory_format=self._layout)
        self.optimiser = torch.optim.SGD(
            list(subject.variables.values()), lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay
        )

    def _forward(self, images: Tensor) -> Tensor:
        with numerics(self.spec.engine, self.device):
            logits: Tensor = self.subject.network(images.contiguous(memory_format=self._layout))
        return logits.float()

    def step(self, images: Tensor, labels: Tensor, lr: float, noise: torch.Generator) -> Tensor:
        """One optimiser step on float images (N, C, H, W) in [0, 1]; returns the mean loss, on the device."""
        subject = self.subject
        subject.refresh()
        subject.require_gradients(False)
        subject.network.train(self.spec.inner_bn == "train")
        images = inner_images(self._forward, images, labels, self.spec.inner, noise)
        subject.network.train()
        subject.require_gradients(True)
        self.optimiser.zero_grad(set_to_none=True)
        subject.network.zero_grad(set_to_none=True)
        loss = cross_entropy(self._forward(images), labels).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        subject.collect_gradients()
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.step()
        return loss.detach()

    def accuracy(self, images: Tensor, labels: Tensor, attack: Validation) -> float:
        """Percent of uint8 images (N, C, H, W) predicted right under the validation attack, in evaluation mode."""
        subject, spec = self.subject, self.spec
        subject.refresh()
        subject.require_gradients(False)
        subject.network.eval()
        inner_epsilon = "0" if spec.inner.kind == "none" else spec.inner.epsilon
        epsilon = distance(inner_epsilon if attack.epsilon is None else attack.epsilon)
        noise = generator(self.seed, "validation")
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        for batch, targets in zip(torch.split(images, spec.batch), torch.split(labels, spec.batch), strict=True):
            floats = as_float(batch)
            if epsilon > 0:
                floats = pgd(
                    CallableView(self._forward),
                    floats,
                    targets,
                    threat=Threat("linf", epsilon),
                    draws=Shared(noise, len(floats)),
                    step_size=2.5 * epsilon / attack.steps,
                    steps=attack.steps,
                ).images
            with torch.no_grad():
                correct += (self._forward(floats).argmax(1) == targets).sum()
        return 100.0 * int(correct) / max(len(images), 1)

    def train(
        self, data: TrainingData, checkpoints: Checkpoints, progress: Progress, save_every_s: float = 30.0
    ) -> Outcome:
        """All epochs, from the saved state if there is one.

        The last incomplete batch of an epoch is left out (batch norm would see too few images).
        Raises `DivergenceError` if the loss, or what is trained, is not finite.
        """
        spec = self.spec
        batch = min(spec.batch, len(data.images))
        steps_per_epoch = len(data.images) // batch
        total = spec.epochs * steps_per_epoch
        state, remark = RunState(), ""
        saved = checkpoints.load()
        if saved is not None:
            try:
                state = restore_state(saved, self.subject, self.optimiser)
            except UnusableState as error:
                remark = f", started over: {error}"
        loss_sum = torch.tensor(state.loss_sum, dtype=torch.float64, device=self.device)
        last_save = time.monotonic()
        order = None
        while state.step < total:
            epoch, within = divmod(state.step, steps_per_epoch)
            if order is None or within == 0:
                order = np.random.Generator(np.random.Philox(derive_seed(self.seed, "order", epoch))).permutation(
                    len(data.images)
                )
            rows = torch.from_numpy(order[within * batch : (within + 1) * batch]).to(self.device)
            random = generator(self.seed, "step", state.step)
            images = as_float(augment(data.images[rows], spec.augmentation, random))
            lr = learning_rate(spec.lr, spec.lr_schedule, state.step / steps_per_epoch, spec.epochs)
            loss_sum += self.step(images, data.labels[rows], lr, random)
            state.step += 1
            epoch_ends = within == steps_per_epoch - 1
            if epoch_ends or state.step % 50 == 0:
                self._check_finite(loss_sum, state.step)
            if epoch_ends:
                self._end_of_epoch(epoch, float(loss_sum) / steps_per_epoch, data, state)
                loss_sum.zero_()
            try:
                progress(state.step, total, f"epoch {epoch + 1}/{spec.epochs}{remark}")
                due = epoch_ends or time.monotonic() - last_save > save_every_s
            except BaseException:
                # Progress raises where the run is to stop: what was done since the last save is kept.
                self._save(state, loss_sum, checkpoints)
                raise
            if due:
                self._save(state, loss_sum, checkpoints)
                last_save = time.monotonic()
        self.subject.refresh()
        return Outcome(self.subject.snapshot(), state.best, state.best_epoch, state.best_accuracy, state.history)

    def _save(self, state: RunState, loss_sum: Tensor, checkpoints: Checkpoints) -> None:
        state.loss_sum = float(loss_sum)
        checkpoints.save(pack_state(state, self.subject, self.optimiser))

    def _check_finite(self, loss_sum: Tensor, step: int) -> None:
        # The variables too: the last step of a run can spoil them after a finite loss.
        for what, values in (("loss", [loss_sum]), ("result", self.subject.variables.values())):
            if not all(bool(value.isfinite().all()) for value in values):
                raise DivergenceError(
                    f"the {what} is not finite at step {step}; a smaller learning rate (now {self.spec.lr:g}) "
                    "or precision fp32 would help"
                )

    def _end_of_epoch(self, epoch: int, loss: float, data: TrainingData, state: RunState) -> None:
        row = {"epoch": float(epoch + 1), "loss": loss}
        if (epoch + 1) % self.spec.validation.every == 0 or epoch + 1 == self.spec.epochs:
            accuracy = self.accuracy(data.validation_images, data.validation_labels, self.spec.validation)
            row["validation_accuracy"] = accuracy
            # On a tie the later epoch wins: it has seen more.
            if accuracy >= state.best_accuracy:
                state.best_accuracy, state.best_epoch, state.best = accuracy, epoch + 1, self.subject.snapshot()
        state.history.append(row)
