"""The places of a suite's table: each cell with its data set, its network and its ratio, and what its row is called.

The paper's side of a row comes from the suite before the profile substitutes anything; what the profile substitutes
becomes flags. Pure; no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rstbench.errors import SpecError
from rstbench.images import attacks_behind
from rstbench.nodes import foreign_label, label_of
from rstbench.spec.attacks import CleanSpec
from rstbench.spec.base import ratio_text
from rstbench.spec.behind import datasets_behind, defenses_behind, schedules_behind
from rstbench.spec.budgets import epsilon_text, reported_budget
from rstbench.spec.defenses import DefenseSpec, LotterySpec, R2sSpec, TicketSpec, TicketsSpec
from rstbench.spec.derived import DerivedSpec, chosen_from
from rstbench.spec.foreign import ForeignSpec
from rstbench.spec.measures import METRICS, NOT_MEASURED, BytesSpec, MeasureSpec, ParametersSpec
from rstbench.spec.suite import Cell, Suite, SuiteSpec


@dataclass(frozen=True)
class Place:
    """A cell with its data set, its network, and the remaining ratio where its defense is a series of tickets."""

    cell: Cell
    dataset: str
    network: str
    ratio: float | None = None

    def defense(self, suite: SuiteSpec, name: str | None = None) -> DefenseSpec:
        """The cell's own defense, or the one called `name`; of a series, the ticket of this place's ratio."""
        found = suite.defenses[name or self.cell.defense]
        return found.at(self.ratio) if isinstance(found, TicketsSpec) and self.ratio is not None else found


def places(suite: Suite) -> Iterator[Place]:
    """Every cell at every place of the matrix, and for every ratio of a series."""
    run = suite.run
    for cell in run.table.cells:
        for network in (cell.network,) if cell.network is not None else run.matrix.network:
            for dataset in (cell.dataset,) if cell.dataset is not None else run.matrix.dataset:
                named = [("defenses", cell.defense), ("defenses", cell.source or cell.defense)]
                named += [("attacks", cell.attack)] if cell.attack else [("measures", cell.measure or "")]
                named += [("datasets", dataset), ("networks", network)]
                for room, name in named:
                    if name not in getattr(suite.paper, room):
                        raise SpecError(
                            f"suite {run.name}: profile {suite.profile} runs {name!r}, which only its overlay defines; "
                            f"define it in the suite's own `{room}` too, so that the row says what it stands for"
                        )
                _check_transfers(suite, cell, dataset)
                for ratio in _ratios(suite, cell):
                    yield Place(cell, dataset, network, ratio)


def _check_transfers(suite: Suite, cell: Cell, dataset: str) -> None:
    """Where an overlay brings two data sets to one, a transferred ticket would in silence become one of its own."""
    names = (cell.defense, cell.source or cell.defense)
    for other in {each: None for name in names for each in datasets_behind(suite.run, name)}:
        apart = [spec.datasets.get(other) != spec.datasets[dataset] for spec in (suite.paper, suite.run)]
        if apart == [True, False]:
            raise SpecError(
                f"suite {suite.run.name}: profile {suite.profile} runs {dataset!r} and {other!r} on the same data, so "
                f"that the weights of {cell.defense!r} would not be transferred; give one of them a `validation_seed`"
            )


def _ratios(suite: Suite, cell: Cell) -> tuple[float | None, ...]:
    """Ratios of the series that the cell names, as the profile runs it; those of the suite itself or fewer."""
    series = suite.run.defenses[cell.defense]
    source = suite.run.defenses[cell.source or cell.defense]
    declared = suite.paper.defenses[cell.defense]
    if isinstance(series, TicketsSpec) != isinstance(declared, TicketsSpec):
        raise SpecError(
            f"suite {suite.run.name}: profile {suite.profile} runs {cell.defense!r}, of kind {declared.kind}, as "
            f"{series.kind}; a series of tickets has a row for each ratio, so it has to be one under every profile"
        )
    if not isinstance(series, TicketsSpec):
        if isinstance(source, TicketsSpec):
            raise SpecError(
                f"suite {suite.run.name}: the source {cell.source!r} is a series of tickets, and {cell.defense!r} is "
                "none; name a single ticket as the source"
            )
        return (None,)
    for name, other in ((cell.defense, declared), (cell.source, source)):
        strangers = [f"{r:g}" for r in series.ratios if isinstance(other, TicketsSpec) and r not in other.ratios]
        if strangers:
            raise SpecError(
                f"suite {suite.run.name}: profile {suite.profile} runs the series {cell.defense!r} at "
                f"{', '.join(strangers)}, which {name!r} does not have"
            )
    return series.ratios


def paper_columns(paper: SuiteSpec, place: Place) -> dict[str, str]:
    """The paper's side of the row: what the suite says before the profile substitutes anything."""
    cell, defense = place.cell, place.defense(paper)
    columns = {
        "table": str(paper.table.paper or ""),
        "dataset": place.dataset,
        "network": place.network,
        "defense": defense.report_as or cell.defense,
        "ratio": ratio_text(defense.ratio) if isinstance(defense, TicketSpec | LotterySpec) else "",
        "candidate_set": " ".join(map(ratio_text, defense.ratios)) if isinstance(defense, R2sSpec) else "",
    }
    if cell.attack is None:
        measure = paper.measures[cell.measure or ""]
        norm, epsilon = of_epsilon(measure.of_epsilon)
        metric = measure.report_as or METRICS[measure.kind]
        columns["dataset"] = " ".join(tasks_of(measure, place.dataset))
        return {**columns, "attack": "", "norm": norm, "eps": epsilon, "attack_source": "", "metric": metric} | {
            "variant": measure.variant
        }
    attack = paper.attacks[cell.attack]
    clean = isinstance(attack, CleanSpec)
    norm, epsilon = budget_text(paper, cell.attack)
    return {
        **columns,
        "attack": attack.report_as or ("none" if clean else cell.attack),
        "norm": norm,
        "eps": epsilon,
        "attack_source": _source_text(paper, cell),
        "metric": "natural_acc" if clean else "robust_acc",
        "variant": attack.variant,
    }


def tasks_of(measure: MeasureSpec, dataset: str) -> tuple[str, ...]:
    """Keys of the data sets whose defenses a measure takes together: the cell's own, if it names no others."""
    return (measure.over if isinstance(measure, BytesSpec) else ()) or (dataset,)


def budget_text(suite: SuiteSpec, attack: str) -> tuple[str, str]:
    """(norm, epsilon) of an attack of the suite, as tables write them: those that a derived attack chooses from."""
    spec = suite.attacks[attack]
    if isinstance(spec, CleanSpec):
        return of_epsilon(spec.of_epsilon)
    if isinstance(spec, DerivedSpec):
        return budget_text(suite, chosen_from(spec)[0])
    return reported_budget(spec)


def of_epsilon(epsilon: str | None) -> tuple[str, str]:
    """(norm, epsilon) of a row whose defense was trained for `epsilon`, and that nothing attacks."""
    return ("", "") if epsilon is None else ("linf", epsilon_text(epsilon))


def _source_text(paper: SuiteSpec, cell: Cell) -> str:
    if cell.source is None:
        return "same_ratio_other_seed" if cell.source_seed == "other" else ""
    name = paper.defenses[cell.source].report_as or cell.source
    return f"{name}_other_seed" if cell.source_seed == "other" else name


def run_columns(suite: Suite, place: Place, epsilon: str) -> dict[str, str]:
    """The `run_*` columns: what the profile really runs. epsilon: as `budget_text` has it of the profile's side."""
    defense, network = place.defense(suite.run), suite.run.networks[place.network]
    measure = suite.run.measures[place.cell.measure] if place.cell.measure is not None else None
    tasks = (place.dataset,) if measure is None else tasks_of(measure, place.dataset)
    return {
        "run_dataset": " ".join(label_of(suite.run.datasets[task]) for task in tasks),
        "run_network": foreign_label(defense) if isinstance(defense, ForeignSpec) else label_of(network),
        "run_eps": epsilon,
    }


def substitutes(suite: Suite, place: Place) -> Iterator[str]:
    """What the profile runs in place of the paper's setting, as flags."""
    cell = place.cell
    named = dict.fromkeys([cell.defense, cell.source or cell.defense])
    defenses = list(dict.fromkeys(one for name in named for one in defenses_behind(suite.paper, name)))
    others = [other for name in defenses for other in datasets_behind(suite.paper, name)]
    tasks = (place.dataset,) if cell.measure is None else tasks_of(suite.paper.measures[cell.measure], place.dataset)
    untrained = cell.measure is not None and isinstance(suite.paper.measures[cell.measure], ParametersSpec)
    settings: dict[str, Callable[[SuiteSpec], Any]] = {
        "data": lambda spec: [spec.datasets[name] for name in (*tasks, *others)],
        "network": lambda spec: spec.networks[place.network],
        "attack": lambda spec: _asked(suite.paper, spec, cell),
        "defense": lambda spec: [place.defense(spec, one).model_dump(exclude=_NOT_OF_THE_DEFENSE) for one in defenses],
        "schedule": lambda spec: [schedules_behind(spec, name) for name in (() if untrained else named)],
        "seeds": lambda spec: spec.seeds,
    }
    for name, setting in settings.items():
        if setting(suite.paper) != setting(suite.run):
            yield f"substitute:{name}"


def _asked(paper: SuiteSpec, spec: SuiteSpec, cell: Cell) -> list[dict[str, Any]]:
    """What is asked of the defense: its measure, or the attack and those that it chooses from."""
    if cell.attack is None:
        return [spec.measures[cell.measure or ""].model_dump(exclude=NOT_MEASURED | {"batch"})]
    return [spec.attacks[name].model_dump(exclude=_NOT_OF_THE_ATTACK) for name in attacks_behind(paper, cell.attack)]


_NOT_OF_THE_ATTACK = {"batch", "engine", "report_as", "variant", "headline", "of_epsilon"}
# The schedule behind the name is what counts.
_NOT_OF_THE_DEFENSE: dict[str, Any] = {"report_as": True, "training": True, "search": True, "tuning": {"training"}}
