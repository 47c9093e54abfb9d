from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rstbench.errors import TicketError
from rstbench.networks import ModelSpec, build
from rstbench.networks.init import initialise
from rstbench.tickets.checkpoint import checkpoint_bytes, checkpoint_network
from tests.networks.specs import digits
from tests.tickets.tickets import forged, header_of, raw, ticket, undigested

MODEL = digits("preact_resnet10", width=0.0625, bn_affine=True, classifier_bias=True)


def _network(model: ModelSpec = MODEL) -> nn.Module:
    network = build(model)
    initialise(network, "kaiming_normal", 1)
    random = torch.Generator().manual_seed(0)
    for buffer in network.state_dict().values():
        if not buffer.requires_grad and not bool(buffer.any()):
            buffer.copy_(torch.randint(1, 9, buffer.shape, generator=random))  # running means, as of some training
    return network


DATA = checkpoint_bytes(MODEL, _network().state_dict())


def test_round_trip() -> None:
    network, expected = checkpoint_network(DATA), _network().state_dict()
    assert type(network) is type(_network()) and not network.training
    state = network.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) and state[name].dtype == value.dtype for name, value in expected.items())
    assert not any(value.requires_grad for value in network.parameters())
    assert checkpoint_bytes(MODEL, state) == DATA


def test_tensors_may_share_memory_or_lie_in_another_layout() -> None:
    network = _network().to(memory_format=torch.channels_last)
    assert checkpoint_bytes(MODEL, network.state_dict()) == DATA
    state = network.state_dict()
    joined = torch.cat([value.flatten() for value in state.values() if value.dtype == torch.float32])
    views, at = {}, 0
    for name, value in state.items():
        if value.dtype == torch.float32:
            views[name] = joined[at : at + value.numel()].view(value.shape)
            at += value.numel()
    assert checkpoint_bytes(MODEL, state | views) == DATA


def test_the_first_checkpoints_had_no_digest() -> None:
    assert "digest" in header_of(DATA) and "digest" not in header_of(undigested(DATA))
    state = checkpoint_network(undigested(DATA)).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in checkpoint_network(DATA).state_dict().items())


@settings(deadline=None, max_examples=200)
@given(at=st.integers(0, len(DATA) - 1) | st.integers(0, 8 + int.from_bytes(DATA[:8], "little")), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(at: int, bit: int) -> None:
    flipped = bytearray(DATA)
    flipped[at] ^= 1 << bit
    with pytest.raises(TicketError, match="checkpoint:"):
        checkpoint_network(bytes(flipped))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff" * 9, DATA[:-1], DATA[: len(DATA) // 2], DATA + b"\0", pickle.dumps({"a": 1}),
        raw(DATA, "[]"), raw(DATA, "{"), raw(DATA, '{"format":1}'), raw(DATA, '{"format":1,"model":{}}'),
        raw(DATA, json.dumps(header_of(DATA) | {"digest": "0" * 64}, sort_keys=True, separators=(",", ":"))),
        ticket().to_bytes(),
    ],
    ids=["empty", "ff", "short", "half", "longer", "pickle", "list", "no-json", "no-model", "no-spec", "digest",
         "ticket"],
)  # fmt: skip
def test_what_is_no_checkpoint_says_so(data: bytes) -> None:
    with pytest.raises(TicketError, match=r"^here: ") as caught:
        checkpoint_network(data, "here")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [{"width": 0.125}, {"family": "cifar_resnet18"}, {"classes": 3}, {"bn_affine": False}, {"classifier_bias": False},
     {"classes": 10**12}, {"classes": -1}, {"family": "resnet50"}, {"family": "nothing"}],
)  # fmt: skip
def test_a_checkpoint_of_another_network(change: dict[str, Any]) -> None:
    with pytest.raises(TicketError):
        checkpoint_network(forged(DATA, lambda header: header["model"].update(change)))


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("stem.weight"),
        lambda tensors: tensors.update(more=torch.zeros(1)),
        lambda tensors: tensors.update({"stem.weight": torch.zeros(4, 1, 3)}),
        lambda tensors: tensors.update({"stem.weight": tensors["stem.weight"].double()}),
    ],
)
def test_tensors_that_are_not_the_networks(change: Callable[[dict[str, Tensor]], object]) -> None:
    with pytest.raises(TicketError, match="its tensors are not those of a preact_resnet10"):
        checkpoint_network(forged(DATA, tensors=change))


def test_a_checkpoint_of_a_later_format_is_named() -> None:
    with pytest.raises(TicketError, match="checkpoint format 2; this rstbench reads format 1"):
        checkpoint_network(forged(DATA, lambda header: header.update(format=2)))
