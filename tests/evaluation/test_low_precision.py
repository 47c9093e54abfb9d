from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rstbench.attacks.pgd import cross_entropy
from rstbench.defenses.view import CallableView
from rstbench.defenses.views import ExpectationView
from rstbench.evaluation.craft import Crafted, Target, craft
from rstbench.evaluation.judge import predict
from rstbench.evaluation.low_precision import COMPARED, Confirmed, against_fp32, confirmed
from rstbench.spec.attack_fields import AttackEngine
from rstbench.spec.attacks import CraftedSpec
from rstbench.spec.battery import named_attack
from rstbench.spec.budgets import written_out
from rstbench.spec.flags import RELIABILITY
from tests.attacks.networks import images, small_net

CPU = torch.device("cpu")
CLEAN = images(20)
NETWORK = small_net()
LABELS = NETWORK(CLEAN).argmax(1)
LOW = AttackEngine(precision="bf16")


def silent(done: float, total: float, note: str) -> None:
    pass


def attack(name: str = "pgd20", engine: AttackEngine = LOW, **changes: Any) -> CraftedSpec:
    spec = named_attack(name, **{"batch": 8, "engine": engine, **changes})
    assert not isinstance(spec, list)
    return written_out(spec, cifar=False)  # type: ignore[arg-type, return-value]


def crafted(network: nn.Module, spec: CraftedSpec, inputs: Tensor = CLEAN, labels: Tensor = LABELS) -> Crafted:
    return craft(Target([network], 5, CPU), inputs, labels, range(len(inputs)), spec, 3, silent)


class Wrong:
    """A view whose gradients come with answers that are wrong about every second image."""

    def __init__(self, network: Callable[[Tensor], Tensor]) -> None:
        self.network, self.asked = network, 0

    def __call__(self, inputs: Tensor) -> Tensor:
        logits = self.network(inputs)
        if not inputs.requires_grad:
            self.asked += len(inputs)
            return logits
        return torch.where((torch.arange(len(inputs)) % 2 == 0)[:, None], logits.roll(1, 1), logits)


def test_an_image_falls_only_where_fp32_agrees() -> None:
    member = Wrong(NETWORK)
    plain = CallableView(member)
    view = confirmed(plain, [member], [1.0], attack(stop="source_fooled"))
    assert isinstance(view, Confirmed)
    labels = LABELS.clone()
    labels[:4] = (labels[:4] + 1) % 5
    low = plain.step(CLEAN, labels, cross_entropy)
    assert not low.standing[4::2].any()
    found = view.step(CLEAN, labels, cross_entropy)
    # One that low precision takes for standing goes on, which wastes a step and loses nothing.
    assert torch.equal(found.standing, low.standing | (torch.arange(20) >= 4))
    assert member.asked == int((~low.standing).sum())  # only those
    assert torch.equal(found.gradient, low.gradient) and torch.equal(found.loss, low.loss)


def test_under_an_expectation_any_member_keeps_an_image_standing() -> None:
    first, second = Wrong(NETWORK), Wrong(small_net(seed=5))
    weights = [0.2, 0.8]
    view = confirmed(
        ExpectationView([first, second], weights), [first, second], weights, attack(view="eot", stop="source_fooled")
    )
    right = (first(CLEAN).argmax(1) == LABELS) | (second(CLEAN).argmax(1) == LABELS)
    assert bool(right.all()) and not bool((second(CLEAN).argmax(1) == LABELS).all())
    assert torch.equal(view.step(CLEAN, LABELS, cross_entropy).standing, right)


@pytest.mark.parametrize(
    ("name", "changes", "wrapped"),
    [
        ("pgd20", {"stop": "source_fooled"}, True),
        ("pgd20", {"stop": "never"}, False),
        ("pgd20", {"stop": "source_fooled", "engine": AttackEngine()}, False),
        ("pgd20", {"view": "switch"}, False),
        ("apgd_ce", {}, True),
        ("fgsm", {}, False),
        ("arc", {}, False),
    ],
)
def test_where_it_is_asked(name: str, changes: dict[str, Any], wrapped: bool) -> None:
    view = CallableView(NETWORK)
    assert isinstance(confirmed(view, [NETWORK], [1.0], attack(name, **changes)), Confirmed) == wrapped


def test_accuracies_are_compared_on_the_first_images() -> None:
    count = COMPARED + 10
    inputs = images(count, seed=8)
    members = [NETWORK, small_net(seed=5), small_net(seed=6)]
    labels = members[0](inputs).argmax(1)
    weights = [0.5, 0.25, 0.25]
    asked: list[int] = []

    def exactly(first: int) -> Tensor:
        asked.append(first)
        return 1 - inputs[:first]

    found = against_fp32(members, weights, inputs, labels, 16, exactly)

    def accuracy(shown: Tensor) -> float:
        right = [
            w * (predict(m, shown, 16, silent)[0] == labels[:COMPARED]).double().mean()
            for m, w in zip(members, weights, strict=True)
        ]
        return float(torch.stack(right).sum())

    assert asked == [COMPARED] and found.images == COMPARED
    assert found.low == pytest.approx(accuracy(inputs[:COMPARED])) and found.exact == pytest.approx(
        accuracy(1 - inputs[:COMPARED])
    )
    assert found.weaker == (found.low > found.exact) and found.low > found.exact
    assert not against_fp32(members, weights, inputs, labels, 16, lambda first: inputs[:first]).weaker


class Coarse(nn.Module):
    """In low precision its gradients lead nowhere: they are those of another network."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.other = small_net(), small_net(seed=9)

    def forward(self, inputs: Tensor) -> Tensor:
        low = torch.is_autocast_enabled("cpu")
        answers: Tensor = (self.other if low and inputs.requires_grad else self.network)(inputs)
        return answers


def test_a_weaker_attack_is_flagged() -> None:
    network = Coarse()
    found = crafted(network, attack(epsilon="24/255"))
    assert found.against_fp32 is not None and found.against_fp32.images == 20
    assert found.against_fp32.low > found.against_fp32.exact
    assert "low_precision_weaker" in found.flags and "low_precision_weaker" in RELIABILITY
    exact = crafted(network, attack(epsilon="24/255", engine=AttackEngine()))
    predictions, _ = predict(network, exact.images, 8, silent)
    assert found.against_fp32.exact == pytest.approx(float((predictions == LABELS).double().mean()))
    assert exact.against_fp32 is None and "low_precision_weaker" not in exact.flags


def test_an_equal_attack_is_not_flagged() -> None:
    found = crafted(NETWORK, attack(epsilon="24/255"))
    assert found.against_fp32 is not None and found.against_fp32.low == found.against_fp32.exact
    assert "low_precision_weaker" not in found.flags


def test_what_is_compared_is_neither_counted_nor_asked_of_black_boxes() -> None:
    low, exact = crafted(NETWORK, attack()), crafted(NETWORK, attack(engine=AttackEngine()))
    assert (low.forward, low.gradient) == (exact.forward, exact.gradient)
    box = crafted(NETWORK, attack("square", queries=5))
    assert box.against_fp32 is None
    assert torch.equal(box.images, crafted(NETWORK, attack("square", queries=5, engine=AttackEngine())).images)


def test_a_limit_of_time_ends_the_comparison_too() -> None:
    told: list[tuple[float, float]] = []

    class Late(Exception):
        pass

    def limited(done: float, total: float, note: str) -> None:
        if done == total and (done, total) in told:
            raise Late
        told.append((done, total))

    with pytest.raises(Late):
        craft(Target([NETWORK], 5, CPU), CLEAN, LABELS, range(20), attack(), 3, limited)
