from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rstbench.attacks.apgd import apgd
from rstbench.attacks.draws import PerImage, Shared
from rstbench.attacks.found import Found
from rstbench.attacks.pgd import cross_entropy
from rstbench.attacks.threat import Threat, distances
from rstbench.compat import import_autoattack
from rstbench.defenses.view import CallableView, Criterion, Step, View
from rstbench.defenses.views import EnsembleView, ExpectationView, SwitchView
from rstbench.evaluation.judge import check_images
from tests.attacks.digits import trained
from tests.attacks.networks import images, linear, small_net

PIXELS = 12
NAMES = {"linf": "Linf", "l2": "L2"}


def attack(view: View | nn.Module, inputs: Tensor, labels: Tensor, threat: Threat, **options: object) -> Found:
    options = {"draws": PerImage(0, range(len(inputs))), "steps": 20} | options
    view = CallableView(view) if isinstance(view, nn.Module) else view
    return apgd(view, inputs, labels, threat=threat, **options)  # type: ignore[arg-type]


def middle(count: int) -> Tensor:
    """Images whose pixels are at least 0.3 away from 0 and 1, so that no small ball is clipped."""
    return 0.3 + 0.4 * torch.rand(count, 1, 3, 4, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.parametrize("classes", [2, 4])
def test_linear_boundary_within_a_percent(norm: str, loss: str, classes: int) -> None:
    """Fooled exactly where epsilon exceeds the distance to the boundary, margin / dual norm of the weights.

    Of four classes, two are out of reach: where several are in reach, neither loss need lead to the nearest.
    """
    weight = torch.randn(classes, PIXELS, generator=torch.Generator().manual_seed(3))
    through_the_middle = 0.5 * float((weight[0] - weight[1]).sum())
    network = linear(weight, torch.tensor([0.0, through_the_middle, -60.0, -60.0][:classes]))
    inputs = middle(40)
    logits = network(inputs)
    labels = logits.argmax(1)
    across = weight[0] - weight[1]
    reach = (logits[:, 0] - logits[:, 1]).abs() / (across.abs().sum() if norm == "linf" else across.norm())
    rows = ((reach > 0.02) & (reach < 0.29)).nonzero()[:, 0]
    assert len(rows) > 5
    for row in rows[:4]:
        image, label = inputs[row : row + 1], labels[row : row + 1]
        for factor, fooled in ((0.99, False), (1.01, True)):
            threat = Threat(norm, float(reach[row]) * factor)
            found = attack(network, image, label, threat, loss=loss, steps=60).images
            assert bool(network(found).argmax(1) != label) is fooled


class Fixed:
    """Draws that give the numbers the package would have drawn."""

    def __init__(self, seed: int, count: int) -> None:
        self._shared = Shared(torch.Generator().manual_seed(seed), count)

    def __getattr__(self, name: str) -> object:
        return getattr(self._shared, name)


@pytest.mark.parametrize("norm,epsilon", [("linf", 0.08), ("l2", 0.5)])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_equals_the_package_from_the_same_start(norm: str, epsilon: float, loss: str) -> None:
    network, inputs, labels = trained()
    rows = (network(inputs).argmax(1) == labels).nonzero()[:60, 0]
    inputs, labels = inputs[rows], labels[rows]
    package = import_autoattack().autopgd_base.APGDAttack(
        network, n_iter=30, norm=NAMES[norm], eps=epsilon, loss=loss, seed=7, device="cpu"
    )
    theirs = package.perturb(inputs, labels)
    found = attack(network, inputs, labels, Threat(norm, epsilon), loss=loss, steps=30, draws=Fixed(7, len(inputs)))
    fooled = network(theirs).argmax(1) != labels
    assert 0 < int(fooled.sum()) < len(rows)
    assert torch.equal(network(found.images).argmax(1) != labels, fooled)
    # In L2 the start is divided by a length that is summed in another order.
    assert torch.allclose(found.images[fooled], theirs[fooled], atol=0 if norm == "linf" else 1e-3)
    # Where nothing fooled, the package hands back the clean image; ours is the one of the highest loss.
    standing = ~fooled
    rise = cross_entropy(network(found.images), labels) - cross_entropy(network(inputs), labels)
    assert bool((found.images[standing] != inputs[standing]).flatten(1).any(1).all())
    assert bool((rise[standing] > 0).all())
    torch.random.manual_seed(7)
    best = package.perturb(inputs, labels, best_loss=True)
    kept = attack(network, inputs, labels, Threat(norm, epsilon), loss=loss, steps=30, keep="best_loss",
                  draws=Fixed(7, len(inputs)))  # fmt: skip
    assert torch.allclose(kept.images, best, atol=0 if norm == "linf" else 1e-3)


def test_keeps_what_was_asked_for() -> None:
    network, inputs, labels = trained()
    threat = Threat("linf", 0.1)
    fooling = attack(network, inputs, labels, threat, loss="ce").images
    highest = attack(network, inputs, labels, threat, loss="ce", keep="best_loss").images
    falls = [(network(each).argmax(1) != labels) for each in (fooling, highest)]
    loss = [cross_entropy(network(each), labels) for each in (fooling, highest)]
    assert bool((falls[0] | ~falls[1]).all())
    assert bool((loss[1] >= loss[0] - 1e-6).all()) and float((loss[1] - loss[0]).amax()) > 0


def test_restarts_keep_the_best_of_each_image() -> None:
    network, inputs, labels = trained()
    inputs, labels, threat = inputs[:100], labels[:100], Threat("linf", 0.1)
    draws = PerImage(3, range(100))
    singles = [attack(network, inputs, labels, threat, steps=3, draws=draws, keep="best_loss") for _ in range(4)]
    loss = torch.stack([cross_entropy(network(each.images), labels) for each in singles])
    assert len(set(loss.argmax(0).tolist())) > 1
    best = attack(network, inputs, labels, threat, steps=3, restarts=4, draws=PerImage(3, range(100)),
                  keep="best_loss")  # fmt: skip
    assert torch.equal(best.images, torch.stack([s.images for s in singles])[loss.argmax(0), torch.arange(100)])
    draws = PerImage(3, range(100))
    singles = [attack(network, inputs, labels, threat, steps=3, draws=draws) for _ in range(4)]
    anyone = torch.stack([network(each.images).argmax(1) != labels for each in singles]).any(0)
    best = attack(network, inputs, labels, threat, steps=3, restarts=4, draws=PerImage(3, range(100)))
    assert torch.equal(network(best.images).argmax(1) != labels, anyone)


class Recording:
    def __init__(self, network: nn.Module) -> None:
        self.network, self.losses = CallableView(network), []

    def logits(self, images: Tensor) -> Tensor:
        return self.network.logits(images)

    def step(self, images: Tensor, labels: Tensor, criterion: Criterion) -> Step:
        step = self.network.step(images, labels, criterion)
        self.losses.append(step.loss)
        return step


def test_losses_are_those_before_each_step_of_all_images() -> None:
    network, inputs, labels = trained()
    view = Recording(network)
    found = attack(view, inputs[:9], labels[:9], Threat("linf", 0.1), steps=7, restarts=2)
    assert len(view.losses) == 16  # steps + 1 a restart
    assert found.losses is not None and torch.equal(found.losses, torch.stack(view.losses[8:15]))
    assert float(found.losses[-1].mean()) > float(found.losses[0].mean())


@pytest.mark.parametrize("norm,epsilon", [("linf", 0.1), ("l2", 0.7)])
def test_regrouping_changes_nothing_but_rounding(norm: str, epsilon: float) -> None:
    network, inputs, labels = trained()
    together = attack(network, inputs, labels, Threat(norm, epsilon), draws=PerImage(1, range(300))).images
    parts = [
        attack(network, inputs[b : b + 37], labels[b : b + 37], Threat(norm, epsilon),
               draws=PerImage(1, range(b, min(b + 37, 300)))).images for b in range(0, 300, 37)
    ]  # fmt: skip
    verdicts = [network(each).argmax(1) == labels for each in (together, torch.cat(parts))]
    assert int((verdicts[0] != verdicts[1]).sum()) <= 1


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0.0, 2.0),
    loss=st.sampled_from(["ce", "dlr"]),
    keep=st.sampled_from(["fooling", "best_loss"]),
    classes=st.sampled_from([2, 3, 4, 10, 20]),
    steps=st.integers(1, 12),
    seed=st.integers(0, 10**6),
)
def test_budget_and_range(norm: str, epsilon: float, loss: str, keep: str, classes: int, steps: int, seed: int) -> None:
    network, inputs = small_net(classes, seed=seed % 7), (images(250, seed=seed) * 1.4 - 0.2).clamp(0, 1)
    labels = torch.randint(0, classes, (250,), generator=torch.Generator().manual_seed(seed))
    found = attack(network, inputs, labels, Threat(norm, epsilon), loss=loss, keep=keep, steps=steps)
    check_images(found.images, inputs, Threat(norm, epsilon))
    assert ("few_classes" in found.flags) is (classes == 2 and loss == "dlr")
    assert found.losses is not None and found.losses.shape == (steps, 250)


@pytest.mark.parametrize("side", [32, 224])
def test_l2_budget_of_large_images(side: int) -> None:
    network, inputs = small_net(10), images(4, side=side)
    threat = Threat("l2", 3.0)
    found = attack(network, inputs, network(inputs).argmax(1), threat, steps=10)
    check_images(found.images, inputs, threat)
    assert float(distances(found.images, inputs)[1].amin()) > 2.0


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("keep", ["fooling", "best_loss"])
def test_no_budget_leaves_the_images_alone(norm: str, keep: str) -> None:
    network, inputs, labels = trained()
    assert torch.equal(attack(network, inputs, labels, Threat(norm, 0.0), keep=keep).images, inputs)


@pytest.mark.parametrize("norm,epsilon", [("linf", 0.1), ("l2", 0.7)])
def test_views_of_several_members(norm: str, epsilon: float) -> None:
    members, inputs = [small_net(seed=1), small_net(seed=2)], images(40)
    labels = members[0](inputs).argmax(1)
    threat = Threat(norm, epsilon)
    mean = attack(EnsembleView(members, [0.5, 0.5]), inputs, labels, threat).images
    assert torch.equal(mean, attack(CallableView(lambda x: 0.5 * members[0](x) + 0.5 * members[1](x)), inputs, labels,
                                    threat).images)  # fmt: skip
    expected = attack(ExpectationView(members, [0.5, 0.5]), inputs, labels, threat, keep="best_loss").images

    def loss(images: Tensor) -> float:
        return float(sum(cross_entropy(m(images), labels).mean() for m in members))

    single = attack(members[0], inputs, labels, threat, keep="best_loss").images
    assert loss(expected) > loss(single) > loss(inputs)


def test_an_expectation_is_fooled_where_every_member_is() -> None:
    # The second member always says 0, which is wrong: that alone must not count as success, nor end the ascent.
    good, inputs, labels = trained()
    inputs, labels = inputs[labels > 0], labels[labels > 0]
    nought = torch.eye(10)[0] * 5
    view = ExpectationView([good, lambda x: x.flatten(1).sum(1, keepdim=True) * 0 + nought], [0.5, 0.5])
    threat = Threat("linf", 0.15)
    found, alone = attack(view, inputs, labels, threat).images, attack(good, inputs, labels, threat).images
    fallen = [good(each).argmax(1) != labels for each in (found, alone)]
    assert 0.2 < float(fallen[1].float().mean()) < 1
    assert int((fallen[0] != fallen[1]).sum()) <= 1


def test_no_image_is_dropped_for_one_unlucky_answer() -> None:
    # Half of the answers come from a member that is always wrong; the other must still be attacked on every image.
    good, inputs, labels = trained()
    view = SwitchView([good, lambda x: -good(x)], [0.5, 0.5], torch.Generator().manual_seed(0))
    found = attack(view, inputs, labels, Threat("linf", 0.2), steps=40, keep="best_loss").images
    assert bool((found != inputs).flatten(1).any(1).all())


def test_flags() -> None:
    network, inputs, labels = trained()
    threat = Threat("linf", 0.1)
    assert attack(network, inputs[:5], labels[:5], threat, steps=100).flags == ()
    assert attack(network, inputs[:5], labels[:5], threat, steps=99).flags == ("reduced_budget",)
    rounding = CallableView(lambda x: network((x * 15).round() / 15))
    for loss in ("ce", "dlr"):
        assert attack(rounding, inputs, labels, threat, steps=100, loss=loss).flags == ("zero_gradients",)
    saturated = CallableView(lambda x: network(x) * 1e4)
    assert attack(saturated, inputs, labels, threat, steps=100, loss="ce").flags == ("zero_gradients",)
    assert attack(saturated, inputs, labels, threat, steps=100, loss="dlr").flags == ()
    two = small_net(2)
    assert attack(two, images(5), torch.zeros(5).long(), threat, steps=100, loss="dlr").flags == ("few_classes",)


@pytest.mark.parametrize("norm,epsilon", [("linf", 0.1), ("l2", 0.8)])
def test_vanishing_gradients_still_move(norm: str, epsilon: float) -> None:
    # Logits this small have gradients of 1e-18, which in L2 the package's own normalisation would not survive.
    network, inputs, labels = trained()
    normal = attack(network, inputs, labels, Threat(norm, epsilon), steps=30, loss="ce").images
    tiny = attack(CallableView(lambda x: network(x) * 1e-17), inputs, labels, Threat(norm, epsilon), steps=30).images
    fallen = [float((network(each).argmax(1) != labels).float().mean()) for each in (normal, tiny)]
    assert fallen[1] > 0.7 * fallen[0] > 0.1


def test_leaves_the_random_numbers_of_others_alone(capsys: pytest.CaptureFixture[str]) -> None:
    network, inputs, labels = trained()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    attack(network, inputs, labels, Threat("linf", 0.1), restarts=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert capsys.readouterr() == ("", "")


def test_no_images() -> None:
    found = attack(small_net(), images(3)[:0], torch.zeros(0).long(), Threat("linf", 0.1))
    assert found.images.shape == (0, 3, 8, 8)
    assert found.losses is not None and found.losses.shape == (20, 0)
