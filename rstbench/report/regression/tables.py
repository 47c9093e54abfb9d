"""Rows of a table.csv that `run` or `table` wrote, with the samples.parquet and details.csv beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rstbench.errors import StoreError
from rstbench.report.regression.cells import parse, percentage, read_bytes, whole
from rstbench.report.regression.rows import Row, SeedScores, Side
from rstbench.report.regression.table_samples import read_scores
from rstbench.report.table import COLUMNS, KEY

ACCURACIES = ("natural_acc", "robust_acc")
"""What the column `metric` says of an accuracy; other rows are not compared."""
IDENTITY = (*KEY, "run_dataset", "run_network", "run_eps", "profile")
"""What a row and its counterpart have in common."""

_PRINTED = 0.0051
"""How far a mean may lie from a number with two decimals that was made of it."""

SAMPLES = "samples.parquet"
DETAILS = "details.csv"


def read_table(path: Path, name: str = "") -> Side:
    """A table.csv and what lies beside it. name: for messages; default: the path.

    Per-image scores of a row are its predictions in samples.parquet, averaged over sources and members. They are used
    only where they give the number that the row prints; where an adversary chooses, or a switch draws its members
    unevenly, they do not, and the row is compared by its interval. Networks are those that details.csv names.
    Raises `StoreError` for a file that is absent, too large, or no such table.
    """
    data = read_bytes(path)
    records = parse(path, data, COLUMNS)
    beside = path.parent / SAMPLES
    scores, content = read_scores(beside) if beside.is_file() else ({}, b"")
    networks, fingerprints = _details(path.parent / DETAILS)
    evidence = hashlib.sha256(data + content).hexdigest()
    rows, skipped, unlike = [], 0, 0
    for number, record in enumerate(records, start=2):
        where = f"{path}: row {number}"
        if record["metric"] not in ACCURACIES:
            skipped += 1
            continue
        if not record["ours"]:
            continue
        value = percentage(where, "ours", record["ours"])
        key = tuple(record[column] for column in KEY)
        of_row = scores.get(key, {})
        if of_row and not gives(of_row, value):
            of_row, unlike = {}, unlike + 1
        rows.append(
            Row(
                key=tuple(record[column] for column in IDENTITY),
                label=label(record),
                value=value,
                low=percentage(where, "ci_low", record["ci_low"]) if record["ci_low"] else None,
                high=percentage(where, "ci_high", record["ci_high"]) if record["ci_high"] else None,
                n=whole(where, "n", record["n"]) if record["n"] else None,
                seeds=tuple(whole(where, "seeds", seed) for seed in record["seeds"].split()),
                scores=of_row,
                networks=networks.get(key, {}),
                evidence=evidence,
                setting={"substitutes": substitutes(record["flags"]), "data": fingerprints.get(key, "")},
            )
        )
    said = name or str(path)
    notes = [f"{said}: {skipped} rows are no accuracies and are not compared"] if skipped else []
    if not scores:
        notes.append(f"{said}: no {SAMPLES} beside it, so intervals are compared")
    if unlike:
        notes.append(
            f"{said}: of {unlike} rows (adversaries that choose) only intervals are compared; a store has more"
        )
    return Side(said, unique(rows, said), tuple(notes))


def unique(rows: Sequence[Row], name: str) -> tuple[Row, ...]:
    """Rows of one key each, the first of equal ones. Raises `StoreError` if two of one key differ."""
    found: dict[tuple[str, ...], Row] = {}
    for row in rows:
        there = found.setdefault(row.key, row)
        if there is not row and (there.value, there.n, there.seeds) != (row.value, row.n, row.seeds):
            raise StoreError(f"{name}: two rows are called {row.label!r}; name the suites that are meant")
    return tuple(found.values())


def label(record: Mapping[str, str]) -> str:
    """A row in words: all that tells it from the others of its table."""
    attack = "natural" if record["attack"] in ("", "none") else record["attack"]
    words = [f"table {record['table']}" if record["table"] else "", record["dataset"], record["network"]]
    defense = " ".join(filter(None, (record["defense"], record["ratio"] or record["candidate_set"])))
    attack += f" {record['norm']} {record['eps']}" if record["eps"] and record["attack"] != "none" else ""
    source = f"from {record['attack_source']}" if record["attack_source"] else ""
    return ", ".join(filter(None, (*words, defense, attack, source, record["variant"])))


def substitutes(flags: str) -> str:
    """Those flags that say what was run in place of the suite's own setting."""
    return " ".join(flag for flag in flags.split() if flag.startswith("substitute:"))


def gives(scores: Mapping[int, SeedScores], value: float) -> bool:
    """Whether scores have the mean that was printed (with two decimals)."""
    mean = 100 * float(np.mean([each.score.mean() for each in scores.values()]))
    return abs(mean - value) <= _PRINTED


def _details(path: Path) -> tuple[dict[tuple[str, ...], dict[int, tuple[str, ...]]], dict[tuple[str, ...], str]]:
    """Keys of the networks by row and seed, and the fingerprint of each row's data; nothing without the file."""
    networks: dict[tuple[str, ...], dict[int, tuple[str, ...]]] = {}
    fingerprints: dict[tuple[str, ...], str] = {}
    if not path.is_file():
        return networks, fingerprints
    for number, record in enumerate(parse(path, read_bytes(path), (*KEY, "seed", "network_keys")), start=2):
        key = tuple(record[column] for column in KEY)
        keys = tuple(record["network_keys"].split())
        if keys:
            networks.setdefault(key, {})[whole(f"{path}: row {number}", "seed", record["seed"])] = keys
        fingerprints[key] = " ".join(record.get("data_fingerprint", "").split()[:1])[:12]
    return networks, fingerprints
