"""What must hold of every gradient attack: its budget, the range of pixels, a zero budget, and repetition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rstbench.attacks.draws import PerImage
from rstbench.attacks.threat import Threat
from rstbench.defenses.view import CallableView, View
from rstbench.defenses.views import EnsembleView, ExpectationView, SwitchView
from rstbench.evaluation.judge import check_images
from tests.attacks.gradient_attacks import gradient_attacks
from tests.attacks.networks import images, small_net

QUICK = gradient_attacks(steps=4, cw_steps=6)
MEMBERS = [small_net(seed=seed) for seed in (1, 2, 3)]
CASES, BATCH = 10_240, 256


def at_the_edges(inputs: Tensor, seed: int) -> Tensor:
    """Images of which some have many pixels at 0 and 1 exactly, some all, some none."""
    push = torch.rand(len(inputs), 1, 1, 1, generator=torch.Generator().manual_seed(seed)) * 6
    return ((inputs - 0.5) * push + 0.5).clamp(0, 1)


@pytest.mark.parametrize("name", QUICK)
@settings(max_examples=CASES // BATCH, deadline=None, derandomize=True)
@given(
    epsilon=st.one_of(st.floats(1e-4, 0.1), st.floats(0.0, 3.0)),
    gain=st.sampled_from([1e-20, 1e-3, 1.0, 100.0, 1e6]),
    side=st.integers(2, 6),
    seed=st.integers(0, 10_000),
)
def test_budget_and_range_hold(name: str, epsilon: float, gain: float, side: int, seed: int) -> None:
    norm, attack = QUICK[name]
    epsilon = min(epsilon, 1.0) if norm != "l2" else epsilon
    network = MEMBERS[seed % 3]
    inputs = at_the_edges(images(BATCH, side=side, seed=seed), seed)
    labels = torch.randint(5, (BATCH,), generator=torch.Generator().manual_seed(seed))
    before = inputs.clone()
    found = attack(CallableView(lambda x: gain * network(x)), inputs, labels, epsilon, PerImage(seed, range(BATCH)))
    # What the evaluation itself demands: shape, type, finite, in [0, 1], within epsilon but for rounding.
    check_images(found.images, inputs, None if norm is None else Threat(norm, epsilon))
    assert torch.equal(inputs, before) and found.images.data_ptr() != inputs.data_ptr()
    assert not found.images.requires_grad and found.queries is None
    assert found.losses is None or (found.losses.shape[1] == BATCH and not found.losses.requires_grad)


@pytest.mark.parametrize("name", [name for name, (norm, _) in QUICK.items() if norm is not None])
def test_a_zero_budget_gives_the_clean_image(name: str) -> None:
    inputs = at_the_edges(images(64), 0)
    labels = MEMBERS[0](inputs).argmax(1)
    labels[::5] = (labels[::5] + 1) % 5
    found = QUICK[name][1](CallableView(MEMBERS[0]), inputs, labels, 0.0, PerImage(0, range(64))).images
    assert torch.equal(found, inputs)


@pytest.mark.parametrize("name", [name for name, (norm, _) in QUICK.items() if norm is None])
def test_minimum_norm_attacks_return_the_clean_image_or_one_that_fools(name: str) -> None:
    inputs = images(64)
    labels = MEMBERS[0](inputs).argmax(1)
    found = QUICK[name][1](CallableView(MEMBERS[0]), inputs, labels, 0.03, PerImage(0, range(64))).images
    moved = (found != inputs).flatten(1).any(1)
    assert torch.equal(MEMBERS[0](found).argmax(1) != labels, moved)


def views() -> dict[str, View]:
    weights = (0.5, 0.3, 0.2)
    return {
        "member": CallableView(MEMBERS[0]),
        "eot": ExpectationView(MEMBERS, weights),
        "eot_unit": ExpectationView(MEMBERS, weights, unit_gradients=True),
        "ensemble_logits": EnsembleView(MEMBERS, weights),
        "ensemble_probabilities": EnsembleView(MEMBERS, weights, "probabilities"),
        "switch": SwitchView(MEMBERS, weights, torch.Generator().manual_seed(0)),
    }


@pytest.mark.parametrize("view", views())
@pytest.mark.parametrize("name", QUICK)
def test_composes_with_every_view(name: str, view: str) -> None:
    norm, attack = gradient_attacks(steps=8, cw_steps=40)[name]
    inputs = images(48)
    labels = EnsembleView(MEMBERS, (0.5, 0.3, 0.2)).logits(inputs).argmax(1)
    epsilon = 0.5 if norm == "l2" else 0.06
    with torch.no_grad():  # attacks that need gradients turn them on themselves
        found = attack(views()[view], inputs, labels, epsilon, PerImage(0, range(48)))
        again = attack(views()[view], inputs, labels, epsilon, PerImage(0, range(48)))

    def expected_accuracy(asked: Tensor) -> float:
        right = [w * (m(asked).argmax(1) == labels).double() for m, w in zip(MEMBERS, (0.5, 0.3, 0.2), strict=True)]
        return float(torch.stack(right).sum(0).mean())

    check_images(found.images, inputs, None if norm is None else Threat(norm, epsilon))
    assert torch.equal(found.images, again.images)
    assert (found.losses is None and again.losses is None) or torch.equal(
        found.losses.nan_to_num(),
        again.losses.nan_to_num(),  # type: ignore[union-attr]
    )
    if view == "switch":  # what one draw called a success need not be one in expectation
        return
    if name in ("cw_l2", "cw_inf_penalty"):  # the published constant is too small for these networks' small logits
        assert expected_accuracy(found.images) <= expected_accuracy(inputs)
    else:
        assert expected_accuracy(found.images) < expected_accuracy(inputs)
