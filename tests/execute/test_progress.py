from __future__ import annotations

import io

import pytest
from rich.console import Console

from rstbench.execute.progress import Bars, Lines, duration, observer, weight
from rstbench.nodes import Node

SEARCH = Node("search", "a" * 64, {}, {}, "search 5 % [of] it", 9e9)
CRAFT = Node("craft", "b" * 64, {}, {}, "craft", 1e9)
DATA = Node("data", "c" * 64, {}, {}, "data", 0.0)
NODES = {node.key: node for node in (DATA, SEARCH, CRAFT)}


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_who_watches() -> None:
    assert isinstance(observer(NODES, console(True)), Bars)
    assert isinstance(observer(NODES, console(False)), Lines)


def test_lines() -> None:
    out = console(False)
    with Lines(NODES, out) as lines:
        lines.started(DATA)
        lines.finished(DATA, 0.04)
        lines.advanced(SEARCH, 5, 10, "epoch 1/2")
        lines.finished(SEARCH, 100.0)
        lines.retried(CRAFT, "the worker died")
        lines.failed(CRAFT, "out of [memory]")
    assert text_of(out).splitlines() == [
        "[1/3] data  0.0 s",
        "[2/3] search 5 % [of] it  1 min 40 s",
        "craft: the worker died",
        "FAILED craft: out of [memory]",
    ]


def test_bars() -> None:
    out = console(True)
    with Bars(NODES, out) as bars:
        bars.started(SEARCH)
        bars.advanced(SEARCH, 5, 10, "epoch 1/2")
        bars.advanced(SEARCH, 10, 10, "epoch 2/2")
        bars.finished(SEARCH, 100.0)
        bars.advanced(CRAFT, 5, 10, "images")
        bars.retried(CRAFT, "the worker died")
        bars.failed(CRAFT, "out of [memory]")
        bars.finished(DATA, 0.1)
    text = text_of(out)
    assert "search 5 % [of] it  1 min 40 s" in text
    assert "FAILED craft: out of [memory]" in text and "craft: the worker died" in text
    assert "2 of 3 nodes" in text


def test_pace_counts_work_not_nodes() -> None:
    lines = Lines(NODES, console(False))
    lines.finished(SEARCH, 1.0)
    assert lines._pace.share() == pytest.approx(weight(SEARCH) / sum(map(weight, NODES.values())))
    lines.advanced(CRAFT, 1, 2, "images")
    half = lines._pace.share()
    lines.retried(CRAFT, "again")
    assert lines._pace.share() < half
    for node in (CRAFT, DATA):
        lines.finished(node, 1.0)
    assert lines._pace.share() == 1.0


def test_pace_counts_seconds_where_they_are_known() -> None:
    seconds = {DATA.key: 1.0, SEARCH.key: 6.0, CRAFT.key: 3.0}
    for watch in (Lines(NODES, console(False), seconds), Bars(NODES, console(True), seconds)):
        watch.finished(DATA, 1.0)
        watch.advanced(CRAFT, 1, 3, "images")
        assert watch._pace.share() == pytest.approx(0.2)
        watch.finished(CRAFT, 1.0)
        assert watch._pace.share() == pytest.approx(0.4)
    assert isinstance(observer(NODES, console(False), seconds), Lines)


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (42, "42 s"),
        (100, "1 min 40 s"),
        (5399, "89 min 59 s"),
        (18_600, "5 h 10 min"),
        (12 * 86_400, "12 days"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
