"""Content-addressed store of values. Knows nothing of what the values mean; no torch.

Layout of a store directory (format 1)::

    format.json                      {"format": 1}
    values/ab/<key>/record.json      kind, spec, inputs, provenance, SHA-256 and size of every file
    values/ab/<key>/<name>           the files
    partial/<key>/<name>             state of unfinished work; removed when its value is written
    locks/<key>                      advisory locks; the operating system frees them when a process dies
    suites/<sha256>.json             what was run here (`report.leaderboard.suites`)
    tmp/                             files and values being written

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
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rstbench.errors import StoreError

FORMAT = 1
STORE_ENV = "RSTBENCH_STORE"
DEFAULT_STORE = ".rstbench"
RECORD = "record.json"
_KEY = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9_]+(-[0-9.]*[0-9])?\.[a-z0-9]+")
"""A file of a value: its stem, perhaps the remaining ratio that it is of ("last-0.05"), its kind."""
_FOLDERS = ("values", "partial", "locks", "tmp")
_MAX_RECORD_BYTES = 64 * 2**20
_ABANDONED_S = 24 * 3600.0
"""What a killed writer left under tmp/ is swept away after this time; no write takes nearly as long."""


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
            data = path.read_bytes() if path.stat().st_size == entry["bytes"] else b""
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror or error}; {_remedy(self.directory)}") from error
        if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise StoreError(f"{path}: damaged (its size or SHA-256 is not the record's); {_remedy(self.directory)}")
        return data


class Store:
    """A store directory, created when first written to.

    Raises `StoreError` if the directory is of a newer format or is not a store.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        marker = self.root / "format.json"
        try:
            if not marker.exists():
                # A folder with other things in it is more likely a mistyped option than a store to be.
                if self.root.is_dir() and any(entry.name not in _FOLDERS for entry in self.root.iterdir()):
                    raise StoreError(f"{self.root}: neither empty nor a store (format.json is missing)")
                return
            found = json.loads(marker.read_text(encoding="utf-8"))["format"]
        except OSError as error:
            raise StoreError(f"{marker}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, RecursionError):
            raise StoreError(f'{marker}: not the marker of a store, which is {{"format": {FORMAT}}}') from None
        if found != FORMAT:
            raise StoreError(
                f"{self.root}: store format {found!r}; this rstbench reads format {FORMAT}. Use the version that wrote "
                f"it, or another store (--store or {STORE_ENV})"
            )

    @property
    def roots(self) -> tuple[Path, ...]:
        """The directories that values are read from."""
        return (self.root,)

    def holding(self, name: str) -> list[str]:
        """Keys of the values that have a file of this name, sorted."""
        return sorted({path.parent.name for root in self.roots for path in (root / "values").glob(f"*/*/{name}")})

    def prepare(self) -> None:
        """Create the store's folders, prove that they can be written, and sweep out what killed writers left.

        Raises `StoreError` naming the folder otherwise, e.g. on a read-only mount.
        """
        try:
            for name in _FOLDERS:
                (self.root / name).mkdir(parents=True, exist_ok=True)
            probe = self.root / "tmp" / f"probe-{uuid.uuid4().hex}"
            probe.write_bytes(b"")
            probe.unlink()
            if not (self.root / "format.json").exists():
                self._replace(self.root / "format.json", json.dumps({"format": FORMAT}).encode())
            self._sweep()
        except OSError as error:
            raise self._unwritable(error) from error

    def _directory(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise StoreError(f"{key!r} is not a key (64 hexadecimal digits)")
        return Path(f"{self.root}/values/{key[:2]}/{key}")

    def has(self, key: str) -> bool:
        """Whether a whole value is stored under `key`."""
        return os.path.isfile(f"{self._directory(key)}/{RECORD}")

    def value(self, key: str) -> Value:
        """The value under `key`. Raises `StoreError` if it is absent or its record is not readable."""
        directory = self._directory(key)
        path = directory / RECORD
        try:
            if path.stat().st_size > _MAX_RECORD_BYTES:
                raise StoreError(f"{path}: larger than any record of ours; {_remedy(directory)}")
            record = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StoreError(f"the store {self.root} has no value {key}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise StoreError(f"{path}: {error}; {_remedy(directory)}") from error
        if not _is_record(record, key):
            raise StoreError(f"{path}: not the record of this value; {_remedy(directory)}")
        return Value(key, directory, record)

    def write(self, key: str, record: Mapping[str, Any], files: Mapping[str, bytes]) -> Value:
        """Store a value whole or not at all; keeps the one that is there already.

        Raises `StoreError` if the disk is full or not writable; nothing half written stays visible.
        """
        directory = self._directory(key)
        for name in files:
            if not _NAME.fullmatch(name) or name == RECORD:
                raise StoreError(f"{name!r} is not a file name of a value")
        listed = {n: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for n, data in files.items()}
        text = json.dumps({**record, "key": key, "files": listed}, indent=1, sort_keys=True).encode()
        staging = self.root / "tmp" / f"{key[:12]}-{uuid.uuid4().hex}"
        try:
            staging.mkdir(parents=True)
            for name, data in {**files, RECORD: text}.items():
                _write_synced(staging / name, data)
            _sync_directory(staging)
            directory.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.rename(staging, directory)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                if not self.has(key):  # what an interrupted removal left; otherwise another process was faster
                    shutil.rmtree(directory)
                    os.rename(staging, directory)
            _sync_directory(directory.parent)
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)  # gone already if it was renamed
        shutil.rmtree(self.root / "partial" / key, ignore_errors=True)
        return self.value(key)

    def _partial(self, key: str, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise StoreError(f"{name!r} is not a file name of a value")
        return self.root / "partial" / self._directory(key).name / name

    def read_partial(self, key: str, name: str) -> bytes | None:
        """State of unfinished work under `key`, or None."""
        try:
            return self._partial(key, name).read_bytes()
        except OSError:
            return None

    def write_partial(self, key: str, name: str, data: bytes) -> None:
        """Replace the state of unfinished work atomically. Raises `StoreError` if it cannot be written."""
        path = self._partial(key, name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._replace(path, data)
        except OSError as error:
            raise self._unwritable(error) from error

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the advisory lock of `key`, waiting for it; freed by the operating system if this process dies."""
        path = self.root / "locks" / self._directory(key).name
        handle = self._locked(path)
        try:
            yield
        finally:
            # Removed before it is freed, so that whoever gets a lock on this file next finds it gone and starts anew.
            with contextlib.suppress(OSError):
                path.unlink()
            handle.close()

    def _locked(self, path: Path) -> IO[str]:
        while True:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                handle = path.open("a")
            except OSError as error:
                raise self._unwritable(error) from error
            try:
                # A file system without locks loses only the saving of double work, not correctness.
                with contextlib.suppress(OSError):
                    fcntl.flock(handle, fcntl.LOCK_EX)
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(handle.fileno()), path.stat()):
                        return handle
            except BaseException:
                handle.close()
                raise
            # The holder before us removed the file while we waited; a lock on it excludes nobody.
            handle.close()

    def _replace(self, path: Path, data: bytes) -> None:
        """Write one file whole or not at all."""
        temporary = self.root / "tmp" / f"{path.name}-{uuid.uuid4().hex}"
        temporary.parent.mkdir(exist_ok=True)
        try:
            _write_synced(temporary, data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def _sweep(self) -> None:
        oldest = time.time() - _ABANDONED_S
        for entry in (self.root / "tmp").iterdir():
            with contextlib.suppress(OSError):
                if entry.stat().st_mtime < oldest:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(
            f"the store {self.root} cannot be written ({error.strerror or error}); "
            f"choose another with --store or {STORE_ENV}"
        )


def _remedy(directory: Path) -> str:
    return f"remove the folder {directory} and run again to recompute it"


def _is_record(record: object, key: str) -> bool:
    """Whether a record is whole enough to be read, is the one of `key`, and names no file outside its folder."""
    if not isinstance(record, dict) or record.get("key") != key or not isinstance(record.get("files"), dict):
        return False
    return all(
        _NAME.fullmatch(name)
        and isinstance(entry, dict)
        and isinstance(entry.get("sha256"), str)
        and isinstance(entry.get("bytes"), int)
        for name, entry in record["files"].items()
    )


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
