"""What craft nodes say of their images: distances, queries, passes, time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstbench.plan import Plan, PlannedCell
from rstbench.report.measure import Records, SeedMeasurement
from rstbench.report.parts import images_of
from rstbench.report.predictions import read_columns
from rstbench.store import Store

Keys = tuple[str, ...]
"""Craft nodes of the same images: one, or one for each part."""


@dataclass(frozen=True)
class Crafted:
    """The images made against one source. Arrays (N,): test index, distances as crafted, and queries if counted.

    forward, gradient: passes of one image through one network, mean over images, those at smaller epsilons whose
    images were kept included; None if they were not counted.
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
        self._read: dict[str, dict[str, NDArray[Any]] | None] = {}

    def sources(self, cell: PlannedCell, position: int) -> list[Keys]:
        """The craft nodes behind each source of the cell, in order: one, or one for each part; none for clean images.

        Empty for a measure, which has no sources.
        """
        nodes = self._plan.nodes
        rows = cell.predictions[position] if cell.predictions else ()
        return [tuple(key for key in images_of(row[0], nodes) if nodes[key].kind == "craft") for row in rows]

    def read(self, keys: Keys) -> Crafted | None:
        """What the store holds under `keys`, parts one after the other, or None if there are none or one is missing.

        Raises `StoreError` if it is damaged.
        """
        parts = [self._columns(key) for key in keys]
        known = [part for part in parts if part is not None]
        if not known or len(known) != len(parts):
            return None
        names = [name for name in known[0] if all(name in part for part in known)]
        return self._crafted(keys, {name: np.concatenate([part[name] for part in known]) for name in names})

    def _columns(self, key: str) -> dict[str, NDArray[Any]] | None:
        if key not in self._read:
            self._read[key] = read_columns(self._store, key, ("index", "linf", "l2"), ("queries",))
        return self._read[key]

    def distances(
        self, cell: PlannedCell, position: int, measured: SeedMeasurement | None
    ) -> tuple[float, float] | None:
        """Mean linf and L2 distances over images and the sources that the adversary draws from; None if not known."""
        keys = self.sources(cell, position)
        chosen = [keys[source] for source in used(cell, measured) or ()]
        made = [self.read(each) for each in chosen if each]
        known = [each for each in made if each is not None]
        if not known or len(known) != len(chosen):
            return None
        linf = sum(float(each.linf.mean()) for each in known) / len(known)
        return linf, sum(float(each.l2.mean()) for each in known) / len(known)

    def _with_smaller(self, keys: Keys) -> list[str]:
        """The nodes, and those at the smaller epsilons that they keep images from."""
        found = list(keys)
        for key in found:  # grows as it goes
            found += [before for role, before in self._plan.nodes[key].inputs.items() if role == "smaller"]
        return found

    def _crafted(self, keys: Keys, columns: dict[str, NDArray[Any]]) -> Crafted:
        passes = [self._records.record(key).get("passes", {}) for key in self._with_smaller(keys)]
        count = len(columns["index"])

        def per_image(name: str) -> float | None:
            counted = [float(each[name]) for each in passes if name in each]
            return sum(counted) / count if count and len(counted) == len(passes) else None

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
