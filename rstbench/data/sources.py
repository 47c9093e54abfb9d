"""From a `DatasetSpec` to its data, wherever they lie. numpy only; torchvision is imported where needed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from rstbench.data import arrays as held
from rstbench.data import digits, folders, npz, remembered, standard
from rstbench.data.arrays import Arrays
from rstbench.data.cuts import split, stratified_subset
from rstbench.data.folders import Folder
from rstbench.data.info import INFO
from rstbench.data.remembered import DataFacts
from rstbench.errors import DataError, SpecError
from rstbench.spec.models import DatasetSpec

__all__ = [
    "ABSENT",
    "DATA_ENV",
    "DEFAULT_DATA_DIR",
    "Arrays",
    "DataFacts",
    "DataSet",
    "Folder",
    "data_directory",
    "download",
    "facts",
    "fingerprint",
    "load",
    "locate",
    "published_facts",
    "split",
    "stratified_subset",
]

DataSet = Arrays | Folder
"""A data set in memory, or one that stays on disk; both have the same fields."""

ON_DISK = ("imagenet", "folder")
"""Sources whose images stay on disk."""

DATA_ENV = "RSTBENCH_DATA"
"""Environment variable with the data directory; `--data-dir` goes before it."""

DEFAULT_DATA_DIR = "data"
"""Data directory, below the current one, where neither option nor variable names another."""


def data_directory(data_dir: Path | None = None) -> Path:
    """Absolute path of the data directory: the argument, else `RSTBENCH_DATA`, else `data`. It need not exist."""
    return Path(data_dir or os.environ.get(DATA_ENV) or DEFAULT_DATA_DIR).expanduser().absolute()


def locate(spec: DatasetSpec, data_dir: Path | None = None) -> Path | None:
    """File or folder that `load` would read; None for embedded data, and for data that are not there."""
    if spec.source in ("digits", "digits20"):
        return None
    directory = data_directory(data_dir)
    if spec.source in ON_DISK:
        path = directory / (spec.name or spec.source)
        return path if path.is_dir() else None
    path = directory / f"{spec.name or spec.source}.npz"
    if path.is_file():
        return path
    return standard.locate(spec.source, directory) if spec.source in standard.FILES else None


def load(spec: DatasetSpec, data_dir: Path | None = None, cache: Path | None = None) -> DataSet:
    """The data set in memory, or, for images in folders, what is needed to read them as they are asked for.

    NAME.npz in the data directory goes before torchvision's files there; nothing is ever downloaded here. cache: as of
    `facts`, which spares folders a reading of all their files. Raises `DataError` for data that are missing, damaged,
    out of range or larger than the free memory, and `SpecError` for an `image_size` where images are not resized.
    """
    if spec.source in ON_DISK:
        path, info = _located(spec, data_dir), INFO[spec.source]
        known = facts(spec, data_dir, cache)
        with _readable(path):
            return folders.read(path, info, known)
    return _in_memory(spec, data_dir)


def _in_memory(spec: DatasetSpec, data_dir: Path | None) -> Arrays:
    if spec.image_size is not None:
        raise SpecError(f"image_size is for the sources imagenet and folder; images of {spec.source} are not resized")
    if spec.source in ("digits", "digits20"):
        return digits.read(turned=spec.source == "digits20")
    path = _located(spec, data_dir)
    if path.suffix == ".npz":
        return npz.read(path, INFO[spec.source])
    return standard.read(spec.source, data_directory(data_dir))


def _located(spec: DatasetSpec, data_dir: Path | None) -> Path:
    path = locate(spec, data_dir)
    if path is None:
        raise DataError(_missing(spec, data_directory(data_dir)))
    return path


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # a folder that may not be listed, a file that went away meanwhile
        raise DataError(f"{path}: cannot be read ({error})") from error


def fingerprint(data: DataSet) -> str:
    """SHA-256 (hex) of the content: `data.arrays.fingerprint`, or that of `data.folders.survey`."""
    return data.fingerprint if isinstance(data, Folder) else held.fingerprint(data)


def download(spec: DatasetSpec, data_dir: Path | None = None) -> Path:
    """Fetch a data set through torchvision into the data directory and return where it lies.

    What is there already (NAME.npz, or complete files of torchvision) is kept. Raises `SpecError` for a source that
    torchvision does not fetch, `DataError` if the transfer fails.
    """
    if spec.source not in standard.FILES:
        raise SpecError(f"{spec.source} cannot be downloaded; these can: {', '.join(standard.FILES)}")
    directory = data_directory(data_dir)
    path = directory / f"{spec.source}.npz"
    return path if path.is_file() else standard.download(spec.source, directory)


def facts(spec: DatasetSpec, data_dir: Path | None = None, cache: Path | None = None) -> DataFacts:
    """What a plan needs to know of the data, without reading them again if `cache` still knows.

    `cache` is a JSON file; it answers while path, size and times of the data files are the same (for the digits: the
    version of scikit-learn). A missing, damaged or unwritable cache costs time, nothing else. Raises like `load`.
    """
    path = locate(spec, data_dir)
    key = remembered.key(spec, path)
    before = remembered.stamp(spec, path)
    if cache is not None and (known := remembered.recall(cache, key, before)) is not None:
        return known
    found = _found(spec, data_dir)
    # Files that changed while they were read must not lend their new times to the old content.
    if cache is not None and remembered.stamp(spec, path) == before:
        remembered.remember(cache, key, before, found)
    return found


def _found(spec: DatasetSpec, data_dir: Path | None) -> DataFacts:
    if spec.source in ON_DISK:
        path = _located(spec, data_dir)
        with _readable(path):
            return folders.survey(path, INFO[spec.source], spec.image_size)
    arrays = _in_memory(spec, data_dir)
    channels, size = arrays.train_images.shape[3], arrays.train_images.shape[1]
    mean, std = INFO[spec.source].normalisation(channels)
    samples = (len(arrays.train_labels), len(arrays.test_labels))
    return DataFacts(fingerprint(arrays), arrays.classes, channels, size, *samples, arrays.notes, mean, std)


ABSENT = "absent"
"""In place of the fingerprint of data that are not there."""


def published_facts(spec: DatasetSpec) -> DataFacts | None:
    """Facts of a data set that is not at hand, from its publication; None where only the data tell.

    Enough to estimate what a run would cost. Its fingerprint is `ABSENT`, so no key of a plan made with it is that of
    a stored value.
    """
    info = INFO[spec.source]
    if info.samples is None or info.classes is None or info.channels is None or info.size is None:
        return None
    mean, std = info.normalisation(info.channels)
    size = spec.image_size or info.size
    return DataFacts(ABSENT, info.classes, info.channels, size, *info.samples, (), mean, std)


def _missing(spec: DatasetSpec, directory: Path) -> str:
    change = f"Another data directory is named by --data-dir or {DATA_ENV}."
    if spec.source == "imagenet":
        return (
            f"ImageNet was not found: looked for the folder {directory / 'imagenet'} with train/WNID/*.JPEG and "
            f"val/WNID/*.JPEG. It has to be fetched by hand (image-net.org) and unpacked there. {change}"
        )
    if spec.source == "folder":
        return (
            f"data set {spec.name!r} was not found: looked for the folder {directory / str(spec.name)} with "
            f"train/CLASS/* and test/CLASS/*, or CLASS/* alone. {change}"
        )
    if spec.source == "arrays":
        return (
            f"data set {spec.name!r} was not found: looked for {directory / str(spec.name)}.npz with train_images, "
            f"train_labels, test_images, test_labels. {change}"
        )
    return (
        f"{INFO[spec.source].title} was not found: looked for {directory / spec.source}.npz and for torchvision's "
        f"files {', '.join(str(directory / name) for name in standard.FILES[spec.source])}. Either put "
        f"{spec.source}.npz there (arrays train_images, train_labels, test_images, test_labels), or run "
        f"`rstbench data download {spec.source}`. {change}"
    )
