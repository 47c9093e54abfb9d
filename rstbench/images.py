"""Which images an attack of a suite stands for, and whose predictions on them are wanted. Pure; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rstbench.errors import SpecError
from rstbench.nodes import Member, Nodes
from rstbench.spec.attack_fields import Bounded
from rstbench.spec.attacks import AllMembersSpec, CleanSpec, CraftedSpec
from rstbench.spec.budgets import budget, judged_within, reported_budget
from rstbench.spec.derived import DerivedSpec, GameSpec, PointwiseSpec, chosen_from
from rstbench.spec.models import DatasetSpec
from rstbench.spec.suite import SuiteSpec


def attacks_behind(suite: SuiteSpec, attack: str) -> tuple[str, ...]:
    """The attack itself, and those it chooses from if it is a derived one: keys in `attacks`."""
    spec = suite.attacks[attack]
    return (attack, *chosen_from(spec)) if isinstance(spec, DerivedSpec) else (attack,)


@dataclass(frozen=True)
class Source:
    """Images made against one source (a craft node), or the clean ones (a data node), and what is to judge them.

    against: the networks that they are made against, none for clean images.
    """

    key: str
    label: str
    attack: CleanSpec | CraftedSpec
    title: str
    held_out: int | None
    against: tuple[Member, ...] = ()

    def judged(self, nodes: Nodes, members: Sequence[Member], data: DatasetSpec) -> tuple[str, ...]:
        """Keys of the predict nodes of all members on these images.

        Raises `SpecError` if images that were kept from smaller epsilons are to be judged by any network but the one
        that they fooled there.
        """
        if isinstance(self.attack, Bounded) and self.attack.smaller_epsilons:
            judges, attacked = ([(one.key, one.checkpoint) for one in each] for each in (members, self.against))
            if judges != attacked:
                raise SpecError(
                    f"suite {nodes.run.name}: {self.title.removeprefix('predict ')}: `smaller_epsilons` keeps images "
                    "that fool the attacked network, and here others judge them too; only one network that is "
                    "attacked and judged itself has a worst case over epsilons"
                )
        return tuple(
            nodes.predict(self.key, m, self.attack, data, f"{self.title} to {m.label}", self.held_out) for m in members
        )


@dataclass(frozen=True)
class Images:
    """The images that attacks make against one set of members under one seed. where: for titles."""

    nodes: Nodes
    data: DatasetSpec
    members: Sequence[Member]
    probabilities: tuple[float, ...] | None
    seed: int
    where: str

    def of(self, name: str, held_out: int | None = None) -> list[Source]:
        """One entry for each source of the attack `name`. held_out: on so many images of the validation part.

        An adversary that chooses for each image may also leave it as it is, so the clean images are among the sources
        of pointwise and game. Raises `SpecError` if the attacks to choose from differ in budget or in their images.
        """
        suite = self.nodes.run
        attack = suite.attacks[name]
        if not isinstance(attack, DerivedSpec):
            return self._crafted(name, attack, held_out)
        others: list[CraftedSpec] = []
        for other in chosen_from(attack):
            spec = suite.attacks[other]
            if isinstance(spec, CleanSpec | DerivedSpec):
                raise SpecError(
                    f"suite {suite.name}: attack {name!r} chooses from {other!r}, which makes no images of its own; "
                    "name attacks such as pgd or autoattack"
                )
            others.append(spec)
        for what, values in (
            ("budgets", {_budget_words(spec) for spec in others}),
            ("`samples`", {spec.samples for spec in others}),
        ):
            if len(values) > 1:
                shown = ", ".join(map(str, sorted(values, key=str)))
                raise SpecError(
                    f"suite {suite.name}: the attacks that {name!r} chooses from differ in their {what} ({shown}); "
                    "a worst case is taken over the same images under the same budget"
                )
        if not isinstance(attack, PointwiseSpec | GameSpec):
            return self.of(attack.of, held_out)
        clean = CleanSpec(samples=others[0].samples, batch=others[0].batch, engine=others[0].engine)
        found = self._crafted("clean", clean, held_out)
        for other in attack.over:
            found += [replace(made, label=f"{other}/{made.label}") for made in self.of(other, held_out)]
        return found

    def _crafted(self, name: str, attack: CleanSpec | CraftedSpec, held_out: int | None) -> list[Source]:
        nodes, data = self.nodes, self.data
        title = f"{name} {self.where}" + (", held-out images" if held_out is not None else "")
        if isinstance(attack, CleanSpec):
            return [Source(nodes.data(data), "clean", attack, f"predict {title}: clean", held_out)]
        attacked = self.members[0].parts or self.members
        if self.members[0].parts:
            self._check_ensemble(name, attack, self.members[0].average)
        if not isinstance(attack, AllMembersSpec) and attack.view == "member":
            sources = [([member], member.label, f"craft {title} from {member.label}") for member in attacked]
            probabilities = None
        else:
            label = attack.kind if isinstance(attack, AllMembersSpec) else attack.view
            sources = [(list(attacked), label, f"craft {title}")]
            probabilities = self.probabilities
        return [
            Source(
                nodes.craft(attack, data, members, self.seed, text, probabilities, held_out),
                label,
                attack,
                f"predict {title}: {label}",
                held_out,
                tuple(members),
            )
            for members, label, text in sources
        ]

    def _check_ensemble(self, name: str, attack: CraftedSpec, average: str) -> None:
        """A deterministic ensemble is one network: its adversary differentiates the average, and that average."""
        found = getattr(attack, "view", ""), getattr(attack, "average", average)
        if found != ("ensemble", average):
            raise SpecError(
                f"suite {self.nodes.run.name}: attack {name!r} on a deterministic ensemble has to differentiate its "
                f"own average; give it `view: ensemble` and `average: {average}`"
            )


def _budget_words(spec: CraftedSpec) -> str:
    if budget(spec) is None and judged_within(spec) is None:
        return f"{spec.norm} without bound"
    return " ".join(reported_budget(spec))
