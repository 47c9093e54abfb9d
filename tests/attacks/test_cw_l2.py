from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rstbench.attacks.cw_l2 import cw_l2
from rstbench.attacks.threat import distances
from rstbench.compat import import_advertorch
from rstbench.defenses.view import CallableView
from tests.attacks.digits import trained
from tests.attacks.linear_models import linear_model
from tests.attacks.networks import images, small_net


def attack(network: nn.Module, inputs: Tensor, labels: Tensor, classes: int, **options: object) -> Tensor:
    return cw_l2(CallableView(network), inputs, labels, classes=classes, **options).images  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [2, 6])
def test_distance_to_the_linear_boundary(classes: int) -> None:
    # The oracle: the distance of the nearest hyperplane. With a search for the constant within 1 % of it for half of
    # the images, and within 2 % and a step that overshoots, 0.005, for all but those that head for another rival.
    model = linear_model(classes, 100, scale=3.0)
    found = attack(
        model.network, model.inputs, model.labels, classes, initial_const=0.1, iterations=200, binary_search_steps=5,
        abort_early=False,
    )  # fmt: skip
    _, l2 = distances(found, model.inputs)
    reach = model.distance("l2").double()
    assert bool((model.network(found).argmax(1) != model.labels).all())
    assert bool((l2 > 0.999 * reach).all()) and float((l2 / reach).median()) < 1.01
    assert float((l2 < 1.02 * reach + 0.005).float().mean()) >= (1.0 if classes == 2 else 0.9)


@pytest.mark.parametrize("constant", [0.1, 0.02])
def test_fooled_exactly_where_the_constant_allows(constant: float) -> None:
    # constant * (gap - g d)+ + |d|^2 is least at the boundary if constant * |g|^2 / 2 exceeds the gap, and short of it
    # at d = constant * g / 2 if not: the second oracle, of the published setting with its one search step. Between 0.75
    # and 1 Adam, on its way there, still overshoots far enough.
    model = linear_model(2, 300, scale=1.0)
    gap, slope = -model.margins(model.inputs)[:, 0], model.dual_norm("l2")[:, 0]
    reachable = constant * slope**2 / 2 / gap
    found = attack(model.network, model.inputs, model.labels, 2, initial_const=constant, iterations=100)
    fooled = model.network(found).argmax(1) != model.labels
    assert bool(fooled[reachable > 1.1].all()) and not bool(fooled[reachable < 0.75].any())
    assert torch.equal(found[~fooled], model.inputs[~fooled])
    if constant == 0.02:
        assert 30 < int(fooled.sum()) < 270
    _, l2 = distances(found, model.inputs)
    assert float((l2 / model.distance("l2"))[reachable > 1.1].median()) < 1.05


@pytest.mark.parametrize("options", [{}, {"abort_early": False}, {"confidence": 2.0, "binary_search_steps": 3}])
def test_is_advertorchs_attack(options: dict[str, object]) -> None:
    import_advertorch()
    from advertorch.attacks import CarliniWagnerL2Attack

    network, inputs = small_net(), images(24)
    labels = network(inputs).argmax(1)
    theirs = CarliniWagnerL2Attack(
        network, 5, learning_rate=0.01, max_iterations=100, initial_const=0.1,
        **({"binary_search_steps": 1, "confidence": 0.0} | options),
    ).perturb(inputs, labels)  # fmt: skip
    ours = attack(network, inputs, labels, 5, **options)
    assert bool((network(ours).argmax(1) != labels).any())
    assert float((ours - theirs).abs().max()) < 1e-5


def test_confidence_pushes_beyond_the_boundary() -> None:
    model = linear_model(2, 50, scale=3.0)
    found = attack(model.network, model.inputs, model.labels, 2, initial_const=10.0, confidence=1.0)
    fooled = model.network(found).argmax(1) != model.labels
    assert bool(fooled.all()) and float(model.margins(found).min()) >= 1.0 - 1e-4


def test_without_abort_an_image_does_not_depend_on_its_neighbours() -> None:
    network, inputs = small_net(), images(12)
    labels = network(inputs).argmax(1)
    options = {"abort_early": False, "iterations": 60, "initial_const": 10.0}
    together = attack(network, inputs, labels, 5, **options)
    alone = [attack(network, inputs[i : i + 1], labels[i : i + 1], 5, **options) for i in range(12)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)


def test_without_abort_nothing_is_lost() -> None:
    network, inputs, labels = trained()
    inputs, labels = inputs[:100], labels[:100]
    early, late = (attack(network, inputs, labels, 10, abort_early=abort) for abort in (True, False))
    fooled = (network(early).argmax(1) != labels) & (network(inputs).argmax(1) == labels)
    assert int(fooled.sum()) > 5 and bool((network(late).argmax(1) != labels)[fooled].all())
    near, far = distances(late, inputs)[1][fooled], distances(early, inputs)[1][fooled]
    assert bool((near <= far + 1e-5).all())


def test_abort_ends_the_search_for_the_whole_batch() -> None:
    # Logits so large that the batch's summed loss exceeds AdverTorch's starting value, 1e6: not one step is taken.
    # Smaller batches stay below it, and are attacked.
    model = linear_model(2, 64, scale=3.0)
    gain = 1.2e7 / float(-model.margins(model.inputs).sum())
    sharp = lambda x: gain * model.network(x)  # noqa: E731
    together = attack(sharp, model.inputs, model.labels, 2)  # type: ignore[arg-type]
    assert torch.equal(together, model.inputs)
    parts = [attack(sharp, model.inputs[i : i + 8], model.labels[i : i + 8], 2) for i in range(0, 64, 8)]  # type: ignore[arg-type]
    assert bool((model.network(torch.cat(parts)).argmax(1) != model.labels).any())
    assert not torch.equal(attack(sharp, model.inputs, model.labels, 2, abort_early=False), model.inputs)  # type: ignore[arg-type]


@pytest.mark.parametrize("shift", [0.0, -3e4, 3e4])
def test_a_constant_added_to_all_logits_changes_nothing(shift: float) -> None:
    # AdverTorch itself takes every rival's logit below -10000 for -10000, whose gradient is zero.
    model = linear_model(3, 40, scale=3.0)
    plain = attack(model.network, model.inputs, model.labels, 3)
    shifted = attack(lambda x: model.network(x) + shift, model.inputs, model.labels, 3)  # type: ignore[arg-type]
    assert bool((model.network(plain).argmax(1) != model.labels).all())
    assert float((plain - shifted).abs().max()) < 0.02  # fp32 has three digits after the point left at 30000


def test_parameters_collect_no_gradients_and_inputs_stay() -> None:
    network, inputs = small_net().requires_grad_(True), images(6)
    before, labels = inputs.clone(), network(inputs).argmax(1)
    with torch.no_grad():
        found = attack(network, inputs, labels, 5, iterations=20)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(inputs, before) and not found.requires_grad


def test_layouts_and_half_precision() -> None:
    network, inputs = small_net(), images(6)
    labels = network(inputs).argmax(1)
    plain = attack(network, inputs, labels, 5, iterations=20)
    last = attack(network, inputs.contiguous(memory_format=torch.channels_last), labels, 5, iterations=20)
    assert torch.allclose(last, plain, atol=1e-4)

    def half(x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return network(x)  # type: ignore[no-any-return]

    found = attack(half, inputs, labels, 5, iterations=100, initial_const=10.0)  # type: ignore[arg-type]
    assert found.dtype == torch.float32 and bool((half(found).argmax(1) != labels).all())


def test_a_defense_without_gradients_leaves_the_clean_images() -> None:
    inputs = images(4)
    constant = torch.tensor([[1.0, 0.0]])
    assert torch.equal(attack(lambda x: constant.expand(len(x), 2), inputs, torch.zeros(4).long(), 2), inputs)  # type: ignore[arg-type]
    rounded = lambda x: torch.stack([x[:, 0, 0, 0].round() + 1, x[:, 0, 0, 1] * 0], 1)  # noqa: E731
    assert torch.equal(attack(rounded, inputs, torch.zeros(4).long(), 2), inputs)  # type: ignore[arg-type]
