from __future__ import annotations

import pytest

from rstbench.pytest_plugin.guard import Guard


@pytest.fixture
def guard(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Guard:
    """The fixture `rstbench` as a project's tests have it, with its options at their defaults."""
    monkeypatch.setattr(request.config.option, "rstbench_update", False, raising=False)
    monkeypatch.setattr(request.config.option, "rstbench_store", None, raising=False)
    return Guard(request)


@pytest.fixture
def updating(guard: Guard, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Guard:
    """The same under `--rstbench-update`."""
    monkeypatch.setattr(request.config.option, "rstbench_update", True)
    return guard
