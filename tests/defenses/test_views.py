from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rstbench.attacks.draws import PerImage
from rstbench.attacks.pgd import cross_entropy, pgd
from rstbench.attacks.threat import Threat, distances
from rstbench.defenses.view import CallableView, View
from rstbench.defenses.views import EnsembleView, ExpectationView, SwitchView
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
        made(view, SKEWED), INPUTS, LABELS, threat=threat, draws=PerImage(0, range(len(INPUTS))),
        step_size=threat.epsilon / 4, steps=10, stop=stop,
    ).images  # fmt: skip
    assert float(distances(found, INPUTS)[norm == "l2"].max()) <= threat.epsilon + 1e-6
    assert bool((reference(view, SKEWED, found) > reference(view, SKEWED, INPUTS)).all())


def test_confident_members_leave_finite_gradients() -> None:
    # Averaged probabilities underflow where every member is sure of another class.
    sure = [lambda x, m=member: 500 * m(x) for member in MEMBERS]
    for view in (ExpectationView(sure, UNIFORM), EnsembleView(sure, UNIFORM, "probabilities")):
        step = view.step(INPUTS, (LABELS + 1) % 5, cross_entropy)
        assert bool(step.gradient.isfinite().all()) and bool(step.loss.isfinite().all())


def test_expected_probabilities_do_not_underflow() -> None:
    # Every member gives the label a probability below the smallest float; its logarithm and gradient are still there.
    sure = [lambda x, m=member: 500 * m(x) for member in MEMBERS]
    log_shares = torch.stack([each(INPUTS).double().log_softmax(1) for each in sure])
    expected = (log_shares + torch.tensor(SKEWED).double().log().view(-1, 1, 1)).logsumexp(0)
    wrong = expected.argmin(1)
    assert float(expected[torch.arange(9), wrong].max()) < -104  # exp of it is 0 in fp32
    for view in (ExpectationView(sure, SKEWED), EnsembleView(sure, SKEWED, "probabilities")):
        assert torch.allclose(view.logits(INPUTS).double(), expected, rtol=1e-4, atol=1e-3)
    gradient = EnsembleView(sure, SKEWED, "probabilities").step(INPUTS, wrong, cross_entropy).gradient
    assert bool((gradient.flatten(1).abs().amax(1) > 1).all())


@pytest.mark.parametrize("scale", [1.0, 1e-28])
def test_unit_gradients_count_every_member_alike(scale: float) -> None:
    # The second member's gradient all but vanishes; the mean of gradients forgets it, the mean of unit ones does not.
    members = [MEMBERS[0], lambda x: scale * MEMBERS[1](x)]
    alone = [CallableView(m).step(INPUTS, LABELS, cross_entropy).gradient for m in MEMBERS[:2]]
    shape = (-1, 1, 1, 1)
    if scale != 1.0:  # the loss of all but equal logits: its gradient is that at equal logits, times the scale
        flat = lambda logits, labels: logits.mean(1) - logits.gather(1, labels[:, None])[:, 0]  # noqa: E731
        alone[1] = CallableView(MEMBERS[1]).step(INPUTS, LABELS, flat).gradient
    units = [g / g.flatten(1).norm(dim=1).view(shape) for g in alone]
    step = ExpectationView(members, (0.7, 0.3), unit_gradients=True).step(INPUTS, LABELS, cross_entropy)
    assert torch.allclose(step.gradient, 0.7 * units[0] + 0.3 * units[1], atol=1e-5)
    plain = ExpectationView(members, (0.7, 0.3)).step(INPUTS, LABELS, cross_entropy)
    assert torch.equal(plain.loss, step.loss) and torch.equal(plain.standing, step.standing)
    assert not torch.allclose(plain.gradient / plain.gradient.norm(), step.gradient / step.gradient.norm(), atol=1e-3)


def test_a_unit_gradient_of_zero_stays_zero() -> None:
    members = [MEMBERS[0], lambda x: torch.zeros(len(x), 5)]
    step = ExpectationView(members, (0.5, 0.5), unit_gradients=True).step(INPUTS, LABELS, cross_entropy)
    assert torch.allclose(step.gradient.flatten(1).norm(dim=1), torch.full((9,), 0.5), atol=1e-6)


def test_a_constant_answer_has_a_zero_gradient() -> None:
    bias = torch.nn.Parameter(torch.zeros(5))
    for constant in (lambda x: torch.ones(len(x), 5), lambda x: bias.expand(len(x), 5)):
        step = CallableView(constant).step(INPUTS, LABELS, cross_entropy)
        assert torch.equal(step.gradient, torch.zeros_like(INPUTS)) and not step.loss.requires_grad
    assert bias.grad is None


class Asked:
    """Answers with its own number in the first logit, the image's first pixel in the second; knows how often."""

    def __init__(self, number: int) -> None:
        self.number, self.images = number, 0

    def __call__(self, images: Tensor) -> Tensor:
        self.images += len(images)
        first = images.flatten(1)[:, 0]
        return torch.stack([torch.full_like(first, self.number), first], dim=1)


def switch(members: list, probabilities: tuple[float, ...], seed: int = 0) -> SwitchView:
    return SwitchView(members, probabilities, torch.Generator().manual_seed(seed))


def test_a_switch_draws_by_its_probabilities_for_every_image() -> None:
    members = [Asked(number) for number in range(4)]
    probabilities = (0.5, 0.0, 0.3, 0.2)
    view, asked = switch(members, probabilities), images(500, side=2)
    drawn = torch.stack([view.logits(asked)[:, 0].long() for _ in range(40)])
    counts = torch.bincount(drawn.flatten(), minlength=4)
    assert members[1].images == 0 and [m.images for m in members] == counts.tolist()
    for share, probability in zip((counts / 20_000).tolist(), probabilities, strict=True):
        assert share == pytest.approx(probability, abs=4 * (probability * (1 - probability) / 20_000) ** 0.5 + 1e-9)
    # Within one query, and from one query to the next, draws are independent.
    agree = (drawn[0] == drawn[1:]).float().mean()
    assert float(agree) == pytest.approx(0.5**2 + 0.3**2 + 0.2**2, abs=0.02)
    assert float((drawn[:, :-1] == drawn[:, 1:]).float().mean()) == pytest.approx(0.38, abs=0.02)


def test_a_switch_answers_in_the_order_of_the_images() -> None:
    asked = images(50, side=2)
    view = switch([Asked(number) for number in range(3)], UNIFORM)
    assert torch.equal(view.logits(asked)[:, 1], asked.flatten(1)[:, 0])
    assert torch.equal(switch([Asked(0), Asked(1)], (0.0, 1.0)).logits(asked)[:, 0], torch.ones(50))


def test_a_switch_gives_each_image_the_gradient_of_the_member_it_met() -> None:
    alone = [CallableView(member).step(INPUTS, LABELS, cross_entropy) for member in MEMBERS]
    step = switch(MEMBERS, UNIFORM).step(INPUTS, LABELS, cross_entropy)
    met = torch.stack([(step.loss - each.loss).abs() for each in alone]).argmin(0)
    assert len(set(met.tolist())) == 3
    for row, member in enumerate(met.tolist()):
        assert torch.allclose(step.gradient[row], alone[member].gradient[row], atol=1e-6)
        assert bool(step.standing[row] == alone[member].standing[row])


def test_a_switch_is_what_its_generator_makes_it() -> None:
    first, again, other = (switch(MEMBERS, UNIFORM, seed) for seed in (1, 1, 2))
    answers = [first.logits(INPUTS), first.logits(INPUTS)]
    assert not torch.equal(*answers)
    assert torch.equal(torch.stack(answers), torch.stack([again.logits(INPUTS), again.logits(INPUTS)]))
    assert not torch.equal(answers[0], other.logits(INPUTS))


def test_a_switch_of_one_member_is_that_member() -> None:
    assert torch.equal(switch([MEMBERS[2]], (1.0,)).logits(INPUTS), MEMBERS[2](INPUTS))
    with pytest.raises(ValueError):
        switch(MEMBERS, (0.5, 0.5))
