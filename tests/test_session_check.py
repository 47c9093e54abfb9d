"""The command `check`, from paths to an exit code."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from rstbench.cli import app
from rstbench.errors import RstbenchError, SpecError
from rstbench.execute.local import Settings
from rstbench.nodes import Node
from rstbench.report.leaderboard.suites import remember
from rstbench.report.publish import publish
from rstbench.report.regression.options import Options
from rstbench.report.regression.verdicts import Verdict
from rstbench.session import Request, plans_of, run
from rstbench.session_check import SUMMARY_ENV, Chosen, compare
from rstbench.store import Store
from tests.report.leaderboard import stored
from tests.report.leaderboard.examples import example
from tests.report.planned import SUITE, by_key, fill, small_plan
from tests.report.regression.sides import planted
from tests.suites import written


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk is most of the time of small stores, and these need not outlive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def invoke(*arguments: object) -> tuple[int, str]:
    """Exit code and output; 2 and the message for what a user caused, as `main` has it."""
    result = CliRunner().invoke(app, ["check", *map(str, arguments)])
    if isinstance(result.exception, RstbenchError):
        return result.exception.exit_code, str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_leaderboards_against_themselves_and_with_planted_drops(tmp_path: Path) -> None:
    board = example(tmp_path / "board", entries=3)
    code, text = invoke(board, board)
    assert code == 0 and "no regression (17 same)" in text
    code, text = invoke(board, planted(board, tmp_path / "dropped", 25).parent)
    assert code == 1 and "REGRESSION in 1 of 17 rows" in text and "-5.00" in text
    code, text = invoke(board, planted(board, tmp_path / "unclear", 1))
    assert code == 0 and "1 cannot tell" in text and "cannot tell with n = 500" in " ".join(text.split())
    rows = json.loads(invoke(board, tmp_path / "unclear", "--format", "json")[1])["rows"]
    (unclear,) = (each for each in rows if each["verdict"] == "cannot tell")
    assert 500 < unclear["n_to_show_same"] < 1000 < unclear["n_to_show_change"] < 5000
    assert invoke(board, tmp_path / "unclear", "--drop", "0.1")[0] == 0
    assert invoke(board, tmp_path / "unclear", "--margin", "2")[1].count("17 same") == 1


def test_forms_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = example(tmp_path / "board", entries=3)
    dropped = planted(board, tmp_path / "dropped", 25)
    code, text = invoke(board, dropped, "--format", "json")
    assert code == 1 and json.loads(text)["counts"]["worse"] == 1
    code, text = invoke(board, dropped, "--format", "junit", "--out", tmp_path / "out" / "check.xml")
    assert code == 1 and "REGRESSION" in text and (tmp_path / "out" / "check.xml").read_text().startswith("<?xml")
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv(SUMMARY_ENV, str(summary))
    code, text = invoke(board, dropped, "--format", "github", "--out", tmp_path / "check.md")
    assert code == 1 and "\n::error title=robust accuracy" in text
    # What a row is called must not be obeyed where the table's lines begin.
    first, *rest = text.splitlines()
    end = rest.index(f"::{first.removeprefix('::stop-commands::')}::")
    assert first.startswith("::stop-commands::") and rest[end + 1].startswith("::error ")
    with pytest.raises(SpecError, match="neither side is one"):
        compare(board, dropped, Options(), Chosen([tmp_path / "suite.yaml"]))
    assert summary.read_text() == "before\n" + (tmp_path / "check.md").read_text()
    assert "REGRESSION in 1 of 17 rows" in summary.read_text()
    invoke(board, dropped, "--out", tmp_path / "check.txt")
    assert "significantly lower" in " ".join((tmp_path / "check.txt").read_text().split())
    assert invoke(board, board, "--out", tmp_path / "board")[0] == 2


def test_stores_by_suites_that_are_named_and_by_those_they_remember(tmp_path: Path) -> None:
    suite = written(tmp_path, SUITE, "small.yaml")
    one, other = tmp_path / "one", tmp_path / "other"
    for root in (one, other):
        asked = Request([suite], "smoke", root)
        (plan,) = plans_of(asked, Store(root), create=True)
        changed = by_key if root == one else lambda node: by_key(node) | fallen(node)
        fill(plan, Store(root), changed)
    with pytest.raises(SpecError, match="remembers no suites"):
        compare(one, other, Options())
    named = compare(one, other, Options(), Chosen([suite], "smoke"))
    assert named.exit_code == 1 and len(named.rows) == 6
    assert {row.measured.relation for row in named.rows if row.measured} == {"re-evaluated"}
    for root in (one, other):
        settings = Settings(data_dir=None, device="cpu", workers=1)
        run(Request([suite], "smoke", root), settings, tmp_path / f"{root.name}-out", Console(file=io.StringIO()))
    assert [row.verdict for row in compare(one, other, Options()).rows] == [row.verdict for row in named.rows]
    assert compare(one, one, Options(), Chosen(profile="smoke")).of(Verdict.same)
    with pytest.raises(SpecError, match="of profile desk"):
        compare(one, one, Options(), Chosen(profile="desk"))
    # A store beside a table: the rows of the table, image by image.
    found = compare(tmp_path / "one-out", other, Options())
    assert found.exit_code == 1 and [row.measured.n for row in found.rows if row.measured] == [40] * 6


def fallen(node: Node) -> dict[str, np.ndarray]:
    """Predictions that are all wrong, on attacked images."""
    if node.kind != "predict" or "clean" in node.title:
        return {}
    columns = by_key(node)
    return {"prediction": (columns["label"] + 1) % 10}


def test_a_leaderboard_against_the_store_that_it_is_of(tmp_path: Path) -> None:
    store, plan, made = stored.built(tmp_path)
    (board,) = stored.write_boards(made, tmp_path / "boards")
    remember(store, plan, Path("suites/stored.yaml"), [], {})
    for found in (compare(board, store.root, Options()), compare(store.root, tmp_path / "boards", Options())):
        assert len(found.rows) >= 8 and len(found.of(Verdict.same)) == len(found.rows)
        assert {row.measured.relation for row in found.rows if row.measured} == {"re-evaluated"}
    # The same networks, of which a fifth of the verdicts under attack are worse.
    worse = Store(tmp_path / "worse")

    def fallen(node: Node, nodes: Mapping[str, Node]) -> np.ndarray:
        clean = nodes[node.inputs["images"]].kind == "data"
        return stored.share(node, nodes) & (clean | (np.arange(stored.N) % 2 > 0))

    stored.fill(worse, plan, fallen)
    remember(worse, plan, Path("suites/stored.yaml"), [], {})
    found = compare(board, worse.root, Options())
    assert found.exit_code == 1
    assert {row.key[-2] for row in found.of(Verdict.same)} == {"clean"}
    assert {row.key[-2] for row in found.failures} >= {"worst", "pgd20_paper"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "two results are compared"),
        (["{board}"], "two results are compared"),
        (["{board}", "{nowhere}"], "cannot be read"),
        (["{board}", "{empty}"], "neither a store nor a folder"),
        (["{board}", "{table}"], "compare like with like"),
        (["{board}", "{board}", "--margin", "0"], "--margin 0"),
        (["{board}", "{board}", "--discordant", "0.1"], "belongs to --power"),
        (["--power", "0"], "--power 0"),
        (["--power", "1", "--discordant", "0.001"], "--discordant 0.001"),
        (["--power", "1", "--format", "junit"], "--power has text and json"),
        (["{board}", "--power", "1", "--discordant", "0.1"], "not both"),
    ],
)
def test_misuse_is_exit_code_two(tmp_path: Path, arguments: list[str], message: str) -> None:
    plan = small_plan(tmp_path)
    publish(plan, fill(plan, Store(tmp_path / "store")), tmp_path / "table")
    (tmp_path / "empty").mkdir()
    names = {name: str(tmp_path / name) for name in ("nowhere", "empty", "table")}
    names["board"] = str(example(tmp_path / "board", entries=1, n=50))
    code, text = invoke(*(each.format(**names) for each in arguments))
    assert code == 2 and message in text


def test_power_from_shares_and_from_results(tmp_path: Path) -> None:
    code, text = invoke("--power", "1.0", "--discordant", "0.05")
    assert code == 0 and "4086" in text
    board = example(tmp_path / "board", entries=2)
    code, text = invoke(board, "--power", "1.0", "--format", "json", "--out", tmp_path / "power.json")
    assert code == 0 and "are enough for each of 11 rows" in text
    assert json.loads((tmp_path / "power.json").read_text())["rows"][0]["n"] == 500
    code, text = invoke(board, planted(board, tmp_path / "dropped", 25), "--power", "1.0", "--format", "json")
    assert code == 0 and {each["basis"] for each in json.loads(text)["rows"]} == {"baseline and new"}
    for file in (tmp_path / "board").glob("*.parquet"):
        file.unlink()
    assert "give it with --discordant" in invoke(board, "--power", "1.0")[1]
