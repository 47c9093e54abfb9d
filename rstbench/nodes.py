"""What there is to compute: content-addressed nodes. Pure; no torch.

Kinds of nodes and their inputs::

    data      -                          fingerprint of a data set
    train     data                       weights of a dense network
    search    data                       one ticket of random weights (RST), or a family of them
    rtt       data, weights              one ticket of trained weights, maybe trained on other data
    tune      data, ticket               the weights that a ticket keeps, trained under its frozen mask
    lottery   data, weights              a lottery ticket: pruned by magnitude, rewound, trained under the mask
    model     data                       a model from elsewhere, loaded once and looked at
    craft     data, member_0 ...         adversarial images against one view of the members;
              and smaller                where what fooled the network within a smaller epsilon is kept: the craft node
                                         of the same attack there
    predict   images, target             predictions of one network on clean (data) or adversarial (craft) images;
              or target_0 ...            of the average of several; where far images do not count, data too, for the
                                         clean ones in their place
    challenge data                       adversarial images that somebody handed in; stands where a craft node does
    join      part_0 ...                 what craft or predict nodes say of consecutive parts of the images
    measure   data, member_0 ...         what is measured of networks beside their accuracy

The key of a node is the SHA-256 of the canonical JSON of its kind, builder version, spec with all defaults written
out, and the keys of its inputs. Titles, profile and suite names, device and worker counts stay out, so suites share
every node that is the same work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rstbench.data.remembered import DataFacts
from rstbench.spec.attacks import NOT_CRAFTED, CleanSpec, CraftedSpec
from rstbench.spec.base import digest
from rstbench.spec.base import ratio_text as ratio_text
from rstbench.spec.budgets import judged_within, passes, reported_budget, written_out
from rstbench.spec.labels import foreign_label as foreign_label
from rstbench.spec.labels import label_of as label_of
from rstbench.spec.labels import model_digest as model_digest
from rstbench.spec.measures import NOT_MEASURED, FeatureDistanceSpec, MeasureSpec, ParametersSpec
from rstbench.spec.models import DatasetSpec
from rstbench.spec.reuse import smaller
from rstbench.spec.suite import SuiteSpec
from rstbench.spec.versions import BUILDER_VERSIONS

Facts = Mapping[DatasetSpec, DataFacts]
"""What is known of every data set that a plan needs."""

Models = Mapping[str, Mapping[str, Any]]
"""What models from elsewhere are, by `model_digest` of their spec: `foreign.identity.identify`."""

CUT = {"validation_fraction", "validation_seed"}
"""Fields of a data set's spec that concern only what trains on it."""

NETWORKS = ("train", "search", "rtt", "tune", "lottery")
"""Kinds of nodes that train or search networks."""

_FIRST = ", first at epsilon "
"""In titles of attacks whose images serve at a larger epsilon."""

PART_BYTES = 2**30
"""Images of a craft or predict node, as float32: where they would take more, they are attacked and judged in parts.

Packing and unpacking takes up to twice as much beside them, so a node takes about 3 GB beside its network.
"""


@dataclass(frozen=True)
class Node:
    """One piece of work. `inputs`: role -> key.

    For estimates: `macs`, the multiply-accumulates it takes; `passes`, the same in forward passes of one image through
    one network; `precision`, in which most of them are done; `images`, how many it trains on (those for validation
    among them), attacks, judges or measures.
    """

    kind: str
    key: str
    spec: Mapping[str, Any]
    inputs: Mapping[str, str]
    title: str
    macs: float
    passes: float = 0.0
    precision: str = "fp32"
    images: float = 0.0


def node_key(kind: str, spec: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Key of a node: SHA-256 of kind, builder version, spec and input keys."""
    return digest({"kind": kind, "version": BUILDER_VERSIONS[kind], "spec": dict(spec), "inputs": dict(inputs)})


@dataclass(frozen=True)
class Member:
    """A network that predicts: the node that makes it, which of its checkpoints, and its forward cost.

    parts, average: of a deterministic ensemble, which no node makes: its networks, and what of them is averaged.
    kept: what its number of parameters follows from (`tickets.count`); empty for a model from elsewhere.
    """

    key: str
    checkpoint: str
    label: str
    macs: float
    parts: tuple[Member, ...] = ()
    average: str = ""
    kept: Mapping[str, Any] = field(default_factory=dict)

    def called(self, label: str) -> Member:
        """The same network under another label."""
        return replace(self, label=label)


@dataclass
class Nodes:
    """Nodes of one suite, added as cells ask for them; each method adds what is missing and returns keys."""

    run: SuiteSpec
    facts: Facts
    models: Models = field(default_factory=dict)
    by_key: dict[str, Node] = field(default_factory=dict)
    members: dict[tuple[Any, ...], tuple[Member, ...]] = field(default_factory=dict)
    """Networks behind defenses that were asked for before (`members.Members`): most cells ask for the same ones."""
    _joins: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add(
        self,
        kind: str,
        spec: Mapping[str, Any],
        inputs: Mapping[str, str],
        title: str,
        passes: float = 0.0,
        macs_per_pass: float = 0.0,
        precision: str = "fp32",
        images: float = 0.0,
    ) -> str:
        """Add a node if there is none of its key yet; returns the key. passes: of one image through one network."""
        key = node_key(kind, spec, inputs)
        node = Node(kind, key, spec, inputs, title, passes * macs_per_pass, passes, precision, images)
        self.by_key.setdefault(key, node)
        return key

    def data(self, spec: DatasetSpec) -> str:
        """The data set; its cut into training and validation part belongs to what trains on it."""
        known = self.facts[spec]
        content = {
            "fingerprint": known.fingerprint,
            "load": {name: value for name, value in spec.written().items() if name not in CUT},
        }
        return self.add("data", content, {}, f"data {label_of(spec)}")

    def craft(
        self,
        attack: CraftedSpec,
        data: DatasetSpec,
        sources: Sequence[Member],
        seed: int,
        title: str,
        probabilities: tuple[float, ...] | None = None,
        held_out: int | None = None,
    ) -> str:
        """Adversarial images against the attack's view of the sources, drawn with `probabilities` (None: uniformly).

        held_out: attack so many images of the validation part, in place of test images.
        """
        cifar = data.source in ("cifar10", "cifar100")
        ours = all(bool(source.kept) for source in sources)
        attack = written_out(attack, cifar, self.facts[data].image_size, ours)
        spec: dict[str, Any] = {
            "attack": attack.model_dump(mode="json", exclude=NOT_CRAFTED),
            "checkpoint": _checkpoint(sources),
            "seed": seed,
        }
        if probabilities is not None and len(set(probabilities)) > 1:  # written out or not, uniform is the same work
            spec["probabilities"] = list(probabilities)
        spec |= _held_out(data, held_out)
        inputs = {"data": self.data(data)} | {f"member_{i}": source.key for i, source in enumerate(sources)}
        asked = 1 if getattr(attack, "view", "member") == "switch" else len(sources)  # a switch draws one for an image
        work = self._attacked(attack, data, held_out) * passes(attack) * asked
        count = self._parts_of(attack, data, held_out)
        first: list[dict[str, str]] = [{}] * count
        if (before := smaller(attack)) is not None:
            words = title.partition(_FIRST)[0] + _FIRST + reported_budget(before)[1]
            key = self.craft(before, data, sources, seed, words, probabilities, held_out)
            first = [{"smaller": each} for each in self._joins.get(key, (key,))]
        parts = [
            self.add(
                "craft",
                spec | part,
                inputs | at,
                title + words,
                work / count,
                sources[0].macs,
                attack.engine.precision,
                self._attacked(attack, data, held_out) / count,
            )
            for (part, words), at in zip(_parts(count), first, strict=True)
        ]
        return self._joined(parts, title)

    def predict(
        self,
        images: str,
        target: Member,
        attack: CleanSpec | CraftedSpec,
        data: DatasetSpec,
        title: str,
        held_out: int | None = None,
    ) -> str:
        """Predictions of the target on the images of a data node (test images, or held-out ones) or a craft node."""
        networks = target.parts or (target,)
        spec: dict[str, Any] = {
            "checkpoint": _checkpoint(networks),
            "batch": attack.batch,
            "threads": attack.engine.threads,
        }
        targets = {"target": target.key}
        if target.parts:
            spec["average"] = target.average
            targets = {f"target_{i}": part.key for i, part in enumerate(target.parts)}
        work = float(self._attacked(attack, data, held_out))
        if isinstance(attack, CleanSpec):
            spec |= {"samples": attack.samples} | _held_out(data, held_out)
            places = [(images, part, words) for part, words in _parts(self._parts_of(attack, data, held_out))]
        else:
            if (within := judged_within(attack)) is not None:
                spec["within"] = {"norm": within[0], "epsilon": within[1]}
                targets["data"] = self.data(data)
            crafted = self._joins.get(images, (images,))
            # A part's images name their part already.
            places = [(key, {}, words) for key, (_, words) in zip(crafted, _parts(len(crafted)), strict=True)]
        parts = [
            self.add(
                "predict",
                spec | part,
                {"images": key, **targets},
                title + words,
                work / len(places),
                target.macs,
                images=work / len(places),
            )
            for key, part, words in places
        ]
        return self._joined(parts, title)

    def measure(self, measure: MeasureSpec, members: Sequence[Member], data: DatasetSpec, seed: int, title: str) -> str:
        """What the measure says of the members, one network or those that a defense switches between."""
        what = measure.model_dump(mode="json", exclude=NOT_MEASURED)
        # Follows from the architecture, so nothing is trained for it; that of a model from elsewhere is not known here.
        if isinstance(measure, ParametersSpec) and all(one.kept for one in members):
            return self.add("measure", {"measure": what, "members": [dict(one.kept) for one in members]}, {}, title)
        spec: dict[str, Any] = {"measure": what, "members": [{"checkpoint": one.checkpoint} for one in members]}
        inputs = {f"member_{i}": one.key for i, one in enumerate(members)}
        if not isinstance(measure, FeatureDistanceSpec):
            return self.add("measure", spec, inputs, title)
        known = self.facts[data]
        images = min(measure.samples or known.test_samples, known.test_samples)
        inputs["data"] = self.data(data)
        work = 2.0 * images * len(members)
        return self.add("measure", spec | {"seed": seed}, inputs, title, work, members[0].macs, images=images)

    def _attacked(self, attack: CleanSpec | CraftedSpec, data: DatasetSpec, held_out: int | None) -> int:
        known = self.facts[data]
        if held_out is not None:
            # As many as `data.cuts.split` cuts off: of the smallest training set still one.
            return min(held_out, max(1, round(known.train_samples * data.validation_fraction)))
        return min(attack.samples or known.test_samples, known.test_samples)

    def _parts_of(self, attack: CleanSpec | CraftedSpec, data: DatasetSpec, held_out: int | None) -> int:
        known = self.facts[data]
        size = 4 * known.channels * known.image_size**2
        return math.ceil(self._attacked(attack, data, held_out) * size / PART_BYTES)

    def _joined(self, parts: Sequence[str], title: str) -> str:
        if len(parts) == 1:
            return parts[0]
        key = self.add("join", {}, {f"part_{i}": part for i, part in enumerate(parts)}, title)
        self._joins[key] = tuple(parts)
        return key


def _checkpoint(members: Sequence[Member]) -> str | list[str]:
    names = [member.checkpoint for member in members]
    return names if len(set(names)) > 1 else names[0]


def _parts(count: int) -> list[tuple[dict[str, Any], str]]:
    if count == 1:
        return [({}, "")]
    return [({"part": {"index": i, "of": count}}, f", part {i + 1} of {count}") for i in range(count)]


def _held_out(data: DatasetSpec, held_out: int | None) -> dict[str, Any]:
    if held_out is None:
        return {}
    return {"held_out": held_out, "cut": data.model_dump(mode="json", include=CUT)}
