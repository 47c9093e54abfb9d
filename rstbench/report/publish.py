"""Write the files of a run: table.csv, table.md, details.csv, transfer.csv, samples.parquet."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rstbench.errors import StoreError
from rstbench.plan import Plan, PlannedCell
from rstbench.report.details import details, transfer
from rstbench.report.markdown import markdown
from rstbench.report.measure import CellResult, measure_plan, read_seed
from rstbench.report.table import KEY, Counts, count, key_columns, tidy
from rstbench.spec.base import digest
from rstbench.store import Store

_SAMPLES_VERSION = 1
_CONTENT = b"rstbench.content"


@dataclass(frozen=True)
class Published:
    """What was written, and the frames behind it (`tidy`, `details`, `transfer`).

    answering: counts of the cells that answer the paper; further: of variants and of cells the paper does not have.
    """

    table_csv: Path
    table_md: Path
    details_csv: Path
    transfer_csv: Path
    samples: Path
    answering: Counts
    further: Counts
    frame: Any
    details: Any
    matrices: Any

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files."""
        return (self.table_csv, self.table_md, self.details_csv, self.transfer_csv, self.samples)


def publish(plan: Plan, store: Store, out: Path) -> Published:
    """Write the plan's results into the folder `out`, which is created; each file whole or not at all.

    Cells that are not (fully) in the store stay blank. Raises `StoreError` if `out` cannot be written or stored
    predictions are damaged, `SpecError` if two cells are one row.
    """
    results = measure_plan(plan, store)
    frame = tidy(plan, store, results)
    more = details(plan, store, results)
    matrices = transfer(plan, store, results)
    answering, further = count(results, True), count(results, False)
    out = Path(out)
    published = Published(
        out / "table.csv", out / "table.md", out / "details.csv", out / "transfer.csv", out / "samples.parquet",
        answering, further, frame, more, matrices,
    )  # fmt: skip
    page = markdown(plan, frame, more, matrices, answering, further)
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write_text(published.table_csv, _csv(frame))
        _write_text(published.details_csv, _csv(more))
        _write_text(published.transfer_csv, _csv(matrices))
        _write_text(published.table_md, page)
        _write_samples(published.samples, results, store)
    except OSError as error:
        raise StoreError(
            f"results cannot be written to {out} ({error.strerror or error}); choose another folder with --out"
        ) from error
    return published


def _csv(frame: Any) -> str:
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text


def _write_text(path: Path, text: str) -> None:
    _write(path, lambda temporary: temporary.write_bytes(text.encode("utf-8")))


def _write(path: Path, fill: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        fill(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_samples(path: Path, results: Sequence[CellResult], store: Store) -> None:
    import pyarrow
    import pyarrow.parquet

    complete = [
        (result.cell, position) for result in results for position, seed in enumerate(result.seeds) if seed is not None
    ]
    # Millions of rows for a large suite: a file that already holds exactly these predictions stays.
    content = digest(
        [
            _SAMPLES_VERSION,
            [[key_columns(cell), cell.sources, cell.members, cell.predictions[i]] for cell, i in complete],
        ]
    ).encode()
    with suppress(pyarrow.ArrowException, OSError):
        if (pyarrow.parquet.read_metadata(path).metadata or {}).get(_CONTENT) == content:
            return
    text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    schema = pyarrow.schema(
        [
            ("seed", pyarrow.int64()),
            *((name, text) for name in (*KEY, "source", "member")),
            *((name, pyarrow.int64()) for name in ("index", "label", "prediction")),
        ],
        metadata={_CONTENT: content},
    )

    def fill(temporary: Path) -> None:
        with pyarrow.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for table in _chunks(complete, store, schema):
                writer.write_table(table)

    _write(path, fill)


def _chunks(complete: Sequence[tuple[PlannedCell, int]], store: Store, schema: Any) -> Iterator[Any]:
    """One table for each cell and seed: samples of every source and member, in that order."""
    import pyarrow

    def labels(codes: Any, names: Sequence[str]) -> Any:
        return pyarrow.DictionaryArray.from_arrays(pyarrow.array(codes.astype(np.int32)), pyarrow.array(names))

    for cell, position in complete:
        read = read_seed(cell, position, store)
        if read is None:  # removed meanwhile
            continue
        n, sources, members = len(read[0][0].index), len(cell.sources), len(cell.members)
        rows = n * sources * members
        constant = np.zeros(rows)
        flat = [samples for row in read for samples in row]
        columns = {"seed": pyarrow.array(np.full(rows, cell.seeds[position], dtype=np.int64))}
        columns |= {name: labels(constant, [value]) for name, value in key_columns(cell).items()}
        columns["source"] = labels(np.repeat(np.arange(sources), members * n), list(cell.sources))
        columns["member"] = labels(np.tile(np.repeat(np.arange(members), n), sources), list(cell.members))
        for name in ("index", "label", "prediction"):
            columns[name] = pyarrow.array(np.concatenate([getattr(samples, name) for samples in flat]))
        yield pyarrow.table([columns[name] for name in schema.names], schema=schema)
