"""Builders of nodes that attack and judge."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter
from torch import nn

from rstbench.attacks.threat import Threat
from rstbench.build.bench import Bench, Built, SavedState
from rstbench.build.images import attacked_images, images_at
from rstbench.build.reuse import Kept, kept_from
from rstbench.defenses.averaged import Averaged
from rstbench.evaluation.batches import Images
from rstbench.evaluation.craft import Crafted, Target, craft, threat_of
from rstbench.evaluation.files import IMAGES, SAMPLES, pack_images, pack_samples, unpack_samples
from rstbench.evaluation.judge import check_images, predict, within
from rstbench.nodes import Node
from rstbench.spec.attack_fields import Bounded
from rstbench.spec.attacks import CraftedSpec
from rstbench.spec.base import canonical_json, distance
from rstbench.training import Progress, derive_seed

_CRAFTED: TypeAdapter[CraftedSpec] = TypeAdapter(Annotated[CraftedSpec, Field(discriminator="kind")])


def _networks(node: Node, bench: Bench, role: str) -> list[nn.Module]:
    """The networks of inputs `<role>_0`, `<role>_1` ...; their checkpoint is one for all, or one for each."""
    keys = [node.inputs[f"{role}_{i}"] for i in range(sum(name.startswith(f"{role}_") for name in node.inputs))]
    named = node.spec["checkpoint"]
    checkpoints = [named] * len(keys) if isinstance(named, str) else named
    return [bench.network(key, checkpoint) for key, checkpoint in zip(keys, checkpoints, strict=True)]


def judge(node: Node, bench: Bench) -> nn.Module:
    """The network that a predict node asks: one, or the average of several."""
    if "target" in node.inputs:
        return bench.network(node.inputs["target"], node.spec["checkpoint"])
    return Averaged(_networks(node, bench, "target"), node.spec["average"])


def attack_of(node: Node) -> CraftedSpec:
    """The attack of a craft node."""
    attack: CraftedSpec = _CRAFTED.validate_json(canonical_json(node.spec["attack"]))
    return attack


def target_of(node: Node, bench: Bench) -> Target:
    """Whom a craft node attacks."""
    classes = bench.arrays(node.inputs["data"]).classes
    return Target(_networks(node, bench, "member"), classes, bench.device, node.spec.get("probabilities"))


def seed_of(node: Node) -> int:
    """What the random numbers of a craft node follow from."""
    return derive_seed("craft", node.spec["seed"], *(["held_out"] if "held_out" in node.spec else []))


def build_craft(node: Node, bench: Bench, progress: Progress) -> Built:
    """Adversarial images of one attack: `IMAGES` and `SAMPLES`."""
    attack, target, seed = attack_of(node), target_of(node, bench), seed_of(node)
    data = bench.arrays(node.inputs["data"])
    rows, clean, labels = attacked_images(node.spec, data, attack.samples, bench.device)
    saved = SavedState(bench.store, node.key)

    def attacked(images: Images, places: NDArray[np.int64]) -> Crafted:
        return craft(target, images, labels[places], rows[places].tolist(), attack, seed, progress, saved)

    kept: Kept | None = None
    if "smaller" in node.inputs:
        smaller = bench.store.value(node.inputs["smaller"])
        kept = kept_from(smaller, rows, labels, target.members[0], attack.batch, progress)
        crafted = kept.completed(lambda rest: attacked(images_at(node.spec, data, rows[rest], bench.device), rest))
    else:
        crafted = attacked(clean, np.arange(len(rows)))
    linf, l2 = check_images(crafted.images, clean, threat_of(attack))
    columns = {"index": rows, "label": labels.numpy(), "linf": linf.numpy(), "l2": l2.numpy()}
    if crafted.queries is not None:
        columns["queries"] = crafted.queries.numpy()
    facts: dict[str, Any] = {"flags": list(crafted.flags)}
    if kept is not None and isinstance(attack, Bounded):
        columns["epsilon"] = kept.within(distance(attack.epsilon))
        facts["kept"] = kept.counts(attack.smaller_epsilons)
    if crafted.against_fp32 is not None:
        facts["against_fp32"] = asdict(crafted.against_fp32)
    if crafted.seconds is not None:
        facts["passes"] = {"forward": crafted.forward, "gradient": crafted.gradient}
        facts["attack_seconds"] = round(crafted.seconds, 3)
    return facts, {IMAGES: pack_images(crafted.images), SAMPLES: pack_samples(columns)}


def build_predict(node: Node, bench: Bench, progress: Progress) -> Built:
    """Predictions of one network, or of the average of several, on clean or adversarial images: `SAMPLES`."""
    source = bench.store.value(node.inputs["images"])
    images: Images
    if source.record["kind"] == "data":
        data = bench.arrays(source.key)
        rows, images, labels_tensor = attacked_images(node.spec, data, node.spec["samples"], bench.device)
        labels = labels_tensor.numpy()
    else:
        images = bench.images(source)
        samples = unpack_samples(source.read(SAMPLES), str(source.directory / SAMPLES))
        rows, labels = samples["index"], samples["label"]
        if "within" in node.spec:
            spec = source.record["spec"]
            data = bench.arrays(node.inputs["data"])
            _, clean, _ = attacked_images(spec, data, spec["attack"]["samples"], bench.device)
            images = within(images, clean, Threat(**node.spec["within"]))
    predictions, batch = predict(judge(node, bench), images, node.spec["batch"], progress)
    columns = {"index": rows, "label": labels, "prediction": predictions.numpy()}
    flags = [] if batch >= node.spec["batch"] else [f"batch:halved_to_{batch}"]
    return {"flags": flags}, {SAMPLES: pack_samples(columns)}
