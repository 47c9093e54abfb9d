"""The commands `table` and `figure`, from a number to its files."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from rstbench.cli import app
from rstbench.errors import SpecError, StoreError
from rstbench.execute.local import Settings
from rstbench.session import Request, plans_of, run
from rstbench.session_stored import command, draw, suite_of, tabulate
from rstbench.store import Store
from tests.report.figures.small_figure import FIGURE
from tests.report.planned import fill
from tests.suites import TINY, changed, written

DIGITS = changed(
    FIGURE,
    ("cifar10: {source: cifar10}", "cifar10: {source: digits}"),
    ("cifar100: {source: cifar100}", "cifar100: {source: digits20}"),
)


def request_of(folder: Path, profile: str = "desk") -> Request:
    return Request([], profile, folder / "store")


def filled(folder: Path, path: Path, profile: str = "desk") -> None:
    store = Store(folder / "store")
    (plan,) = plans_of(Request([path], profile, folder / "store"), store, create=True)
    fill(plan, store)


def test_a_figure_by_its_number(tmp_path: Path) -> None:
    path = written(tmp_path, DIGITS, "figure3_pictured.yaml")
    filled(tmp_path, path)
    console = Console(file=io.StringIO(), width=200)
    assert draw("3", tmp_path, request_of(tmp_path), tmp_path / "out", False, console) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"figure.png", "figure.svg", "points.csv"}
    assert isinstance(console.file, io.StringIO) and str(tmp_path / "out" / "figure.png") in console.file.getvalue()


def test_a_run_draws_the_figure_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, DIGITS, "figure3_pictured.yaml")
    filled(tmp_path, path)
    console = Console(file=io.StringIO(), width=200)
    settings = Settings(data_dir=None, device="cpu", workers=1)
    asked = Request([path], "desk", tmp_path / "store")
    assert run(asked, settings, tmp_path / "whole", console) == 0
    assert {"figure.png", "figure.svg", "points.csv", "table.csv"} <= {p.name for p in (tmp_path / "whole").iterdir()}
    part = Request([path], "desk", tmp_path / "store", only={"attack": "none"})
    assert run(part, settings, tmp_path / "part", console) == 0
    assert not (tmp_path / "part" / "figure.png").exists()
    assert isinstance(console.file, io.StringIO)
    assert "no figure: suite pictured, profile desk, panel '(a) lines': none of its cells" in console.file.getvalue()


def test_an_empty_store_names_the_command(tmp_path: Path) -> None:
    path = written(tmp_path, DIGITS, "figure3_pictured.yaml")
    with pytest.raises(StoreError) as raised:
        draw("3", tmp_path, request_of(tmp_path), tmp_path / "out", False, Console(quiet=True))
    assert str(raised.value).endswith(f"rstbench run {path} --profile desk --store {tmp_path / 'store'}")


def test_another_profile_of_the_same_store(tmp_path: Path) -> None:
    path = written(
        tmp_path, changed(DIGITS, ("  desk:\n", "  desk:\n    searches: {rst: {epochs: 2}}\n")), "figure3_x.yaml"
    )
    filled(tmp_path, path, "desk")
    with pytest.raises(StoreError, match=r"profile paper: 18 of 18 cells .*\n(.*\n)*.*--profile paper"):
        draw("3", tmp_path, request_of(tmp_path, "paper"), tmp_path / "out", False, Console(quiet=True))


def test_which_suite(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="there are no suites of figures"):
        suite_of("figure", "3", tmp_path)
    path = written(tmp_path, DIGITS, "figure3_pictured.yaml")
    assert suite_of("figure", "3", tmp_path) == suite_of("figure", "03", tmp_path) == path
    assert suite_of("figure", str(path), Path("elsewhere")) == path
    with pytest.raises(SpecError, match=r"no suite figure4_\*\.yaml in .*; it has figures 3;"):
        suite_of("figure", "4", tmp_path)
    with pytest.raises(SpecError, match="the paper has figures 1 to 14"):
        suite_of("figure", "15", tmp_path)
    written(tmp_path, DIGITS, "figure4_wrong.yaml")
    with pytest.raises(SpecError, match=r"its name says figure 4, its `figure\.paper` says 3"):
        suite_of("figure", "4", tmp_path)
    written(tmp_path, DIGITS, "figure3_again.yaml")
    with pytest.raises(SpecError, match="2 suites are of figure 3"):
        suite_of("figure", "3", tmp_path)
    plain = written(tmp_path, name="plain.yaml")
    with pytest.raises(SpecError, match="this suite has no `figure`"):
        suite_of("figure", str(plain), tmp_path)


def test_the_command_that_computes(tmp_path: Path) -> None:
    asked = Request([], "desk", Path("a store"), Path("data"), (0, 3))
    words = "rstbench run suites/figure3_x.yaml --profile desk --store 'a store' --data-dir data --seed 0 --seed 3"
    assert command(Path("suites/figure3_x.yaml"), asked) == words


def test_the_command_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["figure", "15", "--suites", str(tmp_path)])
    assert result.exit_code != 0 and isinstance(result.exception, SpecError)


def test_a_table_by_its_number_computes_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, name="table3_tiny.yaml")
    filled(tmp_path, path, "paper")
    console = Console(file=io.StringIO(), width=200)
    assert tabulate("3", tmp_path, request_of(tmp_path, "paper"), tmp_path / "out", False, console) == 0
    assert {"table.csv", "table.md", "details.csv"} <= {found.name for found in (tmp_path / "out").iterdir()}
    assert isinstance(console.file, io.StringIO) and "dense_at" in console.file.getvalue()


def test_a_table_of_a_store_that_lacks_cells_says_which_and_what_computes_them(tmp_path: Path) -> None:
    path = written(tmp_path, name="table3_tiny.yaml")
    asked, out = request_of(tmp_path, "paper"), tmp_path / "out"
    with pytest.raises(StoreError) as raised:
        tabulate("3", tmp_path, asked, out, False, Console(quiet=True))
    message = str(raised.value)
    assert (
        "5 of 5 cells are not in the store" in message and "cell dense_at, preact_resnet18, cifar10, pgd20" in message
    )
    assert message.endswith(f"compute them with: rstbench run {path} --profile paper --store {tmp_path / 'store'}")
    assert not out.exists()
    filled(tmp_path, path, "paper")
    part = Request([], "paper", tmp_path / "store", only={"defense": "r2s"})
    assert tabulate("3", tmp_path, part, out, False, Console(quiet=True)) == 0
    # Other settings are other cells: nothing of what was filled is taken for them.
    other = written(tmp_path, changed(TINY, ("epochs: 1", "epochs: 2")), "table4_other.yaml")
    with pytest.raises(StoreError, match="5 of 5 cells"):
        tabulate(str(other), tmp_path, asked, out, False, Console(quiet=True))
    assert tabulate(str(other), tmp_path, asked, out, True, Console(quiet=True)) == 0
    with pytest.raises(SpecError, match="the paper has tables 1 to 9"):
        tabulate("10", tmp_path, asked, out, False, Console(quiet=True))
