"""Suite -> plan: the table's cells, and the graph of nodes whose values they are read from. Pure; no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rstbench.errors import SpecError
from rstbench.nodes import Facts, Member, Node, Nodes, label_of, ratio_text
from rstbench.spec.base import distance
from rstbench.spec.models import AttackSpec, CleanSpec, DenseSpec, R2sSpec, TicketDefenseSpec, TrainingSpec
from rstbench.spec.suite import Cell, Suite, SuiteSpec

__all__ = [
    "Facts",
    "Node",
    "Plan",
    "PlannedCell",
    "epsilon_text",
    "label_of",
    "merge_nodes",
    "plan",
    "ratio_text",
]


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


def plan(suite: Suite, facts: Facts, only: Mapping[str, str] | None = None) -> Plan:
    """Plan a suite under its profile.

    facts: what is known of every data set of `suite.run`. only: table column -> value; other cells are left out.
    Raises `SpecError` if `only` leaves no cell, if two cells are one row of the table, or if the profile measures
    something that the suite itself does not name.
    """
    wanted = only or {}
    nodes = Nodes(suite.run, facts)
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


def epsilon_text(attack: AttackSpec) -> str:
    """Epsilon as the tables write it: in units of 1/255 for linf, of the pixel range for L2; empty if clean."""
    if isinstance(attack, CleanSpec):
        return ""
    return f"{distance(attack.epsilon) * (255 if attack.norm == 'linf' else 1):.6g}"


def _places(suite: Suite) -> Iterator[tuple[Cell, str, str]]:
    """Every cell with its data set and its network."""
    run = suite.run
    for cell in run.table.cells:
        for network in (cell.network,) if cell.network is not None else run.matrix.network:
            for dataset in (cell.dataset,) if cell.dataset is not None else run.matrix.dataset:
                for room in ("defenses", "attacks", "datasets", "networks"):
                    name = {"defenses": cell.defense, "attacks": cell.attack, "datasets": dataset}.get(room, network)
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


def _cell(
    suite: Suite, nodes: Nodes, cell: Cell, columns: Mapping[str, str], dataset: str, network: str
) -> PlannedCell:
    run = suite.run
    attack, defense = run.attacks[cell.attack], run.defenses[cell.defense]
    data, architecture = run.datasets[dataset], run.networks[network]
    probabilities = defense.probabilities if isinstance(defense, R2sSpec) else None
    by_seed = []
    sources: tuple[str, ...] = ()
    members: list[Member] = []
    for seed in run.seeds:
        members = nodes.members(defense, data, architecture, seed)
        title = f"{cell.attack} on {label_of(architecture)} on {label_of(data)}, seed {seed}"
        if isinstance(attack, CleanSpec):
            images, sources = [nodes.data(data)], ("clean",)
        elif attack.view == "member":
            images = [nodes.craft(attack, data, [m], seed, f"craft {title} from {m.label}") for m in members]
            sources = tuple(member.label for member in members)
        else:
            images = [nodes.craft(attack, data, members, seed, f"craft {title}", probabilities)]
            sources = (attack.view,)
        by_seed.append(
            tuple(
                tuple(
                    nodes.predict(key, member, attack, data, f"predict {title}: {source} to {member.label}")
                    for member in members
                )
                for key, source in zip(images, sources, strict=True)
            )
        )
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
        substitutes=tuple(_substitutes(suite, cell, dataset, network)),
    )


def _substitutes(suite: Suite, cell: Cell, dataset: str, network: str) -> Iterator[str]:
    """What the profile runs in place of the paper's setting, as flags."""
    settings: dict[str, Callable[[SuiteSpec], Any]] = {
        "data": lambda spec: spec.datasets[dataset],
        "network": lambda spec: spec.networks[network],
        "attack": lambda spec: spec.attacks[cell.attack].model_dump(exclude=_NOT_OF_THE_ATTACK),
        "defense": lambda spec: spec.defenses[cell.defense].model_dump(exclude=_NOT_OF_THE_DEFENSE),
        "schedule": lambda spec: _schedule(spec, cell.defense),
        "seeds": lambda spec: spec.seeds,
    }
    for name, setting in settings.items():
        if setting(suite.paper) != setting(suite.run):
            yield f"substitute:{name}"


_NOT_OF_THE_ATTACK = {"batch", "engine", "report_as", "variant", "headline"}
_NOT_OF_THE_DEFENSE = {"report_as", "training", "search"}  # the schedule behind the name is what counts


def _schedule(spec: SuiteSpec, name: str) -> TrainingSpec:
    defense = spec.defenses[name]
    return spec.trainings[defense.training] if isinstance(defense, DenseSpec) else spec.searches[defense.search]
