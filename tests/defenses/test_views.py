from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rstbench.attacks.pgd import cross_entropy, pgd
from rstbench.attacks.threat import Threat, distances
from rstbench.defenses.view import CallableView, View
from rstbench.defenses.views import EnsembleView, ExpectationView
from tests.attacks.networks import images, small_net

MEMBERS = [small_net(seed=seed) for seed in (1, 2, 3)]
UNIFORM, SKEWED = (1 / 3, 1 / 3, 1 / 3), (0.6, 0.3, 0.1)
INPUTS = images(9)
LABELS = MEMBERS[0](INPUTS).argmax(1)


def reference(view: str, probabilities: tuple[float, ...], inputs: Tensor) -> Tensor:
    """The objective of each image, as its definition says."""
    logits = torch.stack([member(inputs) for member in MEMBERS])
    weights = torch.tensor(probabilities).view(-1, 1, 1)
    if view == "logits":
        return -((weights * logits).sum(0).log_softmax(1))[torch.arange(len(inputs)), LABELS]
    if view == "probabilities":
        return -((weights * logits.softmax(2)).sum(0).log())[torch.arange(len(inputs)), LABELS]
    losses = torch.stack([torch.nn.functional.cross_entropy(each, LABELS, reduction="none") for each in logits])
    return (weights[:, :, 0] * losses).sum(0)


def made(view: str, probabilities: tuple[float, ...]) -> View:
    if view == "eot":
        return ExpectationView(MEMBERS, probabilities)
    return EnsembleView(MEMBERS, probabilities, view)


@pytest.mark.parametrize("view", ["eot", "logits", "probabilities"])
@pytest.mark.parametrize("probabilities", [UNIFORM, SKEWED, (0.0, 1.0, 0.0)])
def test_gradient_is_that_of_the_definition(view: str, probabilities: tuple[float, ...]) -> None:
    leaf = INPUTS.clone().requires_grad_(True)
    loss = reference(view, probabilities, leaf)
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    step = made(view, probabilities).step(INPUTS, LABELS, cross_entropy)
    assert torch.allclose(step.gradient, gradient, atol=1e-6, rtol=1e-4)
    assert torch.allclose(step.loss, loss.detach(), atol=1e-5)
    assert not step.gradient.requires_grad and not step.loss.requires_grad


def test_the_views_differ() -> None:
    gradients = [made(view, SKEWED).step(INPUTS, LABELS, cross_entropy).gradient for view in ("eot", "logits")]
    gradients.append(made("probabilities", SKEWED).step(INPUTS, LABELS, cross_entropy).gradient)
    gradients.append(made("eot", UNIFORM).step(INPUTS, LABELS, cross_entropy).gradient)
    for i in range(4):
        assert not any(torch.allclose(gradients[i], gradients[j], rtol=1e-2) for j in range(i))


@pytest.mark.parametrize("view", [ExpectationView, EnsembleView])
def test_one_member_is_that_member(view: type) -> None:
    alone, expected = view([MEMBERS[1]], [1.0]), CallableView(MEMBERS[1]).step(INPUTS, LABELS, cross_entropy)
    step = alone.step(INPUTS, LABELS, cross_entropy)
    assert torch.equal(step.gradient, expected.gradient)
    assert torch.equal(step.loss, expected.loss) and torch.equal(step.standing, expected.standing)


def test_logits() -> None:
    assert torch.equal(CallableView(MEMBERS[0]).logits(INPUTS), MEMBERS[0](INPUTS))
    averaged = sum(p * member(INPUTS).softmax(1) for p, member in zip(SKEWED, MEMBERS, strict=True))
    for view in ("eot", "probabilities"):
        assert torch.allclose(made(view, SKEWED).logits(INPUTS).exp(), averaged, atol=1e-6)
    assert torch.allclose(
        made("logits", UNIFORM).logits(INPUTS), torch.stack([m(INPUTS) for m in MEMBERS]).mean(0), atol=1e-5
    )


def test_standing() -> None:
    right = torch.stack([member(INPUTS).argmax(1) == LABELS for member in MEMBERS])
    step = made("eot", UNIFORM).step(INPUTS, LABELS, cross_entropy)
    assert torch.equal(step.standing, right.any(0)) and not torch.equal(right.any(0), right.all(0))
    never_drawn = made("eot", (0.0, 0.5, 0.5)).step(INPUTS, LABELS, cross_entropy)
    assert torch.equal(never_drawn.standing, right[1:].any(0))
    averaged = made("logits", UNIFORM)
    assert torch.equal(
        averaged.step(INPUTS, LABELS, cross_entropy).standing, averaged.logits(INPUTS).argmax(1) == LABELS
    )


def test_members_and_probabilities_must_match() -> None:
    with pytest.raises(ValueError):
        ExpectationView(MEMBERS, [0.5, 0.5])


@pytest.mark.parametrize("view", ["eot", "logits", "probabilities"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("stop", ["never", "source_fooled"])
def test_views_compose_with_attacks(view: str, norm: str, stop: str) -> None:
    threat = Threat(norm, 0.05 if norm == "linf" else 0.4)
    found = pgd(
        made(view, SKEWED), INPUTS, LABELS, threat=threat, generator=torch.Generator().manual_seed(0),
        step_size=threat.epsilon / 4, steps=10, stop=stop,
    )  # fmt: skip
    assert float(distances(found, INPUTS)[norm == "l2"].max()) <= threat.epsilon + 1e-6
    assert bool((reference(view, SKEWED, found) > reference(view, SKEWED, INPUTS)).all())


def test_confident_members_leave_finite_gradients() -> None:
    # Averaged probabilities underflow where every member is sure of another class.
    sure = [lambda x, m=member: 500 * m(x) for member in MEMBERS]
    for view in (ExpectationView(sure, UNIFORM), EnsembleView(sure, UNIFORM, "probabilities")):
        step = view.step(INPUTS, (LABELS + 1) % 5, cross_entropy)
        assert bool(step.gradient.isfinite().all()) and bool(step.loss.isfinite().all())
