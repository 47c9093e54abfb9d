"""Images in one folder per class. They stay on disk; here they are looked at, and `data.streamed` decodes them."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rstbench.data.info import SourceInfo
from rstbench.data.listing import FileNames, listed
from rstbench.data.pictures import looked_at
from rstbench.data.remembered import DataFacts
from rstbench.errors import DataError

_AT_ONCE = 4096
"""Files handed to the threads at once: what waits in their queue takes memory, too."""


@dataclass(frozen=True)
class FolderImages:
    """Images of one part that stay on disk, each brought to `side` x `side` pixels with `channels` (1 or 3).

    The shorter side is resized to `shorter` pixels (bilinear, antialiased), then the centre is cut out.
    """

    files: FileNames
    side: int
    shorter: int
    channels: int

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True)
class Folder:
    """A data set that stays on disk; fields as of `data.arrays.Arrays`, but for the images and the fingerprint."""

    train_images: FolderImages
    train_labels: NDArray[np.int64]
    test_images: FolderImages
    test_labels: NDArray[np.int64]
    classes: int
    notes: tuple[str, ...]
    fingerprint: str


def read(root: Path, info: SourceInfo, known: DataFacts) -> Folder:
    """The data set below `root`, of which `survey` has found out `known`. Raises `DataError` naming the folder."""
    listing = listed(root, info)
    side = known.image_size
    # For ImageNet the shorter side is first 8/7 of the image size (256 for 224), as is usual there.
    shorter = round(side * 8 / 7) if info.classes is not None else side
    train, test = (FolderImages(part.files, side, shorter, known.channels) for part in (listing.train, listing.test))
    return Folder(
        train, listing.train.labels, test, listing.test.labels, listing.classes, listing.notes, known.fingerprint
    )


def survey(root: Path, info: SourceInfo, image_size: int | None) -> DataFacts:
    """Read every file once: what plans need to know, with a fingerprint of what the files hold.

    The fingerprint is the SHA-256 over both parts, file by file: the label and the SHA-256 of the content. Names do not
    count, only the order that they make. What becomes of the pixels is not in it: size and source are in the spec, and
    Pillow's version is beside every result. Images are RGB, or greyscale if all of them are. Every image is decoded, so
    that a broken one is found before a run and not in the middle of it; on as many threads as there are cores.
    Raises `DataError` naming the file or folder.
    """
    listing = listed(root, info)
    sha = hashlib.sha256(b"folder of images, 1\n")
    grey, side = True, image_size or info.size
    first: tuple[Path, tuple[int, int]] | None = None
    for name, part in (("train", listing.train), ("test", listing.test)):
        sha.update(f"{name} {len(part.files)}\n".encode())
        for row, (content, size, mode) in enumerate(_examined(part.files)):
            sha.update(int(part.labels[row]).to_bytes(8, "little") + content)
            grey &= mode in ("1", "L")
            first = first or (part.files[row], size)
            if side is None:
                _check_common(part.files[row], size, *first)
    if first is None:
        raise DataError(f"{root}: holds no images")
    channels = info.channels or (1 if grey else 3)
    mean, std = info.normalisation(channels)
    sizes = (len(listing.train.labels), len(listing.test.labels))
    facts = (listing.classes, channels, side or first[1][0], *sizes, listing.notes, mean, std)
    return DataFacts(sha.hexdigest(), *facts)


def _examined(files: FileNames) -> Iterator[tuple[bytes, tuple[int, int], str]]:
    from PIL import Image as pillow

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as threads, warnings.catch_warnings():
        # Pillow warns at a limit of its own, above ours.
        warnings.simplefilter("ignore", pillow.DecompressionBombWarning)
        for begin in range(0, len(files), _AT_ONCE):
            rows = range(begin, min(begin + _AT_ONCE, len(files)))
            yield from threads.map(_one, (files[row] for row in rows))


def _one(file: Path) -> tuple[bytes, tuple[int, int], str]:
    try:
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").digest()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from error
    return (content, *looked_at(file))


def _check_common(file: Path, size: tuple[int, int], first: Path, common: tuple[int, int]) -> None:
    if size != (common[0], common[0]):
        raise DataError(
            f"{file}: {size[0]}x{size[1]} pixels, {first.name} has {common[0]}x{common[1]}; images that are not "
            f"square and equal need `image_size` in the suite's data set"
        )
