from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rstbench.errors import StoreError
from rstbench.plan import PlannedCell, plan
from rstbench.report.measure import Records, describe, measure, measure_seed
from rstbench.spec.load import load_suite
from rstbench.store import Store
from tests.report.planned import by_key, fill, parquet, samples, small_plan
from tests.suites import SHIPPED, facts_of


def cell_of(
    predictions: list[list[list[str]]], probabilities: tuple[float, ...], sources: tuple[str, ...] = ("a", "b")
) -> PlannedCell:
    columns = {"dataset": "d", "network": "n", "defense": "r2s", "attack": "pgd20", "variant": ""}
    keys = tuple(tuple(tuple(row) for row in seed) for seed in predictions)
    members = tuple("ab"[: len(probabilities)])
    seeds = tuple(range(len(predictions)))
    return PlannedCell(columns, {}, seeds, keys, sources, members, probabilities, "pgd20", False, ())


def store_of(folder: Path, values: dict[str, dict[str, np.ndarray]]) -> Store:
    store = Store(folder / "store")
    store.prepare()
    for key, columns in values.items():
        store.write(key, {"kind": "predict"}, {"samples.parquet": parquet(columns)})
    return store


def key(letter: str) -> str:
    return letter * 64


def right(bits: str) -> dict[str, np.ndarray]:
    return samples(np.array([bit == "1" for bit in bits]))


def test_the_score_is_the_mean_over_sources_of_the_weighted_mean_over_members(tmp_path: Path) -> None:
    store = store_of(
        tmp_path, {key("a"): right("1100"), key("b"): right("1111"), key("c"): right("1010"), key("d"): right("0000")}
    )
    cell = cell_of([[[key("a"), key("b")], [key("c"), key("d")]]], (0.25, 0.75))
    found = measure(cell, store)
    assert found is not None
    assert found.seeds[0].scores.tolist() == [0.625, 0.5, 0.5, 0.375]
    assert found.accuracy == pytest.approx(50.0)
    assert found.n == 4
    assert found.matrix.tolist() == [[50, 100], [50, 0]]
    assert found.members.tolist() == [50, 50]
    assert found.interval.kind == "bootstrap"


def test_one_deterministic_defense_gets_wilson(tmp_path: Path) -> None:
    store = store_of(tmp_path, {key("a"): right("1101")})
    found = measure(cell_of([[[key("a")]]], (1.0,), ("a",)), store)
    assert found is not None
    assert (found.accuracy, found.interval.kind) == (75.0, "wilson")


def test_several_seeds_get_t_over_their_means(tmp_path: Path) -> None:
    store = store_of(tmp_path, {key("a"): right("1101"), key("b"): right("1100")})
    found = measure(cell_of([[[key("a")]], [[key("b")]]], (1.0,), ("a",)), store)
    assert found is not None
    assert (found.accuracy, found.interval.kind) == (62.5, "t over seeds")
    assert [seed.accuracy for seed in found.seeds] == [75.0, 50.0]


def test_a_cell_with_a_missing_value_was_not_run(tmp_path: Path) -> None:
    store = store_of(tmp_path, {key("a"): right("1101")})
    cell = cell_of([[[key("a")]], [[key("b")]]], (1.0,), ("a",))
    assert measure(cell, store) is None
    seed = measure_seed(cell, 0, store)
    assert seed is not None
    assert seed.accuracy == 75.0


def test_one_network_whose_worst_images_are_chosen_gets_wilson(tmp_path: Path) -> None:
    store = store_of(tmp_path, {key("a"): right("1101"), key("b"): right("1011")})
    cell = replace(cell_of([[[key("a")], [key("b")]]], (1.0,)), score="pointwise")
    found = measure(cell, store)
    assert found is not None
    assert (found.accuracy, found.interval.kind) == (50.0, "wilson")
    mean = measure(replace(cell, score="mean"), store)
    assert mean is not None
    assert (mean.accuracy, mean.interval.kind) == (75.0, "bootstrap")


def test_the_worst_source_is_named(tmp_path: Path) -> None:
    store = store_of(
        tmp_path, {key("a"): right("1100"), key("b"): right("1111"), key("c"): right("1010"), key("d"): right("0000")}
    )
    cell = cell_of([[[key("a"), key("b")], [key("c"), key("d")]]], (0.25, 0.75))
    found = measure_seed(replace(cell, score="worst_source"), 0, store)
    assert found is not None
    assert found.scores.tolist() == [0.25, 0, 0.25, 0]
    assert found.worst_source == 1
    assert found.matrix.tolist() == [[50, 100], [50, 0]]


def test_the_game_is_fitted_on_held_out_images_only(tmp_path: Path) -> None:
    # On held-out images the first member survives three of four times, and the second never where the first falls.
    store = store_of(
        tmp_path, {key("a"): right("1110"), key("b"): right("0000"), key("c"): right("01"), key("d"): right("11")}
    )
    cell = cell_of([[[key("c"), key("d")]]], (0.5, 0.5), ("a",))
    game = replace(cell, score="game", held_out=(((key("a"), key("b")),),))
    found = measure_seed(game, 0, store)
    assert found is not None
    assert found.mixture == (1.0, 0.0)
    assert found.scores.tolist() == [0.0, 1.0]
    missing = replace(game, held_out=(((key("a"), key("e")),),))
    assert measure_seed(missing, 0, store) is None
    assert measure(missing, store) is None


def test_six_equal_weights_score_exactly_one(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    all_right = samples(np.ones(12, dtype=bool))
    store = fill(plan, Store(tmp_path / "store"), lambda node: all_right if node.kind == "predict" else by_key(node))
    found = measure(plan.cells[2], store)
    assert found is not None
    assert found.matrix.shape == (6, 6)
    assert found.accuracy == 100.0
    assert found.seeds[0].scores.tolist() == [1.0] * 12


def test_predictions_of_other_images_or_labels_are_refused(tmp_path: Path) -> None:
    other_images, other_labels = right("1100"), right("1100")
    other_images["index"] = other_images["index"] + 1
    other_labels["label"] = other_labels["label"] + 1
    store = store_of(tmp_path, {key("a"): right("1100"), key("b"): other_images, key("c"): other_labels})
    for other in "bc":
        with pytest.raises(StoreError, match="are not those of aaaaaaaaaaaa"):
            measure(cell_of([[[key("a"), key(other)]]], (0.5, 0.5), ("a",)), store)


def test_seeds_with_other_numbers_of_images_are_refused(tmp_path: Path) -> None:
    store = store_of(tmp_path, {key("a"): right("1100"), key("b"): right("110")})
    with pytest.raises(StoreError, match="4 under seed 0, 3 under seed 1"):
        measure(cell_of([[[key("a")]], [[key("b")]]], (1.0,), ("a",)), store)


@pytest.mark.parametrize(
    "columns",
    [
        {"index": np.arange(3), "label": np.arange(3)},
        {"index": np.arange(3), "label": np.arange(3), "prediction": np.arange(3.0)},
        {"index": np.zeros(3, dtype=int), "label": np.arange(3), "prediction": np.arange(3)},
        {"index": np.arange(0), "label": np.arange(0), "prediction": np.arange(0)},
    ],
)
def test_what_is_no_prediction_is_refused(tmp_path: Path, columns: dict[str, np.ndarray]) -> None:
    store = store_of(tmp_path, {key("a"): columns})
    with pytest.raises(StoreError, match=r"samples\.parquet"):
        measure(cell_of([[[key("a")]]], (1.0,), ("a",)), store)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    store = store_of(tmp_path, {})
    store.write(key("a"), {"kind": "predict"}, {"samples.parquet": b"no parquet"})
    with pytest.raises(StoreError, match="not per-sample results"):
        measure(cell_of([[[key("a")]]], (1.0,), ("a",)), store)


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    store = store_of(tmp_path, {key("a"): right("1100")})
    path = store.value(key("a")).directory / "samples.parquet"
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(StoreError, match="damaged"):
        measure(cell_of([[[key("a")]]], (1.0,), ("a",)), store)


def test_words_tell_every_cell_from_all_others_of_its_table() -> None:
    for path in (path for path in SHIPPED if path.name.startswith("table")):
        suite = load_suite(path, "smoke")
        cells = plan(suite, facts_of(suite)).cells
        assert len({describe(cell) for cell in cells}) == len(cells), path.name
    small = "cell r2s, preact_resnet18, cifar10, pgd20, stop=never, ratios 0.03 0.05 0.07 0.10, epsilon 8"
    suite = load_suite(next(path for path in SHIPPED if path.stem == "table8_candidates"), "smoke")
    assert small in [describe(cell) for cell in plan(suite, facts_of(suite)).cells]


def test_nodes_lead_back_to_the_data(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    store = fill(plan, Store(tmp_path / "store"))
    nodes = Records(plan, store).nodes([plan.cells[1].predictions[0][0][0]])
    assert [node.kind for node in nodes.values()] == ["data", "train", "craft", "predict"]
