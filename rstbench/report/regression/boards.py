"""Rows of a leaderboard's CSV: one for every entry and metric, with the files beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rstbench.errors import StoreError
from rstbench.report.leaderboard.files import (
    Samples,
    json_beside,
    read_csv,
    read_json,
    read_samples,
    samples_beside,
)
from rstbench.report.leaderboard.schema import METRICS, Entry
from rstbench.report.leaderboard.schema import Row as Cells
from rstbench.report.regression.cells import percentage, whole
from rstbench.report.regression.rows import Row, SeedScores, Side
from rstbench.report.regression.tables import gives

IDENTITY = ("name", "defense", "network", "dataset", "norm", "epsilon", "members", "profile")
"""What an entry and its counterpart have in common. Not its `entry`, which is another once its networks are."""

_SETTING = {
    "adaptive": ("adaptive_attack",),
    "worst": ("worst_tries", "challengers"),
}
"""What else a metric depends on."""

Networks = Mapping[str, Mapping[int, tuple[str, ...]]]
"""By entry and seed: "key:digest" of each member."""


def read_board(path: Path, name: str = "") -> Side:
    """A leaderboard's CSV, and NAME.json and NAME.samples.parquet if they lie beside it. name: default: the path.

    Raises `StoreError` for files that are no leaderboard's, and for figures that are not those of the scores.
    """
    rows = read_csv(path)
    samples = read_samples(samples_beside(path)) if samples_beside(path).is_file() else {}
    networks = networks_of(read_json(json_beside(path)).entries) if json_beside(path).is_file() else {}
    return of_board(rows, samples, networks, name or str(path), path)


def networks_of(entries: Sequence[Entry]) -> dict[str, dict[int, tuple[str, ...]]]:
    """The member networks of entries, as `Networks`."""
    networks: dict[str, dict[int, tuple[str, ...]]] = {}
    for entry in entries:
        of_entry = networks.setdefault(entry.row["entry"], {})
        for each in entry.networks:
            text = f"{each.key}:{each.sha256 and f'{each.checkpoint} {each.sha256}'}"
            of_entry[each.seed] = (*of_entry.get(each.seed, ()), text)
    return networks


def of_board(rows: Sequence[Cells], samples: Samples, networks: Networks, name: str, where: Path) -> Side:
    """The same from what was read. where: for messages. Raises `StoreError` as `read_board`."""
    called = Counter(_identity(row) for row in rows)
    by_figure: dict[tuple[str, str], dict[int, SeedScores]] = {}
    for (entry, metric, seed), each in samples.items():
        by_figure.setdefault((entry, metric), {})[seed] = SeedScores(each.index, each.score, each.label)
    found = []
    for number, row in enumerate(rows, start=2):
        for metric in METRICS:
            if row[metric]:
                place = f"{where}: row {number}"
                scores = by_figure.get((row["entry"], metric), {})
                found.append(_row(row, metric, scores, networks, place, called[_identity(row)] > 1))
    notes = [] if samples else [f"{name}: no per-image scores beside it, so intervals are compared"]
    if any(count > 1 for count in called.values()):
        notes.append(f"{name}: entries alike in name and setting are told apart by their networks alone")
    return Side(name, tuple(found), tuple(notes))


def threat_of(row: Row) -> tuple[str, ...]:
    """Data set and norm of a leaderboard's row."""
    return tuple(row.key[IDENTITY.index(column)] for column in ("dataset", "norm"))


def _identity(row: Cells) -> tuple[str, ...]:
    return tuple(row[column] for column in IDENTITY)


def _row(row: Cells, metric: str, scores: Mapping[int, SeedScores], networks: Networks, where: str, twin: bool) -> Row:
    entry = row["entry"]
    value = percentage(where, metric, row[metric])
    if scores and not gives(scores, value):
        raise StoreError(
            f"{where}: {metric} is {row[metric]}, and its per-image scores give another mean: one of the two files is "
            "of another build, or was changed; `rstbench leaderboard verify` tells more"
        )
    ends = [row[f"{metric}_{end}"] for end in ("low", "high")]
    low, high = (percentage(where, f"{metric} interval", end) if end else None for end in ends)
    size = row[f"{metric}_n"]
    setting = {"data": row["data_fingerprint"].split(" ")[0][:12]}
    setting |= {column: row[column] for column in _SETTING.get(metric, ())}
    return Row(
        key=(*_identity(row), metric, entry if twin else ""),
        label=f"{row['name']}, {row['network']} on {row['dataset']}, {row['norm']} {row['epsilon']}, {metric}",
        value=value,
        low=low,
        high=high,
        n=whole(where, f"{metric}_n", size) if size else None,
        seeds=tuple(whole(where, "seeds", seed) for seed in row["seeds"].split()),
        scores=scores,
        networks=networks.get(entry, {}),
        evidence=f"{row['evidence']} {metric} {row[metric]}" if row["evidence"] else "",
        setting=setting,
        alias=(entry, metric),
    )
