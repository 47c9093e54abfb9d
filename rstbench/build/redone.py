"""Stored predictions and images, redone on a few random test images (`build.rerun`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rstbench.attacks.threat import Threat
from rstbench.build.attack import attack_of, judge, seed_of, target_of
from rstbench.build.bench import Bench
from rstbench.build.handed_in import HandedIn
from rstbench.build.images import attacked_images, images_at
from rstbench.errors import AttackError, StoreError
from rstbench.evaluation.craft import craft, threat_of
from rstbench.evaluation.files import SAMPLES, unpack_samples
from rstbench.evaluation.judge import check_images, predict, tolerance, within
from rstbench.evaluation.numerics import exact_fp32
from rstbench.nodes import Node
from rstbench.spec.base import distance
from rstbench.store import Value

_UNDECIDED = 1e-4
"""Of the range of an image's logits: how far rounding in fp32 may move them, at another batch or on other hardware."""


def _silent(done: float, total: float, note: str) -> None:
    pass


@dataclass(frozen=True)
class Verdicts:
    """Stored predictions of some images, and what was found on looking again.

    right: bool (n,), of the stored ones. differ: how many are others now; undecided: others, within what rounding or
    the network's own chance explains. faults: of images and labels, in words.
    """

    right: NDArray[np.bool_]
    differ: int
    undecided: int
    faults: tuple[str, ...]


@dataclass(frozen=True)
class _Chosen:
    """Places (n,) of the random images within a part, and their indices."""

    places: NDArray[np.int64]
    index: NDArray[np.int64]


@dataclass
class Redone:
    """What was looked at, each once. n: random images of each attack; seed: which."""

    bench: Bench
    n: int
    seed: int
    _verdicts: dict[str, Verdicts] = field(default_factory=dict)
    _anew: dict[str, NDArray[np.bool_] | None] = field(default_factory=dict)
    _images: dict[str, Tensor] = field(default_factory=dict)
    _faults: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def verdicts(self, key: str) -> Verdicts:
        """Predictions under `key` (of a predict node, or a join of them), stored and made afresh."""
        if key not in self._verdicts:
            parts = [self._verdict(value, chosen) for value, chosen in self._parts(key)]
            self._verdicts[key] = Verdicts(
                np.concatenate([each.right for each in parts]),
                sum(each.differ for each in parts),
                sum(each.undecided for each in parts),
                tuple(dict.fromkeys(fault for each in parts for fault in each.faults)),
            )
        return self._verdicts[key]

    def anew(self, key: str) -> NDArray[np.bool_] | None:
        """Whether the network is right (n,) on the same images, attacked anew; None for images that no attack made."""
        if key not in self._anew:
            found = []
            for value, chosen in self._parts(key):
                made = self.bench.store.value(value.record["inputs"]["images"])
                if made.record["kind"] == "craft":
                    found.append(self._again(_node(value), _node(made), chosen))
            self._anew[key] = np.concatenate(found) if found else None
        return self._anew[key]

    def _parts(self, key: str) -> list[tuple[Value, _Chosen]]:
        """The predict nodes behind a key, with the random images of each: the same ones wherever they are attacked."""
        value = self.bench.store.value(key)
        parts = [value]
        if value.record["kind"] == "join":
            inputs = value.record["inputs"]
            parts = [self.bench.store.value(inputs[f"part_{i}"]) for i in range(len(inputs))]
        for part in parts:
            if part.record["kind"] != "predict":
                raise StoreError(f"value {part.key[:12]}: of kind {part.record['kind']!r}; a prediction was expected")
        columns = [_columns(part) for part in parts]
        every = np.concatenate([each["index"] for each in columns])
        if len(every) and int(every.min()) < 0:
            raise StoreError(f"value {key[:12]}: a test index is below zero")
        # Every test image has a number of its own; the lowest are chosen of whatever images there are.
        draws = np.random.Generator(np.random.Philox(self.seed)).random(int(every.max(initial=0)) + 1)
        last = np.sort(draws[every])[: self.n].max(initial=0.0)
        places = [np.flatnonzero(draws[each["index"]] <= last) for each in columns]
        chosen = [_Chosen(at, each["index"][at]) for at, each in zip(places, columns, strict=True)]
        return [(part, some) for part, some in zip(parts, chosen, strict=True) if len(some.places)]

    def _verdict(self, value: Value, chosen: _Chosen) -> Verdicts:
        node, columns = _node(value), _columns(value)
        made = self.bench.store.value(node.inputs["images"])
        data = self.bench.arrays(_data(made))
        images, faults = self._stored(node, made, chosen), self._wrong(node, made, columns)
        if columns["index"].max(initial=0) >= len(_labels(node, made, data)):
            return Verdicts(np.zeros(len(chosen.places), dtype=bool), 0, 0, faults)
        network, stored = judge(node, self.bench), columns["prediction"][chosen.places]
        predictions, _ = predict(network, images, node.spec["batch"], _silent)
        others = np.flatnonzero(predictions.numpy() != stored)
        undecided = int(self._undecided(network, images[others], stored[others]).sum()) if len(others) else 0
        right = stored == _labels(node, made, data)[chosen.index]
        return Verdicts(right, len(others) - undecided, undecided, faults + self._budget(made, images, chosen))

    def _undecided(self, network: nn.Module, images: Tensor, stored: NDArray[np.int64]) -> NDArray[np.bool_]:
        with torch.no_grad(), exact_fp32(self.bench.device):
            first, second = (network(images.to(self.bench.device)).double().cpu() for _ in range(2))
        known = torch.from_numpy(np.clip(stored, 0, first.shape[1] - 1))
        lead = first.amax(1) - first.gather(1, known[:, None]).flatten()
        close = lead <= _UNDECIDED * (first.amax(1) - first.amin(1))
        close &= torch.from_numpy((stored >= 0) & (stored < first.shape[1]))
        undecided: NDArray[np.bool_] = (close | (first != second).any(1)).numpy()
        return undecided

    def _stored(self, node: Node, made: Value, chosen: _Chosen) -> Tensor:
        """The images that a prediction was made on."""
        if made.record["kind"] == "data":
            return images_at(node.spec, self.bench.arrays(made.key), chosen.index, self.bench.device)[:]
        found = self.bench.images(made)[torch.from_numpy(chosen.places)]
        return self._judged_within(node, _node(made), chosen, found)

    def _judged_within(self, node: Node, made: Node, chosen: _Chosen, images: Tensor) -> Tensor:
        if "within" not in node.spec:
            return images
        data = self.bench.arrays(made.inputs["data"])
        clean = images_at(made.spec, data, chosen.index, self.bench.device)[:]
        return within(images, clean, Threat(**node.spec["within"]))

    def _wrong(self, node: Node, made: Value, columns: dict[str, Any]) -> tuple[str, ...]:
        """Indices and labels of all images of a prediction against what the spec chooses from the data."""
        data, where = self.bench.arrays(_data(made)), f"value {node.key[:12]}"
        kind, spec = made.record["kind"], made.record["spec"]
        index, truth = columns["index"], _labels(node, made, data)
        if len(index) and int(index.max()) >= len(truth):
            return (f"{where}: index {int(index.max())} is beyond the {len(truth)} images of the data set",)
        faults = []
        if kind != "data" and not np.array_equal(_columns(made, ())["index"], index):
            faults.append(f"{where}: its images are not those of {made.key[:12]}")
        if kind == "challenge":
            if HandedIn(index, self.bench.images(made)).content != spec.get("content"):
                faults.append(f"value {made.key[:12]}: its images are not those that were handed in")
        else:
            asked, samples = (node.spec, node.spec["samples"]) if kind == "data" else (spec, spec["attack"]["samples"])
            rows, _, _ = attacked_images(asked, data, samples, self.bench.device)
            if not np.array_equal(rows, index):
                faults.append(f"{where}: its test images are not those that the spec chooses")
        wrong = int((columns["label"] != truth[index]).sum())
        if wrong:
            faults.append(f"{where}: {wrong} of {len(index)} labels are not those of the data set")
        return tuple(faults)

    def _budget(self, made: Value, images: Tensor, chosen: _Chosen) -> tuple[str, ...]:
        """Whether images, as judged, keep the budget of what made them."""
        record = made.record
        if record["kind"] == "data":
            return ()
        node = _node(made)
        threat = threat_of(attack_of(node)) if node.kind == "craft" else None
        if node.kind == "challenge":
            threat = Threat(node.spec["norm"], distance(node.spec["epsilon"]))
        clean = images_at(node.spec, self.bench.arrays(node.inputs["data"]), chosen.index, self.bench.device)[:]
        try:
            linf, l2 = check_images(images, clean, None)
        except AttackError as error:
            return (f"value {made.key[:12]}: {str(error).replace('the attack', 'its images')}",)
        if threat is None:
            return ()
        found = linf if threat.norm == "linf" else l2
        beyond = int((found > threat.epsilon + tolerance(threat, images)).sum())
        if not beyond:
            return ()
        return (f"value {made.key[:12]}: {beyond} of {len(images)} images are beyond its budget",)

    def _again(self, node: Node, made: Node, chosen: _Chosen) -> NDArray[np.bool_]:
        """Whether the network is right on images of the same attack, made again."""
        data = self.bench.arrays(made.inputs["data"])
        labels = torch.from_numpy(_labels(made, None, data)[chosen.index])
        if made.key not in self._images:
            clean = images_at(made.spec, data, chosen.index, self.bench.device)
            try:
                attack = attack_of(made)
            except ValueError as error:
                raise StoreError(f"value {made.key[:12]}: its spec is not that of an attack ({error})") from error
            target = target_of(made, self.bench)
            crafted = craft(target, clean, labels, chosen.index.tolist(), attack, seed_of(made), _silent)
            self._images[made.key] = crafted.images
        images = self._judged_within(node, made, chosen, self._images[made.key])
        predictions, _ = predict(judge(node, self.bench), images, node.spec["batch"], _silent)
        right: NDArray[np.bool_] = (predictions == labels).numpy()
        return right


def _node(value: Value) -> Node:
    record = value.record
    if not isinstance(record.get("spec"), Mapping) or not isinstance(record.get("inputs"), Mapping):
        raise StoreError(f"value {value.key[:12]}: its record has no spec, or no inputs")
    return Node(record["kind"], value.key, record["spec"], record["inputs"], str(record.get("title", "")), 0.0)


def _columns(value: Value, names: tuple[str, ...] = ("prediction",)) -> dict[str, Any]:
    found = unpack_samples(value.read(SAMPLES), str(value.directory / SAMPLES), names)
    if not all(name in found for name in names):
        raise StoreError(f"value {value.key[:12]}: its samples have no column {names[0]}")
    return {name: column.astype(np.int64) for name, column in found.items()}


def _data(made: Value) -> str:
    return made.key if made.record["kind"] == "data" else str(made.record["inputs"]["data"])


def _labels(node: Node, made: Value | None, data: Any) -> NDArray[np.int64]:
    """Labels of the part of the data that images are of: the test images, or held-out ones."""
    held_out = "held_out" in node.spec or (made is not None and "held_out" in made.record["spec"])
    found: NDArray[np.int64] = data.train_labels if held_out else data.test_labels
    return found
