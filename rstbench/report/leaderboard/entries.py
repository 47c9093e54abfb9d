"""One entry of a leaderboard: from the rows of a defense to all that is said of it.

`compose` is what builds a leaderboard and what verifies one: given the same rows it says the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from rstbench.report.leaderboard import figures as judged
from rstbench.report.leaderboard import provenance
from rstbench.report.leaderboard.behind import Behind
from rstbench.report.leaderboard.challenges import Challenge as HandedIn
from rstbench.report.leaderboard.challenges import Judge, Kept
from rstbench.report.leaderboard.figures import Figures, figures
from rstbench.report.leaderboard.files import Scores, evidence
from rstbench.report.leaderboard.measured import Defense, Measured, flagged, keys_of
from rstbench.report.leaderboard.provenance import Count
from rstbench.report.leaderboard.schema import COLUMNS, METRICS, Challenge, Entry, EntryRow, Network, Row, Transfer
from rstbench.report.table import HEADLINE, percent
from rstbench.spec.attacks import CwInfSpec
from rstbench.spec.base import digest, distance

_NORMS = {"linf": "l-infinity", "l2": "L2"}


@dataclass(frozen=True)
class Said:
    """What only a suite can say of an entry, and nothing rests on. name: without ratios; suites: commands."""

    name: str
    profile: str
    suites: tuple[str, ...]


Composed = tuple[Entry, dict[tuple[str, int], Scores]]
"""An entry, without its rank, and the scores behind it by (metric, seed)."""


def epsilon_text(norm: str, epsilon: float) -> str:
    """An epsilon as suites write it: "8/255" for linf, "0.5" for l2."""
    if norm == "l2":
        return f"{epsilon:.12g}"
    units = round(epsilon * 255)
    if abs(epsilon - units / 255) < 1e-12:
        return f"{units}/255"
    found = Fraction(f"{epsilon:.12f}")
    short = Fraction(epsilon).limit_denominator(100_000)
    found = short if abs(float(short) - epsilon) < 1e-12 else found
    return f"{found.numerator}/{found.denominator}"


def epsilon_of(norm: str, text: str) -> float:
    """The number behind `epsilon_text`. Raises ValueError or ZeroDivisionError for a text that is none."""
    return distance(text) if norm == "linf" else float(text)


def entry_name(defense: Defense, norm: str, epsilon: str) -> str:
    """The column `entry`: 12 hex digits."""
    networks = [[list(map(list, member)) for member in seed] for seed in defense.networks]
    draw = [f"{p:.9f}" for p in defense.probabilities]
    return digest([defense.fingerprint, norm, epsilon, networks, defense.average, draw])[:12]


def concerned(rows: Sequence[Measured], norm: str, epsilon: float) -> list[Measured]:
    """The rows of a defense that an entry of this norm and epsilon shows or rests on, in order."""
    return [row for row in rows if row.touches(norm, epsilon) or _reported_at(row, norm, epsilon)]


def _reported_at(row: Measured, norm: str, epsilon: float) -> bool:
    """Whether it is an attack that nothing bounds, which tables show at this epsilon."""
    if row.attack is None or row.clean or row.budget is not None or getattr(row.attack, "norm", "") != norm:
        return False
    return not isinstance(row.attack, CwInfSpec) or abs(distance(row.attack.epsilon) - epsilon) < 1e-9


def compose(
    rows: Sequence[Measured], norm: str, epsilon: str, said: Said, behind: Behind, kept: Kept, count: Count
) -> Composed | None:
    """The entry of a defense within one norm and epsilon; None where nothing attacks it there.

    rows: `concerned`, all of one defense. epsilon: as `epsilon_text` has it.
    """
    value = epsilon_of(norm, epsilon)
    rows = flagged(rows, behind)
    defense = rows[0].defense
    found = figures(rows, norm, value, _challenges(rows, norm, epsilon, kept))
    if found is None:
        return None
    scores = {
        (metric, seed): each
        for metric, figure in found.metrics.items()
        for seed, each in zip(defense.seeds, figure.scores, strict=True)
    }
    flat = defense.flat
    keys = [key for row in rows for key in keys_of(row.asked.cell)]
    origin = provenance.provenance_of(behind, keys)
    ratios = [provenance.ratio_of(behind, *network) for network in flat[0]]
    kind = provenance.kind_of(behind, defense.networks[0], defense.average)
    total, largest = provenance.parameters(behind, flat[0], count)
    row: Row = dict.fromkeys(COLUMNS, "")
    row |= {
        "entry": entry_name(defense, norm, epsilon),
        "name": _named(said.name, kind, ratios),
        "defense": kind,
        "network": provenance.network_label(behind, flat[0]),
        "dataset": provenance.dataset_label(behind, _data(rows)[0]),
        "norm": norm,
        "epsilon": epsilon,
        "members": str(len(flat[0])),
        "remaining_ratio": " ".join(ratios) if all(ratios) else "",
        "parameters": total,
        "parameters_kept": largest,
        "ticket_bytes": provenance.stored_bytes(behind, flat[0]),
        **_metrics(found),
        "adaptive_attack": _shown_words(rows, found, "adaptive"),
        "worst_attack": rows[found.alone].words + _at_smaller(rows[found.alone], value),
        "worst_tries": str(found.tries),
        "n": str(found.metrics["worst"].n),
        "seeds": " ".join(map(str, defense.seeds)),
        "profile": said.profile,
        "flags": " ".join(_flags(rows, found)),
        "threat_model": threat_model(defense, norm, epsilon, rows),
        "challengers": "; ".join(dict.fromkeys(each.by for each in found.credited)),
        "suite": "; ".join(said.suites),
        "commit": " ".join(origin.commits),
        "packages": "; ".join(origin.packages),
        "data_fingerprint": defense.fingerprint,
        "hardware": "; ".join(origin.hardware),
        "date": origin.finished[:10],
        "store_keys": " ".join(key for seed in flat for key, _ in seed),
        "evidence": evidence(scores),
    }
    record = origin.written()
    if found.fewer is not None:
        images, before, after = found.fewer
        record["fewer_images"] = {"images": images, "worst": percent(before), "with_all": percent(after)}
    return Entry(
        row={name: " ".join(text.split()) for name, text in row.items()},
        networks=tuple(_networks(defense, rows[0].asked.cell.members, behind)),
        rows=tuple(_row(i, each, found, norm, value, behind) for i, each in enumerate(rows)),
        transfer=tuple(dict.fromkeys(_transfer(rows))),
        challenges=tuple(_credited(found)),
        record=record,
    ), scores


def _named(name: str, kind: str, ratios: Sequence[str]) -> str:
    if kind in ("r2s", "ensemble", "switch") and all(ratios) and len(set(ratios)) == len(ratios):
        return f"{name} ({' '.join(ratios)})"
    return f"{name} {ratios[0]}" if kind in ("ticket", "lottery") else name


def _data(rows: Sequence[Measured]) -> list[str]:
    return sorted({data for row in rows for seed in row.sources for source in seed for data in source.data})


def _challenges(rows: Sequence[Measured], norm: str, epsilon: str, kept: Kept) -> list[HandedIn]:
    defense = rows[0].defense
    judges = [[Judge(member, defense.average) for member in seed] for seed in defense.networks]
    within = epsilon if norm == "linf" else float(epsilon)
    return [each for data in _data(rows) for each in kept.of(judges, data, norm, within)]


def _metrics(found: Figures) -> Row:
    texts: Row = {}
    for name in METRICS:
        figure = found.metrics.get(name)
        if figure is not None:
            texts |= {
                name: percent(figure.percent),
                f"{name}_low": percent(figure.interval.low),
                f"{name}_high": percent(figure.interval.high),
                f"{name}_n": str(figure.n),
            }
    return texts


def _shown_words(rows: Sequence[Measured], found: Figures, metric: str) -> str:
    figure = found.metrics.get(metric)
    return "" if figure is None or figure.row is None else rows[figure.row].words


def _at_smaller(row: Measured, epsilon: float) -> str:
    budget = row.budget
    return f", at {epsilon_text(*budget)}" if budget is not None and budget[1] < epsilon - 1e-9 else ""


def _flags(rows: Sequence[Measured], found: Figures) -> list[str]:
    shown = {figure.row for figure in found.metrics.values() if figure.row is not None}
    flags = {flag for i in (*found.behind, *shown) for flag in rows[i].flags} - {HEADLINE}
    flags |= set(found.unranked)
    if judged.weaker_than_known(found):
        flags.add(judged.STRONGER_ON_FEWER)
    return sorted(flags)


def threat_model(defense: Defense, norm: str, epsilon: str, rows: Iterable[Measured]) -> str:
    """The column `threat_model`: a sentence."""
    budget = f"{_NORMS[norm]} distance up to {epsilon} from the test image"
    count = len(defense.probabilities)
    if not any(row.direct and not row.clean for row in rows):
        return f"{budget}; the adversary knows other networks, and these only by what it has learned there."
    if count > 1:
        uniform = max(defense.probabilities) - min(defense.probabilities) < 1e-9
        draw = "uniformly" if uniform else "with known probabilities"
        return (
            f"{budget}; the adversary knows all {count} networks, their weights, and that one is drawn {draw} for each "
            "inference, but not which."
        )
    if defense.average:
        return f"{budget}; the adversary knows all networks, their weights, and that their answers are averaged."
    return f"{budget}; the adversary knows the network and its weights."


def _networks(defense: Defense, labels: Sequence[str], behind: Behind) -> Iterable[Network]:
    """labels: of members, as rows and matrices have them; networks of one ensemble share its label."""
    for seed, members in zip(defense.seeds, defense.networks, strict=True):
        flat = [(label, *network) for label, member in zip(labels, members, strict=True) for network in member]
        for label, key, checkpoint in flat:
            ratio = provenance.ratio_of(behind, key, checkpoint)
            yield Network(
                seed=seed,
                member=label,
                key=key,
                checkpoint=checkpoint,
                ratio=ratio,
                sha256=provenance.network_file(behind, key, checkpoint),
            )


def _row(number: int, row: Measured, found: Figures, norm: str, epsilon: float, behind: Behind) -> EntryRow:
    measurement = row.measurement
    budget = row.budget
    shown = [name for name, figure in found.metrics.items() if figure.row == number]
    return EntryRow(
        metrics=(*shown, *(["worst"] if number in found.behind else [])),
        label=row.words + row.against,
        attack=row.attack.kind if row.attack is not None else row.asked.cell.score,
        variant=row.asked.variant,
        stop=str(getattr(row.attack, "stop", "")),
        view=str(getattr(row.attack, "view", "")),
        epsilon="" if budget is None else epsilon_text(*budget),
        bounded=row.within(norm, epsilon),
        transfer=not row.direct,
        n=measurement.n,
        accuracy=percent(measurement.accuracy),
        low=percent(measurement.interval.low),
        high=percent(measurement.interval.high),
        interval=measurement.interval.kind,
        seeds=" ".join(str(seed.seed) for seed in measurement.seeds),
        flags=" ".join(sorted(row.flags)),
        images=tuple(tuple(digests for source in seed if (digests := behind.digests(source))) for seed in row.sources),
        cell=row.asked.cell,
    )


def _transfer(rows: Sequence[Measured]) -> Iterable[Transfer]:
    """Matrices of attacks that were made against several networks in turn, and that several judge."""
    for row in rows:
        cell = row.asked.cell
        if cell.score == "mean" and len(cell.sources) > 1 and len(cell.members) > 1:
            matrix = tuple(tuple(round(float(each), 4) for each in line) for line in row.measurement.matrix)
            yield Transfer(attack=row.words + row.against, sources=cell.sources, members=cell.members, matrix=matrix)


def _credited(found: Figures) -> Iterable[Challenge]:
    for each, fell in zip(found.credited, found.fell, strict=True):
        yield Challenge(by=each.by, key=each.key, images=len(each.index), fell=fell, date=each.handed_in)


def ranked(entries: Iterable[Entry]) -> list[Entry]:
    """The entries with their ranks, in the order of the CSV: by epsilon, rank, and worst case."""
    every = list(entries)
    counted = [each for each in every if not unranked(each)]
    found = []
    for each in every:
        rank = ""
        if not unranked(each):
            rivals = [other for other in counted if other.row["epsilon"] == each.row["epsilon"]]
            rank = str(1 + sum(float(other.row["worst"]) > float(each.row["worst"]) for other in rivals))
        found.append(each.model_copy(update={"row": {**each.row, "rank": rank}}))
    return sorted(found, key=_place)


def unranked(entry: Entry) -> list[str]:
    """Why an entry has no rank, as flags; empty if it has one."""
    return [flag for flag in entry.row["flags"].split() if flag.startswith("unranked:")]


def _place(entry: Entry) -> tuple[float, bool, int, float, str, str]:
    row = entry.row
    epsilon = epsilon_of(row["norm"], row["epsilon"])
    return epsilon, not row["rank"], int(row["rank"] or 0), -float(row["worst"]), row["name"], row["entry"]
