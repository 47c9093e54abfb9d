"""Reading adversarial images that somebody hands in. Nothing in the file is trusted: no pickles, and every size is
checked against what the data allow before anything is unpacked.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from rstbench.data.tensors import as_float
from rstbench.errors import ChallengeError
from rstbench.nodes import PART_BYTES

_AT_ONCE = 2**20
"""Bytes read from the file in one go. The list of a zip file's members is one go: longer ones are refused."""
_SLACK_BYTES = 2**20
"""What an npz file of few images may hold beside them."""
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)
_SPLIT = "; hand in more than 1 GiB in several files"
_NEEDED = "`index` (test indices, integers) and `images` (float32 in [0, 1] or uint8)"


@dataclass(frozen=True)
class HandedIn:
    """Images float32 (N, C, H, W) in [0, 1] and their test indices, int64 (N,), each index once, ascending.

    by: who handed them in; when: ISO 8601, UTC.
    """

    index: NDArray[np.int64]
    images: Tensor
    by: str = ""
    when: str = ""

    @property
    def content(self) -> str:
        """SHA-256 (hex) of shape, indices and pixels; neither the order in the file nor names are part of it."""
        sha = hashlib.sha256(f"challenge {'x'.join(map(str, self.images.shape))}\n".encode("ascii"))
        sha.update(np.ascontiguousarray(self.index, dtype="<i8").data)
        sha.update(np.ascontiguousarray(self.images.numpy(), dtype="<f4").data)
        return sha.hexdigest()


def read(path: Path, test_images: int, shape: Sequence[int], by: str = "", when: str = "") -> HandedIn:
    """The images in an npz file with `index` and `images`, (N, C, H, W) or (N, H, W, C).

    test_images: how many there are; shape: (C, H, W) of one; by, when: of `HandedIn`. uint8 becomes value / 255, as in
    the data sets. Where both orders fit the shape, the channels come first. Other arrays in the file are left unread.
    Raises `ChallengeError`, naming the file and what would be right: no npz file, arrays absent, twice, pickled or of
    other kinds, shapes or lengths, indices twice or beyond the test set, values not finite or out of [0, 1], images
    that take more than 1 GiB as float32. Memory: about twice that, whatever the file claims to hold.
    """
    size = math.prod(shape) * 4
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ChallengeError(f"{path}: not a file")
        # Each test image once, in float32: nothing honest is larger.
        if path.stat().st_size > min(test_images * (size + 64), 2 * PART_BYTES) + _SLACK_BYTES:
            raise ChallengeError(f"{path}: larger than {test_images} images of {_by(shape)} in float32 can be{_SPLIT}")
        with path.open("rb") as file, zipfile.ZipFile(_InSmallPieces(file)) as archive:
            index = _index(archive, test_images, path)
            images = _images(archive, len(index), shape, path)
    except FileNotFoundError:
        raise ChallengeError(f"{path}: no such file; needed is an npz file with {_NEEDED}") from None
    except _DAMAGED as error:
        reason = str(error).partition("\n")[0][:200]
        raise ChallengeError(f"{path}: not a readable npz file ({reason})") from error
    order = np.argsort(index, kind="stable")
    ordered = bool(np.all(order[1:] > order[:-1]))
    return HandedIn(index[order], images if ordered else images[torch.from_numpy(order)], by, when)


class _InSmallPieces(io.RawIOBase):
    """The file, for a reader that may be told to take all of it into memory: by its length, or by what it claims."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1, /) -> bytes:
        if size > _AT_ONCE:
            raise zipfile.BadZipFile("its list of members is longer than that of any npz file")
        found = self._file.read(_AT_ONCE + 1 if size < 0 else size)
        if len(found) > _AT_ONCE:
            raise zipfile.BadZipFile("its list of members is longer than that of any npz file")
        return found


def _index(archive: zipfile.ZipFile, test_images: int, path: Path) -> NDArray[np.int64]:
    with _member(archive, "index", path) as stream:
        shape, _, kind = _header(archive, stream, "index", path)
        if kind.kind not in "iu" or len(shape) != 1:
            raise ChallengeError(
                f"{path}: index is {kind} of shape {shape}; it must be integers (N,), the places of the images in the "
                "test set"
            )
        if not 0 < shape[0] <= test_images:
            raise ChallengeError(f"{path}: index names {shape[0]} images; the test set has {test_images}, each once")
        found = np.frombuffer(_content(stream, shape[0] * kind.itemsize), dtype=kind)
    outside = (found < 0) | (found >= test_images)
    if bool(outside.any()):
        raise ChallengeError(
            f"{path}: index holds {found[outside][0]}; the test set's images are 0 to {test_images - 1} "
            f"({int(outside.sum())} of {len(found)} are outside)"
        )
    index = found.astype(np.int64)
    values, counts = np.unique(index, return_counts=True)
    if len(values) != len(index):
        raise ChallengeError(
            f"{path}: index names image {values[counts > 1][0]} more than once; one image is handed in for each test "
            "image, further ones in another file"
        )
    return index


def _images(archive: zipfile.ZipFile, count: int, shape: Sequence[int], path: Path) -> Tensor:
    channels, height, width = shape
    first, last = (count, channels, height, width), (count, height, width, channels)
    with _member(archive, "images", path) as stream:
        found, fortran, kind = _header(archive, stream, "images", path)
        if kind not in (np.dtype("<f4"), np.dtype("uint8")):
            raise ChallengeError(f"{path}: images are {kind}; they must be float32 in [0, 1], or uint8")
        if found not in (first, last):
            raise ChallengeError(f"{path}: images have shape {found}; for {count} indices it must be {first} or {last}")
        if math.prod(found) * 4 > PART_BYTES:
            raise ChallengeError(f"{path}: {count} images of {_by(shape)} are too many for one file{_SPLIT}")
        pixels = np.frombuffer(_content(stream, math.prod(found) * kind.itemsize), dtype=kind)
    pixels = pixels.reshape(found, order="F" if fortran else "C")
    if found != first:
        pixels = pixels.transpose(0, 3, 1, 2)
    images = torch.from_numpy(np.array(pixels, order="C"))  # a copy: what was read is not writable
    if images.dtype == torch.uint8:
        return as_float(images)
    # NaN is not within anything.
    wrong = ~((images >= 0) & (images <= 1)).flatten(1).all(1)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        low, high = float(images[row].amin()), float(images[row].amax())
        raise ChallengeError(
            f"{path}: {int(wrong.sum())} of {count} images are not within [0, 1], the first at place {row}: "
            f"[{low:g}, {high:g}]"
        )
    return images


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> IO[bytes]:
    entries = [each for each in archive.infolist() if each.filename == f"{name}.npy"]
    if len(entries) != 1:
        there = "lacks" if not entries else "has more than one array called"
        raise ChallengeError(f"{path}: {there} {name}; needed are {_NEEDED}")
    if entries[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ChallengeError(f"{path}: {name} is compressed in an unusual way; write it with numpy.savez_compressed")
    return archive.open(entries[0])


def _header(
    archive: zipfile.ZipFile, stream: IO[bytes], name: str, path: Path
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and kind, and that the member is as long as they say."""
    version = npy.read_magic(stream)
    if version != (1, 0):  # 2.0 and 3.0 exist for structured types only
        raise ChallengeError(f"{path}: {name} is in npy format {version[0]}.{version[1]}; plain arrays are in 1.0")
    shape, fortran, kind = npy.read_array_header_1_0(stream)
    if kind.hasobject:
        raise ChallengeError(f"{path}: {name} holds Python objects (a pickle), which are never read")
    promised, there = math.prod(shape) * kind.itemsize, archive.getinfo(f"{name}.npy").file_size - stream.tell()
    if min(shape, default=0) < 0 or promised != there:
        raise ChallengeError(f"{path}: {name} is damaged: its shape is {shape} of {kind}, and it holds {there} bytes")
    return shape, fortran, kind


def _content(stream: IO[bytes], size: int) -> bytearray:
    """The rest of a member, of a size that was found harmless, and its checksum."""
    found = bytearray(size)
    view, at = memoryview(found), 0
    while at < size:
        piece = stream.read(min(_AT_ONCE, size - at))
        if not piece:
            raise EOFError("it ends early")
        view[at : at + len(piece)] = piece
        at += len(piece)
    stream.read(1)  # the checksum is compared only at the end
    return found


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
