"""What stands behind a prediction: its parts, where the images were too many for one node, and the networks asked."""

from __future__ import annotations

from collections.abc import Mapping

from rstbench.nodes import NETWORKS as NETWORKS
from rstbench.plan import Node


def parts_of(key: str, nodes: Mapping[str, Node]) -> tuple[str, ...]:
    """The nodes that the node `key` joins, in order; itself, if it joins none."""
    node = nodes[key]
    if node.kind != "join":
        return (key,)
    return tuple(node.inputs[f"part_{i}"] for i in range(len(node.inputs)))


def targets_of(key: str, nodes: Mapping[str, Node]) -> tuple[str, ...]:
    """Keys of the networks that the predict node `key` asks: one, or those of a deterministic ensemble, in order."""
    inputs = nodes[parts_of(key, nodes)[0]].inputs
    if "target" in inputs:
        return (inputs["target"],)
    count = sum(role.startswith("target_") for role in inputs)
    return tuple(inputs[f"target_{i}"] for i in range(count))


def checkpoints_of(key: str, nodes: Mapping[str, Node]) -> tuple[str, ...]:
    """Which checkpoint of each of `targets_of` the predict node `key` asks."""
    named = nodes[parts_of(key, nodes)[0]].spec.get("checkpoint", "")
    if isinstance(named, list | tuple):
        return tuple(map(str, named))
    return (str(named),) * len(targets_of(key, nodes))


def images_of(key: str, nodes: Mapping[str, Node]) -> tuple[str, ...]:
    """Keys of what the predict node `key` judges: a data node, or the craft nodes of all parts, in order."""
    return tuple(image for part in parts_of(key, nodes) for image in parts_of(nodes[part].inputs["images"], nodes))


def fingerprints_behind(key: str, nodes: Mapping[str, Node]) -> tuple[str, ...]:
    """Fingerprints of the data that the value of the node `key` is about: those of its images.

    Not those of other data that a network was trained on before (transferred RTTs). Empty where no image is looked at.
    """
    node = nodes[key]
    if node.kind == "data":
        return (str(node.spec["fingerprint"]),)
    if node.kind in ("predict", "join"):
        behind = images_of(key, nodes)
    else:
        behind = (node.inputs["data"],) if "data" in node.inputs else ()
    return tuple(dict.fromkeys(found for image in behind for found in fingerprints_behind(image, nodes)))
