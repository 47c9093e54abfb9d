"""Tickets that tests write, and then spoil."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from rstbench.networks import ModelSpec, build
from rstbench.networks.init import initialise, theta_digest
from rstbench.spec.base import canonical_json
from rstbench.tickets.container import pack
from rstbench.tickets.mask import kept_units, maskable, select, unit_shape
from rstbench.tickets.ticket import Ticket
from tests.networks.specs import digits

TINY = digits("preact_resnet10", width=0.0625)


def ticket(
    model: ModelSpec = TINY,
    ratio: float = 0.5,
    pattern: str = "element",
    init: str = "signed_kaiming_constant",
    seed: int = 3,
) -> Ticket:
    """A ticket with a mask of random scores, and buffers as a search would leave them."""
    module = build(model)
    initialise(module, init, seed)
    random = torch.Generator().manual_seed(seed)
    masks = {}
    for name, weight in maskable(module).items():
        scores = torch.rand(unit_shape(tuple(weight.shape), pattern), generator=random)
        masks[name] = select(scores, kept_units(scores.numel(), ratio))
    weights = dict(module.named_parameters())
    buffers = {}
    for name, value in module.state_dict().items():
        if name not in weights:
            drawn = torch.rand(value.shape, generator=random)
            buffers[name] = drawn - 0.5 if "mean" in name else (100 * drawn + 1).to(value.dtype)
    origin = {"checkpoint": "last", "data": {"source": "digits"}, "note": "ähnlich"}
    return Ticket(model, init, seed, ratio, pattern, theta_digest(module), masks, buffers, origin)


def header_of(data: bytes) -> dict[str, Any]:
    """The header of a ticket or checkpoint file."""
    outer = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    header: dict[str, Any] = json.loads(outer["__metadata__"]["rstbench"])
    return header


def forged(
    data: bytes,
    header: Callable[[dict[str, Any]], object] = lambda _: None,
    tensors: Callable[[dict[str, Tensor]], object] = lambda _: None,
) -> bytes:
    """The file with its header or tensors changed, and the digest made right again."""
    fields, values = header_of(data), load(data)
    header(fields)
    tensors(values)
    del fields["digest"]
    return pack(fields, values)


def raw(data: bytes, text: str) -> bytes:
    """The file with another header text; no digest is made right."""
    return save(load(data), metadata={"rstbench": text})


def undigested(data: bytes) -> bytes:
    """The file without a digest, as the first checkpoints were written."""
    fields = header_of(data)
    fields.pop("digest")
    return raw(data, canonical_json(fields))
