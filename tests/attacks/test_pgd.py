from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rstbench.attacks.draws import PerImage, Shared
from rstbench.attacks.pgd import cross_entropy, pgd
from rstbench.attacks.threat import Threat, distances, random_start
from rstbench.compat import import_advertorch
from rstbench.defenses.view import CallableView
from tests.attacks.networks import images, linear, small_net

PIXELS = 12


def attack(network: nn.Module, inputs: Tensor, labels: Tensor, threat: Threat, **options: object) -> Tensor:
    draws = PerImage(0, range(len(inputs)))
    settings = {"step_size": threat.epsilon / 4, "steps": 20, "draws": draws} | options
    return pgd(CallableView(network), inputs, labels, threat=threat, **settings).images  # type: ignore[arg-type]


def losses(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(network(inputs), labels)


def middle(count: int, seed: int = 5) -> Tensor:
    """Images whose pixels are at least 0.3 away from 0 and 1, so that no small ball is clipped."""
    return 0.3 + 0.4 * images(count, channels=1, side=1, seed=seed).expand(count, PIXELS, 1, 1).clone().view(
        count, 1, 3, 4
    )


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_two_classes_linear_optimum(norm: str) -> None:
    # Loss of two classes grows with (w1 - w0) x towards the other class: epsilon * sign, or epsilon * unit vector.
    weight = torch.randn(2, PIXELS, generator=torch.Generator().manual_seed(1))
    network = linear(weight, torch.zeros(2))
    inputs, labels = middle(6), torch.tensor([0, 1] * 3)
    towards = torch.where(labels[:, None] == 0, weight[1] - weight[0], weight[0] - weight[1])
    best = towards.sign() if norm == "linf" else towards / towards.norm(dim=1, keepdim=True)
    for start in ("uniform", "zero"):
        found = attack(network, inputs, labels, Threat(norm, 0.1), step_size=0.03, steps=60, start=start)
        assert torch.allclose((found - inputs).flatten(1), 0.1 * best, atol=1e-3 if norm == "l2" else 1e-6)


def test_two_classes_linear_optimum_at_the_edge_of_the_range() -> None:
    weight = torch.randn(2, PIXELS, generator=torch.Generator().manual_seed(2))
    network = linear(weight, torch.zeros(2))
    inputs, labels = images(8, channels=1, side=1).expand(8, PIXELS, 1, 1).reshape(8, 1, 3, 4), torch.zeros(8).long()
    inputs = (inputs * 3 - 1).clamp(0, 1)  # many at 0 and 1 exactly
    best = (inputs.flatten(1) + 0.2 * (weight[1] - weight[0]).sign()).clamp(0, 1)
    found = attack(network, inputs, labels, Threat("linf", 0.2)).flatten(1)
    assert torch.allclose(found, best, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_two_classes_linear_boundary(norm: str) -> None:
    """Fooled exactly where epsilon exceeds the distance to the boundary, margin / dual norm of the weights."""
    weight = torch.randn(2, PIXELS, generator=torch.Generator().manual_seed(3))
    network = linear(weight, torch.zeros(2))
    inputs = middle(1)
    label = network(inputs).argmax(1)
    difference = weight[1] - weight[0]
    dual = difference.abs().sum() if norm == "linf" else difference.norm()
    logits = network(inputs)[0]
    reach = float((logits[0] - logits[1]).abs() / dual)
    assert reach < 0.29  # within the range of pixels
    for factor, fooled in ((0.98, False), (1.02, True)):
        for stop in ("never", "source_fooled"):
            threat = Threat(norm, reach * factor)
            found = attack(network, inputs, label, threat, steps=100, step_size=threat.epsilon / 10, stop=stop)
            assert bool(network(found).argmax(1) != label) is fooled


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_several_classes_linear_optimum(norm: str) -> None:
    # One rival whose weights stand alone: the loss is convex in x, and with one rival in reach its optimum is known.
    weight = torch.randn(4, PIXELS, generator=torch.Generator().manual_seed(4))
    bias = torch.tensor([0.0, 0.0, -60.0, -60.0])
    network = linear(weight, bias)
    inputs, labels = middle(4), torch.zeros(4).long()
    towards = weight[1] - weight[0]
    best = 0.2 * (towards.sign() if norm == "linf" else towards / towards.norm())
    found = attack(network, inputs, labels, Threat(norm, 0.2), steps=60, step_size=0.05)
    assert torch.allclose((found - inputs).flatten(1), best.expand(4, -1), atol=1e-6 if norm == "linf" else 1e-3)


def test_several_classes_against_every_corner() -> None:
    # The loss of linear logits is convex: its maximum over a cube lies in a corner; three pixels have eight.
    generator = torch.Generator().manual_seed(5)
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    for _ in range(5):
        network = linear(torch.randn(3, 3, generator=generator) * 3, torch.zeros(3))
        inputs = 0.4 + 0.2 * torch.rand(1, 1, 1, 3, generator=generator)
        label = network(inputs).argmax(1)
        best = max(float(losses(network, inputs + 0.2 * c.view(1, 1, 1, 3), label)) for c in corners)
        found = attack(network, inputs, label, Threat("linf", 0.2), restarts=10, step_size=0.1)
        assert float(losses(network, found, label)) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_larger_ball_is_never_worse(norm: str) -> None:
    network, inputs = small_net(), images(32)
    labels = network(inputs).argmax(1)
    previous, right = losses(network, inputs, labels).mean(), 32
    for epsilon in (0.01, 0.03, 0.1, 0.3):
        found = attack(network, inputs, labels, Threat(norm, epsilon * (1 if norm == "linf" else 5)), start="zero")
        loss, standing = losses(network, found, labels).mean(), int((network(found).argmax(1) == labels).sum())
        assert loss > previous and standing <= right
        previous, right = loss, standing
    assert right < 32


@settings(max_examples=60, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0.0, 2.0),
    step_size=st.floats(0.0, 3.0),
    steps=st.integers(1, 4),
    start=st.sampled_from(["uniform", "zero"]),
    stop=st.sampled_from(["never", "source_fooled"]),
    restarts=st.integers(1, 2),
    count=st.integers(1, 4),
    seed=st.integers(0, 10_000),
)
def test_budget_and_range_always_hold(
    norm: str,
    epsilon: float,
    step_size: float,
    steps: int,
    start: str,
    stop: str,
    restarts: int,
    count: int,
    seed: int,
) -> None:
    network, inputs = small_net(seed=seed % 7), images(count, side=6, seed=seed)
    labels = torch.arange(count) % 5
    before = inputs.clone()
    found = attack(
        network, inputs, labels, Threat(norm, epsilon), step_size=step_size, steps=steps, start=start, stop=stop,
        restarts=restarts, draws=PerImage(seed, range(count)),
    )  # fmt: skip
    linf, l2 = distances(found, inputs)
    assert float((linf if norm == "linf" else l2).max()) <= epsilon + 2e-6
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    assert found.dtype == torch.float32 and found.shape == inputs.shape and not found.requires_grad
    assert torch.equal(inputs, before) and found.data_ptr() != inputs.data_ptr()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_equals_advertorch(norm: str) -> None:
    import_advertorch()
    from advertorch.attacks import L2PGDAttack, LinfPGDAttack

    network, inputs = small_net(), images(24)
    labels = network(inputs).argmax(1)
    epsilon, step = (8 / 255, 2 / 255) if norm == "linf" else (0.5, 0.0625)
    kind = LinfPGDAttack if norm == "linf" else L2PGDAttack
    theirs = kind(
        network, nn.CrossEntropyLoss(reduction="sum"), eps=epsilon, nb_iter=20, eps_iter=step, rand_init=False,
        clip_min=0.0, clip_max=1.0,
    ).perturb(inputs, labels)  # fmt: skip
    ours = attack(network, inputs, labels, Threat(norm, epsilon), step_size=step, start="zero")
    assert float((ours - inputs).abs().max()) > 0.03
    assert float((ours - theirs).abs().max()) < 2e-6


def full_batch_reference(
    network: nn.Module, inputs: Tensor, labels: Tensor, epsilon: float, step: float, steps: int
) -> tuple[Tensor, Tensor]:
    """As the authors run it: all images in every pass, steps only for those still classified right."""
    clean = inputs
    images = random_start(inputs, Threat("linf", epsilon), PerImage(0, range(len(inputs))))
    taken = torch.zeros(len(inputs), dtype=torch.int64)
    for _ in range(steps):
        leaf = images.clone().requires_grad_(True)
        logits = network(leaf)
        nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
        right = logits.argmax(1) == labels
        stepped = images + step * leaf.grad.sign()
        stepped = torch.min(torch.max(stepped, clean - epsilon), clean + epsilon).clamp(0, 1)
        images = torch.where(right[:, None, None, None], stepped, images)
        taken += right
    return images, taken


def test_source_fooled_is_the_full_batch_loop() -> None:
    network, inputs = small_net(), images(40)
    labels = network(inputs).argmax(1)
    labels[:4] = (labels[:4] + 1) % 5  # wrong from the start: never stepped
    epsilon, step, steps = 0.06, 0.01, 12
    theirs, taken = full_batch_reference(network, inputs, labels, epsilon, step, steps)
    ours = attack(
        network, inputs, labels, Threat("linf", epsilon), step_size=step, steps=steps, stop="source_fooled"
    )  # fmt: skip
    assert set(taken[:4].tolist()) == {0} and 0 < int((taken == steps).sum()) < 36 and len(set(taken.tolist())) > 3
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert torch.equal(network(ours).argmax(1), network(theirs).argmax(1))
    start = random_start(inputs, Threat("linf", epsilon), PerImage(0, range(len(inputs))))
    assert torch.equal(ours[:4], start[:4])


def test_fooled_images_stay_where_they_were_fooled() -> None:
    network, inputs = small_net(), images(40)
    labels = network(inputs).argmax(1)
    threat = Threat("linf", 0.06)
    frozen: dict[int, Tensor] = {}
    for steps in range(1, 13):
        found = attack(network, inputs, labels, threat, step_size=0.01, steps=steps, stop="source_fooled")
        for row, image in frozen.items():
            assert torch.allclose(found[row], image, atol=1e-6)
        for row in torch.where(network(found).argmax(1) != labels)[0].tolist():
            frozen.setdefault(row, found[row])
    assert 3 < len(frozen) < 40


class Counting:
    """Counts images over all passes."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.sizes = network, []

    def __call__(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        return self.network(images)  # type: ignore[no-any-return]


def test_number_of_passes() -> None:
    network, inputs = small_net(), images(16)
    labels = network(inputs).argmax(1)
    for stop, expected in (("never", [16] * 7), ("source_fooled", None)):
        counting = Counting(network)
        attack(counting, inputs, labels, Threat("linf", 0.2), step_size=0.05, steps=7, stop=stop)  # type: ignore[arg-type]
        if expected is not None:
            assert counting.sizes == expected
        else:
            assert counting.sizes[0] == 16 and counting.sizes == sorted(counting.sizes, reverse=True)
            assert sum(counting.sizes) < 16 * 7 and 0 not in counting.sizes


def test_never_goes_on_behind_the_boundary() -> None:
    network, inputs = small_net(), images(16)
    labels = network(inputs).argmax(1)
    options = {"step_size": 0.02, "steps": 15}
    resting = attack(network, inputs, labels, Threat("linf", 0.1), stop="source_fooled", **options)
    moving = attack(network, inputs, labels, Threat("linf", 0.1), stop="never", **options)
    fooled = network(resting).argmax(1) != labels
    assert bool(fooled.any())
    assert float(losses(network, moving, labels)[fooled].mean()) > float(
        losses(network, resting, labels)[fooled].mean()
    )


@pytest.mark.parametrize("stop", ["never", "source_fooled"])
def test_an_image_does_not_depend_on_its_neighbours(stop: str) -> None:
    network, inputs = small_net(), images(12)
    labels = network(inputs).argmax(1)
    options = {"start": "zero", "stop": stop, "step_size": 0.01, "steps": 8}
    together = attack(network, inputs, labels, Threat("linf", 0.05), **options)
    alone = [attack(network, inputs[i : i + 1], labels[i : i + 1], Threat("linf", 0.05), **options) for i in range(12)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)


def test_restarts_keep_the_highest_loss_of_each_image() -> None:
    network, inputs = small_net(), images(24)
    labels = network(inputs).argmax(1)
    threat, options = Threat("linf", 0.1), {"step_size": 0.02, "steps": 2}
    draws = PerImage(0, range(24))
    singles = [attack(network, inputs, labels, threat, draws=draws, **options) for _ in range(4)]
    loss = torch.stack([losses(network, each, labels) for each in singles])
    assert len(set(loss.argmax(0).tolist())) > 1
    best = torch.stack(singles)[loss.argmax(0), torch.arange(24)]
    assert torch.equal(attack(network, inputs, labels, threat, restarts=4, **options), best)


@pytest.mark.parametrize("stop", ["never", "source_fooled"])
def test_losses_are_those_before_each_step(stop: str) -> None:
    network, inputs = small_net(), images(30)
    labels = network(inputs).argmax(1)
    options = {"step_size": 0.01, "stop": stop, "start": "zero"}
    threat = Threat("linf", 0.06)
    found = pgd(CallableView(network), inputs, labels, threat=threat, draws=PerImage(0, range(30)), steps=6, **options)  # type: ignore[arg-type]
    assert found.losses is not None and found.losses.shape == (6, 30)
    standing = torch.ones(30, dtype=torch.bool)
    for number in range(6):
        before = attack(network, inputs, labels, threat, steps=number, **options)
        assert torch.allclose(found.losses[number][standing], losses(network, before, labels)[standing], atol=1e-5)
        assert bool(found.losses[number][~standing].isnan().all())
        if stop == "source_fooled":
            standing &= network(before).argmax(1) == labels
    assert stop == "never" or not bool(standing.all())


def test_shared_draws_are_one_stream() -> None:
    # Training draws so: the start of a batch is what one generator gives for the whole batch.
    network, inputs = small_net(), images(10)
    labels = network(inputs).argmax(1)
    found = attack(
        network, inputs, labels, Threat("linf", 0.1), steps=0, draws=Shared(torch.Generator().manual_seed(4), 10)
    )
    noise = torch.rand(inputs.shape, generator=torch.Generator().manual_seed(4))
    assert torch.equal(found, (inputs + (noise * 2 - 1) * 0.1).clamp(0, 1))
