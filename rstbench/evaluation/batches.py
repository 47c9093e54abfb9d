"""Work through many images in batches that fit into memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rstbench.errors import DeviceError


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device, or the host, had no memory left."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def in_batches(
    work: Callable[[int, int], Tensor], count: int, batch: int, progress: Callable[[float, float, str], None]
) -> tuple[Tensor, int]:
    """`work(begin, end)` for consecutive ranges of at most `batch`, concatenated; and the smallest batch used.

    An out-of-memory error halves the batch from there on. Raises `DeviceError` if one image does not fit.
    """
    parts: list[Tensor] = []
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
            batch = max(1, batch // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        begin = end
        progress(begin, count, "images")
    return torch.cat(parts), batch
