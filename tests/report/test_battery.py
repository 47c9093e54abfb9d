from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from rstbench.errors import StoreError
from rstbench.nodes import Node
from rstbench.plan import Plan
from rstbench.report.battery import BATTERY
from rstbench.report.publish import Published, publish
from rstbench.report.terminal import terminal
from rstbench.spec.flags import RELIABILITY
from rstbench.store import Store
from tests.report.battery_suite import BATTERY_SUITE
from tests.report.planned import N, by_key, fill, samples, small_plan

CLEAN_RIGHT = np.arange(N) < 32  # of 40
SQUARE_RIGHT = np.arange(N) < 30  # two more fall
L2 = np.linspace(0.1, 4.0, N)


def node_kind(plan: Plan, node: Node) -> str:
    """Kind of the attack behind a predict node; "clean" for none."""
    images = plan.nodes[node.inputs["images"]]
    return str(images.spec["attack"]["kind"]) if images.kind == "craft" else "clean"


def written(tmp_path: Path) -> tuple[Plan, Published]:
    plan = small_plan(tmp_path, "paper", BATTERY_SUITE)

    def columns(node: Node) -> dict[str, np.ndarray]:
        if node.kind == "predict":
            kind = node_kind(plan, node)
            right = {"clean": CLEAN_RIGHT, "square": SQUARE_RIGHT, "autoattack": np.arange(N) < 20}
            return samples(right[kind]) if kind in right else by_key(node) if kind == "pgd" else samples(CLEAN_RIGHT)
        found = by_key(node) | {"l2": L2}
        if node.spec["attack"]["kind"] == "square":
            found["queries"] = np.arange(N) * 100
        return found

    def facts(node: Node) -> dict[str, object]:
        if node.kind != "craft":
            return {}
        flags = ["zero_gradients"] if node.spec["attack"]["kind"] == "fgsm" else []
        return {"passes": {"forward": 21.0 * N, "gradient": 20.0 * N}, "flags": flags}

    store = fill(plan, Store(tmp_path / "store"), columns, facts=facts)
    return plan, publish(plan, store, tmp_path / "out")


def row(frame: Any, defense: str, attack: str, variant: str = "") -> dict[str, str]:
    chosen = frame[(frame["defense"] == defense) & (frame["attack"] == attack) & (frame["variant"] == variant)]
    (found,) = chosen.to_dict("records")
    return dict(found)


def test_a_row_for_each_cell(tmp_path: Path) -> None:
    plan, published = written(tmp_path)
    frame = pd.read_csv(published.battery_csv, dtype=str, keep_default_na=False)
    assert tuple(frame.columns) == BATTERY
    assert len(frame) == len(plan.cells)
    assert frame["accuracy"].tolist() == published.frame["ours"].tolist()
    assert frame["flags"].tolist() == published.frame["flags"].tolist()
    for flag in RELIABILITY:
        assert frame[flag].tolist() == [str(int(flag in flags.split())) for flags in frame["flags"]]
    assert row(frame, "rst", "fgsm")["zero_gradients"] == "1"
    assert row(frame, "r2s", "pointwise")["zero_gradients"] == "1"  # FGSM is among what it chooses from
    assert row(frame, "r2s", "pgd20")["zero_gradients"] == "0"


def test_queries_and_distances_are_those_of_fooled_images(tmp_path: Path) -> None:
    frame = written(tmp_path)[1].battery
    square = row(frame, "rst", "square")
    # Images 30 and 31 of 32 that are right without attack; those that were wrong anyway do not count.
    assert (square["fooled"], square["queries_mean"], square["queries_median"]) == ("6.25", "3050.0", "3050.0")
    assert square["l2_median"] == f"{(L2[30] + L2[31]) / 2:.4f}"
    assert (square["linf"], square["l2"]) == ("8.000", f"{L2.mean():.4f}")
    assert (square["gradients"], square["forwards"], square["seconds"]) == ("20.0", "21.0", "2.0")
    unharmed = row(frame, "rst", "cw_l2")
    assert (unharmed["fooled"], unharmed["l2_median"], unharmed["queries_mean"]) == ("0.00", "", "")
    natural = row(frame, "rst", "none")
    assert {natural[name] for name in ("linf", "l2", "fooled", "gradients", "seconds")} == {""}


def test_costs_of_adversaries_that_choose(tmp_path: Path) -> None:
    frame = written(tmp_path)[1].battery
    through_members = row(frame, "r2s", "pgd20")
    assert (through_members["gradients"], through_members["seconds"]) == ("20.0", "6.0")
    # FGSM and PGD from three members each, and EOT.
    pointwise = row(frame, "r2s", "pointwise")
    assert (pointwise["gradients"], pointwise["forwards"], pointwise["seconds"]) == ("140.0", "147.0", "14.0")
    assert (pointwise["linf"], pointwise["fooled"]) == ("", "")
    # PGD from three members and EOT: passes on test images, seconds on held-out images, too.
    game = row(frame, "r2s", "game")
    assert (game["gradients"], game["seconds"]) == ("80.0", "16.0")
    worst = row(frame, "r2s", "pgd20", "worst source")
    assert (worst["gradients"], worst["linf"]) == ("20.0", "8.000")


def test_details_name_worst_sources_and_mixtures(tmp_path: Path) -> None:
    _, published = written(tmp_path)
    worst = row(published.details, "r2s", "pgd20", "worst source")["worst_source"]
    matrix = published.matrices
    chosen = matrix[(matrix["attack"] == "pgd20") & (matrix["variant"] == "")]
    by_source = chosen.assign(accuracy=chosen["accuracy"].astype(float)).groupby("source")["accuracy"].mean()
    assert worst == by_source.idxmin()
    mixture = row(published.details, "r2s", "game")["mixture"].split()
    assert len(mixture) == 3
    assert sum(map(float, mixture)) == pytest.approx(1, abs=1e-3)
    assert set(published.details[published.details["attack"] == "none"]["mixture"]) == {""}


def test_the_list_says_for_each_attack_what_it_found_and_used(tmp_path: Path) -> None:
    plan, published = written(tmp_path)
    page = published.table_md.read_text()
    assert page.count("### rst 0.10 on cifar10, preact_resnet18\n") == 1
    assert "| natural |  | 80.00 [65.24, 89.50] |  |  |  |  |" in page
    assert "| linf 8.000/255 | 3050.0 queries, median 3050.0 | 2.0 s |" in page
    assert "| linf 8.000/255 | 20 gradients + 21 forwards | 2.0 s | zero_gradients |" in page
    assert "| fgsm linf 8 |  | 80.00†b [" in page
    assert "- `zero_gradients` (†b): the gradient vanishes" in page
    assert "upper bound on the robust accuracy of that mixture" in page
    assert "worst source 0." in page
    assert "mixture 0.05: 0." in page
    # Matrices of networks on networks, not of dozens of sources.
    assert page.count("\n| source |") == 2
    screen = io.StringIO()
    console = Console(file=screen, width=220)
    terminal(plan, published.frame, published.answering, published.further, console, published.battery)
    shown = screen.getvalue()
    assert "80.00†b [" in shown
    assert "†b: the gradient vanishes" in shown
    assert "3050.0 queries" in shown
    assert "Any of 3 tries" in shown


def test_a_grid_marks_numbers_too(tmp_path: Path) -> None:
    text = BATTERY_SUITE.replace("layout: list", "layout: grid")
    plan = small_plan(tmp_path, "paper", text)
    facts = {"flags": ["softmax_output"]}
    store = fill(plan, Store(tmp_path / "store"), facts=lambda node: facts if node.kind == "predict" else {})
    page = publish(plan, store, tmp_path / "out").table_md.read_text()
    (line,) = [line for line in page.splitlines() if line.startswith("| preact_resnet18 | rst 0.10 |")]
    assert line.count("†c") == 6


def test_an_epsilon_that_was_not_run_is_said(tmp_path: Path) -> None:
    text = BATTERY_SUITE + 'profiles:\n  smoke:\n    attacks: {fgsm: {epsilon: "16/255"}, pointwise: {over: [fgsm]}}\n'
    plan = small_plan(tmp_path, "smoke", text)
    published = publish(plan, fill(plan, Store(tmp_path / "store")), tmp_path / "out")
    fgsm = row(published.battery, "rst", "fgsm")
    assert (fgsm["eps"], fgsm["run_eps"]) == ("8", "16")
    page = published.table_md.read_text()
    assert "| fgsm linf 8 (run at 16) |" in page
    assert "| pgd20 linf 8 |" in page


def test_other_networks_under_the_same_name_are_not_compared(tmp_path: Path) -> None:
    # Without attack the best checkpoint was measured, under attack the last one: no flags, no share of fooled images.
    last = "last: {kind: ticket, search: rst, ratio: 0.10, checkpoint: last, report_as: rst}"
    text = BATTERY_SUITE.replace("  r2s: {kind", f"  {last}\n  r2s: {{kind")
    text = text.replace("- {defense: rst, attack: fgsm}", "- {defense: last, attack: fgsm}")
    plan = small_plan(tmp_path, "paper", text)

    def columns(node: Node) -> dict[str, np.ndarray]:
        right = 30 if node.spec.get("checkpoint") == "last" else 20
        return samples(np.arange(N) < right) if node.kind == "predict" else by_key(node)

    fgsm = row(publish(plan, fill(plan, Store(tmp_path / "store"), columns), tmp_path / "out").battery, "rst", "fgsm")
    assert (fgsm["accuracy"], fgsm["flags"], fgsm["fooled"]) == ("75.00", "", "")


def test_what_was_not_run_stays_blank(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, "paper", BATTERY_SUITE)
    published = publish(plan, Store(tmp_path / "store"), tmp_path / "out")
    assert set(published.battery["accuracy"]) == {""}
    assert set(published.battery["order_violated"]) == {""}
    assert "| not run |  |  |  | not_run |" in published.table_md.read_text()


def test_images_that_are_not_those_of_the_predictions_are_refused(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, "paper", BATTERY_SUITE)

    def columns(node: Node) -> dict[str, np.ndarray]:
        found = by_key(node)
        return found | {"index": found["index"] + 1} if node.kind == "craft" else found

    with pytest.raises(StoreError, match="its images are not those of the predictions"):
        publish(plan, fill(plan, Store(tmp_path / "store"), columns), tmp_path / "out")
