"""Challenges that a store keeps: adversarial images that others handed in, and what networks say to them.

A challenge is a value of kind `challenge` (`build.challenge`), which stands where a craft node does: its images lie
within a norm and an epsilon of the test images of a data node. Networks judge them by predict nodes like any others.
The adversary of a switch hands in one image for all members; an image's score is the expected correctness over them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstbench.errors import StoreError
from rstbench.nodes import Node, node_key
from rstbench.report.predictions import Integers, Keys, read_columns, read_grid
from rstbench.report.scores import expected, tidied
from rstbench.spec.base import distance, linf_text
from rstbench.store import Store

HANDED_IN = "challenge.json"
"""The file that tells a challenge from other values (`build.challenge`)."""
BATCH, THREADS = 64, 1
"""How challenges are judged, whatever the entry's suite says: few images are the rule, and the last batch is padded."""

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Judge:
    """What judges images: one network, or the average of several.

    networks: (key, checkpoint) of each; average: what is averaged of several ("logits", "probabilities"), else "".
    """

    networks: tuple[tuple[str, str], ...]
    average: str = ""

    def asked(self, images: str) -> Node:
        """The predict node of its verdict on the challenge under the key `images`."""
        names = [checkpoint for _, checkpoint in self.networks]
        spec: dict[str, Any] = {
            "checkpoint": names if len(set(names)) > 1 else names[0],
            "batch": BATCH,
            "threads": THREADS,
        }
        targets = {"target": self.networks[0][0]}
        if self.average:
            spec["average"] = self.average
            targets = {f"target_{i}": key for i, (key, _) in enumerate(self.networks)}
        inputs = {"images": images, **targets}
        title = f"predict challenge {images[:12]}: {self.networks[0][0][:12]}"
        return Node("predict", node_key("predict", spec, inputs), spec, inputs, title, 0.0)


@dataclass(frozen=True)
class Challenge:
    """Images that were handed in, and what an entry's networks say to them.

    index: test indices (N,); predictions: keys of predict nodes, by seed and member; right: bool (N, M) of each seed.
    """

    key: str
    by: str
    handed_in: str
    index: Integers
    predictions: tuple[tuple[str, ...], ...]
    right: tuple[NDArray[np.bool_], ...]

    def scores(self, probabilities: Sequence[float]) -> list[Scores]:
        """Expected correctness (N,) of a draw among members, of each seed."""
        return [tidied(expected(each, probabilities)) for each in self.right]


def challenge_node(images: str, count: int, data: str, norm: str, epsilon: str | float) -> Node:
    """The node of a challenge. images: digest of its images and indices (`build.challenge.content_digest`); data: key.

    Whoever hands in the same images again hands in the same challenge: names and dates are no part of it.
    """
    within = linf_text(epsilon) if norm == "linf" else distance(epsilon)
    spec = {"content": images, "images": count, "norm": norm, "epsilon": within}
    inputs = {"data": data}
    title = f"challenge of {count} images, {norm} {within}"
    return Node("challenge", node_key("challenge", spec, inputs), spec, inputs, title, 0.0)


def judges_of(store: Store, predictions: Sequence[str]) -> tuple[Judge, ...]:
    """What the predict nodes under these keys asked, one for each; the first part of what was judged in parts.

    Raises `StoreError` if a value is not there, or is no prediction.
    """
    return tuple(_judge(_leaf(store, key)) for key in predictions)


def verdicts_on(store: Store, key: str, predictions: Sequence[Keys]) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """Keys of what an entry's networks say to the challenge under `key`, as of a row with one source.

    predictions: of any row of the entry, [seed][source][member]; the same is returned. Raises `StoreError`.
    """
    return tuple((tuple(judge.asked(key).key for judge in judges_of(store, seed[0])),) for seed in predictions)


def data_of(store: Store, prediction: str) -> str:
    """Key of the data node whose images, clean or attacked, a predict node judges. Raises `StoreError`."""
    record = store.value(_leaf(store, prediction)["inputs"]["images"]).record
    if record.get("kind") == "data":
        return str(record["key"])
    data = _mapping(record, "inputs").get("data")
    if not isinstance(data, str):
        raise StoreError(f"value {record['key'][:12]}: of kind {record.get('kind')!r}, and made from no data")
    return data


def _leaf(store: Store, key: str) -> Mapping[str, Any]:
    record = store.value(key).record
    if record.get("kind") == "join":
        record = store.value(str(_mapping(record, "inputs").get("part_0"))).record
    if record.get("kind") != "predict" or "images" not in _mapping(record, "inputs"):
        raise StoreError(f"value {key[:12]}: of kind {record.get('kind')!r}; a prediction was expected")
    return record


def _judge(record: Mapping[str, Any]) -> Judge:
    inputs, spec = _mapping(record, "inputs"), _mapping(record, "spec")
    keys = [inputs["target"]] if "target" in inputs else []
    keys = keys or [inputs[f"target_{i}"] for i in range(sum(role.startswith("target_") for role in inputs))]
    named = spec.get("checkpoint")
    names = [named] * len(keys) if isinstance(named, str) else named
    if not keys or not isinstance(names, list) or len(names) != len(keys):
        raise StoreError(f"value {record['key'][:12]}: its record does not say which networks predicted")
    average = "" if "target" in inputs else str(spec.get("average"))
    return Judge(tuple(zip(map(str, keys), map(str, names), strict=True)), average)


def _mapping(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = record.get(name)
    return found if isinstance(found, Mapping) else {}


@dataclass(frozen=True)
class Kept:
    """All challenges of a store; it is looked through once."""

    store: Store

    @cached_property
    def _records(self) -> list[Mapping[str, Any]]:
        records = [self.store.value(key).record for key in self.store.holding(HANDED_IN)]
        for record in records:
            if node_key("challenge", _mapping(record, "spec"), _mapping(record, "inputs")) != record["key"]:
                raise StoreError(f"value {record['key'][:12]}: its key is not that of the challenge in its record")
        return records

    def _fingerprint(self, data: str) -> str:
        found = _mapping(self.store.value(data).record, "spec").get("fingerprint")
        if not isinstance(found, str):
            raise StoreError(f"value {data[:12]} is no data set")
        return found

    def of(self, judges: Sequence[Sequence[Judge]], data: str, norm: str, epsilon: str | float) -> list[Challenge]:
        """`challenges_of` this store."""
        found = []
        for record in self._records:
            spec = _mapping(record, "spec")
            if spec.get("norm") != norm or distance(spec["epsilon"]) > distance(epsilon):
                continue
            if self._fingerprint(str(_mapping(record, "inputs").get("data"))) != self._fingerprint(data):
                continue
            challenge = read_challenge(self.store, str(record["key"]), judges)
            if challenge is not None:
                found.append(challenge)
        return sorted(found, key=lambda each: (each.handed_in, each.key))


def challenges_of(
    store: Store, judges: Sequence[Sequence[Judge]], data: str, norm: str, epsilon: str | float
) -> list[Challenge]:
    """The challenges that count against an entry, in the order in which they were handed in.

    Those on the same data whose images lie within `epsilon` (as suites write it) of the clean ones in `norm`, and that
    all of the entry's networks have judged. judges: by seed and member (`judges_of`). For many entries, ask one `Kept`.
    Raises `StoreError` if one is damaged.
    """
    return Kept(store).of(judges, data, norm, epsilon)


def read_challenge(store: Store, key: str, judges: Sequence[Sequence[Judge]]) -> Challenge | None:
    """The challenge under `key` as these judges see it; None if one of them has not judged it.

    Raises `StoreError` if it, or a verdict on it, is damaged.
    """
    predictions = tuple(tuple(judge.asked(key).key for judge in row) for row in judges)
    read = [read_grid([row], seed, store) for seed, row in enumerate(predictions)]
    if not all(read):
        return None
    columns = read_columns(store, key, ("index", "label"))
    right = []
    index = np.zeros(0, dtype=np.int64)
    for grid in read:
        ((first, *_),) = [row for row in grid or ()]
        index = first.index
        if columns is None or not np.array_equal(columns["index"], index):
            raise StoreError(f"challenge {key[:12]}: its images are not those of the predictions on them")
        right.append(np.stack([each.prediction == each.label for each in (grid or [[]])[0]], axis=-1))
    record = store.value(key).record
    by, handed_in = (str(record.get(name, "")) for name in ("by", "handed_in"))
    return Challenge(key, by, handed_in, index, predictions, tuple(right))


@dataclass(frozen=True)
class Lowered:
    """What challenges change of an entry. scores: (N,) of each seed; by: those that lowered one of them, in order.

    fell: how many images each of `by` lowered further than what stood before it, counted over all seeds.
    """

    scores: tuple[Scores, ...]
    by: tuple[Challenge, ...]
    fell: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names to credit, each once."""
        return tuple(dict.fromkeys(each.by for each in self.by))


def lowered(
    index: Sequence[Integers],
    scores: Sequence[Scores],
    challenges: Sequence[Challenge],
    probabilities: Sequence[float],
) -> Lowered:
    """The worst case of each image, with what was handed in: the lower of what stood and what the networks say to it.

    index: test indices (N,) of each seed; scores: what stands, (N,) of each seed. Images that are not among the entry's
    are left out. Every seed's networks judge all images: an image within the budget bounds each of them from above.
    """
    now = [each.copy() for each in scores]
    by, fell = [], []
    for challenge in challenges:
        count = 0
        for place, (rows, found) in enumerate(zip(index, challenge.scores(probabilities), strict=True)):
            _, at, of = np.intersect1d(rows, challenge.index, assume_unique=True, return_indices=True)
            count += int((found[of] < now[place][at]).sum())
            now[place][at] = np.minimum(now[place][at], found[of])
        if count:
            by.append(challenge)
            fell.append(count)
    return Lowered(tuple(now), tuple(by), tuple(fell))
