"""Known answers: every broken defense raises its flag, or the attack reaches what is known to be reachable.

Attack by attack, and checks by hand; what a whole battery says of them is a test of its own.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rstbench.attacks.arc import arc
from rstbench.attacks.bandits import bandits
from rstbench.attacks.draws import PerImage
from rstbench.attacks.found import Found
from rstbench.attacks.margin import margin
from rstbench.attacks.pgd import pgd
from rstbench.defenses.view import CallableView
from rstbench.evaluation.reliability import probe, trace_flags, vanishing_gradients
from tests.attacks.networks import linear
from tests.gauntlet.planted import (
    Detached,
    Detector,
    Masked,
    Noisy,
    Probabilities,
    Quantised,
    Saturated,
)
from tests.gauntlet.problem import CLASSES, COUNT, FALLS, HONEST, INPUTS, LABELS, PIXELS, RIGHT, THREAT


def by_pgd(network: nn.Module) -> Found:
    return pgd(
        CallableView(network), INPUTS, LABELS, threat=THREAT, draws=PerImage(0, range(COUNT)), step_size=0.004, steps=20
    )


def by_bandits(network: nn.Module) -> Found:
    return bandits(
        CallableView(network), INPUTS, LABELS, threat=THREAT, draws=PerImage(0, range(COUNT)), queries=1500,
        fd_eta=0.1, image_lr=0.01, online_lr=100.0, exploration=1.0, tile=None,
    )  # fmt: skip


def by_arc(network: nn.Module) -> Found:
    return arc([network], [1.0], INPUTS, LABELS, threat=THREAT, steps=5, rho=0.05, rivals=4)


def fooled(found: Found) -> Tensor:
    """By the honest network, whatever the planted one says."""
    return HONEST(found.images).argmax(1) != LABELS


def flags(network: nn.Module, inputs: Tensor = INPUTS, deterministic: bool = True) -> tuple[str, ...]:
    return probe(CallableView(network), inputs, LABELS, deterministic=deterministic)


def test_the_problem_is_worth_attacking() -> None:
    assert int(RIGHT.sum()) == COUNT - 4 and 0.3 < float(FALLS[RIGHT].float().mean()) < 0.8


def test_an_honest_network_raises_no_flag_and_falls_as_far_as_it_can() -> None:
    assert flags(HONEST) == () == flags(HONEST, by_pgd(HONEST).images)
    for attack in (by_pgd, by_bandits, by_arc):
        found = attack(HONEST)
        assert found.losses is None or trace_flags(found.losses, RIGHT) == ()
        assert not bool((fooled(found) & ~FALLS).any())
        assert int((fooled(found) != FALLS).sum()) <= (0 if attack is by_arc else 2)


def test_gradients_turned_round() -> None:
    masked = Masked(HONEST)
    found = by_pgd(masked)
    assert "loss_not_rising" in trace_flags(found.losses, RIGHT)
    assert int(fooled(found).sum()) <= 6
    assert int((fooled(by_bandits(masked)) != FALLS).sum()) <= 2


def test_gradients_of_another_network() -> None:
    # No loss need fall: what gives it away is that an attack without gradients finds more.
    other = linear(torch.randn(CLASSES, PIXELS, generator=torch.Generator().manual_seed(9)), torch.zeros(CLASSES))
    masked = Masked(HONEST, other)
    white, black = fooled(by_pgd(masked)), fooled(by_bandits(masked))
    assert int(white.sum()) + 10 < int(black.sum()) and int((black != FALLS).sum()) <= 2


def test_rounded_pixels() -> None:
    quantised = Quantised(HONEST)
    assert "zero_gradients" in flags(quantised)
    standing = quantised(INPUTS).argmax(1) == LABELS
    assert int(standing.sum()) > 20
    assert vanishing_gradients(CallableView(quantised), INPUTS, LABELS) == (1.0, 1.0)
    assert "loss_not_rising" in trace_flags(by_pgd(quantised).losses, standing)


def test_saturated_logits() -> None:
    saturated = Saturated(HONEST)
    assert flags(saturated) == ("zero_gradients",)
    blind, alive = vanishing_gradients(CallableView(saturated), INPUTS, LABELS)
    assert blind > 0.9 and alive == 0.0
    found = by_pgd(saturated)
    assert "loss_not_rising" in trace_flags(found.losses, RIGHT) and int(fooled(found).sum()) < int(FALLS.sum()) - 10
    assert torch.equal(fooled(by_arc(saturated)), FALLS)  # boundaries do not depend on the scale of logits


def test_noise_on_every_query() -> None:
    assert flags(Noisy(HONEST, 0.01)) == ("randomised_output",)
    assert flags(Noisy(HONEST, 0.0001)) == ("randomised_output",)
    assert flags(Noisy(HONEST, 0.01), deterministic=False) == () == flags(Noisy(HONEST, 0.0))


def test_a_detector_that_answers_with_constants() -> None:
    detector = Detector(HONEST)
    assert flags(detector) == ()  # clean images pass
    found = by_pgd(detector)
    assert {"zero_gradients", "constant_output"} <= set(flags(detector, found.images))
    # Every query point of a finite difference looks perturbed, too.
    assert "loss_not_rising" in trace_flags(by_bandits(detector).losses, RIGHT)


def test_probabilities() -> None:
    assert "softmax_output" in flags(Probabilities(HONEST))
    assert "softmax_output" in flags(Probabilities(Saturated(HONEST)))


def test_no_gradient_at_all() -> None:
    detached = Detached(HONEST)
    assert flags(detached) == ("zero_gradients",)
    assert "loss_not_rising" in trace_flags(by_pgd(detached).losses, RIGHT)
    assert torch.equal(by_arc(detached).images, INPUTS)
    assert int((fooled(by_bandits(detached)) != FALLS).sum()) <= 2


@pytest.mark.parametrize("factor", [1.0, 1e4])
def test_margin(factor: float) -> None:
    logits = factor * HONEST(INPUTS)
    assert torch.equal(margin(logits, LABELS) > 0, ~RIGHT)
