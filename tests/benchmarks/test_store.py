"""All nine tables of the paper from a store that holds everything."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from rstbench.store import Store
from tests.benchmarks.alternating import Case, alternate, record_seconds
from tests.benchmarks.results import Results
from tests.commands import rstbench
from tests.report.planned import fill
from tests.suites import SHIPPED

TABLES = [path for path in SHIPPED if path.name.startswith("table")]


@pytest.mark.parametrize("profile", ["smoke"])
def test_a_run_that_finds_everything(
    benchmark: BenchmarkFixture, results: Results, tmp_path: Path, profile: str
) -> None:
    from rstbench.session import Request, plans_of

    store = Store(tmp_path / "store")
    plans = plans_of(Request(TABLES, profile, store.root), store, create=True)
    for each in plans:
        fill(each, store)
    nodes = len({key for each in plans for key in each.nodes})
    cells = sum(len(each.cells) for each in plans)

    def run() -> None:
        done = rstbench(
            "run", *TABLES, "--profile", profile, "--store", store.root, "--out", tmp_path / "out", "--device", "cpu",
            cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"all {nodes} nodes are in the store; nothing to compute" in done.stdout

    case = Case("All nine tables, everything stored", f"{nodes} nodes, {cells} rows, profile {profile}", "")
    times = alternate(benchmark, case, {"rstbench run": run}, 3)
    assert record_seconds(results, benchmark, case, times, "rstbench run", 10.0) <= 10.0
