"""What torch's compiler cannot do here ends in one message, and never in something that was not asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rstbench.data.tensors import as_float
from rstbench.errors import DeviceError
from rstbench.evaluation.craft import Target, craft
from rstbench.networks import compiling
from rstbench.networks.compiling import compiled, explained
from rstbench.spec.attack_fields import AttackEngine
from rstbench.spec.attacks import PgdSpec
from rstbench.training import generator
from tests.training.problem import CPU, images, run, settings


class Layer(nn.Module):
    """A network of any width, which notes each time that it was not compiled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.last, self.asked = nn.Linear(3 * 4 * 4, 5), 0
        self.first = nn.Linear(3 * 4 * 4, width)

    def forward(self, images: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            self.asked += 1
        logits: Tensor = self.last(images.flatten(1)) + self.first(images.flatten(1)).sum(1, keepdim=True)
        return logits


@pytest.fixture(autouse=True)
def fresh_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compilers of ours in place of inductor: what takes it minutes is to see how it fails."""
    torch.compiler.reset()
    monkeypatch.setattr(compiling, "_missing", lambda device: None)
    monkeypatch.setattr(compiling, "_BACKEND", "eager")
    yield
    torch.compiler.reset()


def uncompiled(compiler: Callable[[nn.Module, torch.device], Callable[[Tensor], Any]] = compiled) -> int:
    """How many answers came from a network that was not compiled, of several widths, batch sizes and ways to ask."""
    networks = [Layer(width) for width in range(1, 5)]
    for network in networks:
        call = compiler(network, CPU)
        for count in (7, 4, 1, 9, 3):
            shown = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(count))
            with torch.no_grad():
                torch.testing.assert_close(call(shown), network.eval()(shown))
            call(shown.requires_grad_(True)).sum().backward()
            network.asked -= 1  # the one that it is compared with
    return sum(network.asked for network in networks)


def test_many_networks_and_batch_sizes_are_all_compiled() -> None:
    assert uncompiled() == 0
    # With torch's own limit some of them are not.
    torch.compiler.reset()
    assert uncompiled(lambda network, device: torch.compile(network, backend="eager")) > 0


def test_behind_the_limit_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_MOST", 4)
    with (
        pytest.raises(DeviceError, match=r"compiled one class of networks 4 times .* use `compiler: none`"),
        explained(),
    ):
        uncompiled()


def test_its_limits_are_those_of_our_own_passes_alone() -> None:
    before = (torch._dynamo.config.recompile_limit, torch._dynamo.config.fail_on_recompile_limit_hit)
    compiled(Layer(2), CPU)(torch.zeros(2, 3, 4, 4))
    assert (torch._dynamo.config.recompile_limit, torch._dynamo.config.fail_on_recompile_limit_hit) == before


def broken(graph: Any, inputs: Any) -> Callable[..., Any]:
    from torch._inductor.exc import CppCompileError

    raise CppCompileError(["g++", "a.cpp"], "a.cpp:1:10: fatal error: Python.h: No such file or directory\nmore\n")


def broken_on_the_way_back(graph: Any, inputs: Any) -> Callable[..., Any]:
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.aot_autograd import make_boxed_func

    ready: Callable[..., Any] = aot_autograd(
        fw_compiler=lambda forward, inputs: make_boxed_func(forward.forward), bw_compiler=broken
    )(graph, inputs)
    return ready


BROKEN = pytest.mark.parametrize("backend", [broken, broken_on_the_way_back])
WORDS = r"`compiler: inductor` does not work here.*CppCompileError.*Python\.h: No such file.*; use `compiler: none`"


@BROKEN
def test_an_attack_whose_compiler_fails_says_what_to_change(monkeypatch: pytest.MonkeyPatch, backend: Any) -> None:
    monkeypatch.setattr(compiling, "_BACKEND", backend)
    spec = PgdSpec(kind="pgd", step_size="2/255", steps=2, batch=4, engine=AttackEngine(compiler="inductor"))
    clean, labels = (
        torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0)),
        torch.zeros(6, dtype=torch.int64),
    )
    with pytest.raises(DeviceError, match=WORDS):
        craft(Target([Layer(2)], 5, CPU), clean, labels, range(6), spec, 0, lambda *_: None)


@BROKEN
def test_so_does_a_search(monkeypatch: pytest.MonkeyPatch, backend: Any) -> None:
    monkeypatch.setattr(compiling, "_BACKEND", backend)
    training = run(settings(engine={"compiler": "inductor"}))
    batch, labels = images(8)
    with pytest.raises(DeviceError, match=WORDS):
        training.step(as_float(batch), labels, 0.1, generator("step", 0))


def test_other_errors_are_not_explained_away(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError), explained():
        raise ZeroDivisionError
    with pytest.raises(RuntimeError, match="ours"), explained():
        raise RuntimeError("ours")

    def short_of_memory(graph: Any, inputs: Any) -> Callable[..., Any]:
        raise torch.OutOfMemoryError("too much")

    # A smaller batch may do: that is for others to decide.
    monkeypatch.setattr(compiling, "_BACKEND", short_of_memory)
    with pytest.raises(torch.OutOfMemoryError, match="too much"), explained():
        compiled(Layer(2), CPU)(torch.zeros(2, 3, 4, 4))


@pytest.mark.slow
def test_a_compiler_that_fails_in_earnest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = pytest.importorskip("torch._inductor.config")
    monkeypatch.undo()
    compiler = tmp_path / "c++"
    compiler.write_text(
        '#!/bin/sh\ncase "$*" in *--version*) echo "g++ 1.0";; *) echo "error: no" >&2; exit 1;; esac\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setattr(config.cpp, "cxx", (str(compiler),))
    monkeypatch.setattr(config, "fx_graph_cache", False)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with pytest.raises(DeviceError, match=r"`compiler: inductor`.*use `compiler: none`"), explained():
        compiled(Layer(2), CPU)(torch.zeros(2, 3, 4, 4))
