"""The plug-in as pytest loads it: in a process of its own, in a project of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import ROOT
from tests.pytest_plugin.installed import LOADED

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("RSTBENCH_STORE", raising=False)
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider -p no:benchmark -p no:hypothesispytest -p no:cov")


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess(*LOADED, *arguments, timeout=120)


def test_it_costs_next_to_nothing_where_it_is_not_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import sys

        def test_nothing_is_imported():
            ours = {name for name in sys.modules if name.partition(".")[0] == "rstbench"}
            assert ours == {"rstbench", "rstbench.pytest_plugin"}
            assert not {"torch", "numpy", "pandas", "pyarrow", "pydantic", "rich"} & set(sys.modules)

        def test_having_the_fixture_imports_nothing_heavy(rstbench):
            assert not {"torch", "numpy", "pandas", "pyarrow", "pydantic", "rich"} & set(sys.modules)
    """)
    run(pytester).assert_outcomes(passed=2)


def test_its_options_and_its_fixture_are_listed(pytester: pytest.Pytester) -> None:
    run(pytester, "--help").stdout.fnmatch_lines(["*--rstbench-store=DIR*", "*--rstbench-update*"])
    run(pytester, "--fixtures").stdout.fnmatch_lines(["rstbench*", "*Guard robust accuracy*"])


def test_a_network_in_memory(pytester: pytest.Pytester, tmp_path: Path) -> None:
    """From the first baseline to the failure that it is there for."""
    pytester.makepyfile("""
        import os
        import torch

        class Threshold(torch.nn.Module):
            def forward(self, images):
                score = 20 * (images.mean(dim=(1, 2, 3)) - float(os.environ["AT"]))
                return torch.stack([-score, score], dim=1)

        def test_robust(rstbench):
            images = torch.linspace(0, 1, 100)[:, None, None, None].expand(100, 1, 4, 4).clone()
            labels = (images[:, 0, 0, 0] > 0.5).long()
            frame = rstbench.evaluate(Threshold(), images, labels, ["fgsm"], baseline="baselines/mine.csv")
            assert list(frame["attack"]) == ["none", "fgsm"]
    """)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AT", "0.5")
        written = run(pytester, "--rstbench-update")
        written.assert_outcomes(passed=1)
        path = pytester.path / "baselines" / "mine.csv"
        node = "test_a_network_in_memory.py::test_robust"
        written.stdout.fnmatch_lines([f"rstbench: {node} wrote {path}"])
        same = run(pytester, "-rP")
        same.assert_outcomes(passed=1)
        same.stdout.fnmatch_lines([f"no row worse than in {path} (2 same)"])
        environment.setenv("AT", "0.2")
        failed = run(pytester)
        failed.assert_outcomes(failed=1)
        failed.stdout.fnmatch_lines(
            [
                f"robust accuracy fell: 2 rows worse than in {path} (2 worse)",
                "  none",
                "    worse: 100.00 -> 70.00, -30.00 points [[]-*, -*[]] (n = 100; 30 fell, 0 rose; *p <*",
                "  fgsm linf 8/255",
                "Worse: a significant drop *",
                f"If that is meant: pytest '{node}' --rstbench-update",
            ]
        )
        assert "Traceback" not in failed.stdout.str() and "guard.py" not in failed.stdout.str()
