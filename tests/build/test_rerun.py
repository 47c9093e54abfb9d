"""Reruns: an honest store passes; each thing that a digest cannot tell is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rstbench.build import Bench, run_node
from rstbench.build.attack import judge
from rstbench.build.images import images_at
from rstbench.build.redone import _node
from rstbench.build.rerun import LEVEL, Finding, RerunRow, Reruns, one_sided, rerun
from rstbench.errors import SpecError, StoreError
from rstbench.evaluation.files import pack_images, pack_samples, unpack_images, unpack_samples
from rstbench.evaluation.judge import predict
from rstbench.plan import Plan, PlannedCell
from rstbench.session import Request, plans_of
from rstbench.spec.load import load_suite
from rstbench.store import Store, Value
from tests.suites import TINY, changed, written

N = 40
SUITE = changed(
    TINY,
    ("attack: eot}\n", "attack: eot}\n    - {defense: r2s, attack: cw}\n"),
    (
        "table:\n",
        "  cw: {kind: cw_l2, iterations: 3, samples: 50, within_epsilon: 0.5, variant: within}\ntable:\n",
    ),
    ("  at:\n    epochs: 1\n    batch: 256", "  at:\n    epochs: 6\n    batch: 64"),
    ("steps: 2, samples: 50, stop: source_fooled", "steps: 5, samples: 120, stop: never"),
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan]:
    folder = tmp_path_factory.mktemp("rerun")
    suite = load_suite(written(folder, SUITE), "paper")
    store = Store(folder / "store")
    (plan,) = plans_of(Request([suite], "paper", store.root), store, create=True)
    bench = Bench(store, None, torch.device("cpu"))
    for node in plan.nodes.values():
        run_node(node, bench, lambda *_: None)
    return folder / "store", plan


def cell(plan: Plan, defense: str, attack: str) -> PlannedCell:
    return next(each for each in plan.cells if (each.defense, each.attack_key) == (defense, attack))


def row(found: PlannedCell) -> RerunRow:
    return RerunRow(found.attack_key, found.seeds, found.predictions, found.probabilities)


def steps(found: list[Finding]) -> dict[str, Finding]:
    return {each.step: each for each in found}


def test_an_honest_store_is_confirmed(stored: tuple[Path, Plan]) -> None:
    root, plan = stored
    said: list[Finding] = []
    rows = [row(each) for each in plan.cells]
    found = rerun(rows, Store(root), None, N, 1, "cpu", said.append)
    assert found == said
    assert not any(each.contradicted for each in found), [each.text for each in found]
    for each in plan.cells:
        own = steps([one for one in found if one.label == each.attack_key])
        assert set(own) == {"images", "judged"} | ({"attacked"} if each.attack_key != "clean" else set())
    attacked = [each for each in found if each.step == "attacked"]
    assert {each.images for each in attacked} == {N}
    assert all(each.breaks == each.stands == 0 for each in attacked)


def test_rows_share_their_images_and_seeds_choose_others(stored: tuple[Path, Plan]) -> None:
    root, plan = stored
    eot, clean = (cell(plan, "r2s", name).predictions[0][0][0] for name in ("eot", "clean"))

    def chosen(seed: int, key: str) -> set[int]:
        reruns = Reruns(Store(root), None, 20, seed, "cpu")
        reruns.of([])
        assert reruns._redone is not None
        ((_, found),) = reruns._redone._parts(key)
        return set(found.index.tolist())

    assert len(chosen(1, eot)) == 20
    assert chosen(1, eot) != chosen(2, eot)
    # Clean images are all test images, the attack's are 50 of them: the most that both have are chosen alike.
    assert chosen(1, clean) & set(map(int, columns(Store(root).value(eot))["index"])) <= chosen(1, eot)


def columns(value: Value) -> dict[str, Any]:
    optional = ("prediction", "linf", "l2")
    return unpack_samples(value.read("samples.parquet"), "here", optional)


def images(value: Value) -> torch.Tensor:
    return unpack_images(value.read("images.safetensors"), "here")


def forge(store: Store, key: str, files: dict[str, bytes]) -> None:
    """Other files under a key, with digests that fit: what somebody does who knows the format."""
    value = store.value(key)
    kept = {name: value.read(name) for name in value.record["files"]}
    record = json.loads(json.dumps(dict(value.record)))
    shutil.rmtree(value.directory)
    store.write(key, record, kept | files)


@pytest.fixture
def copy(stored: tuple[Path, Plan], tmp_path: Path) -> Store:
    shutil.copytree(stored[0], tmp_path / "store")
    return Store(tmp_path / "store")


def craft_of(store: Store, prediction: str) -> Value:
    return store.value(store.value(prediction).record["inputs"]["images"])


def clean_ones(store: Store, made: Value) -> torch.Tensor:
    bench = Bench(store, None, torch.device("cpu"))
    index = columns(made)["index"]
    return images_at({}, bench.arrays(made.record["inputs"]["data"]), index, torch.device("cpu"))[:]


def test_an_attack_that_was_not_made_is_found(stored: tuple[Path, Plan], copy: Store) -> None:
    """Clean images in place of adversarial ones, with what the network really says to them: all digests fit."""
    found = cell(stored[1], "dense_at", "pgd20")
    key = found.predictions[0][0][0]
    made = craft_of(copy, key)
    clean = clean_ones(copy, made)
    samples = columns(made)
    zero = np.zeros(len(clean))
    forge(copy, made.key, {
        "images.safetensors": pack_images(clean),
        "samples.parquet": pack_samples({**samples, "linf": zero, "l2": zero}),
    })  # fmt: skip
    bench = Bench(copy, None, torch.device("cpu"))
    network = judge(_node(copy.value(key)), bench)
    predictions, _ = predict(network, clean, 256, lambda *_: None)
    said = {"index": samples["index"], "label": samples["label"], "prediction": predictions.numpy()}
    forge(copy, key, {"samples.parquet": pack_samples(said)})
    own = steps(rerun([row(found)], copy, None, 120, 3, "cpu"))
    assert not own["images"].contradicted and not own["judged"].contradicted
    assert own["attacked"].contradicted
    assert own["attacked"].breaks >= 10 and own["attacked"].p < LEVEL


def beautified(samples: dict[str, Any]) -> dict[str, Any]:
    return {**samples, "prediction": samples["label"]}


def test_predictions_that_no_network_made_are_found(stored: tuple[Path, Plan], copy: Store) -> None:
    found = cell(stored[1], "dense_at", "pgd20")
    key = found.predictions[0][0][0]
    forge(copy, key, {"samples.parquet": pack_samples(beautified(columns(copy.value(key))))})
    own = steps(rerun([row(found)], copy, None, N, 1, "cpu"))
    assert own["judged"].contradicted
    assert "differ" in own["judged"].text


def relabelled(store: Store, key: str) -> None:
    samples = columns(store.value(key))
    forge(store, key, {"samples.parquet": pack_samples({**samples, "label": (samples["label"] + 1) % 10})})


def other_images(store: Store, key: str) -> None:
    """Test images that were picked: others than those that the seed chooses."""
    made = craft_of(store, key)
    for each in (key, made.key):
        samples = columns(store.value(each))
        index = samples["index"].copy()
        index[0] = next(i for i in range(300) if i not in index)
        forge(store, each, {"samples.parquet": pack_samples({**samples, "index": index})})


def beyond_the_data(store: Store, key: str) -> None:
    samples = columns(store.value(key))
    index = samples["index"].copy()
    index[0] = 10**6
    forge(store, key, {"samples.parquet": pack_samples({**samples, "index": index})})


def further_away(store: Store, key: str) -> None:
    made = craft_of(store, key)
    forge(store, made.key, {"images.safetensors": pack_images(1 - images(made))})


def out_of_range(store: Store, key: str) -> None:
    made = craft_of(store, key)
    forge(store, made.key, {"images.safetensors": pack_images(images(made) * 3)})


@pytest.mark.parametrize(
    "tampered, message",
    [
        (relabelled, "labels are not those of the data set"),
        (other_images, "not those that the spec chooses"),
        (beyond_the_data, "beyond the 359 images"),
        (further_away, "beyond its budget"),
        (out_of_range, "left"),
    ],
)
def test_images_and_labels_that_are_not_the_specs_are_found(
    stored: tuple[Path, Plan], copy: Store, tampered: Callable[[Store, str], None], message: str
) -> None:
    found = cell(stored[1], "dense_at", "pgd20")
    tampered(copy, found.predictions[0][0][0])
    reruns = Reruns(copy, None, 120, 1, "cpu")
    reruns.of([])
    assert reruns._redone is not None
    seen = reruns._redone.verdicts(found.predictions[0][0][0])
    assert any(message in fault for fault in seen.faults), seen.faults


def test_a_difference_that_rounding_explains_proves_nothing(stored: tuple[Path, Plan]) -> None:
    root, _ = stored
    reruns = Reruns(Store(root), None, N, 1, "cpu")
    reruns.of([])
    redone = reruns._redone
    assert redone is not None
    pixels = torch.rand(3, 1, 8, 8)

    class Close(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            rows = torch.tensor([[0.0, 1.0, 1.0 - 1e-6], [0.0, 1.0, 0.9], [0.0, 1.0, 1.0]])
            return rows[: len(images)]

    assert redone._undecided(Close(), pixels, np.array([2, 2, 2])).tolist() == [True, False, True]
    assert redone._undecided(Close(), pixels, np.array([7, -1, 2])).tolist() == [False, False, True]

    class Random(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.rand(len(images), 3)

    assert redone._undecided(Random(), pixels, np.array([0, 0, 0])).all()


def test_the_test_is_exact_and_one_sided() -> None:
    assert one_sided(0, 12) == 1
    assert one_sided(10, 0) == pytest.approx(2**-10)
    assert one_sided(9, 0) > LEVEL > one_sided(10, 0)
    assert one_sided(3, 2) == pytest.approx(0.5)


def test_what_is_asked_must_be_there(stored: tuple[Path, Plan]) -> None:
    root, plan = stored
    with pytest.raises(SpecError, match="at least one image"):
        rerun([], Store(root), None, 0, 1, "cpu")
    lost = replace(cell(plan, "r2s", "eot"), predictions=((("f" * 64, "f" * 64),),))
    with pytest.raises(StoreError, match="no value"):
        rerun([row(lost)], Store(root), None, 3, 1, "cpu")
    craft = craft_of(Store(root), cell(plan, "r2s", "eot").predictions[0][0][0]).key
    with pytest.raises(StoreError, match="a prediction was expected"):
        rerun([replace(row(lost), predictions=(((craft, craft),),))], Store(root), None, 3, 1, "cpu")
