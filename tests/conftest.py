from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rstbench.store import Store

# What is printed to no terminal is as wide as it needs; processes of a test run are told the width of the terminal.
os.environ.pop("COLUMNS", None)


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not _cuda():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # Bits are promised at a fixed number of threads; one is the default of every spec.
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _tracer() -> Iterator[None]:
    # AutoAttack's package looks for dynamic defenses through the process's trace function, and leaves none behind:
    # coverage would see nothing of the tests that follow.
    before = sys.gettrace()
    yield
    if sys.gettrace() is not before:
        sys.settrace(before)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    # rstbench draws from explicit generators only; this keeps the tests' own draws equal from run to run, in any order.
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    made = Store(tmp_path / "store")
    made.prepare()
    return made


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system in memory, with options such as "size=256k"; skips where that is not allowed."""
    mounted: list[Path] = []

    def make(options: str) -> Path:
        point = tmp_path / "mounted"
        point.mkdir(exist_ok=True)
        try:
            command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", point]
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            pytest.skip(f"mount: {error}")
        if done.returncode:
            pytest.skip(f"may not mount a file system: {done.stderr.strip()}")
        mounted.append(point)
        return point

    yield make
    for point in mounted:
        subprocess.run(["umount", point], check=True)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The directory of real data sets, e.g. with cifar10.npz."""
    value = os.environ.get("RSTBENCH_DATA")
    if not value:
        pytest.skip("needs real data: set RSTBENCH_DATA to a data directory")
    path = Path(value)
    if not path.is_dir():
        pytest.fail(f"RSTBENCH_DATA is {value}, which is not a directory")
    return path


@pytest.fixture(scope="session")
def cifar10_dir(data_dir: Path) -> Path:
    """A data directory that holds cifar10.npz."""
    if not (data_dir / "cifar10.npz").is_file():
        pytest.skip(f"needs cifar10.npz in {data_dir}")
    return data_dir
