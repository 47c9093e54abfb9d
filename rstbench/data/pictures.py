"""Image files by Pillow: opened, looked at, decoded. No torch."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from rstbench.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 50_000_000
"""Images with more pixels are refused before they are decoded."""

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, MemoryError)


def looked_at(file: Path) -> tuple[tuple[int, int], str]:
    """(width, height) and Pillow's mode of an image file that can be decoded to its end.

    A JPEG is decoded at an eighth of its size, which reads all of it and takes a fraction of the time. Raises
    `DataError`, naming the file, for what is no image, is truncated, has too many pixels or more than 8 bits a channel.
    """
    with _opened(file) as image:
        size, mode = image.size, image.mode
        if mode.startswith(("I", "F")):
            raise DataError(f"{file}: pixels of mode {mode} do not fit 0..255; save it with 8 bits a channel")
        image.draft("L", (1, 1))  # Pillow does so for JPEG alone
        try:
            image.load()
        except _BROKEN as error:
            raise DataError(f"{file}: not a readable image ({error})") from error
    return size, mode


def decoded(file: Path, channels: int) -> Image:
    """The whole image, greyscale (1 channel) or RGB (3). Orientation tags are ignored, transparency is dropped.

    Pillow's versions may differ in the last bit. Raises `DataError`, naming the file, as `looked_at` does.
    """
    with _opened(file) as image:
        try:
            return image.convert("L" if channels == 1 else "RGB")
        except _BROKEN as error:
            raise DataError(f"{file}: not a readable image ({error})") from error


def _opened(file: Path) -> Image:
    from PIL import Image as pillow

    try:
        image = pillow.open(file)
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        raise DataError(f"{file}: more than {MAX_PIXELS:,} pixels; make the image smaller") from error
    except _BROKEN as error:
        raise DataError(f"{file}: not a readable image ({error})") from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise DataError(f"{file}: {image.width}x{image.height} is more than {MAX_PIXELS:,} pixels; make it smaller")
    if not image.width or not image.height:
        raise DataError(f"{file}: an image without pixels")
    return image
