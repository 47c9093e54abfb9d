"""Rows as they are read: from tables, leaderboards and stores."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from rstbench.errors import StoreError
from rstbench.report.leaderboard.files import (
    json_beside,
    read_csv,
    samples_beside,
    write_csv,
)
from rstbench.report.publish import publish
from rstbench.report.regression.boards import read_board
from rstbench.report.regression.cells import header, percentage, whole
from rstbench.report.regression.options import Options
from rstbench.report.regression.plans import read_plans
from rstbench.report.regression.rows import Row, Side
from rstbench.report.regression.tables import read_table, unique
from rstbench.report.regression.verdicts import Check, Verdict, check
from rstbench.store import Store
from tests.report.battery_suite import BATTERY_SUITE
from tests.report.leaderboard.examples import example
from tests.report.planned import fill, small_plan
from tests.report.regression.sides import planted


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk is most of the time of small stores, and these need not outlive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def all_same(before: Side, after: Side) -> bool:
    found = check(before, after, Options())
    return all(row.verdict is Verdict.same for row in found.rows) and found.exit_code == 0


def test_a_table_and_the_store_behind_it_are_the_same_rows(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    store = fill(plan, Store(tmp_path / "store"))
    out = publish(plan, store, tmp_path / "out").table_csv
    table, stored = read_table(out), read_plans([plan], store, "store")
    assert [row.key for row in table.rows] == [row.key for row in stored.rows] and len(table.rows) == 6
    assert all_same(table, table) and all_same(stored, stored)
    found = [row.verdict for row in check(table, stored, Options()).rows]
    assert found == [Verdict.same] * 4 + [Verdict.cannot_tell] * 2
    for one, other in zip(table.rows, stored.rows, strict=True):
        assert one.value == other.value and one.n == other.n == 40 and one.networks.keys() == {0}
        if one.scores:
            assert np.array_equal(one.scores[0].score, other.scores[0].score)
            assert np.array_equal(one.scores[0].index, other.scores[0].index)
    # The uneven switch: the samples do not say how it draws.
    assert [bool(row.scores) for row in table.rows] == [True] * 4 + [False] * 2
    assert all(row.scores for row in stored.rows) and "of 2 rows" in table.notes[0]
    assert {len(row.networks[0]) for row in stored.rows} == {1, 2, 6}


def test_adversaries_that_choose_have_images_in_the_store_and_intervals_in_the_table(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, "paper", BATTERY_SUITE)
    store = fill(plan, Store(tmp_path / "store"))
    table = read_table(publish(plan, store, tmp_path / "out").table_csv)
    stored = read_plans([plan], store, "store")
    chosen = [row for row in table.rows if "pointwise" in row.key or "game" in row.key]
    assert chosen and not any(row.scores for row in chosen) and all(row.scores for row in stored.rows)
    assert all_same(stored, stored) and all_same(table, table)


def test_other_results_of_one_recipe_are_other_networks(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)

    def weights(text: str) -> Store:
        store = Store(tmp_path / text)
        store.prepare()
        for key, node in plan.nodes.items():
            if node.kind in ("train", "search"):
                store.write(key, {"kind": node.kind, "outcome": {}}, {"weights.bin": text.encode()})
        return fill(plan, store)

    one, other = (read_plans([plan], weights(text), text) for text in ("one", "other"))
    found = check(one, other, Options()).rows
    assert {row.measured.relation for row in found if row.measured} == {"re-searched"}
    assert {row.verdict for row in found} == {Verdict.cannot_tell}  # 40 images that agree exclude nine points


def test_a_table_without_its_company_is_compared_by_intervals(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    published = publish(plan, fill(plan, Store(tmp_path / "store")), tmp_path / "out")
    whole_table = read_table(published.table_csv)
    published.samples.unlink()
    published.details_csv.unlink()
    bare = read_table(published.table_csv)
    assert not any(row.scores or row.networks for row in bare.rows) and "intervals are compared" in bare.notes[0]
    assert all_same(bare, bare)  # one and the same file
    assert {row.verdict for row in check(whole_table, bare, Options()).rows} == {Verdict.cannot_tell}


def test_tables_that_are_none_are_refused(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    published = publish(plan, fill(plan, Store(tmp_path / "store")), tmp_path / "out")
    text = published.table_csv.read_text()
    for wrong, message in (
        (text.replace("ours", "theirs", 1), "no column 'ours'"),
        (text + "a,b\n", "row 8 has 2 cells"),
        (text.replace(",40,", ",many,", 1), "whole number"),
        (text.replace(",40,", f",{'4' * 5000},", 1), "whole number"),
        ("", "no column"),
        ("\xff", "not a CSV file in UTF-8"),
    ):
        (tmp_path / "out" / "wrong.csv").write_bytes(wrong.encode("latin-1"))
        with pytest.raises(StoreError, match=message):
            read_table(tmp_path / "out" / "wrong.csv")
    published.samples.write_bytes(b"PAR1 no")
    with pytest.raises(StoreError, match="not the samples of a table"):
        read_table(published.table_csv)
    with pytest.raises(StoreError, match="cannot be read"):
        read_table(tmp_path / "nowhere.csv")
    with pytest.raises(StoreError, match="cannot be read"):
        header(tmp_path)
    for number in ("nan", "101", "-1", "1e999", "x"):
        with pytest.raises(StoreError, match="percentage"):
            percentage("here", "ours", number)
    with pytest.raises(StoreError, match="whole number"):
        whole("here", "n", "-1")
    twice = Row(("a",), "a", 1.0), Row(("a",), "a", 2.0)
    with pytest.raises(StoreError, match="two rows are called 'a'"):
        unique(twice, "x")
    assert len(unique((twice[0], twice[0]), "x")) == 1


def test_leaderboards_by_their_images(tmp_path: Path) -> None:
    board = example(tmp_path / "board", entries=3)
    side = read_board(board)
    assert len(side.rows) == 3 * 6 - 1 and all(row.scores and row.networks for row in side.rows)
    assert all_same(side, side)

    def against(fall: int) -> Check:
        return check(side, read_board(planted(board, tmp_path / str(fall), fall)), Options())

    (row,) = against(25).failures
    assert row.key[-2] == "worst" and row.measured is not None and row.measured.relation == "re-evaluated"
    unclear = against(1)
    assert [len(unclear.of(verdict)) for verdict in (Verdict.same, Verdict.cannot_tell)] == [16, 1]


def test_a_leaderboard_searched_anew_is_found_by_its_names(tmp_path: Path) -> None:
    before = read_board(example(tmp_path / "before", entries=3, n=100))
    after = read_board(example(tmp_path / "after", entries=3, n=100, seed=1))
    rows = check(before, after, Options()).rows
    assert len(rows) == 17
    assert all(row.measured is not None and row.measured.relation == "re-searched" for row in rows)


def test_a_figure_that_is_not_that_of_its_images_is_refused(tmp_path: Path) -> None:
    board = example(tmp_path / "board", entries=3, n=100)
    rows = read_csv(board)
    rows[1]["worst"] = "77.77"
    write_csv(board, rows)
    with pytest.raises(StoreError, match=r"row 3: worst is 77\.77.*leaderboard verify"):
        read_board(board)
    samples_beside(board).unlink()
    json_beside(board).unlink()
    bare = read_board(board)
    assert not any(row.scores or row.networks for row in bare.rows) and all_same(bare, bare)
