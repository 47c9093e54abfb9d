from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rstbench.attacks.arc import arc
from rstbench.attacks.draws import PerImage
from rstbench.attacks.hinge import hinge
from rstbench.attacks.threat import Threat, distances
from tests.attacks.networks import images, linear, small_net
from tests.gauntlet.planted import LinearEnsemble, random_ensemble

EPSILON = {"linf": 0.2, "l2": 0.3}


def attacked(ensemble: LinearEnsemble, threat: Threat, restarts: int) -> float:
    found = hinge(
        ensemble.members, ensemble.probabilities, ensemble.image, ensemble.label, threat=threat,
        draws=PerImage(0, [0]), steps=50, restarts=restarts,
    )  # fmt: skip
    return ensemble.expected_accuracy(found.images)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("members", "pixels"), [(2, 4), (3, 4), (4, 6)])
def test_linear_members_of_two_classes_fall_to_their_optimum(norm: str, members: int, pixels: int) -> None:
    threat, cases = Threat(norm, EPSILON[norm]), 0
    for seed in range(12):
        ensemble = random_ensemble(seed, members=members, classes=2, pixels=pixels)
        optimum = ensemble.optimum(threat)
        if optimum is not None:
            cases += 1
            assert attacked(ensemble, threat, restarts=20) == pytest.approx(optimum, abs=1e-6)
    assert cases >= 8


def test_with_more_classes_most_ensembles_fall_to_their_optimum_and_none_below_it() -> None:
    # The nearest rival is another one on the way: the sum is no longer concave, and a start can end beside the optimum.
    threat, reached = Threat("linf", 0.2), []
    for seed in range(12):
        ensemble = random_ensemble(seed, members=3, classes=3, pixels=4)
        optimum = ensemble.optimum(threat)
        if optimum is not None:
            accuracy = attacked(ensemble, threat, restarts=40)
            assert accuracy >= optimum - 1e-6
            reached.append(accuracy <= optimum + 1e-6)
    assert len(reached) >= 8 and sum(reached) >= len(reached) - 1


def run(threat: Threat, inputs: Tensor, labels: Tensor, numbers: list[int], **settings: int) -> Tensor:
    members = [small_net(seed=seed) for seed in (1, 2, 3)]
    steps, restarts = settings.get("steps", 8), settings.get("restarts", 5)
    draws = PerImage(3, numbers)
    return hinge(
        members, (0.5, 0.3, 0.2), inputs, labels, threat=threat, draws=draws, steps=steps, restarts=restarts
    ).images


@pytest.mark.parametrize("threat", [Threat("linf", 0.05), Threat("l2", 0.4), Threat("linf", 0.0)])
def test_images_keep_budget_and_range(threat: Threat) -> None:
    inputs, labels = images(24).round(decimals=1), torch.arange(24) % 5
    found = run(threat, inputs, labels, list(range(24)))
    linf, l2 = distances(found, inputs)
    assert float((linf if threat.norm == "linf" else l2).max()) <= threat.epsilon + 1e-6
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    if threat.epsilon == 0:
        assert torch.equal(found, inputs)


@given(seed=st.integers(0, 2**20), epsilon=st.floats(0.0, 0.6), norm=st.sampled_from(["linf", "l2"]))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_budget_and_range_hold(seed: int, epsilon: float, norm: str) -> None:
    generator = torch.Generator().manual_seed(seed)  # 20 batches of 512: more than 10 000 cases
    inputs = (torch.rand(512, 1, 2, 3, generator=generator) * 1.6 - 0.3).clamp(0, 1)
    labels = torch.randint(0, 3, (512,), generator=generator)
    members = [linear(torch.randn(3, 6, generator=generator), torch.zeros(3)) for _ in range(2)]
    threat = Threat(norm, epsilon)
    found = hinge(
        members, (0.6, 0.4), inputs, labels, threat=threat, draws=PerImage(seed, range(512)), steps=3, restarts=3
    ).images
    linf, l2 = distances(found, inputs)
    assert float((linf if norm == "linf" else l2).max()) <= epsilon + 1e-6
    assert float(found.min()) >= 0 and float(found.max()) <= 1


class Coarse:
    """A member that errs too soon where its answers come with gradients: it takes a little off its greatest logit."""

    def __init__(self, seed: int) -> None:
        self.network, self.asked = small_net(seed=seed), 0

    def __call__(self, inputs: Tensor) -> Tensor:
        logits = self.network(inputs)
        if not inputs.requires_grad:
            self.asked += len(inputs)
            return logits
        return logits - 0.1 * torch.nn.functional.one_hot(logits.argmax(1), 5)


def test_exact_answers_say_what_is_kept() -> None:
    inputs, weights = images(32), (0.5, 0.3, 0.2)
    exact = [small_net(seed=seed) for seed in (1, 2, 3)]
    labels = torch.stack([member(inputs) for member in exact]).sum(0).argmax(1)

    def expected(shown: Tensor) -> Tensor:
        return torch.stack([p * (m(shown).argmax(1) == labels) for m, p in zip(exact, weights, strict=True)]).sum(0)

    def attacked(confirm: bool) -> tuple[Tensor, int]:
        members = [Coarse(seed) for seed in (1, 2, 3)]
        found = hinge(
            members, weights, inputs, labels, threat=Threat("linf", 0.1), draws=PerImage(3, range(32)),
            steps=8, restarts=5, confirm=confirm,
        )  # fmt: skip
        return expected(found.images), members[0].asked

    believing, nobody = attacked(confirm=False)
    confirming, asked = attacked(confirm=True)
    assert nobody == 0 < asked < 32 * 5 * 9  # only where it seems to err
    assert (confirming <= expected(inputs) + 1e-6).all()
    # Otherwise images are given up just short of the boundary.
    assert confirming.mean() < believing.mean() - 0.05


def test_where_answers_are_the_same_confirming_changes_nothing() -> None:
    inputs, labels, members = images(16), torch.arange(16) % 5, [small_net(seed=seed) for seed in (1, 2)]
    found = [
        hinge(
            members, (0.5, 0.5), inputs, labels, threat=Threat("linf", 0.05), draws=PerImage(3, range(16)),
            steps=4, restarts=3, confirm=confirm,
        ).images
        for confirm in (False, True)
    ]  # fmt: skip
    assert float((found[0] - found[1]).flatten(1).abs().amax(1).gt(1e-4).float().mean()) <= 1 / 16


def test_an_image_is_attacked_alike_alone_and_in_company() -> None:
    inputs, labels = images(12), torch.arange(12) % 5
    whole = run(Threat("linf", 0.05), inputs, labels, list(range(12)))
    again = run(Threat("linf", 0.05), inputs, labels, list(range(12)))
    assert torch.equal(whole, again)
    parts = [
        run(Threat("linf", 0.05), inputs[a : a + 3], labels[a : a + 3], list(range(a, a + 3))) for a in (0, 3, 6, 9)
    ]
    differ = (torch.cat(parts) - whole).flatten(1).abs().amax(1) > 1e-4
    assert int(differ.sum()) <= 1  # another batch rounds otherwise, and a sign may turn


def test_more_restarts_leave_no_more_standing() -> None:
    inputs, labels = images(32), torch.arange(32) % 5
    members = [small_net(seed=seed) for seed in (1, 2, 3)]
    labels = torch.stack([m(inputs) for m in members]).sum(0).argmax(1)

    def accuracy(found: Tensor) -> float:
        right = [p * (m(found).argmax(1) == labels) for m, p in zip(members, (0.5, 0.3, 0.2), strict=True)]
        return float(torch.stack(right).sum(0).mean())

    threat = Threat("linf", 0.02)
    found = [accuracy(run(threat, inputs, labels, list(range(32)), restarts=n)) for n in (1, 4, 12)]
    assert found[0] >= found[1] - 1e-6 >= found[2] - 2e-6
    assert found[2] < accuracy(inputs)
    arced = arc(members, (0.5, 0.3, 0.2), inputs, labels, threat=threat, steps=20, rho=0.05, rivals=4).images
    assert found[2] <= accuracy(arced) + 1 / 32


def test_a_member_that_is_never_drawn_counts_for_nothing() -> None:
    inputs, labels = images(4), torch.arange(4) % 5

    def refuses(images: Tensor) -> Tensor:
        raise AssertionError("asked")

    hinge(
        [small_net(), refuses], (1.0, 0.0), inputs, labels, threat=Threat("linf", 0.05),
        draws=PerImage(0, range(4)), steps=3, restarts=2,
    )  # fmt: skip
