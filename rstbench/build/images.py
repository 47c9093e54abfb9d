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
    return rows, _images(data, "held_out" in spec, rows, device), torch.from_numpy(all_labels[rows])


def _images(data: DataSet, training: bool, rows: NDArray[np.int64], device: torch.device) -> Images:
    cpu = torch.device("cpu")
    if isinstance(data, Folder):
        images = data.train_images if training else data.test_images
        return FloatImages(StreamedImages(images, rows, cpu, readers(device)))
    return as_float(to_device((data.train_images if training else data.test_images)[rows], cpu))
