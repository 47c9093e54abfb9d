from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from rstbench.errors import DeviceError, RunError
from rstbench.evaluation.engine import Counter, in_engine
from tests.evaluation.engines import CLEAN, CPU, broken, engine, near, ours, step


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
