"""Images that stay on disk: read, decoded and cropped by worker processes while the network computes.

The worker processes are those of torch's `DataLoader`. What an image becomes follows from its file and, where it is
cropped at random, from a seed of its own, so neither their number nor their timing changes a bit.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rstbench.data.crops import as_tensor, cropped, whole
from rstbench.data.folders import FolderImages
from rstbench.data.pictures import decoded
from rstbench.data.tensors import as_float
from rstbench.errors import DataError, RunError
from rstbench.spec.training import Augmentation

BLOCK = 64
"""Images that a worker process hands over at once where they are read in order."""

Drawn = tuple[int, int]
"""Row of an image, and the seed that its crop is drawn from."""


class StreamedImages:
    """Some images of a folder: uint8 (N, C, H, W), of which no more are in memory than are asked for.

    rows: which of the folder's images, int64 (N,). device: where they are delivered. workers: processes that read them,
    0: this one; default: `readers` of the device. Reading raises `DataError`, naming the file, for one that cannot be
    read, and `RunError` if a process dies.
    """

    def __init__(
        self, images: FolderImages, rows: NDArray[np.int64], device: torch.device, workers: int | None = None
    ) -> None:
        self._images, self._rows, self.device = images, rows, device
        self._workers = readers(device) if workers is None else workers

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W)."""
        side = self._images.side
        return torch.Size((len(self), self._images.channels, side, side))

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """Some of them, by a slice or by rows (M,), decoded by this process: for a few images."""
        rows = range(*index.indices(len(self))) if isinstance(index, slice) else index.tolist()
        found = _together(_Pictures(self._images, None).__getitems__([(self._row(row), 0) for row in rows]))
        if isinstance(found, str):
            raise DataError(found)
        return found.to(self.device) if len(rows) else torch.zeros(0, *self.shape[1:], dtype=torch.uint8)

    def batches(self, size: int, begin: int = 0) -> Iterator[Tensor]:
        """All from `begin` on, in order, `size` at a time."""
        starts = range(begin, len(self), size)
        keys = ([(self._row(row), 0) for row in range(at, min(at + size, len(self)))] for at in starts)
        return self._read(keys, None)

    def drawn(self, batches: Iterable[Sequence[Drawn]], spec: Augmentation) -> Iterator[Tensor]:
        """Batches of random crops after the spec; `batches` is read ahead."""
        return self._read(([(self._row(row), seed) for row, seed in batch] for batch in batches), spec)

    def _row(self, row: int) -> int:
        return int(self._rows[row])

    def _read(self, keys: Iterable[list[Drawn]], spec: Augmentation | None) -> Iterator[Tensor]:
        several: dict[str, Any] = {}
        if self._workers:
            # A server that has imported all this once forks them: neither threads, nor signal handlers, nor locks of
            # this process come along, and torch is not in memory once for each.
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload([__name__])
            several = {"multiprocessing_context": context, "prefetch_factor": 2, "worker_init_fn": _begin}
        loader: DataLoader[Any] = DataLoader(
            _Pictures(self._images, spec),
            batch_sampler=keys,
            num_workers=self._workers,
            collate_fn=_together,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # its own draws are of no consequence, and shall not touch the global one
            **several,
        )
        batches = iter(loader)
        while True:
            try:
                found = next(batches)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:  # of a connection that breaks off, too
                # Torch names the process where it died; what was raised in one that lives is passed on as it is.
                if isinstance(error, RuntimeError) and "DataLoader worker (pid" not in str(error):
                    raise
                raise RunError(
                    f"a process that reads images died; too little memory, or too little of it shared (/dev/shm), is "
                    f"the usual cause ({(str(error) or type(error).__name__).splitlines()[0]})"
                ) from error
            if isinstance(found, str):
                raise DataError(found)
            yield found.to(self.device, non_blocking=True)


class FloatImages:
    """Streamed images as float32 in [0, 1], on the CPU, by slices; read ahead where slices follow one another.

    Stands in for a tensor (N, C, H, W) where that is only ever cut into batches in order.
    """

    def __init__(self, stream: StreamedImages) -> None:
        self._stream = stream
        self._begin, self._held = 0, torch.zeros(0, *stream.shape[1:], dtype=torch.uint8)
        self._coming: Iterator[Tensor] | None = None

    def __len__(self) -> int:
        return len(self._stream)

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W)."""
        return self._stream.shape

    def __getitem__(self, index: slice) -> Tensor:
        begin, end, step = index.indices(len(self))
        if step != 1:
            raise ValueError("streamed images are cut into consecutive ones only")
        end = max(begin, end)
        if end - begin < BLOCK and not self._begin <= begin <= self._begin + len(self._held):
            return as_float(self._stream[index].cpu())  # a look at a few of them; the reader stays where it is
        coming, self._coming = self._coming, None  # of what is read until an error, such as memory, nothing is held
        if coming is None or not self._begin <= begin <= self._begin + len(self._held):
            self._begin, self._held = begin, self._held[:0]
            coming = self._stream.batches(BLOCK, begin)
        parts = [self._held[begin - self._begin :]]
        missing = end - begin - len(parts[0])
        while missing > 0:
            parts.append(next(coming).cpu())
            missing -= len(parts[-1])
        self._begin, self._held = begin, torch.cat(parts) if len(parts) > 1 else parts[0]
        self._coming = coming
        return as_float(self._held[: end - begin])


class _Pictures(Dataset[Tensor]):
    """What a worker process does."""

    def __init__(self, images: FolderImages, spec: Augmentation | None) -> None:
        self._images, self._spec = images, spec

    def __getitems__(self, keys: Sequence[Drawn]) -> list[Tensor] | str:
        """The images, or what is wrong with one: an error would arrive wrapped into the worker's traceback."""
        try:
            return [self._one(row, seed) for row, seed in keys]
        except DataError as error:
            return str(error)

    def _one(self, row: int, seed: int) -> Tensor:
        images, spec = self._images, self._spec
        picture = decoded(images.files[row], images.channels)
        if spec is None or spec.kind != "resized_crop":
            picture = whole(picture, images.side, images.shorter)
        return as_tensor(picture if spec is None else cropped(picture, images.side, spec, seed))


def _together(found: list[Tensor] | str) -> Tensor | str:
    return found if isinstance(found, str) else torch.stack(found) if found else torch.zeros(0)


def readers(device: torch.device) -> int:
    """How many processes read images for a device: one for a CPU, which computes for longer than it decodes; for
    others one for each core, 16 at most.
    """
    if device.type == "cpu":
        return 1
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _begin(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; whoever is fed decides
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # Torch watches the process that forked this one, which is the server; it outlives whoever is fed by it.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
