from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rstbench.attacks.pgd import cross_entropy
from rstbench.defenses.view import CallableView
from rstbench.defenses.views import ExpectationView
from rstbench.errors import RunError, SpecError
from rstbench.evaluation.craft import Target, craft, threat_of
from rstbench.evaluation.crafting import crafting_network
from rstbench.evaluation.engine import AllInEngine, Counter, InEngine, check, in_engine
from rstbench.evaluation.judge import check_images, predict
from rstbench.networks import build
from rstbench.networks.init import initialise
from rstbench.spec.attacks import PgdSpec
from tests.attacks.networks import small_net
from tests.evaluation.engines import CLEAN, COUNT, CPU, broken, engine, near, ours, step
from tests.networks.specs import digits


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("folding", [True, False])
def test_gradients_are_those_of_the_plain_network(folding: bool, layout: str) -> None:
    network = ours()
    plain = CallableView(network).step(CLEAN, torch.arange(COUNT) % 10, cross_entropy).gradient
    found = step(network, engine(folding=folding, layout=layout))
    if not folding and layout == "contiguous":
        assert torch.equal(found, plain)
    assert near(found, plain, 1e-4)


def test_low_precision_serves_gradients_and_fp32_answers() -> None:
    network = ours()
    low = in_engine(network, engine(precision="bf16"), CPU, Counter())
    exact = in_engine(network, engine(), CPU, Counter())
    assert torch.equal(low(CLEAN), exact(CLEAN))
    with torch.no_grad():
        assert torch.equal(low(CLEAN.clone().requires_grad_(True)), exact(CLEAN))
    answered = low(CLEAN.clone().requires_grad_(True)).detach()
    assert not torch.equal(answered, exact(CLEAN)) and near(answered, exact(CLEAN), 0.1)
    assert near(step(network, engine(precision="bf16")), step(network, engine()), 0.8)


def test_passes_are_counted() -> None:
    counter = Counter()
    networks = [ours(seed=seed) for seed in (1, 2, 3)]
    member = in_engine(networks[0], engine(), CPU, counter)
    together = AllInEngine(networks, engine(), CPU, counter)
    for asked, networks_asked in ((member, 1), (together, 3)):
        counter.forward = counter.gradient = 0
        asked(CLEAN)
        with torch.no_grad():
            asked(CLEAN.clone().requires_grad_(True))
        assert (counter.forward, counter.gradient) == (2 * COUNT * networks_asked, 0)
        asked(CLEAN.clone().requires_grad_(True))
        assert (counter.forward, counter.gradient) == (2 * COUNT * networks_asked, COUNT * networks_asked)
    together(CLEAN.expand(3, *CLEAN.shape))
    assert counter.forward == 3 * COUNT * 3


def test_the_original_is_only_put_into_evaluation_mode() -> None:
    network = ours(bn_affine=False).train().requires_grad_(True)
    before, strides = copy.deepcopy(network.state_dict()), [each.stride() for each in network.parameters()]
    step(network, engine(precision="bf16", layout="channels_last"))
    assert not network.training and all(each.requires_grad and each.grad is None for each in network.parameters())
    assert strides == [each.stride() for each in network.parameters()]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_networks_of_others_stay_as_they_are() -> None:
    network = small_net(channels=1)
    for chosen in (engine(), engine(precision="bf16")):
        assert crafting_network(network, chosen, low=chosen.precision == "bf16") is network
    plain = CallableView(network).step(CLEAN, torch.zeros(COUNT, dtype=torch.int64), cross_entropy).gradient
    member = in_engine(network, engine(), CPU, Counter())
    assert torch.equal(
        CallableView(member).step(CLEAN, torch.zeros(COUNT, dtype=torch.int64), cross_entropy).gradient, plain
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_answers_that_are_no_numbers_name_the_layer(precision: str) -> None:
    member = in_engine(broken(), engine(precision=precision), CPU, Counter())
    with pytest.raises(RunError, match=r"not numbers \(NaN\).*'stages.1.0.conv1'"):
        member(CLEAN.clone().requires_grad_(True))


class NoSynchronisation(TorchDispatchMode):
    """Fails where a GPU would be waited for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        assert not any(part in name for part in ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select")), name
        return func(*args, **(kwargs or {}))


class Sometimes(nn.Module):
    """Answers that are no numbers for images that are 1 somewhere."""

    def forward(self, images: Tensor) -> Tensor:
        answers = images.flatten(1)[:, :3] * 1.0
        return torch.where((images == 1).flatten(1).any(1, keepdim=True), torch.nan, answers)


def test_deferred_the_device_is_not_waited_for() -> None:
    member = InEngine(ours(), engine(), CPU, Counter(), deferred=True)
    with NoSynchronisation():
        member(CLEAN)
        CallableView(member).step(CLEAN, torch.zeros(COUNT, dtype=torch.int64), cross_entropy)
    member.check()


def test_at_once_it_is() -> None:
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NoSynchronisation():
        InEngine(ours(), engine(), CPU, Counter(), deferred=False)(CLEAN)


def test_deferred_what_was_seen_is_told_later() -> None:
    member = InEngine(Sometimes(), engine(), CPU, Counter(), deferred=True)
    bad = CLEAN.clone()
    bad[5] = 1.0
    with NoSynchronisation():
        member(CLEAN)
        member(bad)
        member(CLEAN)
        member(CLEAN[:0])
    with pytest.raises(RunError, match="the first output that is not finite is that of the model itself"):
        check([member])
    InEngine(Sometimes(), engine(), CPU, Counter(), deferred=True).check()
    fresh = InEngine(Sometimes(), engine(), CPU, Counter(), deferred=True)
    fresh(CLEAN)
    fresh.check()


def test_deferred_together_with_batches_of_any_size() -> None:
    networks = [ours(seed=seed) for seed in (1, 2, 3)]
    labels = torch.zeros(COUNT, dtype=torch.int64)

    def asked(images: Tensor, gradients: bool) -> AllInEngine:
        together = AllInEngine(networks, engine(), CPU, Counter(), deferred=True)
        view = ExpectationView(networks, [1 / 3] * 3, together=together)
        with NoSynchronisation():
            for count in (COUNT, 5, 0):  # what still stands is never of one size
                view.logits(CLEAN[:count])
                view.step(CLEAN[:count], labels[:count], cross_entropy)
            if gradients:
                view.step(images, labels[: len(images)], cross_entropy)
            else:
                view.logits(images)
        return together

    asked(CLEAN, True).check()
    networks[2].get_submodule("stages.1.0.conv1").weight.data[0] = torch.nan
    # Fewer images than networks, too: which answer is broken says nothing of the image then.
    for images, gradients in ((CLEAN, True), (CLEAN, False), (CLEAN[:1], True), (CLEAN[:1], False)):
        with pytest.raises(RunError, match=r"\(NaN\): member 2: the first output .* layer 'stages.1.0.conv1'"):
            asked(images, gradients).check()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_together_the_member_is_named(precision: str) -> None:
    chosen, labels = engine(precision=precision, members="together"), torch.zeros(COUNT, dtype=torch.int64)
    target = Target([ours(), ours(seed=1), broken(), ours(seed=2)], 10, CPU, [0.5, 0.0, 0.25, 0.25])
    spec = attack("eot", precision=precision, members="together")
    with pytest.raises(RunError, match=r"\(NaN\): member 2: the first output .* layer 'stages.1.0.conv1'"):
        craft(target, CLEAN, labels, range(COUNT), spec, 0, lambda *_: None)
    # Images of their own for each network.
    together = AllInEngine([ours(), broken()], chosen, CPU, Counter(), numbers=[3, 5])
    with pytest.raises(RunError, match="member 5: the first output"):
        together(CLEAN.expand(2, *CLEAN.shape).clone().requires_grad_(True))


def test_together_where_none_is_to_blame_all_are_named() -> None:
    together = AllInEngine([ours(), ours(seed=1)], engine(), CPU, Counter(), numbers=[0, 2])
    together._exact._call = lambda images: torch.full((2, len(images), 10), torch.nan)
    with pytest.raises(RunError, match=r"asked one by one, members 0, 2 answer with numbers.*one_by_one"):
        together(CLEAN)


def test_together_needs_networks_of_ours() -> None:
    with pytest.raises(SpecError, match=r"member 1 is a Sequential.*one_by_one"):
        AllInEngine([ours(), small_net(channels=1)], engine(members="together"), CPU, Counter())


def test_together_a_norm_that_stays_in_one_stays_in_all() -> None:
    networks = []
    for seed in (0, 1):
        made = build(digits("preact_resnet10", width=0.0625, bn_affine=True))
        initialise(made, "kaiming_normal", seed)
        networks.append(made.eval().requires_grad_(False))
    networks[1].get_submodule("stages.1.0.bn1").weight[0] = -1.0
    found = AllInEngine(networks, engine(), CPU, Counter())(CLEAN)
    torch.testing.assert_close(found, torch.stack([each(CLEAN) for each in networks]), rtol=1e-4, atol=1e-5)


def attack(view: str = "eot", **fields: Any) -> PgdSpec:
    chosen = {"kind": "pgd", "step_size": "2/255", "steps": 4, "batch": 8, "view": view, "engine": engine(**fields)}
    return PgdSpec(**chosen)


def crafted(networks: Sequence[nn.Module], spec: PgdSpec) -> Any:
    labels, _ = predict(networks[0], CLEAN, 8, lambda done, total, note: None)
    return craft(Target(networks, 10, CPU), CLEAN, labels, range(COUNT), spec, 3, lambda done, total, note: None)


@pytest.mark.parametrize("view", ["eot", "ensemble"])
def test_together_attacks_are_those_of_one_by_one(view: str) -> None:
    networks = [ours(seed=seed) for seed in (1, 2, 3)]
    one, together = crafted(networks, attack(view)), crafted(networks, attack(view, members="together"))
    assert float((one.images != together.images).float().mean()) < 0.02
    assert (one.forward, one.gradient) == (together.forward, together.gradient)
    assert not any("batch" in flag for flag in together.flags)


@pytest.mark.parametrize(
    "fields",
    [{}, {"folding": False}, {"layout": "contiguous"}, {"precision": "bf16"}, {"members": "together"}],
    ids=str,
)
def test_budgets_hold_whatever_the_engine(fields: dict[str, Any]) -> None:
    spec = attack("member", **fields)
    check_images(crafted([ours()], spec).images, CLEAN, threat_of(spec))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_a_gpu_nothing_waits_for_it(precision: str) -> None:
    device = torch.device("cuda")
    network, images = ours(), CLEAN.to(device)
    labels = torch.arange(COUNT, device=device) % 10
    expected = CallableView(ours()).step(CLEAN, labels.cpu(), cross_entropy).gradient
    networks = [network.to(device), ours(seed=2).to(device)]
    chosen = engine(precision=precision)
    member = in_engine(networks[0], chosen, device, Counter())
    together = AllInEngine(networks, chosen, device, Counter())
    CallableView(member).step(images, labels, cross_entropy)
    try:
        torch.cuda.set_sync_debug_mode("error")
        found = CallableView(member).step(images, labels, cross_entropy).gradient
        together(images)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    check([member, together])
    assert near(found.cpu(), expected, 1e-2 if precision == "fp32" else 0.8)
