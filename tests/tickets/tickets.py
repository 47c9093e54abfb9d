"""Tickets that tests write, and then spoil."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from rstbench.networks import ModelSpec, build
from rstbench.networks.init import initialise, theta_digest
from rstbench.spec.base import canonical_json
from rstbench.tickets.container import pack
from rstbench.tickets.mask import expand, kept_units, maskable, select, unit_shape
from rstbench.tickets.pruned import Pruned
from rstbench.tickets.ticket import Ticket
from rstbench.tickets.weights import LoadWeights, RandomWeights, TrainedWeights, fill
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
    weights = RandomWeights(init=init, seed=seed)
    return Ticket(model, weights, ratio, pattern, theta_digest(module), masks, buffers, origin)


KEY = "0123456789abcdef" * 4
DENSE = digits("preact_resnet10", width=0.0625, bn_affine=True, classifier_bias=True)


def trained(model: ModelSpec = DENSE, seed: int = 1) -> dict[str, Tensor]:
    """The state dict of a dense network as some training would leave it."""
    random = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(value.shape, generator=random) + 0.1 if value.is_floating_point() else torch.tensor(7)
        for name, value in build(model).state_dict().items()
    }


def store_of(state: dict[str, Tensor], key: str = KEY, checkpoint: str = "last") -> LoadWeights:
    """What finds trained weights, and only under their own name."""

    def load(asked: str, of: str) -> dict[str, Tensor]:
        assert (asked, of) == (key, checkpoint)
        return state

    return load


def rtt(model: ModelSpec = DENSE, classifier: str = "kept", state: dict[str, Tensor] | None = None) -> Ticket:
    """A ticket of trained weights."""
    weights = TrainedWeights(key=KEY, checkpoint="last", classifier=classifier, init="kaiming_normal", seed=5)
    module = build(model)
    fill(module, model, weights, store_of(trained() if state is None else state))
    made = ticket(model)
    return replace(made, weights=weights, theta_digest=theta_digest(module))


def pruned(model: ModelSpec = DENSE, pattern: str = "element", ratio: float = 0.5) -> Pruned:
    """A pruned network with weights as some training would leave them."""
    masks = ticket(model, ratio, pattern).masks
    state = trained(model)
    for name, mask in masks.items():
        state[name] = (state[name] - 0.6) * expand(mask, state[name])
    origin = {"checkpoint": "last", "tune": {"start": "inherited"}, "ticket": {"key": KEY, "checkpoint": "last"}}
    return Pruned(model, ratio, pattern, masks, state, origin)


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
