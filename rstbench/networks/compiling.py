"""torch.compile with its inductor backend, where the machine has what it needs; never something else in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rstbench.errors import DeviceError

_BACKEND: str | Callable[..., Any] = "inductor"
_MOST = 1024
"""Compilations of one class of networks in a process. torch's own limit is 8, behind which it says so on stderr and
computes uncompiled: other numbers than asked for, and at another speed. Each architecture takes two to twelve (training
or evaluation, with gradients or without, one image, the first batch size, any size), and a worker may see many."""


def compiled(network: nn.Module, device: torch.device) -> Callable[[Tensor], Any]:
    """The network's forward pass through inductor: the same parameters, sums in another order.

    The second batch size that it meets makes it compile once more, for any size. Raises `DeviceError` if the device's
    code cannot be compiled here: for a CPU without a C++ compiler, for a GPU without triton. What goes wrong while it
    compiles, in a pass or on the way back, is torch's error: see `explained`.
    """
    missing = _missing(device)
    if missing:
        raise DeviceError(f"`compiler: inductor` on {device.type} needs {missing}; use `compiler: none`, or install it")
    import torch._dynamo

    call: Callable[..., Any] = torch.compile(network, backend=_BACKEND)

    def compiled_or_not_at_all(images: Tensor) -> Any:
        with torch._dynamo.config.patch(
            recompile_limit=_MOST,
            accumulated_recompile_limit=_MOST,
            fail_on_recompile_limit_hit=True,
            suppress_errors=False,
        ):
            return call(images)

    return compiled_or_not_at_all


@contextmanager
def explained() -> Iterator[None]:
    """Turns what torch's compiler raises inside into a `DeviceError` that says what to change; a decorator, too.

    An error that says that memory was short comes out as itself.
    """
    try:
        yield
    except Exception as error:
        if not _by_compiler(error):
            raise
        cause = _innermost(error)
        if isinstance(cause, torch.OutOfMemoryError | MemoryError):
            raise cause from error
        raise DeviceError(f"`compiler: inductor` {_reason(cause)}; use `compiler: none`") from error


def _by_compiler(error: BaseException) -> bool:
    # By name: importing the compiler takes a second, and whoever does not use it has no need to.
    return any(each.__module__.startswith(("torch._dynamo", "torch._inductor")) for each in type(error).__mro__)


def _innermost(error: BaseException) -> BaseException:
    while isinstance(inner := getattr(error, "inner_exception", None), BaseException):
        error = inner
    return error


def _reason(error: BaseException) -> str:
    if type(error).__name__ == "FailOnRecompileLimitHit":
        return (
            f"has compiled one class of networks {_MOST} times in this process, for as many architectures and ways to "
            "ask them, and stops there"
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"]
    # A C++ compiler's command comes first and its complaint somewhere behind.
    told = next((line for line in lines if "error:" in line), "")
    words = f"{lines[0]}: {told}" if told and told != lines[0] else lines[0]
    return f"does not work here, or not for this network: {type(error).__name__}: {words[:400]}"


def _missing(device: torch.device) -> str | None:
    if device.type == "cpu":
        from torch._inductor import cpp_builder, exc

        try:
            cpp_builder.get_cpp_compiler()
        except exc.InvalidCxxCompiler:
            return "a C++ compiler, and there is none (torch looks for g++ or clang++, or what CXX names)"
        return None
    from torch.utils._triton import has_triton

    return None if has_triton() else "triton, which is not installed here"
