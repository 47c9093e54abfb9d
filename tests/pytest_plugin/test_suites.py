"""A suite against its baseline: a run of its own, then baselines of all kinds, and ones that were better."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rstbench.pytest_plugin.guard import Guard
from rstbench.report.leaderboard.files import (
    evidence,
    json_beside,
    of_entry,
    read_csv,
    read_json,
    read_samples,
    samples_beside,
    write_csv,
    write_json,
    write_samples,
)
from rstbench.report.regression.verdicts import Verdict
from tests.commands import ROOT
from tests.docs_blocks.pages import blocks
from tests.pytest_plugin.installed import LOADED
from tests.suites import TINY, changed, written

pytest_plugins = ["pytester"]

BROKEN = pytest.fail.Exception
BOARD = "digits_linf.csv"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project: its suite, and the store that all tests here share."""
    folder = tmp_path_factory.mktemp("project")
    written(folder, changed(TINY, ("name: tiny", "name: mine")), "mine.yaml")
    return folder


@pytest.fixture
def ours(guard: Guard, home: Path, request: pytest.FixtureRequest) -> Guard:
    request.config.option.rstbench_store = home / "store"
    return guard


@pytest.fixture
def publish(ours: Guard, home: Path) -> Callable[[Path], Path]:
    """Write the suite's baseline."""

    def now(baseline: Path) -> Path:
        ours._config.option.rstbench_update = True
        found = ours.check(home / "mine.yaml", baseline, workers=1)
        ours._config.option.rstbench_update = False
        assert {row.verdict for row in found.rows} == {Verdict.same}
        return baseline

    return now


def test_without_a_baseline_nothing_is_run(ours: Guard, home: Path, tmp_path: Path) -> None:
    with pytest.raises(BROKEN, match=r"leaderboards/mine-smoke: no such baseline; --rstbench-update writes it"):
        ours.check(home / "mine.yaml")
    with pytest.raises(BROKEN, match=r"a\.csv: no such baseline"):
        ours.check(home / "mine.yaml", tmp_path / "a.csv")
    assert not (home / "store").exists()


def test_a_folder_of_leaderboards(ours: Guard, home: Path, tmp_path: Path, publish: Callable[[Path], Path]) -> None:
    baseline = publish(tmp_path / "deep" / "boards")
    names = {BOARD, json_beside(Path(BOARD)).name, samples_beside(Path(BOARD)).name}
    assert {path.name for path in baseline.iterdir()} == names
    found = ours.check(home / "mine.yaml", baseline)
    assert found.exit_code == 0 and {row.verdict for row in found.rows} == {Verdict.same}
    assert {row.measured.relation for row in found.rows if row.measured} == {"re-evaluated"}


def test_one_leaderboard_under_another_name(
    ours: Guard, home: Path, tmp_path: Path, publish: Callable[[Path], Path]
) -> None:
    baseline = publish(tmp_path / "mine.csv")
    assert json_beside(baseline).is_file() and samples_beside(baseline).is_file()
    assert ours.check(home / "mine.yaml", baseline).exit_code == 0


def test_a_table(ours: Guard, home: Path, tmp_path: Path, publish: Callable[[Path], Path]) -> None:
    baseline = publish(tmp_path / "results" / "table.csv")
    assert {path.name for path in baseline.parent.iterdir()} == {"table.csv", "samples.parquet", "details.csv"}
    found = ours.check(home / "mine.yaml", baseline)
    assert len(found.rows) == 5 and found.exit_code == 0


def test_what_fell(ours: Guard, home: Path, tmp_path: Path, publish: Callable[[Path], Path]) -> None:
    baseline = _better(publish(tmp_path / "boards"), "dense_at", "worst", 20)
    with pytest.raises(BROKEN) as failed:
        ours.check(home / "mine.yaml", baseline)
    head, row, numbers, *_ = str(failed.value).splitlines()
    assert re.fullmatch(rf"robust accuracy fell: 1 row worse than in {baseline / BOARD} \(1 worse, \d+ same\)", head)
    assert re.fullmatch(r"  dense_at, preact_resnet10-w0.06 on digits, linf 24/255, worst", row)
    assert re.match(r"    worse: \S+ -> \S+, -40\.00 points \[-\S+, -\S+\] \(n = 50; 20 fell, 0 rose; .*p ", numbers)
    assert str(failed.value).endswith("--rstbench-update")
    # A drop that is not large enough is no failure, and is told.
    (row_,) = [row for row in ours.check(home / "mine.yaml", baseline, drop=45).rows if row.verdict != Verdict.same]
    assert row_.verdict is Verdict.cannot_tell


def test_a_row_that_is_missing(ours: Guard, home: Path, tmp_path: Path, publish: Callable[[Path], Path]) -> None:
    baseline = publish(tmp_path / "boards")
    fewer = home / "fewer.yaml"
    text = (home / "mine.yaml").read_text()
    gone = [f"    - {{defense: dense_at, attack: {attack}}}\n" for attack in ("clean", "pgd20")]
    fewer.write_text(changed(text, *((line, "") for line in gone)))
    with pytest.raises(BROKEN, match=r"(?s)^\d rows of .*boards/digits_linf.csv missing .*  dense_at.*\n    missing: "):
        ours.check(fewer, baseline)


def test_what_a_user_can_get_wrong(ours: Guard, home: Path, tmp_path: Path, publish: Callable[[Path], Path]) -> None:
    baseline = publish(tmp_path / "boards")
    (tmp_path / "empty").mkdir()
    (home / "broken.yaml").write_text("schema: 1\n")
    for arguments, words in (
        ({"suite": home / "mone.yaml"}, "did you mean"),
        ({"suite": home / "broken.yaml"}, "faults"),
        ({"profile": "smok"}, "did you mean 'smoke'"),
        ({"drop": 101.0}, "--drop 101"),
        ({"baseline": tmp_path / "empty"}, "neither a store nor a folder"),
        ({"plugins": ["no_such_module"]}, "no_such_module"),
    ):
        with pytest.raises(BROKEN, match=re.escape(words)):
            ours.check(**{"suite": home / "mine.yaml", "baseline": baseline, **arguments})  # type: ignore[arg-type]


READER = """
import pytest
import torch

@pytest.fixture
def images():
    return torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))

@pytest.fixture
def network():
    class Bright(torch.nn.Module):
        def forward(self, images):
            score = 99 * (images.mean(dim=(1, 2, 3)) - 0.2)
            return torch.stack([-score, score], dim=1)
    return Bright()

@pytest.fixture
def labels():
    return torch.ones(30, dtype=torch.int64)
"""


def test_the_tests_of_the_page(pytester: pytest.Pytester, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both blocks of docs/guard.md, by a reader who has the suite, the fixtures, and at first no baseline."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    texts = [block.text for block in blocks(ROOT / "docs" / "guard.md") if block.language == "python"]
    assert len(texts) == 2
    pytester.makepyfile(test_robust=texts[0], test_memory=texts[1])
    pytester.makeconftest(READER)
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider -p no:benchmark -p no:hypothesispytest -p no:cov")
    (pytester.path / "suites").mkdir()
    shutil.copy(home / "mine.yaml", pytester.path / "suites")
    options = (*LOADED, f"--rstbench-store={home / 'store'}")
    pytester.runpytest_subprocess(*options, "--rstbench-update").assert_outcomes(passed=3)
    for path in ("leaderboards/mine-smoke/digits_linf.csv", "tests/robust.csv"):
        assert (pytester.path / path).is_file()
    pytester.runpytest_subprocess(*options).assert_outcomes(passed=3)


def _better(folder: Path, name: str, metric: str, images: int) -> Path:
    """The leaderboard with so many images more that stood: its own files, made anew."""
    path = folder / BOARD
    samples, board = read_samples(samples_beside(path)), read_json(json_beside(path))
    (row,) = [row for row in read_csv(path) if row["name"] == name]
    key = (row["entry"], metric, 0)
    score = samples[key].score.copy()
    score[np.flatnonzero(score == 0)[:images]] = 1.0
    samples[key] = dataclasses.replace(samples[key], score=score)
    new = {metric: f"{100 * score.mean():.2f}", "evidence": evidence(of_entry(samples, row["entry"]))}
    changes = {f"{metric}_low": "0.00", f"{metric}_high": "100.00", **new}
    entries = tuple(
        each.model_copy(update={"row": each.row | changes}) if each.row["entry"] == row["entry"] else each
        for each in board.entries
    )
    write_csv(path, [each.row for each in entries])
    write_json(json_beside(path), board.model_copy(update={"entries": entries}))
    write_samples(samples_beside(path), samples)
    return folder
