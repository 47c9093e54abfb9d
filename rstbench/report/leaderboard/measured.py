"""Rows behind an entry, as measured: what attack it is, against what, and its score for each test image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rstbench.errors import StoreError
from rstbench.plan import PlannedCell
from rstbench.report.leaderboard.behind import Behind, Judged, Source
from rstbench.report.leaderboard.schema import CellForm
from rstbench.report.leaderboard.words import attack_words, derived_words
from rstbench.report.measure import CellResult, Measurement, measure
from rstbench.report.predictions import read_samples
from rstbench.report.reliability import reliability
from rstbench.report.scores import expected, tidied
from rstbench.report.statistics import Interval, bootstrap, t_over_seeds, wilson
from rstbench.report.table import DATA_NOTES
from rstbench.spec.attacks import BLACK_BOX, AllMembersSpec, CleanSpec, CraftedSpec, CwL2Spec
from rstbench.spec.base import canonical_json
from rstbench.store import Store

Floats = NDArray[np.float64]

EPSILON_ROUNDING = 1e-9
"""Two texts of one epsilon, or weights of a draw, may differ by rounding."""
FITTING_STEPS = 10
"""An attack of fewer steps (FGSM has one) carries no rank."""


@dataclass(frozen=True)
class Asked:
    """A row of a table that is to be measured. variant, substitutes: as the suite says; nothing rests on them."""

    cell: CellForm
    variant: str
    substitutes: tuple[str, ...]


@dataclass(frozen=True)
class Defense:
    """Networks, how one of them is drawn, and what they were attacked on.

    networks: by seed and member, each one network or those of a deterministic ensemble; average: of an ensemble.
    """

    seeds: tuple[int, ...]
    networks: tuple[tuple[Judged, ...], ...]
    average: str
    probabilities: tuple[float, ...]
    fingerprint: str

    @property
    def flat(self) -> list[list[tuple[str, str]]]:
        """(key, checkpoint) of all networks under each seed, those of an ensemble one by one."""
        return [[network for member in seed for network in member] for seed in self.networks]


@dataclass(frozen=True)
class Measured:
    """A row with its scores. sources: of its images, by seed; words: the attack's name on the leaderboard.

    attack: the one attack behind all sources; None where an adversary chooses among images. labels: int64 (N,) of each
    seed, as its images. flags: recorded, those of comparing rows, substitutes and notes.
    """

    asked: Asked
    defense: Defense
    sources: tuple[tuple[Source, ...], ...]
    attack: CleanSpec | CraftedSpec | None
    words: str
    measurement: Measurement
    labels: tuple[NDArray[np.int64], ...]
    flags: frozenset[str]

    @property
    def clean(self) -> bool:
        """Whether nothing is attacked."""
        return isinstance(self.attack, CleanSpec)

    @property
    def direct(self) -> bool:
        """Whether all images are made against networks of the defense itself, under the same seed."""
        return all(
            set(source.attacked) <= set(own)
            for own, sources in zip(self.defense.flat, self.sources, strict=True)
            for source in sources
        )

    @property
    def through_members(self) -> bool:
        """Whether every member of the defense is attacked in turn."""
        return all(
            [source.attacked for source in sources] == list(members)
            for members, sources in zip(self.defense.networks, self.sources, strict=True)
        )

    @property
    def all_in_hand(self) -> bool:
        """Whether the adversary has all networks of the defense at once; of a single network, whether it has that."""
        return all(
            sorted(source.attacked) == sorted(own)
            for own, sources in zip(self.defense.flat, self.sources, strict=True)
            for source in sources
        )

    @property
    def gradients(self) -> bool:
        """Whether the attack follows gradients."""
        return self.attack is not None and self.attack.kind not in ("clean", *BLACK_BOX)

    @property
    def fits(self) -> bool:
        """Whether a rank may rest on it: it follows gradients long enough, and knows all networks and their draw."""
        steps = getattr(self.attack, "iterations" if isinstance(self.attack, CwL2Spec) else "steps", 1)
        return self.gradients and steps >= FITTING_STEPS and self.all_in_hand and self._knows_draw

    @property
    def _knows_draw(self) -> bool:
        """Whether it reckons with the probabilities with which the members are drawn."""
        weights = self.defense.probabilities
        if max(weights) - min(weights) < EPSILON_ROUNDING:
            return not any(source.draw for sources in self.sources for source in sources)
        drawn = [_weights([member[0] for member in own], weights) for own in self.defense.networks]
        pairs = zip(drawn, self.sources, strict=True)
        return all(_weights(source.attacked, source.draw) == own for own, sources in pairs for source in sources)

    def within(self, norm: str, epsilon: float) -> bool:
        """Whether all of its images lie within this norm and epsilon."""
        return all(keeps(source, norm, epsilon) for sources in self.sources for source in sources)

    def touches(self, norm: str, epsilon: float) -> bool:
        """Whether nothing is attacked, or any of its adversarial images do."""
        made = [source for sources in self.sources for source in sources if source.attacked]
        return self.clean or any(keeps(source, norm, epsilon) for source in made)

    @property
    def against(self) -> str:
        """Words to add to the attack's, where the images are made against other networks, or some of these only."""
        if self.clean or self.attack is None:
            return ""
        if not self.direct:
            return ", from other networks"
        return "" if self.through_members or self.all_in_hand else ", against some members"

    @property
    def budget(self) -> tuple[str, float] | None:
        """(norm, epsilon), the largest of its sources; None for clean images and where one is without bound."""
        found = [(source.norm, source.epsilon) for sources in self.sources for source in sources if source.attacked]
        epsilons = [epsilon for _, epsilon in found if epsilon is not None]
        if not found or len(epsilons) < len(found) or len({norm for norm, _ in found}) > 1:
            return None
        return found[0][0], max(epsilons)

    def scores_of(self, place: int, source: int) -> tuple[NDArray[np.int64], Floats]:
        """Test indices and expected correctness of a draw among members, each (N,), on the images of one source."""
        seed = self.measurement.seeds[place]
        return seed.index, tidied(expected(seed.right[source], self.defense.probabilities))


def _weights(networks: Sequence[tuple[str, str]], weights: Sequence[float]) -> Sequence[object]:
    return sorted((network, round(p, 9)) for network, p in zip(networks, weights, strict=False))


def keeps(source: Source, norm: str, epsilon: float) -> bool:
    """Whether images lie within a norm and epsilon; clean ones always do."""
    if not source.attacked:
        return True
    return source.norm == norm and source.epsilon is not None and source.epsilon <= epsilon + EPSILON_ROUNDING


def planned(form: CellForm) -> PlannedCell:
    """What `report.measure` measures, of a row that is asked for."""
    return PlannedCell(
        columns={name: "" for name in ("defense", "network", "dataset", "attack", "metric", "variant")},
        run={},
        seeds=form.seeds,
        predictions=form.predictions,
        sources=form.sources,
        members=form.members,
        probabilities=form.probabilities,
        attack_key="",
        headline=False,
        substitutes=(),
        score=form.score,
        tries=form.tries,
        held_out=form.held_out,
        commits=form.commits,
    )


def defense_behind(cell: CellForm, behind: Behind) -> Defense:
    """The defense whose predictions a row is made of.

    Raises `StoreError` where the predictions of a row are of different networks from source to source, or of other
    images than test images.
    """
    networks, averages = [], set()
    for seed in cell.predictions:
        members = {tuple(behind.judged(key) for key in row) for row in seed}
        if len(members) != 1:
            raise StoreError(f"value {seed[0][0][:12]}: other networks judge the images of another source")
        (only,) = members
        networks.append(tuple(judged for judged, _ in only))
        averages |= {average for _, average in only}
    sources = [behind.source(row) for seed in cell.predictions for row in seed]
    for source, row in zip(sources, [row for seed in cell.predictions for row in seed], strict=True):
        if behind.held_out(source, row):
            raise StoreError(f"value {row[0][:12]}: a prediction on held-out images, not on test images")
    fingerprints = {behind.fingerprint(data) for source in sources for data in source.data}
    if len(fingerprints) != 1 or len(averages) != 1:
        raise StoreError(f"value {cell.predictions[0][0][0][:12]}: one row is about different data")
    return Defense(cell.seeds, tuple(networks), averages.pop(), cell.probabilities, fingerprints.pop())


def measured(asked: Asked, behind: Behind, store: Store) -> Measured:
    """A row with its own flags. The records behind it have been read.

    Raises `StoreError` if values are missing, damaged, or do not fit.
    """
    cell = asked.cell
    defense = defense_behind(cell, behind)
    sources = tuple(tuple(behind.source(row) for row in seed) for seed in cell.predictions)
    attacks = {_text(source.attack): source.attack for seed in sources for source in seed}
    attack = next(iter(attacks.values())) if len(attacks) == 1 else None
    words = attack_words(attack) if attack is not None else "several attacks"
    if cell.score != "mean":
        words = derived_words(cell.score, cell.tries, words)
        attack = None
    measurement = measure(planned(cell), store)
    if measurement is None:
        raise StoreError(f"the store {store.root} lacks predictions on held-out images behind {words}")
    flags = set(asked.substitutes)
    for key in behind.ancestors(keys_of(cell)):
        flags |= set(map(str, behind.records[key].get("flags", ())))
        if behind.records[key].get("notes"):
            flags.add(DATA_NOTES)
    read = (read_samples(store, seed[0][0]) for seed in cell.predictions)
    known = tuple(each.label for each in read if each is not None)
    return Measured(asked, defense, sources, attack, words, measurement, known, frozenset(flags))


def keys_of(cell: CellForm) -> list[str]:
    """Keys of all predictions behind a row, those on held-out images too."""
    return [key for seed in (*cell.predictions, *cell.held_out) for row in seed for key in row]


def flagged(rows: Sequence[Measured], behind: Behind) -> list[Measured]:
    """The rows of one defense, in order, with the flags that comparing them raises."""
    compared = [(row, row.attack) for row in rows if row.attack is not None]
    attacks = {_text(attack): attack for _, attack in compared}
    raised = reliability([_comparable(row) for row, _ in compared], attacks, behind.nodes)
    more = {id(row): flags for (row, _), flags in zip(compared, raised, strict=True)}
    return [replace(row, flags=row.flags | more.get(id(row), frozenset())) for row in rows]


def _text(attack: CleanSpec | CraftedSpec) -> str:
    return canonical_json(attack.model_dump(mode="json"))


def _comparable(row: Measured) -> CellResult:
    """The row as `reliability` compares it: members and sources called alike in every suite."""
    cell = planned(row.asked.cell)
    members = tuple(map(str, range(len(cell.members))))
    transfer = "" if row.direct else "other networks"
    cell = replace(
        cell,
        columns={**cell.columns, "attack_source": transfer},
        members=members,
        sources=members if row.through_members else _called(row),
        attack_key=_text(row.attack) if row.attack is not None else "",
    )
    return CellResult(cell, tuple(row.measurement.seeds), row.measurement)


def _called(row: Measured) -> tuple[str, ...]:
    if row.clean:
        return ("clean",)
    view = row.attack.kind if isinstance(row.attack, AllMembersSpec) else str(getattr(row.attack, "view", ""))
    return (view,) if len(row.sources[0]) == 1 else row.asked.cell.sources


def interval(seeds: Sequence[Floats], deterministic: bool) -> tuple[float, Interval]:
    """Mean in percent over seeds of the mean score, and its 95 % interval, as every table has them.

    seeds: scores (N,) of each; deterministic: one network, so that scores are 0 or 1.
    """
    means = [100 * float(scores.mean()) for scores in seeds]
    if len(means) > 1:
        found = t_over_seeds(means)
    elif deterministic and bool(np.isin(seeds[0], (0.0, 1.0)).all()):
        found = wilson(int(seeds[0].sum()), len(seeds[0]))
    else:
        found = bootstrap(seeds[0])
    return float(np.mean(means)), found
