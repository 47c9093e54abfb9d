"""Data sets that torchvision knows how to fetch and to read, in torchvision's own file layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstbench.data.arrays import Arrays, checked
from rstbench.data.info import INFO
from rstbench.errors import DataError

FILES = {
    "cifar10": ("cifar-10-batches-py",),
    "cifar100": ("cifar-100-python",),
    "svhn": ("train_32x32.mat", "test_32x32.mat"),
    "mnist": ("MNIST/raw",),
}
"""What torchvision leaves in the data directory, by source."""


def locate(source: str, directory: Path) -> Path | None:
    """torchvision's folder (SVHN: its training file), if all of `FILES` are there."""
    paths = [directory / name for name in FILES[source]]
    return paths[0] if all(path.exists() for path in paths) else None


def read(source: str, directory: Path) -> Arrays:
    """The data set from torchvision's files, which torchvision compares with its checksums (not so MNIST)."""
    members: dict[str, NDArray[Any]] = {}
    try:
        for part in ("train", "test"):
            members[f"{part}_images"], members[f"{part}_labels"] = _part(source, directory, part, fetch=False)
    except ImportError as error:
        raise DataError(f"{INFO[source].title} cannot be read: {error}") from error
    except Exception as error:  # torchvision raises whatever its unpickling and parsing meet
        raise DataError(
            f"{INFO[source].title}: torchvision cannot read its files in {directory} ({error}). Delete them and run "
            f"`rstbench data download {source}`, or put {source}.npz there"
        ) from error
    return checked(members, INFO[source], str(directory))


def download(source: str, directory: Path) -> Path:
    """Fetch both parts into `directory` and return where they lie. Needs the net; torchvision prints its progress."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for part in ("train", "test"):
            _part(source, directory, part, fetch=True)
    except Exception as error:  # URL errors, checksums, full disks, torchvision's own RuntimeError
        raise DataError(f"{INFO[source].title} could not be downloaded to {directory}: {error}") from error
    found = locate(source, directory)
    if found is None:
        raise DataError(f"{INFO[source].title}: torchvision left none of its files in {directory}")
    return found


def _part(source: str, root: Path, part: str, fetch: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    from torchvision import datasets  # imports torch: seconds, paid only by those who have no npz

    train = part == "train"
    if source == "svhn":
        svhn = datasets.SVHN(str(root), split=part, download=fetch)
        return np.asarray(svhn.data).transpose(0, 2, 3, 1), np.asarray(svhn.labels)
    if source == "mnist":
        mnist = datasets.MNIST(str(root), train=train, download=fetch)
        return mnist.data.numpy(), mnist.targets.numpy()
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[source]
    cifar = kind(str(root), train=train, download=fetch)
    return np.asarray(cifar.data), np.asarray(cifar.targets)
