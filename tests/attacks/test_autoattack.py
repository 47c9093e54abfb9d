from __future__ import annotations

import logging
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rstbench.attacks.threat import Threat
from rstbench.compat import import_autoattack
from rstbench.defenses.view import CallableView
from rstbench.defenses.views import EnsembleView, ExpectationView
from rstbench.errors import SpecError
from rstbench.evaluation.judge import check_images
from tests.attacks.autoattack_runs import L2, LINF, attack, hard
from tests.attacks.digits import trained
from tests.attacks.networks import images, linear, small_net


def theirs(
    network: nn.Module, inputs: Tensor, labels: Tensor, threat: Threat, monkeypatch: pytest.MonkeyPatch,
    steps: int = 100, queries: int = 5000, targets: int = 9, batch: int = 8,
) -> Tensor:  # fmt: skip
    """A whole run of the package. Its check by Python's tracing hook is left out: it would stop a debugger."""
    package = import_autoattack()
    monkeypatch.setattr(package.autoattack.checks, "check_dynamic", lambda *_, **__: None)
    norm = {"linf": "Linf", "l2": "L2"}[threat.norm]
    whole = package.AutoAttack(network, norm=norm, eps=threat.epsilon, seed=3, version="standard")
    for each in (whole.apgd, whole.apgd_targeted):
        each.n_iter = steps
        each.n_iter_2, each.n_iter_min = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1)
        each.size_decr = max(int(0.03 * steps), 1)
    whole.fab.n_iter, whole.square.n_queries = steps, queries
    whole.fab.n_target_classes = whole.apgd_targeted.n_target_classes = targets
    found: Tensor = whole.run_standard_evaluation(inputs, labels, batch_size=batch)[0]
    return found


@pytest.mark.parametrize("threat", [LINF, L2], ids=["linf", "l2"])
@pytest.mark.parametrize("batch", [9, 24])
def test_bits_of_the_package(threat: Threat, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network, inputs, labels = hard(24)
    reference = theirs(network, inputs, labels, threat, monkeypatch, steps=5, queries=15, batch=batch)
    found = attack(network, inputs, labels, threat, steps=5, square_queries=15, batch=batch).images
    assert torch.equal(found, reference)
    robust = network(found).argmax(1) == labels
    assert 3 < int(robust.sum()) < 21


@pytest.mark.slow
@pytest.mark.parametrize("threat", [LINF, L2], ids=["linf", "l2"])
def test_bits_of_the_package_as_published(threat: Threat, monkeypatch: pytest.MonkeyPatch) -> None:
    # 100 steps, 9 targets, 5000 queries; one image stands to the end.
    network, inputs, labels = hard(60)
    rows = torch.cat([robust_rows(threat)[:1], torch.arange(5)])
    inputs, labels = inputs[rows], labels[rows]
    reference = theirs(network, inputs, labels, threat, monkeypatch, batch=2)
    found = attack(network, inputs, labels, threat, steps=100, square_queries=5000, batch=2)
    assert torch.equal(found.images, reference)
    assert found.flags == ()


def robust_rows(threat: Threat) -> Tensor:
    network, inputs, labels = hard(60)
    found = attack(network, inputs, labels, threat, steps=20, square_queries=60, batch=60).images
    return (network(found).argmax(1) == labels).nonzero()[:, 0]


def test_what_only_square_finds() -> None:
    # Rounding leaves no gradient, so all is left to Square.
    network, inputs, labels = hard(40)
    rounded = CallableView(lambda x: network((x * 15).round() / 15))
    found = attack(rounded, inputs, labels, Threat("linf", 0.2), batch=40, steps=3, square_queries=200)
    right = rounded.logits(inputs).argmax(1) == labels
    robust = rounded.logits(found.images).argmax(1) == labels
    assert int(right.sum()) > int(robust.sum()) + 3
    assert torch.equal(found.images[robust], inputs[robust])
    assert torch.equal(found.images[~right], inputs[~right])
    assert set(found.flags) == {"zero_gradients", "black_box_beats_white_box", "reduced_budget"}


def flags(view: object, inputs: Tensor, labels: Tensor, **options: object) -> set[str]:
    return set(attack(view, inputs, labels, **({"batch": 24, "steps": 2, "square_queries": 5} | options)).flags) - {
        "reduced_budget"
    }  # type: ignore[arg-type]


def test_planted_models_raise_their_flags() -> None:
    network, inputs, labels = hard(24)
    noise = torch.Generator().manual_seed(0)

    def noisy(x: Tensor) -> Tensor:
        return network(x) + 0.1 * torch.randn(len(x), 10, generator=noise)

    constant = torch.eye(10)[3]
    assert flags(network, inputs, labels) == set()
    assert flags(CallableView(lambda x: network(x).softmax(1)), inputs, labels) == {"softmax_output"}
    assert "randomised_output" in flags(CallableView(noisy), inputs, labels)
    assert flags(CallableView(noisy), inputs, labels, version="rand") == set()
    assert flags(CallableView(lambda x: constant.expand(len(x), 10)), inputs, labels) == {
        "softmax_output", "zero_gradients",
    }  # fmt: skip
    detached = CallableView(lambda x: network(x.detach()))
    assert "zero_gradients" in flags(detached, inputs, labels)
    assert "zero_gradients" in flags(detached, inputs, labels, version="rand")


@pytest.mark.parametrize("version", ["standard", "rand"])
def test_reduced_budgets_are_flagged(version: str) -> None:
    network, inputs, labels = small_net(10), images(3)[:0], torch.zeros(0).long()
    counts = {"steps": 100} | ({"square_queries": 5000} if version == "standard" else {"eot_queries": 20})
    others = {"square_queries": 1} if version == "rand" else {"eot_queries": 1}
    assert attack(network, inputs, labels, version=version, **counts, **others).flags == ()
    for name, value in counts.items():
        less = counts | {name: value - 1}
        assert attack(network, inputs, labels, version=version, **less).flags == ("reduced_budget",)


@pytest.mark.parametrize("classes", [2, 3, 4, 10, 20])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_any_number_of_classes(classes: int, norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, inputs = small_net(classes, seed=4), images(24)
    labels = network(inputs).argmax(1)
    threat = Threat(norm, 0.4 if norm == "linf" else 4.0)
    for version in ("standard", "rand"):
        found = attack(network, inputs, labels, threat, version=version)
        check_images(found.images, inputs, threat)
        assert ("few_classes" in found.flags) is (classes < (10 if version == "standard" else 3))
        robust = network(found.images).argmax(1) == labels
        assert int(robust.sum()) < 24
        if version == "standard" and classes >= 4:
            reference = theirs(network, inputs, labels, threat, monkeypatch, 5, 15, min(9, classes - 1))
            assert torch.equal(found.images, reference)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_few_classes_linear_boundary(classes: int, norm: str) -> None:
    """Within one percent of the nearest boundary, of whichever class it is."""
    weight = torch.randn(classes, 25, generator=torch.Generator().manual_seed(3))
    network = linear(weight, -0.5 * weight.sum(1))
    inputs = 0.35 + 0.3 * torch.rand(30, 1, 5, 5, generator=torch.Generator().manual_seed(5))
    logits = network(inputs)
    labels = logits.argmax(1)
    reaches = []
    for rival in range(classes):
        towards = weight[rival] - weight[labels]
        dual = towards.abs().sum(1) if norm == "linf" else towards.norm(dim=1)
        gap = logits.gather(1, labels[:, None])[:, 0] - logits[:, rival]
        reaches.append(torch.where(labels == rival, torch.inf, gap / dual))
    reach = torch.stack(reaches).amin(0)
    threat = Threat(norm, float(reach.median()))
    found = attack(network, inputs, labels, threat, steps=40, batch=30).images
    fooled = network(found).argmax(1) != labels
    assert bool(fooled[reach < threat.epsilon * 0.99].all())
    assert not bool(fooled[reach > threat.epsilon * 1.01].any())


@settings(deadline=None, max_examples=10, derandomize=True)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0.0, 2.0),
    version=st.sampled_from(["standard", "rand"]),
    classes=st.sampled_from([2, 3, 5]),
    seed=st.integers(0, 10**6),
)
def test_budget_and_range(norm: str, epsilon: float, version: str, classes: int, seed: int) -> None:
    network, inputs = small_net(classes, channels=1, seed=seed % 7), images(1000, channels=1, side=5, seed=seed)
    inputs = (inputs * 1.4 - 0.2).clamp(0, 1)
    labels = torch.randint(0, classes, (1000,), generator=torch.Generator().manual_seed(seed))
    found = attack(network, inputs, labels, Threat(norm, epsilon), version=version, batch=500, steps=3, seed=seed)
    check_images(found.images, inputs, Threat(norm, epsilon))


@pytest.mark.parametrize("version", ["standard", "rand"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_budget_leaves_the_images_alone(version: str, norm: str) -> None:
    network, inputs, labels = hard(20)
    assert torch.equal(
        attack(network, inputs, labels, Threat(norm, 0.0), version=version, batch=20, steps=2).images, inputs
    )


@pytest.mark.parametrize("version", ["standard", "rand"])
def test_views_of_several_members(version: str) -> None:
    network, inputs, labels = hard(40)
    members = [network, lambda x: network(x.roll(1, dims=3))]
    for view in (
        EnsembleView(members, [0.7, 0.3]), EnsembleView(members, [0.7, 0.3], "probabilities"),
        ExpectationView(members, [0.7, 0.3]),
    ):  # fmt: skip
        found = attack(view, inputs, labels, Threat("linf", 0.15), version=version, batch=40, steps=4).images
        before, after = ((view.logits(each).argmax(1) == labels).float().mean() for each in (inputs, found))
        assert after < before - 0.2


@contextmanager
def traced() -> Iterator[list[str]]:
    seen: list[str] = []
    before = sys.gettrace()

    def tracer(frame: object, event: str, argument: object) -> None:
        seen.append(event)

    sys.settrace(tracer)
    try:
        yield seen
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("version", ["standard", "rand"])
def test_touches_nothing_of_others(
    version: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    network, inputs, labels = trained()
    network = nn.Sequential(network).requires_grad_(True)
    softmax = CallableView(lambda x: network(x).softmax(1))  # so that there is something to warn of
    torch.manual_seed(5)
    states = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    kept_inputs, kept_labels = inputs[:8].clone(), labels[:8].clone()
    caplog.set_level(logging.DEBUG)
    try:
        with traced():
            attack(softmax, inputs[:8], labels[:8], version=version, steps=2, square_queries=3)
        assert all(parameter.grad is None for parameter in network.parameters())
    finally:
        network.requires_grad_(False)
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1] and random.getstate() == states[2]
    assert torch.equal(inputs[:8], kept_inputs) and torch.equal(labels[:8], kept_labels)
    assert capsys.readouterr() == ("", "") and caplog.records == [] and list(recwarn) == []


def test_no_images_and_images_too_small() -> None:
    network = small_net()
    assert attack(network, images(3)[:0], torch.zeros(0).long()).images.shape == (0, 3, 8, 8)
    with pytest.raises(SpecError, match=r"at least 5 pixels a side.*4 x 4"):
        attack(network, images(3, side=4), torch.zeros(3).long(), L2)
    assert attack(network, images(3, side=4), torch.zeros(3).long(), LINF).images.shape == (3, 3, 4, 4)


@pytest.mark.gpu
def test_images_on_the_cpu_and_the_view_on_a_gpu() -> None:
    network, inputs, labels = hard(20)
    on_gpu = CallableView(lambda x: nn.Module.__call__(network, x.cpu()).cuda())
    found = attack(on_gpu, inputs, labels, device=torch.device("cuda")).images
    assert found.device.type == "cpu"
    check_images(found, inputs, LINF)
    robust = [network(each).argmax(1) == labels for each in (found, attack(network, inputs, labels).images)]
    assert int((robust[0] != robust[1]).sum()) <= 1
