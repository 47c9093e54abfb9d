"""samples.parquet: every prediction on test images behind the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rstbench.plan import Plan, PlannedCell
from rstbench.report.measure import CellResult
from rstbench.report.predictions import read_samples
from rstbench.report.reliability import defense_of
from rstbench.report.table import KEY, key_columns
from rstbench.spec.base import digest
from rstbench.store import Store

_VERSION = 2
_CONTENT = b"rstbench.content"


@dataclass(frozen=True)
class _Part:
    """One cell under one seed, and those of its predictions that stand here: (source, member, key)."""

    cell: PlannedCell
    seed: int
    predictions: tuple[tuple[int, int, str], ...]


class Samples:
    """The file's content: one row for each seed, cell, source, member and test image.

    Predictions that an adversary chooses among stand with the attack that made the images; with the adversary's own row
    stand only those that no other row of this defense has. Predictions on held-out images stay in the store.
    """

    def __init__(self, plan: Plan, results: Sequence[CellResult], store: Store) -> None:
        self._store = store
        self._parts = _parts(plan, results)
        parts = [[key_columns(p.cell), p.cell.sources, p.cell.members, p.predictions] for p in self._parts]
        self._content = digest([_VERSION, parts]).encode()

    def are_in(self, path: Path) -> bool:
        """Whether the file holds exactly these predictions: with millions of rows, it had better stay."""
        import pyarrow
        import pyarrow.parquet

        with suppress(pyarrow.ArrowException, OSError):
            return bool((pyarrow.parquet.read_metadata(path).metadata or {}).get(_CONTENT) == self._content)
        return False

    def fill(self, path: Path) -> None:
        """Write the file, one cell and seed after the other."""
        import pyarrow
        import pyarrow.parquet

        text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
        schema = pyarrow.schema(
            [
                ("seed", pyarrow.int64()),
                *((name, text) for name in (*KEY, "source", "member")),
                *((name, pyarrow.int64()) for name in ("index", "label", "prediction")),
            ],
            metadata={_CONTENT: self._content},
        )
        with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
            for table in self._tables(schema):
                writer.write_table(table)

    def _tables(self, schema: Any) -> Iterator[Any]:
        """One table for each part: samples of every source and member, in that order."""
        import pyarrow

        def labels(codes: Any, names: Sequence[str]) -> Any:
            return pyarrow.DictionaryArray.from_arrays(pyarrow.array(codes.astype(np.int32)), pyarrow.array(names))

        for part in self._parts:
            read = [read_samples(self._store, key) for _, _, key in part.predictions]
            flat = [samples for samples in read if samples is not None]
            if len(flat) != len(read) or not flat:  # removed meanwhile, or all of it stands elsewhere
                continue
            n = len(flat[0].index)
            rows = n * len(flat)
            constant = np.zeros(rows)
            columns = {"seed": pyarrow.array(np.full(rows, part.seed, dtype=np.int64))}
            columns |= {name: labels(constant, [value]) for name, value in key_columns(part.cell).items()}
            columns["source"] = labels(np.repeat([s for s, _, _ in part.predictions], n), list(part.cell.sources))
            columns["member"] = labels(np.repeat([m for _, m, _ in part.predictions], n), list(part.cell.members))
            for name in ("index", "label", "prediction"):
                columns[name] = pyarrow.array(np.concatenate([getattr(samples, name) for samples in flat]))
            yield pyarrow.table([columns[name] for name in schema.names], schema=schema)


def _parts(plan: Plan, results: Sequence[CellResult]) -> list[_Part]:
    complete = [
        (result.cell, position) for result in results for position, seed in enumerate(result.seeds) if seed is not None
    ]
    written = {
        (defense_of(cell, plan.nodes), key)
        for cell, position in complete
        if cell.score == "mean"
        for row in cell.predictions[position]
        for key in row
    }
    parts = []
    for cell, position in complete:
        predictions = [(s, m, key) for s, row in enumerate(cell.predictions[position]) for m, key in enumerate(row)]
        if cell.score != "mean":
            defense = defense_of(cell, plan.nodes)
            predictions = [each for each in predictions if (defense, each[2]) not in written]
            written |= {(defense, key) for _, _, key in predictions}
        parts.append(_Part(cell, cell.seeds[position], tuple(predictions)))
    return parts
