from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rstbench.errors import ModelError
from tests.attacks.networks import images
from tests.foreign.models import loaded, normalised, randomised, saved

timm = pytest.importorskip("timm")

NAME, TAG = "test_byobnet", "r160_in1k"
CONFIG = timm.models.get_pretrained_cfg(f"{NAME}.{TAG}")


def source(classes: int = 10, channels: int = 3, name: str = NAME, **options: object) -> nn.Module:
    return randomised(timm.create_model(name, num_classes=classes, in_chans=channels, **options))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hugging Face hub, which is not asked: as where there is no network."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_with_the_data_sets_normalisation(tmp_path: Path, suffix: str, channels: int) -> None:
    saved(source(channels=channels), tmp_path / f"a{suffix}")
    found = loaded(tmp_path, channels=channels, source="timm", name=NAME, file=f"a{suffix}").module
    inputs = images(3, channels, side=32)
    mean, std = (0.4, 0.5, 0.6)[:channels], (0.2, 0.25, 0.3)[:channels]
    assert torch.equal(found(inputs), source(channels=channels)(normalised(inputs, mean, std)))
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_a_network_of_fixed_size_is_built_for_the_images(tmp_path: Path) -> None:
    saved(source(name="test_vit", img_size=32), tmp_path / "v.pt")
    found = loaded(tmp_path, source="timm", name="test_vit", file="v.pt", normalise=False).module
    assert torch.equal(found(images(3, side=32)), source(name="test_vit", img_size=32)(images(3, side=32)))


def test_wrong_names_and_classes(tmp_path: Path) -> None:
    saved(source(7), tmp_path / "a.pth")
    for fields, message in (
        ({"name": "resnett18", "file": "a.pth"}, "timm has no network 'resnett18'; did you mean 'resnet18'"),
        ({"name": f"{NAME}.{TAG}", "file": "a.pth"}, "timm has no network"),
        ({"file": "a.pth"}, r"a\.pth: the weights are for 7 classes, the data set has 10"),
        ({"weights": "r160_in1"}, "no weights 'r160_in1' for test_byobnet; it has r160_in1k; did you mean 'r160_in1k'"),
        ({"weights": TAG}, "are for 1000 classes, the data set has 10"),
        ({"weights": TAG, "channels": 1, "classes": 1000}, "are for 3 channels, the data set has 1"),
    ):
        with pytest.raises(ModelError, match=message):
            loaded(tmp_path, **({"source": "timm", "name": NAME} | fields))


def test_weights_that_cannot_be_downloaded(tmp_path: Path, hub: Path) -> None:
    with pytest.raises(ModelError) as caught:
        loaded(tmp_path, 1000, source="timm", name=NAME, weights=TAG)
    message = str(caught.value)
    assert "could not be downloaded" in message and f"timm/{NAME}.{TAG}" in message and str(hub) in message
    assert "\n" not in message


def test_cached_weights(tmp_path: Path, hub: Path) -> None:
    repository = hub / f"models--timm--{NAME}.{TAG}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("0" * 40)
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    save_file(source(1000).state_dict(), snapshot / "model.safetensors")
    found = loaded(tmp_path, 1000, source="timm", name=NAME, weights=TAG)
    inputs = images(3, side=32)
    assert torch.equal(found.module(inputs), source(1000)(normalised(inputs, CONFIG.mean, CONFIG.std)))
    assert found.notes[0].startswith("weights SHA-256 ") and "160 pixels, images here have 32" in found.notes[1]
    (snapshot / "model.safetensors").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ModelError, match="not a safetensors file"):
        loaded(tmp_path, 1000, source="timm", name=NAME, weights=TAG)


def test_without_timm_there_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(source(), tmp_path / "a.pth")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match="models of source timm need the package timm"):
        loaded(tmp_path, source="timm", name=NAME, file="a.pth")
