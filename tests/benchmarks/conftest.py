"""Benchmarks run when they are asked for (`tox -e bench`), on the threads of RSTBENCH_BENCH_THREADS."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rstbench.build.provenance import provenance
from tests.benchmarks.results import Results
from tests.benchmarks.subject import Subject, subject_of
from tests.benchmarks.tables import lines

_RESULTS = pytest.StashKey[list[Results]]()
_IMAGES = 100


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("benchmark_only"):
        return
    reason = "a benchmark: tox -e bench, or --benchmark-only"
    for item in items:
        if "benchmark" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="package")
def threads() -> int:
    """CPU threads of our work and of the references alike; all cores unless RSTBENCH_BENCH_THREADS says otherwise."""
    return int(os.environ.get("RSTBENCH_BENCH_THREADS", os.cpu_count() or 1))


@pytest.fixture(autouse=True)
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    if "benchmark" not in request.fixturenames:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(request.getfixturevalue("threads"))
    yield
    torch.set_num_threads(before)


def _opened(config: pytest.Config, threads: int, device: torch.device) -> Results:
    kept = config.stash.setdefault(_RESULTS, [])
    for each in kept:
        if each.machine["device"] == device.type:
            return each
    path = Path(os.environ.get("RSTBENCH_BENCH_OUT", "results/bench.json"))
    if device.type != "cpu":  # another machine's, as far as tables are concerned
        path = path.with_stem(f"{path.stem}_{device.type}")
    machine = {**provenance(device), "cores": os.cpu_count(), "threads": threads, "device": device.type}
    machine.pop("rstbench")
    kept.append(Results(path, machine))
    return kept[-1]


@pytest.fixture
def results(pytestconfig: pytest.Config, threads: int) -> Results:
    """Where ratios go: RSTBENCH_BENCH_OUT, by default results/bench.json."""
    return _opened(pytestconfig, threads, torch.device("cpu"))


@pytest.fixture
def gpu_results(pytestconfig: pytest.Config, threads: int) -> Results:
    """The same of a GPU, in a file beside it."""
    return _opened(pytestconfig, threads, torch.device("cuda", torch.cuda.current_device()))


@pytest.fixture(scope="package")
def real_data() -> Path | None:
    """The directory of real CIFAR-10, if RSTBENCH_DATA names one."""
    named = os.environ.get("RSTBENCH_DATA")
    return Path(named) if named and (Path(named) / "cifar10.npz").is_file() else None


@pytest.fixture(scope="package")
def subject(pytestconfig: pytest.Config, real_data: Path | None, threads: int) -> Subject:
    """The network that evaluations are measured on, and its images."""
    torch.set_num_threads(threads)
    kept = os.environ.get("RSTBENCH_BENCH_KEPT")
    folder = Path(kept) if kept else Path(pytestconfig.cache.mkdir("rstbench"))
    folder.mkdir(parents=True, exist_ok=True)
    terminal = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    say = (lambda text: None) if terminal is None else terminal.write_line
    return subject_of(_IMAGES, real_data, folder, say)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for made in config.stash.get(_RESULTS, []):
        if made.rows:
            terminalreporter.section("benchmarks, every ratio of alternating runs")
            for line in lines(made.machine, list(made.rows.values())):
                terminalreporter.line(line)
            terminalreporter.line(f"kept in {made.path}")
