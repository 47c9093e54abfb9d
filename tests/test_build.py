from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet

from rstbench import build
from rstbench.attacks.draws import PerImage
from rstbench.attacks.pgd import pgd
from rstbench.attacks.threat import Threat
from rstbench.build import Bench, choose_device, run_node
from rstbench.build import bench as bench_module
from rstbench.build.attack import build_craft
from rstbench.data.cuts import split
from rstbench.data.sources import facts, load
from rstbench.defenses.view import CallableView
from rstbench.errors import DataError, DeviceError, StoreError
from rstbench.evaluation.files import unpack_images
from rstbench.plan import Node, Plan, PlannedCell, plan
from rstbench.report.measure import measure
from rstbench.spec.load import load_suite
from rstbench.spec.versions import BUILDER_VERSIONS
from rstbench.store import Store, Value
from rstbench.tickets.ticket import read_ticket
from rstbench.training import derive_seed
from tests.data.made import members

SUITE = """
schema: 1
name: tiny
title: Two tickets and a dense network on digits
seeds: [7]
matrix: {dataset: [digits], network: [tiny]}
datasets:
  digits: {source: digits, validation_fraction: 0.1}
networks:
  tiny: {family: preact_resnet10, width: 0.1}
trainings:
  natural: {epochs: 1, batch: 128, lr_schedule: {kind: constant}, inner: {kind: none}, augmentation: {padding: 0, flip: false}}
searches:
  fast:
    epochs: 2
    batch: 128
    lr_schedule: {kind: constant}
    augmentation: {padding: 1, flip: false}
    inner: {kind: fgsm_rs, epsilon: "16/255"}
    validation: {every: 1, steps: 2}
defenses:
  dense: {kind: dense, training: natural}
  last: {kind: ticket, search: fast, ratio: 0.3, checkpoint: last}
  r2s: {kind: r2s, search: fast, ratios: [0.1, 0.3], probabilities: [0.25, 0.75]}
attacks:
  clean: {kind: clean, samples: 50}
  pgd: {kind: pgd, epsilon: "24/255", step_size: "6/255", steps: 4, stop: source_fooled, samples: 50, batch: 16}
  never: {kind: pgd, epsilon: "24/255", step_size: "6/255", steps: 4, samples: 50, batch: 16, variant: never}
  eot: {kind: pgd, norm: l2, epsilon: 0.7, steps: 3, view: eot, samples: 20, variant: l2}
  ensemble: {kind: pgd, epsilon: "24/255", steps: 2, view: ensemble, samples: 20, variant: adaptive,
    engine: {precision: bf16, layout: channels_last}}
table:
  cells:
    - {defense: dense, attack: clean}
    - {defense: dense, attack: pgd}
    - {defense: last, attack: clean}
    - {defense: r2s, attack: clean}
    - {defense: r2s, attack: pgd}
    - {defense: r2s, attack: never}
    - {defense: r2s, attack: eot}
    - {defense: r2s, attack: ensemble}
"""  # noqa: E501


def silent(done: float, total: float, note: str) -> None:
    pass


def planned(folder: Path, text: str = SUITE, data_dir: Path | None = None) -> Plan:
    path = folder / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    suite = load_suite(path)
    return plan(suite, {spec: facts(spec, data_dir) for spec in suite.run.datasets.values()})


def bench(root: Path, data_dir: Path | None = None) -> Bench:
    store = Store(root)
    store.prepare()
    return Bench(store, data_dir, torch.device("cpu"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return planned(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def done(tiny: Plan, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """All nodes of the plan, computed."""
    made = bench(tmp_path_factory.mktemp("store"))
    for node in tiny.nodes.values():
        value = run_node(node, made, silent)
        assert value.key == node.key and made.store.has(node.key)
    return made


def of_kind(tiny: Plan, kind: str) -> list[Node]:
    return [node for node in tiny.nodes.values() if node.kind == kind]


def cell(tiny: Plan, defense: str, attack: str) -> PlannedCell:
    (found,) = [c for c in tiny.cells if c.columns["defense"] == defense and c.attack_key == attack]
    return found


def files(value: Value) -> dict[str, bytes]:
    return {name: value.read(name) for name in value.record["files"]}


def table(value: Value) -> dict[str, np.ndarray[Any, Any]]:
    read = parquet.read_table(io.BytesIO(value.read("samples.parquet")))
    return {name: read.column(name).to_numpy() for name in read.column_names}


def test_files_of_each_kind(tiny: Plan, done: Bench) -> None:
    expected = {
        "data": set(),
        "train": {"best_on_validation.safetensors", "last.safetensors"},
        "search": {"best_on_validation.safetensors", "last.safetensors"},
        "craft": {"images.safetensors", "samples.parquet"},
        "predict": {"samples.parquet"},
    }
    assert {node.kind for node in tiny.nodes.values()} == set(expected)
    for node in tiny.nodes.values():
        assert set(done.store.value(node.key).record["files"]) == expected[node.kind]
    assert list((done.store.root / "partial").iterdir()) == []


def test_records(tiny: Plan, done: Bench) -> None:
    for node in tiny.nodes.values():
        record = done.store.value(node.key).record
        assert record["kind"] == node.kind and record["title"] == node.title
        assert record["spec"] == json.loads(json.dumps(node.spec)) and record["inputs"] == node.inputs
        assert record["wall_seconds"] >= 0
        assert {"rstbench", "python", "torch", "torchvision", "numpy", "hardware"} <= set(record["provenance"])
    (data,) = of_kind(tiny, "data")
    record = done.store.value(data.key).record
    assert (record["classes"], record["train_images"], record["test_images"]) == (10, 1438, 359) and record["notes"]
    for node in of_kind(tiny, "search"):
        outcome = done.store.value(node.key).record["outcome"]
        assert [row["epoch"] for row in outcome["history"]] == [1, 2] and outcome["best_epoch"] in (1, 2)
        best = outcome["history"][outcome["best_epoch"] - 1]
        assert best["validation_accuracy"] == outcome["best_validation_accuracy"]
    for node in (*of_kind(tiny, "craft"), *of_kind(tiny, "predict")):
        assert done.store.value(node.key).record["flags"] == []


def test_stored_tickets_load_and_keep_what_was_asked(tiny: Plan, done: Bench) -> None:
    (data,) = of_kind(tiny, "data")
    for node in of_kind(tiny, "search"):
        value = done.store.value(node.key)
        for checkpoint in ("best_on_validation", "last"):
            ticket = read_ticket(value.read(f"{checkpoint}.safetensors"))
            assert ticket.remaining_ratio == node.spec["remaining_ratio"] and ticket.weights.seed == 7
            assert ticket.theta_digest == value.record["theta_digest"]
            for mask in ticket.masks.values():
                assert int(mask.sum()) == mask.numel() - int((1 - ticket.remaining_ratio) * mask.numel())
            assert ticket.provenance["node"] == node.key and ticket.provenance["checkpoint"] == checkpoint
            assert ticket.provenance["data"] == data.spec
            assert any(float(buffer.abs().sum()) > 0 for name, buffer in ticket.buffers.items() if "mean" in name)
            assert ticket.network()(torch.rand(3, 1, 8, 8)).shape == (3, 10)
    # One theta behind all tickets of a seed.
    digests = {done.store.value(node.key).record["theta_digest"] for node in of_kind(tiny, "search")}
    assert len(digests) == 1


def test_samples(tiny: Plan, done: Bench) -> None:
    arrays = load(tiny.suite.run.datasets["digits"])
    for node in (*of_kind(tiny, "craft"), *of_kind(tiny, "predict")):
        columns = table(done.store.value(node.key))
        measured = ["prediction"] if node.kind == "predict" else ["linf", "l2"]
        assert node.kind == "predict" or done.store.value(node.key).record["passes"]["gradient"] > 0
        assert list(columns) == ["index", "label", *measured]
        assert len(columns["index"]) in (20, 50) and len(set(columns["index"])) == len(columns["index"])
        assert np.array_equal(arrays.test_labels[columns["index"]], columns["label"])
        assert set(np.bincount(columns["label"], minlength=10)) <= ({2} if len(columns["label"]) == 20 else {4, 5, 6})


def test_crafted_images_keep_to_their_threat(tiny: Plan, done: Bench) -> None:
    arrays = load(tiny.suite.run.datasets["digits"])
    for node in of_kind(tiny, "craft"):
        value, attack = done.store.value(node.key), node.spec["attack"]
        columns = table(value)
        images = unpack_images(value.read("images.safetensors"), "here").numpy().astype(np.float64)
        clean = (arrays.test_images[columns["index"]].transpose(0, 3, 1, 2) / np.float32(255)).astype(np.float64)
        delta = np.abs(images - clean).reshape(len(images), -1)
        assert columns["linf"] == pytest.approx(delta.max(1)) and columns["l2"] == pytest.approx(
            np.sqrt((delta**2).sum(1))
        )
        if attack["norm"] == "linf":
            assert 0.05 < columns["linf"].max() <= 24 / 255 + 1e-6
        else:
            assert 0.1 < columns["l2"].max() <= 0.7 + 1e-5
        assert images.min() >= 0 and images.max() <= 1


def source_of(node: Node, done: Bench) -> torch.nn.Module:
    return done.network(node.inputs["member_0"], node.spec["checkpoint"])


def test_a_craft_node_is_the_attack_on_its_member(tiny: Plan, done: Bench) -> None:
    arrays = load(tiny.suite.run.datasets["digits"])
    for node in of_kind(tiny, "craft"):
        if node.spec["attack"]["view"] != "member":
            continue
        value = done.store.value(node.key)
        columns = table(value)
        clean = torch.from_numpy(arrays.test_images[columns["index"]].transpose(0, 3, 1, 2).copy()).float() / 255
        labels = torch.tensor(columns["label"])
        found = unpack_images(value.read("images.safetensors"), "here")
        expected = pgd(
            CallableView(source_of(node, done)), clean[16:32], labels[16:32], threat=Threat("linf", 24 / 255), steps=4,
            draws=PerImage(derive_seed("craft", 7), columns["index"][16:32].tolist()), step_size=6 / 255,
            stop=node.spec["attack"]["stop"],
        )  # fmt: skip
        assert torch.equal(found[16:32], expected.images)


def test_predictions_are_those_of_a_plain_pass(tiny: Plan, done: Bench) -> None:
    arrays = load(tiny.suite.run.datasets["digits"])
    for node in of_kind(tiny, "predict"):
        source, columns = done.store.value(node.inputs["images"]), table(done.store.value(node.key))
        network = done.network(node.inputs["target"], node.spec["checkpoint"])
        if source.record["kind"] == "craft":
            images = unpack_images(source.read("images.safetensors"), "here")
            assert np.array_equal(table(source)["index"], columns["index"])
        else:
            images = torch.from_numpy(arrays.test_images[columns["index"]].transpose(0, 3, 1, 2).copy()).float() / 255
        assert not network.training
        assert np.array_equal(network(images).argmax(1).numpy(), columns["prediction"])


def test_a_source_is_hurt_most_by_its_own_images(tiny: Plan, done: Bench) -> None:
    for name in ("pgd", "never"):
        found = measure(cell(tiny, "r2s", name), done.store)
        clean = measure(cell(tiny, "r2s", "clean"), done.store)
        assert found is not None and clean is not None
        for member in range(2):
            assert found.matrix[member, member] < clean.matrix[0, member]
            assert found.matrix[member, member] <= found.matrix[1 - member, member] + 1e-9


def test_the_expectation_is_the_weighted_mean_of_the_matrix(tiny: Plan, done: Bench) -> None:
    for name in ("pgd", "never", "eot", "ensemble"):
        place = cell(tiny, "r2s", name)
        ((*sources,),) = place.predictions
        assert len(sources) == (2 if name in ("pgd", "never") else 1)
        accuracies = [
            [100 * np.mean(c["prediction"] == c["label"]) for c in (table(done.store.value(key)) for key in row)]
            for row in sources
        ]
        by_hand = np.mean([0.25 * row[0] + 0.75 * row[1] for row in accuracies])
        found = measure(place, done.store)
        assert found is not None and found.accuracy == pytest.approx(by_hand, abs=1e-9)
        assert found.matrix == pytest.approx(np.array(accuracies))


def test_a_stored_node_is_not_computed_again(tiny: Plan, done: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_BUILDERS", {})
    for node in tiny.nodes.values():
        assert run_node(node, done, silent).key == node.key


def test_the_same_work_leaves_the_same_bytes(tiny: Plan, done: Bench, tmp_path: Path) -> None:
    other = bench(tmp_path / "other")
    for node in tiny.nodes.values():
        again, first = run_node(node, other, silent), done.store.value(node.key)
        assert files(again) == files(first)
        differ = {name for name in first.record if first.record[name] != again.record[name]}
        assert differ <= {"wall_seconds", "cpu_seconds", "attack_seconds", "finished"}


# ---- attacks that cost more than a gradient step, and adversaries that choose ----------------------------------------

FURTHER = SUITE.replace(
    "table:\n  cells:\n",
    """  square: {kind: square, epsilon: "24/255", queries: 20, samples: 20, batch: 8}
  cw: {kind: cw_l2, iterations: 30, initial_const: 5.0, lr: 0.05, samples: 20, batch: 20}
  near: {kind: cw_l2, iterations: 30, initial_const: 5.0, lr: 0.05, samples: 20, batch: 20, within_epsilon: 0.6}
  aa: {kind: autoattack, epsilon: "4/255", samples: 24, batch: 8, steps: 2, square_queries: 5}
  pointwise: {kind: pointwise, over: [pgd, never]}
  game: {kind: game, over: [never], held_out: 30}
table:
  cells:
    - {defense: dense, attack: square}
    - {defense: dense, attack: cw}
    - {defense: dense, attack: near}
    - {defense: dense, attack: aa}
    - {defense: r2s, attack: pointwise}
    - {defense: r2s, attack: game}
    - {defense: last, attack: never, source: dense}
""",
)


@pytest.fixture(scope="module")
def further(done: Bench, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """More attacks on the same networks, in the same store."""
    made = planned(tmp_path_factory.mktemp("further"), FURTHER)
    for node in made.nodes.values():
        run_node(node, done, silent)
    return made


def crafted_for(made: Plan, defense: str, attack: str) -> Node:
    """The craft node behind the one source of a cell."""
    (found,) = [c for c in made.cells if c.columns["defense"] == defense and c.attack_key == attack][:1]
    return made.nodes[made.nodes[found.predictions[0][-1][0]].inputs["images"]]


def test_networks_are_shared_with_another_suite(tiny: Plan, further: Plan) -> None:
    new = [node.kind for key, node in further.nodes.items() if key not in tiny.nodes]
    assert set(new) == {"craft", "predict"}


def test_queries_of_a_black_box_are_kept(further: Plan, done: Bench) -> None:
    value = done.store.value(crafted_for(further, "dense", "square").key)
    columns = table(value)
    assert list(columns) == ["index", "label", "linf", "l2", "queries"]
    assert columns["queries"].min() >= 1 and columns["queries"].max() <= 20
    assert value.record["passes"]["gradient"] == 0 and "reduced_budget" in value.record["flags"]


def test_far_images_do_not_count_where_a_limit_is_given(further: Plan, done: Bench) -> None:
    craft, same = (crafted_for(further, "dense", name) for name in ("cw", "near"))
    assert craft.key == same.key  # the limit is of the judgement
    rows = {}
    for name in ("cw", "near", "clean"):
        (found,) = [c for c in further.cells if c.columns["defense"] == "dense" and c.attack_key == name]
        rows[name] = table(done.store.value(found.predictions[0][0][0]))
    distance = table(done.store.value(craft.key))["l2"]
    clean = dict(zip(rows["clean"]["index"], rows["clean"]["prediction"], strict=True))
    near = distance <= 0.6
    assert 0 < near.sum() < len(near)
    assert np.array_equal(rows["near"]["prediction"][near], rows["cw"]["prediction"][near])
    of_clean = np.array([clean.get(i, -1) for i in rows["near"]["index"][~near]])
    assert np.array_equal(rows["near"]["prediction"][~near][of_clean >= 0], of_clean[of_clean >= 0])
    right = {name: (each["prediction"] == each["label"]).mean() for name, each in rows.items()}
    assert right["cw"] < right["near"]


def test_held_out_images_are_of_the_validation_part_and_no_test_images(further: Plan, done: Bench) -> None:
    arrays = load(further.suite.run.datasets["digits"])
    fit, held_out = split(arrays.train_labels, 0.1, 0)
    (game,) = [c for c in further.cells if c.score == "game"]
    keys = {key for seed in game.held_out for row in seed for key in row}
    assert len(keys) == 3 * 2  # clean images, and those made against either ticket, judged by both
    for key in keys:
        node, columns = further.nodes[key], table(done.store.value(key))
        assert set(columns["index"]) <= set(held_out.tolist()) and not set(columns["index"]) & set(fit.tolist())
        assert len(columns["index"]) == 30 and np.array_equal(arrays.train_labels[columns["index"]], columns["label"])
        source = done.store.value(node.inputs["images"])
        pixels = arrays.train_images[columns["index"]].transpose(0, 3, 1, 2) / np.float32(255)
        if source.record["kind"] == "craft":
            found = unpack_images(source.read("images.safetensors"), "here").numpy()
            assert 0 < np.abs(found - pixels).max() <= 24 / 255 + 1e-6
            tested = done.store.value(game.predictions[0][1][0])
            assert not np.array_equal(table(tested)["index"], columns["index"])
    measured = measure(game, done.store)
    assert measured is not None and sum(measured.seeds[0].mixture) == pytest.approx(1)


def test_pointwise_chooses_among_all_images_and_the_clean_ones(further: Plan, done: Bench) -> None:
    (place,) = [c for c in further.cells if c.attack_key == "pointwise"]
    assert place.sources == ("clean", "pgd/0.10", "pgd/0.30", "never/0.10", "never/0.30")
    ((*rows,),) = place.predictions
    right = np.array(
        [[c["prediction"] == c["label"] for c in (table(done.store.value(k)) for k in row)] for row in rows]
    )
    expected = (0.25 * right[:, 0] + 0.75 * right[:, 1]).min(axis=0).mean()
    found = measure(place, done.store)
    assert found is not None and found.accuracy == pytest.approx(100 * expected)


def test_a_transfer_is_made_against_its_source_and_shared_with_it(further: Plan, done: Bench) -> None:
    (place,) = [c for c in further.cells if c.columns["attack_source"]]
    assert (place.columns["defense"], place.columns["attack_source"], place.sources) == ("last", "dense", ("dense",))
    predict = further.nodes[place.predictions[0][0][0]]
    craft, target = further.nodes[predict.inputs["images"]], further.nodes[predict.inputs["target"]]
    assert further.nodes[craft.inputs["member_0"]].kind == "train" and target.kind == "search"
    assert craft.spec["checkpoint"] == "best_on_validation" and predict.spec["checkpoint"] == "last"
    assert table(done.store.value(predict.key))["index"].shape == (50,)


@pytest.mark.parametrize("saves", [1, 3])
def test_a_killed_autoattack_goes_on_to_the_same_bytes(
    further: Plan, done: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saves: int
) -> None:
    shutil.copytree(done.store.root, tmp_path / "copy")
    first = bench(tmp_path / "copy")
    node = crafted_for(further, "dense", "aa")
    without(first, node)

    def told(progress: list[tuple[float, str]], dies: int | None = None) -> Any:
        def listen(done: float, total: float, note: str) -> None:
            if dies is not None and len(progress) == dies:
                raise Killed
            progress.append((done, note))

        return listen

    begun: list[tuple[float, str]] = []
    with pytest.raises(Killed):
        run_node(node, first, told(begun, saves))
    assert not first.store.has(node.key) and first.store.read_partial(node.key, "state.safetensors") is not None
    rest: list[tuple[float, str]] = []
    resumed = run_node(node, bench(tmp_path / "copy"), told(rest))
    assert files(resumed) == files(done.store.value(node.key))
    assert resumed.record["flags"] == done.store.value(node.key).record["flags"]
    assert not set(begun) & set(rest)  # nothing that was finished is done again
    assert first.store.read_partial(node.key, "state.safetensors") is None


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kind", ["search", "train"])
def test_a_killed_run_goes_on_to_the_same_bytes(tiny: Plan, done: Bench, tmp_path: Path, kind: str) -> None:
    data, node = of_kind(tiny, "data")[0], of_kind(tiny, kind)[0]
    root = tmp_path / "store"
    first = bench(root)
    run_node(data, first, silent)

    def dies(step: float, total: float, note: str) -> None:
        if step == total - 3:
            raise Killed

    with pytest.raises(Killed):
        run_node(node, first, dies)
    assert not first.store.has(node.key)
    saved = first.store.read_partial(node.key, "state.safetensors")
    assert saved is not None  # the step at which it was stopped included

    seen: list[float] = []
    resumed = run_node(node, bench(root), lambda step, total, note: seen.append(step))
    assert files(resumed) == files(done.store.value(node.key))
    assert seen[0] > 1
    assert first.store.read_partial(node.key, "state.safetensors") is None


def test_changed_data_are_noticed(tmp_path: Path) -> None:
    arrays = members(side=8, channels=1, train=24)
    np.savez(tmp_path / "toy.npz", **arrays)
    text = SUITE.replace("digits: {source: digits,", "digits: {source: arrays, name: toy,")
    toy = planned(tmp_path, text, tmp_path)
    (data,) = of_kind(toy, "data")
    arrays["test_images"][0, 0, 0, 0] ^= 1
    np.savez(tmp_path / "toy.npz", **arrays)
    with pytest.raises(DataError, match=r"data set toy: .*fingerprint differs.*; run again"):
        run_node(data, bench(tmp_path / "a", tmp_path), silent)
    # Also where the data node is stored, and only what needs the images reads them.
    arrays["test_images"][0, 0, 0, 0] ^= 1
    np.savez(tmp_path / "toy.npz", **arrays)
    run_node(data, bench(tmp_path / "a", tmp_path), silent)
    (tmp_path / "toy.npz").unlink()
    with pytest.raises(DataError, match="toy"):
        run_node(of_kind(toy, "train")[0], bench(tmp_path / "a", tmp_path), silent)


@pytest.fixture
def copied(done: Bench, tmp_path: Path) -> Iterator[Bench]:
    """A store of its own with all that is done, to be spoilt."""
    shutil.copytree(done.store.root, tmp_path / "copy")
    yield bench(tmp_path / "copy")


def without(spoilt: Bench, node: Node) -> None:
    shutil.rmtree(spoilt.store.value(node.key).directory)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_one_changed_byte_of_a_stored_ticket_is_found(tiny: Plan, copied: Bench) -> None:
    node = next(n for n in of_kind(tiny, "craft") if n.inputs["member_0"] in {s.key for s in of_kind(tiny, "search")})
    ticket = copied.store.value(node.inputs["member_0"])
    path = ticket.directory / f"{node.spec['checkpoint']}.safetensors"
    without(copied, node)
    for place in (0, path.stat().st_size // 2, -1):
        flip(path, place)
        with pytest.raises(StoreError) as caught:
            run_node(node, copied, silent)
        assert str(path) in str(caught.value) and f"remove the folder {ticket.directory}" in str(caught.value)
        assert not copied.store.has(node.key)
        flip(path, place)
    assert files(run_node(node, copied, silent))


def test_one_changed_byte_of_stored_images_is_found(tiny: Plan, copied: Bench) -> None:
    node = next(n for n in of_kind(tiny, "predict") if n.inputs["images"] in {c.key for c in of_kind(tiny, "craft")})
    images = copied.store.value(node.inputs["images"])
    without(copied, node)
    flip(images.directory / "images.safetensors", -1)
    with pytest.raises(StoreError, match=r"damaged .*; remove the folder"):
        run_node(node, copied, silent)


def test_probabilities_of_a_switch_reach_its_views(tiny: Plan, done: Bench) -> None:
    """A node may name the members' probabilities; where it does not, they are equal."""
    node = next(n for n in of_kind(tiny, "craft") if n.spec["attack"]["view"] == "ensemble")
    first = next(n for n in of_kind(tiny, "craft") if n.spec["attack"]["norm"] == "l2")

    def images(each: Node, **probabilities: tuple[float, float]) -> bytes:
        spec = {name: value for name, value in each.spec.items() if name != "probabilities"} | probabilities
        return build_craft(replace(each, spec=spec), done, silent)[1]["images.safetensors"]

    for each in (node, first):
        assert each.spec["probabilities"] == [0.25, 0.75]  # as the suite has them
        assert images(each, probabilities=(0.5, 0.5)) == images(each)
        assert images(each, probabilities=(0.0, 1.0)) != images(each)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried\nmore"), MemoryError()])
def test_short_memory_in_training_is_a_matter_of_the_batch(
    tiny: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def starves(node: Node, where: Bench, progress: object) -> None:
        raise error

    monkeypatch.setitem(build._BUILDERS, "data", starves)  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match="out of memory; a smaller `batch`") as caught:
        run_node(of_kind(tiny, "data")[0], bench(tmp_path / "store"), silent)
    assert "\n" not in str(caught.value)


def test_a_defect_keeps_its_traceback(tiny: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(node: Node, where: Bench, progress: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setitem(build._BUILDERS, "data", broken)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="shapes differ"):
        run_node(of_kind(tiny, "data")[0], bench(tmp_path / "store"), silent)


def test_the_network_used_last_is_kept_longest(tiny: Plan, done: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "KEPT_NETWORKS", 2)
    fresh = Bench(done.store, None, torch.device("cpu"))
    keys = [node.key for node in (*of_kind(tiny, "search"), *of_kind(tiny, "train"))]
    a, b, c = keys[:3]
    first = fresh.network(a, "last")
    second = fresh.network(b, "last")
    assert fresh.network(a, "last") is first
    fresh.network(c, "last")
    assert fresh.network(a, "last") is first and fresh.network(b, "last") is not second
    assert fresh.network(a, "best_on_validation") is not first


def test_threads_are_those_of_the_node(tiny: Plan, done: Bench) -> None:
    assert {build._threads(node) for node in tiny.nodes.values()} == {1}
    for spec, expected in (
        ({"training": {"engine": {"threads": 3}}}, 3),
        ({"attack": {"engine": {"threads": 2}}}, 2),
        ({"threads": 4}, 4),
        ({}, 1),
    ):
        assert build._threads(Node("x", "0" * 64, spec, {}, "", 0.0)) == expected


def test_choose_device() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device(None).type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("toaster", "cuda:99", "cpu:x", ""):
        with pytest.raises(DeviceError, match=f"device '{name}' is not available here"):
            choose_device(name)


def test_every_kind_of_node_has_a_builder() -> None:
    assert set(build._BUILDERS) == set(BUILDER_VERSIONS)
