"""How far a run of AutoAttack has come, as bytes: what lets a killed run go on where it was."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from rstbench.spec.base import canonical_json
from rstbench.spec.flags import RELIABILITY

_FORMAT = 1
_FLAGS = tuple(RELIABILITY)


class Saved(Protocol):
    """Where the state of one run on one model is kept, by the caller."""

    def load(self) -> bytes | None:
        """What was saved last; None if nothing was."""

    def save(self, data: bytes) -> None:
        """Keep this in place of what was saved before, whole or not at all."""


@dataclass
class State:
    """A run between two batches.

    images: (N, C, H, W), the images so far; changed: (N,) bool, which of them are not the clean ones any more.
    standing: (N,) bool, what is still to be attacked. accuracy, loss: (N,) float64, of `images` under the defense
    (version rand). rows: int64, what the current attack attacks, in order; it has finished `batch` batches of them.
    counts: how many images stood before the first attack and after each finished one.
    """

    images: Tensor
    changed: Tensor
    standing: Tensor
    accuracy: Tensor
    loss: Tensor
    rows: Tensor
    classes: int = 0
    stage: int = 0
    batch: int = 0
    counts: list[int] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)

    @classmethod
    def fresh(cls, inputs: Tensor) -> State:
        """Nothing done yet."""
        count = len(inputs)
        return cls(
            images=inputs.clone(),
            changed=torch.zeros(count, dtype=torch.bool),
            standing=torch.ones(count, dtype=torch.bool),
            accuracy=torch.full((count,), torch.inf, dtype=torch.float64),
            loss=torch.full((count,), -torch.inf, dtype=torch.float64),
            rows=torch.zeros(0, dtype=torch.int64),
        )

    def packed(self, fingerprint: bytes) -> bytes:
        """The state as a safetensors file, with the fingerprint of its run and a digest of itself."""
        tensors = {
            "images": self.images[self.changed.to(self.images.device)].cpu().contiguous(),
            "changed": self.changed,
            "standing": self.standing,
            "accuracy": self.accuracy,
            "loss": self.loss,
            "rows": self.rows,
            "place": torch.tensor([self.classes, self.stage, self.batch]),
            "counts": torch.tensor(self.counts, dtype=torch.int64),
            "flags": torch.tensor([flag in self.flags for flag in _FLAGS]),
            "fingerprint": _as_tensor(fingerprint),
        }
        return save(tensors | {"digest": _as_tensor(_digest(tensors))})

    @classmethod
    def unpacked(cls, data: bytes, fingerprint: bytes, inputs: Tensor) -> State | None:
        """The state of this run; None if the bytes are damaged, or of another run."""
        try:
            tensors = load(data)
        except (SafetensorError, ValueError, KeyError):
            return None
        digest = tensors.pop("digest", torch.zeros(0, dtype=torch.uint8))
        known = tensors.get("fingerprint", torch.zeros(0, dtype=torch.uint8))
        if not torch.equal(digest, _as_tensor(_digest(tensors))) or not torch.equal(known, _as_tensor(fingerprint)):
            return None
        images = inputs.clone()
        images[tensors["changed"].to(images.device)] = tensors["images"].to(images.device)
        classes, stage, batch = tensors["place"].tolist()
        return cls(
            images=images,
            **{name: tensors[name] for name in ("changed", "standing", "accuracy", "loss", "rows")},
            classes=classes,
            stage=stage,
            batch=batch,
            counts=tensors["counts"].tolist(),
            flags={flag for flag, raised in zip(_FLAGS, tensors["flags"].tolist(), strict=True) if raised},
        )


def fingerprint(inputs: Tensor, labels: Tensor, settings: dict[str, Any]) -> bytes:
    """What tells one run from another: its images, labels and settings (JSON-able). Not the model, which is unseen."""
    whole = {"format": _FORMAT, "flags": _FLAGS, "torch": torch.__version__, "settings": settings}
    return hashlib.sha256(
        canonical_json(whole).encode() + _digest({"inputs": inputs.cpu(), "labels": labels.cpu()})
    ).digest()


def _digest(tensors: dict[str, Tensor]) -> bytes:
    whole = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        whole.update(f"{name}/{tensor.dtype}/{tuple(tensor.shape)}".encode())
        whole.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return whole.digest()


def _as_tensor(data: bytes) -> Tensor:
    return torch.tensor(list(data), dtype=torch.uint8)
