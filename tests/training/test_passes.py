from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from rstbench.data.tensors import as_float
from rstbench.errors import DeviceError
from rstbench.networks import build
from rstbench.networks.init import initialise
from rstbench.spec.training import Engine
from rstbench.training import generator
from rstbench.training.passes import Passes
from tests.networks.specs import digits
from tests.training.problem import CPU, images, run, settings


def _network() -> nn.Module:
    network = build(digits("preact_resnet10", width=0.125, classes=3, classifier_bias=True))
    initialise(network, "signed_kaiming_constant", 0)
    return network.requires_grad_(False)


def _answers(passes: Passes, batch: Tensor) -> tuple[Tensor, Tensor]:
    leaf = batch.clone().requires_grad_(True)
    logits = passes.train(leaf)
    (gradient,) = torch.autograd.grad(logits.square().sum(), leaf)
    return logits.detach(), gradient


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_weights_that_are_cast_once_give_the_bits_of_autocast(layout: str) -> None:
    passes = Passes(_network(), Engine(precision="bf16", layout=layout), CPU)
    parameters = dict(passes.network.named_parameters())
    batch = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = [_answers(passes, batch) for _ in range(2)]
    running = {name: value.clone() for name, value in passes.network.named_buffers()}
    for name, value in _network().named_buffers():
        passes.network.get_buffer(name).copy_(value)
    with passes.frozen():
        within = {name: value.dtype for name, value in passes.network.named_parameters()}
        found = [_answers(passes, batch) for _ in range(2)]
    assert set(within.values()) == {torch.bfloat16} and within.keys() == parameters.keys()
    for ours, theirs in zip(found, expected, strict=True):
        assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
    assert all(torch.equal(value, running[name]) for name, value in passes.network.named_buffers())
    # Afterwards the network has its own weights again, and what they become is seen the next time.
    assert all(value is parameters[name] for name, value in passes.network.named_parameters())
    parameters["stem.weight"].zero_()
    with passes.frozen():
        assert not bool(passes.network.get_parameter("stem.weight").any())


def test_in_fp32_nothing_is_cast() -> None:
    passes = Passes(_network(), Engine(), CPU)
    with passes.frozen():
        assert all(value.dtype == torch.float32 for value in passes.network.parameters())


def test_an_error_leaves_the_network_as_it_was() -> None:
    passes = Passes(_network(), Engine(precision="bf16"), CPU)
    with pytest.raises(KeyError), passes.frozen():
        raise KeyError
    assert all(value.dtype == torch.float32 for value in passes.network.parameters())


def test_inductor_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = pytest.importorskip("torch._inductor.config")
    monkeypatch.setattr(config.cpp, "cxx", ("there_is_no_such_compiler",))
    with pytest.raises(DeviceError, match=r"inductor.*needs a C\+\+ compiler"):
        run(settings(engine={"compiler": "inductor"}))


def _gradients(compiler: str, precision: str, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Of the scores, on images that the inner attack leaves as they are: what it does with others is chaotic."""
    inner = {"kind": "pgd", "epsilon": "0", "steps": 2}
    engine = {"precision": precision, "layout": "channels_last", "compiler": compiler}
    training = run(settings(inner=inner, engine=engine))
    for number in range(2):
        training.step(images, labels, 0.0, generator(number))
    return {name: scores.grad for name, scores in training.subject.variables.items() if scores.grad is not None}


def _far(found: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    """Distance of all gradients together, as a share of their length."""
    squares = [(float((found[name] - each).square().sum()), float(each.square().sum())) for name, each in exact.items()]
    return math.sqrt(sum(square for square, _ in squares) / sum(length for _, length in squares))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_inductor_is_as_near_the_exact_gradients_as_eager_is(precision: str) -> None:
    """It compiles for the inner attack and for the update, and nothing anew in the second step."""
    from torch._dynamo.utils import counters

    batch, labels = images(24)
    exact = _gradients("none", "fp32", as_float(batch), labels)
    plain = _gradients("none", precision, as_float(batch), labels)
    counters.clear()
    compiled = _gradients("inductor", precision, as_float(batch), labels)
    assert counters["stats"]["unique_graphs"] == 2
    assert compiled.keys() == exact.keys()
    assert _far(compiled, exact) < max(1e-3, 1.5 * _far(plain, exact))
    assert _far(plain, exact) < 0.5
