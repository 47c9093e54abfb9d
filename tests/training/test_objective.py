from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rstbench.spec.training import InnerAttack, TrainingSpec
from rstbench.training import Run, Weights, generator, inner_images, training_loss
from rstbench.training.objective import divergence
from tests.training.problem import CPU, images, settings, subject

EPSILON = 8 / 255


def problem() -> tuple[nn.Module, Tensor, Tensor]:
    """A smooth network of two layers in float64, images and labels."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 5)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)
    return network, torch.rand(6, 1, 4, 4, dtype=torch.float64), torch.arange(6) % 5


def test_the_divergence_is_that_of_the_definition() -> None:
    logits, target = torch.randn(4, 7, dtype=torch.float64), torch.randn(4, 7, dtype=torch.float64)
    p, q = target.softmax(1), logits.softmax(1)
    torch.testing.assert_close(divergence(logits, target), (p * (p / q).log()).sum(1))
    assert divergence(target, target).abs().max() < 1e-15
    sure = divergence(torch.tensor([[200.0, -200.0]]), torch.tensor([[-200.0, 200.0]]))
    assert torch.isfinite(sure).all() and float(sure) == pytest.approx(400)


@pytest.mark.parametrize("beta", [1.0, 6.0])
def test_the_loss_of_trades_and_its_gradient_through_both_predictions(beta: float) -> None:
    network, clean, labels = problem()
    adversarial = (clean + 0.05 * torch.randn_like(clean)).clamp(0, 1)
    spec = TrainingSpec(objective="trades", trades_beta=beta)
    loss = training_loss(network, clean, adversarial, labels, spec)
    p, q = network(clean).softmax(1), network(adversarial).softmax(1)
    expected = -p[torch.arange(6), labels].log().mean() + beta * (p * (p.log() - q.log())).sum(1).mean()
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
    for mine, theirs in zip(gradients, torch.autograd.grad(expected, list(network.parameters())), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_without_trades_the_loss_is_cross_entropy_on_adversarial_images_alone() -> None:
    network, clean, labels = problem()
    loss = training_loss(network, torch.full_like(clean, torch.nan), clean, labels, TrainingSpec())
    torch.testing.assert_close(loss, functional.cross_entropy(network(clean), labels))


def test_inner_images_of_trades_maximise_the_divergence() -> None:
    network, clean, labels = problem()
    inner = InnerAttack(kind="pgd", steps=10)
    found = {
        objective: inner_images(network, clean, labels, inner, generator(1), objective)
        for objective in ("ce", "trades")
    }
    reached = {name: divergence(network(each), network(clean)) for name, each in found.items()}
    random = [(clean + (2 * torch.rand_like(clean) - 1) * EPSILON).clamp(0, 1) for _ in range(20)]
    best_random = torch.stack([divergence(network(each), network(clean)) for each in random]).amax(0)
    assert (reached["trades"] > best_random).all()
    assert reached["trades"].mean() > reached["ce"].mean()
    assert (found["trades"] - clean).abs().max() <= EPSILON + 1e-7
    # The labels play no part in it.
    other = inner_images(network, clean, labels.flip(0), inner, generator(1), "trades")
    assert torch.equal(other, found["trades"])


def test_a_step_of_trades_is_plain_sgd_on_its_loss() -> None:
    spec = settings(objective="trades", inner={"kind": "pgd", "steps": 2})
    mine, reference = subject("weights"), subject("weights")
    batch, labels = images(12)
    floats = batch.float() / 255
    loss = Run(mine, spec, 0, CPU).step(floats, labels, 0.1, generator(3))
    network = reference.network.train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    adversarial = floats + (2 * torch.rand(floats.shape, generator=generator(3)) - 1) * EPSILON
    adversarial = adversarial.clamp(0, 1)
    with torch.no_grad():
        target = network(floats).softmax(1)
    for _ in range(2):
        adversarial = adversarial.detach().requires_grad_(True)
        functional.kl_div(network(adversarial).log_softmax(1), target, reduction="sum").backward()
        assert adversarial.grad is not None
        stepped = adversarial.detach() + 2 / 255 * adversarial.grad.sign()
        adversarial = (floats + (stepped - floats).clamp(-EPSILON, EPSILON)).clamp(0, 1)
    optimiser.zero_grad()
    clean = network(floats)
    expected = functional.cross_entropy(clean, labels) + 6.0 * functional.kl_div(
        network(adversarial).log_softmax(1), clean.softmax(1), reduction="batchmean"
    )
    expected.backward()
    optimiser.step()
    torch.testing.assert_close(loss, expected.detach())
    assert isinstance(mine, Weights)
    for name, value in network.named_parameters():
        torch.testing.assert_close(mine.variables[name].detach(), value.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["none", "fgsm"])
def test_trades_needs_a_start_away_from_the_clean_images(kind: str) -> None:
    with pytest.raises(ValueError, match=f"{kind} starts at them"):
        TrainingSpec(objective="trades", inner=InnerAttack(kind=kind))
