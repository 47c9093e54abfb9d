"""Rows with made-up scores, for tests of the check."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rstbench.report.leaderboard.files import (
    Scores,
    evidence,
    json_beside,
    of_entry,
    read_csv,
    read_samples,
    samples_beside,
    write_csv,
    write_samples,
)
from rstbench.report.regression.rows import Row, SeedScores, Side


def row(
    *scores: np.ndarray,
    name: str = "rst",
    index: np.ndarray | None = None,
    networks: str = "",
    seeds: tuple[int, ...] | None = None,
    **more: object,
) -> Row:
    """A row with per-image scores, one array a seed. networks: name of every seed's network."""
    seeds = seeds if seeds is not None else tuple(range(len(scores)))
    index = np.arange(len(scores[0])) if index is None else index
    return Row(
        key=(name,),
        label=name,
        value=100 * float(np.mean(scores)),
        n=len(index),
        seeds=seeds,
        scores={seed: SeedScores(index, each, index % 10) for seed, each in zip(seeds, scores, strict=True)},
        networks={seed: (f"{networks}{seed}",) for seed in seeds} if networks else {},
        **more,  # type: ignore[arg-type]
    )


def side(*rows: Row, name: str = "side") -> Side:
    return Side(name, rows)


def verdicts(n: int, right: int) -> np.ndarray:
    """0/1 scores of n images, the first of them right."""
    return (np.arange(n) < right).astype(float)


def changed(scores: np.ndarray, fall: int, rise: int = 0) -> np.ndarray:
    """The same scores, but so many right ones wrong, and so many wrong ones right."""
    new = scores.copy()
    new[np.flatnonzero(scores == 1)[:fall]] = 0
    new[np.flatnonzero(scores == 0)[:rise]] = 1
    return new


def differences(fall: int, rise: int, n: int) -> np.ndarray:
    """Of 0/1 scores."""
    return np.repeat([-1.0, 1.0, 0.0], [fall, rise, n - fall - rise])


def planted(board: Path, out: Path, fall: int) -> Path:
    """A copy of a leaderboard whose first entry is wrong on so many more images under `worst`."""
    rows, samples = read_csv(board), read_samples(samples_beside(board))
    key = (rows[0]["entry"], "worst", 0)
    score = samples[key].score.copy()
    score[np.flatnonzero(score == 1)[:fall]] = 0
    samples[key] = Scores(samples[key].index, samples[key].label, score)
    rows[0]["worst"] = f"{100 * score.mean():.2f}"
    rows[0]["evidence"] = evidence(of_entry(samples, rows[0]["entry"]))
    out.mkdir()
    path = out / board.name
    write_csv(path, rows)
    write_samples(samples_beside(path), samples)
    json_beside(path).write_bytes(json_beside(board).read_bytes())
    return path
