"""Suite -> plan: the table's cells, and the graph of nodes whose values they are read from. Pure; no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from rstbench.errors import SpecError
from rstbench.images import Images
from rstbench.members import Members
from rstbench.nodes import Facts, Member, Models, Node, Nodes, label_of, model_digest
from rstbench.places import Place, budget_text, of_epsilon, paper_columns, places, run_columns, substitutes, tasks_of
from rstbench.spec.base import ratio_text
from rstbench.spec.defenses import DefenseSpec, SwitchingSpec
from rstbench.spec.derived import AnyOfSpec, DerivedSpec, GameSpec
from rstbench.spec.suite import Suite

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
    defense: key in the suite's `defenses`; the `defense` column may name it otherwise.
    predictions[seed][source][member]: key of a predict node. sources and members: their labels (ratios or names).
    values: of a cell that is a measure, which has no predictions, the key of its measure node under each seed.
    probabilities: of the members. headline: marked in tables. attack_kind: `kind` of the attack's spec.

    score: how an image's score follows from its predictions (`report.scores`): "mean" over sources and members, or the
    kind of a derived attack, whose sources are those of all attacks that it chooses from, and the clean images.
    tries: of any_of. held_out: as predictions, on the images that a game's mixture is fitted on. commits: of a game.
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
    values: tuple[str, ...] = ()
    defense: str = ""
    commits: str = ""


@dataclass(frozen=True)
class Plan:
    """All nodes in topological order, and the cells of one suite. facts, models: what it was planned with."""

    suite: Suite
    nodes: Mapping[str, Node]
    cells: tuple[PlannedCell, ...]
    facts: Facts = field(default_factory=dict)
    models: Models = field(default_factory=dict)


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
    for place in places(suite):
        columns = paper_columns(suite.paper, place)
        if any(columns.get(column) != value for column, value in wanted.items()):
            continue
        row = tuple(columns.values())
        if row in cells:
            words = ", ".join(value for value in row if value)
            raise SpecError(
                f"suite {suite.run.name}: two cells are the same row of the table ({words}); "
                "give the attack of one of them a `variant`, or its defense another `report_as`"
            )
        cells[row] = (
            _measured(suite, nodes, place, columns) if place.cell.measure else _cell(suite, nodes, place, columns)
        )
    if not cells:
        conditions = ", ".join(f"{column}={value}" for column, value in wanted.items())
        raise SpecError(f"suite {suite.run.name}: no cell of the table has {conditions}")
    return Plan(suite, _needed(nodes.by_key, cells.values()), tuple(cells.values()), facts, models or {})


def _needed(nodes: Mapping[str, Node], cells: Collection[PlannedCell]) -> dict[str, Node]:
    """The nodes that cells are read from, and all behind them. A count of parameters needs none of its networks."""
    wanted = {key for cell in cells for grid in (*cell.predictions, *cell.held_out) for row in grid for key in row}
    wanted |= {key for cell in cells for key in cell.values}
    # Inputs stand before what is made of them.
    for key in reversed(list(nodes)):
        if key in wanted:
            wanted |= set(nodes[key].inputs.values())
    return {key: node for key, node in nodes.items() if key in wanted}


def _probabilities(defense: DefenseSpec) -> tuple[float, ...] | None:
    return defense.probabilities if isinstance(defense, SwitchingSpec) else None


def _cell(suite: Suite, nodes: Nodes, place: Place, columns: Mapping[str, str]) -> PlannedCell:
    run, cell = suite.run, place.cell
    attack_key = cell.attack or ""
    attack, defense = run.attacks[attack_key], place.defense(run)
    source = place.defense(run, cell.source)
    data, architecture = run.datasets[place.dataset], run.networks[place.network]
    by_seed, held_out = [], []
    labels: tuple[str, ...] = ()
    members: list[Member] = []
    for position, seed in enumerate(run.seeds):
        members = Members(nodes, data, architecture, seed).of(defense, cell.defense)
        source_seed = seed if cell.source_seed == "same" else _other(run.seeds, position)
        images = Images(
            nodes,
            data,
            Members(nodes, data, architecture, source_seed).of(source, cell.source or cell.defense),
            _probabilities(source),
            seed,
            f"on {label_of(architecture)} on {label_of(data)}, seed {seed}"
            + (f", source of seed {source_seed}" if source_seed != seed else ""),
        )
        made = images.of(attack_key)
        labels = tuple(each.label for each in made)
        by_seed.append(tuple(each.judged(nodes, members, data) for each in made))
        if isinstance(attack, GameSpec):
            fitted = images.of(attack_key, attack.held_out)
            held_out.append(tuple(each.judged(nodes, members, data) for each in fitted))
    return PlannedCell(
        columns=columns,
        run=run_columns(suite, place, budget_text(run, attack_key)[1]),
        seeds=run.seeds,
        predictions=tuple(by_seed),
        sources=labels,
        members=tuple(member.label for member in members),
        probabilities=_probabilities(defense) or (1.0 / len(members),) * len(members),
        attack_key=attack_key,
        headline=attack.headline,
        substitutes=tuple(substitutes(suite, place)),
        score=attack.kind if isinstance(attack, DerivedSpec) else "mean",
        tries=attack.tries if isinstance(attack, AnyOfSpec) else 1,
        held_out=tuple(held_out),
        attack_kind=attack.kind,
        defense=cell.defense,
        commits=attack.commits if isinstance(attack, GameSpec) else "",
    )


def _measured(suite: Suite, nodes: Nodes, place: Place, columns: Mapping[str, str]) -> PlannedCell:
    run, name = suite.run, place.cell.measure or ""
    measure, defense = run.measures[name], place.defense(run)
    data, architecture = run.datasets[place.dataset], run.networks[place.network]
    tasks = [run.datasets[each] for each in tasks_of(measure, place.dataset)]
    values = []
    members: list[Member] = []
    for seed in run.seeds:
        members = []
        for each in tasks:
            found = Members(nodes, each, architecture, seed).of(defense, place.cell.defense)
            members += found[0].parts or found
        where = " ".join(map(label_of, tasks))
        title = f"measure {name} of {place.cell.defense} {label_of(architecture)} on {where}, seed {seed}"
        values.append(nodes.measure(measure, members, data, seed, title))
    return PlannedCell(
        columns=columns,
        run=run_columns(suite, place, of_epsilon(measure.of_epsilon)[1]),
        seeds=run.seeds,
        predictions=(),
        sources=(),
        members=tuple(member.label for member in members),
        probabilities=_probabilities(defense) or (1.0 / len(members),) * len(members),
        attack_key="",
        headline=False,
        substitutes=tuple(substitutes(suite, place)),
        values=tuple(values),
        defense=place.cell.defense,
    )


def _other(seeds: tuple[int, ...], place: int) -> int:
    return seeds[(place + 1) % len(seeds)] if len(seeds) > 1 else seeds[place] + 1
