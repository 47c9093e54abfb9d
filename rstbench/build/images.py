"""Which images a node that attacks, judges or measures is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rstbench.data.cuts import split, stratified_subset
from rstbench.data.sources import DataSet, Folder
from rstbench.data.streamed import FloatImages, StreamedImages, readers
from rstbench.data.tensors import as_float, to_device
from rstbench.evaluation.batches import Images

SUBSET_SEED = 0
"""Seed of the choice of test images where an attack runs on fewer than all."""


def attacked_images(
    spec: Mapping[str, Any], data: DataSet, samples: int | None, device: torch.device
) -> tuple[NDArray[np.int64], Images, Tensor]:
    """Indices (N,), float images (N, C, H, W) on the CPU and labels (N,) of a node: test images, or held-out ones.

    Held-out images are of the validation part of the training set; indices are places in the test or training part.
    samples: how many are chosen, stratified by class; None: all. A `part` of the spec takes one of several nearly equal
    runs of consecutive ones. Images of folders stay on disk. device: where they will be needed, which decides how many
    processes read them.
    """
    if "held_out" in spec:
        all_labels = data.train_labels
        _, part = split(all_labels, spec["cut"]["validation_fraction"], spec["cut"]["validation_seed"])
        samples = min(spec["held_out"], len(part))
    else:
        all_labels = data.test_labels
        part = np.arange(len(all_labels))
    rows = part[stratified_subset(all_labels[part], samples or len(part), SUBSET_SEED)]
    if "part" in spec:
        rows = np.array_split(rows, spec["part"]["of"])[spec["part"]["index"]]
    return rows, images_at(spec, data, rows, device), torch.from_numpy(all_labels[rows])


def images_at(spec: Mapping[str, Any], data: DataSet, rows: NDArray[np.int64], device: torch.device) -> Images:
    """The float images of some of a node's indices: of the test part, or of the training part for held-out ones."""
    training, cpu = "held_out" in spec, torch.device("cpu")
    if isinstance(data, Folder):
        images = data.train_images if training else data.test_images
        return FloatImages(StreamedImages(images, rows, cpu, readers(device)))
    return _Pixels(data.train_images if training else data.test_images, rows)


class _Pixels:
    """Images of an array as float32 in [0, 1] (N, C, H, W), made as they are asked for: as floats they take four times
    the memory of their data set.
    """

    def __init__(self, pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> None:
        self._pixels, self._rows = pixels, rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), *self[:0].shape[1:]))

    def __getitem__(self, index: slice, /) -> Tensor:
        return as_float(to_device(self._pixels[self._rows[index]], torch.device("cpu")))
