"""Images in one folder per class, decoded by Pillow, brought to one square size."""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rstbench.data.arrays import Arrays, check_memory, checked
from rstbench.data.cuts import split
from rstbench.data.info import SourceInfo
from rstbench.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 50_000_000
"""Images with more pixels are refused before they are decoded."""

TEST_FRACTION = 0.2
TEST_SEED = 2021
"""The cut where there are class folders only: stratified, ours, the same on every machine."""

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, MemoryError)


@dataclass(frozen=True)
class _Part:
    files: list[Path]
    labels: NDArray[np.int64]


def read(root: Path, info: SourceInfo, image_size: int | None) -> Arrays:
    """The data set below `root`: train/CLASS/* and test/CLASS/* (or val/CLASS/*), or CLASS/* alone.

    Classes are the sorted names of the training folders. Without train and test, a seeded stratified fifth becomes
    the test part, and a note says so. The shorter side is resized (bilinear, antialiased) to the image size, then the
    centre is cut out; for ImageNet the shorter side is first 8/7 of it (256 for 224), as is usual there. Images are
    RGB, or greyscale if all of them are. Orientation tags are ignored, transparency is dropped. Pillow's versions may
    differ in the last bit, which the fingerprint shows. Raises `DataError` naming the file or folder.
    """
    train, test, classes, notes = _parts(root, info)
    known = image_size or info.size
    if known is not None:  # the least it can take, before a million headers are opened
        _check_size(root, len(train.files) + len(test.files), known, info.channels or 1)
    headers = [_header(file) for file in train.files + test.files]
    side = known or _common_side(root, headers, train.files + test.files)
    channels = info.channels or (1 if all(mode in ("1", "L") for _, mode in headers) else 3)
    _check_size(root, len(headers), side, channels)
    shorter = round(side * 8 / 7) if info.classes is not None else side
    members: dict[str, NDArray[Any]] = {}
    for name, part in (("train", train), ("test", test)):
        images = np.empty((len(part.files), side, side, channels), dtype=np.uint8)
        for index, file in enumerate(part.files):
            images[index] = _decode(file, side, shorter, channels)
        members[f"{name}_images"], members[f"{name}_labels"] = images, part.labels
    arrays = checked(members, info, str(root), notes)
    if arrays.classes != len(classes):
        raise DataError(f"{root}: {len(classes)} class folders, {arrays.classes} classes")
    return arrays


def _parts(root: Path, info: SourceInfo) -> tuple[_Part, _Part, list[str], tuple[str, ...]]:
    tests = [root / name for name in (("val", "test") if info.classes else ("test", "val"))]
    test = next((path for path in tests if path.is_dir()), None)
    if (root / "train").is_dir():
        if test is None:
            raise DataError(f"{root}: has train but neither test nor val")
        classes = _classes(root / "train", info)
        strangers = sorted(set(_subfolders(test)) - set(classes))
        if strangers:
            raise DataError(f"{test / strangers[0]}: no such class in {root / 'train'}")
        return _part(root / "train", classes, True), _part(test, classes, False), classes, ()
    if test is not None or info.classes is not None:
        raise DataError(f"{root}: the folder {root / 'train'} is missing")
    classes = _classes(root, info)
    whole = _part(root, classes, True)
    first, second = split(whole.labels, TEST_FRACTION, TEST_SEED)
    note = f"{root.name}: no train and test folders; our own stratified cut, {TEST_FRACTION:.0%} test, seed {TEST_SEED}"
    return _rows(whole, first), _rows(whole, second), classes, (note,)


def _rows(part: _Part, rows: NDArray[np.int64]) -> _Part:
    return _Part([part.files[row] for row in rows], part.labels[rows])


def _subfolders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _classes(folder: Path, info: SourceInfo) -> list[str]:
    classes = _subfolders(folder)
    if not classes:
        raise DataError(f"{folder}: holds no class folders")
    if info.classes is not None and len(classes) != info.classes:
        raise DataError(
            f"{folder}: {len(classes)} class folders, {info.title} has {info.classes}; "
            "read a part of it with source: folder"
        )
    return classes


def _part(folder: Path, classes: list[str], complete: bool) -> _Part:
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            continue
        found = sorted(
            path
            for path in (folder / name).iterdir()
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        )
        if complete and not found:
            raise DataError(f"{folder / name}: holds no images ({', '.join(sorted(SUFFIXES))})")
        files += found
        labels += [label] * len(found)
    if not files:
        raise DataError(f"{folder}: holds no images in its class folders")
    return _Part(files, np.asarray(labels, dtype=np.int64))


def _check_size(root: Path, images: int, side: int, channels: int) -> None:
    check_memory(
        images * side * side * channels,
        f"{root} ({images:,} images at {side}x{side}x{channels})",
        "choose a smaller image_size, or a folder with fewer images",
    )


def _open(file: Path) -> Image:
    from PIL import Image as pillow

    try:
        with warnings.catch_warnings():  # Pillow warns at a limit of its own, above ours
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)
            image = pillow.open(file)
    except pillow.DecompressionBombError as error:
        raise DataError(f"{file}: more than {MAX_PIXELS:,} pixels; make the image smaller") from error
    except _BROKEN as error:
        raise DataError(f"{file}: not a readable image ({error})") from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise DataError(f"{file}: {image.width}x{image.height} is more than {MAX_PIXELS:,} pixels; make it smaller")
    if not image.width or not image.height:
        raise DataError(f"{file}: an image without pixels")
    return image


def _header(file: Path) -> tuple[tuple[int, int], str]:
    with _open(file) as image:
        if image.mode.startswith(("I", "F")):
            raise DataError(f"{file}: pixels of mode {image.mode} do not fit 0..255; save it with 8 bits a channel")
        return image.size, image.mode


def _common_side(root: Path, headers: list[tuple[tuple[int, int], str]], files: list[Path]) -> int:
    (width, height), _ = headers[0]
    for file, (size, _) in zip(files, headers, strict=True):
        if size != (width, width):
            raise DataError(
                f"{file}: {size[0]}x{size[1]} pixels, {files[0].name} has {width}x{height}; images that are not "
                f"square and equal need `image_size` in the suite's data set"
            )
    return width


def _decode(file: Path, side: int, shorter: int, channels: int) -> NDArray[np.uint8]:
    from PIL import Image as pillow

    with _open(file) as image:
        try:
            pixels = image.convert("L" if channels == 1 else "RGB")
        except _BROKEN as error:
            raise DataError(f"{file}: not a readable image ({error})") from error
    width, height = pixels.size
    scale = shorter / min(width, height)
    # A strip of 1 x 50 million pixels would grow without bound; only the centre of it is wanted anyway.
    reach = min(max(width, height), 16 * min(width, height))
    if reach < max(width, height):
        left, top = max(0, (width - reach) // 2), max(0, (height - reach) // 2)
        pixels = pixels.crop((left, top, left + min(width, reach), top + min(height, reach)))
        width, height = pixels.size
    target = (max(side, round(width * scale)), max(side, round(height * scale)))
    if target != (width, height):
        pixels = pixels.resize(target, pillow.Resampling.BILINEAR)
    left, top = (target[0] - side) // 2, (target[1] - side) // 2
    pixels = pixels.crop((left, top, left + side, top + side))
    return np.asarray(pixels, dtype=np.uint8).reshape(side, side, channels)
