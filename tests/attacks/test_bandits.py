from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rstbench.attacks.bandits import bandits
from rstbench.attacks.draws import PerImage
from rstbench.attacks.found import Found
from rstbench.attacks.threat import Threat, distances
from rstbench.defenses.view import CallableView
from rstbench.errors import SpecError
from rstbench.spec.attacks import BanditsSpec
from tests.attacks.networks import images, linear, small_net

EPSILON = {"linf": 0.04, "l2": 0.4}


class Counted:
    """Remembers how many images every call of a network asked about."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.sizes, self.graphs = network, [], False

    def __call__(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        self.graphs |= torch.is_grad_enabled()
        return self.network(images)  # type: ignore[no-any-return]


def attack(network: object, inputs: Tensor, labels: Tensor, threat: Threat, **options: object) -> Found:
    spec = BanditsSpec(kind="bandits", norm=threat.norm, epsilon="8/255" if threat.norm == "linf" else 0.5)
    defaults = spec.with_defaults().model_dump(include={"fd_eta", "image_lr", "online_lr", "exploration", "tile"})
    given = defaults | {"draws": PerImage(0, range(len(inputs))), "queries": 900} | options
    return bandits(CallableView(network), inputs, labels, threat=threat, **given)  # type: ignore[arg-type]


def two_classes(norm: str, gaps: Tensor, pixels: int = 48, seed: int = 1) -> tuple[nn.Module, Tensor]:
    """A linear network, and images of class 0 whose boundary is `gaps` (N,) times epsilon away."""
    weight = torch.randn(2, pixels, generator=torch.Generator().manual_seed(seed))
    away = weight[0] - weight[1]
    inputs = 0.4 + 0.2 * images(len(gaps), side=4, seed=seed)
    reach = EPSILON[norm] * float(torch.linalg.vector_norm(away, ord=1 if norm == "linf" else 2))
    network = linear(weight, torch.zeros(2))
    # One image for every wanted gap: moved along `away`, so that no pixel leaves the middle.
    now = inputs.flatten(1) @ away
    inputs = inputs + ((reach * gaps - now) / (away @ away)).view(-1, 1, 1, 1) * away.view(1, 3, 4, 4)
    assert float(inputs.min()) > 0.02 and float(inputs.max()) < 0.98
    return network, inputs


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_reaches_what_can_be_reached_and_nothing_else(norm: str) -> None:
    gaps = torch.linspace(0.05, 1.5, 48)
    network, inputs = two_classes(norm, gaps)
    labels = torch.zeros(48, dtype=torch.int64)
    found = attack(network, inputs, labels, Threat(norm, EPSILON[norm]), image_lr=EPSILON[norm] / 5)
    fooled = network(found.images).argmax(1) == 1
    assert bool(fooled[gaps < 0.8].all()) and not bool(fooled[gaps > 1.001].any())
    assert found.queries is not None
    assert float(found.queries[gaps < 0.1].double().mean()) < float(
        found.queries[(gaps > 0.6) & fooled].double().mean()
    )


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("tile", [None, 2])
def test_every_query_is_counted(norm: str, tile: int | None) -> None:
    network, inputs = two_classes(norm, torch.linspace(-0.1, 0.9, 24))
    labels = torch.zeros(24, dtype=torch.int64)
    assert (network(inputs).argmax(1) != labels).nonzero().flatten().tolist() == [0, 1, 2]
    counted = Counted(network)
    found = attack(counted, inputs, labels, Threat(norm, EPSILON[norm]), queries=92, tile=tile)
    assert found.queries is not None and found.losses is not None and not counted.graphs
    assert int(found.queries.sum()) == sum(counted.sizes)
    assert counted.sizes[0] == 24 and counted.sizes == sorted(counted.sizes, reverse=True)
    assert found.queries[:3].tolist() == [1, 1, 1] and torch.equal(found.images[:3], inputs[:3])
    fooled = network(found.images).argmax(1) != labels
    assert 3 < int(fooled.sum()) < 24
    assert set(found.queries[~fooled].tolist()) == {91} and bool(((found.queries - 1) % 3 == 0).all())
    taken = found.losses.isfinite().sum(0)
    assert torch.equal(1 + 3 * taken, found.queries)
    assert torch.allclose(
        found.losses[0, 3:], nn.functional.cross_entropy(network(inputs), labels, reduction="none")[3:]
    )


def test_fooled_images_stay() -> None:
    network, inputs = two_classes("linf", torch.linspace(0.02, 0.9, 24))
    labels, threat = torch.zeros(24, dtype=torch.int64), Threat("linf", EPSILON["linf"])
    short, long = (attack(network, inputs, labels, threat, queries=queries) for queries in (31, 91))
    fooled = network(short.images).argmax(1) != labels
    assert 0 < int(fooled.sum()) < 24 and short.queries is not None and long.queries is not None
    assert torch.allclose(short.images[fooled], long.images[fooled], atol=1e-6)
    assert torch.equal(short.queries[fooled], long.queries[fooled])


@pytest.mark.parametrize("queries", [0, 1, 2, 3])
def test_a_budget_without_a_step_returns_the_clean_images(queries: int) -> None:
    network, inputs = small_net(), images(4)
    labels = network(inputs).argmax(1)
    counted = Counted(network)
    found = attack(counted, inputs, labels, Threat("linf", 0.05), queries=queries)
    assert torch.equal(found.images, inputs) and found.queries is not None
    assert found.queries.tolist() == [min(queries, 1)] * 4 and sum(counted.sizes) == 4 * min(queries, 1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_regrouping_changes_nothing(norm: str) -> None:
    # In double precision, so that the network's own rounding does not depend on how many images it is asked about.
    network, inputs = two_classes(norm, torch.linspace(0.05, 1.5, 20))
    exact = network.double()
    labels, threat = torch.zeros(20, dtype=torch.int64), Threat(norm, EPSILON[norm])
    whole = attack(lambda x: exact(x.double()), inputs, labels, threat)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    for part in (order[:7], order[7:8], order[8:]):
        draws = PerImage(0, part.tolist())
        found = attack(lambda x: exact(x.double()), inputs[part], labels[part], threat, draws=draws)
        assert torch.allclose(found.images, whole.images[part], atol=1e-6)
        assert found.queries is not None and whole.queries is not None
        assert torch.equal(found.queries, whole.queries[part])
    other = attack(lambda x: exact(x.double()), inputs, labels, threat, draws=PerImage(1, range(20)))
    assert not torch.allclose(other.images, whole.images, atol=1e-3)


def blocks(side: int, tile: int, seed: int) -> Tensor:
    """A pattern (3, side, side) that is constant on the tiles that nearest-neighbour upsampling gives."""
    small = torch.randn(1, 3, tile, tile, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(small, size=(side, side), mode="nearest")[0]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_data_prior_helps_where_gradients_are_smooth(norm: str) -> None:
    # CIFAR's size: the class hangs on 4 x 4 patches, which a prior of the same tiles finds in fewer queries.
    pattern = 0.1 * blocks(32, 8, 5).flatten()
    network = linear(torch.stack([pattern, -pattern]), torch.zeros(2))
    inputs = 0.3 + 0.4 * images(12, side=32)
    epsilon = 0.02 if norm == "linf" else 0.5
    reach = 0.5 * epsilon * float(torch.linalg.vector_norm(2 * pattern, ord=1 if norm == "linf" else 2))
    now = inputs.flatten(1) @ (2 * pattern)
    inputs = inputs + ((reach - now) / (2 * pattern @ pattern)).view(-1, 1, 1, 1) * pattern.view(1, 3, 32, 32)
    labels, threat = torch.zeros(12, dtype=torch.int64), Threat(norm, epsilon)
    asked = {}
    for tile in (None, 8, 20):  # 20 divides nothing: nearest neighbour still fills the image
        found = attack(network, inputs, labels, threat, tile=tile, queries=600, image_lr=epsilon / 5)
        linf, l2 = distances(found.images, inputs)
        assert float((linf if norm == "linf" else l2).max()) <= epsilon + 2e-6 and found.queries is not None
        asked[tile] = float(found.queries.double().mean())
    assert bool((network(attack(network, inputs, labels, threat, tile=8).images).argmax(1) == 1).all())
    assert asked[8] < 0.8 * asked[None]


def test_the_perturbation_is_constant_on_tiles() -> None:
    network, inputs = small_net(), 0.3 + 0.4 * images(6, side=8)
    labels = network(inputs).argmax(1)
    found = attack(network, inputs, labels, Threat("linf", 0.02), tile=2, queries=40)
    delta = (found.images - inputs).view(6, 3, 2, 4, 2, 4)
    assert float(delta.abs().max()) > 0.005
    assert float((delta - delta[:, :, :, :1, :, :1]).abs().max()) < 1e-6


def test_a_tile_larger_than_the_image_is_refused() -> None:
    network, inputs = small_net(), images(2)
    with pytest.raises(SpecError, match=r"`tile` is 50.*8 x 8"):
        attack(network, inputs, torch.zeros(2, dtype=torch.int64), Threat("linf", 0.03), tile=50)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_steep_losses_leave_finite_images(norm: str) -> None:
    network, inputs = small_net(), images(8)
    labels = network(inputs).argmax(1)
    for factor in (1e4, 1e30):
        found = attack(lambda x, f=factor: f * network(x), inputs, labels, Threat(norm, EPSILON[norm]), queries=40)
        assert bool(found.images.isfinite().all())


def test_no_images() -> None:
    found = attack(small_net(), images(0), torch.zeros(0, dtype=torch.int64), Threat("linf", 0.03), queries=10)
    assert found.images.shape == (0, 3, 8, 8) and found.queries is not None and len(found.queries) == 0


@settings(max_examples=50, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0.0, 2.0),
    image_lr=st.floats(1e-3, 3.0),
    online_lr=st.floats(1e-3, 200.0),
    exploration=st.floats(1e-3, 2.0),
    fd_eta=st.floats(1e-3, 1.0),
    tile=st.sampled_from([None, 1, 2, 5, 6]),
    queries=st.integers(1, 12),
    seed=st.integers(0, 10_000),
)
def test_budget_and_range_always_hold(
    norm: str,
    epsilon: float,
    image_lr: float,
    online_lr: float,
    exploration: float,
    fd_eta: float,
    tile: int | None,
    queries: int,
    seed: int,
) -> None:
    network, inputs = small_net(seed=seed % 7), images(200, side=6, seed=seed)  # 200 images, 50 times
    labels = torch.arange(200) % 5
    before = inputs.clone()
    counted = Counted(network)
    found = attack(
        counted, inputs, labels, Threat(norm, epsilon), draws=PerImage(seed, range(200)), image_lr=image_lr,
        online_lr=online_lr, exploration=exploration, fd_eta=fd_eta, tile=tile, queries=queries,
    )  # fmt: skip
    linf, l2 = distances(found.images, inputs)
    assert float((linf if norm == "linf" else l2).max()) <= epsilon + 2e-6
    assert float(found.images.min()) >= 0 and float(found.images.max()) <= 1
    assert found.images.dtype == torch.float32 and found.images.shape == inputs.shape
    assert torch.equal(inputs, before) and found.images.data_ptr() != inputs.data_ptr()
    assert found.queries is not None and int(found.queries.max()) <= queries
    assert int(found.queries.sum()) == sum(counted.sizes) and math.isfinite(float(found.images.sum()))


def published(network: nn.Module, inputs: Tensor, labels: Tensor, norm: str, noises: list[Tensor], spec: BanditsSpec,
              epsilon: float) -> Tensor:  # fmt: skip
    """The update rules as the paper states them, in double precision, for images that nothing fools."""
    assert spec.fd_eta and spec.image_lr and spec.online_lr and spec.exploration
    size = inputs[0].numel()
    images, prior = inputs.double(), torch.zeros_like(inputs).double()

    def unit(x: Tensor) -> Tensor:
        return x / x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)

    def loss(x: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(x), labels, reduction="none").view(-1, 1, 1, 1)

    for noise in noises:
        u = spec.exploration * noise.double() / size**0.5
        plus, minus = (loss(images + spec.fd_eta * unit(q)) for q in (prior + u, prior - u))
        estimate = (plus - minus) / (spec.fd_eta * spec.exploration) * u
        if norm == "l2":
            prior = prior + spec.online_lr * estimate
            images = images + spec.image_lr * unit(prior)
            delta = images - inputs
            images = inputs + unit(delta) * delta.flatten(1).norm(dim=1).clamp(max=epsilon).view(-1, 1, 1, 1)
        else:  # exponentiated gradients on the probability (prior + 1) / 2
            share = (prior + 1) / 2
            up, down = share * (spec.online_lr * estimate).exp(), (1 - share) * (-spec.online_lr * estimate).exp()
            prior = 2 * up / (up + down) - 1
            images = images + spec.image_lr * prior.sign()
            images = inputs + (images - inputs).clamp(-epsilon, epsilon)
        images = images.clamp(0, 1)
    return images


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_update_rules_are_the_published_ones(norm: str) -> None:
    network, inputs = two_classes(norm, torch.full((6,), 1.4))
    network, labels = network.double(), torch.zeros(6, dtype=torch.int64)
    noises = PerImage(0, range(6))
    drawn = [noises.normal(inputs.shape[1:]) for _ in range(8)]
    spec = BanditsSpec(kind="bandits", norm=norm, epsilon="8/255" if norm == "linf" else 0.5).with_defaults()
    spec = spec.model_copy(update={"image_lr": EPSILON[norm] / 5})
    theirs = published(network, inputs, labels, norm, drawn, spec, EPSILON[norm])
    ours = attack(lambda x: network(x.double()), inputs, labels, Threat(norm, EPSILON[norm]), queries=1 + 3 * 8,
                  image_lr=spec.image_lr)  # fmt: skip
    assert torch.allclose(ours.images.double(), theirs, atol=1e-5)
    assert float((theirs - inputs).abs().max()) > 0.01
