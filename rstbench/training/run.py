"""One run: learning rate, optimiser steps with their inner attack, validation, epochs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from rstbench.attacks.draws import Draws
from rstbench.attacks.pgd import pgd
from rstbench.attacks.threat import Threat
from rstbench.data.tensors import as_float
from rstbench.defenses.view import CallableView
from rstbench.errors import DeviceError, DivergenceError
from rstbench.networks.compiling import explained
from rstbench.networks.folding import folded
from rstbench.spec.base import distance, ratio_text
from rstbench.spec.training import GATHERED, TrainingSpec, Validation
from rstbench.training.batches import Images, TrainingData, drawn, in_order, steps
from rstbench.training.family import Batch, FamilySubject, each_ratio
from rstbench.training.noise import Delivered, Given
from rstbench.training.objective import inner_images, learning_rate, training_loss
from rstbench.training.passes import Passes
from rstbench.training.recorded import Record, Recorded, record_on_gpu
from rstbench.training.seeds import derive_seed, generator
from rstbench.training.state import Checkpoints, RunState, UnusableState, pack_state, restore_state
from rstbench.training.subject import Subject

Progress = Callable[[float, float, str], None]
"""(done, total, note): called now and then; done and total in optimiser steps or images."""


@dataclass
class Outcome:
    """What a run leaves: snapshots of the last and of the best epoch, and its history."""

    last: dict[str, Tensor]
    best: dict[str, Tensor]
    best_epoch: int
    best_accuracy: float
    history: list[dict[str, float]] = field(default_factory=list)


class Run:
    """One run over a subject. `train` does all of it; `step` is one optimiser step.

    On a GPU the host waits for no value between the saves and ends of epochs: it works ahead of the device.

    record: what records a step where the engine says cuda_graphs; default: the GPU's own. Raises `DeviceError` if the
    engine asks for what this device cannot do.
    """

    def __init__(
        self, subject: Subject, spec: TrainingSpec, seed: int, device: torch.device, record: Record | None = None
    ) -> None:
        self.subject, self.spec, self.seed, self.device = subject, spec, seed, device
        self._recorded: Recorded | None = None
        if spec.engine.compiler == "cuda_graphs":
            if record is None and device.type != "cuda":
                raise DeviceError(
                    f"engine.compiler: cuda_graphs needs a GPU, and this run is on {device}; ask for none or inductor"
                )
            self._recorded = Recorded(self._from_numbers, subject.network.buffers, record or record_on_gpu)
        self._passes = Passes(subject.network, spec.engine, device)
        self.optimiser = torch.optim.SGD(
            list(subject.variables.values()),
            lr=spec.lr,
            momentum=spec.momentum,
            weight_decay=spec.weight_decay,
            # One launch for many layers, with the arithmetic of the loop over them; `fused` rounds otherwise.
            foreach=device.type == "cuda",
            fused=False,
        )

    def step(self, images: Tensor, labels: Tensor, lr: float, noise: torch.Generator) -> Tensor:
        """One optimiser step on float images (N, C, H, W) in [0, 1]; returns the mean loss, on the device."""
        subject = self.subject
        if isinstance(subject, FamilySubject):
            subject.draw(noise)
        subject.refresh()
        draws = Delivered(noise, len(images), self.device)
        if self._recorded is None:
            loss = self._differentiated(images, labels, draws)
        else:
            loss = self._recorded(images, labels, self._numbers(images, draws)).clone()
        subject.collect_gradients()
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.step()
        return loss

    @explained()
    def _differentiated(self, images: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        """Inner attack, loss, and its gradient to the weights; between this and the last step nothing else is kept."""
        subject, spec, forward = self.subject, self.spec, self._passes.train
        subject.require_gradients(False)
        subject.network.train(spec.inner_bn == "train")
        with self._passes.frozen():
            adversarial = inner_images(forward, images, labels, spec.inner, draws, spec.objective)
        subject.network.train()
        subject.require_gradients(True)
        self.optimiser.zero_grad(set_to_none=True)
        subject.network.zero_grad(set_to_none=True)
        loss = training_loss(forward, images, adversarial, labels, spec)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _from_numbers(self, images: Tensor, labels: Tensor, numbers: Tensor) -> Tensor:
        return self._differentiated(images, labels, Given(numbers))

    def _numbers(self, images: Tensor, draws: Draws) -> Tensor:
        """What the inner attack will ask of `draws`; (N, 0) if nothing."""
        uniform = self.spec.inner.kind in ("pgd", "fgsm_rs")
        return draws.uniform(images.shape[1:]) if uniform else images.new_zeros(len(images), 0)

    def accuracy(self, images: Images, labels: Tensor, attack: Validation) -> float:
        """Percent of uint8 images (N, C, H, W) predicted right under the validation attack, in evaluation mode."""
        subject, spec = self.subject, self.spec
        subject.refresh()
        subject.require_gradients(False)
        subject.network.eval()
        inner_epsilon = "0" if spec.inner.kind == "none" else spec.inner.epsilon
        epsilon = distance(inner_epsilon if attack.epsilon is None else attack.epsilon)
        noise = generator(self.seed, "validation")
        forward = self._passes.of(folded(subject.network)) if attack.folding else self._passes.plain
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        with self._passes.frozen():
            for batch, targets in in_order(images, labels, spec.batch):
                floats = as_float(batch)
                if epsilon > 0:
                    floats = pgd(
                        CallableView(forward),
                        floats,
                        targets,
                        threat=Threat("linf", epsilon),
                        draws=Delivered(noise, len(floats), self.device),
                        step_size=2.5 * epsilon / attack.steps,
                        steps=attack.steps,
                        stop=attack.stop,
                    ).images
                with torch.no_grad():
                    correct += (forward(floats).argmax(1) == targets).sum()
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
        chosen = steps(self.seed, len(data.images), batch, state.step, total)
        with contextlib.closing(drawn(data, chosen, spec.augmentation)) as batches:
            for images, labels, random in batches:
                epoch, within = divmod(state.step, steps_per_epoch)
                lr = learning_rate(spec.lr, spec.lr_schedule, state.step / steps_per_epoch, spec.epochs)
                loss_sum += self.step(images, labels, lr, random)
                state.step += 1
                epoch_ends = within == steps_per_epoch - 1
                if epoch_ends:
                    self._check_finite(loss_sum, state.step)
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
                    self._check_finite(loss_sum, state.step)
                    self._save(state, loss_sum, checkpoints)
                    last_save = time.monotonic()
        if isinstance(self.subject, FamilySubject):
            # Gathered once more: of a run that was stopped after its last validation, only the best is left.
            for _ in each_ratio(self.subject, spec, self._passes.plain, lambda: self._gathering(data)):
                pass
        self.subject.refresh()
        return Outcome(self.subject.snapshot(), state.best, state.best_epoch, state.best_accuracy, state.history)

    def _gathering(self, data: TrainingData) -> Iterator[Batch]:
        """Batches from which batch-norm statistics are gathered: always the same `GATHERED` images, or all if fewer."""
        total = len(data.images)
        batch = min(self.spec.batch, total)
        order = np.random.Generator(np.random.Philox(derive_seed(self.seed, "gather"))).permutation(total)
        chosen = (
            (order[number * batch : (number + 1) * batch], generator(self.seed, "gather", number))
            for number in range(max(min(GATHERED, total) // batch, 1))
        )
        return drawn(data, chosen, self.spec.augmentation)

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
            measured = self._validated(data)
            row |= measured
            accuracy = measured["validation_accuracy"]
            # On a tie the later epoch wins: it has seen more.
            if accuracy >= state.best_accuracy:
                state.best_accuracy, state.best_epoch, state.best = accuracy, epoch + 1, self.subject.snapshot()
        state.history.append(row)

    def _validated(self, data: TrainingData) -> dict[str, float]:
        """Entries of the history; of a family the mean over its ratios, and each of them."""
        held_out = data.validation_images, data.validation_labels, self.spec.validation
        if not isinstance(self.subject, FamilySubject):
            return {"validation_accuracy": self.accuracy(*held_out)}
        found = {
            f"validation_accuracy_{ratio_text(ratio)}": self.accuracy(*held_out)
            for ratio in each_ratio(self.subject, self.spec, self._passes.plain, lambda: self._gathering(data))
        }
        return {"validation_accuracy": sum(found.values()) / len(found), **found}
