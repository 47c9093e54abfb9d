"""Suite -> plan: a graph of content-addressed nodes, and the cells that read their values. Pure; no torch.

Kinds of nodes and their inputs::

    data      -                          fingerprint of a data set
    train     data                       weights of a dense network
    search    data                       one ticket
    craft     data, member_0 ...         adversarial images against one view of the members
    predict   images, target             predictions of one network on clean (data) or adversarial (craft) images

The key of a node is the SHA-256 of the canonical JSON of its kind, builder version, spec with all defaults written
out, and the keys of its inputs. Titles, profile and suite names, device and worker counts stay out, so suites share
every node that is the same work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rstbench.data.remembered import DataFacts
from rstbench.errors import SpecError
from rstbench.networks.cost import forward_macs
from rstbench.networks.spec import ModelSpec
from rstbench.spec.base import digest, distance
from rstbench.spec.models import (
    AttackSpec,
    CleanSpec,
    DatasetSpec,
    DefenseSpec,
    DenseSpec,
    NetworkSpec,
    PgdSpec,
    R2sSpec,
    TicketDefenseSpec,
    TrainingSpec,
)
from rstbench.spec.suite import Cell, Suite, SuiteSpec
from rstbench.spec.versions import BUILDER_VERSIONS

Facts = Mapping[DatasetSpec, DataFacts]


@dataclass(frozen=True)
class Node:
    """One piece of work. `inputs`: role -> key. `macs`: multiply-accumulates it takes, as estimated."""

    kind: str
    key: str
    spec: Mapping[str, Any]
    inputs: Mapping[str, str]
    title: str
    macs: float


@dataclass(frozen=True)
class PlannedCell:
    """One row of the table and the predictions it is computed from.

    columns: the tidy table's columns up to `metric`, and `variant`, as the paper has them; run: the `run_*` columns.
    predictions[seed][source][member]: key of a predict node. sources and members: their labels (ratios or names).
    probabilities: of the members. headline: marked in tables.
    """

    columns: Mapping[str, str]
    run: Mapping[str, str]
    seeds: tuple[int, ...]
    predictions: tuple[tuple[tuple[str, ...], ...], ...]
    sources: tuple[str, ...]
    members: tuple[str, ...]
    probabilities: tuple[float, ...]
    attack_key: str
    headline: bool
    substitutes: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """All nodes in topological order, and the cells of one suite."""

    suite: Suite
    nodes: Mapping[str, Node]
    cells: tuple[PlannedCell, ...]


def merge_nodes(plans: Iterable[Plan]) -> dict[str, Node]:
    """The nodes of several plans, each once, still in topological order."""
    merged: dict[str, Node] = {}
    for plan in plans:
        merged |= plan.nodes
    return merged


def node_key(kind: str, spec: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Key of a node: SHA-256 of kind, builder version, spec and input keys."""
    return digest({"kind": kind, "version": BUILDER_VERSIONS[kind], "spec": dict(spec), "inputs": dict(inputs)})


def plan(suite: Suite, facts: Facts, only: Mapping[str, str] | None = None) -> Plan:
    """Plan a suite under its profile.

    facts: what is known of every data set of `suite.run`. only: table column -> value; other cells are left out.
    Raises `SpecError` if `only` leaves no cell.
    """
    return _Planner(suite, facts).plan(only or {})


@dataclass(frozen=True)
class _Member:
    """A network that predicts: the node that makes it, which of its checkpoints, and its forward cost."""

    key: str
    checkpoint: str
    label: str
    macs: float


@dataclass
class _Planner:
    suite: Suite
    facts: Facts
    nodes: dict[str, Node] = field(default_factory=dict)

    def plan(self, only: Mapping[str, str]) -> Plan:
        cells = []
        for cell in self.suite.run.table.cells:
            for network in self._axis(cell.network, self.suite.run.matrix.network):
                for dataset in self._axis(cell.dataset, self.suite.run.matrix.dataset):
                    columns = self._columns(cell, dataset, network)
                    if all(columns.get(column) == value for column, value in only.items()):
                        cells.append(self._cell(cell, columns, dataset, network))
        if not cells:
            wanted = ", ".join(f"{column}={value}" for column, value in only.items())
            raise SpecError(f"suite {self.suite.run.name}: no cell of the table has {wanted}")
        return Plan(self.suite, self.nodes, tuple(cells))

    @staticmethod
    def _axis(chosen: str | None, every: tuple[str, ...]) -> tuple[str, ...]:
        return (chosen,) if chosen is not None else every

    def _add(self, kind: str, spec: Mapping[str, Any], inputs: Mapping[str, str], title: str, macs: float) -> str:
        key = node_key(kind, spec, inputs)
        self.nodes.setdefault(key, Node(kind, key, spec, inputs, title, macs))
        return key

    # -- nodes ---------------------------------------------------------------------------------------------------

    def _data(self, spec: DatasetSpec) -> str:
        known = self.facts[spec]
        content = {"fingerprint": known.fingerprint, "load": spec.model_dump(mode="json", exclude=_CUT)}
        return self._add("data", content, {}, f"data {label_of(spec)}", 0.0)

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
        return self._add(kind, spec, {"data": self._data(data)}, title, training.epochs * passes * forward_macs(model))

    def _members(self, defense: DefenseSpec, data: DatasetSpec, network: NetworkSpec, seed: int) -> list[_Member]:
        run = self.suite.run
        where = f"{label_of(network)} on {label_of(data)}, seed {seed}"
        if isinstance(defense, DenseSpec):
            model = self._model(network, data, defense.bn_affine, defense.classifier_bias)
            training = run.trainings[defense.training]
            inner = "natural" if training.inner.kind == "none" else "adversarial"
            extra = {"init": defense.init, "seed": seed}
            key = self._fit("train", model, data, training, extra, f"train dense ({inner}) {where}")
            return [_Member(key, defense.checkpoint, "dense", forward_macs(model))]
        model = self._model(network, data, bn_affine=False, bias=False)
        members = []
        for ratio in defense.ratios if isinstance(defense, R2sSpec) else (defense.ratio,):
            extra = {"init": defense.init, "seed": seed, "remaining_ratio": ratio, "pattern": defense.pattern}
            title = f"search {100 * ratio:g} % {where}"
            key = self._fit("search", model, data, run.searches[defense.search], extra, title)
            members.append(_Member(key, defense.checkpoint, ratio_text(ratio), forward_macs(model)))
        return members

    def _craft(self, attack: PgdSpec, data: DatasetSpec, sources: list[_Member], seed: int, title: str) -> str:
        attack = attack.with_step_size(cifar=data.source in ("cifar10", "cifar100"))
        spec = {
            "attack": attack.model_dump(mode="json", exclude={"report_as", "variant", "headline"}),
            "checkpoint": sources[0].checkpoint,
            "seed": seed,
        }
        inputs = {"data": self._data(data)} | {f"member_{i}": source.key for i, source in enumerate(sources)}
        macs = self._attacked(attack, data) * attack.restarts * attack.steps * 2 * sum(s.macs for s in sources)
        return self._add("craft", spec, inputs, title, macs)

    def _predict(self, images: str, target: _Member, attack: AttackSpec, data: DatasetSpec, title: str) -> str:
        spec = {"checkpoint": target.checkpoint, "batch": attack.batch, "threads": attack.engine.threads}
        if isinstance(attack, CleanSpec):
            spec["samples"] = attack.samples
        macs = self._attacked(attack, data) * target.macs
        return self._add("predict", spec, {"images": images, "target": target.key}, title, macs)

    def _attacked(self, attack: AttackSpec, data: DatasetSpec) -> int:
        return min(attack.samples or self.facts[data].test_samples, self.facts[data].test_samples)

    # -- cells ---------------------------------------------------------------------------------------------------

    def _cell(self, cell: Cell, columns: dict[str, str], dataset: str, network: str) -> PlannedCell:
        run = self.suite.run
        attack, defense = run.attacks[cell.attack], run.defenses[cell.defense]
        data, architecture = run.datasets[dataset], run.networks[network]
        by_seed = []
        sources: tuple[str, ...] = ()
        members: list[_Member] = []
        for seed in run.seeds:
            members = self._members(defense, data, architecture, seed)
            title = f"{cell.attack} on {label_of(architecture)} on {label_of(data)}, seed {seed}"
            if isinstance(attack, CleanSpec):
                images, sources = [self._data(data)], ("clean",)
            elif attack.view == "member":
                images = [self._craft(attack, data, [m], seed, f"craft {title} from {m.label}") for m in members]
                sources = tuple(member.label for member in members)
            else:
                images, sources = [self._craft(attack, data, members, seed, f"craft {title}")], (attack.view,)
            by_seed.append(
                tuple(
                    tuple(
                        self._predict(key, member, attack, data, f"predict {title}: {source} to {member.label}")
                        for member in members
                    )
                    for key, source in zip(images, sources, strict=True)
                )
            )
        probabilities = defense.probabilities if isinstance(defense, R2sSpec) else None
        return PlannedCell(
            columns=columns,
            run={
                "run_dataset": label_of(data),
                "run_network": label_of(architecture),
                "run_eps": epsilon_text(attack),
            },
            seeds=run.seeds,
            predictions=tuple(by_seed),
            sources=sources,
            members=tuple(member.label for member in members),
            probabilities=probabilities or (1.0 / len(members),) * len(members),
            attack_key=cell.attack,
            headline=attack.headline,
            substitutes=tuple(self._substitutes(cell, dataset, network)),
        )

    def _columns(self, cell: Cell, dataset: str, network: str) -> dict[str, str]:
        # The paper's side of the row: what the suite says before the profile substitutes anything.
        paper = self.suite.paper
        attack, defense = paper.attacks[cell.attack], paper.defenses[cell.defense]
        clean = isinstance(attack, CleanSpec)
        return {
            "table": str(paper.table.paper or ""),
            "dataset": dataset,
            "network": network,
            "defense": defense.report_as or cell.defense,
            "ratio": ratio_text(defense.ratio) if isinstance(defense, TicketDefenseSpec) else "",
            "candidate_set": " ".join(map(ratio_text, defense.ratios)) if isinstance(defense, R2sSpec) else "",
            "attack": attack.report_as or ("none" if clean else cell.attack),
            "norm": "" if isinstance(attack, CleanSpec) else attack.norm,
            "eps": epsilon_text(attack),
            "attack_source": "",
            "metric": "natural_acc" if clean else "robust_acc",
            "variant": attack.variant,
        }

    def _substitutes(self, cell: Cell, dataset: str, network: str) -> Iterable[str]:
        """What the profile runs in place of the paper's setting, as flags."""
        pairs = [
            ("data", self._setting(dataset=dataset)),
            ("network", self._setting(network=network)),
            ("attack", self._setting(attack=cell.attack)),
            ("schedule", self._setting(schedule=cell.defense)),
            ("seeds", (self.suite.paper.seeds, self.suite.run.seeds)),
        ]
        for name, (paper, run) in pairs:
            if paper != run:
                yield f"substitute:{name}"

    def _setting(self, **named: str) -> tuple[Any, Any]:
        def of(suite: SuiteSpec) -> Any:
            ((axis, name),) = named.items()
            if axis == "dataset":
                return suite.datasets[name]
            if axis == "network":
                return suite.networks[name]
            if axis == "attack":
                return suite.attacks[name].model_dump(exclude={"batch", "engine"})
            defense = suite.defenses[name]
            return suite.trainings[defense.training] if isinstance(defense, DenseSpec) else suite.searches[defense.search]

        return of(self.suite.paper), of(self.suite.run)


_CUT = {"validation_fraction", "validation_seed"}


def ratio_text(ratio: float) -> str:
    """A remaining ratio as the paper's tables write it: at least two decimals."""
    text = f"{ratio:.6f}".rstrip("0")
    whole, decimals = text.split(".")
    return f"{whole}.{decimals:0<2}"


def epsilon_text(attack: AttackSpec) -> str:
    """Epsilon as the tables write it: in units of 1/255 for linf, of the pixel range for L2; empty if clean."""
    if isinstance(attack, CleanSpec):
        return ""
    return f"{distance(attack.epsilon) * (255 if attack.norm == 'linf' else 1):.6g}"


def label_of(spec: DatasetSpec | NetworkSpec) -> str:
    """Name of what was really run: the data source, or the family with its width."""
    if isinstance(spec, DatasetSpec):
        return spec.name or spec.source
    return spec.family if spec.width == 1.0 else f"{spec.family}-w{spec.width:g}"
