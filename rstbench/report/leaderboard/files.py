"""Reading and writing the three files of a leaderboard. What is read may come from anybody, so all of it is checked.

NAME.csv has the rows, NAME.json what is behind them, NAME.samples.parquet the per-image scores.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from rstbench.errors import StoreError
from rstbench.report.files import write, write_text
from rstbench.report.leaderboard.schema import COLUMNS, METRICS, SCHEMA, Board, Entry, Row

MAX_CSV_BYTES = 64 * 2**20
MAX_JSON_BYTES = 512 * 2**20
MAX_SAMPLES_BYTES = 2**30
MAX_SAMPLES = 64_000_000
"""What nothing of ours comes near; larger files are refused before they are read."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Scores:
    """Of one metric under one seed: test index and label, int64 (N,); expected correctness in [0, 1], float64 (N,)."""

    index: NDArray[np.int64]
    label: NDArray[np.int64]
    score: NDArray[np.float64]


Samples = dict[tuple[str, str, int], Scores]
"""(entry, metric, seed) -> scores."""


def board_name(dataset: str, norm: str) -> str:
    """Stem of the files of a data set and norm: letters, digits, dot, dash and underscore only."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', dataset).strip('.-') or 'data'}_{norm}"


def json_beside(path: Path) -> Path:
    """NAME.json of NAME.csv."""
    return path.with_name(f"{path.stem}.json")


def samples_beside(path: Path) -> Path:
    """NAME.samples.parquet of NAME.csv."""
    return path.with_name(f"{path.stem}.samples.parquet")


def neutral(text: str) -> str:
    """The text as a cell that no spreadsheet takes for a formula: one that begins like one gets a ' before it."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def evidence(scores: Mapping[tuple[str, int], Scores]) -> str:
    """SHA-256 (hex) of the scores behind an entry, by (metric, seed): the CSV's column `evidence`.

    Covers metric, seed, indices, labels, and scores to twelve digits. The order of images does not matter.
    """
    sha = hashlib.sha256(b"rstbench leaderboard evidence 1\n")
    for (metric, seed), each in sorted(scores.items()):
        order = np.argsort(each.index, kind="stable")
        sha.update(f"{metric} {seed} {len(order)}\n".encode())
        for column in (each.index, each.label):
            sha.update(np.ascontiguousarray(column[order], dtype="<i8").tobytes())
        # + 0.0: minus zero is zero.
        sha.update(np.ascontiguousarray(np.round(each.score[order], 12) + 0.0, dtype="<f8").tobytes())
    return sha.hexdigest()


def of_entry(samples: Samples, entry: str) -> dict[tuple[str, int], Scores]:
    """The scores of one entry, by (metric, seed)."""
    return {(metric, seed): each for (name, metric, seed), each in samples.items() if name == entry}


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write rows under `COLUMNS`: UTF-8, line ends \\n, formulas neutralised. Raises OSError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([neutral(row[name]) for name in COLUMNS] for row in rows)
    write_text(path, text.getvalue())


def read_csv(path: Path) -> list[Row]:
    """The rows of a leaderboard's CSV, in order, cells as they stand (with the ' before what looks like a formula).

    Raises `StoreError` for a file that is not there, too large, no UTF-8, or not of `COLUMNS`.
    """
    try:
        text = _bytes(path, MAX_CSV_BYTES).decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise StoreError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    if not rows or rows[0] != list(COLUMNS):
        missing = [name for name in COLUMNS if not rows or name not in rows[0]]
        more = [name for name in (rows[0] if rows else []) if name not in COLUMNS]
        words = [f"no column {missing[0]!r}"] if missing else [f"unknown column {more[0]!r}"] if more else []
        raise StoreError(f"{path}: not a leaderboard of this version ({words[0] if words else 'columns out of order'})")
    found = []
    for line, cells in enumerate(rows[1:], start=2):
        if len(cells) != len(COLUMNS):
            raise StoreError(f"{path}: row {line} has {len(cells)} cells, not {len(COLUMNS)}")
        found.append(dict(zip(COLUMNS, cells, strict=True)))
    for name, count in Counter(row["entry"] for row in found).items():
        if not re.fullmatch(r"[0-9a-f]{12}", name) or count > 1:
            raise StoreError(f"{path}: entry {name!r} is not 12 hex digits, or there are two of it")
    return found


def write_json(path: Path, board: Board) -> None:
    """Write a board. Raises OSError."""
    entries = []
    for each in board.entries:
        fields = each.model_dump(mode="json")
        entries.append({**fields.pop("row"), **fields})
    whole = {"schema": SCHEMA, "dataset": board.dataset, "norm": board.norm, "entries": entries}
    write_text(path, json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Board:
    """A board. Raises `StoreError` for a file that is not there, too large, or not of this form."""
    try:
        whole = json.loads(_bytes(path, MAX_JSON_BYTES).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: not JSON ({error})") from error
    if not isinstance(whole, dict) or whole.get("schema") != SCHEMA:
        raise StoreError(f'{path}: not a leaderboard of this version, which begins with "schema": {SCHEMA}')
    try:
        entries = [_entry(each) for each in whole["entries"]]
        return Board(dataset=whole["dataset"], norm=whole["norm"], entries=tuple(entries))
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path}: not a leaderboard of this version ({error!r})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StoreError(f"{path}: not a leaderboard of this version ({where}: {first['msg']})") from error


def _entry(fields: dict[str, Any]) -> Entry:
    row = {name: fields[name] for name in COLUMNS}
    rest = {name: value for name, value in fields.items() if name not in COLUMNS}
    return Entry.model_validate({"row": row, **rest})


def write_samples(path: Path, samples: Samples) -> None:
    """Write scores, in the order of entry, metric and seed. Raises OSError."""
    import pyarrow
    import pyarrow.parquet

    text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    kinds = {"index": pyarrow.int64(), "label": pyarrow.int64(), "score": pyarrow.float64()}
    schema = pyarrow.schema([("entry", text), ("metric", text), ("seed", pyarrow.int64()), *kinds.items()])
    parts = [(key, samples[key]) for key in sorted(samples)]

    def fill(temporary: Path) -> None:
        with pyarrow.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
            names, metrics = sorted({k[0] for k, _ in parts}), list(METRICS)
            codes = [np.full(len(s.index), names.index(k[0]), dtype=np.int32) for k, s in parts]
            of = [np.full(len(s.index), metrics.index(k[1]), dtype=np.int32) for k, s in parts]
            seeds = [np.full(len(s.index), k[2], dtype=np.int64) for k, s in parts]
            columns = [
                pyarrow.DictionaryArray.from_arrays(
                    pyarrow.array(_joined(codes, np.int32)), pyarrow.array(names, pyarrow.string())
                ),
                pyarrow.DictionaryArray.from_arrays(pyarrow.array(_joined(of, np.int32)), pyarrow.array(metrics)),
                pyarrow.array(_joined(seeds, np.int64)),
                pyarrow.array(_joined([s.index for _, s in parts], np.int64)),
                pyarrow.array(_joined([s.label for _, s in parts], np.int64)),
                pyarrow.array(_joined([s.score for _, s in parts], np.float64)),
            ]
            writer.write_table(pyarrow.table(columns, schema=schema))

    write(path, fill)


def _joined(parts: Sequence[NDArray[Any]], kind: type) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype=kind), *parts]).astype(kind)


def read_samples(path: Path) -> Samples:
    """The scores of all entries, by (entry, metric, seed).

    Raises `StoreError` for a file that is not there, too large, or not of this form: columns, kinds, empty places,
    scores outside [0, 1], an image twice.
    """
    import pyarrow
    import pyarrow.parquet

    data = _bytes(path, MAX_SAMPLES_BYTES)
    try:
        with pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data)) as file:
            if file.metadata.num_rows > MAX_SAMPLES:
                raise StoreError(f"{path}: {file.metadata.num_rows} scores; more than any leaderboard of ours")
            table = file.read(columns=["entry", "metric", "seed", "index", "label", "score"], use_threads=False)
        text = {name: _encoded(table.column(name)) for name in _TEXT}
        whole = {name: table.column(name).to_numpy() for name in _WHOLE}
        score = table.column("score").to_numpy()
    except (pyarrow.ArrowException, KeyError, OSError, ValueError) as error:
        raise StoreError(f"{path}: not the per-image scores of a leaderboard ({error})") from error
    if any(column.dtype.kind != "i" for column in whole.values()) or score.dtype.kind != "f":
        raise StoreError(f"{path}: a column is not of its kind, or has empty places")
    if not set(text["metric"][1]) <= set(METRICS):
        raise StoreError(f"{path}: scores of something else than {', '.join(METRICS)}")
    if not bool(np.all((score >= 0) & (score <= 1))):
        raise StoreError(f"{path}: a score is not within [0, 1]")
    return _grouped(text, whole, score.astype(np.float64), path)


_TEXT = ("entry", "metric")
_WHOLE = ("seed", "index", "label")


def _encoded(column: Any) -> tuple[NDArray[Any], list[str]]:
    """A column of text as numbers of its distinct texts: millions of rows have few. Raises ValueError for another."""
    import pyarrow

    kind = column.type.value_type if pyarrow.types.is_dictionary(column.type) else column.type
    if not pyarrow.types.is_string(kind) or column.null_count:
        raise ValueError("entry and metric are text, with no empty places")
    whole = column.dictionary_encode().unify_dictionaries().combine_chunks()
    if isinstance(whole, pyarrow.ChunkedArray):  # of no chunk
        return np.zeros(0, dtype=np.int32), []
    names, places = np.unique(np.asarray(whole.dictionary.to_pylist(), dtype=object), return_inverse=True)
    return places.astype(np.int32)[whole.indices.to_numpy()], names.tolist()


def _grouped(
    text: Mapping[str, tuple[NDArray[Any], list[str]]],
    whole: Mapping[str, NDArray[Any]],
    score: NDArray[np.float64],
    path: Path,
) -> Samples:
    if not len(score):
        return {}
    (entry, entries), (metric, metrics) = text["entry"], text["metric"]
    order = np.lexsort((whole["seed"], metric, entry))
    codes = np.stack([entry[order], metric[order], whole["seed"][order]])
    starts = [0, *(np.flatnonzero((codes[:, 1:] != codes[:, :-1]).any(axis=0)) + 1).tolist()]
    found: Samples = {}
    for begin, end in zip(starts, [*starts[1:], len(order)], strict=True):
        rows = np.sort(order[begin:end])  # as they stand in the file
        index = whole["index"][rows].astype(np.int64)
        if len(np.unique(index)) != len(index):
            raise StoreError(f"{path}: one image more than once under one entry, metric and seed")
        key = (entries[entry[rows[0]]], metrics[metric[rows[0]]], int(whole["seed"][rows[0]]))
        found[key] = Scores(index, whole["label"][rows].astype(np.int64), score[rows])
    return found


def _bytes(path: Path, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise StoreError(f"{path}: {path.stat().st_size} bytes; a file of a leaderboard has at most {limit}")
        return path.read_bytes()
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file; `rstbench leaderboard build` writes it") from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error
