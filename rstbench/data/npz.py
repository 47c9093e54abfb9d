"""Reading NAME.npz without trusting it: no pickles, and every header is checked before anything is decompressed."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rstbench.data.arrays import MEMBERS, Arrays, check_image_array, check_memory, checked
from rstbench.data.info import SourceInfo
from rstbench.errors import DataError

_LOSSLESS = ("train_lossless", "test_lossless")
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)


def read(path: Path, info: SourceInfo) -> Arrays:
    """The data set in `path`; `DataError` names the file and the array that is wrong.

    Other arrays in the file are left unread, but for `train_lossless` and `test_lossless` (bool, one per image): they
    say which images are the original pixels, and a note counts those that are not.
    """
    where = str(path)
    try:
        with zipfile.ZipFile(path) as archive:
            present = set(archive.namelist())
            missing = [name for name in MEMBERS if f"{name}.npy" not in present]
            if missing:
                raise DataError(f"{where}: lacks {', '.join(missing)}; needed are {', '.join(MEMBERS)}")
            names = [*MEMBERS, *(name for name in _LOSSLESS if f"{name}.npy" in present)]
            _check_headers(archive, names, info, where)
            members = {name: _member(archive, name) for name in names}
    except _DAMAGED as error:
        raise DataError(f"{where}: not a readable npz file ({error})") from error
    return checked(members, info, where, _restored(members, info, where))


def _check_headers(archive: zipfile.ZipFile, names: list[str], info: SourceInfo, where: str) -> None:
    total = 0
    for name in names:
        member = archive.getinfo(f"{name}.npy")
        with archive.open(member) as stream:
            version = npy.read_magic(stream)
            if version != (1, 0):  # 2.0 and 3.0 exist for structured types only
                raise DataError(f"{where}: {name} is in npy format {version[0]}.{version[1]}; plain arrays are in 1.0")
            shape, _, dtype = npy.read_array_header_1_0(stream)
            if dtype.hasobject:
                raise DataError(f"{where}: {name} holds Python objects (a pickle), which are never read")
            if min(shape, default=0) < 0:
                raise DataError(f"{where}: {name} has shape {shape}")
            size = math.prod(shape) * dtype.itemsize
            if stream.tell() + size != member.file_size:
                raise DataError(
                    f"{where}: {name} is damaged: its header promises {size} bytes, "
                    f"the file holds {member.file_size - stream.tell()}"
                )
        if name.endswith("_images"):
            check_image_array(dtype, shape, name, info, where)
        total += size
    check_memory(total, where, "leave out images, or use a machine with more memory")


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as stream:
        array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
        # The checksum is compared only when the end of the member is read.
        stream.read(1)
    return array


def _restored(members: dict[str, NDArray[Any]], info: SourceInfo, where: str) -> tuple[str, ...]:
    restored, known = 0, False
    for name in _LOSSLESS:
        if name not in members:
            continue
        known = True
        flags, labels = members[name], members[name.replace("lossless", "labels")]
        if flags.dtype != np.bool_ or flags.shape != labels.shape:
            raise DataError(
                f"{where}: {name} is {flags.dtype} {flags.shape}; it must be bool, one value per image {labels.shape}"
            )
        restored += int((~flags).sum())
    total = len(members["train_labels"]) + len(members["test_labels"])
    if not known or not restored:
        return ()
    return (f"{info.title}, {_spaced(restored)} of {_spaced(total)} images restored from JPEG",)


def _spaced(number: int) -> str:
    return f"{number:,}".replace(",", " ")
