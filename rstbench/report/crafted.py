"""What craft nodes say of their images: distances, queries, passes, time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstbench.plan import Plan, PlannedCell
from rstbench.report.measure import Records, SeedMeasurement
from rstbench.report.predictions import read_columns
from rstbench.store import Store


@dataclass(frozen=True)
class Crafted:
    """One craft node. Arrays (N,): test index, distances of the images as crafted, and queries if they were counted.

    forward, gradient: passes of one image through one network, mean over images; None if they were not counted.
    """

    index: NDArray[np.int64]
    linf: NDArray[np.float64]
    l2: NDArray[np.float64]
    queries: NDArray[np.int64] | None
    forward: float | None
    gradient: float | None


class CraftNodes:
    """The craft nodes of a plan, each read once."""

    def __init__(self, plan: Plan, store: Store, records: Records) -> None:
        self._plan, self._store, self._records = plan, store, records
        self._read: dict[str, Crafted | None] = {}

    def sources(self, cell: PlannedCell, position: int) -> list[str | None]:
        """The craft node behind each source of the cell, in order; None for clean images."""
        keys = []
        for row in cell.predictions[position]:
            node = self._plan.nodes.get(row[0])
            images = node.inputs.get("images", "") if node is not None else ""
            made = self._plan.nodes.get(images)
            keys.append(images if made is not None and made.kind == "craft" else None)
        return keys

    def read(self, key: str) -> Crafted | None:
        """What the store holds under `key`, or None. Raises `StoreError` if it is damaged."""
        if key not in self._read:
            columns = read_columns(self._store, key, ("index", "linf", "l2"), ("queries",))
            self._read[key] = None if columns is None else self._crafted(key, columns)
        return self._read[key]

    def distances(
        self, cell: PlannedCell, position: int, measured: SeedMeasurement | None
    ) -> tuple[float, float] | None:
        """Mean linf and L2 distances over images and the sources that the adversary draws from; None if not known."""
        keys = self.sources(cell, position)
        chosen = [keys[source] for source in used(cell, measured) or ()]
        made = [self.read(key) for key in chosen if key is not None]
        known = [each for each in made if each is not None]
        if not known or len(known) != len(chosen):
            return None
        linf = sum(float(each.linf.mean()) for each in known) / len(known)
        return linf, sum(float(each.l2.mean()) for each in known) / len(known)

    def _crafted(self, key: str, columns: dict[str, NDArray[Any]]) -> Crafted:
        passes = self._records.record(key).get("passes", {})
        count = len(columns["index"])

        def per_image(name: str) -> float | None:
            return float(passes[name]) / count if name in passes and count else None

        index, queries = columns["index"].astype(np.int64), columns.get("queries")
        linf, l2 = columns["linf"].astype(np.float64), columns["l2"].astype(np.float64)
        return Crafted(index, linf, l2, queries, per_image("forward"), per_image("gradient"))


def used(cell: PlannedCell, measured: SeedMeasurement | None) -> list[int] | None:
    """Numbers of the sources that the adversary draws from, uniformly; None where it chooses for each image."""
    if cell.score in ("pointwise", "game"):
        return None
    if cell.score == "worst_source":
        return None if measured is None or measured.worst_source is None else [measured.worst_source]
    return list(range(len(cell.sources)))


def distance_columns(linf: float, l2: float) -> dict[str, str]:
    """The columns `linf`, in units of 1/255, and `l2`, of a pair of mean distances."""
    return {"linf": f"{255 * linf:.3f}", "l2": f"{l2:.4f}"}
