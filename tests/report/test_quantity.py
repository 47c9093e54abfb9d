from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from rstbench.errors import StoreError
from rstbench.plan import Node, Plan
from rstbench.report.measure import measure_plan
from rstbench.report.publish import Published, publish
from rstbench.report.quantity import SeedQuantity, combine_quantities, quantity_text
from rstbench.report.statistics import bootstrap_mean, t_of_means
from rstbench.report.table import Counts, tidy
from rstbench.report.terminal import terminal
from rstbench.store import Store
from tests.report.planned import N, distances, fill, parquet, small_plan

MEASURES = """
schema: 1
name: measures
title: What else is measured
seeds: [0]
matrix:
  dataset: [imagenet]
  network: [resnet18, resnet50]
datasets:
  imagenet: {source: imagenet}
networks:
  resnet18: {family: resnet18}
  resnet50: {family: resnet50}
trainings:
  at: {}
searches:
  rst: {}
defenses:
  dense_at: {kind: dense, training: at}
  rst: {kind: ticket, search: rst, ratio: 0.40}
  r2s: {kind: r2s, search: rst, ratios: [0.05, 0.10]}
attacks:
  clean: {kind: clean, of_epsilon: "2/255"}
measures:
  parameters: {kind: parameters, of_epsilon: "2/255"}
  files: {kind: bytes}
  weights: {kind: bytes, of: separate_weights, report_as: bytes_separate}
  distance: {kind: feature_distance, epsilon: "8/255", noise: sign}
  overlap: {kind: mask_overlap, variant: of the last epoch}
table:
  paper: 1
  cells:
    - {defense: dense_at, attack: clean, network: resnet18}
    - {defense: dense_at, measure: parameters, network: resnet18}
    - {defense: rst, measure: parameters, network: resnet50}
    - {defense: r2s, measure: files, network: resnet18}
    - {defense: r2s, measure: weights, network: resnet18}
    - {defense: dense_at, measure: distance, network: resnet18}
    - {defense: r2s, measure: overlap, network: resnet18}
profiles:
  desk:
    seeds: [0, 1]
  smoke:
    datasets: {imagenet: {source: digits}}
    measures: {distance: {samples: 10}}
"""


def values(node: Node) -> dict[str, object]:
    """Facts of measure nodes: counts as of the real networks, bytes and overlaps."""
    if node.kind != "measure":
        return {}
    spec = node.spec["measure"]
    if spec["kind"] == "parameters":
        return {"value": 11.689512 if node.spec["members"][0]["remaining_ratio"] == 1 else 10.198123}
    if spec["kind"] == "bytes":
        return {"value": 9_876_543 if spec["of"] == "files" else 123}
    return {"value": 1 / 3 + int(node.key[0], 16) / 100} if spec["kind"] == "mask_overlap" else {}


def written(tmp_path: Path, profile: str = "paper", text: str = MEASURES) -> tuple[Plan, Published]:
    plan = small_plan(tmp_path, profile, text)
    store = fill(plan, Store(tmp_path / "store"), facts=values)
    return plan, publish(plan, store, tmp_path / "out")


def test_rows_of_measures(tmp_path: Path) -> None:
    plan, published = written(tmp_path)
    frame = published.frame
    assert frame["metric"].tolist() == [
        "natural_acc", "params_m", "params_m", "bytes", "bytes_separate", "feature_distance", "mask_overlap",
    ]  # fmt: skip
    assert frame["attack"].tolist() == ["none", *[""] * 6]
    ours = frame["ours"].tolist()
    assert ours[1:5] == ["11.69", "10.20", "9876543", "123"]
    # The paper's counts are answered, and the difference adds up.
    assert frame["value"].tolist()[1:3] == ["11.17", "9.41"]
    assert frame["difference"].tolist()[1:3] == ["0.52", "0.79"]
    distance = distances(plan.nodes[plan.cells[5].values[0]])
    interval = bootstrap_mean(distance)
    assert (frame.loc[5, "ours"], frame.loc[5, "n"]) == (f"{distance.mean():.4f}", str(N))
    assert frame.loc[5, ["ci_low", "ci_high"]].tolist() == [f"{interval.low:.4f}", f"{interval.high:.4f}"]
    # Counts and bytes are no matter of chance, and nothing was asked of any image.
    for row in (1, 2, 3, 4, 6):
        assert frame.loc[row, ["ci_low", "ci_high", "n"]].tolist() == ["", "", ""]
    assert not any("not_run" in flags for flags in frame["flags"])
    assert published.answering == Counts(3, 0, 3)
    assert published.further == Counts(4, 0, 4)


def test_no_difference_under_other_data(tmp_path: Path) -> None:
    _, published = written(tmp_path, "smoke")
    frame = published.frame
    assert frame["value"].tolist()[1:3] == ["11.17", "9.41"]
    assert (frame["difference"] == "").all()
    assert "substitute:attack" in frame.loc[5, "flags"]
    assert "settings of the measure feature_distance" in published.table_md.read_text()


def test_several_seeds(tmp_path: Path) -> None:
    plan, published = written(tmp_path, "desk")
    results = measure_plan(plan, Store(tmp_path / "store"))
    for position in (5, 6):
        quantity = results[position].quantity
        assert quantity is not None and quantity.interval is not None
        by_seed = [seed.value for seed in quantity.seeds]
        assert len(set(by_seed)) == 2
        assert quantity.interval == t_of_means(by_seed)
        assert quantity.value == results[position].value == pytest.approx(sum(by_seed) / 2)
        details = published.details[published.details["metric"] == published.frame.loc[position, "metric"]]
        assert details["quantity"].tolist() == [quantity.text(value) for value in by_seed]
        assert details["interval"].unique().tolist() == ["t over seeds"]
    assert results[1].interval is results[3].interval is None
    assert results[5].n == N


def test_the_page_and_the_terminal_say_units(tmp_path: Path) -> None:
    plan, published = written(tmp_path)
    page = published.table_md.read_text()
    assert "parameters (M) linf 2" in page
    assert "11.69; paper 11.17 (+0.52)" in page
    assert "9\N{NO-BREAK SPACE}876\N{NO-BREAK SPACE}543" in page
    assert "9876543" not in page
    assert "- feature distance: distance between" in page and "noise sign 8/255. The paper" in page
    assert "- bytes_separate: bytes of fp32 weights" in page
    assert "- mask overlap: |A and B|" in page
    assert "Test images: 40. Seeds: 0." in page
    assert "9876543" in published.table_csv.read_text()
    screen = io.StringIO()
    terminal(plan, published.frame, published.answering, published.further, Console(file=screen, width=300))
    shown = screen.getvalue()
    assert "paper 11.17 (+0.52)" in shown and "mask overlap" in shown and "9\N{NO-BREAK SPACE}876" in shown


def test_a_list_has_room_for_measures(tmp_path: Path) -> None:
    plan, published = written(tmp_path, text=MEASURES.replace("  paper: 1\n", "  paper: 1\n  layout: list\n"))
    page = published.table_md.read_text()
    assert "| attack or measure | variant | accuracy or value |" in page
    assert "| bytes |  | 9\N{NO-BREAK SPACE}876\N{NO-BREAK SPACE}543 |" in page
    screen = io.StringIO()
    console = Console(file=screen, width=300)
    terminal(plan, published.frame, published.answering, published.further, console, published.battery)
    assert "accuracy or value" in screen.getvalue()


def test_a_table_of_measures_alone(tmp_path: Path) -> None:
    text = MEASURES.replace("    - {defense: dense_at, attack: clean, network: resnet18}\n", "").replace(
        "    - {defense: dense_at, measure: distance, network: resnet18}\n", ""
    )
    _, published = written(tmp_path, text=text)
    page = published.table_md.read_text()
    assert "Accuracies" not in page and "Nothing has been run" not in page and "Test images" not in page
    assert "\nSeeds: 0." in page
    assert (published.battery["accuracy"] == "").all() and len(published.battery) == 5
    assert published.matrices.empty
    assert published.samples.exists()


def test_details_of_a_measure(tmp_path: Path) -> None:
    plan, published = written(tmp_path)
    rows = published.details.to_dict("records")
    assert [row["accuracy"] == "" for row in rows] == [False, *[True] * 6]
    assert [row["quantity"] for row in rows[1:5]] == ["11.69", "10.20", "9876543", "123"]
    assert rows[1]["network_keys"] == rows[1]["data_fingerprint"] == ""
    assert len(rows[3]["network_keys"].split()) == 2 and rows[3]["checkpoint"] == "best_on_validation"
    assert rows[3]["best_epoch"] == "5 5" and rows[3]["network_seconds"] == "4.0"
    assert rows[5]["n"] == str(N) and rows[5]["interval"] == "bootstrap"
    assert rows[5]["data_fingerprint"] == "0" * 64
    assert rows[3]["predict_keys"] == plan.cells[3].values[0][:12]


def test_what_is_not_in_the_store_is_blank(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, "desk", MEASURES)
    store = Store(tmp_path / "store")
    published = publish(plan, store, tmp_path / "out")
    assert (published.frame["ours"] == "").all()
    assert "not run; paper 11.17" in published.table_md.read_text()
    # One of two seeds is there: the row waits, the details do not.
    cell = plan.cells[5]
    columns = {"index": np.arange(N), "value": np.full(N, 0.25)}
    store.prepare()
    store.write(cell.values[1], {"kind": "measure", "value": 0.25}, {"samples.parquet": parquet(columns)})
    again = publish(plan, store, tmp_path / "out")
    assert again.frame.loc[5, "ours"] == "" and "not_run" in again.frame.loc[5, "flags"]
    rows = again.details[again.details["metric"] == "feature_distance"]
    assert rows["quantity"].tolist() == ["", "0.2500"]


@pytest.mark.parametrize(
    ("record", "columns"),
    [
        ({}, None),
        ({"value": "many"}, None),
        ({"value": True}, None),
        ({"value": float("inf")}, None),
        ({"value": 0.2}, {"index": np.arange(3), "value": np.array([0.1, np.nan, 0.3])}),
        ({"value": 0.2}, {"index": np.arange(3)}),
    ],
)
def test_damaged_values_are_one_message(
    tmp_path: Path, record: dict[str, object], columns: dict[str, np.ndarray] | None
) -> None:
    plan = small_plan(tmp_path, "paper", MEASURES)
    plan = replace(plan, cells=plan.cells[5:6])
    store = Store(tmp_path / "store")
    store.prepare()
    files = {} if columns is None else {"samples.parquet": parquet(columns)}
    store.write(plan.cells[0].values[0], {"kind": "measure", **record}, files)
    with pytest.raises(StoreError):
        tidy(plan, store)


def test_seeds_of_different_images_are_refused() -> None:
    seeds = [SeedQuantity("feature_distance", seed, 0.5, np.full(10 + seed, 0.5)) for seed in (0, 1)]
    with pytest.raises(StoreError, match="10 and 11 images"):
        combine_quantities(seeds)
    assert combine_quantities([seeds[0], None]) is None


@pytest.mark.parametrize(
    ("kind", "number", "text"),
    [
        ("parameters", 11.173, "11.17"),
        ("bytes", 1234567.5, "1234568"),
        ("feature_distance", 0.123456, "0.1235"),
        ("feature_distance", 0.1, "0.1000"),
        ("feature_distance", 0.0, "0.000"),
        ("feature_distance", 12.34567, "12.35"),
        ("mask_overlap", 1.0, "1.000"),
    ],
)
def test_numbers_as_tables_have_them(kind: str, number: float, text: str) -> None:
    assert quantity_text(kind, number) == text
