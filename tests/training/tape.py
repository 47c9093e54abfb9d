"""A stand-in for CUDA graphs on a CPU: operations are recorded, and replayed on the memory that they met then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

_WAITS = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::is_nonzero",
    "aten::equal",
    "aten::_unique2",
    "aten::unique_dim",
}
_INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}


def waits(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether the host must wait for an operation's answer, or for how large it is."""
    name = func._schema.name
    if name in _INDEXED:
        return any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in args[1])
    return name in _WAITS


def _places(values: Any) -> set[int]:
    return {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)}


class Tape(TorchDispatchMode):
    """What a function does to tensors, below autograd. Waiting for a value, and drawing, cannot be recorded."""

    def __init__(self) -> None:
        super().__init__()
        self._done: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if waits(func, args) or any(argument.name == "generator" for argument in func._schema.arguments):
            raise AssertionError(f"{name} cannot be recorded")
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        # As a graph does, and unlike autograd, the tape keeps memory and not tensors that others may yet swap.
        self._done.append((func, *tree_map(lambda one: one.detach() if isinstance(one, Tensor) else one,
                                           (args, kwargs, result))))  # fmt: skip
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, result in self._done:
            if _places(result) & _places((args, kwargs)):
                if func._schema.is_mutable:
                    func(*args, **kwargs)
                continue  # else a view: it shows what is there by now
            again = func(*args, **kwargs)
            for place, value in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(place, Tensor):
                    place.copy_(value)


class Recorder:
    """A `training.recorded.Record` on a CPU, which counts what it does."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, function: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        for _ in range(3):
            function()
        tape = Tape()
        with tape:
            answer = function()
        self.recorded += 1

        def replay() -> None:
            tape.replay()
            self.replayed += 1

        return replay, answer
