"""Attacks on a defense that a store has, whichever suite asked for them.

A leaderboard that leaves out the attack that breaks an entry says nothing false, and deceives. So an entry shows every
attack on its networks whose images all of them have judged: those of other suites, and of other defenses that share the
networks. Building adds them; verifying misses them.

Clean images count as an attack that does nothing. Left out are images that nothing bounds, images made against other
networks (suites name these, as transfer), images that were attacked in parts, and values that a builder of another
version made, whose keys this one does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rstbench.report.leaderboard.behind import Behind, Counted, Judged, Source
from rstbench.report.leaderboard.measured import Defense
from rstbench.report.leaderboard.schema import CellForm
from rstbench.report.predictions import SAMPLES
from rstbench.spec.base import canonical_json
from rstbench.store import Store

Asker = tuple[Judged, str]
"""Networks that are asked as one, and what of them is averaged."""


@dataclass(frozen=True)
class _Shot:
    """Images of one source, and the predictions of all members on them, in order."""

    source: Source
    predictions: tuple[str, ...]


class Harvest:
    """All predictions of a store, looked through once."""

    def __init__(self, store: Store, behind: Behind) -> None:
        self._store, self._behind = store, behind

    @cached_property
    def _judged(self) -> Mapping[Asker, Mapping[tuple[str, str], str]]:
        """Networks -> (images, distance within which they count) -> prediction; of several, the first by key."""
        found: dict[Asker, dict[tuple[str, str], str]] = {}
        for key in self._store.holding(SAMPLES):
            record = self._store.value(key).record
            if record.get("kind") != "predict" or not isinstance(record.get("inputs"), Mapping):
                continue
            spec, inputs = record["spec"], record["inputs"]
            targets = [inputs["target"]] if "target" in inputs else _numbered(inputs, "target")
            named = spec.get("checkpoint", "")
            names = [named] * len(targets) if isinstance(named, str) else list(named)
            asker: Asker = (tuple(zip(targets, names, strict=False)), str(spec.get("average", "")))
            images = (str(inputs["images"]), canonical_json(spec.get("within")))
            found.setdefault(asker, {}).setdefault(images, key)
        return found

    def of(self, defense: Defense, labels: Sequence[str], shown: set[Counted]) -> list[CellForm]:
        """Rows of attacks on the defense that are not among those shown, in the order of their attacks.

        labels: of members, for the rows. shown: what is counted of each source that is shown. The records of the
        rows have been read. Raises `StoreError` if a record cannot be read.
        """
        by_seed = [self._shots(defense, place) for place in range(len(defense.seeds))]
        rows = []
        for name in sorted(set.intersection(*map(set, by_seed))):
            shots = [by_seed[place][name] for place in range(len(defense.seeds))]
            sources = {_attacked(seed, defense.networks[place]) for place, seed in enumerate(shots)}
            new = any(shot.source.counted not in shown for seed in shots for shot in seed)
            if not new or len(sources) != 1:
                continue
            places = sources.pop()
            rows.append(
                CellForm(
                    score="mean",
                    tries=1,
                    commits="",
                    probabilities=defense.probabilities,
                    seeds=defense.seeds,
                    sources=_labels(places, labels, clean=not shots[0][0].source.attacked),
                    members=tuple(labels),
                    predictions=tuple(tuple(shot.predictions for shot in seed) for seed in shots),
                )
            )
        return rows

    def _shots(self, defense: Defense, place: int) -> dict[str, list[_Shot]]:
        """Images that all members have judged and that are made against them, under one seed, by attack."""
        members = defense.networks[place]
        askers: list[Asker] = [(member, defense.average) for member in members]
        every = [self._judged.get(asker, {}) for asker in askers]
        found: dict[str, list[_Shot]] = {}
        own = {network for member in members for network in member}
        for images in sorted(set.intersection(*map(set, every))):
            predictions = tuple(each[images] for each in every)
            self._behind.read(predictions)
            name = self._name(images, predictions, defense.seeds[place])
            if name is None:
                continue
            source = self._behind.source(predictions)
            if source.epsilon is None or not set(source.attacked) <= own:
                continue
            if {self._behind.fingerprint(data) for data in source.data} == {defense.fingerprint}:
                found.setdefault(name, []).append(_Shot(source, predictions))
        return {name: _ordered(shots, members) for name, shots in found.items()}

    def _name(self, images: tuple[str, str], predictions: tuple[str, ...], seed: int) -> str | None:
        """What sources of one row have in common; None for held-out images, parts, and what older versions made."""
        node = self._behind.nodes[images[0]]
        asked = [self._behind.nodes[key].spec for key in predictions]
        if any(key in self._behind.faults for key in (images[0], *predictions)):
            return None
        if any("held_out" in spec or "part" in spec for spec in (node.spec, *asked)):
            return None
        if node.kind == "data":
            samples = {spec.get("samples") for spec in asked}
            return canonical_json(["clean", samples.pop()]) if len(samples) == 1 else None
        if node.kind != "craft":
            return None
        offset = int(node.spec.get("seed", 0)) - seed
        return canonical_json([node.spec.get("attack"), images[1], node.spec.get("probabilities"), offset])


def _numbered(inputs: Mapping[str, Any], role: str) -> list[str]:
    return [inputs[f"{role}_{i}"] for i in range(sum(each.startswith(f"{role}_") for each in inputs))]


def _ordered(shots: Sequence[_Shot], members: Sequence[Judged]) -> list[_Shot]:
    def at(shot: _Shot) -> tuple[int, tuple[str, ...]]:
        place = _place(shot, members)
        return (-1 if place is None else place), shot.source.keys

    return sorted(shots, key=at)


def _labels(places: Sequence[int | None], labels: Sequence[str], clean: bool) -> tuple[str, ...]:
    return ("clean",) if clean else tuple("all" if place is None else labels[place] for place in places)


def _place(shot: _Shot, members: Sequence[Judged]) -> int | None:
    """Which member the images are made against; None for several at once, and for an only one."""
    return next((i for i, member in enumerate(members) if shot.source.attacked == member), None)


def _attacked(shots: Sequence[_Shot], members: Sequence[Judged]) -> tuple[int | None, ...]:
    return tuple(_place(shot, members) for shot in shots)


def sources_of(rows: Sequence[tuple[tuple[Source, ...], ...]]) -> Iterator[Counted]:
    """What is counted of every source of rows, by seed and source."""
    return (source.counted for row in rows for seed in row for source in seed)
