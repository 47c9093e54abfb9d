"""The saved state of an unfinished run: variables, momentum, batch-norm buffers, best snapshot, history."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from rstbench.training.subject import Subject


class Checkpoints(Protocol):
    """Where the state of an unfinished run is kept."""

    def load(self) -> bytes | None: ...

    def save(self, data: bytes) -> None: ...


class UnusableState(ValueError):
    """Saved state that is damaged, or of another run. The run starts over."""


@dataclass
class RunState:
    """Where a run stands after `step` optimiser steps, beside what its subject and optimiser hold."""

    step: int = 0
    loss_sum: float = 0.0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    best_accuracy: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)


_FACTS = ("step", "loss_sum", "best_epoch", "best_accuracy", "history")


def pack_state(state: RunState, subject: Subject, optimiser: torch.optim.Optimizer) -> bytes:
    """One safetensors file of all that a run needs to go on with the same bits."""
    tensors = {f"best/{name}": tensor for name, tensor in state.best.items()}
    tensors |= {f"buffer/{name}": buffer for name, buffer in subject.network.named_buffers()}
    for name, variable in subject.variables.items():
        tensors[f"variable/{name}"] = variable.detach()
        momentum = optimiser.state[variable].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum/{name}"] = momentum
    # Shared memory (a view into another tensor) is refused by safetensors, hence the clones.
    plain = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
    facts = json.dumps({name: getattr(state, name) for name in _FACTS})
    return save(plain, metadata={"state": facts, "digest": _digest(facts, plain)})


def restore_state(data: bytes, subject: Subject, optimiser: torch.optim.Optimizer) -> RunState:
    """Put saved state into a fresh subject and optimiser; raises `UnusableState`, and changes nothing, if it cannot."""
    try:
        tensors = load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        intact = metadata["digest"] == _digest(metadata["state"], tensors)
        facts = {name: json.loads(metadata["state"])[name] for name in _FACTS}
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnusableState("the saved state was damaged") from error
    if not intact:
        raise UnusableState("the saved state was damaged")
    buffers = dict(subject.network.named_buffers())
    best = {name.removeprefix("best/"): tensors.pop(name) for name in list(tensors) if name.startswith("best/")}
    needed = {f"variable/{name}": variable.shape for name, variable in subject.variables.items()}
    needed |= {f"buffer/{name}": buffer.shape for name, buffer in buffers.items()}
    known = needed | {f"momentum/{name}": variable.shape for name, variable in subject.variables.items()}
    if needed.keys() - tensors.keys() or any(known.get(name) != tensor.shape for name, tensor in tensors.items()):
        raise UnusableState("the saved state was of another network")
    with torch.no_grad():
        for name, variable in subject.variables.items():
            variable.copy_(tensors[f"variable/{name}"])
            if f"momentum/{name}" in tensors:  # a layer that was never reached has none
                momentum = torch.empty_like(variable).copy_(tensors[f"momentum/{name}"])
                optimiser.state[variable]["momentum_buffer"] = momentum
        for name, buffer in buffers.items():
            buffer.copy_(tensors[f"buffer/{name}"])
    return RunState(**facts, best=best)


def _digest(facts: str, tensors: Mapping[str, Tensor]) -> str:
    whole = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        whole.update(tensor.flatten().view(torch.uint8).numpy().data)
    return whole.hexdigest()
