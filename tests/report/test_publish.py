from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from rstbench.errors import SpecError, StoreError
from rstbench.report.details import details
from rstbench.report.measure import measure
from rstbench.report.publish import publish
from rstbench.report.table import COLUMNS, Counts, tidy
from rstbench.report.terminal import terminal
from rstbench.store import Store
from tests.report.planned import SUITE, by_key, fill, small_plan

COLUMNS_OF_ISSUE = (
    "table,dataset,network,defense,ratio,candidate_set,attack,norm,eps,attack_source,metric,value,variant,ours,"
    "difference,ci_low,ci_high,n,seeds,profile,run_dataset,run_network,run_eps,flags"
)


def test_columns_are_the_promised_ones() -> None:
    assert ",".join(COLUMNS) == COLUMNS_OF_ISSUE


def test_table_of_a_full_store(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    store = fill(plan, Store(tmp_path / "store"), notes=("93 of 60 000 images restored from JPEG",))
    frame = tidy(plan, store)
    assert list(frame.columns) == list(COLUMNS)
    assert frame["defense"].tolist() == ["dense_at", "dense_at", "r2s", "r2s", "pair", "pair"]
    # `value` stands only where the cell answers the paper's; there the variant is empty.
    assert frame["value"].tolist() == ["81.73", "50.19", "63.93", "", "", ""]
    assert frame["variant"].tolist() == ["", "", "", "never stops", "", ""]
    assert frame["eps"].tolist() == ["", "8", "8", "8", "8", "8"]
    for position, row in enumerate(frame.to_dict("records")):
        found = measure(plan.cells[position], store)
        assert found is not None
        assert row["ours"] == f"{found.accuracy:.2f}"
        assert (row["n"], row["seeds"], row["profile"], row["run_dataset"]) == ("40", "0", "desk", "cifar10")
        assert float(row["ci_low"]) <= float(row["ours"]) <= float(row["ci_high"])
        difference = f"{float(row['ours']) - float(row['value']):.2f}" if row["value"] else ""
        assert row["difference"] == difference
    assert frame["flags"].tolist()[:2] == ["data:notes substitute:seeds"] * 2
    assert frame["flags"][3] == "data:notes headline substitute:schedule substitute:seeds"


def test_no_difference_under_other_data_or_networks(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, "smoke")
    frame = tidy(plan, fill(plan, Store(tmp_path / "store")))
    assert (frame["ours"] != "").all()
    assert frame["value"].tolist()[:3] == ["81.73", "50.19", "63.93"]
    assert (frame["difference"] == "").all()
    assert frame["dataset"].unique().tolist() == ["cifar10"]
    assert frame["run_dataset"].unique().tolist() == ["digits"]
    assert frame["run_network"].unique().tolist() == ["preact_resnet10-w0.25"]


@pytest.mark.parametrize(
    ("overlay", "compared"),
    [
        ("networks: {preact_resnet18: {width: 0.5}}", False),
        ('attacks: {pgd20: {epsilon: "4/255"}}', False),
        ("attacks: {pgd20: {samples: 1000}}", True),
        ("searches: {rst: {epochs: 6}}", True),
    ],
)
def test_difference_needs_the_papers_network_and_epsilon(tmp_path: Path, overlay: str, compared: bool) -> None:
    text = re.sub(r"(?s)  desk:.*?  smoke:", f"  desk:\n    {overlay}\n  smoke:", SUITE)
    plan = small_plan(tmp_path, "desk", text)
    frame = tidy(plan, fill(plan, Store(tmp_path / "store")))
    row = frame.iloc[2]
    assert row["value"] == "63.93"
    assert (row["difference"] != "") == compared
    assert row["eps"] == "8"


def test_cells_that_were_not_run_stay_blank(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    frame = tidy(plan, Store(tmp_path / "store"))
    assert (frame[["ours", "difference", "ci_low", "ci_high", "n"]] == "").all().all()
    assert frame["value"].tolist()[:3] == ["81.73", "50.19", "63.93"]
    assert all("not_run" in flags.split() for flags in frame["flags"])
    assert "not run; paper 63.93" in publish(plan, Store(tmp_path / "store"), tmp_path / "out").table_md.read_text()


def test_batches_that_did_not_fit_are_flagged(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    halved = plan.nodes[plan.cells[1].predictions[0][0][0]].inputs["images"]
    store = Store(tmp_path / "store")
    store.prepare()
    store.write(halved, {"kind": "craft", "flags": ["batch:halved_to_64"]}, {})
    frame = tidy(plan, store)
    assert ["batch:halved_to_64" in flags for flags in frame["flags"]] == [False, True, False, False, False, False]


def test_two_cells_may_not_be_one_row(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    plan = replace(plan, cells=(*plan.cells, plan.cells[2]))  # what a suite file may not say either
    with pytest.raises(SpecError, match=r"two cells are the same row.*r2s.*variant"):
        tidy(plan, Store(tmp_path / "store"))


def test_key_columns_take_the_papers_words(tmp_path: Path) -> None:
    text = SUITE.replace("paper: 3", "paper: 2").replace(
        "pgd20: {kind: pgd, stop: source_fooled}", "pgd20: {kind: pgd, report_as: pgd_l2, norm: l2, epsilon: 2}"
    )
    frame = tidy(small_plan(tmp_path, text=text), Store(tmp_path / "store"))
    assert frame.loc[1, ["attack", "norm", "eps", "run_eps", "value"]].tolist() == ["pgd_l2", "l2", "2.0", "2", "39.04"]


def test_publish_writes_everything_and_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    store = fill(plan, Store(tmp_path / "store"), notes=("restored from JPEG",))
    first, second = publish(plan, store, tmp_path / "a" / "deep"), publish(plan, store, tmp_path / "b")
    assert sorted(os.listdir(tmp_path / "b")) == [
        "battery.csv",
        "details.csv",
        "samples.parquet",
        "table.csv",
        "table.md",
        "transfer.csv",
    ]
    assert [p.read_bytes() for p in first.paths] == [p.read_bytes() for p in second.paths]
    assert first.table_csv.read_text().splitlines()[0] == COLUMNS_OF_ISSUE
    assert first.answering == Counts(3, 3, 0)
    assert first.further == Counts(3, 3, 0)
    assert first.answering.not_run == 0
    # pandas reads back what was written, `none` and blanks included.
    read = pd.read_csv(first.table_csv, dtype=str, keep_default_na=False)
    assert read.equals(first.frame.astype(read.dtypes.to_dict()))


def test_details_of_a_cell(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, "paper")
    store = fill(plan, Store(tmp_path / "store"), notes=("restored from JPEG",))
    frame = details(plan, store)
    assert len(frame) == 18  # six cells, three seeds
    row = frame[(frame["defense"] == "pair") & (frame["attack"] == "pgd20")].iloc[1]
    assert (row["seed"], row["interval"], row["notes"]) == ("1", "t over seeds", "restored from JPEG")
    (data,) = [node for node in plan.nodes.values() if node.kind == "data"]
    assert row["data_fingerprint"] == data.spec["fingerprint"]
    assert (row["linf"], row["l2"]) == ("8.000", "0.5000")
    assert (row["best_epoch"], row["best_validation_accuracy"]) == ("5 5", "41.50 41.50")
    assert (row["network_seconds"], row["attack_seconds"], row["predict_seconds"]) == ("4.0", "4.0", "8.0")
    assert row["checkpoint"] == "best_on_validation"
    assert len(row["predict_keys"].split()) == 4
    found = measure(plan.cells[4], store)
    assert found is not None
    assert row["accuracy"] == f"{found.seeds[1].accuracy:.2f}"


def test_details_show_the_seeds_that_are_done(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, "paper")
    left_out = plan.cells[0].predictions[2][0][0]
    store = fill(plan, Store(tmp_path / "store"), lambda node: None if node.key == left_out else by_key(node))
    frame = details(plan, store).iloc[:3]
    assert [accuracy != "" for accuracy in frame["accuracy"]] == [True, True, False]
    assert tidy(plan, store).loc[0, "ours"] == ""


def test_transfer_matrices(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, "paper")
    store = fill(plan, Store(tmp_path / "store"))
    frame = publish(plan, store, tmp_path / "out").matrices
    assert len(frame) == 36 + 36 + 4 + 2
    assert frame[frame["attack"] == "eot_pgd20"]["source"].tolist() == ["eot", "eot"]
    found = measure(plan.cells[4], store)
    assert found is not None
    pair = frame[(frame["defense"] == "pair") & (frame["attack"] == "pgd20")]
    assert pair["accuracy"].tolist() == [f"{value:.2f}" for value in found.matrix.ravel()]
    assert pair["seeds"].unique().tolist() == ["0 1 2"]


def test_the_page_says_what_it_is(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, "smoke")
    store = fill(plan, Store(tmp_path / "store"), notes=("1797 digits",))
    published = publish(plan, store, tmp_path / "out")
    page = published.table_md.read_text()
    assert page.startswith("# Random switch | small\n")
    assert "cifar10 -> digits" in page
    assert "preact_resnet18 -> preact_resnet10-w0.25" in page
    assert "seeds 0 for 0 1 2" in page
    assert "Cells that answer the paper: 3 declared; 3 run with substitutes; 0 run in the paper's setting." in page
    assert "Notes on the data: 1797 digits." in page
    assert "Test images: 40. Seeds: 0." in page
    assert "Wilson's interval" in page
    assert "Percentile bootstrap over images" in page
    assert "Student" not in page
    assert "- `headline`:" in page
    assert "batch:" not in page
    headline = published.frame.loc[3, "ours"]
    (line,) = [line for line in page.splitlines() if "never stops" in line and line.startswith("| preact")]
    assert f"**{headline}** [" in line
    assert "paper" not in line
    # The variant stands beneath its row; every row has as many cells as the head.
    table = [line for line in page.splitlines() if line.startswith("| ")]
    assert table[table.index(line) - 1].startswith("| preact_resnet18 | r2s (0.05")
    assert len({line.count("|") for line in table[:6]}) == 1
    assert "off it (transferred)" in page


def test_the_paper_profile_counts_as_the_papers_setting(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, "paper")
    published = publish(plan, fill(plan, Store(tmp_path / "store")), tmp_path / "out")
    assert published.answering == Counts(3, 0, 3)
    page = published.table_md.read_text()
    assert "Nothing is substituted" in page
    assert "Student's t" in page
    assert "(-" in page or "(+" in page


def test_axes_outside_the_layout_still_tell_rows_apart(tmp_path: Path) -> None:
    text = SUITE.replace("  paper: 3\n", "  paper: 3\n  rows: [network]\n  columns: [dataset]\n")
    plan = small_plan(tmp_path, text=text)
    page = publish(plan, fill(plan, Store(tmp_path / "store")), tmp_path / "out").table_md.read_text()
    assert "| network | defense | attack | variant | cifar10 |" in page


def test_terminal_prints_the_table(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    published = publish(plan, fill(plan, Store(tmp_path / "store")), tmp_path / "out")
    screen = io.StringIO()
    terminal(plan, published.frame, published.answering, published.further, Console(file=screen, width=200))
    shown = screen.getvalue()
    assert "paper 63.93" in shown
    assert published.frame.loc[2, "ours"] in shown
    assert "3 declared" in shown


def test_a_folder_that_cannot_be_written_is_one_clear_message(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"results cannot be written to .*--out"):
        publish(plan, Store(tmp_path / "store"), tmp_path / "file" / "out")


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = small_plan(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreError, match="No space left"):
        publish(plan, Store(tmp_path / "store"), tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_reports_import_no_torch(tmp_path: Path) -> None:
    script = """
import sys
import rstbench.report
assert not {"pandas", "numpy", "pyarrow"} & set(sys.modules)
import rstbench.report.publish, rstbench.report.terminal, rstbench.report.paper
assert not {"pandas", "scipy", "pyarrow", "rich"} & set(sys.modules), "heavy"
from pathlib import Path
from planned import fill, small_plan
from rstbench.store import Store
folder = Path(sys.argv[1])
plan = small_plan(folder)
rstbench.report.publish.publish(plan, fill(plan, Store(folder / "store")), folder / "out")
rstbench.report.paper.paper_frame()
assert "torch" not in sys.modules and "scipy.stats" not in sys.modules
"""
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parents[1]), str(here)])}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
