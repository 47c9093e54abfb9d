"""Builders of nodes that attack and judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, TypeAdapter
from torch import Tensor

from rstbench.attacks.threat import Threat
from rstbench.build.bench import Bench, Built, SavedState
from rstbench.data.cuts import split, stratified_subset
from rstbench.data.sources import Arrays
from rstbench.data.tensors import as_float, to_device
from rstbench.evaluation.craft import Target, craft, threat_of
from rstbench.evaluation.files import IMAGES, SAMPLES, pack_images, pack_samples, unpack_images, unpack_samples
from rstbench.evaluation.judge import check_images, predict, within
from rstbench.nodes import Node
from rstbench.spec.attacks import CraftedSpec
from rstbench.spec.base import canonical_json
from rstbench.training import Progress, derive_seed

SUBSET_SEED = 0
"""Seed of the choice of test images where an attack runs on fewer than all."""

Rows = np.ndarray[Any, Any]
_CRAFTED: TypeAdapter[CraftedSpec] = TypeAdapter(Annotated[CraftedSpec, Field(discriminator="kind")])


def _attacked_images(spec: Mapping[str, Any], arrays: Arrays, samples: int | None) -> tuple[Rows, Tensor, Tensor]:
    """Indices, float images on the CPU and labels of what a craft or predict node is about: test images, or held-out
    ones, which are of the validation part of the training set.
    """
    if "held_out" in spec:
        images, all_labels = arrays.train_images, arrays.train_labels
        _, part = split(all_labels, spec["cut"]["validation_fraction"], spec["cut"]["validation_seed"])
        samples = min(spec["held_out"], len(part))
    else:
        images, all_labels = arrays.test_images, arrays.test_labels
        part = np.arange(len(all_labels))
    rows = part[stratified_subset(all_labels[part], samples or len(part), SUBSET_SEED)]
    return rows, as_float(to_device(images[rows], torch.device("cpu"))), torch.from_numpy(all_labels[rows])


def build_craft(node: Node, bench: Bench, progress: Progress) -> Built:
    """Adversarial images of one attack: `IMAGES` and `SAMPLES`."""
    attack: CraftedSpec = _CRAFTED.validate_json(canonical_json(node.spec["attack"]))
    arrays = bench.arrays(node.inputs["data"])
    rows, clean, labels = _attacked_images(node.spec, arrays, attack.samples)
    roles = sorted((role for role in node.inputs if role != "data"), key=lambda role: int(role.split("_")[1]))
    target = Target(
        [bench.network(node.inputs[role], node.spec["checkpoint"]) for role in roles],
        arrays.classes,
        bench.device,
        node.spec.get("probabilities"),
    )
    seed = derive_seed("craft", node.spec["seed"], *(["held_out"] if "held_out" in node.spec else []))
    crafted = craft(target, clean, labels, rows.tolist(), attack, seed, progress, SavedState(bench.store, node.key))
    linf, l2 = check_images(crafted.images, clean, threat_of(attack))
    columns = {"index": rows, "label": labels.numpy(), "linf": linf.numpy(), "l2": l2.numpy()}
    if crafted.queries is not None:
        columns["queries"] = crafted.queries.numpy()
    facts: dict[str, Any] = {"flags": list(crafted.flags)}
    if crafted.seconds is not None:
        facts["passes"] = {"forward": crafted.forward, "gradient": crafted.gradient}
        facts["attack_seconds"] = round(crafted.seconds, 3)
    return facts, {IMAGES: pack_images(crafted.images), SAMPLES: pack_samples(columns)}


def build_predict(node: Node, bench: Bench, progress: Progress) -> Built:
    """Predictions of one network on clean or adversarial images: `SAMPLES`."""
    source = bench.store.value(node.inputs["images"])
    if source.record["kind"] == "data":
        rows, images, labels_tensor = _attacked_images(node.spec, bench.arrays(source.key), node.spec["samples"])
        labels = labels_tensor.numpy()
    else:
        images = unpack_images(source.read(IMAGES), str(source.directory / IMAGES))
        samples = unpack_samples(source.read(SAMPLES), str(source.directory / SAMPLES))
        rows, labels = samples["index"], samples["label"]
        if "within" in node.spec:
            spec = source.record["spec"]
            _, clean, _ = _attacked_images(spec, bench.arrays(node.inputs["data"]), spec["attack"]["samples"])
            images = within(images, clean, Threat(**node.spec["within"]))
    network = bench.network(node.inputs["target"], node.spec["checkpoint"])
    predictions, batch = predict(network, images, node.spec["batch"], progress)
    columns = {"index": rows, "label": labels, "prediction": predictions.numpy()}
    flags = [] if batch >= node.spec["batch"] else [f"batch:halved_to_{batch}"]
    return {"flags": flags}, {SAMPLES: pack_samples(columns)}
