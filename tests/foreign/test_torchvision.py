from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from rstbench.errors import ModelError
from rstbench.foreign import torchvision_zoo
from tests.attacks.networks import images
from tests.foreign.models import loaded, normalised, randomised, saved

NAME = "shufflenet_v2_x0_5"
FILE = "shufflenetv2_x0.5-f707e7126e.pth"
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def source(classes: int = 10) -> nn.Module:
    return randomised(torchvision.models.get_model(NAME, num_classes=classes))


def of(data_dir: Path, **fields: object) -> torch.nn.Module:
    return loaded(data_dir, **({"source": "torchvision", "name": NAME} | fields)).module


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch's, in place of the user's."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that nobody answers at, so that no test depends on whether there is a network."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_with_the_data_sets_normalisation(tmp_path: Path, suffix: str) -> None:
    saved(source(), tmp_path / f"a{suffix}")
    inputs = images(3, side=32)
    state = torch.get_rng_state()
    found = of(tmp_path, file=f"a{suffix}")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(found(inputs), source()(normalised(inputs)))
    assert torch.equal(of(tmp_path, file=f"a{suffix}", normalise=False)(inputs), source()(inputs))
    own = {"mean": IMAGENET[0], "std": IMAGENET[1]}
    assert torch.equal(of(tmp_path, file=f"a{suffix}", **own)(inputs), source()(normalised(inputs, *IMAGENET)))


def test_gradients_reach_the_images(tmp_path: Path) -> None:
    saved(source(), tmp_path / "a.pth")
    module = of(tmp_path, file="a.pth")
    inputs = images(3, side=32).requires_grad_()
    (gradient,) = torch.autograd.grad(module(inputs).square().sum(), inputs)
    assert float(gradient.abs().amax()) > 0 and not any(p.requires_grad for p in module.parameters())


def test_wrong_names_and_classes(tmp_path: Path) -> None:
    saved(source(7), tmp_path / "a.pth")
    for fields, message in (
        ({"name": "resnet_18", "file": "a.pth"}, "no classification network 'resnet_18'; did you mean 'resnet18'"),
        ({"name": "fcn_resnet50", "file": "a.pth"}, "no classification network"),
        ({"file": "a.pth"}, r"a\.pth: the weights are for 7 classes, the data set has 10"),
        ({"weights": "IMAGENET1K_V2", "classes": 1000}, "no weights 'IMAGENET1K_V2' for .*; it has IMAGENET1K_V1"),
        ({"weights": "IMAGENET1K_V1"}, "are for 1000 classes, the data set has 10"),
        ({"file": "a.pth", "channels": 1}, "takes images of 3 channels; these have 1"),
        ({"file": "a.pth", "classes": 7, "mean": [0.5], "std": [0.5]}, "normalises 1 channels, the images have 3"),
    ):
        with pytest.raises(ModelError, match=message):
            of(tmp_path, **fields)


def test_images_too_small_for_the_network_are_one_message(tmp_path: Path) -> None:
    saved(randomised(torchvision.models.get_model("squeezenet1_1", num_classes=10)), tmp_path / "s.pth")
    with pytest.raises(ModelError, match=r"model squeezenet1_1 \(torchvision\): fails on float32 images 2 x 3 x 4 x 4"):
        of(tmp_path, name="squeezenet1_1", file="s.pth", image_size=4)


def test_weights_that_cannot_be_downloaded(tmp_path: Path, hub: Path, offline: None) -> None:
    with pytest.raises(ModelError) as caught:
        of(tmp_path, weights="IMAGENET1K_V1", classes=1000)
    message = str(caught.value)
    assert "could not be downloaded (<urlopen error" in message and str(hub / FILE) in message
    assert f"https://download.pytorch.org/models/{FILE}" in message and "\n" not in message


def test_a_cached_file_that_torchvision_did_not_publish(tmp_path: Path, hub: Path, offline: None) -> None:
    saved(source(1000), hub / FILE)
    with pytest.raises(ModelError, match=r"not the file that torchvision publishes .* does not begin with f707e7126e"):
        of(tmp_path, weights="IMAGENET1K_V1", classes=1000)


def test_cached_weights_go_through_torchvisions_own_loading(
    tmp_path: Path, hub: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The published file is not to be had here; only the check of its SHA-256 is left out.
    monkeypatch.setattr(torchvision_zoo, "_check_published", lambda path: None)
    saved(source(1000), hub / FILE)
    found = loaded(tmp_path, 1000, source="torchvision", name=NAME, weights="IMAGENET1K_V1")
    inputs = images(3, side=32)
    assert torch.equal(found.module(inputs), source(1000)(normalised(inputs, *IMAGENET)))
    assert found.notes[0].startswith("weights SHA-256 ") and "224 pixels, images here have 32" in found.notes[1]
    torch.save(nn.Linear(1, 1), hub / FILE)
    with pytest.raises(ModelError, match=r"does not load as shufflenet_v2_x0_5 \(Weights only load failed"):
        of(tmp_path, weights="IMAGENET1K_V1", classes=1000)
