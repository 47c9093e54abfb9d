from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rstbench.attacks.pgd import cross_entropy
from rstbench.defenses.view import CallableView, Criterion, Step
from rstbench.defenses.views import EnsembleView, ExpectationView, SwitchView
from rstbench.evaluation.reliability import probe, trace_flags, vanishing_gradients
from rstbench.spec.flags import RELIABILITY
from tests.attacks.networks import images, linear, small_net
from tests.gauntlet.planted import Detached, Masked, Noisy, Probabilities, Quantised, Saturated

NETWORK = linear(torch.randn(5, 192, generator=torch.Generator().manual_seed(1)), torch.zeros(5))
INPUTS = images(100)
LABELS = NETWORK(INPUTS).argmax(1)
NAN = float("nan")


def flags(network: nn.Module, deterministic: bool = True, labels: Tensor = LABELS) -> tuple[str, ...]:
    return probe(CallableView(network), INPUTS, labels, deterministic=deterministic)


def test_names_are_those_of_the_table_in_its_order() -> None:
    worst = nn.Sequential(Noisy(NETWORK, 1.0), nn.Flatten())
    found = probe(CallableView(lambda x: Detached(worst)(x).softmax(1)), INPUTS, LABELS, deterministic=True)
    assert found == ("randomised_output", "zero_gradients", "softmax_output")
    assert list(found) == [name for name in RELIABILITY if name in found]


def test_honest_models_raise_nothing() -> None:
    assert flags(NETWORK) == () == flags(small_net())
    members = [small_net(seed=seed) for seed in (1, 2)]
    for view in (ExpectationView(members, (0.5, 0.5)), EnsembleView(members, (0.5, 0.5), "probabilities")):
        assert probe(view, INPUTS, LABELS, deterministic=True) == ()
    log_probabilities = CallableView(lambda x: NETWORK(x).log_softmax(1))
    assert probe(log_probabilities, INPUTS, LABELS, deterministic=True) == ()


def test_a_switch_is_random_where_the_attack_does_not_know_it() -> None:
    members = [small_net(seed=seed) for seed in (1, 2)]
    view = SwitchView(members, (0.5, 0.5), torch.Generator().manual_seed(0))
    assert "randomised_output" in probe(view, INPUTS, LABELS, deterministic=True)
    assert "randomised_output" not in probe(view, INPUTS, LABELS, deterministic=False)
    rare = SwitchView(members, (0.99, 0.01), torch.Generator().manual_seed(0))
    assert "randomised_output" in probe(rare, INPUTS, LABELS, deterministic=True)


@pytest.mark.parametrize(("noise", "flagged"), [(0.0, False), (1e-7, False), (1e-4, True), (1.0, True)])
def test_how_much_noise_is_random(noise: float, flagged: bool) -> None:
    for factor in (1e-3, 1.0, 1e3):  # whatever the scale of the logits
        assert ("randomised_output" in flags(Saturated(Noisy(NETWORK, noise), factor))) == flagged


def test_probabilities_are_told_from_logits() -> None:
    assert flags(Probabilities(NETWORK)) == ("softmax_output",)
    assert flags(nn.Sequential(Probabilities(NETWORK), nn.Hardtanh(0, 0.999))) == ()  # rows no longer sum to one
    assert "softmax_output" not in flags(nn.Sequential(NETWORK, nn.ReLU()))


@pytest.mark.parametrize(("rows", "flagged"), [(0, False), (1, False), (2, True), (100, True)])
def test_two_vanishing_gradients_in_a_hundred_are_a_flag(rows: int, flagged: bool) -> None:
    class Partly(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([NETWORK(x[:rows].detach()), NETWORK(x[rows:])])

    assert flags(Partly()) == (("zero_gradients",) if flagged else ())
    assert vanishing_gradients(CallableView(Partly()), INPUTS, LABELS) == (rows / 100, rows / 100)


def test_only_images_still_classified_right_count() -> None:
    wrong = LABELS.clone()
    wrong[:50] = (wrong[:50] + 1) % 5

    class Partly(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([NETWORK(x[:50].detach()), NETWORK(x[50:])])

    assert flags(Partly(), labels=wrong) == ()
    quantised = Quantised(NETWORK)
    nothing_right = (quantised(INPUTS).argmax(1) + 1) % 5
    assert vanishing_gradients(CallableView(quantised), INPUTS, nothing_right) == (0.0, 0.0)


def test_saturation_is_told_from_missing_gradients() -> None:
    blind, alive = vanishing_gradients(CallableView(Saturated(NETWORK)), INPUTS, LABELS)
    assert blind > 0.9 and alive == 0.0 and flags(Saturated(NETWORK)) == ("zero_gradients",)
    assert vanishing_gradients(CallableView(Detached(NETWORK)), INPUTS, LABELS) == (1.0, 1.0)


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(NETWORK(x).numpy())  # refuses an input that asks for its gradient


@pytest.mark.parametrize("network", [Detached(NETWORK), InPlace()])
def test_a_model_without_gradients_is_a_flag_and_no_traceback(network: nn.Module) -> None:
    assert flags(network) == ("zero_gradients",)


def test_running_out_of_memory_is_no_flag() -> None:
    class Short(CallableView):
        def step(self, images: Tensor, labels: Tensor, criterion: Criterion) -> Step:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        probe(Short(NETWORK), INPUTS, LABELS, deterministic=True)


def test_constant_output() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([3.0, 1.0, 0.0, 0.0, 0.0]).expand(len(x), 5) + 0 * x.flatten(1)[:, :1]

    labels = torch.zeros(100, dtype=torch.int64)
    assert flags(Constant(), labels=labels) == ("zero_gradients", "constant_output")
    view = CallableView(NETWORK)
    same = INPUTS[:1].expand(8, -1, -1, -1)
    assert probe(view, same, LABELS[:1].expand(8), deterministic=True) == ()
    assert probe(view, INPUTS[:1], LABELS[:1], deterministic=True) == ()
    assert probe(view, INPUTS[:0], LABELS[:0], deterministic=True) == ()


def test_the_probe_asks_little_and_changes_nothing() -> None:
    sizes: list[int] = []

    def counted(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return NETWORK(x)

    before = INPUTS.clone()
    probe(CallableView(counted), INPUTS, LABELS, deterministic=True)
    assert sizes == [100] * 4 and torch.equal(INPUTS, before) and not INPUTS.requires_grad


def traced(*columns: list[float]) -> Tensor:
    return torch.tensor(columns).T


@pytest.mark.parametrize(
    ("losses", "standing", "flagged"),
    [
        (traced([1.0, 2.0, 3.0]), [True], False),
        (traced([3.0, 2.0, 1.0]), [True], True),
        (traced([2.0, 2.0, 2.0]), [True], True),  # not above
        (traced([1.0, 2.0, NAN], [1.0, NAN, NAN]), [True, True], False),  # one entry says nothing
        (traced([NAN, 2.0, 3.0], [NAN, 3.0, 2.0]), [True, True], True),  # half of them
        (traced([NAN, 2.0, 3.0], [NAN, 3.0, 2.0], [1.0, 5.0, 4.0]), [True] * 3, False),
        (traced([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]), [True, False], False),  # fooled before the attack
        (traced([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]), [False, True], True),
        (traced([3.0, 2.0, 1.0]), [False], False),
        (traced([NAN, NAN, NAN]), [True], False),
        (traced([1.0, torch.inf, 0.5]), [True], True),
        (traced([1.0]), [True], False),
        (torch.zeros(0, 4), [True] * 4, False),
        (torch.zeros(5, 0), [], False),
    ],
)
def test_losses_that_do_not_rise(losses: Tensor, standing: list[bool], flagged: bool) -> None:
    mask = torch.tensor(standing, dtype=torch.bool)
    assert trace_flags(losses, mask) == (("loss_not_rising",) if flagged else ())


def test_a_masked_gradient_alone_is_not_zero() -> None:
    assert flags(Masked(NETWORK)) == ()
    step = CallableView(Masked(NETWORK)).step(INPUTS, LABELS, cross_entropy)
    honest = CallableView(NETWORK).step(INPUTS, LABELS, cross_entropy)
    assert torch.allclose(step.gradient, -honest.gradient) and torch.equal(step.loss, honest.loss)
