"""How images come to a run: from memory on the device, or from disk while the run computes."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import tee

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rstbench.data.streamed import StreamedImages
from rstbench.data.tensors import as_float, augment, delivered
from rstbench.spec.training import Augmentation
from rstbench.training.family import Batch
from rstbench.training.seeds import derive_seed, generator

Images = Tensor | StreamedImages
"""uint8 images (N, C, H, W), on the device that trains, or delivered there."""

Chosen = tuple[NDArray[np.int64], torch.Generator]
"""Rows of a batch, and the generator that everything about this batch is drawn from."""


@dataclass(frozen=True)
class TrainingData:
    """uint8 images (N, C, H, W) and int64 labels (N,); labels on the device that trains."""

    images: Images
    labels: Tensor
    validation_images: Images
    validation_labels: Tensor


def steps(seed: int, images: int, batch: int, first: int, total: int) -> Iterator[Chosen]:
    """The batches of steps `first` to `total` of a run, each epoch in an order of its own."""
    per_epoch = images // batch
    order = None
    for step in range(first, total):
        epoch, within = divmod(step, per_epoch)
        if order is None or within == 0:
            order = np.random.Generator(np.random.Philox(derive_seed(seed, "order", epoch))).permutation(images)
        yield order[within * batch : (within + 1) * batch], generator(seed, "step", step)


def drawn(data: TrainingData, chosen: Iterable[Chosen], spec: Augmentation) -> Generator[Batch, None, None]:
    """Augmented batches of the training part.

    `chosen` is read ahead where images come from disk. An image's crop follows from its batch's generator alone, so it
    is the same after a run was killed and whoever decodes it. To be closed when no more batches are wanted.
    """
    if isinstance(data.images, Tensor):
        for rows, random in chosen:
            places = delivered(torch.from_numpy(rows), data.labels.device)
            yield as_float(augment(data.images[places], spec, random)), data.labels[places], random
        return
    # Seeds of the crops are drawn before anything else is, as `augment` does: the step's own draws come later.
    ahead, here = tee((rows, random, _seeds(len(rows), random, spec)) for rows, random in chosen)
    keys = (list(zip(rows.tolist(), seeds, strict=True)) for rows, _, seeds in ahead)
    for (rows, random, _), images in zip(here, data.images.drawn(keys, spec), strict=True):
        yield as_float(images), data.labels[delivered(torch.from_numpy(rows), data.labels.device)], random


def in_order(images: Images, labels: Tensor, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """uint8 images and labels, `batch` at a time; nothing is drawn."""
    parts = torch.split(images, batch) if isinstance(images, Tensor) else images.batches(batch)
    return zip(parts, torch.split(labels, batch), strict=True)


def _seeds(count: int, random: torch.Generator, spec: Augmentation) -> list[int]:
    if spec.changes_nothing:
        return [0] * count
    seeds: list[int] = torch.randint(2**62, (count,), generator=random).tolist()
    return seeds
