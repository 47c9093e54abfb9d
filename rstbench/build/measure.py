"""Builder of what is measured of networks beside their accuracy: the fact `value`, and more for each kind."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import combinations
from typing import Annotated, Any

import numpy as np
from pydantic import Field, TypeAdapter
from torch import nn

from rstbench.build.bench import Bench, Built
from rstbench.build.images import attacked_images
from rstbench.errors import SpecError
from rstbench.evaluation.features import feature_distances
from rstbench.evaluation.files import SAMPLES, pack_samples
from rstbench.networks import build as build_network
from rstbench.networks.spec import ModelSpec
from rstbench.nodes import Node
from rstbench.spec.base import canonical_json, distance
from rstbench.spec.measures import BytesSpec, FeatureDistanceSpec, MeasureSpec, ParametersSpec
from rstbench.store import Value
from rstbench.tickets import sizes
from rstbench.tickets.count import count
from rstbench.tickets.ticket import Ticket
from rstbench.tickets.weights import TrainedWeights
from rstbench.training import Progress, derive_seed

_MEASURE: TypeAdapter[MeasureSpec] = TypeAdapter(Annotated[MeasureSpec, Field(discriminator="kind")])
_MILLION = 1e6


def build_measure(node: Node, bench: Bench, progress: Progress) -> Built:
    """What the node's measure says of its members: the fact `value`, in the unit of `spec.measures`.

    parameters: millions. bytes: a whole number. mask_overlap: in [0, 1], with facts `pairs` ([i, j, overlap] of members
    i < j) and `by_chance`, what masks that keep as many weights at random would have. feature_distance: mean over
    images, which are in `SAMPLES` (index, value); of several members, each image has their mean.

    Raises `SpecError` where the measure is not defined for such a defense, `TicketError` for damaged files.
    """
    measure = _MEASURE.validate_json(canonical_json(node.spec["measure"]))
    if isinstance(measure, ParametersSpec):
        return _parameters(node, bench)
    if isinstance(measure, FeatureDistanceSpec):
        return _feature_distance(node, measure, bench, progress)
    facts = _bytes(node, measure, bench) if isinstance(measure, BytesSpec) else _mask_overlap(node, bench)
    return facts, {}


def _parameters(node: Node, bench: Bench) -> Built:
    if len(node.spec["members"]) > 1:
        raise SpecError(
            f"{node.title}: how many parameters a switch keeps depends on how far its masks overlap, which follows "
            "from no architecture; measure `bytes`, or the `parameters` of a single member"
        )
    (kept,) = node.spec["members"]
    if "model" in kept:
        fields: Mapping[str, Any] = {name: value for name, value in kept.items() if name != "model"}
        counted = count(build_network(ModelSpec.model_validate_json(canonical_json(kept["model"]))), **fields)
    else:
        counted = count(bench.network(node.inputs["member_0"], kept["checkpoint"]))
    facts = {"parameters": counted.parameters, "maskable": counted.maskable, "kept": counted.kept}
    return {"value": counted.kept / _MILLION, **facts}, {}


def _members(node: Node) -> list[tuple[str, str]]:
    """Key and checkpoint of each member, in order."""
    return [(node.inputs[f"member_{i}"], member["checkpoint"]) for i, member in enumerate(node.spec["members"])]


def _bytes(node: Node, measure: BytesSpec, bench: Bench) -> dict[str, Any]:
    """`parts`: what the bytes are made of, each file or network once, however many members refer to it."""
    parts: dict[tuple[str, str], int] = {}
    counted: set[Hashable] = set()
    for key, checkpoint in _members(node):
        if (key, checkpoint) in parts:
            continue
        value = bench.store.value(key)
        if value.record["kind"] == "model":
            parts[key, checkpoint] = _bytes_from_elsewhere(bench.network(key, checkpoint), measure)
            continue
        file = bench.file(key, checkpoint)
        match measure.of:
            case "files":
                parts[key, checkpoint] = _file_bytes(value, checkpoint)
                if isinstance(file, Ticket) and isinstance(file.weights, TrainedWeights):
                    weights = (file.weights.key, file.weights.checkpoint)
                    parts[weights] = _file_bytes(bench.store.value(weights[0]), weights[1])
            case "masks":
                parts[key, checkpoint] = sizes.mask_bytes(value.read(f"{checkpoint}.safetensors"))
            case "raw_masks":
                parts[key, checkpoint] = sizes.raw_mask_bytes(file)
            case "shared_weights":
                drawn = sizes.weights_drawn_from(file, key, checkpoint)
                parts[key, checkpoint] = sum(size for origin, size in drawn.items() if origin not in counted)
                counted |= drawn.keys()
            case "separate_weights":
                parts[key, checkpoint] = sizes.weight_bytes(file)
    listed = [{"key": key, "checkpoint": checkpoint, "bytes": size} for (key, checkpoint), size in parts.items()]
    return {"value": sum(parts.values()), "parts": listed}


def _file_bytes(value: Value, checkpoint: str) -> int:
    return int(value.record["files"][f"{checkpoint}.safetensors"]["bytes"])


def _bytes_from_elsewhere(network: nn.Module, measure: BytesSpec) -> int:
    """A model from elsewhere has no file of ours: it takes its tensors, and masks nothing."""
    if measure.of == "files":
        return sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    if measure.of in ("shared_weights", "separate_weights"):
        return sizes.FP32_BYTES * sum(parameter.numel() for parameter in network.parameters())
    return 0


def _mask_overlap(node: Node, bench: Bench) -> dict[str, Any]:
    members = _members(node)
    if len(members) < 2:
        raise SpecError(f"{node.title}: an overlap is one of two masks, and this defense is a single network")
    masks = []
    for key, checkpoint in members:
        if bench.store.value(key).record["kind"] == "model":
            raise SpecError(f"{node.title}: a model from elsewhere has no mask, so there is no overlap to measure")
        masks.append(sizes.masked_weights(bench.file(key, checkpoint), f"{node.title}: value {key[:12]}"))
    pairs = [(i, j, sizes.overlap(masks[i], masks[j])) for i, j in combinations(range(len(masks)), 2)]
    by_chance = [sizes.chance_overlap(masks[i], masks[j]) for i, j, _ in pairs]
    return {
        "value": sum(shared for _, _, shared in pairs) / len(pairs),
        "pairs": [list(pair) for pair in pairs],
        "by_chance": sum(by_chance) / len(by_chance),
    }


def _feature_distance(node: Node, measure: FeatureDistanceSpec, bench: Bench, progress: Progress) -> Built:
    rows, clean, _ = attacked_images(node.spec, bench.arrays(node.inputs["data"]), measure.samples, bench.device)
    members = _members(node)
    seed = derive_seed("measure", node.spec["seed"])
    found, batches = [], []
    for i, member in enumerate(members):

        def watch(done: float, total: float, note: str, before: int = i) -> None:
            progress(before * total + done, len(members) * total, note)

        distances, batch = feature_distances(
            bench.network(*member), clean, rows.tolist(), distance(measure.epsilon), measure.noise, seed,
            measure.batch, watch,
        )  # fmt: skip
        found.append(distances.numpy())
        batches.append(batch)
    values = np.mean(found, axis=0)
    flags = [] if min(batches) >= measure.batch else [f"batch:halved_to_{min(batches)}"]
    facts = {"value": float(values.mean()), "by_member": [float(each.mean()) for each in found], "flags": flags}
    return facts, {SAMPLES: pack_samples({"index": rows, "value": values})}
