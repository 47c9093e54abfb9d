"""What every test of leaderboards has."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores of these tests need not outlive a power cut, and waiting for the disk is most of their time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
