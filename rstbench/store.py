"""Content-addressed store of values. Knows nothing of what the values mean; no torch.

Layout of a store directory (format 1)::

    format.json                      {"format": 1}
    values/ab/<key>/record.json      kind, spec, inputs, provenance, SHA-256 and size of every file
    values/ab/<key>/<name>           the files
    partial/<key>/<name>             state of unfinished work; removed when its value is written
    locks/<key>                      advisory locks; the operating system frees them when a process dies
    tmp/                             values being written

A value is written under tmp/, fsynced, and renamed into place: a reader sees a whole value or none. Two processes may
work on one store: a lock per key keeps them from computing the same value twice, and if both do (a file system
without locks), the values are equal and the first one stays.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rstbench.errors import StoreError

FORMAT = 1
STORE_ENV = "RSTBENCH_STORE"
DEFAULT_STORE = ".rstbench"
RECORD = "record.json"
_KEY = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9_]+\.[a-z0-9]+")
_MAX_RECORD_BYTES = 64 * 2**20


def default_root() -> Path:
    """The store used when none is named: `RSTBENCH_STORE`, else `.rstbench` in the working directory."""
    return Path(os.environ.get(STORE_ENV) or DEFAULT_STORE)


@dataclass(frozen=True)
class Value:
    """A stored value: its record and its files. Nothing is read until asked for."""

    key: str
    directory: Path
    record: Mapping[str, Any]

    def read(self, name: str) -> bytes:
        """The bytes of one file, checked against the record's digest.

        Raises `StoreError` if the file is absent or damaged.
        """
        entry = self.record["files"].get(name)
        if entry is None:
            raise StoreError(f"value {self.key[:12]} holds no file {name!r}; it holds {sorted(self.record['files'])}")
        path = self.directory / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror or error}; remove {self.directory} to recompute it") from error
        if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise StoreError(f"{path}: damaged (its SHA-256 differs from the record); remove the folder to recompute it")
        return data


class Store:
    """A store directory, created when first written to.

    Raises `StoreError` if the directory is of a newer format or is not a store.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        marker = self.root / "format.json"
        try:
            text = marker.read_text(encoding="utf-8")
        except FileNotFoundError:
            # A folder with other things in it is more likely a mistyped option than a store to be.
            if self.root.is_dir() and any(entry.name not in ("values", "partial", "locks", "tmp") for entry in self.root.iterdir()):
                raise StoreError(f"{self.root}: neither empty nor a store (format.json is missing)") from None
            return
        except OSError as error:
            raise StoreError(f"{marker}: {error.strerror or error}") from error
        try:
            found = json.loads(text)["format"]
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"{marker}: not a store marker") from None
        if found != FORMAT:
            raise StoreError(f"{self.root}: store format {found}; this rstbench reads format {FORMAT}")

    def prepare(self) -> None:
        """Create the store's folders and prove that they can be written.

        Raises `StoreError` naming the folder otherwise, e.g. on a read-only mount.
        """
        try:
            for name in ("values", "partial", "locks", "tmp"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            probe = self.root / "tmp" / f"probe-{uuid.uuid4().hex}"
            probe.write_bytes(b"")
            probe.unlink()
            if not (self.root / "format.json").exists():
                _write_whole(self.root / "format.json", json.dumps({"format": FORMAT}).encode())
        except OSError as error:
            raise StoreError(
                f"the store {self.root} cannot be written ({error.strerror or error}); "
                f"choose another with --store or {STORE_ENV}"
            ) from error

    def _directory(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise StoreError(f"{key!r} is not a key (64 hexadecimal digits)")
        return self.root / "values" / key[:2] / key

    def has(self, key: str) -> bool:
        """Whether a whole value is stored under `key`."""
        return (self._directory(key) / RECORD).is_file()

    def value(self, key: str) -> Value:
        """The value under `key`. Raises `StoreError` if it is absent or its record is not readable."""
        directory = self._directory(key)
        path = directory / RECORD
        try:
            if path.stat().st_size > _MAX_RECORD_BYTES:
                raise StoreError(f"{path}: larger than any record of ours")
            record = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StoreError(f"the store {self.root} has no value {key}") from None
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: {error}; remove {directory} to recompute it") from error
        files = record.get("files") if isinstance(record, dict) else None
        if not isinstance(files, dict) or not all(_NAME.fullmatch(name) for name in files):
            raise StoreError(f"{path}: not a record; remove {directory} to recompute it")
        return Value(key, directory, record)

    def write(self, key: str, record: Mapping[str, Any], files: Mapping[str, bytes]) -> Value:
        """Store a value whole or not at all; keeps the one that is there already.

        Raises `StoreError` if the disk is full or not writable; nothing half written stays visible.
        """
        directory = self._directory(key)
        staging = self.root / "tmp" / f"{key[:12]}-{uuid.uuid4().hex}"
        full = dict(record)
        full["key"] = key
        full["files"] = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in sorted(files.items())
        }
        try:
            staging.mkdir(parents=True)
            for name, data in files.items():
                if not _NAME.fullmatch(name):
                    raise StoreError(f"{name!r} is not a file name of a value")
                _write_synced(staging / name, data)
            _write_synced(staging / RECORD, json.dumps(full, indent=1, sort_keys=True).encode())
            _sync_directory(staging)
            directory.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.rename(staging, directory)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                shutil.rmtree(staging)  # another process stored the same value first
            _sync_directory(directory.parent)
        except OSError as error:
            shutil.rmtree(staging, ignore_errors=True)
            raise StoreError(f"the store {self.root} cannot be written ({error.strerror or error})") from error
        shutil.rmtree(self.root / "partial" / key, ignore_errors=True)
        return self.value(key)

    def read_partial(self, key: str, name: str) -> bytes | None:
        """State of unfinished work under `key`, or None."""
        try:
            return (self.root / "partial" / self._directory(key).name / name).read_bytes()
        except OSError:
            return None

    def write_partial(self, key: str, name: str, data: bytes) -> None:
        """Replace the state of unfinished work atomically. Raises `StoreError` if it cannot be written."""
        path = self.root / "partial" / self._directory(key).name / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(path, data)
        except OSError as error:
            raise StoreError(f"the store {self.root} cannot be written ({error.strerror or error})") from error

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the advisory lock of `key`, waiting for it; freed by the operating system if this process dies."""
        path = self.root / "locks" / self._directory(key).name
        try:
            handle = path.open("a")
        except OSError as error:
            raise StoreError(f"the store {self.root} cannot be written ({error.strerror or error})") from error
        with handle:
            # A file system without locks loses only the saving of double work, not correctness.
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        with contextlib.suppress(OSError):
            path.unlink()


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def _write_whole(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        _write_synced(temporary, data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
