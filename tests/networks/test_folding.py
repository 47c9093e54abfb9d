from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from rstbench.networks import build
from rstbench.networks.folding import LARGEST_SHIFT, duplicate, folded, is_ours
from rstbench.spec.models import FAMILIES
from tests.networks.normed import IMAGENET, answer, apart, images, network, norms
from tests.networks.specs import digits, spec
from tests.tickets.tickets import ticket


@pytest.mark.parametrize("affine", [False, True], ids=["plain", "affine"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_function_without_batch_norm(family: str, affine: bool) -> None:
    side = 32 if family in IMAGENET else 16
    original = network(family, side=side, bn_affine=affine, classifier_bias=affine).double()
    found = folded(original)
    assert norms(original) and not norms(found) and not found.training and original.training
    # In float64 the two differ by rounding only. In fp32 a ReLU may be on one side of 0 here and on the other there.
    for mine, theirs in zip(
        answer(found, images(side=side).double()), answer(original.eval(), images(side=side).double()), strict=True
    ):
        assert apart(mine, theirs) < 1e-9


@pytest.mark.parametrize("family", ["preact_resnet18", "wide_resnet16", "cifar_resnet18"])
def test_in_fp32_to_rounding(family: str) -> None:
    original = network(family).eval()
    exact = answer(copy.deepcopy(original).double(), images().double())
    for of_folded, of_plain, truth in zip(
        answer(folded(original), images()), answer(original, images()), exact, strict=True
    ):
        assert apart(of_folded, truth) < max(3 * apart(of_plain, truth), 3e-6)


@pytest.mark.parametrize("family", ["preact_resnet10", "cifar_resnet18"])
def test_only_the_last_norm_has_a_scale(family: str) -> None:
    original = network(family, last_bn_affine=True, classifier_bias=True).double()
    found = folded(original)
    assert not norms(found)
    assert apart(found(images().double()), original.eval()(images().double())) < 1e-9


@given(
    seed=st.integers(0, 2**16), ratio=st.sampled_from([0.05, 0.2, 1.0]), pattern=st.sampled_from(["element", "channel"])
)
@settings(max_examples=8, deadline=None)
def test_tickets(seed: int, ratio: float, pattern: str) -> None:
    model = digits("preact_resnet10", width=0.125)
    original = ticket(model, ratio=ratio, pattern=pattern, seed=seed).network().double()
    found = folded(original)
    assert not norms(found)
    inputs = images(side=8, channels=1).double()
    torch.testing.assert_close(answer(found, inputs), answer(original, inputs), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("bad", [0.0, -0.7, "shift"])
def test_a_norm_that_cannot_move_stays_and_the_others_go(bad: float | str) -> None:
    original = network("preact_resnet18", bn_affine=True).double()
    stays = ["stages.0.1.bn1", "stages.2.0.bn1", "bn"]
    for name in stays:
        norm = original.get_submodule(name)
        assert isinstance(norm, nn.BatchNorm2d)
        with torch.no_grad():
            if isinstance(bad, str):
                norm.bias[1] = 1.01 * LARGEST_SHIFT * norm.weight[1]
            else:
                norm.weight[1] = bad
    found = folded(original)
    assert [name for name, layer in found.named_modules() if isinstance(layer, nn.BatchNorm2d)] == stays
    for mine, theirs in zip(answer(found, images().double()), answer(original.eval(), images().double()), strict=True):
        assert apart(mine, theirs) < 1e-9


def test_behind_a_convolution_any_scale_goes() -> None:
    original = network("cifar_resnet18", bn_affine=True).double()
    with torch.no_grad():
        for norm in norms(original):
            norm.weight[::2] *= -1.0
            norm.weight[1] = 0.0
    assert not norms(folded(original))
    assert apart(folded(original)(images().double()), original.eval()(images().double())) < 1e-9


def test_without_running_statistics_a_norm_stays() -> None:
    original = network("preact_resnet10")
    original.bn = nn.BatchNorm2d(original.bn.num_features, affine=False, track_running_stats=False)
    found = folded(original)
    assert len(norms(found)) == 1
    assert apart(found(images()), original.eval()(images())) < 1e-5


def test_the_original_is_left_as_it_is() -> None:
    original = network("preact_resnet10", bn_affine=True)
    before = copy.deepcopy(original.state_dict())
    kinds = [type(layer) for layer in original.modules()]
    found = folded(original)
    assert all(not each.requires_grad for each in found.parameters()) and all(
        each.requires_grad for each in original.parameters()
    )
    assert kinds == [type(layer) for layer in original.modules()] and original.training
    assert before.keys() == original.state_dict().keys()
    assert all(torch.equal(each, before[name]) for name, each in original.state_dict().items())
    # What nothing was folded into is not copied: the stem and the second convolution of each block only got a bias.
    mine, theirs = dict(found.named_parameters()), dict(original.named_parameters())
    shared = {name for name, each in theirs.items() if name in mine and mine[name].data_ptr() == each.data_ptr()}
    assert shared == {"stem.weight", *(f"stages.{number}.0.conv2.weight" for number in range(4))}


def test_a_duplicate_shares_its_values_and_no_layer() -> None:
    original = network("cifar_resnet18")
    found = duplicate(original)
    assert torch.equal(found(images()), original.eval()(images()))
    found.stem = nn.Identity()
    assert isinstance(original.stem, nn.Conv2d)


class Changed(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


def touched(how: str) -> nn.Module:
    made = network("preact_resnet10")
    if how == "hook":
        made.stem.register_forward_hook(lambda module, inputs, output: output * 2)
    elif how == "pruned":
        prune.random_unstructured(made.stem, "weight", amount=0.5)
    elif how == "parametrised":
        parametrizations.weight_norm(made.stem)
    elif how == "part":
        made.pool = Changed()
    elif how == "forward":
        made.forward = lambda inputs: inputs.flatten(1)  # type: ignore[method-assign]
    else:
        made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    return made


@pytest.mark.parametrize("how", ["hook", "pruned", "parametrised", "part", "forward", "foreign"])
def test_what_is_not_ours_comes_back_itself(how: str) -> None:
    other = touched(how)
    assert not is_ours(other) and folded(other) is other


@pytest.mark.parametrize("family", FAMILIES)
def test_all_families_are_ours(family: str) -> None:
    assert is_ours(build(spec(family, width=0.125)))
