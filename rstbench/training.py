"""The optimisation loop behind every dense baseline and every ticket search.

What is optimised is a `Subject`: the weights of a network (`Weights`, here) or the scores of a mask over it
(`tickets.search.Scores`). One step: effective weights are made once, the inner attack differentiates to the images
only, one full forward and backward pass updates the subject.

Randomness of a step depends on (seed, step) alone, so a run that was killed goes on from its last saved step with the
same bits (same CPU, versions and thread count).
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from rstbench.attacks.pgd import cross_entropy, pgd
from rstbench.attacks.threat import Threat
from rstbench.data.tensors import as_float, augment
from rstbench.defenses.view import CallableView
from rstbench.errors import DivergenceError
from rstbench.spec.base import distance
from rstbench.spec.models import Engine, InnerAttack, LrSchedule, TrainingSpec, Validation

Progress = Callable[[float, float, str], None]
"""(done, total, note): called now and then; done and total in optimiser steps or images."""


class Subject(Protocol):
    """What is optimised."""

    network: nn.Module
    variables: dict[str, Tensor]
    """Leaf tensors that the optimiser changes; their `.grad` is set by `collect_gradients`."""

    def refresh(self) -> None:
        """Bring the network's weights up to date with the variables."""

    def collect_gradients(self) -> None:
        """Turn the weight gradients of the last backward pass into `.grad` of the variables."""

    def require_gradients(self, on: bool) -> None:
        """Switch gradients to the weights on or off; off inside the inner attack."""

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of what is to be kept: weights or mask, and the batch-norm buffers."""


class Weights:
    """All parameters of a dense network."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.variables: dict[str, Tensor] = dict(network.named_parameters())

    def refresh(self) -> None:
        pass

    def collect_gradients(self) -> None:
        pass

    def require_gradients(self, on: bool) -> None:
        for parameter in self.network.parameters():
            parameter.requires_grad_(on)

    def snapshot(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone().contiguous() for name, value in self.network.state_dict().items()}


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


class Checkpoints(Protocol):
    """Where the state of an unfinished run is kept."""

    def load(self) -> bytes | None: ...

    def save(self, data: bytes) -> None: ...


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2^63) from any printable parts; equal parts give equal seeds everywhere."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(*parts: object) -> torch.Generator:
    """A CPU generator seeded from the parts."""
    return torch.Generator().manual_seed(derive_seed(*parts))


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
        generator=noise,
        step_size=distance(step_size or "0"),
        steps=inner.steps if inner.kind == "pgd" else 1,
        start="zero" if inner.kind == "fgsm" else "uniform",
    )


class Run:
    """One run over a subject. `train` does all of it; `step` is one optimiser step."""

    def __init__(self, subject: Subject, spec: TrainingSpec, seed: int, device: torch.device) -> None:
        self.subject, self.spec, self.seed, self.device = subject, spec, seed, device
        self._layout = torch.channels_last if spec.engine.layout == "channels_last" else torch.contiguous_format
        subject.network.to(device=device, memory_format=self._layout)
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
        for batch, targets in zip(images.split(spec.batch), labels.split(spec.batch), strict=True):
            floats = as_float(batch)
            if epsilon > 0:
                floats = pgd(
                    CallableView(self._forward),
                    floats,
                    targets,
                    threat=Threat("linf", epsilon),
                    generator=noise,
                    step_size=2.5 * epsilon / attack.steps,
                    steps=attack.steps,
                )
            with torch.no_grad():
                correct += (self._forward(floats).argmax(1) == targets).sum()
        return 100.0 * int(correct) / max(len(images), 1)

    def train(
        self, data: TrainingData, checkpoints: Checkpoints, progress: Progress, save_every_s: float = 30.0
    ) -> Outcome:
        """All epochs, from the saved state if there is one.

        The last incomplete batch of an epoch is left out (batch norm would see too few images).
        Raises `DivergenceError` if the loss is not finite.
        """
        spec = self.spec
        batch = min(spec.batch, len(data.images))
        steps_per_epoch = len(data.images) // batch
        total = spec.epochs * steps_per_epoch
        state = _State()
        saved = checkpoints.load()
        if saved is not None:
            state = _restore(saved, self)
        loss_sum = torch.tensor(state.loss_sum, dtype=torch.float64, device=self.device)
        last_save = time.monotonic()
        while state.step < total:
            epoch, within = divmod(state.step, steps_per_epoch)
            if state.order is None or within == 0:
                state.order = np.random.Generator(
                    np.random.Philox(derive_seed(self.seed, "order", epoch))
                ).permutation(len(data.images))
            rows = torch.from_numpy(state.order[within * batch : (within + 1) * batch]).to(self.device)
            random = generator(self.seed, "step", state.step)
            images = as_float(augment(data.images[rows], spec.augmentation, random))
            lr = learning_rate(spec.lr, spec.lr_schedule, state.step / steps_per_epoch, spec.epochs)
            loss_sum += self.step(images, data.labels[rows], lr, random)
            state.step += 1
            epoch_ends = within == steps_per_epoch - 1
            if epoch_ends or state.step % 50 == 0:
                self._check_finite(float(loss_sum), state.step)
            progress(state.step, total, f"epoch {epoch + 1}/{spec.epochs}")
            if epoch_ends:
                self._end_of_epoch(epoch, float(loss_sum) / steps_per_epoch, data, state)
                loss_sum.zero_()
            if epoch_ends or time.monotonic() - last_save > save_every_s:
                state.loss_sum = float(loss_sum)
                checkpoints.save(_pack(state, self))
                last_save = time.monotonic()
        self.subject.refresh()
        return Outcome(self.subject.snapshot(), state.best, state.best_epoch, state.best_accuracy, state.history)

    def _check_finite(self, loss_sum: float, step: int) -> None:
        if not math.isfinite(loss_sum):
            raise DivergenceError(
                f"the loss is not finite at step {step}; a smaller learning rate (now {self.spec.lr:g}) "
                "or precision fp32 would help"
            )

    def _end_of_epoch(self, epoch: int, loss: float, data: TrainingData, state: _State) -> None:
        row = {"epoch": float(epoch + 1), "loss": loss}
        if (epoch + 1) % self.spec.validation.every == 0 or epoch + 1 == self.spec.epochs:
            accuracy = self.accuracy(data.validation_images, data.validation_labels, self.spec.validation)
            row["validation_accuracy"] = accuracy
            # On a tie the later epoch wins: it has seen more.
            if accuracy >= state.best_accuracy:
                state.best_accuracy, state.best_epoch, state.best = accuracy, epoch + 1, self.subject.snapshot()
        state.history.append(row)


@dataclass
class _State:
    step: int = 0
    loss_sum: float = 0.0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    best_accuracy: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)
    order: Any = None


def _pack(state: _State, run: Run) -> bytes:
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    for name, variable in run.subject.variables.items():
        tensors[f"variable/{name}"] = variable.detach()
        momentum = run.optimiser.state[variable].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum/{name}"] = momentum
    for name, buffer in run.subject.network.named_buffers():
        tensors[f"buffer/{name}"] = buffer
    for name, tensor in state.best.items():
        tensors[f"best/{name}"] = tensor
    facts = {
        "step": state.step,
        "loss_sum": state.loss_sum,
        "best_epoch": state.best_epoch,
        "best_accuracy": state.best_accuracy,
        "history": state.history,
    }
    # Shared memory (a view into another tensor) is refused by safetensors, hence the clones.
    plain = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
    return save(plain, metadata={"state": json.dumps(facts)})


def _restore(data: bytes, run: Run) -> _State:
    from safetensors.torch import load

    header_bytes = int.from_bytes(data[:8], "little")
    facts = json.loads(json.loads(data[8 : 8 + header_bytes])["__metadata__"]["state"])
    tensors = load(data)
    with torch.no_grad():
        for name, variable in run.subject.variables.items():
            variable.copy_(tensors[f"variable/{name}"])
            if f"momentum/{name}" in tensors:
                momentum = torch.empty_like(variable).copy_(tensors[f"momentum/{name}"])
                run.optimiser.state[variable]["momentum_buffer"] = momentum
        for name, buffer in run.subject.network.named_buffers():
            buffer.copy_(tensors[f"buffer/{name}"])
    best = {name.removeprefix("best/"): tensor for name, tensor in tensors.items() if name.startswith("best/")}
    return _State(**{key: facts[key] for key in ("step", "loss_sum", "best_epoch", "best_accuracy", "history")}, best=best)
