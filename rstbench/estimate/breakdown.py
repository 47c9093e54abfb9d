"""The work of nodes, in units whose seconds a calibration measures. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from rstbench.estimate.units import VALUE, Unit, Work, unit
from rstbench.nodes import NETWORKS, Node
from rstbench.spec.attacks import (
    BLACK_BOX,
    AttackEngine,
    AutoAttackSpec,
    BanditsSpec,
    CraftedSpec,
    PgdSpec,
    SquareSpec,
)
from rstbench.spec.base import canonical_json
from rstbench.spec.budgets import passes
from rstbench.spec.effort import passes_per_image, step_passes, validation_passes
from rstbench.spec.training import SearchSpec, TrainingSpec

_MODEL = ("family", "width", "channels", "image_size", "bn_affine", "last_bn_affine")
"""Fields of a network that its time depends on; the classifier's share of it is nothing."""
_ATTACK = ("kind", "view", "norm", "form", "loss", "average", "expectation", "tile", "rivals", "abort_early")
"""Fields of an attack that the time of one of its passes depends on."""
_VALIDATION = ("every", "images", "epsilon", "stop")
"""Fields of a validation that the time of one of its passes does not depend on."""
_SUBJECTS = {"train": "weights", "search": "scores", "rtt": "scores", "tune": "masked", "lottery": "masked"}
_ON_DISK = ("imagenet", "folder")
_CRAFTED: TypeAdapter[CraftedSpec] = TypeAdapter(Annotated[CraftedSpec, Field(discriminator="kind")])
_PROBES, _PROBED = 7, 64
"""Passes of the reliability checks before and after an attack, and on how many images (`evaluation.craft`)."""
_COMPARED = 128
"""Images that are attacked in fp32 as well where low precision crafts (`evaluation.low_precision`)."""


class Breakdown:
    """The work of nodes of a plan. nodes: all of them, by key: what a node costs depends on its inputs."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self._models: dict[str, dict[str, Any]] = {}

    def of(self, node: Node) -> tuple[Work, ...]:
        """What the node does."""
        match node.kind:
            case "craft":
                found = self._craft(node)
            case "predict":
                found = self._predict(node)
            case "measure":
                found = self._measure(node)
            case "data":
                found = [Work(unit("load", load=node.spec["load"]), 1, node.key)]
            case "model":
                found = [Work(self._network_unit(node.key), 1, node.key)]
            case "join":
                found = []
            case _:
                found = self._fit(node)
        return (*found, Work(VALUE, 1, node.key))

    def attack_passes(self, node: Node) -> float:
        """Passes that a craft node is thought to make, a gradient counted as two, as its record counts them."""
        padding = _padding(_CRAFTED.validate_json(canonical_json(node.spec["attack"])), node)
        return (_without_look(node).passes + node.images * self._asked(node)) * padding

    def _fit(self, node: Node) -> list[Work]:
        training = training_of(node)
        model, engine = self._model(node.key), training.engine.model_dump(mode="json")
        validated = node.images * node.spec["cut"]["validation_fraction"]
        fitted = round(node.images - validated)
        batch = max(1, min(training.batch, fitted))
        source = self._nodes[node.inputs["data"]].spec["load"]
        subject = {"kind": _SUBJECTS[node.kind]}
        if subject["kind"] == "scores":
            subject |= {"pattern": node.spec["pattern"]}
        step = unit(
            "step",
            model=model,
            subject=subject,
            engine=engine,
            batch=batch,
            inner={"kind": training.inner.kind, "steps": training.inner.steps},
            inner_bn=training.inner_bn,
            objective=training.objective,
            augmentation=training.augmentation.model_dump(mode="json"),
            data=source if source["source"] in _ON_DISK else "in memory",
        )
        whole_steps = fitted // batch * batch  # the last incomplete batch of an epoch is left out
        gathered = step_passes(training, fitted) / passes_per_image(training) - training.epochs * fitted
        validation = training.validation.model_dump(mode="json", exclude=set(_VALIDATION))
        validate = unit("validate", model=model, engine=engine, batch=batch, validation=validation)
        made = unit("make", model=model, subject=subject["kind"], load=source)
        behind = [self._network(key, "") for role, key in node.inputs.items() if role in ("weights", "ticket")]
        return [
            self._data(node.inputs["data"]),
            *(Work(each.unit, each.amount, each.about) for works in behind for each in works),
            Work(made, 1, node.key),
            Work(unit("save", model=model, subject=subject["kind"]), training.epochs, node.key),
            Work(step, training.epochs * whole_steps + gathered, node.key),
            Work(validate, validation_passes(training, validated), node.key),
        ]

    def _craft(self, node: Node) -> list[Work]:
        attack = _CRAFTED.validate_json(canonical_json(node.spec["attack"]))
        members, checkpoints = _roles(node, "member")
        model, source = self._model(members[0]), self._nodes[node.inputs["data"]]
        found = [
            self._data(node.inputs["data"]),
            *(work for key, name in zip(members, checkpoints, strict=True) for work in self._network(key, name)),
            Work(unit("clean", **_pixels(model, source)), node.images, source.key),
            Work(unit("pack", **_pixels(model)), node.images, node.key),
        ]
        if "smaller" in node.inputs:  # what was made there is judged afresh, as a predict node would
            batch = _batch(attack.batch, node.images)
            judged = unit("predict", model=model, batch=batch, threads=attack.engine.threads)
            found.append(Work(unit("unpack", **_pixels(model)), node.images, node.key))
            found.append(Work(judged, -(-node.images // batch) * batch, members[0]))
            node = _without_look(node)
        found += self._attacked(attack, node, attack.engine)
        if attack.engine.precision != "fp32" and attack.kind not in BLACK_BOX and node.images:
            exact, count = attack.engine.model_copy(update={"precision": "fp32"}), min(_COMPARED, node.images)
            part = replace(node, images=count, passes=node.passes * count / node.images)
            found += self._attacked(attack, part, exact)
        return found

    def _attacked(self, attack: CraftedSpec, node: Node, engine: AttackEngine) -> list[Work]:
        members, asked = _roles(node, "member")[0], self._asked(node)
        looks = asked * (node.images + _PROBES * min(_PROBED, node.images))
        fields = {
            "model": self._model(members[0]),
            "members": len(members),
            "batch": _batch(attack.batch, node.images),
            "engine": engine.model_dump(mode="json"),
        }
        shares = _shares(attack, node, looks)
        return [Work(unit("attack", attack=each, **fields), share, node.key) for each, share in shares]

    def _predict(self, node: Node) -> list[Work]:
        targets, checkpoints = (
            ([node.inputs["target"]], [node.spec["checkpoint"]]) if "target" in node.inputs else _roles(node, "target")
        )
        batch = _batch(node.spec["batch"], node.images)
        source = self._nodes[node.inputs["images"]]
        model, found = self._model(targets[0]), []
        if source.kind == "data" or "data" in node.inputs:
            data = self._nodes[node.inputs.get("data", source.key)]
            found += [self._data(data.key), Work(unit("clean", **_pixels(model, data)), node.images, data.key)]
        if source.kind != "data":
            found.append(Work(unit("unpack", **_pixels(model)), node.images, node.key))
        padded = -(-node.images // batch) * batch
        for key, checkpoint in zip(targets, checkpoints, strict=True):
            judged = unit("predict", model=self._model(key), batch=batch, threads=node.spec["threads"])
            found += [*self._network(key, checkpoint), Work(judged, padded, key)]
        return found

    def _measure(self, node: Node) -> list[Work]:
        if not node.passes:
            return []
        members, _ = _roles(node, "member")
        names = [each["checkpoint"] for each in node.spec["members"]]
        batch = _batch(node.spec["measure"]["batch"], node.images)
        data = self._nodes[node.inputs["data"]]
        pixels = _pixels(self._model(members[0]), data)
        found = [self._data(data.key), Work(unit("clean", **pixels), node.images, data.key)]
        for key, name in zip(members, names, strict=True):
            judged = unit("predict", model=self._model(key), batch=batch, threads=1)
            found += [*self._network(key, name), Work(judged, node.passes / len(members), key)]
        return found

    def _asked(self, node: Node) -> int:
        return 1 if node.spec["attack"].get("view") == "switch" else len(_roles(node, "member")[0])

    def _data(self, key: str) -> Work:
        return Work(unit("load", load=self._nodes[key].spec["load"]), 1, key, ("data", key))

    def _network(self, key: str, checkpoint: str) -> list[Work]:
        """A network on its way from the store: its own file, and that of the trained weights behind a ticket."""
        node, held = self._nodes[key], ("network", key, checkpoint)
        found = [Work(self._network_unit(key), 1, key, held)]
        if node.kind == "rtt":
            behind = node.inputs["weights"]
            found.append(Work(self._network_unit(behind), 1, behind, held))
        return found

    def _network_unit(self, key: str) -> Unit:
        file = {"search": "ticket", "rtt": "ticket", "model": "elsewhere"}.get(self._nodes[key].kind, "dense")
        return unit("network", model=self._model(key), file=file)

    def _model(self, key: str) -> dict[str, Any]:
        if key not in self._models:
            node = self._nodes[key]
            if node.kind in NETWORKS:
                spec = node.spec["model"]
                self._models[key] = {name: spec[name] for name in _MODEL if name in spec}
            else:
                task = {name: node.spec["task"][name] for name in ("channels", "image_size")}
                self._models[key] = {"elsewhere": dict(node.spec["model"]), **task}
        return self._models[key]


def training_of(node: Node) -> TrainingSpec:
    """The spec of a node that optimises."""
    kind = SearchSpec if node.kind in ("search", "rtt") else TrainingSpec
    return kind.model_validate_json(canonical_json(node.spec["training"]))


def _roles(node: Node, role: str) -> tuple[list[str], list[str]]:
    """Keys of inputs `<role>_0`, `<role>_1` ..., and the checkpoint of each."""
    keys = [node.inputs[f"{role}_{i}"] for i in range(sum(name.startswith(f"{role}_") for name in node.inputs))]
    named = node.spec.get("checkpoint", "")
    return keys, [named] * len(keys) if isinstance(named, str) else named


def _without_look(node: Node) -> Node:
    """The attack alone: of one with smaller epsilons, a pass of each image judges what there was before."""
    return replace(node, passes=node.passes - node.images) if "smaller" in node.inputs else node


def _batch(batch: int, images: float) -> int:
    return max(1, min(batch, round(images)))


def _pixels(model: Mapping[str, Any], data: Node | None = None) -> dict[str, Any]:
    """What taking and packing images depends on: their size, and where they come from if it is the disk."""
    source = {} if data is None else data.spec["load"]
    on_disk = {"data": source} if source.get("source") in _ON_DISK else {}
    return {"channels": model["channels"], "image_size": model["image_size"], **on_disk}


def _shares(attack: CraftedSpec, node: Node, looks: float) -> list[tuple[dict[str, Any], float]]:
    """What is attacked with, and how many passes of each kind; looks: passes before and after the attack.

    AutoAttack's gradients are taken for those of PGD, and the queries of its Square for those of ours.
    """
    written = attack.model_dump(mode="json")
    fields = {name: written[name] for name in _ATTACK if name in written}
    if isinstance(attack, AutoAttackSpec):
        queries = node.passes * passes(attack.model_copy(update={"steps": 0})) / passes(attack)
        if attack.version == "rand":
            queries = 0.0
        shares = [("pgd", node.passes - queries + looks), ("square", queries)]
        return [(fields | {"kind": kind}, share) for kind, share in shares if share]
    return [(fields, node.passes * _padding(attack, node) + looks)]


def _padding(attack: CraftedSpec, node: Node) -> float:
    """Images of whole batches for each image: most attacks repeat one in the last batch.

    What leaves images out fills its batches with what still stands.
    """
    left_out = isinstance(attack, AutoAttackSpec | SquareSpec | BanditsSpec) or (
        isinstance(attack, PgdSpec) and attack.stop == "source_fooled"
    )
    if left_out or not node.images:
        return 1.0
    size = _batch(attack.batch, node.images)
    return -(-node.images // size) * size / node.images
