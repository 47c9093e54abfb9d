"""Work through many images in batches that fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from rstbench.defenses.view import Criterion, Step, View
from rstbench.errors import DeviceError

T = TypeVar("T")


class Images(Protocol):
    """Float images (N, C, H, W) in [0, 1] on the CPU that are cut into slices: a tensor, or images on disk."""

    def __len__(self) -> int: ...

    @property
    def shape(self) -> torch.Size: ...

    def __getitem__(self, index: slice, /) -> Tensor: ...


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device, or the host, had no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)  # the CPU's allocator, and CUDA's libraries, have no class of their own for it
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "STATUS_ALLOC_FAILED" in text)


def in_batches(
    work: Callable[[int, int], T],
    count: int,
    batch: int,
    progress: Callable[[float, float, str], None] | None = None,
) -> tuple[list[T], int]:
    """`work(begin, end)` for consecutive ranges of at most `batch`, in order; and the batch that fitted.

    An out-of-memory error halves the batch from there on. Raises `DeviceError` if one image does not fit.
    """
    parts: list[T] = []
    begin = 0
    while begin < count:
        end = min(begin + batch, count)
        try:
            parts.append(work(begin, end))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if batch == 1:
                raise DeviceError("out of memory with a single image; choose a device with more") from error
            fitted = False
        else:
            fitted = True
        if fitted:
            begin = end
            if progress is not None:
                progress(begin, count, "images")
        else:
            # Here and not above: there the error's traceback still holds on to the tensors that did not fit.
            batch //= 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return parts, batch


def whole_batches(count: int, batch: int) -> int:
    """Number of images once the last batch is padded. Fewer images than one batch are a batch of their own."""
    batch = min(batch, count)
    return -(-count // batch) * batch if count else 0


def padded(images: Images, begin: int, end: int) -> Tensor:
    """Rows `begin` to `end` of (N, ...); the last row again and again where N is passed."""
    part = images[begin:end]
    missing = end - begin - len(part)
    if not missing:
        return part
    last = part[-1:] if len(part) else images[-1:]
    return torch.cat([part, last.expand(missing, *images.shape[1:])])


class InParts:
    """A view that asks another one in as many parts as memory demands; `batch` images, and fewer once it ran short.

    What an attack does with its batch (its start above all) stays the same, whatever fits into memory: only the
    rounding of the view's own arithmetic depends on the size of the parts. An attack may hand in far more than a batch.
    told: called after each part with its passes, in images: a gradient counts as two.
    """

    def __init__(self, view: View, batch: int, told: Callable[[int], None] = lambda passes: None) -> None:
        self.batch = batch
        self._view = view
        self._told = told

    def logits(self, images: Tensor) -> Tensor:
        if len(images) == 0:
            return self._view.logits(images)

        def work(begin: int, end: int) -> Tensor:
            answers = self._view.logits(images[begin:end])
            self._told(end - begin)
            return answers

        parts, self.batch = in_batches(work, len(images), self.batch)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def step(self, images: Tensor, labels: Tensor, criterion: Criterion) -> Step:
        def work(begin: int, end: int) -> Step:
            found = self._view.step(images[begin:end], labels[begin:end], criterion)
            self._told(2 * (end - begin))
            return found

        parts, self.batch = in_batches(work, len(images), self.batch)
        if len(parts) == 1:
            return parts[0]
        return Step(
            torch.cat([part.gradient for part in parts]),
            torch.cat([part.loss for part in parts]),
            torch.cat([part.standing for part in parts]),
        )
