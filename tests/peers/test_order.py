"""On a defended network stronger attacks leave less standing, and no reliability flag is raised."""

from __future__ import annotations

from itertools import pairwise

import pytest

import rstbench
from rstbench.spec.flags import RELIABILITY
from tests.peers.defended import Defended

pytestmark = pytest.mark.peers

ORDER = ["none", "fgsm", "pgd20", "autoattack", "pointwise"]


def test_order_of_strength(few: Defended, capsys: pytest.CaptureFixture[str]) -> None:
    frame = rstbench.evaluate(few.network, few.images, few.labels, ORDER[1:-1], norm="linf", epsilon="8/255")
    with capsys.disabled():
        print("", frame[["attack", "accuracy", "ci_low", "ci_high", "n", "seconds", "flags"]].to_string(), sep="\n")
    accuracy = dict(zip(frame["attack"], frame["accuracy"], strict=True))
    assert list(accuracy) == ORDER
    assert all(accuracy[weaker] >= accuracy[stronger] for weaker, stronger in pairwise(ORDER))
    assert accuracy["autoattack"] < accuracy["none"] - 5
    assert not set(" ".join(frame["flags"]).split()) & set(RELIABILITY)
