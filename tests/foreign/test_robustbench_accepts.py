"""A ticket as a plain module under RobustBench's benchmark and AutoAttack's package, both unchanged."""

from __future__ import annotations

import hashlib
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision import datasets

from rstbench.compat import import_autoattack, import_robustbench
from rstbench.foreign.loading import load
from tests.foreign.models import spec
from tests.networks.specs import spec as model_spec
from tests.tickets.tickets import ticket

COUNT = 8
MODEL = model_spec("preact_resnet10", width=0.0625)


@pytest.fixture
def module(tmp_path: Path) -> nn.Module:
    """A ticket of CIFAR-10's size, through its file; with batch norm's buffers gathered on the images, so that its
    answers differ from image to image as those of a searched one do.
    """
    found = ticket(MODEL, ratio=0.3)
    network = found.network()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    network.train()(floats(pixels()))
    buffers = {name: network.state_dict()[name] for name in found.buffers}
    (tmp_path / "t.safetensors").write_bytes(replace(found, buffers=buffers).to_bytes())
    asked = spec(source="rstbench", name=MODEL.family, width=MODEL.width, file="t.safetensors")
    task = {"classes": 10, "channels": 3, "image_size": 32}
    return load(asked, **task, mean=MODEL.mean, std=MODEL.std, data_dir=tmp_path).module


def pixels() -> np.ndarray[Any, Any]:
    """The first test images of CIFAR-10 if they are at hand, else noise; uint8 (N, 32, 32, 3)."""
    file = Path(os.environ.get("RSTBENCH_DATA", "")) / "cifar10.npz"
    if os.environ.get("RSTBENCH_DATA") and file.is_file():
        return np.load(file)["test_images"][:COUNT]  # type: ignore[no-any-return]
    return np.random.default_rng(0).integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)


def floats(images: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(images.transpose(0, 3, 1, 2) / np.float32(255)).contiguous()


def labelled(module: nn.Module, wrong: int) -> Tensor:
    """What the ticket says of the images, but for the first `wrong`."""
    labels = module(floats(pixels())).argmax(1)
    labels[:wrong] = (labels[:wrong] + 1) % 10
    return labels


def stand_in(folder: Path, labels: Tensor, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-10 in torchvision's format with these few images; of torchvision only the published checksums change."""
    root = folder / datasets.CIFAR10.base_folder
    root.mkdir(parents=True)
    names = [f"class {i}" for i in range(10)]
    rows = pixels().transpose(0, 3, 1, 2).reshape(COUNT, -1)
    for name, content in (("test_batch", {"data": rows, "labels": labels.tolist()}), ("meta", {"label_names": names})):
        (root / name).write_bytes(pickle.dumps(content))
    sums = {name: hashlib.md5((root / name).read_bytes()).hexdigest() for name in ("test_batch", "meta")}
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": "meta", "key": "label_names", "md5": sums["meta"]})
    return folder


@pytest.mark.parametrize(("threat", "epsilon"), [("Linf", 64 / 255), ("L2", 8.0)])
def test_robustbench_benchmarks_a_ticket(
    module: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threat: str, epsilon: float
) -> None:
    benchmark = import_robustbench().benchmark
    data = stand_in(tmp_path / "data", labelled(module, wrong=2), monkeypatch)
    clean, robust = benchmark(
        module, n_examples=COUNT, dataset="cifar10", threat_model=threat, eps=epsilon, data_dir=str(data), batch_size=4
    )
    assert clean == 6 / 8
    assert 0 <= robust < clean


def test_autoattack_runs_on_a_ticket(module: nn.Module) -> None:
    images, labels = floats(pixels()), labelled(module, wrong=1)
    attack = import_autoattack().AutoAttack(module, norm="Linf", eps=64 / 255, version="standard", seed=0)
    adversarial, predictions = attack.run_standard_evaluation(images, labels, batch_size=4)
    assert (adversarial - images).abs().amax() <= 64 / 255 + 1e-6
    assert adversarial.amin() >= 0 and adversarial.amax() <= 1
    with torch.no_grad():
        assert torch.equal(module(adversarial).argmax(1), predictions)
    assert (predictions == labels).sum() < COUNT - 1
    assert torch.equal(adversarial[0], images[0])  # already wrong: not attacked
