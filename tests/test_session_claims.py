from __future__ import annotations

import json
from pathlib import Path

import pytest

from rstbench.errors import SpecError, StoreError
from rstbench.report.claims.catalogue import CLAIMS
from rstbench.report.claims.language import above, less
from rstbench.report.claims.readings import Planned
from rstbench.session import Request, plans_of
from rstbench.session_claims import findings
from rstbench.store import STORE_ENV, Store
from tests.commands import main
from tests.report.claims.scenes import C10, DENSE, SUITE, claim, fill, row
from tests.suites import changed

BETTER = claim(above("RST less dense", less(row(), DENSE)))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(STORE_ENV, raising=False)
    monkeypatch.delenv("RSTBENCH_DATA", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one suite that a claim may need, and one that none does."""
    suites = tmp_path / "suites"
    suites.mkdir()
    text = SUITE.replace("NAME", "figure1_rows")
    (suites / "figure1_rows.yaml").write_text(text, encoding="utf-8")
    (suites / "other.yaml").write_text("not a suite", encoding="utf-8")
    return suites


def filled(folder: Path) -> Store:
    path = folder / "figure1_rows.yaml"
    store = Store(Path("store"))
    (plan,) = plans_of(Request([path], "smoke", store.root), store, create=True)
    accuracy = {"rst": 70.0, "dense_at": 50.0}
    chosen = ("rst", "dense_at")

    def rate(cell, position):  # type: ignore[no-untyped-def]
        columns = cell.columns
        wanted = columns["attack"] == "pgd20" and columns["dataset"] == C10 and columns["defense"] in chosen
        return accuracy[columns["defense"]] + position / 4 * bool(columns["ratio"]) if wanted else None

    return fill(store, Planned(path, plan), rate)


def test_from_a_folder_of_suites(folder: Path) -> None:
    store = filled(folder)
    (finding,), where = findings(folder, "smoke", store.root, None, [BETTER])
    assert finding.status == "indicative for"
    assert finding.readings[0].reasons == ("substitute:data",)
    assert (where.profile, where.store, where.suites) == ("smoke", "store", str(folder))


def test_suites_and_data_that_are_not_there_are_said(folder: Path, tmp_path: Path) -> None:
    (folder / "figure1_rows.yaml").write_text(SUITE.replace("NAME", "rows").replace("schema: 1", "schema: 7"))
    (finding,), _ = findings(folder, "smoke", tmp_path / "none", None, [BETTER])
    assert finding.status == "not run"
    assert finding.remarks == (
        f"{folder / 'figure1_rows.yaml'}: not valid; `rstbench validate {folder / 'figure1_rows.yaml'}` says why",
    )
    arrays = changed(SUITE.replace("NAME", "rows"), ("{source: cifar10}", "{source: arrays, name: mine}"))
    arrays = arrays.partition("profiles:")[0]
    (folder / "figure1_rows.yaml").write_text(arrays, encoding="utf-8")
    (finding,), _ = findings(folder, "paper", tmp_path / "none", None, [BETTER])
    assert finding.status == "not run" and "mine" in finding.remarks[0]
    # Published facts are enough for a plan, and so for the command that would run it.
    (folder / "figure1_rows.yaml").write_text(SUITE.replace("NAME", "rows"), encoding="utf-8")
    (finding,), _ = findings(folder, "paper", tmp_path / "none", None, [BETTER])
    assert finding.commands and "CIFAR-10 was not found" in finding.remarks[0]
    assert not (tmp_path / "none").exists()


def test_an_empty_folder_runs_no_claim(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    found, _ = findings(tmp_path / "empty", "desk", tmp_path / "none", None)
    assert len(found) == len(CLAIMS)
    assert {each.measured for each in found} == {"not run"}


def test_bad_input(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such directory; name the one that holds the suites by --suites"):
        findings(tmp_path / "nowhere", "desk", tmp_path / "none", None)
    with pytest.raises(StoreError, match="neither empty nor a store"):
        findings(folder, "smoke", folder, None, [BETTER])
    store = filled(folder)
    for path in store.root.glob("values/*/*/samples.parquet"):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match="damaged"):
        findings(folder, "smoke", store.root, None, [BETTER])


@pytest.mark.parametrize("option", [["--json"], ["--format", "json"], ["--format", "markdown"], []])
def test_the_command(
    option: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(monkeypatch, "claims", "--profile", "smoke", "--store", "none", "--suites", folder, *option) == 0
    out, err = capfd.readouterr()
    assert err == ""
    if "json" in " ".join(option):
        assert len(json.loads(out)["claims"]) == len(CLAIMS)
    else:
        assert f"{len(CLAIMS)} claims: " in out and "not run" in out.lower()


def test_the_command_without_suites(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(monkeypatch, "claims") == 2
    out, err = capfd.readouterr()
    assert out == "" and "suites: no such directory" in err
