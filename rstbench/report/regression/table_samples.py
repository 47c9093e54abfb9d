"""Per-image scores from the samples.parquet that lies beside a table.csv."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstbench.errors import StoreError
from rstbench.report.regression.rows import SeedScores
from rstbench.report.table import KEY

MAX_SAMPLES_BYTES = 2**32
MAX_SAMPLES = 500_000_000

Codes = tuple[NDArray[np.int64], list[str]]
"""A column of text as numbers, and what they stand for."""


def read_scores(path: Path) -> tuple[dict[tuple[str, ...], dict[int, SeedScores]], bytes]:
    """Mean correctness of each image over sources and members, by `KEY` and seed; and what tells the file's content.

    Rows that lack a prediction of some source and member for some image are left out.
    Raises `StoreError` for a file that is not such samples, or too large.
    """
    import pyarrow
    import pyarrow.parquet

    numbers = ("seed", "index", "label", "prediction")
    text = (*KEY, "source", "member")
    try:
        if path.stat().st_size > MAX_SAMPLES_BYTES:
            raise StoreError(f"{path}: larger than any samples of ours")
        with pyarrow.parquet.ParquetFile(path) as file:
            if file.metadata.num_rows > MAX_SAMPLES:
                raise StoreError(f"{path}: {file.metadata.num_rows} predictions; more than any table of ours has")
            content = (file.metadata.metadata or {}).get(b"rstbench.content", b"")
            table = file.read(columns=[*text, *numbers], use_threads=False)
        columns = {name: table.column(name).to_numpy() for name in numbers}
        codes = {name: _codes(table.column(name)) for name in text}
    except (pyarrow.ArrowException, KeyError, ValueError, OSError) as error:
        raise StoreError(f"{path}: not the samples of a table ({error})") from error
    if any(column.dtype.kind != "i" for column in columns.values()):
        raise StoreError(f"{path}: a column of numbers holds none, or has empty places")
    return _means(columns, codes), content


def _codes(column: Any) -> Codes:
    """A column of text as numbers, and what they stand for. Raises KeyError for empty places."""
    import pyarrow

    # Chunks may number their texts differently.
    column = column.combine_chunks() if column.type == pyarrow.string() else column.cast(pyarrow.string())
    encoded = column.dictionary_encode()
    encoded = encoded.combine_chunks() if isinstance(encoded, pyarrow.ChunkedArray) else encoded
    if isinstance(encoded, pyarrow.ChunkedArray):
        encoded = encoded.chunk(0)
    if encoded.null_count:
        raise KeyError("a text is missing")
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def _means(
    columns: Mapping[str, NDArray[Any]],
    codes: Mapping[str, Codes],
) -> dict[tuple[str, ...], dict[int, SeedScores]]:
    found: dict[tuple[str, ...], dict[int, SeedScores]] = {}
    if not len(columns["seed"]):
        return found
    part = np.zeros(len(columns["seed"]), dtype=np.int64)
    for name in (*KEY, None):
        more = columns["seed"] if name is None else codes[name][0]
        values, inverse = np.unique(more, return_inverse=True)
        _, part = np.unique(part * len(values) + inverse, return_inverse=True)
    order = np.argsort(part, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(part[order])) + 1):
        first = rows[0]
        key = tuple(codes[name][1][codes[name][0][first]] for name in KEY)
        grid = codes["source"][0][rows] * len(codes["member"][1]) + codes["member"][0][rows]
        cells = len(np.unique(codes["source"][0][rows])) * len(np.unique(codes["member"][0][rows]))
        index, at, counts = np.unique(columns["index"][rows], return_inverse=True, return_counts=True)
        width = len(codes["source"][1]) * len(codes["member"][1])
        whole = len(np.unique(grid)) == cells and len(np.unique(at * width + grid)) == len(rows)
        if not whole or not bool(np.all(counts == cells)):
            continue
        right = (columns["prediction"][rows] == columns["label"][rows]).astype(np.float64)
        labels = np.zeros(len(index), dtype=np.int64)
        labels[at] = columns["label"][rows]
        score = np.round(np.bincount(at, right) / cells, 12)
        found.setdefault(key, {})[int(columns["seed"][first])] = SeedScores(index.astype(np.int64), score, labels)
    return found
