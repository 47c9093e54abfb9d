"""Which files a folder of images holds, with their classes, in a form that a million of them fit into."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rstbench.data.cuts import split
from rstbench.data.info import SourceInfo
from rstbench.data.pictures import SUFFIXES
from rstbench.errors import DataError

TEST_FRACTION = 0.2
TEST_SEED = 2021
"""The cut where there are class folders only: stratified, ours, the same on every machine."""


@dataclass(frozen=True)
class FileNames:
    """Paths below `root`, in order. One block of bytes: a million `Path` objects would take the better part of 1 GB."""

    root: Path
    joined: bytes
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, root: Path, names: Iterable[str]) -> FileNames:
        """From names relative to `root`."""
        joined, ends = bytearray(), []
        for name in names:
            joined += os.fsencode(name)
            ends.append(len(joined))
        return cls(root, bytes(joined), np.asarray(ends, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> Path:
        begin = int(self.ends[index - 1]) if index else 0
        return self.root / os.fsdecode(self.joined[begin : int(self.ends[index])])

    def rows(self, rows: NDArray[np.int64]) -> FileNames:
        """Some of them, in the order of `rows`."""
        return FileNames.of(self.root, (str(self[row].relative_to(self.root)) for row in rows.tolist()))


@dataclass(frozen=True)
class Part:
    """The files of the training or the test part, and their labels, int64 (N,)."""

    files: FileNames
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Listing:
    """Both parts, the number of classes, and remarks that belong beside every result."""

    train: Part
    test: Part
    classes: int
    notes: tuple[str, ...]


def listed(root: Path, info: SourceInfo) -> Listing:
    """The files below `root`: train/CLASS/* and test/CLASS/* (or val/CLASS/*), or CLASS/* alone.

    Classes are the sorted names of the training folders; within one, files are sorted by name. Without train and test,
    a seeded stratified fifth becomes the test part, and a note says so. A folder that holds nothing but one folder, as
    archives leave it, stands for that one. Nothing is opened. Raises `DataError` naming the folder.
    """
    name, root = root.name, _unwrapped(root)
    tests = [root / name for name in (("val", "test") if info.classes else ("test", "val"))]
    test = next((path for path in tests if path.is_dir()), None)
    if (root / "train").is_dir():
        if test is None:
            raise DataError(f"{root}: has train but neither test nor val")
        classes = _classes(root / "train", info)
        strangers = sorted(set(_subfolders(test)) - set(classes))
        if strangers:
            raise DataError(f"{test / strangers[0]}: no such class in {root / 'train'}")
        return Listing(_part(root / "train", classes, True), _part(test, classes, False), len(classes), ())
    if test is not None or info.classes is not None:
        raise DataError(f"{root}: the folder {root / 'train'} is missing")
    classes = _classes(root, info)
    if len(classes) < 2:
        raise DataError(f"{root}: holds one class folder only ({classes[0]}); at least two are needed")
    whole = _part(root, classes, True)
    first, second = split(whole.labels, TEST_FRACTION, TEST_SEED)
    note = f"{name}: no train and test folders; our own stratified cut, {TEST_FRACTION:.0%} test, seed {TEST_SEED}"
    return Listing(_rows(whole, first), _rows(whole, second), len(classes), (note,))


def _unwrapped(root: Path) -> Path:
    entries = [path for path in root.iterdir() if not path.name.startswith(".")]
    if len(entries) == 1 and entries[0].name not in ("train", "test", "val") and entries[0].is_dir():
        return entries[0] if _subfolders(entries[0]) else root
    return root


def _rows(part: Part, rows: NDArray[np.int64]) -> Part:
    return Part(part.files.rows(rows), part.labels[rows])


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


def _part(folder: Path, classes: list[str], complete: bool) -> Part:
    names: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            continue
        found = sorted(
            entry
            for entry in os.listdir(folder / name)
            if Path(entry).suffix.lower() in SUFFIXES and not entry.startswith(".")
        )
        if complete and not found:
            raise DataError(f"{folder / name}: holds no images ({', '.join(sorted(SUFFIXES))})")
        names += [f"{name}/{entry}" for entry in found]
        labels += [label] * len(found)
    if not names:
        raise DataError(f"{folder}: holds no images in its class folders")
    return Part(FileNames.of(folder, names), np.asarray(labels, dtype=np.int64))
