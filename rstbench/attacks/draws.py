"""Random numbers for a batch of images. Drawn on the CPU in fp32, so they are the same on every device."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor

_LARGE = 2**20
"""So many numbers are drawn by several threads: a GPU would wait for one. Each image's come from one thread."""
_THREADS = 8


class Draws(Protocol):
    """What attacks draw from: numbers of the same shape for each image of a batch."""

    def __len__(self) -> int: ...

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Uniform numbers in [0, 1), (N, *shape)."""

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers, (N, *shape)."""

    def rows(self, rows: Tensor) -> Draws:
        """The draws of some images only, int64 (M,), which go on where they are."""


class PerImage:
    """One generator for each image, so that what is drawn for it depends on no other image of the batch.

    seed: of the attack. images: what tells the images apart, e.g. their test indices; equal numbers draw equally.
    """

    def __init__(self, seed: int, images: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(_mixed(seed, int(image))) for image in images]

    def __len__(self) -> int:
        return len(self._generators)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Uniform numbers in [0, 1), (N, *shape)."""
        return self._filled(shape, lambda numbers, generator: numbers.uniform_(generator=generator))

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers, (N, *shape)."""
        return self._filled(shape, lambda numbers, generator: numbers.normal_(generator=generator))

    def _filled(self, shape: Sequence[int], fill: Callable[[Tensor, torch.Generator], Tensor]) -> Tensor:
        count = len(self._generators)
        drawn = torch.empty(count, *shape)
        threads = min(_THREADS, os.cpu_count() or 1, count)

        def work(first: int) -> None:
            for row in range(first, count, threads):
                fill(drawn[row], self._generators[row])

        if threads < 2 or count * math.prod(shape) < _LARGE:
            for numbers, generator in zip(drawn.unbind(0) if count else (), self._generators, strict=True):
                fill(numbers, generator)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(work, range(threads)))
        return drawn

    def rows(self, rows: Tensor) -> PerImage:
        """The draws of some images only, int64 (M,); their generators are shared and go on where they are."""
        part = PerImage(0, ())
        part._generators = [self._generators[row] for row in rows.tolist()]
        return part


class Shared:
    """One generator for the whole batch: for training, where batches are what they are, and one draw is cheap."""

    def __init__(self, generator: torch.Generator, count: int) -> None:
        self._generator, self._count = generator, count

    def __len__(self) -> int:
        return self._count

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Uniform numbers in [0, 1), (N, *shape)."""
        return torch.rand((self._count, *shape), generator=self._generator)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers, (N, *shape)."""
        return torch.randn((self._count, *shape), generator=self._generator)

    def rows(self, rows: Tensor) -> Shared:
        """Draws for as many images as there are rows, from the same generator."""
        return Shared(self._generator, len(rows))


def handed(drawn: Tensor, like: Tensor) -> Tensor:
    """Numbers from the CPU in the type and on the device of `like`, without waiting for what a GPU still computes."""
    if like.device.type == "cuda":
        return drawn.to(like.dtype).pin_memory().to(like.device, non_blocking=True)
    return drawn.to(like)


def _mixed(seed: int, image: int) -> int:
    # Neighbouring seeds of a Mersenne twister are not independent enough; hashed ones are.
    return int.from_bytes(hashlib.sha256(f"{seed}/{image}".encode()).digest()[:8], "little") >> 1
