"""torch.compile with its inductor backend, where the machine has what it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from rstbench.errors import DeviceError


def compiled(network: nn.Module, device: torch.device) -> Callable[..., Any]:
    """The network's forward pass through inductor: the same parameters, sums in another order.

    The second batch size that it meets makes it compile once more, for any size. Raises `DeviceError` if the device's
    code cannot be compiled here: for a CPU without a C++ compiler, for a GPU without triton.
    """
    missing = _missing(device)
    if missing:
        raise DeviceError(f"`compiler: inductor` on {device.type} needs {missing}; use `compiler: none`, or install it")
    call: Callable[..., Any] = torch.compile(network, backend="inductor")
    return call


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
