"""The builder of `measure` nodes on files written by hand: no network is trained here."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet

from rstbench.build import Bench, run_node
from rstbench.data.cuts import stratified_subset
from rstbench.data.sources import facts, load
from rstbench.data.tensors import as_float, to_device
from rstbench.errors import SpecError, StoreError, TicketError
from rstbench.evaluation.features import feature_distances
from rstbench.networks import build
from rstbench.nodes import Node, node_key
from rstbench.spec.models import DatasetSpec
from rstbench.store import Store
from rstbench.tickets.checkpoint import checkpoint_bytes
from rstbench.tickets.count import count
from rstbench.tickets.files import read
from rstbench.tickets.sizes import mask_bytes, masked_weights, overlap, raw_mask_bytes, weight_bytes
from rstbench.training import derive_seed
from tests.networks.specs import digits
from tests.tickets.tickets import DENSE, KEY, TINY, pruned, rtt, ticket, trained

FILES = {
    "rst": ticket(ratio=0.1).to_bytes(),
    "other": ticket(ratio=0.5).to_bytes(),
    "hundred": ticket(digits("preact_resnet10", width=0.0625, classes=100), ratio=0.1).to_bytes(),
    "rtt": rtt().to_bytes(),
    "tuned": pruned().to_bytes(),
    "dense": checkpoint_bytes(DENSE, trained()),
}
KEYS = {name: f"{i:064x}" for i, name in enumerate(FILES, 1)} | {"dense": KEY}
KINDS = {"rst": "search", "other": "search", "hundred": "search", "rtt": "rtt", "tuned": "tune", "dense": "train"}


def silent(done: float, total: float, note: str) -> None:
    pass


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    store = Store(tmp_path / "store")
    store.prepare()
    for name, data in FILES.items():
        store.write(KEYS[name], {"kind": KINDS[name]}, {"last.safetensors": data})
    return Bench(store, None, torch.device("cpu"))


def node(measure: Mapping[str, Any], members: Sequence[str], **extra: Any) -> Node:
    spec = {"measure": dict(measure), "members": [{"checkpoint": "last"} for _ in members], **extra.pop("spec", {})}
    inputs = {f"member_{i}": KEYS[name] for i, name in enumerate(members)} | extra
    return Node("measure", node_key("measure", spec, inputs), spec, inputs, "measure", 0.0)


def measured(bench: Bench, measure: Mapping[str, Any], *members: str) -> dict[str, Any]:
    return dict(run_node(node(measure, members), bench, silent).record)


def size(bench: Bench, of: str, *members: str) -> int:
    value = measured(bench, {"kind": "bytes", "of": of}, *members)["value"]
    assert type(value) is int
    return value


def test_files_count_once_and_bring_the_weights_they_need(bench: Bench) -> None:
    bytes_of = {name: len(data) for name, data in FILES.items()}
    assert size(bench, "files", "rst") == bytes_of["rst"]
    assert size(bench, "files", "rst", "other") == bytes_of["rst"] + bytes_of["other"]
    assert size(bench, "files", "rst", "rst") == bytes_of["rst"]
    # The ticket of trained weights is nothing without them; the fine-tuned one has its own.
    assert size(bench, "files", "rtt") == bytes_of["rtt"] + bytes_of["dense"]
    assert size(bench, "files", "rtt", "dense") == size(bench, "files", "dense", "rtt") == size(bench, "files", "rtt")
    assert size(bench, "files", "tuned") == bytes_of["tuned"]
    parts = measured(bench, {"kind": "bytes", "of": "files"}, "rtt")["parts"]
    assert parts == [
        {"key": KEYS["rtt"], "checkpoint": "last", "bytes": bytes_of["rtt"]},
        {"key": KEY, "checkpoint": "last", "bytes": bytes_of["dense"]},
    ]


def test_masks_and_weights_in_bytes(bench: Bench) -> None:
    read_files = {name: read(data, name) for name, data in FILES.items()}
    pair = ("rst", "other")
    assert size(bench, "masks", *pair) == sum(mask_bytes(FILES[name]) for name in pair)
    assert size(bench, "raw_masks", *pair) == 2 * raw_mask_bytes(read_files["rst"])
    assert size(bench, "masks", "dense") == size(bench, "raw_masks", "dense") == 0
    # Two masks over one random network: the whole of it once, against twice without sharing.
    one = weight_bytes(read_files["rst"])
    assert size(bench, "shared_weights", *pair) == one
    assert size(bench, "separate_weights", *pair) == 2 * one
    # Another task shares all but the classifier.
    hundred = size(bench, "shared_weights", "rst", "hundred")
    assert (
        one < hundred < one + weight_bytes(read_files["hundred"]) == size(bench, "separate_weights", "rst", "hundred")
    )
    assert size(bench, "files", *pair) < size(bench, "separate_weights", *pair)


def test_parameters_follow_from_the_architecture_alone(bench: Bench) -> None:
    kept = {"model": TINY.written(), "remaining_ratio": 0.1, "pattern": "element", "layer_power": 1.0}
    spec = {"measure": {"kind": "parameters"}, "members": [kept]}
    asked = Node("measure", node_key("measure", spec, {}), spec, {}, "measure", 0.0)
    record = run_node(asked, bench, silent).record
    counted = count(build(TINY), 0.1)
    assert record["value"] == counted.kept / 1e6
    assert (record["kept"], record["parameters"], record["maskable"]) == (
        counted.kept,
        counted.parameters,
        counted.maskable,
    )
    # What the ticket's mask really keeps is what was counted.
    assert counted.kept == sum(int(mask.sum()) for mask in ticket(ratio=0.1).masks.values())
    assert measured(bench, {"kind": "parameters"}, "dense")["value"] == count(build(DENSE)).kept / 1e6
    with pytest.raises(SpecError, match="overlap"):
        measured(bench, {"kind": "parameters"}, "rst", "other")


def test_overlap_of_every_pair(bench: Bench) -> None:
    names = ("rst", "other", "tuned")
    masks = [masked_weights(read(FILES[name], name), name) for name in names]
    record = measured(bench, {"kind": "mask_overlap"}, *names)
    expected = [[i, j, overlap(masks[i], masks[j])] for i, j in ((0, 1), (0, 2), (1, 2))]
    assert record["pairs"] == expected
    assert record["value"] == pytest.approx(sum(pair[2] for pair in expected) / 3)
    assert 0 < record["by_chance"] < 1
    with pytest.raises(SpecError, match="single network"):
        measured(bench, {"kind": "mask_overlap"}, "rst")
    with pytest.raises(TicketError, match="a dense network has no mask"):
        measured(bench, {"kind": "mask_overlap"}, "rst", "dense")
    with pytest.raises(TicketError, match="different networks"):
        measured(bench, {"kind": "mask_overlap"}, "rst", "hundred")


def digits_node(bench: Bench) -> Node:
    loaded = DatasetSpec(source="digits")
    spec = {
        "fingerprint": facts(loaded, None).fingerprint,
        "load": loaded.model_dump(mode="json", exclude={"validation_fraction", "validation_seed"}),
    }
    made = Node("data", node_key("data", spec, {}), spec, {}, "data", 0.0)
    run_node(made, bench, silent)
    return made


def test_feature_distance_of_stored_networks(bench: Bench) -> None:
    measure = {"kind": "feature_distance", "epsilon": "8/255", "noise": "uniform", "samples": 40, "batch": 16}
    data = digits_node(bench)
    made = node(measure, ["dense"], data=data.key, spec={"seed": 3})
    value = run_node(made, bench, silent)
    table = parquet.read_table(io.BytesIO(value.read("samples.parquet"))).to_pydict()
    arrays = load(DatasetSpec(source="digits"), None)
    rows = stratified_subset(arrays.test_labels, 40, 0)
    assert table["index"] == rows.tolist()
    images = as_float(to_device(arrays.test_images[rows], torch.device("cpu")))
    network = read(FILES["dense"], "dense").network()
    seed = derive_seed("measure", 3)
    expected, _ = feature_distances(network, images, rows.tolist(), 8 / 255, "uniform", seed, 16, silent)
    assert np.array_equal(table["value"], expected.numpy())
    assert value.record["value"] == pytest.approx(float(expected.mean()), rel=1e-12)
    assert value.record["flags"] == []
    # Another seed of the suite is other noise.
    other = run_node(node(measure, ["dense"], data=data.key, spec={"seed": 4}), bench, silent)
    assert other.record["value"] != value.record["value"]


def test_a_member_that_is_not_there_is_one_clear_message(bench: Bench) -> None:
    asked = node({"kind": "bytes", "of": "files"}, ["rst"])
    spec = {**asked.spec, "members": [{"checkpoint": "best_on_validation"}]}
    gone = Node("measure", node_key("measure", spec, asked.inputs), spec, asked.inputs, "measure", 0.0)
    with pytest.raises(StoreError, match="best_on_validation"):
        run_node(gone, bench, silent)
