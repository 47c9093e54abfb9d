from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rstbench.attacks.draws import PerImage
from rstbench.attacks.fgsm import fgsm
from rstbench.attacks.pgd import cross_entropy, pgd
from rstbench.attacks.threat import Threat, random_start
from rstbench.compat import import_advertorch
from rstbench.defenses.view import CallableView
from rstbench.errors import SpecError
from tests.attacks.linear_models import linear_model
from tests.attacks.networks import images, small_net


def attack(network: nn.Module, inputs: Tensor, labels: Tensor, epsilon: float, **options: object) -> Tensor:
    settings = {"step_size": epsilon, "draws": PerImage(0, range(len(inputs)))} | options
    return fgsm(CallableView(network), inputs, labels, threat=Threat("linf", epsilon), **settings).images  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
def test_two_class_linear_optimum(seed: int) -> None:
    model = linear_model(2, 40, seed=seed)
    for epsilon in (0.01, 0.1, 0.25):
        best = model.optimum("linf", epsilon)
        assert torch.allclose(
            model.margins(attack(model.network, model.inputs, model.labels, epsilon))[:, 0], best, rtol=1e-2
        )
        # A step of twice epsilon reaches the corner from wherever it starts.
        found = attack(model.network, model.inputs, model.labels, epsilon, start="uniform", step_size=2 * epsilon)
        assert torch.allclose(model.margins(found)[:, 0], best, rtol=1e-2)


def test_several_classes_linear_optimum_where_one_rival_is_in_reach() -> None:
    model = linear_model(5, 40)
    with torch.no_grad():
        model.network[1].bias[2:] -= 1000.0
    labels = model.network(model.inputs).argmax(1)
    model = type(model)(model.network, model.inputs, labels, model.weight)
    assert set(labels.tolist()) == {0, 1}
    found = attack(model.network, model.inputs, labels, 0.1)
    assert torch.allclose(model.margins(found).amax(1), model.optimum("linf", 0.1), rtol=1e-2)


def test_from_zero_is_one_step_of_pgd() -> None:
    network, inputs = small_net(), images(20)
    labels = network(inputs).argmax(1)
    for start in ("zero", "uniform"):
        one = pgd(
            CallableView(network), inputs, labels, threat=Threat("linf", 0.05), draws=PerImage(0, range(20)),
            step_size=0.0625, steps=1, start=start,
        )  # fmt: skip
        found = fgsm(
            CallableView(network), inputs, labels, threat=Threat("linf", 0.05), draws=PerImage(0, range(20)),
            step_size=0.0625, start=start,
        )  # fmt: skip
        assert torch.equal(found.images, one.images)
        assert found.losses is not None and one.losses is not None and torch.equal(found.losses, one.losses)


def test_uniform_start_is_the_start_of_its_losses() -> None:
    network, inputs = small_net(), images(20)
    labels = network(inputs).argmax(1)
    threat = Threat("linf", 0.1)
    begun = random_start(inputs, threat, PerImage(3, range(20)))
    found = fgsm(
        CallableView(network),
        inputs,
        labels,
        threat=threat,
        draws=PerImage(3, range(20)),
        step_size=0.0,
        start="uniform",
    )
    assert torch.allclose(found.images, begun, atol=1e-7)
    assert found.losses is not None and found.losses.shape == (1, 20)
    assert torch.allclose(found.losses[0], cross_entropy(network(begun), labels), atol=1e-6)


def test_equals_advertorch() -> None:
    import_advertorch()
    from advertorch.attacks import GradientSignAttack

    network, inputs = small_net(), images(24)
    labels = network(inputs).argmax(1)
    theirs = GradientSignAttack(network, nn.CrossEntropyLoss(reduction="sum"), eps=0.05).perturb(inputs, labels)
    ours = attack(network, inputs, labels, 0.05)
    assert float((ours - theirs).abs().max()) < 1e-6 and float((ours - inputs).abs().max()) > 0.04


def test_a_zero_gradient_moves_nothing() -> None:
    inputs = images(6)
    dead = lambda x: torch.zeros(len(x), 5) + 0 * x.sum((1, 2, 3), keepdim=True)[:, :, 0, 0]  # noqa: E731
    assert torch.equal(attack(dead, inputs, torch.zeros(6).long(), 0.1), inputs)  # type: ignore[arg-type]
    half = lambda x: torch.stack([x[:, 0, 0, 0], -x[:, 0, 0, 0]], 1)  # noqa: E731
    moved = (attack(half, inputs, torch.zeros(6).long(), 0.1) - inputs).flatten(1)  # type: ignore[arg-type]
    assert bool((moved[:, 0] < 0).all()) and not bool(moved[:, 1:].any())


def test_is_of_the_linf_norm() -> None:
    with pytest.raises(SpecError, match="l2"):
        fgsm(
            CallableView(small_net()), images(2), torch.zeros(2).long(), threat=Threat("l2", 0.5),
            draws=PerImage(0, range(2)), step_size=0.5,
        )  # fmt: skip
