"""Which networks stand behind a defense, and the nodes that make them. Pure; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rstbench.errors import SpecError
from rstbench.networks.cost import forward_macs
from rstbench.networks.spec import ModelSpec
from rstbench.nodes import CUT, Member, Nodes, foreign_label, label_of, model_digest
from rstbench.spec.base import ratio_text
from rstbench.spec.defenses import (
    DefenseSpec,
    DenseSpec,
    EnsembleSpec,
    LotterySpec,
    R2sSpec,
    SwitchSpec,
    TicketSpec,
    TicketsSpec,
    Tuning,
)
from rstbench.spec.effort import training_passes
from rstbench.spec.foreign import ForeignSpec
from rstbench.spec.labels import engine_label
from rstbench.spec.models import DatasetSpec, NetworkSpec
from rstbench.spec.training import TrainingSpec


@dataclass(frozen=True)
class Trained:
    """What a search or a fine-tuning starts from: a node that has weights, which checkpoint, and how it is called."""

    key: str
    checkpoint: str
    spec: DenseSpec
    transferred: bool


@dataclass(frozen=True)
class Members:
    """The members of any defense at one place of the matrix: its data, its architecture, one seed."""

    nodes: Nodes
    data: DatasetSpec
    network: NetworkSpec
    seed: int

    def of(self, defense: DefenseSpec, name: str = "") -> list[Member]:
        """The networks of a defense: one, or one for each that a switch draws from.

        name: the defense's key in the suite, which labels it as a member of a switch. A deterministic ensemble is one
        member with `parts`. Raises `SpecError` for a network of family `external` that nothing brings.
        """
        if isinstance(defense, ForeignSpec):  # asked for once, and not hashable
            return self._of(defense, name)
        known, asked = self.nodes.members, (self.data, self.network, self.seed, defense, name)
        if asked not in known:
            known[asked] = tuple(self._of(defense, name))
        return list(known[asked])

    def _of(self, defense: DefenseSpec, name: str) -> list[Member]:
        if isinstance(defense, ForeignSpec):
            return [self._foreign(defense)]
        if isinstance(defense, EnsembleSpec):
            parts = tuple(self.of(self.nodes.run.defenses[defense.of], defense.of))
            return [Member("", "", name or "ensemble", sum(p.macs for p in parts), parts, defense.average)]
        if isinstance(defense, SwitchSpec):
            found = [(each, self.of(self.nodes.run.defenses[each], each)[0]) for each in defense.members]
            return [member.called(each) for each, member in found]
        if self.network.family == "external":
            raise SpecError(
                f"suite {self.nodes.run.name}: a network of family external brings no architecture for a defense of "
                f"kind {defense.kind}; name one of ours, or attack a defense of kind model"
            )
        if isinstance(defense, DenseSpec):
            return [self._dense(defense)]
        if isinstance(defense, LotterySpec):
            return [self._lottery(defense)]
        if isinstance(defense, TicketsSpec):
            raise SpecError(f"suite {self.nodes.run.name}: a series of tickets is no single defense; name one ratio")
        ratios = defense.ratios if isinstance(defense, R2sSpec) else (defense.ratio,)
        return [self._ticket(defense, ratio) for ratio in ratios]

    def _where(self, seed: int) -> str:
        return f"{label_of(self.network)} on {label_of(self.data)}, seed {seed}"

    def _model(self, bn_affine: bool, bias: bool, last_bn_affine: bool = False) -> ModelSpec:
        known = self.nodes.facts[self.data]
        return ModelSpec(
            family=self.network.family,
            width=self.network.width,
            classes=known.classes,
            channels=known.channels,
            image_size=known.image_size,
            mean=known.mean,
            std=known.std,
            bn_affine=bn_affine,
            classifier_bias=bias,
            last_bn_affine=last_bn_affine,
        )

    def _fit(
        self,
        kind: str,
        model: ModelSpec,
        training: TrainingSpec,
        extra: Mapping[str, Any],
        title: str,
        inputs: Mapping[str, str] | None = None,
    ) -> str:
        known = self.nodes.facts[self.data]
        training = training.model_copy(update={"inner": training.inner.with_step_size()})
        spec = {
            "model": model.written(),
            "training": training.written(),
            "cut": self.data.model_dump(mode="json", include=CUT),
            **extra,
        }
        validated = known.train_samples * self.data.validation_fraction
        passes = training_passes(training, known.train_samples - validated, validated)
        every = {"data": self.nodes.data(self.data), **(inputs or {})}
        if engine := engine_label(training.engine):
            title += f", {engine}"
        work = (passes, forward_macs(model), training.engine.precision, known.train_samples)
        return self.nodes.add(kind, spec, every, title, *work)

    def _dense(self, defense: DenseSpec) -> Member:
        seed = self.seed + defense.seed_offset
        model = self._model(defense.bn_affine, defense.classifier_bias)
        training = self.nodes.run.trainings[defense.training]
        inner = "natural" if training.inner.kind == "none" else "adversarial"
        extra = {"init": defense.init, "seed": seed}
        key = self._fit("train", model, training, extra, f"train dense ({inner}) {self._where(seed)}")
        return Member(key, defense.checkpoint, "dense", forward_macs(model), kept=_kept(model))

    def _trained(self, name: str, dataset: str | None, seed: int) -> Trained:
        """The dense network that a ticket's weights come from.

        Raises `SpecError` if the defense is of another kind, or its images have another number of channels.
        """
        run = self.nodes.run
        dense = run.defenses[name]
        if not isinstance(dense, DenseSpec):
            raise SpecError(
                f"suite {run.name}: `weights: {name}` is of kind {dense.kind}; only a dense network has them"
            )
        data = self.data if dataset is None else run.datasets[dataset]
        there, here = (self.nodes.facts[each].channels for each in (data, self.data))
        if there != here:
            raise SpecError(
                f"suite {run.name}: weights trained on {dataset} ({there} channels) cannot be transferred to "
                f"{label_of(self.data)} ({here} channels)"
            )
        (member,) = Members(self.nodes, data, self.network, seed).of(dense, name)
        return Trained(member.key, member.checkpoint, dense, data != self.data)

    def _ticket(self, defense: TicketSpec | R2sSpec, ratio: float) -> Member:
        run = self.nodes.run
        search, seed = run.searches[defense.search], self.seed + defense.seed_offset
        extra: dict[str, Any] = {"seed": seed, "pattern": defense.pattern}
        if defense.search_offset:
            extra["search_seed"] = seed + defense.search_offset
        if not search.family:
            extra["remaining_ratio"] = ratio
        elif ratio not in search.family:
            raise SpecError(
                f"suite {run.name}: ratio {ratio:g} is not in the family of search {defense.search!r} "
                f"({', '.join(f'{r:g}' for r in search.family)})"
            )
        what = "a family" if search.family else f"{100 * ratio:g} %"
        where = self._where(seed)
        if defense.search_offset:
            where += f", search seed {seed + defense.search_offset}"
        if defense.weights is None:
            init = defense.init
            model = self._model(False, False, search.last_bn_affine)
            key = self._fit("search", model, search, {"init": init, **extra}, f"search {what} {where}")
        else:
            trained = self._trained(defense.weights, defense.weights_dataset, seed)
            init = trained.spec.init
            model = self._model(trained.spec.bn_affine, trained.spec.classifier_bias, search.last_bn_affine)
            classifier = "reinitialised" if trained.transferred else "kept"
            extra["weights"] = {"checkpoint": trained.checkpoint, "classifier": classifier, "init": init}
            where = f"of {defense.weights} {where}"
            if trained.transferred:
                where += f", trained on {defense.weights_dataset}"
            key = self._fit("rtt", model, search, extra, f"search {what} {where}", {"weights": trained.key})
        checkpoint: str = defense.checkpoint
        if search.family:
            checkpoint += f"-{ratio_text(ratio)}"
        kept = _kept(model, ratio, defense.pattern, search.layer_power)
        member = Member(key, checkpoint, ratio_text(ratio), forward_macs(model), kept=kept)
        return member if defense.tuning is None else self._tuned(defense.tuning, member, model, init, seed, where)

    def _tuned(self, tuning: Tuning, ticket: Member, model: ModelSpec, init: str, seed: int, where: str) -> Member:
        training = self.nodes.run.trainings[tuning.training]
        extra = {"seed": seed, "init": init, "start": tuning.start, "ticket": {"checkpoint": ticket.checkpoint}}
        title = f"tune {ticket.label} ({tuning.start}) {where}"
        key = self._fit("tune", model, training, extra, title, {"ticket": ticket.key})
        return Member(key, tuning.checkpoint, ticket.label, ticket.macs, kept=ticket.kept)

    def _lottery(self, defense: LotterySpec) -> Member:
        trained = self._trained(defense.weights, None, self.seed)
        seed = self.seed + trained.spec.seed_offset
        model = self._model(trained.spec.bn_affine, trained.spec.classifier_bias)
        extra = {
            "init": trained.spec.init,
            "seed": seed,
            "remaining_ratio": defense.ratio,
            "weights": {"checkpoint": trained.checkpoint},
        }
        title = f"lottery ticket {100 * defense.ratio:g} % of {defense.weights} {self._where(seed)}"
        training = self.nodes.run.trainings[defense.training]
        key = self._fit("lottery", model, training, extra, title, {"weights": trained.key})
        return Member(
            key, defense.checkpoint, ratio_text(defense.ratio), forward_macs(model), kept=_kept(model, defense.ratio)
        )

    def _foreign(self, defense: ForeignSpec) -> Member:
        known = self.nodes.facts[self.data]
        spec = {
            "model": defense.model_dump(mode="json", exclude={"report_as"}),
            "identity": dict(self.nodes.models[model_digest(defense)]),
            "task": {
                "classes": known.classes,
                "channels": known.channels,
                "image_size": known.image_size,
                "mean": list(known.mean),
                "std": list(known.std),
            },
        }
        name = foreign_label(defense)
        key = self.nodes.add(
            "model", spec, {"data": self.nodes.data(self.data)}, f"load {name} for {label_of(self.data)}"
        )
        # What its architecture costs is not known before it is built.
        return Member(key, "model", name, 0.0)


def _kept(model: ModelSpec, ratio: float = 1.0, pattern: str = "element", power: float = 1.0) -> dict[str, Any]:
    return {"model": model.written(), "remaining_ratio": ratio, "pattern": pattern, "layer_power": power}
