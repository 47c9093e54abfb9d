"""What an attack with smaller epsilons takes over: images that fool the network within one of them (`spec.reuse`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rstbench.errors import StoreError
from rstbench.evaluation.craft import Crafted
from rstbench.evaluation.files import IMAGES, SAMPLES, unpack_images, unpack_samples
from rstbench.evaluation.judge import predict
from rstbench.spec.base import distance
from rstbench.store import Value
from rstbench.training import Progress

FLAG = "reused_smaller_epsilon"


@dataclass(frozen=True)
class Kept:
    """The images of an attack at a smaller epsilon, and which of them need no other.

    images: float32 (N, C, H, W) on the CPU; fell: bool (N,), those that fool the network, as judged afresh. epsilons:
    float64 (N,), within which each was made, for it may have been kept there too; queries: int64 (N,) that a black box
    has spent on each, at all epsilons so far, else None.
    """

    images: Tensor
    fell: Tensor
    epsilons: NDArray[np.float64]
    queries: Tensor | None
    flags: frozenset[str]

    @property
    def rest(self) -> NDArray[np.int64]:
        """Places of the images that still stand."""
        return (~self.fell).nonzero().flatten().numpy()

    def completed(self, attack: Callable[[NDArray[np.int64]], Crafted]) -> Crafted:
        """All images: those kept, and in place of the others what `attack` makes at their places, if there are any.

        Queries are those of all epsilons together. Passes and seconds are those of this attack alone: the look at
        what there was before is a verdict. `images` is handed over, and changed.
        """
        if not len(self.rest):
            return Crafted(self.images, self.queries, tuple(sorted(self.flags)), forward=0, gradient=0, seconds=0.0)
        made, rest = attack(self.rest), torch.from_numpy(self.rest)
        self.images[rest] = made.images
        queries = made.queries
        if queries is not None and self.queries is not None:
            queries = self.queries.index_add(0, rest, queries)
        return replace(made, images=self.images, queries=queries, flags=tuple(sorted({*made.flags, *self.flags})))

    def within(self, epsilon: float) -> NDArray[np.float64]:
        """(N,): the epsilon within which each image was made, once the rest was attacked at `epsilon`."""
        return np.where(self.fell.numpy(), self.epsilons, epsilon)

    def counts(self, epsilons: Sequence[str | float]) -> dict[str, int]:
        """How many images were kept from each of the smaller epsilons, as their specs write them."""
        fell = self.fell.numpy()
        return {str(each): int((fell & (self.epsilons == distance(each))).sum()) for each in epsilons}


def kept_from(
    smaller: Value, rows: NDArray[np.int64], labels: Tensor, network: nn.Module, batch: int, progress: Progress
) -> Kept:
    """What a craft node at the next smaller epsilon leaves to the one after it.

    rows, labels: indices and classes (N,) of the images; network: the one that is attacked, as it will be judged: in
    fp32, on the exact images, at the numerical batch of the verdict. Raises `StoreError` if the node's images are not
    those of `rows`.
    """
    where = str(smaller.directory / SAMPLES)
    columns: dict[str, Any] = unpack_samples(smaller.read(SAMPLES), where, ("epsilon", "queries"))
    if not np.array_equal(columns["index"], rows):
        raise StoreError(f"{where}: the images of a smaller epsilon are others than those to attack")
    images = unpack_images(smaller.read(IMAGES), str(smaller.directory / IMAGES))
    predictions, fitted = predict(
        network, images, batch, lambda done, total, note: progress(0.0, total, "images of a smaller epsilon judged")
    )
    own = np.full(len(rows), distance(smaller.record["spec"]["attack"]["epsilon"]))
    queries = torch.from_numpy(columns["queries"].copy()) if "queries" in columns else None
    flags = {FLAG} | ({f"batch:halved_to_{fitted}"} if fitted < batch else set())
    return Kept(images, predictions != labels, columns.get("epsilon", own), queries, frozenset(flags))
