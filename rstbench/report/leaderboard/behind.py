"""What is behind a prediction, as the store's own records say it: networks, images, attack, data. No suite is asked.

Everything that decides what a number means is read from here, when a leaderboard is built and when it is verified, so
a file cannot claim what the store does not say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from rstbench.errors import StoreError
from rstbench.nodes import Node, node_key
from rstbench.report.parts import checkpoints_of, images_of, parts_of, targets_of
from rstbench.spec.attacks import CleanSpec, CraftedSpec, CwInfSpec, CwL2Spec
from rstbench.spec.base import canonical_json
from rstbench.spec.budgets import budget
from rstbench.spec.versions import BUILDER_VERSIONS
from rstbench.store import Store

IMAGES = "images.safetensors"
"""The file of adversarial images of a craft node."""

_CRAFTED: TypeAdapter[CraftedSpec] = TypeAdapter(Annotated[CraftedSpec, Field(discriminator="kind")])

Judged = tuple[tuple[str, str], ...]
"""Networks that are asked as one, (key, checkpoint) of each: one, or those of a deterministic ensemble."""

Counted = tuple[tuple[str, ...], str, float | None]
"""Keys of images, and the norm and epsilon within which they count."""


@dataclass(frozen=True)
class Source:
    """Images that are judged. keys: their craft nodes, one for each part, or the data node of clean ones.

    attack: what made them, as it is judged (`within_epsilon` is that of the judgement). attacked: the networks that it
    was made against, (key, checkpoint), in order. norm, epsilon: that all images keep; epsilon is 0 for clean images
    and None where nothing bounds them. data: keys of data nodes. draw: with what probabilities its adversary believes
    that each of `attacked` is drawn; empty: with equal ones.
    """

    keys: tuple[str, ...]
    attack: CleanSpec | CraftedSpec
    attacked: Judged
    norm: str
    epsilon: float | None
    data: tuple[str, ...]
    draw: tuple[float, ...] = ()

    @property
    def counted(self) -> Counted:
        """What tells it from other sources: the same images, judged within another distance, are others."""
        return self.keys, self.norm, self.epsilon


@dataclass
class Behind:
    """The records of a store, each read once, as nodes.

    faults: key -> why a record is not what its key says, of those that were looked at.
    """

    store: Store
    nodes: dict[str, Node] = field(default_factory=dict)
    records: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def read(self, keys: Iterable[str]) -> None:
        """Read the records under `keys` and of all they are computed from. Raises `StoreError` if one is missing."""
        waiting = [key for key in keys if key not in self.nodes]
        while waiting:
            key = waiting.pop()
            if key in self.nodes:
                continue
            record = self.store.value(key).record
            kind, spec, inputs = record.get("kind"), record.get("spec"), record.get("inputs")
            if not (isinstance(kind, str) and isinstance(spec, Mapping) and isinstance(inputs, Mapping)):
                raise StoreError(f"value {key[:12]}: its record does not say what it was computed from")
            self.records[key] = record
            self.nodes[key] = Node(kind, key, dict(spec), dict(inputs), str(record.get("title", "")), 0.0)
            if kind not in BUILDER_VERSIONS or node_key(kind, spec, inputs) != key:
                self.faults[key] = (
                    f"value {key[:12]} ({kind}): its key is not the hash of its kind, version, spec and inputs"
                )
            waiting += [each for each in inputs.values() if each not in self.nodes]

    def ancestors(self, keys: Iterable[str]) -> list[str]:
        """The keys and all that they are computed from, sorted. They have been read."""
        found: set[str] = set()
        waiting = list(keys)
        while waiting:
            key = waiting.pop()
            if key not in found:
                found.add(key)
                waiting += self.nodes[key].inputs.values()
        return sorted(found)

    def judged(self, prediction: str) -> tuple[Judged, str]:
        """The networks that a predict node asked, and what of them is averaged ("" for one network).

        Raises `StoreError` where its parts asked different ones, or it is no prediction.
        """
        found = set()
        for part in parts_of(prediction, self.nodes):
            node = self.nodes[part]
            if node.kind != "predict":
                raise StoreError(f"value {part[:12]} is of kind {node.kind}; a prediction was expected")
            pairs = tuple(zip(targets_of(part, self.nodes), checkpoints_of(part, self.nodes), strict=True))
            found.add((pairs, str(node.spec.get("average", ""))))
        if len(found) != 1:
            raise StoreError(f"value {prediction[:12]}: its parts are predictions of different networks")
        return found.pop()

    def source(self, predictions: Sequence[str]) -> Source:
        """The images that all of these predict nodes judge: one image for all members.

        Raises `StoreError` if they judge different ones, or the records do not fit each other.
        """
        images = {images_of(key, self.nodes) for key in predictions}
        within = {canonical_json(self._leaf(key).spec.get("within")) for key in predictions}
        if len(images) != 1 or len(within) != 1:
            raise StoreError(
                f"value {predictions[0][:12]}: the members of a defense were shown different images under one attack"
            )
        keys = images.pop()
        kinds = {self.nodes[key].kind for key in keys}
        if kinds == {"data"}:
            return Source(tuple(dict.fromkeys(keys)), CleanSpec(), (), "", 0.0, tuple(dict.fromkeys(keys)))
        if kinds != {"craft"}:
            raise StoreError(f"value {keys[0][:12]} is of kind {', '.join(sorted(kinds))}; images were expected")
        return self._crafted(keys, self._leaf(predictions[0]).spec.get("within"))

    def _leaf(self, prediction: str) -> Node:
        return self.nodes[parts_of(prediction, self.nodes)[0]]

    def _crafted(self, keys: tuple[str, ...], within: Mapping[str, Any] | None) -> Source:
        found = {
            canonical_json([self._attack(key), self._attacked(key), self._data(key), self._draw(key)]) for key in keys
        }
        if len(found) != 1:
            raise StoreError(f"value {keys[0][:12]}: its parts were not made by one attack")
        try:
            attack = _CRAFTED.validate_json(canonical_json(self._attack(keys[0])))
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise StoreError(
                f"value {keys[0][:12]}: made by an attack that this version does not know ({reason})"
            ) from error
        kept = budget(attack)
        norm, epsilon = kept if kept is not None else (attack.norm, None)
        if within is not None:
            norm, epsilon = str(within["norm"]), float(within["epsilon"])
            changes: dict[str, Any] = {"within_epsilon": True} if isinstance(attack, CwInfSpec) else {}
            changes = {"within_epsilon": epsilon} if isinstance(attack, CwL2Spec) else changes
            attack = attack.model_copy(update=changes)
        draw = tuple(map(float, self._draw(keys[0])))
        return Source(keys, attack, self._attacked(keys[0]), norm, epsilon, (self._data(keys[0]),), draw)

    def _attack(self, key: str) -> Any:
        return self.nodes[key].spec.get("attack")

    def _draw(self, key: str) -> Sequence[float]:
        return self.nodes[key].spec.get("probabilities") or ()

    def _data(self, key: str) -> str:
        return str(self.nodes[key].inputs.get("data"))

    def _attacked(self, key: str) -> Judged:
        node = self.nodes[key]
        keys = [node.inputs[f"member_{i}"] for i in range(sum(role.startswith("member_") for role in node.inputs))]
        named = node.spec.get("checkpoint", "")
        names = list(map(str, named)) if isinstance(named, list | tuple) else [str(named)] * len(keys)
        return tuple(zip(keys, names, strict=True))

    def held_out(self, source: Source, predictions: Sequence[str]) -> bool:
        """Whether these are images of the validation part, and not test images."""
        return any("held_out" in self.nodes[key].spec for key in (*source.keys, *predictions))

    def fingerprint(self, data: str) -> str:
        """Fingerprint of the images of a data node."""
        return str(self.nodes[data].spec.get("fingerprint", ""))

    def digests(self, source: Source) -> tuple[str, ...]:
        """SHA-256 of the files of adversarial images, one for each part; none for clean images."""
        files = [self.records[key]["files"].get(IMAGES) for key in source.keys]
        return tuple(str(each["sha256"]) for each in files if each is not None)
