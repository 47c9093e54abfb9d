"""What the fixture `rstbench` offers to a test. Light: what takes time is imported by the methods."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rstbench.errors import RstbenchError
from rstbench.pytest_plugin import UPDATED

if TYPE_CHECKING:
    from rstbench.api.inputs import Attack
    from rstbench.report.regression.verdicts import Check


class Guard:
    """The fixture. Paths that a test gives are relative to pytest's root directory."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request, self._config = request, request.config

    def check(
        self,
        suite: str | Path,
        baseline: str | Path | None = None,
        *,
        profile: str = "smoke",
        drop: float | None = None,
        margin: float = 1.0,
        alpha: float = 0.05,
        seeds: Sequence[int] = (),
        data_dir: str | Path | None = None,
        device: str | None = None,
        workers: int | None = None,
        plugins: Sequence[str] = (),
    ) -> Check:
        """Run a suite under a profile, and fail the test where a row is worse than in the baseline, or missing.

        baseline: a leaderboard's CSV, a folder of them, or a `table.csv` of that name, each with the files beside it.
            Default: the folder `leaderboards/<name of the suite>-<profile>`.
        drop, margin: in points; alpha: level; as in `rstbench check` (docs/guard.md).
        seeds: in place of the profile's. plugins: modules that register networks. data_dir, device, workers: as in
            `rstbench run`.

        Returns what was compared, row by row. What is in the store is not computed again. With `--rstbench-update` the
        baseline is written first. A run that fails and a faulty suite fail the test, too.
        """
        __tracebackhide__ = True
        from rstbench.pytest_plugin.suites import Asked, check_suite
        from rstbench.report.regression.options import Options

        root = self._config.rootpath
        data = None if data_dir is None else root / data_dir
        asked = Asked(_named(root / suite), profile, self._store(), tuple(seeds), data, device, workers, tuple(plugins))
        folder = self._request.getfixturevalue("tmp_path_factory").mktemp("rstbench")
        given = None if baseline is None else root / baseline
        try:
            options = Options(margin=margin, alpha=alpha, drop=drop, strict=True)
            found = check_suite(asked, given or root / asked.default_baseline(), options, folder, self._updated())
        except RstbenchError as error:
            pytest.fail(str(error), pytrace=False)
        self._judge(found, [])
        return found

    def evaluate(
        self,
        network: Any,
        images: Any,
        labels: Any,
        attacks: Sequence[Attack] | None = None,
        *,
        floor: float | Mapping[str, float] | None = None,
        baseline: str | Path | None = None,
        norm: str = "linf",
        epsilon: str | float = "8/255",
        probabilities: Sequence[float] | None = None,
        batch: int = 256,
        seed: int = 0,
        drop: float | None = None,
        margin: float = 1.0,
        alpha: float = 0.05,
    ) -> Any:
        """Attack a network in memory as `rstbench.evaluate` does, and fail the test where too little stands.

        network, images, labels, attacks, norm, epsilon, probabilities, batch, seed: of `rstbench.evaluate`.
        floor: percent that the accuracy on these images must not fall below: of the rows that it names ("none",
            "pgd20", "pointwise" ...), or as one number of every row under attack.
        baseline: a CSV file of per-image results, which `--rstbench-update` writes; drop, margin, alpha: as in
            `check`. Images are paired by their pixels, so their order does not matter.

        Returns the frame of `rstbench.evaluate`. A floor, a baseline, or both: without either nothing would be
        guarded, and the test fails.
        """
        __tracebackhide__ = True
        from rstbench.api import evaluation
        from rstbench.pytest_plugin.memory import below, check_memory, expected
        from rstbench.report.regression.options import Options

        try:
            options = Options(margin=margin, alpha=alpha, drop=drop, strict=True)
            path = None if baseline is None else self._config.rootpath / baseline
            # A test that forgot both, or a baseline that is not there, should not attack for an hour to find out.
            expected(floor, path, self._updated() is not None)
            run = evaluation(network, images, labels, attacks, norm, epsilon, probabilities, batch, seed)
            frame = run.frame()
            low = below(frame, list(run.attacks), floor)
            found = None if path is None else check_memory(run, frame, path, options, self._updated())
        except RstbenchError as error:
            pytest.fail(str(error), pytrace=False)
        self._judge(found, low)
        return frame

    def _judge(self, found: Check | None, low: list[str]) -> None:
        """Fail the test if anything is worse; else keep what was compared for `pytest -rP`."""
        __tracebackhide__ = True
        from rstbench.pytest_plugin.wording import told

        text = "\n\n".join([*low, *([] if found is None else [told(found)])])
        if low or (found is not None and found.failures):
            if found is not None and found.failures:
                text += f"\nIf that is meant: pytest '{self._request.node.nodeid}' --rstbench-update"
            pytest.fail(text, pytrace=False)
        if text:
            self._request.node.add_report_section("call", "rstbench", text)

    def _updated(self) -> Callable[[Path], None] | None:
        """Where baselines are to be written: to be told of each. Else None."""
        if not self._config.getoption("rstbench_update"):
            return None
        lines = self._config.stash.setdefault(UPDATED, [])
        return lambda path: lines.append(f"{self._request.node.nodeid} wrote {path}")

    def _store(self) -> Path:
        from rstbench.store import STORE_ENV, default_root

        chosen: Path | None = self._config.getoption("rstbench_store")
        if chosen is not None:
            return self._config.invocation_params.dir / chosen
        return default_root() if os.environ.get(STORE_ENV) else self._config.rootpath / default_root()


def _named(suite: Path) -> Path:
    """As a user would name it in a command here: results remember how."""
    return suite.relative_to(Path.cwd()) if suite.is_relative_to(Path.cwd()) else suite
