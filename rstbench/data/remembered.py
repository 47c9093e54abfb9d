"""Facts of data sets that were read before, in a small JSON file, so that planning need not read 185 MB again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rstbench.data import standard
from rstbench.spec.base import digest
from rstbench.spec.models import DatasetSpec

_VERSION = 1  # raised whenever `load` returns other arrays for the same files
_FOLDER_VERSION = 2  # the same for images in folders


@dataclass(frozen=True)
class DataFacts:
    """What plans and networks need to know of a data set; `mean` and `std` have one value per channel."""

    fingerprint: str
    classes: int
    channels: int
    image_size: int
    train_samples: int
    test_samples: int
    notes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


_FACTS = TypeAdapter(DataFacts)


def key(spec: DatasetSpec, path: Path | None) -> str:
    """Name of the entry: what is read from where. How the training set is cut later does not matter."""
    reader = _FOLDER_VERSION if spec.source in ("imagenet", "folder") else _VERSION
    return digest([reader, spec.source, spec.name, spec.image_size, str(path)])


def stamp(spec: DatasetSpec, path: Path | None) -> str:
    """Digest over path, size and times of every file of the data, and the version of the library that reads them."""
    reader = {"digits": "scikit-learn", "digits20": "scikit-learn", "imagenet": "pillow", "folder": "pillow"}
    sha = hashlib.sha256(_version(reader.get(spec.source, "")).encode())
    if path is not None:
        roots = [path]
        if path.suffix == ".mat":
            roots = [path.parent / name for name in standard.FILES[spec.source]]
        for root in roots:
            for file, stat in _files(root):  # sorted, so the digest is too
                # ctime notices files that were replaced and given their old mtime back.
                sha.update(f"{os.fsencode(file)!r} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}\n".encode())
    return sha.hexdigest()


def recall(cache: Path, key: str, stamp: str) -> DataFacts | None:
    """The facts kept under `key`, or None if there are none, they are stale, or the file cannot be understood."""
    entry = _entries(cache).get(key)
    if not isinstance(entry, dict) or entry.get("stamp") != stamp:
        return None
    try:
        return _FACTS.validate_python(entry.get("facts"))
    except ValidationError:
        return None


def remember(cache: Path, key: str, stamp: str, facts: DataFacts) -> None:
    """Keep `facts`. A place that cannot be written is no error: the next run reads the data again."""
    entries = {**_entries(cache), key: {"stamp": stamp, "facts": asdict(facts)}}
    temporary: str | None = None
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=cache.parent, prefix=f".{cache.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(entries, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, cache)
    except OSError:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _entries(cache: Path) -> dict[str, Any]:
    try:
        entries = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _files(root: Path, depth: int = 4) -> Iterator[tuple[str, os.stat_result]]:
    # ROOT/UNPACKED/train/CLASS/FILE is the deepest layout there is; the bound also ends circles of links.
    if depth == 0 or not root.is_dir():
        with contextlib.suppress(OSError):  # a dangling link; whoever reads it will say so
            yield str(root), root.stat()
        return
    try:
        with os.scandir(root) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:  # not ours to list; whoever reads it will say so
        return
    for entry in entries:
        if entry.is_dir():
            yield from _files(Path(entry.path), depth - 1)
        else:
            with contextlib.suppress(OSError):
                yield entry.path, entry.stat()


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}" if package else ""
    except PackageNotFoundError:
        return package
