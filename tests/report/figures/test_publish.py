"""The files of a figure, and when there are none."""

from __future__ import annotations

import csv
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rstbench.errors import SpecError, StoreError
from rstbench.report.figures import publish_figure
from rstbench.report.figures.publish import COLUMNS
from rstbench.store import Store
from tests.report.figures.small_figure import FIGURE, pictured, stored
from tests.report.planned import SUITE, small_plan
from tests.suites import changed

COMMAND = "rstbench run pictured.yaml"


def rows(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "points.csv").read_text(encoding="utf-8").splitlines()))


def words(out: Path) -> str:
    root = ElementTree.fromstring((out / "figure.svg").read_text(encoding="utf-8"))
    return " ".join(text.strip() for text in root.itertext() if text.strip())


def test_the_files(tmp_path: Path) -> None:
    plan, out = pictured(tmp_path, "desk"), tmp_path / "out"
    drawn = publish_figure(plan, stored(tmp_path, plan), out, COMMAND)
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in drawn.paths)
    assert {p.name for p in drawn.paths} == {"figure.png", "figure.svg", "points.csv"} and drawn.missing == ()
    picture = (out / "figure.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", picture[16:24])
    assert width > 1500 and height > 700
    text = words(out)
    for word in (
        "Figure 3. A small figure (profile desk)", "(a) lines", "(e) distribution", "remaining ratio, %",
        "robust accuracy, %", "accuracy, %", "scratch", "trained", "dense, adv. trained", "judged by",
        "images made against", "relative distance of feature maps", "share of test images, %",
        "A note of the suite.", "Wilson's", "n = 40 test images", "seed 0", "substitutes: seeds",
    ):  # fmt: skip
        assert word in text, word


def test_the_points(tmp_path: Path) -> None:
    plan, out = pictured(tmp_path, "desk"), tmp_path / "out"
    publish_figure(plan, stored(tmp_path, plan), out, COMMAND)
    found = rows(out)
    assert tuple(found[0]) == COLUMNS
    by_kind: dict[str, list[Mapping[str, str]]] = {}
    for row in found:
        by_kind.setdefault(row["kind"], []).append(row)
        assert (row["figure"], row["profile"], row["seeds"], row["n"]) == ("3", "desk", "0", "40")
    counts = {kind: len(each) for kind, each in by_kind.items()}
    assert counts == {"lines": 12, "dashed": 3, "heatmap": 4, "bars": 2, "distribution": 101}
    first = by_kind["lines"][0]
    assert (first["series"], first["x"], first["value"], first["interval"]) == ("scratch", "0.05", "32.5", "wilson")
    assert float(first["ci_low"]) < 32.5 < float(first["ci_high"])
    matrix = {(row["source"], row["member"]): row["value"] for row in by_kind["heatmap"]}
    assert matrix == {
        ("0.05", "0.05"): "32.5",
        ("0.05", "0.20"): "60",
        ("0.20", "0.05"): "52.5",
        ("0.20", "0.20"): "40",
    }
    shares = [float(row["value"]) for row in by_kind["distribution"]]
    at = [float(row["x"]) for row in by_kind["distribution"]]
    assert shares == list(range(101)) and at == sorted(at)


def test_equal_results_leave_equal_bytes(tmp_path: Path) -> None:
    plan = pictured(tmp_path, "desk")
    store = stored(tmp_path, plan)
    for name in ("one", "two"):
        publish_figure(plan, store, tmp_path / name, COMMAND)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_a_store_that_lacks_cells(tmp_path: Path) -> None:
    plan = pictured(tmp_path, "desk")
    store = stored(tmp_path, plan, ("0.60 to 0.60",))
    with pytest.raises(StoreError) as raised:
        publish_figure(plan, store, tmp_path / "out", COMMAND)
    message = str(raised.value)
    assert "suite pictured, profile desk: 3 of 18 cells are not in the store" in message
    assert "cell rst, preact_resnet18, cifar10, pgd20, ratio 0.60" in message
    assert "cell rtt, preact_resnet18, cifar10, pgd20, ratio 0.60" in message
    assert message.endswith(f"compute them with: {COMMAND}")
    assert not (tmp_path / "out").exists()


def test_a_partial_figure_says_what_it_lacks(tmp_path: Path) -> None:
    plan, out = pictured(tmp_path, "desk"), tmp_path / "out"
    store = stored(tmp_path, plan, ("0.60 to 0.60", "0.20 to 0.20"))
    drawn = publish_figure(plan, store, out, COMMAND, partial=True)
    assert len(drawn.missing) == 7
    text = words(out)
    assert "7 of the figure's cells are not run." in text
    assert text.count("only one remaining") == 1 and text.count("none of its values") == 1  # lines, and the matrix
    assert {row["kind"] for row in rows(out)} == {"lines", "dashed", "bars", "distribution"}
    nothing = Store(tmp_path / "none")
    nothing.prepare()
    with pytest.raises(StoreError, match="18 of 18 cells are not in the store"):
        publish_figure(plan, nothing, out, COMMAND, partial=True)


def test_one_point_is_no_figure(tmp_path: Path) -> None:
    plan = pictured(tmp_path, "smoke")
    with pytest.raises(SpecError) as raised:
        publish_figure(plan, stored(tmp_path, plan), tmp_path / "out", COMMAND)
    assert str(raised.value) == (
        "suite pictured, profile smoke, panel '(a) lines': only one remaining ratio (0.05), and one point makes no "
        "line; give its series more `ratios`, or choose a profile that has more"
    )
    assert not (tmp_path / "out").exists()


def test_profiles_do_not_mix(tmp_path: Path) -> None:
    """A store of another profile answers nothing: a figure never takes a number that its own profile did not make."""
    desk = pictured(tmp_path, "desk")
    store = stored(tmp_path, desk)
    text = changed(FIGURE, ("    seeds: [0]\n  smoke:", "    seeds: [0]\n    searches: {rst: {epochs: 6}}\n  smoke:"))
    other = pictured(tmp_path, "desk", text)
    with pytest.raises(StoreError, match="13 of 18 cells are not in the store"):
        publish_figure(other, store, tmp_path / "out", COMMAND)


def test_data_do_not_mix(tmp_path: Path) -> None:
    plan = pictured(tmp_path, "desk")
    one, other = (
        next(cell for cell in plan.cells if cell.columns["dataset"] == name) for name in ("cifar10", "cifar100")
    )
    renamed = replace(other, columns={**other.columns, "dataset": "cifar10"})
    with pytest.raises(SpecError, match="data set cifar10 stands for different images"):
        publish_figure(replace(plan, cells=(one, renamed)), stored(tmp_path, plan), tmp_path / "out", COMMAND)


def test_a_suite_without_a_figure(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, text=SUITE)
    with pytest.raises(SpecError, match="suite small has no `figure`"):
        publish_figure(plan, stored(tmp_path, plan), tmp_path / "out", COMMAND)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    plan = pictured(tmp_path, "desk")
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot be written to .*out .*--out"):
        publish_figure(plan, stored(tmp_path, plan), tmp_path / "out", COMMAND)
