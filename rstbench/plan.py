"""Suite -> plan: the table's cells, and the graph of nodes whose values they are read from. Pure; no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rstbench.errors import SpecError
from rstbench.images import Images, attacks_behind
from rstbench.nodes import Facts, Member, Models, Node, Nodes, foreign_label, label_of, model_digest, ratio_text
from rstbench.spec.attacks import CleanSpec
from rstbench.spec.budgets import reported_budget
from rstbench.spec.derived import AnyOfSpec, DerivedSpec, GameSpec, chosen_from
from rstbench.spec.foreign import ForeignSpec
from rstbench.spec.models import DenseSpec, R2sSpec, TicketDefenseSpec, TrainingSpec
from rstbench.spec.suite import Cell, Suite, SuiteSpec

__all__ = [
    "Facts",
    "Node",
    "Plan",
    "PlannedCell",
    "budget_text",
    "label_of",
    "merge_nodes",
    "model_digest",
    "plan",
    "ratio_text",
]


@dataclass(frozen=True)
class PlannedCell:
    """One row of the table and the predictions it is computed from.

    columns: the tidy table's columns up to `metric`, and `variant`, as the paper has them; run: the `run_*` columns.
    predictions[seed][source][member]: key of a predict node. sources and members: their labels (ratios or names).
    probabilities: of the members. headline: marked in tables. attack_kind: `kind` of the attack's spec.

    score: how an image's score follows from its predictions (`report.scores`): "mean" over sources and members, or the
    kind of a derived attack, whose sources are those of all attacks that it chooses from, and the clean images.
    tries: of any_of. held_out: as predictions, on the images that a game's mixture is fitted on.
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
    score: str = "mean"
    tries: int = 1
    held_out: tuple[tuple[tuple[str, ...], ...], ...] = ()
    attack_kind: str = ""


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


def plan(suite: Suite, facts: Facts, only: Mapping[str, str] | None = None, models: Models | None = None) -> Plan:
    """Plan a suite under its profile.

    facts: what is known of every data set of `suite.run`. only: table column -> value; other cells are left out.
    models: what is known of every defense of kind `model`.
    Raises `SpecError` if `only` leaves no cell, if two cells are one row of the table, or if the profile measures
    something that the suite itself does not name.
    """
    wanted = only or {}
    nodes = Nodes(suite.run, facts, models or {})
    cells: dict[tuple[str, ...], PlannedCell] = {}
    for cell, dataset, network in _places(suite):
        columns = _columns(suite.paper, cell, dataset, network)
        if any(columns.get(column) != value for column, value in wanted.items()):
            continue
        row = tuple(columns.values())
        if row in cells:
            words = ", ".join(value for value in row if value)
            raise SpecError(
                f"suite {suite.run.name}: two cells are the same row of the table ({words}); "
                "give the attack of one of them a `variant`, or its defense another `report_as`"
            )
        cells[row] = _cell(suite, nodes, cell, columns, dataset, network)
    if not cells:
        conditions = ", ".join(f"{column}={value}" for column, value in wanted.items())
        raise SpecError(f"suite {suite.run.name}: no cell of the table has {conditions}")
    return Plan(suite, nodes.by_key, tuple(cells.values()))


def _places(suite: Suite) -> Iterator[tuple[Cell, str, str]]:
    """Every cell with its data set and its network."""
    run = suite.run
    for cell in run.table.cells:
        for network in (cell.network,) if cell.network is not None else run.matrix.network:
            for dataset in (cell.dataset,) if cell.dataset is not None else run.matrix.dataset:
                named = [("defenses", cell.defense), ("defenses", cell.source or cell.defense)]
                named += [("attacks", cell.attack), ("datasets", dataset), ("networks", network)]
                for room, name in named:
                    if name not in getattr(suite.paper, room):
                        raise SpecError(
                            f"suite {run.name}: profile {suite.profile} runs {name!r}, which only its overlay defines; "
                            f"define it in the suite's own `{room}` too, so that the row says what it stands for"
                        )
                yield cell, dataset, network


def _columns(paper: SuiteSpec, cell: Cell, dataset: str, network: str) -> dict[str, str]:
    """The paper's side of the row: what the suite says before the profile substitutes anything."""
    attack, defense = paper.attacks[cell.attack], paper.defenses[cell.defense]
    clean = isinstance(attack, CleanSpec)
    norm, epsilon = budget_text(paper, cell.attack)
    return {
        "table": str(paper.table.paper or ""),
        "dataset": dataset,
        "network": network,
        "defense": defense.report_as or cell.defense,
        "ratio": ratio_text(defense.ratio) if isinstance(defense, TicketDefenseSpec) else "",
        "candidate_set": " ".join(map(ratio_text, defense.ratios)) if isinstance(defense, R2sSpec) else "",
        "attack": attack.report_as or ("none" if clean else cell.attack),
        "norm": norm,
        "eps": epsilon,
        "attack_source": _source_text(paper, cell),
        "metric": "natural_acc" if clean else "robust_acc",
        "variant": attack.variant,
    }


def budget_text(suite: SuiteSpec, attack: str) -> tuple[str, str]:
    """(norm, epsilon) of an attack of the suite, as tables write them: those that a derived attack chooses from."""
    spec = suite.attacks[attack]
    if isinstance(spec, CleanSpec):
        return "", ""
    if isinstance(spec, DerivedSpec):
        return budget_text(suite, chosen_from(spec)[0])
    return reported_budget(spec)


def _source_text(paper: SuiteSpec, cell: Cell) -> str:
    if cell.source is None:
        return "same_ratio_other_seed" if cell.source_seed == "other" else ""
    name = paper.defenses[cell.source].report_as or cell.source
    return f"{name}_other_seed" if cell.source_seed == "other" else name


def _cell(
    suite: Suite, nodes: Nodes, cell: Cell, columns: Mapping[str, str], dataset: str, network: str
) -> PlannedCell:
    run = suite.run
    attack, defense = run.attacks[cell.attack], run.defenses[cell.defense]
    data, architecture = run.datasets[dataset], run.networks[network]
    by_seed, held_out = [], []
    labels: tuple[str, ...] = ()
    members: list[Member] = []
    for place, seed in enumerate(run.seeds):
        members = nodes.members(defense, data, architecture, seed)
        source = run.defenses[cell.source or cell.defense]
        source_seed = seed if cell.source_seed == "same" else _other(run.seeds, place)
        images = Images(
            nodes,
            data,
            nodes.members(source, data, architecture, source_seed),
            source.probabilities if isinstance(source, R2sSpec) else None,
            seed,
            f"on {label_of(architecture)} on {label_of(data)}, seed {seed}"
            + (f", source of seed {source_seed}" if source_seed != seed else ""),
        )
        made = images.of(cell.attack)
        labels = tuple(each.label for each in made)
        by_seed.append(tuple(each.judged(nodes, members, data) for each in made))
        if isinstance(attack, GameSpec):
            fitted = images.of(cell.attack, attack.held_out)
            held_out.append(tuple(each.judged(nodes, members, data) for each in fitted))
    probabilities = defense.probabilities if isinstance(defense, R2sSpec) else None
    return PlannedCell(
        columns=columns,
        run={
            "run_dataset": label_of(data),
            "run_network": foreign_label(defense) if isinstance(defense, ForeignSpec) else label_of(architecture),
            "run_eps": budget_text(run, cell.attack)[1],
        },
        seeds=run.seeds,
        predictions=tuple(by_seed),
        sources=labels,
        members=tuple(member.label for member in members),
        probabilities=probabilities or (1.0 / len(members),) * len(members),
        attack_key=cell.attack,
        headline=attack.headline,
        substitutes=tuple(_substitutes(suite, cell, dataset, network)),
        score=attack.kind if isinstance(attack, DerivedSpec) else "mean",
        tries=attack.tries if isinstance(attack, AnyOfSpec) else 1,
        held_out=tuple(held_out),
        attack_kind=attack.kind,
    )


def _other(seeds: tuple[int, ...], place: int) -> int:
    return seeds[(place + 1) % len(seeds)] if len(seeds) > 1 else seeds[place] + 1


def _substitutes(suite: Suite, cell: Cell, dataset: str, network: str) -> Iterator[str]:
    """What the profile runs in place of the paper's setting, as flags."""
    defenses = [cell.defense, *([cell.source] if cell.source is not None else [])]
    settings: dict[str, Callable[[SuiteSpec], Any]] = {
        "data": lambda spec: spec.datasets[dataset],
        "network": lambda spec: spec.networks[network],
        "attack": lambda spec: [
            spec.attacks[name].model_dump(exclude=_NOT_OF_THE_ATTACK)
            for name in attacks_behind(suite.paper, cell.attack)
        ],
        "defense": lambda spec: [spec.defenses[name].model_dump(exclude=_NOT_OF_THE_DEFENSE) for name in defenses],
        "schedule": lambda spec: [_schedule(spec, name) for name in defenses],
        "seeds": lambda spec: spec.seeds,
    }
    for name, setting in settings.items():
        if setting(suite.paper) != setting(suite.run):
            yield f"substitute:{name}"


_NOT_OF_THE_ATTACK = {"batch", "engine", "report_as", "variant", "headline"}
_NOT_OF_THE_DEFENSE = {"report_as", "training", "search"}  # the schedule behind the name is what counts


def _schedule(spec: SuiteSpec, name: str) -> TrainingSpec | None:
    defense = spec.defenses[name]
    if isinstance(defense, ForeignSpec):
        return None
    return spec.trainings[defense.training] if isinstance(defense, DenseSpec) else spec.searches[defense.search]
