from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load
from torch import Tensor

from rstbench.errors import TicketError
from rstbench.networks import build
from rstbench.spec.models import PATTERNS
from rstbench.tickets.mask import maskable
from rstbench.tickets.pruned import read_pruned
from tests.networks.specs import spec
from tests.tickets.tickets import DENSE, forged, header_of, pruned, ticket

DATA = pruned().to_bytes()


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("ratio", [0.01, 0.3, 1.0])
def test_round_trip(pattern: str, ratio: float) -> None:
    made = pruned(pattern=pattern, ratio=ratio)
    data = made.to_bytes()
    back = read_pruned(data)
    assert back.to_bytes() == data and back.provenance == made.provenance
    assert (back.model, back.pattern, back.remaining_ratio) == (made.model, pattern, ratio)
    assert back.state.keys() == made.state.keys()
    for name, value in made.state.items():
        assert torch.equal(back.state[name], value) and back.state[name].dtype == value.dtype, name
    network = back.network()
    assert not network.training and not any(value.requires_grad for value in network.parameters())
    expected = build(DENSE)
    expected.load_state_dict(made.state)
    images = torch.rand(3, 1, 8, 8)
    assert torch.equal(network(images), expected.eval()(images))


def test_only_kept_weights_take_room() -> None:
    made = pruned(spec("preact_resnet18", width=0.25), ratio=0.05)
    weights = sum(value.numel() for value in maskable(build(made.model)).values())
    others = sum(value.numel() for value in made.state.values()) - weights
    assert len(made.to_bytes()) < 4 * (0.051 * weights + others) + 0.3 * weights / 8 + 20_000
    assert len(load(DATA)["kept/stem.weight"]) == int(pruned().masks["stem.weight"].sum())


def test_memory_layout_does_not_matter() -> None:
    made = pruned()
    state = {
        name: value.to(memory_format=torch.channels_last) if value.dim() == 4 else value
        for name, value in made.state.items()
    }
    assert replace(made, state=state).to_bytes() == DATA


def test_a_dropped_weight_that_is_not_zero_is_never_lost_in_silence() -> None:
    made = pruned()
    state = dict(made.state) | {"stem.weight": torch.ones_like(made.state["stem.weight"])}
    with pytest.raises(TicketError, match=r"weights of stem.weight that the mask drops are not zero"):
        replace(made, state=state).to_bytes()


@settings(deadline=None, max_examples=100)
@given(at=st.integers(0, len(DATA) - 1) | st.integers(0, 8 + int.from_bytes(DATA[:8], "little")), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(at: int, bit: int) -> None:
    flipped = bytearray(DATA)
    flipped[at] ^= 1 << bit
    with pytest.raises(TicketError, match="here:"):
        read_pruned(bytes(flipped), "here")


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("kept/stem.weight"),
        lambda tensors: tensors.pop("parameter/classifier.bias"),
        lambda tensors: tensors.pop("buffer/bn.running_mean"),
        lambda tensors: tensors.update(more=torch.zeros(1)),
        lambda tensors: tensors.update({"parameter/bn.running_mean": tensors.pop("buffer/bn.running_mean")}),
        lambda tensors: tensors.update({"buffer/classifier.bias": tensors.pop("parameter/classifier.bias")}),
        lambda tensors: tensors.update({"parameter/stem.weight": torch.zeros(4, 1, 3, 3)}),
        lambda tensors: tensors.update({"parameter/classifier.bias": torch.zeros(3)}),
        lambda tensors: tensors.update({"kept/classifier.bias": tensors["parameter/classifier.bias"]}),
    ],
)
def test_tensors_that_are_not_its_networks(change: Callable[[dict[str, Tensor]], object]) -> None:
    with pytest.raises(TicketError, match="its tensors are not those of a pruned preact_resnet10"):
        read_pruned(forged(DATA, tensors=change))


@pytest.mark.parametrize(
    "values", [torch.zeros(3), torch.zeros(18).double(), torch.zeros(18, 1), torch.zeros(0), torch.zeros(19)]
)
def test_kept_weights_are_as_many_as_the_mask_keeps(values: Tensor) -> None:
    assert int(pruned().masks["stem.weight"].sum()) == 18
    with pytest.raises(TicketError, match=r"layer stem.weight holds .* not those its mask keeps"):
        read_pruned(forged(DATA, tensors=lambda tensors: tensors.update({"kept/stem.weight": values})))


@pytest.mark.parametrize(
    "change",
    [{"kind": "ticket"}, {"pattern": "filter"}, {"remaining_ratio": 0}, {"layers": []}, {"provenance": []},
     {"weights": {"kind": "random"}}, {"model": 1}, {"format": 2}],
)  # fmt: skip
def test_headers_that_are_none(change: dict[str, Any]) -> None:
    with pytest.raises(TicketError):
        read_pruned(forged(DATA, lambda header: header.update(change)))


@pytest.mark.parametrize(
    "data", [b"", DATA[:-1], DATA + b"\0", ticket().to_bytes()], ids=["empty", "short", "long", "t"]
)
def test_what_is_none_says_so(data: bytes) -> None:
    with pytest.raises(TicketError, match=r"^here: ") as caught:
        read_pruned(data, "here")
    assert "\n" not in str(caught.value)


def test_the_mask_is_needed_and_must_be_the_networks() -> None:
    assert header_of(DATA)["kind"] == "pruned"
    with pytest.raises(TicketError, match="mask"):
        read_pruned(forged(DATA, tensors=lambda tensors: tensors.pop("mask")))
    with pytest.raises(TicketError, match="the mask's layers are not those of"):
        read_pruned(forged(DATA, lambda header: header["model"].update(width=0.125)))
