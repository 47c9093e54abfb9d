from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.peers.defended import HOW, Defended, defended
from tests.peers.table import Table

_TABLE = pytest.StashKey[Table]()


def _images() -> int:
    return int(os.environ.get("RSTBENCH_PEERS_IMAGES", "200"))


@pytest.fixture(scope="session")
def subject(cifar10_dir: Path) -> Defended:
    """The network and as many images as RSTBENCH_PEERS_IMAGES says."""
    store = os.environ.get("RSTBENCH_PEERS_STORE")
    if not store:
        pytest.skip(f"needs the adversarially trained network: {HOW}")
    found = defended(Path(store), cifar10_dir, _images())
    if found is None:
        pytest.skip(f"{store} does not hold the adversarially trained network: {HOW}")
    return found


@pytest.fixture(scope="session")
def few(subject: Defended) -> Defended:
    """A quarter of the images, for what takes 10 000 passes an image."""
    return subject.first(int(os.environ.get("RSTBENCH_PEERS_FEW_IMAGES", len(subject.images) // 4)))


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> Table:
    """Where results go: printed at the end, and JSON at RSTBENCH_PEERS_OUT, by default results/peers.json."""
    made = Table(Path(os.environ.get("RSTBENCH_PEERS_OUT", "results/peers.json")))
    pytestconfig.stash[_TABLE] = made
    return made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    made = config.stash.get(_TABLE, None)
    if made is not None and made.rows:
        terminalreporter.section("attacks of other libraries")
        for line in made.lines():
            terminalreporter.line(line)
        terminalreporter.line(f"kept in {made.path}")
