from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from rstbench.networks import ModelSpec, build
from rstbench.networks.init import initialise
from rstbench.spec.models import PATTERNS
from rstbench.tickets.mask import expand, kept_units, maskable
from rstbench.tickets.masked import MaskedWeights, magnitude_masks
from rstbench.training import Outcome, Run, Subject, Weights
from tests.networks.specs import digits
from tests.tickets.tickets import ticket
from tests.training.problem import CPU, Killed, Memory, Notes, data, same, settings

MODEL = digits("preact_resnet10", width=0.0625, classes=3, bn_affine=True, classifier_bias=True)
SPEC = settings(momentum=0.9, weight_decay=5e-3, lr=0.2)


class Multiplied(Weights):
    """A whole network whose weights are multiplied by a mask before every step: what `MaskedWeights` must equal."""

    def __init__(self, network: nn.Module, masks: Mapping[str, Tensor]) -> None:
        super().__init__(network)
        self._masks = masks

    @torch.no_grad()
    def refresh(self) -> None:
        for name, weight in maskable(self.network).items():
            weight.mul_(expand(self._masks[name], weight))


def drawn(model: ModelSpec = MODEL) -> nn.Module:
    network = build(model)
    initialise(network, "kaiming_normal", 4)
    return network


def trained(subject: Subject, saved: bytes | None = None) -> Outcome:
    return Run(subject, SPEC, 3, CPU).train(data(), Memory(saved), Notes())


@pytest.mark.parametrize("pattern", PATTERNS)
def test_kept_weights_are_those_of_a_network_multiplied_by_its_mask_at_every_step(pattern: str) -> None:
    masks = ticket(MODEL, ratio=0.3, pattern=pattern).masks
    outcome, expected = trained(MaskedWeights(drawn(), masks)), trained(Multiplied(drawn(), masks))
    for name, mask in masks.items():
        whole = expand(mask, outcome.last[name]).expand_as(outcome.last[name])
        assert not outcome.last[name][~whole].any() and not outcome.best[name][~whole].any(), name
        assert outcome.last[name][whole].any()
    assert same(outcome, expected)
    assert not torch.equal(outcome.last["stem.weight"], drawn().state_dict()["stem.weight"])


def test_neither_momentum_nor_weight_decay_reaches_what_is_dropped() -> None:
    masks = ticket(MODEL, ratio=0.3).masks
    network = drawn()
    subject = MaskedWeights(network, masks)
    assert subject.variables.keys() == dict(network.named_parameters()).keys()
    run = Run(subject, SPEC, 0, CPU)
    for step in range(3):
        images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(step))
        run.step(images, torch.arange(6) % 3, 0.2, torch.Generator().manual_seed(step))
        for name, mask in masks.items():
            weight = subject.variables[name]
            dropped = ~expand(mask, weight).expand_as(weight)
            momentum = run.optimiser.state[weight]["momentum_buffer"]
            for value in (weight, weight.grad, momentum):
                assert value is not None and not value[dropped].any() and value[~dropped].any()


def test_parameters_that_no_mask_covers_are_trained() -> None:
    start, outcome = drawn().state_dict(), trained(MaskedWeights(drawn(), ticket(MODEL, ratio=0.3).masks))
    for name in ("bn.weight", "bn.bias", "classifier.bias"):
        assert not torch.equal(outcome.last[name], start[name])


def test_a_killed_run_goes_on_with_the_same_bits() -> None:
    masks = ticket(MODEL, ratio=0.3).masks
    memory = Memory()
    with pytest.raises(Killed):
        Run(MaskedWeights(drawn(), masks), SPEC, 3, CPU).train(data(), memory, Notes(kill_at=5))
    assert same(trained(MaskedWeights(drawn(), masks), memory.state), trained(MaskedWeights(drawn(), masks)))


def test_a_layer_that_is_not_reached_has_no_gradient() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    masks = {"0.weight": torch.eye(2).bool(), "1.weight": torch.eye(2).bool()}
    subject = MaskedWeights(network, masks)
    network[0](torch.ones(1, 2)).sum().backward()
    subject.collect_gradients()
    assert network[1].weight.grad is None
    assert network[0].weight.grad is not None and torch.equal(network[0].weight.grad != 0, masks["0.weight"])


def test_magnitude_masks_keep_the_largest_of_each_layer() -> None:
    network = drawn()
    for ratio in (0.01, 0.2, 1.0):
        masks = magnitude_masks(network, ratio)
        assert list(masks) == list(maskable(network))
        for name, weight in maskable(network).items():
            mask, size = masks[name], weight.detach().abs()
            assert int(mask.sum()) == kept_units(weight.numel(), ratio)
            if 0 < int(mask.sum()) < mask.numel():
                assert size[mask].min() >= size[~mask].max()


def test_of_equal_magnitudes_the_later_stays() -> None:
    layer = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, -0.5, 0.1, 0.5]]))
    assert magnitude_masks(layer, 0.5)["weight"].tolist() == [[False, True, False, True]]
