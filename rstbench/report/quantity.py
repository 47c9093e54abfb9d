"""What `measure` nodes say: counts, bytes, distances and overlaps, as rows of the table beside accuracies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rstbench.errors import StoreError
from rstbench.plan import Node, PlannedCell
from rstbench.report.predictions import SAMPLES, read_columns
from rstbench.report.statistics import Interval, bootstrap_mean, t_of_means
from rstbench.store import Store


@dataclass(frozen=True)
class SeedQuantity:
    """A measure under one seed: its value in the metric's unit, and of each image, (N,), where images are measured.

    pairs: of an overlap, that of members i and j, both ways. by_chance: what random masks of as many weights would
    have, mean over pairs; None if not recorded.
    """

    kind: str
    seed: int
    value: float
    images: NDArray[np.float64] | None = None
    pairs: Mapping[tuple[int, int], float] = field(default_factory=dict)
    by_chance: float | None = None


@dataclass(frozen=True)
class Quantity:
    """A measure over all seeds of a cell.

    kind: of `spec.measures`. value: mean over seeds, in the metric's unit (parameters: millions; bytes: bytes; the
    others have none). interval: in that unit; None where nothing is drawn at random: a count, a number of bytes, the
    overlap of one seed's masks. n: test images, where images are measured.
    """

    kind: str
    value: float
    interval: Interval | None
    n: int | None
    seeds: tuple[SeedQuantity, ...]

    @property
    def pairs(self) -> dict[tuple[int, int], float]:
        """Of an overlap, that of members i and j, both ways, mean over seeds."""
        return {pair: float(np.mean([seed.pairs[pair] for seed in self.seeds])) for pair in self.seeds[0].pairs}

    @property
    def by_chance(self) -> float | None:
        """Of an overlap, what random masks of as many weights would have, mean over pairs and seeds."""
        found = [seed.by_chance for seed in self.seeds if seed.by_chance is not None]
        return float(np.mean(found)) if found and len(found) == len(self.seeds) else None

    def text(self, number: float) -> str:
        """A number of this kind as table.csv has it."""
        return quantity_text(self.kind, number)


def measure_kind(cell: PlannedCell, nodes: Mapping[str, Node]) -> str:
    """Kind of the measure behind a cell of the plan; empty for a cell that is an accuracy."""
    return str(nodes[cell.values[0]].spec["measure"]["kind"]) if cell.values else ""


def read_quantity(cell: PlannedCell, position: int, nodes: Mapping[str, Node], store: Store) -> SeedQuantity | None:
    """The measure under the cell's seed number `position`, or None if it is not in the store.

    Raises `StoreError` if it is damaged.
    """
    key = cell.values[position]
    if not store.has(key):
        return None
    record, kind = store.value(key).record, measure_kind(cell, nodes)
    value = record.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise StoreError(f"value {key[:12]}: it is a measure, and its record holds no number as `value`")
    if SAMPLES not in record["files"]:
        pairs = {pair: float(shared) for i, j, shared in record.get("pairs", ()) for pair in ((i, j), (j, i))}
        by_chance = record.get("by_chance")
        return SeedQuantity(
            kind, cell.seeds[position], float(value), None, pairs, None if by_chance is None else float(by_chance)
        )
    columns = read_columns(store, key, ("index", "value"))
    images = None if columns is None else columns["value"].astype(np.float64)
    if images is None or len(images) == 0 or not bool(np.isfinite(images).all()):
        raise StoreError(f"value {key[:12]}: its values of single images are missing, or no numbers")
    return SeedQuantity(kind, cell.seeds[position], float(value), images)


def combine_quantities(seeds: Sequence[SeedQuantity | None]) -> Quantity | None:
    """The quantity over seeds, given in the cell's order; None if one is missing.

    Several seeds of a distance or an overlap have Student's t over seeds; one seed of a distance has a bootstrap over
    its images. Raises `StoreError` if seeds have different numbers of images.
    """
    present = [seed for seed in seeds if seed is not None]
    if not present or len(present) != len(seeds):
        return None
    kind = present[0].kind
    sizes = {None if seed.images is None else len(seed.images) for seed in present}
    if len(sizes) > 1:
        raise StoreError(f"a {kind} is of {' and '.join(map(str, sizes))} images under different seeds")
    values = [seed.value for seed in present]
    interval: Interval | None = None
    if kind in _DRAWN and len(present) > 1:
        interval = t_of_means(values)
    elif present[0].images is not None:
        interval = bootstrap_mean(present[0].images)
    return Quantity(kind, float(np.mean(values)), interval, sizes.pop(), tuple(present))


_DRAWN = ("feature_distance", "mask_overlap")
"""What another seed would change; parameters do not change, and bytes but for the entropy of masks."""


def quantity_text(kind: str, number: float) -> str:
    """A number as table.csv has it: millions with two decimals, whole bytes, else four significant digits."""
    if kind == "parameters":
        return f"{number:.2f}"
    if kind == "bytes":
        return str(round(number))
    return f"{number + 0.0:#.4g}"
