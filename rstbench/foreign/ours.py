"""Weights for a family of ours: a ticket, a pruned network, a checkpoint, or anybody's plain state dict.

A ticket of trained weights (RTT) needs those weights, which its file does not hold: the checkpoint of the dense
network, in the ticket's folder, under the name <key of its value>-<checkpoint>.safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from rstbench.errors import ModelError
from rstbench.foreign.files import WeightFile
from rstbench.foreign.files import read as read_bytes
from rstbench.foreign.normalised import normalisation
from rstbench.foreign.task import Task
from rstbench.foreign.weights import fill, read_state, strangers
from rstbench.networks import ModelSpec, build
from rstbench.spec.foreign import ForeignSpec
from rstbench.tickets.checkpoint import Checkpoint, read_checkpoint
from rstbench.tickets.container import declared
from rstbench.tickets.files import read
from rstbench.tickets.ticket import Ticket


def network(spec: ForeignSpec, task: Task, file: WeightFile) -> tuple[nn.Module, tuple[str, ...]]:
    """The network, and notes. A plain state dict has batch norm's scale and the classifier's bias if it holds them.

    Raises `ModelError` or `TicketError` if the file is damaged or belongs to another network or task, `SpecError` if
    the family has no such width.
    """
    if file.suffix == ".safetensors" and declared(file.data) is not None:
        return _own(spec, task, file)
    state = read_state(file.data, file.suffix, file.where)
    module = _like(spec, task, state)
    fill(module, state, file.where, task.classes)
    return module, ()


def _own(spec: ForeignSpec, task: Task, file: WeightFile) -> tuple[nn.Module, tuple[str, ...]]:
    found = read(file.data, file.where)
    model, kind = found.model, "checkpoint"
    if not isinstance(found, Checkpoint):
        what = "ticket" if isinstance(found, Ticket) else "pruned network"
        kind = f"{what} at {100 * found.remaining_ratio:g} %"
    for what, has, asked in (
        ("family", model.family, spec.name),
        ("width", model.width, spec.width),
        ("number of classes", model.classes, task.classes),
        ("number of channels", model.channels, task.channels),
        ("image size", model.image_size, task.image_size),
    ):
        if has != asked:
            raise ModelError(
                f"{file.where}: the {kind.partition(' at ')[0]}'s {what} is {has}; {asked} is asked for here"
            )
    if not spec.normalise or spec.mean is not None:
        raise ModelError(f"{file.where}: says itself how it normalises; leave `normalise`, `mean` and `std` out")
    notes = [f"{kind} of rstbench"]
    if (model.mean, model.std) != (task.mean, task.std):
        notes.append("normalises as the data it was made for, not as the data set here")
    return found.network(lambda key, checkpoint: _beside(file, key, checkpoint)), tuple(notes)


def _beside(file: WeightFile, key: str, checkpoint: str) -> Mapping[str, Tensor]:
    """Trained weights behind a ticket, from the checkpoint file that lies beside it. The ticket knows their digest."""
    path = Path(file.where).with_name(f"{key}-{checkpoint}.safetensors")
    if not path.is_file():
        raise ModelError(
            f"{file.where}: a ticket of trained weights, which are not in its file; copy {checkpoint}.safetensors of "
            f"value {key} of the store that the ticket is from beside it, as {path.name}"
        )
    return read_checkpoint(read_bytes(path), str(path)).state


def _like(spec: ForeignSpec, task: Task, state: Mapping[str, Tensor]) -> nn.Module:
    """The variant of the family (batch norm with a scale or not, classifier with a bias or not) that the names fit."""
    scaled = any(name.endswith("running_mean") and name[:-12] + "weight" in state for name in state)
    values = normalisation(spec, task) or ((0.0,) * task.channels, (1.0,) * task.channels)
    variants = [
        build(
            ModelSpec(
                family=spec.name,
                width=spec.width,
                classes=task.classes,
                channels=task.channels,
                image_size=task.image_size,
                mean=values[0],
                std=values[1],
                bn_affine=scaled,
                classifier_bias=bias,
            )
        )
        for bias in (True, False)
    ]
    return min(variants, key=lambda variant: strangers(variant, state))
