from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from rstbench.errors import ModelError, RunError
from rstbench.evaluation.features import feature_distances, last_convolution, noisy
from rstbench.networks import build
from rstbench.networks.init import initialise
from tests.networks.specs import digits, spec


def silent(done: float, total: float, note: str) -> None:
    pass


def images(n: int = 12, channels: int = 1, size: int = 8) -> Tensor:
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(5))


def path_of(network: nn.Module, layer: nn.Module) -> str:
    return next(path for path, module in network.named_modules() if module is layer)


@pytest.mark.parametrize(
    ("family", "width", "expected"),
    [
        ("preact_resnet18", 0.07, "stages.3.1.conv2"),
        # One block a stage: its projection shortcut is computed after the last convolution of the block.
        ("preact_resnet10", 0.07, "stages.3.0.conv2"),
        ("cifar_resnet18", 0.07, "stages.3.1.conv2"),
        ("wide_resnet10", 0.1, "stages.2.0.conv2"),
        ("resnet50", 1.0, "layer4.2.conv3"),
    ],
)
def test_the_last_convolution_is_no_shortcut_and_not_the_classifier(family: str, width: float, expected: str) -> None:
    network = build(spec(family, width=width)).eval().requires_grad_(False)
    assert path_of(network, last_convolution(network, images(1, 3, 32))) == expected


class InPlace(nn.Module):
    """Convolutions with activations in place, as in VGG, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.hidden, self.classifier = nn.Linear(4 * 64, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.second(functional.relu(self.first(x), inplace=True)), inplace=True)
        return self.classifier(functional.relu(self.hidden(x.flatten(1))))  # type: ignore[no-any-return]


def test_the_feature_map_is_taken_before_an_activation_in_place() -> None:
    network, clean = InPlace(), images()
    assert last_convolution(network, clean[:1]) is network.second
    index = list(range(12))

    def z(x: Tensor) -> Tensor:
        return network.second(functional.relu(network.first(x))).flatten(1).double()  # type: ignore[no-any-return]

    found, batch = feature_distances(network, clean, index, 8 / 255, "uniform", 1, 5, silent)
    with torch.no_grad():
        moved = z(noisy(clean, index, 8 / 255, "uniform", 1))
        expected = (moved - z(clean)).norm(dim=1) / z(clean).norm(dim=1)
    assert batch == 5 and found.dtype == torch.float64
    assert torch.allclose(found, expected, rtol=1e-5)
    assert bool((found > 0).all())


def test_a_network_without_convolutions_is_one_clear_message() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(ModelError, match="no convolution"):
        last_convolution(network, images(1))
    only_the_classifier = nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten())
    with pytest.raises(ModelError, match="no convolution"):
        last_convolution(only_the_classifier, images(1))


def test_a_feature_map_of_zeros_is_one_clear_message() -> None:
    network = InPlace()
    with torch.no_grad():
        network.first.weight.zero_()
        network.first.bias.zero_()  # type: ignore[union-attr]
        network.second.bias.zero_()  # type: ignore[union-attr]
    with pytest.raises(RunError, match="test index 30"):
        feature_distances(network, images(3), [30, 31, 32], 0.1, "uniform", 1, 8, silent)


@settings(max_examples=10, deadline=None)
@given(
    epsilon=st.sampled_from([0.0, 1 / 255, 8 / 255, 1.0]),
    noise=st.sampled_from(["uniform", "sign"]),
    rows=st.permutations(range(12)),
)
def test_noise_stays_in_its_ball_and_depends_on_the_image_alone(epsilon: float, noise: str, rows: list[int]) -> None:
    clean = images()
    moved = noisy(clean, range(12), epsilon, noise, 3)
    assert float(moved.min()) >= 0 and float(moved.max()) <= 1
    assert float((moved - clean).abs().max()) <= epsilon + 1e-6
    assert torch.equal(noisy(clean[rows], rows, epsilon, noise, 3), moved[rows])
    assert epsilon == 0.0 or not torch.equal(noisy(clean, range(12), epsilon, noise, 4), moved)
    if noise == "sign" and epsilon < 0.1:
        inner = (clean > epsilon) & (clean < 1 - epsilon)
        assert torch.allclose((moved - clean).abs()[inner], torch.tensor(epsilon), atol=1e-6)


def test_distances_do_not_depend_on_batches_and_grow_with_the_noise() -> None:
    network = build(digits("preact_resnet10", width=0.0625))
    initialise(network, "signed_kaiming_constant", 0)
    clean, index = images(), list(range(100, 112))
    found = [feature_distances(network, clean, index, e, "uniform", 0, 4, silent)[0] for e in (0.0, 8 / 255, 32 / 255)]
    assert torch.equal(found[0], torch.zeros(12, dtype=torch.float64))
    assert float(found[0].mean()) < float(found[1].mean()) < float(found[2].mean())
    other, _ = feature_distances(network, clean[5:], index[5:], 8 / 255, "uniform", 0, 7, silent)
    assert torch.allclose(other, found[1][5:], rtol=1e-4)
    assert not network.training
