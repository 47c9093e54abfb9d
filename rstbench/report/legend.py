"""What is said around the printed table: substitutes, counts, intervals, adversaries, flags."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rstbench.plan import Plan, PlannedCell, label_of
from rstbench.report.layout import METRICS, letter
from rstbench.report.statistics import LEVEL
from rstbench.report.table import DATA_NOTES, HEADLINE, NOT_RUN, Counts
from rstbench.spec.budgets import epsilon_text
from rstbench.spec.flags import RELIABILITY


def substituted(plan: Plan) -> list[str]:
    """What the profile runs in place of the suite's own setting, as clauses; empty if nothing."""
    paper, run = plan.suite.paper, plan.suite.run
    clauses: list[str] = []
    for flag, axis, before, after in (
        ("substitute:data", "dataset", paper.datasets, run.datasets),
        ("substitute:network", "network", paper.networks, run.networks),
    ):
        names = dict.fromkeys(cell.columns[axis] for cell in plan.cells)
        if _flagged(plan, flag):
            changed = [n for n in names if n in before and before[n] != after[n]]
            # The same source cut otherwise has the same label.
            pairs = [
                f"{n} -> {label_of(after[n])}" if label_of(after[n]) != n else f"{n} (cut otherwise)" for n in changed
            ]
            clauses.append(f"{'data' if flag.endswith('data') else 'networks'} {', '.join(pairs)}")
    schedules = [cell.columns["defense"] for cell in plan.cells if "substitute:schedule" in cell.substitutes]
    if schedules:
        clauses.append(f"the training or search schedule of {', '.join(dict.fromkeys(schedules))}")
    for what, keys in (
        ("attack", [c.attack_key for c in plan.cells if "substitute:attack" in c.substitutes and not c.values]),
        ("measure", [c.columns["metric"] for c in plan.cells if "substitute:attack" in c.substitutes and c.values]),
    ):
        if keys:
            clauses.append(f"settings of the {what} {', '.join(dict.fromkeys(keys))}")
    if _flagged(plan, "substitute:seeds"):
        clauses.append(f"seeds {' '.join(map(str, run.seeds))} for {' '.join(map(str, paper.seeds))}")
    defenses = [cell.columns["defense"] for cell in plan.cells if "substitute:defense" in cell.substitutes]
    if defenses:
        clauses.append(f"settings of the defense {', '.join(dict.fromkeys(defenses))}")
    return clauses


def setting_sentence(plan: Plan) -> str:
    """What was substituted, in a plain sentence."""
    clauses = substituted(plan)
    if not clauses:
        return "Nothing is substituted: this is the setting that the suite declares."
    return (
        f"In place of the suite's own setting it uses: {'; '.join(clauses)}. "
        "Cells with substitutes are not in the paper's setting, and their numbers no test of its claims."
    )


def _flagged(plan: Plan, flag: str) -> bool:
    return any(flag in cell.substitutes for cell in plan.cells)


def count_sentences(answering: Counts, further: Counts) -> list[str]:
    """The three counts, for cells that answer the paper and for further rows, each in a sentence."""
    sentences = []
    for what, where, counts in (
        ("Cells that answer the paper", "in the paper's setting", answering),
        ("Further rows (variants, or not in the paper)", "exactly as declared", further),
    ):
        if counts.declared:
            sentences.append(
                f"{what}: {counts.declared} declared; {counts.with_substitutes} run with substitutes; "
                f"{counts.as_declared} run {where}."
            )
    return sentences


_INTERVALS = {
    "wilson": "Wilson's interval (one deterministic defense, every image right or wrong): covers the choice of test "
    "images, not what another seed would give",
    "bootstrap": "percentile bootstrap over images (scores are means over members, or distances): covers the choice of "
    "test images, not what another seed would give",
    "t over seeds": "Student's t over the means of the seeds: covers what other seeds would give on these images",
}


def interval_sentence(kinds: Iterable[str]) -> str:
    """What the brackets mean, for the kinds of interval that occur; empty if none does."""
    clauses = [text for kind, text in _INTERVALS.items() if kind in set(kinds)]
    if not clauses:
        return ""
    return f"Brackets hold {100 * LEVEL:.0f} % intervals. " + " ".join(f"{c[0].upper()}{c[1:]}." for c in clauses)


_SCORES = {
    "worst_source": "Worst source: of all members that images are made against, the one that does most damage, chosen "
    "once for all images, and on these images.",
    "any_of": "Any of {tries} tries: each draws its source and the member that answers anew; an image survives only if "
    "every answer is right.",
    "pointwise": "Pointwise worst case: for each image the attack and source that leave the lowest expected accuracy.",
    "game": "Game: the defense commits to member probabilities, fitted on held-out images, and the adversary, knowing "
    "them, picks the worst attack and source for each image. The number is an upper bound on the robust accuracy of "
    "that mixture of members: stronger images would lower it.",
    "game of members": "Game of a single member: the same adversary and the same images, but the defense commits to "
    "one member, the one that does best on the held-out images.",
}


def score_sentences(plan: Plan) -> list[str]:
    """What the numbers of adversaries are that choose among the images of attacks, for those that occur."""
    scores = dict.fromkeys((_score(cell), cell.tries) for cell in plan.cells if cell.score in _SCORES)
    return [_SCORES[score].format(tries=tries) for score, tries in scores]


def _score(cell: PlannedCell) -> str:
    return "game of members" if cell.commits == "member" else cell.score


_MEASURES = {
    "parameters": "millions of parameters that the defense keeps, the classifier and batch norm's scale and shift "
    "counted, buffers not",
    "feature_distance": "distance between the feature maps of clean and noisy images, |z(x + noise) - z(x)| / |z(x)| "
    "(L2, z: output of the last convolution), mean over images; noise {noises}. The paper defines neither distance nor "
    "noise; these are ours",
    "mask_overlap": "|A and B| / |A or B| of the weights that two masks keep, mean over all pairs of members",
}
_BYTES = {
    "files": "bytes of the files that the defense takes (seed, compressed masks and batch norm's buffers, or fp32 "
    "weights); what members share counts once",
    "masks": "bytes of the masks alone, compressed as they are stored",
    "shared_weights": "bytes of the fp32 weights (all of them, without buffers) that members are drawn from, equal "
    "random weights once",
    "raw_masks": "bytes of the masks alone, one bit for each weight that is masked",
    "separate_weights": "bytes of fp32 weights (all of them, without buffers) of each member for itself: what a "
    "defense takes that shares nothing",
}


def measure_sentences(plan: Plan) -> list[str]:
    """What the rows that are no accuracies say, a sentence for each metric that occurs."""
    found: dict[tuple[str, str], list[str]] = {}
    for cell in plan.cells:
        if cell.values:
            spec = plan.nodes[cell.values[0]].spec["measure"]
            text = _BYTES[spec["of"]] if spec["kind"] == "bytes" else _MEASURES[spec["kind"]]
            label = METRICS.get(cell.columns["metric"], cell.columns["metric"])
            noises = found.setdefault((label, text), [])
            if spec["kind"] == "feature_distance":
                noises.append(f"{spec['noise']} {epsilon_text(spec['epsilon'])}/255")
    return [
        f"{label}: {text.format(noises=', '.join(dict.fromkeys(noises)))}." for (label, text), noises in found.items()
    ]


_LEGEND = {
    HEADLINE: "the row that rstbench stands behind, in bold",
    NOT_RUN: "not all of its results are in the store",
    DATA_NOTES: "remarks on the data apply; they stand above, and in details.csv",
    "substitute:data": "another data set than the suite's own setting",
    "substitute:network": "another network, or another width",
    "substitute:schedule": "another training or search schedule",
    "substitute:defense": "other settings of the defense, such as its ratios",
    "substitute:attack": "other settings of the attack or measure, or fewer test images",
    "substitute:seeds": "other seeds",
}
_HALVED = re.compile(r"batch:halved_to_(\d+)")


def legend(frame: Any) -> list[tuple[str, str]]:
    """The flags that occur in the frame, those of reliability first, and what each means."""
    occurring = {flag for flags in frame["flags"] for flag in flags.split()}
    reliability = [flag for flag in RELIABILITY if flag in occurring]
    return [(flag, _meaning(flag)) for flag in (*reliability, *sorted(occurring - set(reliability)))]


def marks(frame: Any) -> list[str]:
    """What the marks beside numbers mean, for those that occur."""
    return [f"†{letter(flag)}: {meaning}" for flag, meaning in legend(frame) if flag in RELIABILITY]


def _meaning(flag: str) -> str:
    if flag in RELIABILITY:
        return RELIABILITY[flag]
    halved = _HALVED.fullmatch(flag)
    if halved:
        return f"memory was short: batches of {halved[1]} images, so last bits may differ"
    return _LEGEND.get(flag, "see the record of the node in the store")
