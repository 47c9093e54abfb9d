"""Builders that attack and judge: images on disk, in parts, and averages of networks that were written by hand."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet

from rstbench.build import Bench, run_node
from rstbench.data.folders import Folder
from rstbench.data.sources import facts, load
from rstbench.errors import DataError, StoreError
from rstbench.evaluation.files import unpack_images
from rstbench.networks import build
from rstbench.networks.init import initialise
from rstbench.networks.spec import ModelSpec
from rstbench.nodes import Node, node_key
from rstbench.spec.attacks import CwL2Spec, PgdSpec
from rstbench.spec.budgets import written_out
from rstbench.spec.models import DatasetSpec
from rstbench.store import Store, Value
from rstbench.tickets.checkpoint import checkpoint_bytes
from tests.data.photos import photos, streamed

MODEL = ModelSpec(
    family="preact_resnet10", width=0.0625, classes=2, channels=3, image_size=8, mean=(0.5,) * 3, std=(0.5,) * 3,
    bn_affine=True, classifier_bias=True,
)  # fmt: skip
PGD = PgdSpec(kind="pgd", epsilon="8/255", steps=3, batch=8)
CW = CwL2Spec(kind="cw_l2", iterations=3, batch=8)


def silent(done: float, total: float, note: str) -> None:
    pass


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rstbench.build.images.readers", lambda device: 0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two networks, and one data set twice: as photographs in folders, and as their pixels in arrays."""
    root = tmp_path_factory.mktemp("root")
    photos(root, each=50)
    found = load(DatasetSpec(source="folder", name="photos", image_size=8), root)
    assert isinstance(found, Folder)
    members: dict[str, Any] = {}
    for part in ("train", "test"):
        members[f"{part}_images"] = streamed(getattr(found, f"{part}_images"))[:].permute(0, 2, 3, 1).numpy()
        members[f"{part}_labels"] = getattr(found, f"{part}_labels")
    np.savez(root / "pixels.npz", **members)
    store = Store(root / "store")
    store.prepare()
    for i in range(2):
        files = {}
        for j, checkpoint in enumerate(("last", "best_on_validation")):
            network = build(MODEL)
            initialise(network, "kaiming_normal", 10 * i + j)
            files[f"{checkpoint}.safetensors"] = checkpoint_bytes(MODEL, network.state_dict())
        store.write(network_key(i), {"kind": "train"}, files)
    return root


def network_key(i: int) -> str:
    return f"{i + 1:064x}"


@pytest.fixture(scope="module")
def bench(root: Path) -> Bench:
    return Bench(Store(root / "store"), root, torch.device("cpu"))


def made(bench: Bench, kind: str, spec: Mapping[str, Any], inputs: Mapping[str, str]) -> Value:
    key = node_key(kind, spec, inputs)
    return run_node(Node(kind, key, spec, inputs, f"{kind} of a test", 1.0), bench, silent)


def data(bench: Bench, source: str) -> str:
    spec = DatasetSpec(source="folder", name="photos", image_size=8)
    if source == "pixels":
        spec = DatasetSpec(source="arrays", name="pixels")
    known = facts(spec, bench.data_dir)
    load_spec = spec.model_dump(mode="json", exclude={"validation_fraction", "validation_seed"})
    return made(bench, "data", {"fingerprint": known.fingerprint, "load": load_spec}, {}).key


def crafted(bench: Bench, source: str = "photos", attack: Any = PGD, **spec: Any) -> Value:
    attack = written_out(attack, True, 8)
    full = {"attack": attack.model_dump(mode="json", exclude={"engine"}), "checkpoint": "last", "seed": 3, **spec}
    full["attack"]["engine"] = attack.engine.model_dump(mode="json")
    for field in ("report_as", "variant", "headline", "of_epsilon", "judge_within", "within"):
        full["attack"].pop(field, None)
    members = full.pop("members", (0,))
    inputs = {"data": data(bench, source)} | {f"member_{i}": network_key(each) for i, each in enumerate(members)}
    return made(bench, "craft", full, inputs)


def predicted(bench: Bench, images: str, targets: Mapping[str, str] | None = None, **spec: Any) -> Value:
    full = {"checkpoint": "last", "batch": 8, "threads": 1, **spec}
    return made(bench, "predict", full, {"images": images, **(targets or {"target": network_key(1)})})


def table(value: Value) -> dict[str, Any]:
    read = parquet.read_table(io.BytesIO(value.read("samples.parquet")))
    return {name: read.column(name).to_numpy() for name in read.column_names}


def images(value: Value) -> torch.Tensor:
    return unpack_images(value.read("images.safetensors"), "here")


def joined(bench: Bench, parts: list[Value]) -> Value:
    return made(bench, "join", {}, {f"part_{i}": part.key for i, part in enumerate(parts)})


@pytest.mark.parametrize("held_out", [None, 5])
def test_from_disk_as_from_memory(bench: Bench, held_out: int | None) -> None:
    part: dict[str, Any] = {}
    if held_out is not None:
        part = {"held_out": held_out, "cut": {"validation_fraction": 0.2, "validation_seed": 1}}
    attacks = [crafted(bench, source, **part) for source in ("photos", "pixels")]
    assert attacks[0].key != attacks[1].key
    assert torch.equal(images(attacks[0]), images(attacks[1])) and len(images(attacks[0])) == (held_out or 20)
    clean = [predicted(bench, data(bench, source), samples=None, **part) for source in ("photos", "pixels")]
    for one, other in (attacks, clean):
        assert all(np.array_equal(column, table(other)[name]) for name, column in table(one).items())


def test_far_images_do_not_count_on_disk_either(bench: Bench) -> None:
    found = []
    for source in ("photos", "pixels"):
        attack = crafted(bench, source, CW)
        within = {"norm": "l2", "epsilon": float(np.median(table(attack)["l2"]))}
        targets = {"target": network_key(1), "data": data(bench, source)}
        found.append(table(predicted(bench, attack.key, targets, within=within)))
    assert all(np.array_equal(column, found[1][name]) for name, column in found[0].items())


@pytest.mark.parametrize("source", ["photos", "pixels"])
def test_parts_and_their_join_say_what_the_whole_says(bench: Bench, source: str) -> None:
    whole = crafted(bench, source)
    parts = [crafted(bench, source, part={"index": i, "of": 3}) for i in range(3)]
    assert [len(table(part)["index"]) for part in parts] == [7, 7, 6]
    torch.testing.assert_close(torch.cat([images(part) for part in parts]), images(whole), rtol=0, atol=1e-5)
    crafts = joined(bench, parts)
    assert set(crafts.record["files"]) == {"samples.parquet"} and crafts.record["joined"] == "craft"
    assert np.array_equal(table(crafts)["index"], table(whole)["index"])
    assert crafts.record["passes"]["gradient"] == sum(part.record["passes"]["gradient"] for part in parts) > 0
    predictions = joined(bench, [predicted(bench, part.key) for part in parts])
    assert predictions.record["joined"] == "predict" and predictions.record["flags"] == []
    expected = table(predicted(bench, whole.key))
    assert all(np.array_equal(column, expected[name]) for name, column in table(predictions).items())
    clean = [predicted(bench, data(bench, source), samples=None, part={"index": i, "of": 2}) for i in range(2)]
    expected = table(predicted(bench, data(bench, source), samples=None))
    assert all(np.array_equal(column, expected[name]) for name, column in table(joined(bench, clean)).items())


def test_parts_of_several_kinds_are_refused(bench: Bench) -> None:
    craft = crafted(bench, part={"index": 0, "of": 3})
    with pytest.raises(StoreError, match="its parts are of kinds craft and predict; they must be of one"):
        joined(bench, [craft, predicted(bench, craft.key)])


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_the_average_of_several_networks(bench: Bench, average: str) -> None:
    targets = {f"target_{i}": network_key(i) for i in range(2)}
    found = table(predicted(bench, data(bench, "photos"), targets, samples=None, average=average))["prediction"]
    test = bench.arrays(data(bench, "pixels")).test_images
    clean = torch.from_numpy(test).permute(0, 3, 1, 2) / 255  # type: ignore[arg-type]
    with torch.no_grad():
        logits = torch.stack([bench.network(network_key(i), "last")(clean) for i in range(2)])
    expected = (logits if average == "logits" else logits.softmax(2)).mean(0).argmax(1)
    assert np.array_equal(found, expected.numpy())


def test_checkpoints_of_each_member(bench: Bench) -> None:
    eot = PGD.model_copy(update={"view": "eot"})
    named = ["last", "best_on_validation"]
    both = crafted(bench, attack=eot, members=(0, 0), checkpoint=named)
    one = crafted(bench, attack=eot, members=(0, 0))
    assert not torch.equal(images(both), images(one))
    swapped = crafted(bench, attack=eot, members=(0, 0), checkpoint=named[::-1])
    assert float((images(swapped) - images(both)).abs().mean()) < 1e-4  # the expectation has no order
    targets = {f"target_{i}": network_key(1) for i in range(2)}
    average = predicted(bench, data(bench, "photos"), targets, samples=None, average="logits", checkpoint=named)
    alone = [predicted(bench, data(bench, "photos"), samples=None, checkpoint=name) for name in named]
    agree = table(alone[0])["prediction"] == table(alone[1])["prediction"]
    assert np.array_equal(table(average)["prediction"][agree], table(alone[0])["prediction"][agree])


def test_a_folder_that_changed_is_noticed(bench: Bench, root: Path, tmp_path: Path) -> None:
    key = data(bench, "photos")
    again = Bench(bench.store, root, torch.device("cpu"))
    assert isinstance(again.arrays(key), Folder)
    file = root / "photos" / "class_0" / "0.png"
    content = file.read_bytes()
    file.write_bytes((root / "photos" / "class_0" / "2.png").read_bytes())
    try:
        with pytest.raises(DataError, match="fingerprint differs"):
            Bench(bench.store, root, torch.device("cpu")).arrays(key)
    finally:
        file.write_bytes(content)


def test_low_precision_is_compared_with_fp32_in_the_record(bench: Bench) -> None:
    low = PGD.model_copy(update={"engine": PGD.engine.model_copy(update={"precision": "bf16"})})
    value = crafted(bench, attack=low)
    compared = value.record["against_fp32"]
    assert compared["images"] == min(128, len(images(value)))
    assert ("low_precision_weaker" in value.record["flags"]) == (compared["low"] > compared["exact"])
    assert "against_fp32" not in crafted(bench).record
