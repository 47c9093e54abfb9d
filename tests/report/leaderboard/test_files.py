"""The files of a leaderboard: what is written is read back; what is not of their form is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from rstbench.errors import StoreError
from rstbench.report.leaderboard.files import (
    Scores,
    board_name,
    evidence,
    json_beside,
    neutral,
    of_entry,
    read_csv,
    read_json,
    read_samples,
    samples_beside,
    write_samples,
)
from rstbench.report.leaderboard.schema import COLUMNS, METRICS
from tests.report.leaderboard.examples import example


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = example(tmp_path, 5, epsilons=("8/255", "12/255"))
    rows, board, samples = read_csv(path), read_json(json_beside(path)), read_samples(samples_beside(path))
    assert [each.row for each in board.entries] == rows and len(rows) == 5
    for row in rows:
        own = of_entry(samples, row["entry"])
        assert evidence(own) == row["evidence"]
        for metric in METRICS:
            assert ((metric, 0) in own) == bool(row[metric])
            if row[metric]:
                assert f"{100 * own[metric, 0].score.mean():.2f}" == row[metric]


def test_the_csv_opens_in_pandas_and_spreadsheets(tmp_path: Path) -> None:
    named = {"name": '=HYPERLINK("http://x";"y")', "challengers": "+49 @me", "hardware": "Prüfstand, 2 Kerne"}
    path = example(tmp_path, 3, changes={1: named})
    data = path.read_bytes()
    assert b"\r" not in data and data.decode("utf-8").count("\n") == 4
    frame = pd.read_csv(path)
    assert list(frame.columns) == list(COLUMNS) and len(frame) == 3
    assert frame["worst"].dtype == float and pd.to_datetime(frame["date"], format="%Y-%m-%d").notna().all()
    cells = [cell for row in csv.reader(data.decode("utf-8").splitlines()) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert '\'=HYPERLINK("http://x";"y")' in cells and "Prüfstand, 2 Kerne" in cells
    entry = next(row["entry"] for row in read_csv(path) if row["name"] == neutral(named["name"]))
    found = read_json(json_beside(path)).entry(entry)
    assert found is not None and found.row["name"] == named["name"]


def test_evidence_covers_every_score_and_not_their_order() -> None:
    scores = Scores(np.array([4, 2, 9]), np.array([1, 0, 3]), np.array([0.5, 1.0, 0.0]))
    turned = Scores(scores.index[::-1], scores.label[::-1], scores.score[::-1])
    assert evidence({("worst", 0): scores}) == evidence({("worst", 0): turned})
    for other in (
        {("worst", 1): scores},
        {("clean", 0): scores},
        {("worst", 0): Scores(scores.index, scores.label, np.array([0.5, 1.0, 1e-9]))},
        {("worst", 0): Scores(scores.index, scores.label + 1, scores.score)},
        {("worst", 0): Scores(scores.index + 1, scores.label, scores.score)},
    ):
        assert evidence(other) != evidence({("worst", 0): scores})


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda text: text.replace("rank,entry", "rang,entry"), "no column 'rank'"),
        (lambda text: text.replace("rank,entry", "entry,rank"), "out of order"),
        (lambda text: text + "1,2\n", "has 2 cells"),
        (lambda text: text + text.split("\n", 1)[1], "two of it"),
        (lambda text: "", "no column 'rank'"),
        (lambda text: text + '"', "not a CSV file"),
    ],
)
def test_csv_files_of_another_form_are_refused(tmp_path: Path, damage: object, words: str) -> None:
    path = example(tmp_path, 2)
    assert callable(damage)
    path.write_text(damage(path.read_text()))
    with pytest.raises(StoreError, match=words):
        read_csv(path)


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda whole: [], "not a leaderboard of this version"),
        (lambda whole: {**whole, "schema": 2}, '"schema": 1'),
        (lambda whole: {**whole, "entries": [1]}, "not a leaderboard"),
        (lambda whole: {**whole, "norm": "l1"}, "norm"),
        (lambda whole: {**whole, "entries": [{**whole["entries"][0], "rank": 1}]}, "row.rank"),
        (lambda whole: {**whole, "entries": [{**whole["entries"][0], "more": 1}]}, "more"),
        (lambda whole: {**whole, "entries": [{k: v for k, v in whole["entries"][0].items() if k != "worst"}]}, "worst"),
    ],
)
def test_json_files_of_another_form_are_refused(tmp_path: Path, damage: object, words: str) -> None:
    path = json_beside(example(tmp_path, 2))
    assert callable(damage)
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(StoreError, match=words):
        read_json(path)


def test_what_is_no_json_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(StoreError, match="no such file"):
        read_json(path)
    for data in (b"\xff", b"[" * 100_000, b"{"):
        path.write_bytes(data)
        with pytest.raises(StoreError, match="not JSON"):
            read_json(path)


@pytest.mark.parametrize(
    "column, values, words",
    [
        ("score", [0.5, 1.5], "within"),
        ("score", [0.5, float("nan")], "within"),
        ("score", ["a", "b"], "not of its kind"),
        ("index", [0, 0], "more than once"),
        ("index", [0, None], "not of its kind"),
        ("label", [0.5, 1.0], "not of its kind"),
        ("entry", ["aaaaaaaaaaaa", None], "no empty places"),
        ("metric", None, "not the per-image scores"),
        ("metric", ["worst", "best"], "something else than"),
        ("entry", np.array([b"\xff", b"a"], dtype=object), "not the per-image scores"),
    ],
)
def test_scores_of_another_form_are_refused(tmp_path: Path, column: str, values: object, words: str) -> None:
    columns: dict[str, object] = {
        "entry": ["aaaaaaaaaaaa"] * 2, "metric": ["worst"] * 2, "seed": [0, 0], "index": [0, 1], "label": [3, 4],
        "score": [0.5, 1.0],
    }  # fmt: skip
    columns[column] = values
    path = tmp_path / "x.samples.parquet"
    pyarrow.parquet.write_table(pyarrow.table({k: v for k, v in columns.items() if v is not None}), path)
    with pytest.raises(StoreError, match=words):
        read_samples(path)


def test_no_scores_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "x.samples.parquet"
    write_samples(path, {})
    assert read_samples(path) == {}


def test_names_of_files_are_safe() -> None:
    assert board_name("../a b/ü", "l2") == "a-b_l2" and board_name("cifar10", "linf") == "cifar10_linf"
    assert board_name("//", "linf") == "data_linf"
    assert samples_beside(Path("a/b.csv")) == Path("a/b.samples.parquet")
