"""The one shape in which every data set arrives, its checks, its fingerprint, and the memory it may take."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstbench.data.info import SourceInfo
from rstbench.errors import DataError

MEMBERS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class Arrays:
    """A data set in memory: images uint8 (N, H, W, C) with H = W and C 1 or 3, labels int64 (N,) in 0..classes-1.

    `notes` are remarks that belong beside every result from these data (what was restored, how they were cut).
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: int
    notes: tuple[str, ...] = ()


def fingerprint(arrays: Arrays) -> str:
    """SHA-256 (hex) over name, dtype, shape and bytes of the four arrays; notes and file names do not count."""
    sha = hashlib.sha256()
    for name in MEMBERS:
        array: NDArray[Any] = getattr(arrays, name)
        # Little-endian whatever the machine, so that equal data have one fingerprint.
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        sha.update(f"{name} {array.dtype.str} {'x'.join(map(str, array.shape))}\n".encode("ascii"))
        sha.update(array.data)
    return sha.hexdigest()


def checked(members: dict[str, NDArray[Any]], info: SourceInfo, where: str, notes: Sequence[str] = ()) -> Arrays:
    """`Arrays` of the four members, or a `DataError` that names the first thing wrong with them.

    Images may lack the channel axis. `info` gives the classes and the shape where they are known; else the training
    labels give the classes. `where` opens every message.
    """
    train = _images(members["train_images"], "train_images", info, where)
    test = _images(members["test_images"], "test_images", info, where)
    if train.shape[1:] != test.shape[1:]:
        raise DataError(
            f"{where}: training images are {_shape(train)}, test images {_shape(test)}; they must have one shape"
        )
    for part, images in (("train", train), ("test", test)):
        check_label_array(members[f"{part}_labels"], f"{part}_labels", len(images), where)
    classes = info.classes
    if classes is None:
        classes = max(1, int(members["train_labels"].max()) + 1)
    train_labels = _labels(members["train_labels"], "train_labels", classes, where)
    test_labels = _labels(members["test_labels"], "test_labels", classes, where)
    seen = np.unique(train_labels)
    if len(seen) != classes:
        gaps = np.flatnonzero(seen != np.arange(len(seen)))
        missing = int(gaps[0]) if len(gaps) else len(seen)
        raise DataError(
            f"{where}: train_labels has no image of class {missing}; "
            f"each of the {classes} classes 0..{classes - 1} must occur in training"
        )
    if classes < 2:
        raise DataError(f"{where}: train_labels holds one class only; at least two are needed")
    return Arrays(train, train_labels, test, test_labels, classes, tuple(notes))


def check_image_array(dtype: np.dtype[Any], shape: tuple[int, ...], name: str, info: SourceInfo, where: str) -> None:
    """Refuse images by dtype and shape alone, so that nothing need be decompressed first."""
    if dtype != np.uint8:
        raise DataError(
            f"{where}: {name} has dtype {dtype}; images must be uint8 with values 0..255. "
            "Images in [0, 1] become so with (images * 255).round().astype('uint8'); "
            "integers that lie in 0..255 with images.astype('uint8')"
        )
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        hint = " (channels come last)" if len(shape) == 4 and shape[1] in (1, 3) else ""
        raise DataError(
            f"{where}: {name} has shape {shape}; images must be (N, H, W) or (N, H, W, C) with C 1 or 3{hint}"
        )
    if shape[0] == 0:
        raise DataError(f"{where}: {name} is empty; at least one image is needed")
    if shape[1] != shape[2] or shape[1] == 0:
        raise DataError(f"{where}: {name} has images of {shape[1]}x{shape[2]} pixels; they must be square")
    channels = shape[3] if len(shape) == 4 else 1
    wanted = (info.size or shape[1], info.channels or channels)
    if (shape[1], channels) != wanted:
        raise DataError(
            f"{where}: {name} has images of {shape[1]}x{shape[2]}x{channels}; "
            f"{info.title} has {wanted[0]}x{wanted[0]}x{wanted[1]}"
        )


def check_label_array(labels: NDArray[Any], name: str, images: int, where: str) -> None:
    """Refuse labels that are no integers, not one-dimensional, or not as many as the images."""
    if labels.dtype.kind not in "iu":
        raise DataError(f"{where}: {name} has dtype {labels.dtype}; labels must be integers")
    if labels.ndim != 1:
        raise DataError(f"{where}: {name} has shape {labels.shape}; labels must be one-dimensional")
    if len(labels) != images:
        raise DataError(f"{where}: {name} has {len(labels)} labels for {images} images")


def available_memory() -> int | None:
    """Bytes that can still be allocated without swapping, or None where the system does not tell."""
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    if not found:  # not Linux; free pages where they are told, else all of them
        for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"):
            try:
                found.append(os.sysconf(name) * os.sysconf("SC_PAGE_SIZE"))
                break
            except (AttributeError, OSError, ValueError):
                continue
    with contextlib.suppress(OSError, ValueError):  # a container's limit can be below what the machine has
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return min(found, default=None)


def check_memory(needed: int, where: str, advice: str) -> None:
    """`DataError` if `needed` bytes exceed the memory that is free."""
    free = available_memory()
    if free is not None and needed > free:
        raise DataError(
            f"{where}: the images take {needed / 1e9:,.1f} GB as uint8, and {free / 1e9:,.1f} GB of memory are free; "
            f"{advice}"
        )


def _images(images: NDArray[Any], name: str, info: SourceInfo, where: str) -> NDArray[np.uint8]:
    check_image_array(images.dtype, images.shape, name, info, where)
    if images.ndim == 3:
        images = images[..., None]
    return np.ascontiguousarray(images)


def _labels(labels: NDArray[Any], name: str, classes: int, where: str) -> NDArray[np.int64]:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        index = int(wrong[0])
        raise DataError(
            f"{where}: {name}[{index}] is {int(labels[index])}; labels must lie in 0..{classes - 1} "
            f"({len(wrong)} of {len(labels)} do not)"
        )
    return np.ascontiguousarray(labels, dtype=np.int64)


def _shape(images: NDArray[Any]) -> str:
    return "x".join(map(str, images.shape[1:]))
