from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rstbench.attacks.draws import PerImage
from rstbench.attacks.found import Found
from rstbench.attacks.square import square
from rstbench.attacks.square_windows import bump, changed, cut, inside
from rstbench.attacks.threat import Threat, distances
from rstbench.compat import import_autoattack
from rstbench.defenses.view import CallableView, Criterion, Step
from rstbench.defenses.views import EnsembleView, ExpectationView
from rstbench.evaluation.judge import check_images
from tests.attacks.digits import trained
from tests.attacks.networks import images, linear, small_net


def attack(view: object, inputs: Tensor, labels: Tensor, threat: Threat, **options: object) -> Found:
    options = {"draws": PerImage(0, range(len(inputs))), "queries": 100} | options
    view = CallableView(view) if isinstance(view, nn.Module) else view
    return square(view, inputs, labels, threat=threat, **options)  # type: ignore[arg-type]


class Asked:
    """A view that can be asked, and nothing else; it counts who was asked about."""

    def __init__(self, network: nn.Module, inputs: Tensor) -> None:
        self.network, self.inputs, self.counts = network, inputs, torch.zeros(len(inputs), dtype=torch.int64)

    def logits(self, images: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        nearest = (images.flatten(1)[:, None] - self.inputs.flatten(1)[None]).abs().amax(2).argmin(1)
        self.counts += torch.bincount(nearest, minlength=len(self.inputs))
        return self.network(images)  # type: ignore[no-any-return]

    def step(self, images: Tensor, labels: Tensor, criterion: Criterion) -> Step:
        raise AssertionError("a black box has no gradient")


def test_queries_are_counted_per_image_and_end_with_success() -> None:
    network, inputs, labels = trained()
    view = Asked(network, inputs)
    found = attack(view, inputs, labels, Threat("linf", 0.1), queries=60)
    assert found.queries is not None and torch.equal(found.queries, view.counts)
    fooled = network(found.images).argmax(1) != labels
    at_once = network(inputs).argmax(1) != labels
    assert bool((found.queries[at_once] == 1).all()) and torch.equal(found.images[at_once], inputs[at_once])
    assert bool((found.queries[~fooled] == 60).all())
    assert bool((found.queries[fooled & ~at_once] >= 2).all())
    assert len(set(found.queries[fooled].tolist())) > 5


@pytest.mark.parametrize("queries", [1, 2, 3])
def test_the_smallest_budgets_are_kept(queries: int) -> None:
    network, inputs, labels = trained()
    view = Asked(network, inputs)
    found = attack(view, inputs, labels, Threat("l2", 0.3), queries=queries)
    assert found.queries is not None and torch.equal(found.queries, view.counts)
    assert int(found.queries.max()) == queries
    assert bool((found.images == inputs).all()) is (queries == 1)


@pytest.mark.parametrize("norm,epsilon", [("linf", 0.1), ("l2", 0.8)])
def test_as_strong_as_the_package(norm: str, epsilon: float) -> None:
    network, inputs, labels = trained()
    package = import_autoattack().square.SquareAttack(
        network, norm={"linf": "Linf", "l2": "L2"}[norm], eps=epsilon, seed=0, n_queries=300, device="cpu"
    )
    theirs = (network(package.perturb(inputs, labels)).argmax(1) == labels).float().mean()
    found = attack(network, inputs, labels, Threat(norm, epsilon), queries=300).images
    ours = (network(found).argmax(1) == labels).float().mean()
    clean = (network(inputs).argmax(1) == labels).float().mean()
    assert ours <= theirs + 0.005
    assert ours < clean - 0.1


@pytest.mark.parametrize("norm,epsilon,share", [("linf", 0.05, 0.99), ("l2", 0.2, 0.5)])
def test_linear_model(norm: str, epsilon: float, share: float) -> None:
    """The greatest margin in the ball is known; under linf random squares come to it, under L2 they come nearer."""
    weight = torch.randn(2, 36, generator=torch.Generator().manual_seed(1))
    across = weight[1] - weight[0]
    network = linear(weight, torch.tensor([50.0, 0.0]))
    inputs = 0.3 + 0.4 * torch.rand(10, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    found = attack(network, inputs, torch.zeros(10).long(), Threat(norm, epsilon), queries=2000).images
    gained = ((found - inputs).flatten(1) * across).sum(1)
    best = epsilon * (across.abs().sum() if norm == "linf" else across.norm())
    assert bool((gained <= best * 1.0001).all()) and float(gained.mean() / best) > share


@pytest.mark.parametrize("norm,epsilon", [("linf", 0.1), ("l2", 0.8)])
def test_regrouping_changes_nothing_but_rounding(norm: str, epsilon: float) -> None:
    network, inputs, labels = trained()
    threat = Threat(norm, epsilon)
    together = attack(network, inputs, labels, threat, draws=PerImage(1, range(300)))
    parts = [
        attack(network, inputs[b : b + 37], labels[b : b + 37], threat,
               draws=PerImage(1, range(b, min(b + 37, 300)))) for b in range(0, 300, 37)
    ]  # fmt: skip
    verdicts = [network(e).argmax(1) == labels for e in (together.images, torch.cat([p.images for p in parts]))]
    assert int((verdicts[0] != verdicts[1]).sum()) <= 1
    again = attack(network, inputs, labels, threat, draws=PerImage(1, range(300)))
    assert torch.equal(again.images, together.images)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0.0, 3.0),
    classes=st.sampled_from([2, 3, 10]),
    shape=st.sampled_from([(3, 8, 8), (1, 3, 4), (2, 1, 1), (1, 5, 9), (3, 12, 7)]),
    p_init=st.floats(0.01, 1.0),
    queries=st.integers(1, 30),
    seed=st.integers(0, 10**6),
)
def test_budget_and_range(
    norm: str, epsilon: float, classes: int, shape: tuple[int, int, int], p_init: float, queries: int, seed: int
) -> None:
    inputs = (torch.rand(250, *shape, generator=torch.Generator().manual_seed(seed)) * 1.4 - 0.2).clamp(0, 1)
    network = small_net(classes, channels=shape[0], seed=seed % 7)
    labels = torch.randint(0, classes, (250,), generator=torch.Generator().manual_seed(seed))
    found = attack(network, inputs, labels, Threat(norm, epsilon), queries=queries, p_init=p_init)
    check_images(found.images, inputs, Threat(norm, epsilon))
    assert found.queries is not None and int(found.queries.min()) >= 1 and int(found.queries.max()) <= queries


def test_l2_uses_its_whole_budget() -> None:
    network, inputs = small_net(5), 0.4 + 0.2 * images(20, side=32)
    found = attack(network, inputs, network(inputs).argmax(1), Threat("l2", 0.1), queries=50).images
    assert torch.allclose(distances(found, inputs)[1], torch.tensor(0.1, dtype=torch.float64), atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_budget_asks_once_and_leaves_the_images_alone(norm: str) -> None:
    network, inputs, labels = trained()
    found = attack(network, inputs, labels, Threat(norm, 0.0))
    assert torch.equal(found.images, inputs)
    assert found.queries is not None and found.queries.tolist() == [1] * 300


def test_views_of_several_members() -> None:
    network, inputs, labels = trained()
    members = [network, lambda x: network(x.roll(1, dims=3))]
    for view in (EnsembleView(members, [0.7, 0.3]), ExpectationView(members, [0.7, 0.3])):
        found = attack(view, inputs, labels, Threat("linf", 0.1))
        assert float((view.logits(found.images).argmax(1) != labels).float().mean()) > 0.3


def test_budget_below_the_published_one_is_flagged() -> None:
    network, inputs, labels = trained()
    fooled = network(inputs).argmax(1) != labels
    assert attack(network, inputs[fooled], labels[fooled], Threat("linf", 0.1), queries=5000).flags == ()
    assert attack(network, inputs[fooled], labels[fooled], Threat("linf", 0.1)).flags == ("reduced_budget",)


def test_bumps_are_the_packages_pattern() -> None:
    package = import_autoattack().square.SquareAttack(None, norm="L2", device="cpu")
    for side in (1, 2, 3, 4, 5, 7, 11, 28):
        torch.manual_seed(side)
        theirs = package.eta(side) if side > 1 else torch.full((1, 1), -1.0)
        assert min(float((bump(side) - each).abs().max()) for each in (theirs, theirs.T)) < 1e-6


def test_windows() -> None:
    whole = images(3, channels=2, side=6)
    top, left = torch.tensor([0, 2, 4]), torch.tensor([4, 1, 0])
    windows = cut(whole, top, left, 2)
    assert torch.equal(windows[1], whole[1, :, 2:4, 1:3]) and torch.equal(windows[2], whole[2, :, 4:6, 0:2])
    mask = inside(top, left, 2, 6, 6)
    assert mask.shape == (3, 1, 6, 6) and mask.sum().item() == 12
    put = changed(whole, torch.zeros_like(windows), top, left)
    assert torch.equal(put, whole * ~mask)
    assert bool((whole != 0).all())


def test_every_pixel_is_reached() -> None:
    # Windows of one pixel, linf: of many images one has its window at every place, the last row and column included.
    inputs = torch.full((400, 1, 5, 5), 0.5)
    seen = []

    def logits(asked: Tensor) -> Tensor:
        seen.append(asked)
        return torch.tensor([[1.0, 0.0]]).expand(len(asked), 2) - asked.flatten(1).sum(1, keepdim=True) * 0

    view = CallableView(logits)
    attack(view, inputs, torch.zeros(400).long(), Threat("linf", 0.1), queries=3, p_init=0.04)
    moved = (seen[2] != seen[1]).any(0)[0]
    assert bool(moved.all())
