from __future__ import annotations

import copy
import json
import pickle
import resource
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rstbench.errors import TicketError
from rstbench.networks import ModelSpec, build
from rstbench.networks.init import initialise
from rstbench.spec.models import INITS, PATTERNS
from rstbench.tickets.mask import expand, maskable
from rstbench.tickets.ticket import Ticket, load_ticket, read_ticket
from tests.networks.specs import digits, spec
from tests.tickets.tickets import TINY, forged, header_of, raw, ticket

SMALL = ticket().to_bytes()


def equal(one: Ticket, other: Ticket) -> bool:
    def facts(of: Ticket) -> list[Any]:
        return [of.model, of.weights, of.remaining_ratio, of.pattern, of.theta_digest, of.provenance]

    def tensors(of: Ticket) -> dict[str, Tensor]:
        return {f"mask/{name}": mask for name, mask in of.masks.items()} | dict(of.buffers)

    mine, its = tensors(one), tensors(other)
    return (
        facts(one) == facts(other)
        and list(mine) == list(its)
        and all(torch.equal(mine[name], its[name]) for name in mine)
    )


@settings(deadline=None, max_examples=25)
@given(
    pattern=st.sampled_from(PATTERNS),
    init=st.sampled_from(INITS),
    seed=st.integers(0, 2**63 - 1),
    ratio=st.floats(1e-6, 1.0),
)
def test_round_trip(pattern: str, init: str, seed: int, ratio: float) -> None:
    made = ticket(ratio=ratio, pattern=pattern, init=init, seed=seed)
    data = made.to_bytes()
    back = read_ticket(data)
    assert equal(_sorted(back), _sorted(made))
    assert back.to_bytes() == data  # equal tickets are equal files
    weights = maskable(back.network())
    for name, mask in made.masks.items():
        assert int(weights[name].count_nonzero()) == int(mask.sum()) * weights[name].numel() // mask.numel()


def _sorted(of: Ticket) -> Ticket:
    changed = {"buffers": dict(sorted(of.buffers.items()))}
    return Ticket(**{**{name: getattr(of, name) for name in of.__dataclass_fields__}, **changed})


@pytest.mark.parametrize("pattern", PATTERNS)
def test_loading_gives_a_plain_network_of_theta_times_mask(pattern: str, tmp_path: Path) -> None:
    model = digits("preact_resnet10", width=0.0625, bn_affine=True, classifier_bias=True)
    made = ticket(model, pattern=pattern, init="kaiming_normal")
    path = tmp_path / "a.ticket"
    path.write_bytes(made.to_bytes())
    network = load_ticket(path).network()
    theta = build(model)
    initialise(theta, "kaiming_normal", 3)
    assert type(network) is type(theta) and not network.training
    assert not any(part.training for part in network.modules())
    expected = dict(theta.named_parameters())
    for name, value in network.named_parameters():
        assert type(value) is nn.Parameter and not value.requires_grad
        mask = made.masks.get(name)
        assert torch.equal(value, expected[name] if mask is None else expected[name] * expand(mask, value)), name
    state = network.state_dict()
    assert all(
        torch.equal(state[name], buffer) and state[name].dtype == buffer.dtype for name, buffer in made.buffers.items()
    )
    images = torch.rand(2, 1, 8, 8, requires_grad=True)
    network(images).sum().backward()
    assert images.grad is not None and bool(images.grad.any())
    assert torch.equal(copy.deepcopy(network)(images), network(images))


@pytest.mark.parametrize(("ratio", "limit"), [(0.05, 600_000), (0.2, 1_200_000)])
def test_a_preact_resnet18_ticket_is_small(ratio: float, limit: int) -> None:
    made = ticket(spec("preact_resnet18"), ratio=ratio)
    data = made.to_bytes()
    assert len(data) <= limit
    assert all(torch.equal(mask, made.masks[name]) for name, mask in read_ticket(data).masks.items())


def test_every_flipped_bit_is_noticed() -> None:
    header = 8 + int.from_bytes(SMALL[:8], "little")
    for at in [*range(header), *range(header, len(SMALL), max(1, (len(SMALL) - header) // 200)), len(SMALL) - 1]:
        flipped = bytearray(SMALL)
        flipped[at] ^= 1 << (at % 8)
        with pytest.raises(TicketError, match="ticket:"):
            read_ticket(bytes(flipped))
            pytest.fail(f"bit {at % 8} of byte {at} of {len(SMALL)}")


@settings(deadline=None, max_examples=200)
@given(at=st.integers(0, len(SMALL) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(at: int, bit: int) -> None:
    flipped = bytearray(SMALL)
    flipped[at] ^= 1 << bit
    with pytest.raises(TicketError):
        read_ticket(bytes(flipped))


def test_what_is_no_ticket_says_so(tmp_path: Path) -> None:
    files = {
        "empty": b"",
        "eight": b"\xff" * 8,
        "half": SMALL[: len(SMALL) // 2],
        "short": SMALL[:-1],
        "longer": SMALL + b"\0",
        "pickle": pickle.dumps({"mask": [1, 2, 3]}),
        "deep": (200_000).to_bytes(8, "little") + b"[" * 200_000,
        "torch": _torch_file(),
        "digits": raw(SMALL, '{"format":' + "9" * 5000 + "}"),
        "nan": raw(SMALL, '{"format":1,"digest":NaN}'),
        "list": raw(SMALL, "[1]"),
        "text": raw(SMALL, "ticket"),
        "nested": raw(SMALL, '{"format":1,"digest":"","provenance":' + "[" * 900 + "]" * 900 + "}"),
        "surrogate": raw(SMALL, '{"format":1,"pattern":"\\ud800"}'),
    }
    for name, data in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(TicketError) as caught:
            load_ticket(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < len(str(path)) + 400, name
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(TicketError, match="directory"):
            load_ticket(path)


def _torch_file() -> bytes:
    import io

    stream = io.BytesIO()
    torch.save({"mask": torch.ones(3)}, stream)
    return stream.getvalue()


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as stream:
        stream.truncate(2**40)  # takes no room
    with pytest.raises(TicketError, match="more than any ticket takes"):
        load_ticket(path)


def test_a_ticket_of_a_later_format_is_named() -> None:
    with pytest.raises(TicketError, match="ticket format 2; this rstbench reads format 1"):
        read_ticket(forged(SMALL, lambda header: header.update(format=2)))


def test_a_ticket_for_another_network() -> None:
    def model(**changes: Any) -> Callable[[dict[str, Any]], object]:
        return lambda header: header["model"].update(changes)

    for changes in ({"width": 0.125}, {"family": "preact_resnet18"}, {"classes": 7}, {"family": "cifar_resnet18"}):
        with pytest.raises(
            TicketError, match=f"the mask's layers are not those of {changes.get('family', 'preact_resnet10')}"
        ):
            read_ticket(forged(SMALL, model(**changes)))
    affine = read_ticket(forged(SMALL, model(bn_affine=True)))
    with pytest.raises(TicketError, match="another network"):
        affine.network()


@pytest.mark.parametrize("change", [{"seed": 4}, {"init": "kaiming_normal"}])
def test_weights_that_cannot_be_regenerated(change: dict[str, Any]) -> None:
    other = read_ticket(forged(SMALL, lambda header: header["weights"].update(change)))
    with pytest.raises(
        TicketError, match=r"regenerated from the ticket's seed are not those it was drawn from \(SHA-256"
    ):
        other.network()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": "3"}, {"seed": -1}, {"seed": 2**63}, {"seed": 10**400}, {"seed": 3.0}, {"seed": True}, {"seed": None},
        {"init": "glorot"}, {"init": None}, {"init": ["kaiming_normal"]}, {"kind": "stored"}, {"more": 1},
    ],
)  # fmt: skip
def test_recipes_that_are_none(change: dict[str, Any]) -> None:
    with pytest.raises(TicketError, match=r"not a ticket of ours: its header's 'weights[.']"):
        read_ticket(forged(SMALL, lambda header: header["weights"].update(change)))


@pytest.mark.parametrize(
    "change",
    [
        {"pattern": "filter"}, {"pattern": 3}, {"remaining_ratio": 0}, {"remaining_ratio": 1.5},
        {"remaining_ratio": "1"}, {"theta_digest": 7}, {"provenance": []}, {"layers": {}}, {"layers": [[1, 2, 3]]},
        {"layers": None}, {"model": 1}, {"weights": "random"}, {"format": 1.5}, {"format": "1"}, {"extra": 1},
    ],
)  # fmt: skip
def test_headers_that_are_none(change: dict[str, Any]) -> None:
    with pytest.raises(TicketError):
        read_ticket(forged(SMALL, lambda header: header.update(change)))


@pytest.mark.parametrize("key", sorted(header_of(SMALL).keys() - {"digest", "format"}))
def test_a_header_without_a_key(key: str) -> None:
    with pytest.raises(TicketError, match=f"'{key}' is wrong"):
        read_ticket(forged(SMALL, lambda header: header.pop(key)))


@pytest.mark.parametrize(
    "change",
    [{"classes": 10**12}, {"classes": 10**400}, {"classes": 100_001}, {"width": 4.5}, {"image_size": 10**9},
     {"channels": 65, "mean": [0.5] * 65, "std": [0.5] * 65}, {"channels": 2}, {"family": "os.system"}, {"std": [0.0]},
     {"family": "resnet50", "width": 0.5}],
)  # fmt: skip
def test_networks_that_no_ticket_may_ask_for(change: dict[str, Any]) -> None:
    with pytest.raises(TicketError):
        read_ticket(forged(SMALL, lambda header: header["model"].update(change)))


def test_a_digest_is_needed_and_must_be_right() -> None:
    header = header_of(SMALL)
    for spoilt in (
        {key: value for key, value in header.items() if key != "digest"},
        header | {"digest": header["digest"].upper()},
        header | {"digest": None},
        header | {"digest": "0" * 64},
    ):
        with pytest.raises(TicketError):
            read_ticket(raw(SMALL, json.dumps(spoilt, sort_keys=True, separators=(",", ":"))))
    with pytest.raises(TicketError):  # the same content in another writing
        read_ticket(raw(SMALL, json.dumps(header)))


def _mask(data: bytes) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.update(mask=torch.frombuffer(bytearray(data), dtype=torch.uint8))


def test_masks_that_do_not_unpack() -> None:
    units = sum(layer[2] for layer in header_of(SMALL)["layers"]) * 2
    for spoilt, message in {
        b"no zlib": "does not unpack",
        zlib.compress(bytes(3)): "another number of bytes",
        zlib.compress(bytes(units)): "another number of bytes",
        zlib.compress(
            bytes((sum(weight.numel() for weight in maskable(build(TINY)).values()) + 7) // 8)
        ): "keeps 0 units",
    }.items():
        with pytest.raises(TicketError, match=message):
            read_ticket(forged(SMALL, tensors=_mask(spoilt)))
    for change in (
        lambda tensors: tensors.pop("mask"),
        lambda tensors: tensors.update(mask=tensors["mask"].float()),
        lambda tensors: tensors.update(mask=tensors["mask"].bfloat16()),
        lambda tensors: tensors.update(mask=torch.zeros(0, dtype=torch.uint8)),
        lambda tensors: tensors.update(theta=torch.zeros(3)),
    ):
        with pytest.raises(TicketError):
            read_ticket(forged(SMALL, tensors=change))


def test_a_mask_that_would_unpack_without_end_takes_no_memory() -> None:
    bomb = forged(SMALL, tensors=_mask(zlib.compress(bytes(2**28), 9)))
    assert len(bomb) < 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TicketError, match="another number of bytes"):
        read_ticket(bomb)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 2**26


@pytest.mark.parametrize(
    "change",
    [
        lambda buffers: buffers.pop("buffer/bn.running_mean"),
        lambda buffers: buffers.update({"buffer/bn.running_mean": torch.zeros(3)}),
        lambda buffers: buffers.update({"buffer/bn.running_mean": torch.zeros(32, dtype=torch.float64)}),
        lambda buffers: buffers.update({"buffer/unknown": torch.zeros(3)}),
        lambda buffers: buffers.update({"buffer/stem.weight": torch.ones(4, 1, 3, 3)}),  # weights come from the seed
    ],
)
def test_buffers_that_are_not_the_networks(change: Callable[[dict[str, Tensor]], object]) -> None:
    spoilt = read_ticket(forged(SMALL, tensors=change))
    with pytest.raises(TicketError, match="batch-norm buffers are not those of its network"):
        spoilt.network()


def test_a_ticket_whose_layers_are_not_its_networks() -> None:
    made = ticket()
    masks = dict(list(made.masks.items())[1:])
    fields = {name: getattr(made, name) for name in made.__dataclass_fields__} | {"masks": masks}
    with pytest.raises(TicketError, match="masks 12 layers"):
        Ticket(**fields).network()


def test_provenance_is_kept_as_it_is() -> None:
    assert read_ticket(SMALL).provenance["note"] == "ähnlich"
    assert isinstance(read_ticket(SMALL).model, ModelSpec)
