"""Weight files where a suite says they are: found, hashed, read. No torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from rstbench.data.sources import DATA_ENV, data_directory
from rstbench.errors import ModelError

MAX_BYTES = 16 * 2**30
_CHUNK = 2**20


def located(file: str, data_dir: Path | None) -> Path:
    """Where a suite's `file` lies. Raises `ModelError` if it is not there."""
    path = data_directory(data_dir) / file
    if not path.is_file():
        raise ModelError(
            f"weights {file!r} were not found: looked for {path}. Another data directory is named by --data-dir or "
            f"{DATA_ENV}."
        )
    return path


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes. Raises `ModelError` if it cannot be read."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                found.update(chunk)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from error
    return found.hexdigest()


def read(path: Path) -> bytes:
    """The file's bytes, which are then both hashed and parsed. Raises `ModelError` if it cannot be read."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ModelError(f"{path}: {size / 2**30:.1f} GiB are more than any weights that are read here")
        return path.read_bytes()
    except (OSError, MemoryError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from error


@dataclass(frozen=True)
class WeightFile:
    """A weights file in memory. where: its path, for messages."""

    where: str
    suffix: str
    data: bytes

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of its bytes."""
        return hashlib.sha256(self.data).hexdigest()


def weight_file(file: str, data_dir: Path | None) -> WeightFile:
    """A suite's `file`, read. Raises `ModelError` if it is not there or cannot be read."""
    path = located(file, data_dir)
    return WeightFile(str(path), path.suffix, read(path))
