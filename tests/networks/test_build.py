from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from rstbench.errors import SpecError
from rstbench.networks import build
from rstbench.networks.init import initialise
from rstbench.networks.layers import last_batch_norm
from rstbench.networks.spec import scaled
from rstbench.spec.models import FAMILIES
from rstbench.tickets.mask import maskable
from tests.networks.specs import digits, spec

OURS = tuple(family for family in FAMILIES if not family.startswith("resnet"))
IMAGENET = ("resnet18", "resnet50", "resnet101")


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("family", "classes", "parameters"),
    [
        # The paper: 11.17 M and 46.2 M. Batch norm with scale and shift and a classifier with bias, as published.
        ("preact_resnet18", 10, 11_172_170),
        ("cifar_resnet18", 10, 11_173_962),
        ("wide_resnet34", 10, 46_160_474),
        ("wide_resnet16", 10, 17_116_634),
        ("resnet18", 1000, 11_689_512),
        ("resnet50", 1000, 25_557_032),
        ("resnet101", 1000, 44_549_160),
    ],
)
def test_parameter_counts_are_the_published_ones(family: str, classes: int, parameters: int) -> None:
    assert count(build(spec(family, classes=classes, bn_affine=True, classifier_bias=True))) == parameters


@pytest.mark.parametrize("family", FAMILIES)
def test_ticket_networks_have_only_weights(family: str) -> None:
    network = build(spec(family, width=1.0 if family in IMAGENET else 0.1))
    assert all(name.endswith(".weight") and parameter.dim() >= 2 for name, parameter in network.named_parameters())
    weighted = [layer for layer in network.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert len(weighted) == len(list(network.parameters()))
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms and all(not norm.affine and norm.track_running_stats for norm in norms)


@pytest.mark.parametrize("family", FAMILIES)
def test_affine_batch_norm_and_bias_add_their_parameters(family: str) -> None:
    width = 1.0 if family in IMAGENET else 0.1
    plain = build(spec(family, width=width))
    full = build(spec(family, width=width, bn_affine=True, classifier_bias=True))
    channels = sum(norm.num_features for norm in plain.modules() if isinstance(norm, nn.BatchNorm2d))
    assert count(full) == count(plain) + 2 * channels + 10


@pytest.mark.parametrize("family", [*OURS, "resnet18", "resnet50"])
@pytest.mark.parametrize("size", [8, 32])
def test_gives_finite_logits_and_gradients(family: str, size: int) -> None:
    width = 1.0 if family in IMAGENET else 0.1
    network = build(digits(family, width=width, classes=7, image_size=size, bn_affine=True, classifier_bias=True))
    initialise(network, "kaiming_normal", 0)
    images = torch.rand(4, 1, size, size, requires_grad=True)
    network.train()(images)  # running statistics
    logits = network.eval()(images)
    assert logits.shape == (4, 7) and logits.dtype == torch.float32
    functional.cross_entropy(logits, torch.arange(4)).backward()
    gradients = [parameter.grad for parameter in network.parameters()] + [images.grad]
    assert all(grad is not None and torch.isfinite(grad).all() and grad.abs().sum() > 0 for grad in gradients)


@pytest.mark.parametrize("family", [*OURS, "resnet18"])
def test_images_pass_alone_as_in_a_batch(family: str) -> None:
    network = build(spec(family, width=1.0 if family in IMAGENET else 0.1))
    initialise(network, "kaiming_normal", 0)
    images = torch.rand(3, 3, 32, 32)
    network.train()(images)
    logits = network.eval()(images)
    for index in range(3):
        torch.testing.assert_close(network(images[index : index + 1])[0], logits[index], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["preact_resnet10", "resnet18"])
def test_normalises_inside(family: str) -> None:
    width = 1.0 if family in IMAGENET else 0.25
    normalising, plain = build(spec(family, width=width)), build(spec(family, width=width, mean=(0,) * 3, std=(1,) * 3))
    for network in (normalising, plain):
        initialise(network, "kaiming_normal", 3)
        network.eval()
    images = torch.rand(2, 3, 32, 32)
    mean = torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1)
    std = torch.tensor([0.2471, 0.2435, 0.2616]).view(1, 3, 1, 1)
    torch.testing.assert_close(normalising(images), plain((images - mean) / std))
    assert normalising.state_dict().keys() == plain.state_dict().keys()
    assert not any("normalise" in name for name in normalising.state_dict())


def test_the_classifier_is_a_convolution_that_equals_a_linear_layer() -> None:
    network = build(spec("preact_resnet10", width=0.25, classifier_bias=True))
    initialise(network, "kaiming_normal", 0)
    classifier = network.get_submodule("classifier")
    assert isinstance(classifier, nn.Conv2d) and classifier.kernel_size == (1, 1)
    features = torch.rand(5, 128, 1, 1)
    expected = functional.linear(features.flatten(1), classifier.weight.flatten(1), classifier.bias)
    torch.testing.assert_close(classifier(features), expected)


@pytest.mark.parametrize("family", IMAGENET)
def test_torchvision_networks_compute_what_torchvision_computes(family: str) -> None:
    import torchvision

    ours = build(spec(family, classes=1000, mean=(0,) * 3, std=(1,) * 3, bn_affine=True, classifier_bias=True))
    theirs = torchvision.models.get_model(family)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(ours.eval()(images), theirs.eval()(images))


@pytest.mark.parametrize("family", IMAGENET)
def test_narrow_torchvision_networks_have_a_quarter_of_every_channel(family: str) -> None:
    narrow, full = (build(spec(family, width=width)) for width in (0.25, 1.0))
    shapes = {name: tuple(value.shape) for name, value in narrow.named_parameters()}
    assert shapes.keys() == dict(full.named_parameters()).keys()
    for name, value in full.named_parameters():
        inputs = value.shape[1] if name == "conv1.weight" else value.shape[1] // 4
        outputs = value.shape[0] if name == "fc.weight" else value.shape[0] // 4
        assert shapes[name] == (outputs, inputs, *value.shape[2:])
    assert narrow(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_width_scales_every_channel_count() -> None:
    assert [scaled(64, width) for width in (1, 0.5, 0.25, 0.1, 0.01, 1.5)] == [64, 32, 16, 8, 4, 96]
    network = build(spec("preact_resnet18", width=0.25))
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert {layer.out_channels for layer in convolutions} == {16, 32, 64, 128, 10}


@pytest.mark.parametrize(
    ("width", "channels"),
    [(1.0, [16, 160, 320, 640]), (0.4, [16, 64, 128, 256]), (0.1, [16, 16, 32, 64]), (0.05, [8, 8, 16, 32])],
)
def test_wide_resnet_is_published_wrn_at_tenfold_width(width: float, channels: list[int]) -> None:
    network = build(spec("wide_resnet10", width=width))
    stem, *first = (
        layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)
    )
    assert [stem.out_channels, *(layer.out_channels for layer in first[::2])] == channels


@pytest.mark.parametrize(
    ("family", "convolutions"),
    [
        ("preact_resnet18", 17),
        ("preact_resnet10", 9),
        ("cifar_resnet18", 17),
        ("wide_resnet34", 31),
        ("wide_resnet16", 13),
        ("wide_resnet10", 7),
    ],
)
def test_depth_is_the_one_in_the_name(family: str, convolutions: int) -> None:
    # ResNet-n counts 3x3 convolutions and the classifier; WRN-n counts three projections as well.
    network = build(spec(family, width=0.2))
    found = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)]
    assert len(found) == convolutions
    depth = convolutions + 1 if "wide" not in family else convolutions + 3
    assert family.endswith(str(depth))


def test_building_draws_no_random_number_and_starts_in_a_defined_state() -> None:
    before = torch.get_rng_state()
    for family in ("preact_resnet10", "cifar_resnet18", "resnet18"):
        network = build(spec(family, bn_affine=True))
        assert network.training
        assert all(tensor.device.type == "cpu" for tensor in (*network.parameters(), *network.buffers()))
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean") or name.endswith("num_batches_tracked"):
                assert not buffer.any()
            elif name.endswith("running_var"):
                assert (buffer == 1).all()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("family", "last"),
    [
        ("preact_resnet18", "bn"),
        ("wide_resnet10", "bn"),
        ("cifar_resnet18", "stages.3.1.bn2"),
        ("resnet18", "layer4.1.bn2"),
        ("resnet50", "layer4.2.bn3"),
    ],
)
def test_the_last_batch_norm_alone_may_be_affine(family: str, last: str) -> None:
    width = 1.0 if family in IMAGENET else 0.125
    network = build(spec(family, width=width, last_bn_affine=True))
    assert last_batch_norm(network) == last
    affine = {name for name, layer in network.named_modules() if getattr(layer, "affine", False)}
    assert affine == {last}
    # Nothing but a pooling lies between it and the classifier, whose features it scales.
    classifier = list(maskable(network).values())[-1]
    assert network.get_submodule(last).num_features == classifier.shape[1]
    everywhere = build(spec(family, width=width, bn_affine=True))
    assert last_batch_norm(everywhere) == last
    plain = build(spec(family, width=width))
    with pytest.raises(SpecError, match="no scale and shift"):
        last_batch_norm(plain)
    extra = {f"{last}.weight", f"{last}.bias"}
    assert dict(network.named_parameters()).keys() - dict(plain.named_parameters()).keys() == extra


def test_a_model_without_the_last_batch_norm_is_written_as_it_always_was() -> None:
    assert "last_bn_affine" not in spec("preact_resnet18").written()
    assert spec("preact_resnet18", last_bn_affine=True).written()["last_bn_affine"] is True
