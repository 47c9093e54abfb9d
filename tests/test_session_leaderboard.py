"""The commands `leaderboard build` and `leaderboard verify`, from a run to their exit codes."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from rstbench.errors import SpecError, StoreError
from rstbench.execute.local import Settings
from rstbench.report.leaderboard.files import json_beside, read_csv, read_json, write_csv
from rstbench.session import Request, run
from rstbench.session_leaderboard import Asked, build, opened, parameters, suites_of, verify
from rstbench.store import Store
from tests.commands import main
from tests.suites import TINY, changed, written


def console() -> Console:
    return Console(file=io.StringIO(), width=300)


def said(where: Console) -> str:
    assert isinstance(where.file, io.StringIO)
    return where.file.getvalue()


AUTOATTACK = (
    '  aa: {kind: autoattack, epsilon: "24/255", steps: 2, square_queries: 5, samples: 50, report_as: autoattack}\n'
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that TINY was really run on, with AutoAttack on its dense network."""
    folder = tmp_path_factory.mktemp("whole")
    text = changed(
        TINY,
        ("table:\n", f"{AUTOATTACK}table:\n"),
        (
            "    - {defense: r2s, attack: clean}",
            "    - {defense: dense_at, attack: aa}\n    - {defense: r2s, attack: clean}",
        ),
    )
    request = Request([written(folder, text)], "paper", folder / "store")
    assert run(request, Settings(None, "cpu", 1), folder / "results", console()) == 0
    return folder


def test_from_a_run_to_a_leaderboard_that_stands(whole: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "boards", console()
    assert build(Asked([whole / "store"]), out, told) == 0
    assert "2 entries, 0 of them ranked" in said(told) and "1 files as RobustBench has them" in said(told)
    names = {path.name for path in out.iterdir()}
    assert names == {"digits_linf.csv", "digits_linf.json", "digits_linf.samples.parquet", "model_info"}
    rows = read_csv(out / "digits_linf.csv")
    assert [row["suite"] for row in rows] == ["rstbench run tiny.yaml --profile paper"] * 2
    (dense,) = [row for row in rows if row["defense"] == "dense"]
    assert dense["autoattack"] and int(dense["parameters"]) == int(dense["parameters_kept"]) > 10_000
    (switch,) = [row for row in rows if row["defense"] == "r2s"]
    assert int(switch["parameters_kept"]) < 0.5 * int(switch["parameters"]) and switch["date"] and switch["adaptive"]
    assert len(switch["commit"].partition("-")[0]) in (0, 40)
    again = console()
    assert verify(out / "digits_linf.csv", [whole / "store"], again) == 0
    assert "all as they stand" in said(again)


def test_a_changed_figure_and_a_changed_file_end_in_exit_code_1(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "store", tmp_path / "store")
    store, out = Store(tmp_path / "store"), tmp_path / "boards"
    assert build(Asked([store.root]), out, console()) == 0
    path = out / "digits_linf.csv"
    rows = read_csv(path)
    first = rows[0]["worst"]
    write_csv(path, [{**rows[0], "worst": "77.77"}, *rows[1:]])
    told = console()
    assert verify(path, [store.root], told) == 1
    assert f"entry {rows[0]['entry']}, worst: stands 77.77, would be {first}" in said(told)
    write_csv(path, rows)
    key = read_json(json_beside(path)).entries[0].rows[1].cell.predictions[0][0][0]
    file = store.value(key).directory / "samples.parquet"
    file.write_bytes(file.read_bytes()[:-9] + b"tampered!")
    told = console()
    assert verify(path, [store.root], told) == 1 and "damaged" in said(told) and str(file) in said(told)


def test_random_images_are_redone(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "boards"
    assert build(Asked([whole / "store"]), out, console()) == 0
    told = console()
    assert verify(out / "digits_linf.csv", [whole / "store"], told, rerun=3, device="cpu") == 0
    assert "--rerun 3 --seed" in said(told) and "eot_pgd2" in said(told)


def test_suites_may_be_named(whole: Path, tmp_path: Path) -> None:
    store = Store(whole / "store")
    named = suites_of(Asked([store.root], [whole / "tiny.yaml"], "paper"), store)
    (kept,) = suites_of(Asked([store.root]), store)
    assert named[0].plan.cells == kept.plan.cells
    with pytest.raises(SpecError, match="remembers no suite under profile desk"):
        suites_of(Asked([store.root], profile="desk"), store)
    with pytest.raises(SpecError, match="name the suites"):
        suites_of(Asked([store.root], only={"dataset": "x"}), store)
    with pytest.raises(SpecError, match="same name"):
        suites_of(Asked([store.root], [whole / "tiny.yaml"] * 2, "paper"), store)


def test_two_stores_are_one_unless_they_contradict(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "store", tmp_path / "other")
    both = [whole / "store", tmp_path / "other"]
    assert build(Asked(both), tmp_path / "boards", console()) == 0
    assert verify(tmp_path / "boards" / "digits_linf.csv", both, console()) == 0
    other = Store(tmp_path / "other")
    key = next(key for key in other.holding("samples.parquet") if other.value(key).record["kind"] == "predict")
    record = other.value(key).directory / "record.json"
    values = json.loads(record.read_text())
    values["files"]["samples.parquet"]["sha256"] = "0" * 64
    record.write_text(json.dumps(values))
    with pytest.raises(StoreError, match=f"value {key}.*is not the same"):
        build(Asked(both), tmp_path / "boards", console())


def test_misuse_is_told(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(monkeypatch, "leaderboard", "build") == 2
    assert "no store" in capsys.readouterr().err
    assert main(monkeypatch, "leaderboard", "verify", "absent.csv", "--store", whole / "store") == 2
    assert "no such file" in capsys.readouterr().err
    assert main(monkeypatch, "leaderboard", "build", "--store", whole / "store", "--out", "boards") == 0
    assert main(monkeypatch, "leaderboard", "verify", "boards/digits_linf.csv", "--store", whole / "store") == 0
    assert "all as they stand" in capsys.readouterr().out
    empty = tmp_path / "empty"
    Store(empty).prepare()
    assert main(monkeypatch, "leaderboard", "verify", "boards/digits_linf.csv", "--store", empty) == 2
    assert main(monkeypatch, "leaderboard", "build", whole / "tiny.yaml", "--profile", "paper", "--store", empty) == 1
    with pytest.raises(StoreError, match="no store"):
        opened([tmp_path / "nowhere"])


def test_parameters_follow_from_the_architecture() -> None:
    model = {"family": "preact_resnet10", "width": 0.06, "classes": 10, "channels": 1, "image_size": 8}
    fields = {"model": {**model, "mean": [0.5], "std": [0.5], "bn_affine": False, "classifier_bias": False}}
    total, kept = parameters({**fields, "remaining_ratio": 0.5, "pattern": "element", "layer_power": 1.0})
    assert total == parameters({**fields, "remaining_ratio": 1.0, "pattern": "element", "layer_power": 1.0})[1]
    assert 0.45 * total < kept < 0.55 * total
