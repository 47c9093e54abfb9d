from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from rstbench.compat import import_robustbench
from rstbench.errors import ModelError
from tests.attacks.networks import images
from tests.foreign.models import loaded, randomised, saved
from tests.foreign.test_weights import Writes

NAME = "Rice2020Overfitting"


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that nobody answers at, so that no test depends on whether there is a network."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


def of(data_dir: Path, name: str = NAME, classes: int = 10, threat: str = "Linf", **task: int) -> nn.Module:
    return loaded(data_dir, classes, **task, source="robustbench", name=name, threat=threat).module


def zoo(name: str = NAME, threat: str = "Linf") -> nn.Module:
    """The zoo's own architecture with random weights."""
    import_robustbench()
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    module: nn.Module = model_dicts[BenchmarkDataset.cifar_10][ThreatModel(threat)][name]["model"]()
    return randomised(module)


def test_a_model_of_the_zoo_from_its_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = zoo()
    path = saved(source, tmp_path / f"robustbench/cifar10/Linf/{NAME}.pt")
    inputs = images(2, side=32)
    found = loaded(tmp_path, source="robustbench", name=NAME, threat="Linf")
    assert torch.equal(found.module(inputs), source(inputs))
    assert found.notes[0].startswith(f"weights {NAME}.pt SHA-256 ") and len(found.notes[0].split()[-1]) == 64
    assert not found.module.training and not any(p.requires_grad for p in found.module.parameters())
    assert capsys.readouterr().out == ""

    state = torch.load(path, weights_only=True)
    name = next(iter(state))
    torch.save({key: value for key, value in state.items() if key != name}, path)
    with pytest.raises(ModelError, match=f"does not load as RobustBench's {NAME}"):
        of(tmp_path)


def test_a_cached_file_with_code_is_refused_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # the package leaves it to torch's default
    path = tmp_path / f"robustbench/cifar10/Linf/{NAME}.pt"
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": Writes(tmp_path / "ran")}, path)
    with pytest.raises(ModelError, match=f"{NAME}.pt: refused, because loading it would run code"):
        of(tmp_path)
    assert not (tmp_path / "ran").exists()
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"


def test_weights_that_cannot_be_downloaded(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        of(tmp_path)
    message = str(caught.value)
    assert "could not be downloaded" in message and "\n" not in message
    assert message.endswith(f"put them at {tmp_path}/robustbench/cifar10/Linf/{NAME}.pt")
    with pytest.raises(ModelError, match=r"put them at .*Chen2020Adversarial.pt_m0.pt, .*_m1.pt, .*_m2.pt$"):
        of(tmp_path, "Chen2020Adversarial")


def test_an_unknown_name_has_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"no cifar10 model 'Rice2020Overfiting' for Linf; did you mean '{NAME}'"):
        of(tmp_path, "Rice2020Overfiting")
    with pytest.raises(ModelError, match=f"no cifar100 model '{NAME}x' for L2$"):
        of(tmp_path, f"{NAME}x", classes=100, threat="L2")


@pytest.mark.parametrize("task", [{"classes": 43}, {"channels": 1}, {"image_size": 28}])
def test_images_it_has_no_models_for(tmp_path: Path, task: dict[str, int]) -> None:
    with pytest.raises(ModelError, match="RobustBench has models for CIFAR-10, CIFAR-100 and ImageNet, none for"):
        of(tmp_path, **task)
