"""Whatever is changed in a leaderboard, or in the store behind it, is found and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rstbench.errors import StoreError
from rstbench.nodes import node_key
from rstbench.report.leaderboard.build import boards, write_boards
from rstbench.report.leaderboard.files import (
    json_beside,
    read_csv,
    read_json,
    read_samples,
    samples_beside,
    write_csv,
    write_samples,
)
from rstbench.report.leaderboard.schema import COLUMNS
from rstbench.report.leaderboard.verify import TRUSTED, Finding, verify
from rstbench.store import Store
from tests.report.leaderboard.stored import BASE, count, fill, planned, ran
from tests.report.leaderboard.stored import written as written_to
from tests.report.planned import parquet
from tests.suites import changed


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    written_to(folder)
    return folder


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> tuple[Store, Path]:
    shutil.copytree(original, tmp_path / "copy")
    return Store(tmp_path / "copy" / "store"), tmp_path / "copy" / "boards" / "cifar10_linf.csv"


def findings(store: Store, path: Path) -> tuple[Finding, ...]:
    return verify(path, store, count).findings


def test_an_honest_leaderboard_stands(copy: tuple[Store, Path]) -> None:
    store, path = copy
    found = verify(path, store, count)
    assert found.findings == () and found.entries == 2 and found.figures > 80 and found.values > 20


def test_every_cell_of_the_csv_that_is_changed_is_found(copy: tuple[Store, Path]) -> None:
    store, path = copy
    rows = read_csv(path)
    before, name = dict(rows[0]), rows[0]["entry"]
    checked = [column for column in COLUMNS if column not in (*TRUSTED, "entry")]
    for column in checked:
        rows[0][column] = "99.99" if before[column].replace(".", "").isdigit() else f"{before[column]} and more"
    write_csv(path, rows)
    found = findings(store, path)
    assert found == tuple(Finding(path.name, name, column, rows[0][column], before[column]) for column in checked)
    first = f"cifar10_linf.csv, entry {name}, rank: stands 99.99, would be {before['rank']}"
    assert str(found[0]) == first


def test_entries_that_only_one_file_has_are_found(copy: tuple[Store, Path]) -> None:
    store, path = copy
    rows = read_csv(path)
    name, rows[0]["entry"] = rows[0]["entry"], "a" * 12
    write_csv(path, rows)
    assert [(f.file, f.entry) for f in findings(store, path)] == [(path.name, name), (json_beside(path).name, "a" * 12)]


Change = Callable[[dict[str, Any]], object]


def in_json(path: Path, change: Change) -> None:
    whole = json.loads(json_beside(path).read_text())
    change(whole)
    json_beside(path).write_text(json.dumps(whole))


def entry(whole: dict[str, Any], defense: str = "r2s") -> dict[str, Any]:
    return next(each for each in whole["entries"] if each["defense"] == defense)


def row(whole: dict[str, Any], metric: str, defense: str = "r2s") -> dict[str, Any]:
    return next(each for each in entry(whole, defense)["rows"] if metric in each["metrics"])


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda w: row(w, "adaptive").update(accuracy="99.99"), "accuracy: stands 99.99"),
        (lambda w: row(w, "pgd20").update(label="autoattack"), "label: stands autoattack, would be pgd20"),
        (lambda w: row(w, "pgd20").update(metrics=["worst"]), "metrics"),
        (lambda w: row(w, "adaptive").update(epsilon="4/255"), "epsilon: stands 4/255, would be 8/255"),
        (lambda w: entry(w)["networks"][1].update(sha256="0" * 64), "networks[1].sha256"),
        (lambda w: entry(w)["transfer"][0]["matrix"][0].__setitem__(0, 1.5), "transfer[0].matrix[0][0]: stands 1.5"),
        (lambda w: entry(w)["rows"][2]["images"][0][0].__setitem__(0, "0" * 64), "images[0][0][0]"),
        (lambda w: entry(w).update(date="2027-01-01"), "date: stands 2027-01-01, would be 2026-11-21"),
        (lambda w: entry(w)["record"].update(hardware=["better"]), "record.hardware"),
        (
            lambda w: entry(w)["challenges"].append({"by": "x", "key": "0" * 64, "images": 1, "fell": 1, "date": ""}),
            "challenges",
        ),
        (lambda w: w.update(dataset="cifar100"), "dataset: stands cifar100, would be cifar10"),
        (lambda w: entry(w)["rows"].remove(row(w, "adaptive")), "rows: stands nothing, would be eot_pgd20"),
        (lambda w: row(w, "pgd20")["cell"].update(predictions=row(w, "pgd20_paper")["cell"]["predictions"]), "pgd20"),
        (
            lambda w: row(w, "clean", "dense")["cell"].update(
                predictions=[[row(w, "clean")["cell"]["predictions"][0][0][:1]]]
            ),
            "is of other networks",
        ),
        (lambda w: row(w, "pgd20")["cell"]["predictions"][0][0].reverse(), "refused: value"),
        (lambda w: row(w, "pgd20")["cell"]["predictions"][0][0].__setitem__(0, "0" * 64), "has no value"),
        (lambda w: row(w, "pgd20")["cell"].update(probabilities=[1.0, 0.0, 0.0]), "another draw"),
        (lambda w: entry(w, "dense").update(epsilon="4/255"), "not within linf 4/255"),
        (lambda w: entry(w, "dense").update(epsilon="x"), "no distance"),
        (lambda w: entry(w, "dense").update(rows=[]), "no rows"),
    ],
)
def test_what_is_changed_behind_a_row_is_found(copy: tuple[Store, Path], change: Change, words: str) -> None:
    store, path = copy
    in_json(path, change)
    found = findings(store, path)
    assert any(words in str(each) for each in found), list(map(str, found))


def test_changed_scores_are_found(copy: tuple[Store, Path]) -> None:
    store, path = copy
    samples = read_samples(samples_beside(path))
    (key, scores) = next((k, s) for k, s in samples.items() if k[1] == "worst")
    for other, words in (
        (replace(scores, score=1 - scores.score), "for image 0 and"),
        (replace(scores, label=scores.label[::-1]), "other images or labels"),
        (replace(scores, index=scores.index + 1), "other images or labels"),
    ):
        write_samples(samples_beside(path), {**samples, key: other})
        (found,) = findings(store, path)
        assert found.entry == key[0] and found.column == "worst, seed 0" and words in found.stands
    write_samples(samples_beside(path), {k: s for k, s in samples.items() if k != key})
    assert [f.would_be for f in findings(store, path)] == ["scores"]
    write_samples(samples_beside(path), {**samples, ("f" * 12, "worst", 0): scores})
    assert [f.entry for f in findings(store, path)] == ["f" * 12]


def adaptive(path: Path) -> str:
    """Key of a prediction of the switch's first member under EOT."""
    entries = [each for each in read_json(json_beside(path)).entries if each.row["defense"] == "r2s"]
    return next(row for row in entries[0].rows if "adaptive" in row.metrics).cell.predictions[0][0][0]


def test_a_changed_file_of_predictions_is_found_by_its_digest(copy: tuple[Store, Path]) -> None:
    store, path = copy
    file = store.value(adaptive(path)).directory / "samples.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    (found,) = findings(store, path)
    assert "damaged" in found.would_be and str(file) in found.would_be


def test_predictions_that_were_replaced_together_with_their_digest_are_found_in_the_figures(
    copy: tuple[Store, Path],
) -> None:
    store, path = copy
    folder = store.value(adaptive(path)).directory
    record = json.loads((folder / "record.json").read_text())
    index = np.arange(240)
    data = parquet({"index": index * 3, "label": index % 10, "prediction": index % 10})
    shutil.rmtree(folder)
    store.write(
        record["key"], {k: v for k, v in record.items() if k not in ("files", "key")}, {"samples.parquet": data}
    )
    columns = {found.column for found in findings(store, path)}
    assert {"adaptive", "adaptive_low", "evidence"} <= columns


def rewritten(store: Store, key: str, **changes: object) -> None:
    path = store.value(key).directory / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_record_that_does_not_match_its_key_is_found(copy: tuple[Store, Path]) -> None:
    store, path = copy
    craft = store.value(store.value(adaptive(path)).record["inputs"]["images"])
    spec = craft.record["spec"]
    rewritten(store, craft.key, spec={**spec, "attack": {**spec["attack"], "steps": 500}})
    found = findings(store, path)
    assert any("not the hash of its kind, version, spec and inputs" in each.would_be for each in found)


def test_another_prediction_of_the_same_images_is_as_good_and_of_another_network_is_not(
    copy: tuple[Store, Path],
) -> None:
    store, path = copy
    key = adaptive(path)
    record = dict(store.value(key).record)
    spec = {**record["spec"], "batch": 7}
    other = node_key("predict", spec, record["inputs"])
    files = {"samples.parquet": store.value(key).read("samples.parquet")}
    store.write(other, {**record, "spec": spec}, files)
    in_json(path, lambda w: row(w, "adaptive")["cell"]["predictions"][0][0].__setitem__(0, other))
    assert findings(store, path) == ()
    rewritten(store, other, spec={**spec, "checkpoint": "last"})
    assert any("other networks" in str(each) or "not the hash" in str(each) for each in findings(store, path))


def test_an_attack_that_the_store_has_and_the_entry_passes_over_is_found(tmp_path: Path) -> None:
    store, path = written_to(tmp_path, changed(BASE, ("    - {defense: dense_at, attack: apgd}\n", "")))
    assert findings(store, path) == ()
    fill(store, planned(tmp_path / "more"))
    passed = [each for each in findings(store, path) if each.column == "rows"]
    assert [each.would_be for each in passed] == ["apgd_ce, 100 steps"]


def test_records_that_no_builder_wrote_are_refused_and_named(copy: tuple[Store, Path]) -> None:
    store, path = copy
    for directory in (store.root / "values").glob("*/*"):
        record = json.loads((directory / "record.json").read_text())
        if record["kind"] == "craft":
            record["spec"]["probabilities"] = {"a": []}
            (directory / "record.json").write_text(json.dumps(record))
    found = findings(store, path)
    assert len(found) == 2 and all("refused" in str(each) for each in found)


def test_a_store_that_has_nothing_of_it_is_no_proof(copy: tuple[Store, Path], tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    other.prepare()
    with pytest.raises(StoreError, match="none of the values"):
        verify(copy[1], other, count)


def test_formulas_in_names_are_the_same_in_csv_and_json(tmp_path: Path) -> None:
    plan, store = planned(tmp_path), Store(tmp_path / "store")
    fill(store, plan)
    hostile = replace(ran(plan), file="=cmd|' /C calc'!A0")
    (path,) = write_boards(boards([hostile], store, count), tmp_path / "boards")
    rows = read_csv(path)
    assert all(not cell.startswith(("=", "+", "-", "@")) for each in rows for cell in each.values())
    assert findings(store, path) == ()
