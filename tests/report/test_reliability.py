from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from rstbench.plan import PlannedCell
from rstbench.report.measure import CellResult, Measurement, SeedMeasurement
from rstbench.report.reliability import reliability
from rstbench.report.scores import score
from rstbench.report.statistics import wilson
from rstbench.spec.attacks import (
    ApgdSpec,
    AutoAttackSpec,
    BanditsSpec,
    CleanSpec,
    CwInfSpec,
    CwL2Spec,
    FgsmSpec,
    PgdSpec,
    SquareSpec,
)
from rstbench.spec.derived import AttackSpec, GameSpec, PointwiseSpec

ATTACKS: Mapping[str, AttackSpec] = {
    "clean": CleanSpec(),
    "fgsm": FgsmSpec(kind="fgsm"),
    "pgd1": PgdSpec(kind="pgd", steps=1),
    "pgd20": PgdSpec(kind="pgd"),
    "pgd20_16": PgdSpec(kind="pgd", epsilon="16/255"),
    "pgd_l2": PgdSpec(kind="pgd", norm="l2", epsilon=0.5),
    "apgd": ApgdSpec(kind="apgd"),
    "cw_inf": CwInfSpec(kind="cw_inf"),
    "cw_inf_within": CwInfSpec(kind="cw_inf", within_epsilon=True),
    "cw_l2": CwL2Spec(kind="cw_l2"),
    "autoattack": AutoAttackSpec(kind="autoattack"),
    "rand": AutoAttackSpec(kind="autoattack", version="rand"),
    "square": SquareSpec(kind="square"),
    "bandits_l2": BanditsSpec(kind="bandits", norm="l2", epsilon=0.5),
    "pointwise": PointwiseSpec(kind="pointwise", over=("fgsm", "pgd20")),
    "game": GameSpec(kind="game", over=("pgd20",)),
}

Bits = Sequence[Sequence[str]]
"""By source and member: right or wrong on each image, e.g. "1101"."""


def result(
    attack: str, bits: str | Bits, index: Sequence[int] | None = None, sources: tuple[str, ...] = (), **columns: str
) -> CellResult:
    """A measured cell; a text is one member's predictions on one source's images."""
    rows = [[bits]] if isinstance(bits, str) else bits
    right = np.array([[[bit == "1" for bit in one] for one in row] for row in rows]).transpose(0, 2, 1)
    members = tuple(map(str, range(right.shape[2])))
    spec = ATTACKS[attack]
    kind = spec.kind if spec.kind in ("pointwise", "game") else "mean"
    cell = PlannedCell(
        {"defense": "rst", "attack": attack, "attack_source": "", **columns},
        {},
        (0,),
        (),
        sources or (("clean",) if attack == "clean" else members if len(right) == len(members) else ("eot",)),
        members,
        (1 / len(members),) * len(members),
        attack,
        False,
        (),
        kind,
        attack_kind=spec.kind,
    )
    scores = score(cell, right, right if kind == "game" else None).scores
    where = np.arange(right.shape[1]) if index is None else np.array(index)
    seed = SeedMeasurement(0, where, right, scores)
    return CellResult(cell, (seed,), Measurement(seed.accuracy, wilson(0, 1), len(scores), (seed,), seed.matrix))


def flags(*results: CellResult) -> dict[str, set[str]]:
    found = reliability(results, ATTACKS, {})
    return {each.cell.attack_key: set(said) for each, said in zip(results, found, strict=True) if said}


BEATEN = {"black_box_beats_white_box"}


def test_sound_results_raise_nothing() -> None:
    sound = (
        result("clean", "1111"), result("fgsm", "1110"), result("pgd20", "1100"), result("autoattack", "1000"),
        result("square", "1100"), result("pointwise", [["1111"], ["1110"], ["1000"]]),
    )  # fmt: skip
    assert flags(*sound) == {}


@pytest.mark.parametrize("white", ["pgd20", "apgd", "rand", "cw_inf_within"])
def test_a_black_box_below_the_white_boxes_marks_both(white: str) -> None:
    found = flags(result("square", "1000"), result(white, "1110"), result("fgsm", "1111"))
    assert found == {"square": BEATEN, white: BEATEN}


def test_a_single_image_masks_nothing() -> None:
    assert flags(result("square", "1000"), result("pgd20", "1100")) == {}
    # Two of a thousand are as much as AutoAttack lets pass.
    assert flags(result("square", "1" * 998 + "00"), result("pgd20", "1" * 1000)) == {}
    assert flags(result("square", "1" * 997 + "000"), result("pgd20", "1" * 1000)) != {}


def test_the_black_box_must_be_ahead_of_every_white_box() -> None:
    assert flags(result("pgd20", "111111"), result("square", "110000"), result("apgd", "111100")) == {
        "square": BEATEN,
        "pgd20": BEATEN,
        "apgd": BEATEN,
    }
    assert flags(result("pgd20", "1111"), result("square", "1100"), result("apgd", "0011")) == {}


@pytest.mark.parametrize("other", ["fgsm", "pgd1", "pgd20_16", "pgd_l2", "cw_inf", "cw_l2", "autoattack"])
def test_what_no_black_box_can_be_held_against(other: str) -> None:
    # One step, another budget, images that keep none, or Square within AutoAttack.
    assert flags(result("square", "1000"), result(other, "1110")) == {}


def test_norms_are_kept_apart() -> None:
    found = flags(result("bandits_l2", "1000"), result("pgd_l2", "1110"), result("pgd20", "1111"))
    assert found == {"bandits_l2": BEATEN, "pgd_l2": BEATEN}


def test_only_common_images_are_compared() -> None:
    # On all its images PGD leaves 50 %, on the three that Square had, nothing.
    square = result("square", "100", index=[7, 3, 9])
    assert flags(square, result("pgd20", "000111", index=[3, 7, 9, 1, 2, 4])) == {}
    assert flags(square, result("pgd20", "111000", index=[3, 7, 9, 1, 2, 4])) == {"square": BEATEN, "pgd20": BEATEN}
    assert flags(square, result("pgd20", "1111", index=[0, 1, 2, 4])) == {}


def test_other_defenses_and_transfers_are_left_out() -> None:
    square = result("square", "1000")
    assert flags(square, result("pgd20", "1110", defense="dense")) == {}
    assert flags(square, result("pgd20", "1110", attack_source="dense")) == {}
    assert flags(result("square", "1000", attack_source="dense"), result("pgd20", "1110")) == {}


def test_more_right_under_attack_than_without() -> None:
    found = flags(result("clean", "1100"), result("pgd20", "1110"), result("cw_l2", "1100"))
    assert found == {"pgd20": {"robust_above_clean", "order_violated"}}
    # On the images that both have, it is below.
    assert flags(result("clean", "0011"), result("cw_l2", "11", index=[2, 3])) == {}
    assert flags(result("clean", "0011"), result("cw_l2", "11", index=[0, 3])) == {"cw_l2": {"robust_above_clean"}}


def test_the_game_is_another_mixture_and_may_be_above() -> None:
    clean = result("clean", [["11", "00"]])
    game = result("game", [["11", "00"]], sources=("clean",))
    assert flags(clean, game) == {}


def test_a_stronger_attack_that_leaves_more_is_marked() -> None:
    violated = {"order_violated"}
    assert flags(result("fgsm", "1000"), result("pgd20", "1100")) == {"pgd20": violated}
    assert flags(result("autoattack", "1100"), result("pgd20", "1000")) == {"autoattack": violated}
    assert flags(result("autoattack", "1100"), result("fgsm", "1000")) == {"autoattack": violated}
    # Not ranked: another budget, one step, another norm.
    for other in ("pgd20_16", "pgd1", "pgd_l2"):
        assert flags(result("fgsm", "1000"), result(other, "1100")) == {}


def test_a_pointwise_worst_case_is_below_what_it_chooses_from() -> None:
    pointwise = result("pointwise", [["1100"]])
    assert flags(pointwise, result("fgsm", "1000")) == {"pointwise": {"order_violated"}}
    assert flags(pointwise, result("pgd20", "1000"), result("fgsm", "1100")) == {"pointwise": {"order_violated"}}
    assert flags(pointwise, result("autoattack", "1000")) == {}


def test_a_switch_attacked_through_its_members_is_compared_on_the_diagonal() -> None:
    # FGSM's images carry over better, PGD's fool their own source more often: nothing is wrong.
    fgsm = result("fgsm", [["1100", "0000"], ["0000", "1100"]])
    pgd = result("pgd20", [["1000", "1111"], ["1111", "1000"]])
    assert flags(fgsm, pgd) == {}
    weak = result("pgd20", [["1110", "0000"], ["0000", "1100"]])
    assert flags(fgsm, weak) == {"pgd20": {"order_violated"}}
    pgd = result("pgd20", [["1100", "1111"], ["1111", "1100"]])
    square = result("square", [["0000", "1111"], ["1111", "0000"]])
    assert flags(pgd, square) == {"square": BEATEN, "pgd20": BEATEN}


def test_views_of_a_switch_are_not_mixed() -> None:
    through_members = result("fgsm", [["1000", "0000"], ["0000", "1000"]])
    eot = result("pgd20", [["1111", "1111"]], sources=("eot",))
    ensemble = result("autoattack", [["1111", "1111"]], sources=("ensemble",))
    assert flags(through_members, eot, ensemble) == {}
    assert flags(result("fgsm", [["1000", "0000"]], sources=("eot",)), eot) == {"pgd20": {"order_violated"}}
    # A black box that asks the switch itself is held against any adversary of the whole switch.
    asked = result("square", [["1000", "1000"]], sources=("switch",))
    assert flags(asked, eot) == {"square": BEATEN, "pgd20": BEATEN}
    assert flags(asked, result("pgd20", [["1111", "1111"], ["1111", "1111"]])) == {}


def test_cells_that_were_not_measured_are_left_out() -> None:
    clean, attacked = result("clean", "1000"), result("pgd20", "1100")
    missing: Any = CellResult(clean.cell, (None,), None)
    assert flags(missing, attacked) == {}
