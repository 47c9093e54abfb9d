from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from rstbench import estimate, session
from rstbench.data.sources import ABSENT
from rstbench.errors import DataError, SpecError
from rstbench.execute.local import Failure, Outcome, Settings
from rstbench.nodes import Node
from rstbench.session import Request, needed_data, plans_of, run
from rstbench.spec.load import load_suite
from rstbench.store import Store
from tests.report.planned import fill
from tests.suites import TINY, changed, written

CPU = Settings(data_dir=None, device="cpu", workers=1)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=160)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def request_of(*paths: Path, **changes: object) -> Request:
    fields = {"suites": paths, "profile": "smoke", "store": Path("store")} | changes
    return Request(**fields)  # type: ignore[arg-type]


def filled(request: Request) -> Store:
    """A store in which everything is done."""
    store = Store(request.store)
    for plan in plans_of(request, store, create=True):
        fill(plan, store)
    return store


def test_a_finished_run_only_publishes(tmp_path: Path, console: Console) -> None:
    request = request_of(written(tmp_path))
    filled(request)
    assert run(request, CPU, None, console) == 0
    text = text_of(console)
    assert text.startswith("all 18 nodes are in the store; nothing to compute\n")
    folder = Path("results/tiny-smoke")
    names = ["table.csv", "table.md", "battery.csv", "details.csv", "transfer.csv", "samples.parquet"]
    assert f"results: {', '.join(str(folder / name) for name in names)}\n" in text
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_profile_paper_needs_neither_gpu_nor_data_to_count_parameters(tmp_path: Path, console: Console) -> None:
    suite = Path(__file__).parents[1] / "suites" / "sizes.yaml"
    asked = Request([suite], "paper", tmp_path / "store", tmp_path / "no data")
    assert run(asked, Settings(data_dir=None, device=None, workers=1), tmp_path / "out", console) == 0
    frame = (tmp_path / "out" / "table.csv").read_text()
    assert "11.17" in frame and "46.16" in frame


def test_profile_paper_needs_no_gpu_where_all_is_done(tmp_path: Path, console: Console) -> None:
    request = request_of(written(tmp_path), profile="paper")
    filled(request)
    assert run(request, Settings(None, None), None, console) == 0
    assert Path("results/tiny-paper/table.csv").is_file()


def test_results_of_one_suite_lie_in_out(tmp_path: Path, console: Console) -> None:
    request = request_of(written(tmp_path))
    filled(request)
    assert run(request, CPU, tmp_path / "out", console) == 0
    assert (tmp_path / "out" / "table.csv").is_file()


def test_several_suites_get_a_folder_each(tmp_path: Path, console: Console) -> None:
    other = written(tmp_path, changed(TINY, ("name: tiny", "name: other")), "other.yaml")
    request = request_of(written(tmp_path), other)
    filled(request)
    assert run(request, CPU, tmp_path / "out", console) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["other-smoke", "tiny-smoke"]
    for name in ("other-smoke", "tiny-smoke"):
        assert (tmp_path / "out" / name / "table.csv").is_file()


def test_a_read_only_store_that_holds_everything(
    tmp_path: Path, console: Console, mount: Callable[[str], Path]
) -> None:
    request = request_of(written(tmp_path), store=mount("size=8m"))
    filled(request)
    subprocess.run(["mount", "-o", "remount,ro", request.store], check=True)
    assert run(request, CPU, tmp_path / "out", console) == 0


def test_seeds_in_place_of_the_profiles(tmp_path: Path) -> None:
    (plan,) = plans_of(request_of(written(tmp_path), seeds=(3, 5)), Store(Path("store")))
    assert {cell.seeds for cell in plan.cells} == {(3, 5)}
    assert {node.spec["seed"] for node in plan.nodes.values() if node.kind == "search"} == {3, 5}
    assert all("substitute:seeds" in cell.substitutes for cell in plan.cells)


def test_seeds_must_differ(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="the seeds must differ"):
        plans_of(request_of(written(tmp_path), seeds=(3, 3)), Store(Path("store")))


def test_names_must_differ(tmp_path: Path) -> None:
    same = written(tmp_path, name="same.yaml")
    with pytest.raises(SpecError, match=r"same name \(tiny, tiny\)"):
        plans_of(request_of(written(tmp_path), same), Store(Path("store")))


def test_a_plan_creates_no_store_and_a_run_remembers_the_data(tmp_path: Path) -> None:
    request = request_of(written(tmp_path))
    before = plans_of(request, Store(request.store))
    assert not request.store.exists()
    assert plans_of(request, Store(request.store), create=True)[0].nodes == before[0].nodes
    assert (request.store / "facts.json").is_file()
    assert plans_of(request, Store(request.store))[0].nodes == before[0].nodes


def test_faults_of_a_suite_come_before_its_data(tmp_path: Path) -> None:
    missing = written(tmp_path, changed(TINY, ("source: digits", "source: cifar10")))
    bad = written(tmp_path, changed(TINY, ("[0.1, 0.3]", "[0.1]")), "bad.yaml")
    with pytest.raises(SpecError, match=r"bad\.yaml: 1 fault"):
        plans_of(request_of(missing, bad, data_dir=tmp_path), Store(Path("store")))
    with pytest.raises(DataError, match="CIFAR-10 was not found"):
        plans_of(request_of(missing, data_dir=tmp_path), Store(Path("store")))


def test_absent_data_can_be_planned_but_not_run(tmp_path: Path) -> None:
    suite = written(tmp_path, changed(TINY, ("source: digits", "source: cifar10")))
    request = request_of(suite, data_dir=tmp_path)
    absent: list[DataError] = []
    (plan,) = plans_of(request, Store(request.store), absent=absent)
    (error,) = absent
    assert "CIFAR-10 was not found" in str(error)
    (data,) = [node for node in plan.nodes.values() if node.kind == "data"]
    assert data.spec["fingerprint"] == ABSENT  # so no key is that of a stored value
    assert estimate.left(plan.nodes, Store(request.store)).flop > 0
    with pytest.raises(DataError, match="CIFAR-10 was not found"):
        run(request, CPU, tmp_path / "out", Console(quiet=True))
    assert not (tmp_path / "out").exists()


def test_damaged_data_are_not_taken_for_absent(tmp_path: Path) -> None:
    (tmp_path / "cifar10.npz").write_bytes(b"no archive")
    suite = written(tmp_path, changed(TINY, ("source: digits", "source: cifar10")))
    with pytest.raises(DataError, match=r"cifar10\.npz"):
        plans_of(request_of(suite, data_dir=tmp_path), Store(Path("store")), absent=[])


def test_only_needed_data_are_read(tmp_path: Path) -> None:
    run_spec = load_suite(Path(__file__).parents[1] / "suites" / "table3_r2s.yaml").run
    chosen = needed_data(run_spec, {"dataset": "cifar100", "eps": "8"})
    assert [spec.source for spec in chosen] == ["cifar100"]
    assert len(needed_data(run_spec, {})) == 2


# ---- how a run ended -------------------------------------------------------------------------------------------------

A, B, C = (Node("search", letter * 64, {}, {}, f"node {letter}", 1.0) for letter in "abc")
MISSING = {node.key: node for node in (A, B, C)}


@pytest.mark.parametrize(
    "outcome, code, words",
    [
        (Outcome(3, {}, (), False), 0, ""),
        (Outcome(1, {}, (B.key, C.key), True), 1, "time limit reached; 2 nodes left. Run the same command to go on."),
        (Outcome(1, {A.key: Failure("it [diverged]", 1)}, (A.key, B.key), False), 1, "failed: node a\n  it [diverged]"),
        (Outcome(1, {A.key: Failure("x", 1)}, (A.key, B.key), False), 1, "1 more nodes wait for what failed"),
        (Outcome(0, {A.key: Failure("x", 1), B.key: Failure("y", 2)}, (A.key, B.key), False), 2, "failed: node b"),
    ],
)
def test_exit_codes(console: Console, outcome: Outcome, code: int, words: str) -> None:
    assert session._report(outcome, MISSING, console) == code
    assert words in text_of(console)
    assert words or not text_of(console)
