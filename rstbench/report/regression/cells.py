"""Cells of a CSV file that anybody may have written."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from rstbench.errors import StoreError

MAX_BYTES = 64 * 2**20
_MAX_HEADER_BYTES = 2**16


def read_bytes(path: Path) -> bytes:
    """The bytes of a CSV file. Raises `StoreError` if it cannot be read, or is larger than any of ours."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise StoreError(f"{path}: {path.stat().st_size} bytes; a table has at most {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error


def parse(path: Path, data: bytes, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV file that has these columns. Raises `StoreError` if it does not, or is no CSV."""
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise StoreError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    missing = [name for name in columns if not rows or name not in rows[0]]
    if missing:
        raise StoreError(
            f"{path}: no column {missing[0]!r}; the CSV of a leaderboard, or a table.csv of this version, was expected"
        )
    for line, cells in enumerate(rows[1:], start=2):
        if len(cells) != len(rows[0]):
            raise StoreError(f"{path}: row {line} has {len(cells)} cells, not {len(rows[0])}")
    return [dict(zip(rows[0], cells, strict=True)) for cells in rows[1:]]


def percentage(where: str, column: str, text: str) -> float:
    """A number from 0 to 100. Raises `StoreError` for any other text."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise StoreError(f"{where}: {column} is {text[:40]!r}; a percentage was expected")
    return value


def whole(where: str, column: str, text: str) -> int:
    """A whole number, not negative. Raises `StoreError` for any other text."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 20):
        raise StoreError(f"{where}: {column} is {text[:40]!r}; a whole number was expected")
    return int(text)


def header(path: Path) -> list[str]:
    """Names of the columns of a CSV file. Raises `StoreError` if it cannot be read, or is no CSV."""
    try:
        with path.open("rb") as file:
            line = file.readline(_MAX_HEADER_BYTES)
        return next(csv.reader([line.decode("utf-8-sig")], strict=True), [])
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise StoreError(f"{path}: not a CSV file in UTF-8 ({error})") from error
