"""What a step draws, on the device that trains: from a CPU generator, so that it is the same on every device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rstbench.attacks.draws import Shared
from rstbench.data.tensors import delivered


class Delivered(Shared):
    """`attacks.draws.Shared`, whose numbers arrive on the device without a stop of the host."""

    def __init__(self, generator: torch.Generator, count: int, device: torch.device) -> None:
        super().__init__(generator, count)
        self._device = device

    def uniform(self, shape: Sequence[int]) -> Tensor:
        return delivered(super().uniform(shape), self._device)

    def normal(self, shape: Sequence[int]) -> Tensor:
        return delivered(super().normal(shape), self._device)

    def rows(self, rows: Tensor) -> Delivered:
        return Delivered(self._generator, len(rows), self._device)


class Given:
    """Uniform numbers (N, ...) that were drawn before: `attacks.draws.Draws` of one draw."""

    def __init__(self, numbers: Tensor) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        if tuple(shape) != tuple(self._numbers.shape[1:]):
            raise ValueError(f"numbers of shape {tuple(self._numbers.shape[1:])} were drawn, not {tuple(shape)}")
        return self._numbers

    def normal(self, shape: Sequence[int]) -> Tensor:
        raise ValueError("only uniform numbers were drawn")

    def rows(self, rows: Tensor) -> Given:
        return Given(self._numbers[rows])
