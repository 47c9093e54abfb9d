"""What a number means, and what it does not, in plain sentences with the numbers of the entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rstbench.report.leaderboard.figures import FEW_IMAGES, MASKED_GRADIENTS, NO_FITTING_ATTACK, STRONGER_ON_FEWER
from rstbench.report.leaderboard.schema import RANKED_IMAGES, Row
from rstbench.report.legend import legend
from rstbench.report.table import DATA_NOTES
from rstbench.spec.flags import RELIABILITY

RANDOM = (
    "A random switch is not a deterministic defense: at each inference one of its networks is drawn, and its numbers "
    "are expectations over the draw. Whoever may ask several times meets several networks."
)
WEAK = (
    "PGD-20 under the paper's stop rule is the paper's adversary, who attacks one network at a time and rests once it "
    "errs. Such images transfer badly, which flatters a switch. Beside it stand PGD-20 that never rests, AutoAttack, "
    "and the strongest adaptive adversary, who has all networks in hand. Judge a switch by those."
)
BOUND = (
    "The worst case is an upper bound on robust accuracy: for each image the strongest of the attacks that were run. "
    "An attack that was not run may find more."
)


_UNRANKED = {
    FEW_IMAGES: f"its worst case rests on fewer than {RANKED_IMAGES} test images",
    NO_FITTING_ATTACK: "no attack that has all networks, follows gradients and can be trusted had all of its images",
    MASKED_GRADIENTS: "an attack without gradients found more than all with them, which must be blind",
}
_FLAGS = _UNRANKED | {
    STRONGER_ON_FEWER: "attacks that were run on fewer images leave less standing there than the worst case does",
    DATA_NOTES: "remarks on the data apply; details.csv of the run has them",
}
"""Of a leaderboard; those of rows are `legend`'s."""


def drawn(row: Row) -> bool:
    """Whether a network is drawn at each inference: several members, and no average of them."""
    return int(row["members"] or 1) > 1 and row["defense"] != "ensemble"


def means(row: Row) -> list[str]:
    """What the numbers of an entry say."""
    interval = f"{row['worst']} % (95 % interval {row['worst_low']} to {row['worst_high']})"
    said = [
        f"One of {row['members']} networks is drawn at each inference. An adversary who knows all of them, but not the "
        f"draw, hands in one image; the strongest that was found for each of {row['worst_n']} test images is answered "
        f"right with an expected share of {interval}."
        if drawn(row)
        else f"Of {row['worst_n']} test images, {interval} are answered right under every attack that was run within "
        "this distance."
    ]
    if row["worst_tries"]:
        said.append(
            f"That is an upper bound on robust accuracy: the strongest of {row['worst_tries']} adversarial images for "
            "each test image. An attack that was not run may find more."
        )
    if drawn(row) and row["pgd20_paper"] and row["adaptive"]:
        gap = float(row["pgd20_paper"]) - float(row["adaptive"])
        said.append(
            f"Under the paper's adversary, who attacks one network at a time and rests once it errs, it stands at "
            f"{row['pgd20_paper']} %. The adaptive adversary {row['adaptive_attack']}, who has all networks in hand, "
            f"leaves {row['adaptive']} %{_gap(gap)}"
        )
    return said


def _gap(points: float) -> str:
    if points < 0.005:
        return ", not less."
    return f": {points:.2f} points less. It should be judged by the second number."


def means_not(row: Row, record: Mapping[str, Any] | None = None) -> list[str]:
    """What the numbers of an entry do not say. record: of the entry, which may know more."""
    return [*_limits(row), *_fewer((record or {}).get("fewer_images"))]


def _fewer(found: object) -> Iterator[str]:
    if isinstance(found, Mapping) and {"images", "worst", "with_all"} <= found.keys():
        yield (
            f"On {found['images']} of the images more attacks were run; there they bring the worst case from "
            f"{found['worst']} to {found['with_all']} %."
        )


def _limits(row: Row) -> Iterator[str]:
    if drawn(row):
        yield RANDOM + " How often an image is right on every draw is not what these numbers say."
    if not row["rank"]:
        why = [text for flag, text in _UNRANKED.items() if flag in row["flags"].split()]
        yield f"It has no rank{': ' if why else ''}{'; '.join(why)}."
    for column, name in (("autoattack", "AutoAttack"), ("adaptive", "An adaptive attack")):
        if not row[column]:
            yield f"{name} was not run."
        elif int(row[f"{column}_n"]) < int(row["n"] or 0):
            yield (
                f"{name} had {row[f'{column}_n']} of the {row['n']} images: a wider interval, and no part of the worst "
                "case."
            )
    if len(row["seeds"].split()) == 1:
        yield "One seed: intervals cover the choice of test images, not the luck of training and search."
    if row["profile"] and row["profile"] != "paper":
        yield f"Profile {row['profile']}: a smaller setting than the paper's, so no test of the paper's claims."


def flags(row: Row) -> list[tuple[str, str, bool]]:
    """The flags of an entry, what each means, and whether it casts doubt on a number."""
    found = legend({"flags": [row["flags"]]})
    doubtful = {*RELIABILITY, *_UNRANKED, STRONGER_ON_FEWER}
    return [(flag, _FLAGS.get(flag, meaning), flag in doubtful) for flag, meaning in found]
