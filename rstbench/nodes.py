"""What there is to compute: content-addressed nodes. Pure; no torch.

Kinds of nodes and their inputs::

    data      -                          fingerprint of a data set
    train     data                       weights of a dense network
    search    data                       one ticket
    model     data                       a model from elsewhere, loaded once and looked at
    craft     data, member_0 ...         adversarial images against one view of the members
    predict   images, target             predictions of one network on clean (data) or adversarial (craft) images;
                                         where far images do not count, data too, for the clean ones in their place

The key of a node is the SHA-256 of the canonical JSON of its kind, builder version, spec with all defaults written
out, and the keys of its inputs. Titles, profile and suite names, device and worker counts stay out, so suites share
every node that is the same work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rstbench.data.remembered import DataFacts
from rstbench.errors import SpecError
from rstbench.networks.cost import forward_macs
from rstbench.networks.spec import ModelSpec
from rstbench.spec.attacks import NOT_CRAFTED, CleanSpec, CraftedSpec
from rstbench.spec.base import digest
from rstbench.spec.budgets import judged_within, passes, written_out
from rstbench.spec.foreign import ForeignSpec
from rstbench.spec.models import DatasetSpec, DefenseSpec, DenseSpec, NetworkSpec, R2sSpec, TrainingSpec
from rstbench.spec.suite import SuiteSpec
from rstbench.spec.versions import BUILDER_VERSIONS

Facts = Mapping[DatasetSpec, DataFacts]
"""What is known of every data set that a plan needs."""

Models = Mapping[str, Mapping[str, Any]]
"""What models from elsewhere are, by `model_digest` of their spec: `foreign.identity.identify`."""

_CUT = {"validation_fraction", "validation_seed"}


@dataclass(frozen=True)
class Node:
    """One piece of work. `inputs`: role -> key.

    For estimates: `macs`, the multiply-accumulates it takes; `passes`, the same in forward passes of one image through
    one network; `precision`, in which most of them are done.
    """

    kind: str
    key: str
    spec: Mapping[str, Any]
    inputs: Mapping[str, str]
    title: str
    macs: float
    passes: float = 0.0
    precision: str = "fp32"


def node_key(kind: str, spec: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Key of a node: SHA-256 of kind, builder version, spec and input keys."""
    return digest({"kind": kind, "version": BUILDER_VERSIONS[kind], "spec": dict(spec), "inputs": dict(inputs)})


@dataclass(frozen=True)
class Member:
    """A network that predicts: the node that makes it, which of its checkpoints, and its forward cost."""

    key: str
    checkpoint: str
    label: str
    macs: float


@dataclass
class Nodes:
    """Nodes of one suite, added as cells ask for them; each method adds what is missing and returns keys."""

    run: SuiteSpec
    facts: Facts
    models: Models = field(default_factory=dict)
    by_key: dict[str, Node] = field(default_factory=dict)

    def _add(
        self,
        kind: str,
        spec: Mapping[str, Any],
        inputs: Mapping[str, str],
        title: str,
        passes: float = 0.0,
        macs_per_pass: float = 0.0,
        precision: str = "fp32",
    ) -> str:
        key = node_key(kind, spec, inputs)
        node = Node(kind, key, spec, inputs, title, passes * macs_per_pass, passes, precision)
        self.by_key.setdefault(key, node)
        return key

    def data(self, spec: DatasetSpec) -> str:
        """The data set; its cut into training and validation part belongs to what trains on it."""
        known = self.facts[spec]
        content = {"fingerprint": known.fingerprint, "load": spec.model_dump(mode="json", exclude=_CUT)}
        return self._add("data", content, {}, f"data {label_of(spec)}")

    def _model(self, network: NetworkSpec, data: DatasetSpec, bn_affine: bool, bias: bool) -> ModelSpec:
        known = self.facts[data]
        return ModelSpec(
            family=network.family,
            width=network.width,
            classes=known.classes,
            channels=known.channels,
            image_size=known.image_size,
            mean=known.mean,
            std=known.std,
            bn_affine=bn_affine,
            classifier_bias=bias,
        )

    def _fit(
        self, kind: str, model: ModelSpec, data: DatasetSpec, training: TrainingSpec, extra: dict[str, Any], title: str
    ) -> str:
        known = self.facts[data]
        training = training.model_copy(update={"inner": training.inner.with_step_size()})
        spec = {
            "model": model.model_dump(mode="json"),
            "training": training.model_dump(mode="json"),
            "cut": data.model_dump(mode="json", include=_CUT),
            **extra,
        }
        inner_steps = {"none": 0, "pgd": training.inner.steps}.get(training.inner.kind, 1)
        validated = known.train_samples * data.validation_fraction
        # An inner step is a forward pass and an input gradient; an update costs a forward pass and twice that.
        passes = known.train_samples * (1 - data.validation_fraction) * (2 * inner_steps + 3)
        passes += validated * (2 * training.validation.steps + 1) / training.validation.every
        passes *= training.epochs
        inputs = {"data": self.data(data)}
        return self._add(kind, spec, inputs, title, passes, forward_macs(model), training.engine.precision)

    def members(self, defense: DefenseSpec, data: DatasetSpec, network: NetworkSpec, seed: int) -> list[Member]:
        """The networks of a defense: one, or one for each candidate ratio."""
        if isinstance(defense, ForeignSpec):
            return [self._foreign(defense, data)]
        if network.family == "external":
            raise SpecError(
                f"suite {self.run.name}: a network of family external brings no architecture for a defense of kind "
                f"{defense.kind}; name one of ours, or attack a defense of kind model"
            )
        where = f"{label_of(network)} on {label_of(data)}, seed {seed}"
        if isinstance(defense, DenseSpec):
            model = self._model(network, data, defense.bn_affine, defense.classifier_bias)
            training = self.run.trainings[defense.training]
            inner = "natural" if training.inner.kind == "none" else "adversarial"
            extra = {"init": defense.init, "seed": seed}
            key = self._fit("train", model, data, training, extra, f"train dense ({inner}) {where}")
            return [Member(key, defense.checkpoint, "dense", forward_macs(model))]
        model = self._model(network, data, bn_affine=False, bias=False)
        members = []
        for ratio in defense.ratios if isinstance(defense, R2sSpec) else (defense.ratio,):
            extra = {"init": defense.init, "seed": seed, "remaining_ratio": ratio, "pattern": defense.pattern}
            title = f"search {100 * ratio:g} % {where}"
            key = self._fit("search", model, data, self.run.searches[defense.search], extra, title)
            members.append(Member(key, defense.checkpoint, ratio_text(ratio), forward_macs(model)))
        return members

    def _foreign(self, defense: ForeignSpec, data: DatasetSpec) -> Member:
        known = self.facts[data]
        spec = {
            "model": defense.model_dump(mode="json", exclude={"report_as"}),
            "identity": dict(self.models[model_digest(defense)]),
            "task": {
                "classes": known.classes,
                "channels": known.channels,
                "image_size": known.image_size,
                "mean": list(known.mean),
                "std": list(known.std),
            },
        }
        name = foreign_label(defense)
        key = self._add("model", spec, {"data": self.data(data)}, f"load {name} for {label_of(data)}")
        # What its architecture costs is not known before it is built.
        return Member(key, "model", name, 0.0)

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
        attack = written_out(attack, cifar, self.facts[data].image_size)
        spec: dict[str, Any] = {
            "attack": attack.model_dump(mode="json", exclude=NOT_CRAFTED),
            "checkpoint": sources[0].checkpoint,
            "seed": seed,
        }
        if probabilities is not None and len(set(probabilities)) > 1:  # written out or not, uniform is the same work
            spec["probabilities"] = list(probabilities)
        spec |= _part(data, held_out)
        inputs = {"data": self.data(data)} | {f"member_{i}": source.key for i, source in enumerate(sources)}
        asked = 1 if getattr(attack, "view", "member") == "switch" else len(sources)  # a switch draws one for an image
        work = self._attacked(attack, data, held_out) * passes(attack) * asked
        return self._add("craft", spec, inputs, title, work, sources[0].macs, attack.engine.precision)

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
        spec: dict[str, Any] = {
            "checkpoint": target.checkpoint,
            "batch": attack.batch,
            "threads": attack.engine.threads,
        }
        inputs = {"images": images, "target": target.key}
        if isinstance(attack, CleanSpec):
            spec |= {"samples": attack.samples} | _part(data, held_out)
        elif (within := judged_within(attack)) is not None:
            spec["within"] = {"norm": within[0], "epsilon": within[1]}
            inputs["data"] = self.data(data)
        return self._add("predict", spec, inputs, title, self._attacked(attack, data, held_out), target.macs)

    def _attacked(self, attack: CleanSpec | CraftedSpec, data: DatasetSpec, held_out: int | None) -> int:
        known = self.facts[data]
        if held_out is not None:
            return min(held_out, round(known.train_samples * data.validation_fraction))
        return min(attack.samples or known.test_samples, known.test_samples)


def _part(data: DatasetSpec, held_out: int | None) -> dict[str, Any]:
    if held_out is None:
        return {}
    return {"held_out": held_out, "cut": data.model_dump(mode="json", include=_CUT)}


def model_digest(defense: ForeignSpec) -> str:
    """What tells one model from elsewhere from another, whatever tables call it."""
    return digest(defense.model_dump(mode="json", exclude={"report_as"}))


def foreign_label(defense: ForeignSpec) -> str:
    """Name of a model from elsewhere, e.g. "torchvision:resnet50"."""
    return f"{defense.source}:{defense.name}"


def ratio_text(ratio: float) -> str:
    """A remaining ratio as the paper's tables write it: at least two decimals."""
    text = f"{ratio:.6f}".rstrip("0")
    whole, decimals = text.split(".")
    return f"{whole}.{decimals:0<2}"


def label_of(spec: DatasetSpec | NetworkSpec) -> str:
    """Name of what was really run: the data source, or the family with its width."""
    if isinstance(spec, DatasetSpec):
        return spec.name or spec.source
    return spec.family if spec.width == 1.0 else f"{spec.family}-w{spec.width:g}"
