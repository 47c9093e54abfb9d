from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rstbench.attacks.pgd import cross_entropy
from rstbench.defenses.view import CallableView
from rstbench.errors import DeviceError, RunError
from rstbench.evaluation.engine import Counter, in_engine
from rstbench.spec.attack_fields import AttackEngine
from rstbench.tickets.ticket import Ticket
from tests.networks.specs import digits
from tests.tickets.tickets import ticket

CPU = torch.device("cpu")
COUNT = 12
CLEAN = torch.rand(COUNT, 1, 8, 8, generator=torch.Generator().manual_seed(4))


def ours(family: str = "preact_resnet10", seed: int = 3, **changes: Any) -> nn.Module:
    made: Ticket = ticket(digits(family, width=0.125, **changes), seed=seed)
    return made.network()


def engine(**fields: Any) -> AttackEngine:
    return AttackEngine(**fields)


def step(network: nn.Module, chosen: AttackEngine, counter: Counter | None = None) -> Tensor:
    member = in_engine(network, chosen, CPU, counter or Counter())
    return CallableView(member).step(CLEAN, torch.arange(COUNT) % 10, cross_entropy).gradient


def near(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    return float((found - expected).norm() / expected.norm()) < tolerance


def broken() -> nn.Module:
    network = ours()
    network.get_submodule("stages.1.0.conv1").weight[0] = torch.nan
    return network


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import cpp_builder, exc

    def none() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    with pytest.raises(DeviceError, match=r"inductor.* on cpu needs a C\+\+ compiler.*compiler: none"):
        in_engine(ours(), engine(compiler="inductor"), CPU, Counter())


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.slow
def test_compiled_answers_are_the_same(fresh_compiler: None) -> None:
    network = ours()
    found = step(network, engine(compiler="inductor"))
    assert near(found, step(network, engine()), 1e-4)
    member = in_engine(network, engine(compiler="inductor"), CPU, Counter())
    expected = in_engine(network, engine(), CPU, Counter())
    for count in (3, 5, 1):
        torch.testing.assert_close(member(CLEAN[:count]), expected(CLEAN[:count]), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_compiled_answers_that_are_no_numbers_name_the_layer(fresh_compiler: None) -> None:
    member = in_engine(broken(), engine(compiler="inductor"), CPU, Counter())
    with pytest.raises(RunError, match=r"'stages.1.0.conv1'"):
        member(CLEAN)
