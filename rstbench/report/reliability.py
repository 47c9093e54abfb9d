"""Flags that follow from comparing cells: numbers that cannot all be right, or do not mean what they seem to.

Compared are cells of one defense on one data set with one network, on the test images that both cells have, under the
seeds that both have. Nothing here is a matter of chance, so no interval is asked: a difference counts when it is more
than 1e-9 of the mean score, unless a rule says otherwise. Cells that are not complete are left out.

Where a switch is attacked through each of its members in turn (view `member`), an attack aims at one member, and how
well its images carry over to the others says nothing of its strength there. Such cells are compared by what each
member predicts on the images made against itself (the diagonal), and only with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rstbench.plan import Node, PlannedCell
from rstbench.report.measure import CellResult, SeedMeasurement
from rstbench.report.parts import checkpoints_of, targets_of
from rstbench.report.scores import expected, tidied
from rstbench.spec.attacks import (
    BLACK_BOX,
    AllMembersSpec,
    ApgdSpec,
    AutoAttackSpec,
    CleanSpec,
    CraftedSpec,
    CwInfSpec,
    CwL2Spec,
    FgsmSpec,
    PgdSpec,
)
from rstbench.spec.budgets import budget, judged_within
from rstbench.spec.derived import AttackSpec, DerivedSpec, GameSpec, PointwiseSpec, chosen_from

_MORE = 1e-9
_SURPRISE = 0.002
Attacks = Mapping[str, AttackSpec]
Of = Callable[[PlannedCell, SeedMeasurement], NDArray[np.float64]]


def reliability(
    results: Sequence[CellResult], attacks: Attacks, nodes: Mapping[str, Node]
) -> tuple[frozenset[str], ...]:
    """For each result, in order, the flags that its comparison with the others raises.

    attacks: of the suite as run; nodes: of the plan.
    """
    found: list[set[str]] = [set() for _ in results]
    groups: dict[object, list[int]] = {}
    for i, result in enumerate(results):
        if result.measurement is not None:
            groups.setdefault(defense_of(result.cell, nodes), []).append(i)
    for group in groups.values():
        for flag, rule in _RULES.items():
            for i in rule({i: results[i] for i in group}, attacks):
                found[i].add(flag)
        for i in group:
            chosen = _chosen(results[i], attacks)
            # Where gradients are masked, a worst case over attacks that follow them is too high as well.
            if any(_BEATEN in found[j] for j in group if results[j].cell.attack_key in chosen):
                found[i].add(_BEATEN)
    return tuple(frozenset(flags) for flags in found)


def defense_of(cell: PlannedCell, nodes: Mapping[str, Node]) -> tuple[object, ...]:
    """What two cells share when they concern the same networks, drawn alike, under the same name and seeds."""
    names = ("table", "dataset", "network", "defense", "ratio", "candidate_set")
    judges = [key for by_source in cell.predictions for key in by_source[0]]
    networks = tuple((targets_of(judge, nodes), checkpoints_of(judge, nodes)) for judge in judges)
    return (*(cell.columns.get(name, "") for name in names), networks, cell.members, cell.probabilities, cell.seeds)


def through_members(cell: PlannedCell) -> bool:
    """Whether a switch is attacked through each of its own members in turn."""
    return len(cell.members) > 1 and cell.sources == cell.members and not cell.columns.get("attack_source")


def keeps_budget(cell: PlannedCell, attacks: Attacks) -> bool:
    """Whether all images that the cell counts keep their norm and epsilon, or are judged within it."""
    spec = attacks.get(cell.attack_key)
    behind = [attacks.get(name) for name in chosen_from(spec)] if isinstance(spec, DerivedSpec) else [spec]
    return all(_budget(each) is not None for each in behind)


def _score(cell: PlannedCell, seed: SeedMeasurement) -> NDArray[np.float64]:
    return seed.scores


def _aimed_at(cell: PlannedCell, seed: SeedMeasurement) -> NDArray[np.float64]:
    if not through_members(cell):
        return seed.scores
    own = np.diagonal(seed.right, axis1=0, axis2=2)  # (N, M)
    return tidied(expected(own, cell.probabilities))


def _more(one: CellResult, other: CellResult, of: Of) -> bool:
    """Whether `one` leaves more standing than `other` on their common images."""
    means = _means(one, other, of)
    return means is not None and means.one > means.other + _MORE


@dataclass(frozen=True)
class _Means:
    """Mean scores of two cells on the images that both have, over the seeds that both have; and how many those are."""

    one: float
    other: float
    images: int


def _means(one: CellResult, other: CellResult, of: Of) -> _Means | None:
    """None if they share no images."""
    mine: list[NDArray[np.float64]] = []
    theirs: list[NDArray[np.float64]] = []
    for a, b in zip(one.seeds, other.seeds, strict=True):
        if a is None or b is None:
            continue
        _, rows_a, rows_b = np.intersect1d(a.index, b.index, assume_unique=True, return_indices=True)
        mine.append(of(one.cell, a)[rows_a])
        theirs.append(of(other.cell, b)[rows_b])
    if not any(len(part) for part in mine):
        return None
    ours, others = np.concatenate(mine), np.concatenate(theirs)
    return _Means(float(ours.mean()), float(others.mean()), len(ours))


Group = Mapping[int, CellResult]


def _above_clean(group: Group, attacks: Attacks) -> set[int]:
    """Rows under attack, of any kind of score, that are above the same defense without one.

    Not the game: its mixture is another defense, which may be better than this one without attack, too. Nor images made
    against another network, which may put an error right by chance.
    """
    clean = [result for result in group.values() if isinstance(_spec(result, attacks), CleanSpec)]
    return {
        i
        for i, result in group.items()
        if not isinstance(_spec(result, attacks), CleanSpec) and result.cell.score != "game"
        if not result.cell.columns.get("attack_source")
        if any(_more(result, natural, _score) for natural in clean)
    }


def _black_box_ahead(group: Group, attacks: Attacks) -> set[int]:
    """Black-box rows below every white-box row of the same norm and epsilon, and those rows.

    Below by more than 0.2 points, as AutoAttack asks, and by more than one image: gradients may miss a single image
    that lies on the boundary, and mask nothing.

    White box: gradient attacks of several steps whose images keep that budget, or are judged within it. One step
    (FGSM) is expected to be beaten, and AutoAttack `standard` is no white box: Square is in it. Transferred images
    are neither.
    """
    direct = {
        i: result
        for i, result in group.items()
        if result.cell.score == "mean" and not result.cell.columns.get("attack_source")
    }
    white = {i: result for i, result in direct.items() if _is_white(_spec(result, attacks))}
    found: set[int] = set()
    for i, result in direct.items():
        spec = _spec(result, attacks)
        if spec is None or spec.kind not in BLACK_BOX:
            continue
        rivals: dict[int, _Means] = {}
        for j, other in white.items():
            comparable = _budget(_spec(other, attacks)) == _budget(spec)
            comparable = comparable and through_members(other.cell) == through_members(result.cell)
            means = _means(result, other, _aimed_at) if comparable else None
            if means is not None:
                rivals[j] = means
        # Below all of them, each on the images it shares with the black box.
        if rivals and all(_ahead(means) for means in rivals.values()):
            found |= {i, *rivals}
    return found


def _chosen(result: CellResult, attacks: Attacks) -> tuple[str, ...]:
    spec = _spec(result, attacks)
    return chosen_from(spec) if isinstance(spec, PointwiseSpec | GameSpec) else ()


def _ahead(means: _Means) -> bool:
    gain = means.other - means.one
    return gain > _SURPRISE + _MORE and gain * means.images > 1 + _MORE


def _is_white(spec: AttackSpec | None) -> bool:
    if isinstance(spec, PgdSpec):
        return spec.steps > 1
    if isinstance(spec, AutoAttackSpec):
        return spec.version == "rand"
    return isinstance(spec, ApgdSpec | CwL2Spec | CwInfSpec | AllMembersSpec) and _budget(spec) is not None


def _out_of_order(group: Group, attacks: Attacks) -> set[int]:
    """Rows of a stronger attack that leave more standing than a weaker one: clean, FGSM, PGD, AutoAttack, pointwise.

    Two attacks are compared if they have the same norm and epsilon, and, on a switch, the same sources, i.e. the same
    view; AutoAttack on a switch only through its members. PGD of one step is not ranked, nor are transferred images. A
    pointwise worst case is compared with the attacks that it chooses from.
    """
    rank = {i: _rank(result, attacks) for i, result in group.items()}
    found: set[int] = set()
    for i, stronger in group.items():
        spec = _spec(stronger, attacks)
        for j, weaker in group.items():
            if isinstance(spec, PointwiseSpec):
                clean = isinstance(_spec(weaker, attacks), CleanSpec)
                chosen = weaker.cell.score == "mean" and weaker.cell.attack_key in spec.over
                same = weaker.cell.columns.get("attack_source") == stronger.cell.columns.get("attack_source")
                if (clean or (chosen and same)) and _more(stronger, weaker, _score):
                    found.add(i)
                continue
            ranked = rank[i] > rank[j] >= 0 and _same_threat(stronger, weaker, attacks)
            if ranked and _more(stronger, weaker, _aimed_at):
                found.add(i)
    return found


def _rank(result: CellResult, attacks: Attacks) -> int:
    spec = _spec(result, attacks)
    if result.cell.columns.get("attack_source"):
        return -1
    if isinstance(spec, CleanSpec):
        return 0
    if isinstance(spec, FgsmSpec):
        return 1
    if isinstance(spec, PgdSpec) and spec.steps > 1:
        return 2
    # It hands back clean images where the view is not fooled; judged on single members, that says nothing of strength.
    direct = len(result.cell.members) == 1 or through_members(result.cell)
    return 3 if isinstance(spec, AutoAttackSpec) and direct else -1


def _same_threat(stronger: CellResult, weaker: CellResult, attacks: Attacks) -> bool:
    spec = _spec(weaker, attacks)
    if isinstance(spec, CleanSpec):
        return True
    one_view = len(stronger.cell.members) == 1 or stronger.cell.sources == weaker.cell.sources
    return one_view and _budget(spec) == _budget(_spec(stronger, attacks))


def _spec(result: CellResult, attacks: Attacks) -> AttackSpec | None:
    return attacks.get(result.cell.attack_key)


def _budget(spec: AttackSpec | None) -> tuple[str, float] | None:
    if isinstance(spec, CraftedSpec):
        return budget(spec) or judged_within(spec)
    return None


_BEATEN = "black_box_beats_white_box"
_RULES: Mapping[str, Callable[[Group, Attacks], set[int]]] = {
    _BEATEN: _black_box_ahead,
    "robust_above_clean": _above_clean,
    "order_violated": _out_of_order,
}
