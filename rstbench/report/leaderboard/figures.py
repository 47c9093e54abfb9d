"""From the measured rows of a defense to the figures of an entry: which row each metric shows, and the worst case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rstbench.report.leaderboard.behind import Counted
from rstbench.report.leaderboard.challenges import Challenge, lowered
from rstbench.report.leaderboard.files import Scores
from rstbench.report.leaderboard.measured import EPSILON_ROUNDING, Defense, Floats, Measured, interval, keeps
from rstbench.report.leaderboard.schema import RANKED_IMAGES
from rstbench.report.statistics import Interval
from rstbench.spec.attacks import AutoAttackSpec, PgdSpec

BLINDING = frozenset(
    {
        "randomised_output",
        "zero_gradients",
        "softmax_output",
        "constant_output",
        "loss_not_rising",
        "robust_above_clean",
        "low_precision_weaker",
        "black_box_beats_white_box",
    }
)
"""Reliability flags of a row on which no rank can rest: its attack may have been blind."""

MASKED = "black_box_beats_white_box"
FEW_IMAGES, NO_FITTING_ATTACK, MASKED_GRADIENTS = (
    "unranked:few_images",
    "unranked:no_fitting_attack",
    "unranked:masked_gradients",
)
STRONGER_ON_FEWER = "stronger_on_fewer_images"
"""Attacks that were run on fewer images leave at least a point less of them standing than `worst` does."""
_POINT = 0.01
_FEWEST = 50
"""Images below which a gap between two worst cases is not looked at."""


@dataclass(frozen=True)
class Figure:
    """One metric. percent; interval, in percent; scores: of each seed. row: number of the row that it shows, if one."""

    percent: float
    interval: Interval
    scores: tuple[Scores, ...]
    row: int | None = None

    @property
    def n(self) -> int:
        """Test images."""
        return len(self.scores[0].index)


@dataclass(frozen=True)
class Figures:
    """The metrics of an entry, by name; those that were not run are left out.

    behind: numbers of the rows that `worst` chooses from. tries: adversarial images for each test image. alone: number
    of the row that by itself leaves least standing. unranked: why there is no rank, as flags; empty if there is one.
    fewer: of images with more attacks than the others: how many (of several seeds, the fewest), the worst case there,
    and that with all attacks.
    credited, fell: challenges that lowered `worst`, and how many images each did.
    """

    metrics: Mapping[str, Figure]
    behind: tuple[int, ...]
    tries: int
    alone: int
    unranked: tuple[str, ...]
    fewer: tuple[int, float, float] | None
    credited: tuple[Challenge, ...] = ()
    fell: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Shot:
    """The images of one source of a row, within the threat model, by seed: test indices, and expected correctness."""

    row: int
    clean: bool
    index: tuple[NDArray[np.int64], ...]
    scores: tuple[Floats, ...]


def figures(
    rows: Sequence[Measured], norm: str, epsilon: float, challenges: Sequence[Challenge] = ()
) -> Figures | None:
    """The figures of one defense within one norm and epsilon; None where nothing attacks it there.

    rows: all of this defense, also those at other epsilons; attacks at smaller ones count for the worst case.
    """
    defense = rows[0].defense
    deterministic = len(defense.probabilities) == 1
    at = [i for i, row in enumerate(rows) if not row.clean and _is_at(row, norm, epsilon)]
    if not at:
        return None
    images = _images(rows, at)
    if images is None:
        return None
    metrics: dict[str, Figure] = {}
    for name, candidates in _candidates(rows, at).items():
        chosen = _lowest(rows, candidates, images)
        if chosen is not None:
            metrics[name] = _shown(rows, chosen, deterministic)
    shots = list(_shots(rows, norm, epsilon))
    full = [shot for shot in shots if _covers(shot, images)]
    worst = tuple(np.min([_on(shot, place, index) for shot in full], axis=0) for place, index in enumerate(images))
    lower = lowered(images, worst, challenges, defense.probabilities)
    percent, between = interval(lower.scores, deterministic)
    labels = _labels(rows, images)
    scores = tuple(Scores(i, label, s) for i, label, s in zip(images, labels, lower.scores, strict=True))
    metrics["worst"] = Figure(percent, between, scores)
    behind = tuple(dict.fromkeys(shot.row for shot in full))
    alone = _lowest(rows, [i for i in behind if rows[i].asked.cell.score == "mean"], images)
    return Figures(
        metrics,
        behind,
        sum(not shot.clean for shot in full),
        behind[0] if alone is None else alone,
        tuple(_unranked(rows, at, images, norm, epsilon)),
        _fewer(shots, images, worst),
        lower.by,
        lower.fell,
    )


def _is_at(row: Measured, norm: str, epsilon: float) -> bool:
    found = row.budget
    return found is not None and found[0] == norm and abs(found[1] - epsilon) <= EPSILON_ROUNDING


def _images(rows: Sequence[Measured], at: Sequence[int]) -> tuple[NDArray[np.int64], ...] | None:
    """Test indices, by seed, that the entry rests on: the most that an attack following gradients has, if there is one.

    Of attacks on the networks themselves; where there is none, of black boxes on them, and then of transferred images.
    """
    direct = [i for i in at if rows[i].direct]
    for group in ([i for i in direct if rows[i].gradients], direct, at):
        if group:
            largest = max(group, key=lambda i: rows[i].measurement.n)
            return tuple(np.sort(seed.index) for seed in rows[largest].measurement.seeds)
    return None


def _candidates(rows: Sequence[Measured], at: Sequence[int]) -> dict[str, list[int]]:
    """Metric -> numbers of the rows that it may show."""
    found: dict[str, list[int]] = {"clean": [i for i, row in enumerate(rows) if row.clean]}
    mean = [i for i in at if rows[i].asked.cell.score == "mean" and rows[i].direct]
    pgd20 = {i: attack for i in mean if isinstance(attack := rows[i].attack, PgdSpec) and _is_pgd20(rows[i], attack)}
    found["pgd20"] = [i for i, attack in pgd20.items() if attack.stop == "never"]
    found["pgd20_paper"] = [i for i, attack in pgd20.items() if attack.stop == "source_fooled"]
    found["autoattack"] = [
        i
        for i in mean
        if isinstance(rows[i].attack, AutoAttackSpec) and (rows[i].through_members or rows[i].all_in_hand)
    ]
    found["adaptive"] = [i for i in mean if rows[i].gradients and rows[i].all_in_hand and i not in pgd20]
    return found


def _is_pgd20(row: Measured, attack: PgdSpec) -> bool:
    """As the paper has it: 20 steps, one start, made once, against each member; of an ensemble, against its average."""
    plain = attack.steps == 20 and attack.restarts == 1 and not attack.smaller_epsilons
    return plain and row.through_members and attack.view in ("member", "ensemble")


def _lowest(rows: Sequence[Measured], candidates: Sequence[int], images: Sequence[NDArray[np.int64]]) -> int | None:
    """The candidate that leaves least standing, of those with just these images; of none, of those with most."""
    if not candidates:
        return None
    same = [i for i in candidates if _same_images(rows[i], images)]
    most = max(rows[i].measurement.n for i in candidates)
    group = same or [i for i in candidates if rows[i].measurement.n == most]
    return min(group, key=lambda i: (rows[i].measurement.accuracy, i))


def _same_images(row: Measured, images: Sequence[NDArray[np.int64]]) -> bool:
    return all(
        np.array_equal(np.sort(seed.index), index) for seed, index in zip(row.measurement.seeds, images, strict=True)
    )


def _shown(rows: Sequence[Measured], number: int, deterministic: bool) -> Figure:
    row = rows[number]
    scores = []
    for seed, label in zip(row.measurement.seeds, row.labels, strict=True):
        order = np.argsort(seed.index, kind="stable")
        scores.append(Scores(seed.index[order], label[order], seed.scores[order]))
    percent, between = row.measurement.accuracy, row.measurement.interval
    return Figure(percent, between, tuple(scores), number)


def _shots(rows: Sequence[Measured], norm: str, epsilon: float) -> Iterator[_Shot]:
    """Every distinct set of images within the threat model that rows have: those of another epsilon too, if smaller.

    A derived adversary brings the images that it chooses from.
    """
    seen: set[tuple[Counted, ...]] = set()
    for number, row in enumerate(rows):
        for s in range(len(row.sources[0])):
            by_seed = [sources[s] for sources in row.sources]
            counted = tuple(source.counted for source in by_seed)
            if counted in seen or not all(keeps(source, norm, epsilon) for source in by_seed):
                continue
            seen.add(counted)
            scored = [row.scores_of(place, s) for place in range(len(by_seed))]
            yield _Shot(
                number,
                not by_seed[0].attacked,
                tuple(index for index, _ in scored),
                tuple(scores for _, scores in scored),
            )


def _covers(shot: _Shot, images: Sequence[NDArray[np.int64]]) -> bool:
    return all(bool(np.isin(index, own).all()) for index, own in zip(images, shot.index, strict=True))


def _on(shot: _Shot, place: int, index: NDArray[np.int64]) -> Floats:
    """Scores on the images `index`, which the shot has all of."""
    order = np.argsort(shot.index[place], kind="stable")
    found: Floats = shot.scores[place][order[np.searchsorted(shot.index[place][order], index)]]
    return found


def _labels(rows: Sequence[Measured], images: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    found = []
    for place, index in enumerate(images):
        row = next(row for row in rows if bool(np.isin(index, row.measurement.seeds[place].index).all()))
        own = row.measurement.seeds[place].index
        order = np.argsort(own, kind="stable")
        found.append(row.labels[place][order[np.searchsorted(own[order], index)]])
    return found


def _unranked(
    rows: Sequence[Measured], at: Sequence[int], images: Sequence[NDArray[np.int64]], norm: str, epsilon: float
) -> Iterator[str]:
    """Reasons for no rank: too few images; no attack that fits (`Measured.fits`) and can be trusted."""
    if min(map(len, images)) < RANKED_IMAGES:
        yield FEW_IMAGES
    fitting = [
        row
        for row in (rows[i] for i in at)
        if row.fits and row.within(norm, epsilon)
        if not BLINDING & row.flags and _same_images(row, images)
    ]
    if not fitting:
        yield NO_FITTING_ATTACK
    if any(MASKED in rows[i].flags for i in at):
        yield MASKED_GRADIENTS


def _fewer(
    shots: Sequence[_Shot], images: Sequence[NDArray[np.int64]], worst: Sequence[Floats]
) -> tuple[int, float, float] | None:
    """What attacks on fewer images say there: how many images, the worst case without these attacks, and with them."""
    further = [shot for shot in shots if not shot.clean and not _covers(shot, images)]
    counts, before, after = [], [], []
    for place, (index, stands) in enumerate(zip(images, worst, strict=True)):
        lowest = stands.copy()
        touched = np.zeros(len(index), dtype=np.bool_)
        for shot in further:
            _, here, there = np.intersect1d(index, shot.index[place], assume_unique=True, return_indices=True)
            lowest[here] = np.minimum(lowest[here], shot.scores[place][there])
            touched[here] = True
        if touched.any():
            counts.append(int(touched.sum()))
            before.append(float(stands[touched].mean()))
            after.append(float(lowest[touched].mean()))
    if not before:
        return None
    return min(counts), 100 * float(np.mean(before)), 100 * float(np.mean(after))


def weaker_than_known(found: Figures) -> bool:
    """Whether attacks on fewer images show that `worst` is at least a point too high (`STRONGER_ON_FEWER`)."""
    if found.fewer is None or found.fewer[0] < _FEWEST:
        return False
    return found.fewer[1] - found.fewer[2] >= 100 * _POINT


__all__ = ["Defense", "Figure", "Figures", "figures", "weaker_than_known"]
