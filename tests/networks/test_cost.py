from __future__ import annotations

import pytest
import torch
from torch import nn

from rstbench.networks import ModelSpec, build
from rstbench.networks.cost import forward_macs
from tests.networks.specs import digits, spec


def measured(model: ModelSpec) -> int:
    """Multiply-accumulates of convolutions and linear layers, counted while one image passes."""
    network = build(model).eval()
    total = 0

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        positions = output[0, 0].numel() if isinstance(layer, nn.Conv2d) and output.dim() == 4 else 1
        total += weight.numel() * positions

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, model.channels, model.image_size, model.image_size))
    return total


@pytest.mark.parametrize(
    "model",
    [
        spec("preact_resnet18", width=0.25),
        spec("preact_resnet10", width=0.5, classes=100),
        spec("cifar_resnet18", width=0.25),
        spec("wide_resnet34", width=0.1),
        spec("wide_resnet16", width=0.2),
        spec("wide_resnet10", width=0.05),
        digits("preact_resnet10", width=0.25),
        digits("wide_resnet10", width=0.15, classes=20),
        digits("preact_resnet18", width=0.25, image_size=9),
    ],
    ids=lambda model: f"{model.family}-{model.width:g}-{model.image_size}",
)
def test_ours_are_exact(model: ModelSpec) -> None:
    assert forward_macs(model) == measured(model)


@pytest.mark.parametrize("family", ["resnet18", "resnet50", "resnet101"])
def test_torchvisions_are_close(family: str) -> None:
    model = spec(family, image_size=224, classes=1000)
    assert forward_macs(model) == pytest.approx(measured(model), rel=0.02)


def test_the_papers_networks() -> None:
    # 0.56 G and 6.6 G are what the literature gives for PreActResNet-18 and WRN-34-10 on CIFAR-10.
    assert forward_macs(spec("preact_resnet18")) == pytest.approx(0.56e9, rel=0.01)
    assert forward_macs(spec("wide_resnet34")) == pytest.approx(6.65e9, rel=0.01)
