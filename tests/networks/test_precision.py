from __future__ import annotations

import pytest
import torch
from torch import nn

from rstbench.networks.folding import folded
from rstbench.networks.precision import lowered
from tests.networks.normed import answer, apart, images, network

FAMILIES = ("preact_resnet10", "wide_resnet10", "cifar_resnet18", "resnet18")


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "with batch norm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_near_fp32_and_coarser_only_between_the_ends(family: str, fold: bool) -> None:
    side = 32 if family == "resnet18" else 16
    original = network(family, side=side).eval()
    found = lowered(folded(original) if fold else original)
    inputs = images(side=side)
    logits, gradient = answer(found, inputs)
    exact, slope = answer(original, inputs)
    assert logits.dtype == gradient.dtype == torch.float32
    assert 0 < apart(logits, exact) < 0.1 and 0 < apart(gradient, slope) < 0.8
    first, last = ("conv1", "fc") if family == "resnet18" else ("stem", "classifier")
    kinds = {
        name: layer.weight.dtype for name, layer in found.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    }
    ends = {name for name, kind in kinds.items() if kind == torch.float32}
    assert ends == {f"{first}.0", last} and len(kinds) > 2
    assert all(each.dtype == torch.float32 for each in original.parameters())


def test_what_an_attack_adds_to_an_image_is_not_rounded_off() -> None:
    # Near 1, neighbours in bfloat16 are 1/256 apart: less than half of that is lost if the image is cast.
    original = network("preact_resnet10").eval()
    inputs = torch.full((4, 3, 16, 16), 230 / 256)
    nudged = inputs + 1 / 1024
    assert torch.equal(nudged.bfloat16(), inputs.bfloat16())
    stem = lowered(original).get_submodule("stem.0")
    assert not torch.equal(stem(nudged), stem(inputs))
    assert torch.equal(stem(nudged), original.get_submodule("stem")(nudged))
