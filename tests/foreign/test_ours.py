from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from rstbench.errors import ModelError, TicketError
from rstbench.networks import build
from rstbench.networks.init import initialise
from rstbench.tickets.checkpoint import checkpoint_bytes
from tests.attacks.networks import images
from tests.foreign.models import MEAN, STD, loaded, randomised, saved
from tests.networks.specs import spec as model_spec
from tests.tickets.tickets import KEY, forged, pruned, rtt, store_of, ticket, trained

TINY = {"width": 0.0625}
FAMILY = "preact_resnet10"
CIFAR = model_spec(FAMILY, **TINY)


def network(affine: bool, bias: bool, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> nn.Module:
    model = model_spec(FAMILY, **TINY, bn_affine=affine, classifier_bias=bias, mean=mean, std=std)
    return randomised(build(model))


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_plain_state_dict_of_every_variant(tmp_path: Path, affine: bool, bias: bool, suffix: str) -> None:
    source = network(affine, bias)
    saved(source, tmp_path / f"weights/a{suffix}")
    found = loaded(tmp_path, source="rstbench", name=FAMILY, file=f"weights/a{suffix}", **TINY)
    assert torch.equal(found.module(images(4, side=32)), source(images(4, side=32)))
    assert not any(module.training for module in found.module.modules())
    assert not any(parameter.requires_grad for parameter in found.module.parameters())


def test_normalisation_is_the_data_sets_or_the_specs_or_none(tmp_path: Path) -> None:
    saved(network(True, True), tmp_path / "a.pt")
    one, zero = (0.1, 0.2, 0.3), (0.0,) * 3
    for fields, mean, std in (
        ({}, MEAN, STD),
        ({"mean": one, "std": (0.5, 0.6, 0.7)}, one, (0.5, 0.6, 0.7)),
        ({"normalise": False}, zero, (1.0,) * 3),
    ):
        found = loaded(tmp_path, source="rstbench", name=FAMILY, file="a.pt", **TINY, **fields)
        assert torch.equal(found.module(images(4, side=32)), network(True, True, mean, std)(images(4, side=32)))


def test_a_ticket(tmp_path: Path) -> None:
    found = ticket(CIFAR, ratio=0.2)
    (tmp_path / "t.safetensors").write_bytes(found.to_bytes())
    got = loaded(tmp_path, source="rstbench", name=FAMILY, file="t.safetensors", **TINY)
    assert torch.equal(got.module(images(4, side=32)), found.network()(images(4, side=32)))
    assert got.notes[0] == "ticket at 20 % of rstbench" and "not as the data set here" in got.notes[1]


def test_a_checkpoint(tmp_path: Path) -> None:
    model = model_spec(FAMILY, **TINY, mean=MEAN, std=STD, bn_affine=True)
    source = build(model)
    initialise(source, "kaiming_normal", 0)
    (tmp_path / "c.safetensors").write_bytes(checkpoint_bytes(model, source.state_dict()))
    got = loaded(tmp_path, source="rstbench", name=FAMILY, file="c.safetensors", **TINY)
    assert torch.equal(got.module(images(4, side=32)), source.eval()(images(4, side=32)))
    assert got.notes == ("checkpoint of rstbench",)


def test_a_pruned_network(tmp_path: Path) -> None:
    source = pruned(CIFAR, ratio=0.2)
    (tmp_path / "p.safetensors").write_bytes(source.to_bytes())
    got = loaded(tmp_path, source="rstbench", name=FAMILY, file="p.safetensors", **TINY)
    assert torch.equal(got.module(images(4, side=32)), source.network()(images(4, side=32)))
    assert got.notes[0] == "pruned network at 20 % of rstbench"
    with pytest.raises(ModelError, match=r"the pruned network's width is 0.0625; 0.125 is asked for"):
        loaded(tmp_path, source="rstbench", name=FAMILY, file="p.safetensors", width=0.125)


def test_a_ticket_of_trained_weights_finds_them_beside_it(tmp_path: Path) -> None:
    model = model_spec(FAMILY, **TINY, mean=MEAN, std=STD, bn_affine=True)
    state = trained(model)
    source = rtt(model, state=state)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "t.safetensors").write_bytes(source.to_bytes())
    asked = {"source": "rstbench", "name": FAMILY, "file": "sub/t.safetensors", **TINY}
    with pytest.raises(ModelError) as caught:
        loaded(tmp_path, **asked)
    beside = f"{KEY}-last.safetensors"
    assert f"copy last.safetensors of value {KEY}" in str(caught.value) and str(caught.value).endswith(beside)
    (tmp_path / "sub" / beside).write_bytes(checkpoint_bytes(model, state))
    got = loaded(tmp_path, **asked)
    assert torch.equal(got.module(images(4, side=32)), source.network(store_of(state))(images(4, side=32)))
    assert got.notes == ("ticket at 50 % of rstbench",)
    (tmp_path / "sub" / beside).write_bytes(checkpoint_bytes(model, trained(model, seed=2)))
    with pytest.raises(TicketError, match=r"are not those it was drawn from \(SHA-256 differs\)"):
        loaded(tmp_path, **asked)


def test_a_ticket_for_something_else_is_refused_with_both_values(tmp_path: Path) -> None:
    (tmp_path / "t.safetensors").write_bytes(ticket(CIFAR).to_bytes())
    asked = {"source": "rstbench", "file": "t.safetensors", "name": FAMILY, **TINY}
    for changes, message in (
        ({"name": "preact_resnet18"}, "family is preact_resnet10; preact_resnet18 is asked for"),
        ({"width": 0.125}, "width is 0.0625; 0.125 is asked for"),
        ({"classes": 100}, "number of classes is 10; 100 is asked for"),
        ({"channels": 1}, "number of channels is 3; 1 is asked for"),
        ({"image_size": 28}, "image size is 32; 28 is asked for"),
        ({"normalise": False}, "says itself how it normalises"),
    ):
        with pytest.raises(ModelError, match=message):
            loaded(tmp_path, **(asked | changes))


def test_a_damaged_ticket_is_not_read_as_a_plain_state_dict(tmp_path: Path) -> None:
    data = ticket(CIFAR).to_bytes()
    forgery = forged(data, tensors=lambda tensors: tensors.update(mask=tensors["mask"][:-1]))
    flipped = bytearray(data)
    flipped[-1] ^= 1
    for spoilt in (forgery, bytes(flipped)):
        (tmp_path / "t.safetensors").write_bytes(spoilt)
        with pytest.raises(TicketError, match=r"t\.safetensors: "):
            loaded(tmp_path, source="rstbench", name=FAMILY, file="t.safetensors", **TINY)


def test_other_weights_are_one_message(tmp_path: Path) -> None:
    saved(randomised(build(model_spec(FAMILY, **TINY, classes=7))), tmp_path / "seven.pt")
    with pytest.raises(ModelError, match=r"seven\.pt: the weights are for 7 classes, the data set has 10$"):
        loaded(tmp_path, source="rstbench", name=FAMILY, file="seven.pt", **TINY)
    saved(network(True, True), tmp_path / "wide.pt")
    with pytest.raises(ModelError, match=r"wide\.pt: .* has shape"):
        loaded(tmp_path, source="rstbench", name=FAMILY, file="wide.pt", width=0.25)
    with pytest.raises(ModelError, match="tensors are missing"):
        loaded(tmp_path, source="rstbench", name="preact_resnet18", file="wide.pt", **TINY)


def test_a_file_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "f.pt").mkdir()
    for name in ("nothing.pt", "f.pt"):
        with pytest.raises(ModelError, match=f"looked for {tmp_path / name}. Another data directory"):
            loaded(tmp_path, source="rstbench", name=FAMILY, file=name, **TINY)


def test_a_file_that_changed_since_it_was_planned(tmp_path: Path) -> None:
    from rstbench.foreign.identity import identify
    from tests.foreign.models import spec

    saved(network(True, True), tmp_path / "a.pt")
    fields = {"source": "rstbench", "name": FAMILY, "file": "a.pt", **TINY}
    planned = identify(spec(**fields), tmp_path)
    loaded(tmp_path, planned=planned, **fields)
    saved(network(True, False), tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"no longer what was planned with.*file_sha256 changed"):
        loaded(tmp_path, planned=planned, **fields)


def test_a_file_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rstbench.foreign import files

    saved(network(True, True), tmp_path / "a.pt")
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    with pytest.raises(ModelError, match=r"a\.pt: .* GiB are more than any weights"):
        loaded(tmp_path, source="rstbench", name=FAMILY, file="a.pt", **TINY)
