"""Per-sample columns as the store holds them, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstbench.errors import StoreError
from rstbench.plan import PlannedCell
from rstbench.store import Store

SAMPLES = "samples.parquet"

Integers = NDArray[np.int64]
Keys = Sequence[Sequence[str]]
"""Keys of predict nodes, by source and member."""

_WHOLE_NUMBERS = ("index", "label", "prediction", "queries")


@dataclass(frozen=True)
class Samples:
    """Predictions of one network: test index, label and predicted class, each int64 (N,)."""

    index: Integers
    label: Integers
    prediction: Integers


def read_columns(
    store: Store, key: str, names: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, NDArray[Any]] | None:
    """Columns of a value's per-sample file, or None if the value is not in the store.

    optional: columns that are left out of the answer where the file does not have them. Raises `StoreError` if the
    file is damaged or lacks one of `names`.
    """
    if not store.has(key):
        return None
    value = store.value(key)
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(pyarrow.BufferReader(value.read(SAMPLES))) as file:
            there = [name for name in optional if name in file.schema_arrow.names]
            table = file.read(columns=[*names, *there], use_threads=False)
        columns = {name: table.column(name).to_numpy() for name in (*names, *there)}
    except (pyarrow.ArrowException, KeyError) as error:
        raise StoreError(
            f"{value.directory / SAMPLES}: not per-sample results with the columns {', '.join(names)} ({error})"
        ) from error
    for name, column in columns.items():
        if column.dtype.kind not in "iuf" or (name in _WHOLE_NUMBERS and column.dtype.kind == "f"):
            raise StoreError(f"{value.directory / SAMPLES}: column {name} holds {column.dtype}, or empty places")
    return columns


def read_samples(store: Store, key: str) -> Samples | None:
    """The predictions under `key`, or None if they are not in the store. Raises `StoreError` if they are damaged."""
    columns = read_columns(store, key, ("index", "label", "prediction"))
    if columns is None:
        return None
    samples = Samples(*(columns[name].astype(np.int64, copy=False) for name in ("index", "label", "prediction")))
    if len(samples.index) == 0 or len(np.unique(samples.index)) != len(samples.index):
        raise StoreError(f"{store.value(key).directory / SAMPLES}: no images, or one image more than once")
    return samples


def read_grid(keys: Keys, seed: int, store: Store) -> list[list[Samples]] | None:
    """Predictions by source and member; None if any is missing. seed: for messages.

    Raises `StoreError` if they do not concern the same images with the same labels.
    """
    if not all(store.has(key) for row in keys for key in row):
        return None
    first: Samples | None = None
    result: list[list[Samples]] = []
    for row in keys:
        read: list[Samples] = []
        for key in row:
            samples = read_samples(store, key)
            if samples is None:
                return None
            first = first or samples
            if not (np.array_equal(samples.index, first.index) and np.array_equal(samples.label, first.label)):
                raise StoreError(
                    f"value {key[:12]}: its images or labels are not those of {keys[0][0][:12]}, "
                    f"though both are predictions under seed {seed}"
                )
            read.append(samples)
        result.append(read)
    return result


def read_seed(cell: PlannedCell, position: int, store: Store) -> list[list[Samples]] | None:
    """`read_grid` of the cell's test images under its seed number `position`."""
    return read_grid(cell.predictions[position], cell.seeds[position], store)
