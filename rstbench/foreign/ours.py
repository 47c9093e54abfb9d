"""Weights for a family of ours: a ticket, a checkpoint, or anybody's plain state dict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rstbench.errors import ModelError
from rstbench.foreign.files import WeightFile
from rstbench.foreign.normalised import normalisation
from rstbench.foreign.task import Task
from rstbench.foreign.weights import fill, read_state, strangers
from rstbench.networks import ModelSpec, build
from rstbench.spec.foreign import ForeignSpec
from rstbench.tickets.checkpoint import checkpoint_network
from rstbench.tickets.ticket import read_ticket

_MAX_HEADER_BYTES = 100_000_000  # safetensors refuses longer ones


def network(spec: ForeignSpec, task: Task, file: WeightFile) -> tuple[nn.Module, tuple[str, ...]]:
    """The network, and notes. A plain state dict has batch norm's scale and the classifier's bias if it holds them.

    Raises `ModelError` or `TicketError` if the file is damaged or belongs to another network or task, `SpecError` if
    the family has no such width.
    """
    header = _own_header(file.data) if file.suffix == ".safetensors" else None
    if header is not None:
        return _own(spec, task, file, header)
    state = read_state(file.data, file.suffix, file.where)
    module = _like(spec, task, state)
    fill(module, state, file.where, task.classes)
    return module, ()


def _own_header(data: bytes) -> dict[str, Any] | None:
    """The safetensors header of a ticket or checkpoint of ours; None for any other file."""
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + size]) if size <= _MAX_HEADER_BYTES else None
        return header if header is not None and "rstbench" in header["__metadata__"] else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None  # whatever it is, reading it as a state dict will say so


def _own(
    spec: ForeignSpec, task: Task, file: WeightFile, header: Mapping[str, Any]
) -> tuple[nn.Module, tuple[str, ...]]:
    if "mask" in header:
        ticket = read_ticket(file.data, file.where)
        module, model, kind = ticket.network(), ticket.model, f"ticket at {100 * ticket.remaining_ratio:g} %"
    else:
        module, kind = checkpoint_network(file.data, file.where), "checkpoint"
        model = ModelSpec.model_validate(json.loads(header["__metadata__"]["rstbench"])["model"])
    for what, has, asked in (
        ("family", model.family, spec.name),
        ("width", model.width, spec.width),
        ("number of classes", model.classes, task.classes),
        ("number of channels", model.channels, task.channels),
        ("image size", model.image_size, task.image_size),
    ):
        if has != asked:
            raise ModelError(f"{file.where}: the {kind.split()[0]}'s {what} is {has}; {asked} is asked for here")
    if not spec.normalise or spec.mean is not None:
        raise ModelError(f"{file.where}: says itself how it normalises; leave `normalise`, `mean` and `std` out")
    notes = [f"{kind} of rstbench"]
    if (model.mean, model.std) != (task.mean, task.std):
        notes.append("normalises as the data it was made for, not as the data set here")
    return module, tuple(notes)


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
