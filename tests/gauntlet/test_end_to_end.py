"""Known answers through `rstbench.evaluate`: the battery reaches the optimum, or says why its numbers are not it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rstbench
from rstbench.api import POINTWISE
from rstbench.attacks.threat import Threat
from rstbench.spec.flags import RELIABILITY
from tests.attacks.networks import images, linear
from tests.gauntlet.planted import (
    Detached,
    Detector,
    Masked,
    Noisy,
    Probabilities,
    Quantised,
    Saturated,
    eight_bit,
    falls,
    random_ensemble,
)

PIXELS, CLASSES, COUNT = 48, 5, 64
EPSILON = "4/255"
THREAT = Threat("linf", 4 / 255)
WEIGHT = torch.randn(CLASSES, PIXELS, generator=torch.Generator().manual_seed(1)) * 3
BIAS = -WEIGHT.sum(1) / 2
HONEST = linear(WEIGHT, BIAS)
OTHER = linear(torch.randn(CLASSES, PIXELS, generator=torch.Generator().manual_seed(9)), torch.zeros(CLASSES))
INPUTS = eight_bit(0.2 + 0.6 * images(COUNT, side=4))
LABELS = HONEST(INPUTS).argmax(1)
LABELS[:4] = (LABELS[:4] + 1) % CLASSES
TRUTH = 100 * float(
    (~falls(WEIGHT, BIAS, INPUTS, LABELS, THREAT) & (HONEST(INPUTS).argmax(1) == LABELS)).double().mean()
)
"""Robust accuracy of the honest network, in percent: exact."""
IMAGE = 100 / COUNT
REACHED = TRUTH + IMAGE + 1e-9
TELLING = RELIABILITY.keys() - {"reduced_budget", "training_mode"}
"""Flags that say that a number is too high, or may be."""

BANDITS: dict[str, Any] = {"kind": "bandits", "queries": 2500, "epsilon": EPSILON}
BATTERY: tuple[Any, ...] = ("fgsm", "pgd20", "apgd_ce", "apgd_dlr", "cw_inf", BANDITS)


def evaluated(
    model: nn.Module, attacks: tuple[Any, ...] = BATTERY, inputs: Tensor = INPUTS
) -> dict[str, dict[str, Any]]:
    frame = rstbench.evaluate(model, inputs, LABELS, attacks, epsilon=EPSILON)
    return {row["attack"]: row | {"flags": set(row["flags"].split())} for row in frame.to_dict("records")}


def test_the_problem_has_an_answer_worth_finding() -> None:
    assert 20 < TRUTH < 70


def test_a_sound_network_raises_no_flag_and_falls_as_far_as_it_can() -> None:
    rows = evaluated(HONEST)
    assert rows[POINTWISE]["accuracy"] == pytest.approx(TRUTH)
    for name in ("pgd20", "apgd_ce", "apgd_dlr", "cw_inf"):
        assert rows[name]["accuracy"] == pytest.approx(TRUTH, abs=IMAGE + 1e-9), name
    assert {flag for row in rows.values() for flag in row["flags"]} - {"reduced_budget"} == set()


@pytest.mark.parametrize(
    "planted, flag, raised_by",
    [
        (Masked(HONEST), "loss_not_rising", {"pgd20", "cw_inf"}),
        (Masked(HONEST, OTHER), "black_box_beats_white_box", {"bandits"}),
        (Quantised(HONEST), "zero_gradients", {"fgsm", "pgd20", "apgd_ce", "apgd_dlr", "cw_inf"}),
        (Saturated(HONEST), "zero_gradients", {"fgsm", "pgd20", "apgd_ce"}),
        (Noisy(HONEST, 0.01), "randomised_output", {"fgsm", "pgd20", "apgd_ce", "apgd_dlr", "cw_inf"}),
        (Probabilities(Saturated(HONEST, 100.0)), "softmax_output", {"fgsm", "pgd20", "apgd_ce", "apgd_dlr", "cw_inf"}),
        (Detached(HONEST), "zero_gradients", {"fgsm", "pgd20", "apgd_ce", "apgd_dlr", "cw_inf"}),
        (Detector(HONEST), "constant_output", {"pgd20", "apgd_ce", "apgd_dlr", "cw_inf"}),
    ],
    ids=["reversed", "borrowed", "quantised", "saturated", "noise", "probabilities", "detached", "detector"],
)
def test_planted_defenses(planted: nn.Module, flag: str, raised_by: set[str]) -> None:
    """The planted fault raises its own flag; and the worst case reaches the truth, or every row above it is flagged."""
    rows = evaluated(planted.eval())
    assert raised_by <= {name for name, row in rows.items() if flag in row["flags"]}
    silent = [
        name
        for name, row in rows.items()
        if name not in ("none", POINTWISE) and row["accuracy"] > REACHED and not row["flags"] & TELLING
    ]
    assert rows[POINTWISE]["accuracy"] <= REACHED or (not silent and rows[POINTWISE]["flags"] & TELLING)


def test_a_worst_case_over_misled_attacks_says_so() -> None:
    # APGD and FGSM are misled in silence here; PGD and CW-Inf are not.
    rows = evaluated(Masked(HONEST).eval(), ("fgsm", "fgsm_rs", "pgd20", "apgd_ce", "cw_inf"))
    assert rows[POINTWISE]["accuracy"] > REACHED
    assert "loss_not_rising" in rows[POINTWISE]["flags"]


def test_black_boxes_see_through_masked_gradients() -> None:
    for planted in (Masked(HONEST), Masked(HONEST, OTHER), Saturated(HONEST), Detached(HONEST)):
        assert evaluated(planted.eval())[POINTWISE]["accuracy"] <= REACHED


# ---- ensembles of linear classifiers ---------------------------------------------------------------------------------

ADAPTIVE: tuple[Any, ...] = (
    "arc", "hinge", {"kind": "pgd", "steps": 100, "view": "eot", "restarts": 2, "report_as": "eot"},
    {"kind": "pgd", "steps": 100, "view": "eot", "expectation": "mean_unit_gradient", "report_as": "eot_unit"},
    {"kind": "pgd", "steps": 50, "view": "ensemble", "report_as": "ensemble"}, "pgd50",
)  # fmt: skip


@pytest.mark.parametrize("norm, epsilon", [("linf", "26/255"), ("l2", 0.35)])
def test_linear_ensembles(norm: str, epsilon: str | float) -> None:
    """Against the optimum by brute force over all sets of members that can be fooled at once."""
    threat = Threat(norm, 26 / 255 if norm == "linf" else 0.35)  # type: ignore[arg-type]
    solved = missed = interesting = 0
    for seed in range(15):
        ensemble = random_ensemble(seed, members=3, classes=3, pixels=8)
        optimum, alone = ensemble.optimum(threat), ensemble.alone(threat)
        if optimum is None or alone is None:
            continue
        attacks = [{**each, "norm": norm, "epsilon": epsilon} if isinstance(each, dict) else each for each in ADAPTIVE]
        frame = rstbench.evaluate(
            ensemble.members, ensemble.image, ensemble.label, attacks, norm=norm, epsilon=epsilon,
            probabilities=ensemble.probabilities,
        )  # fmt: skip
        worst = frame.accuracy.iloc[-1] / 100
        assert frame.attack.iloc[-1] == POINTWISE and worst >= optimum - 1e-6
        solved += 1
        missed += worst > optimum + 1e-6
        interesting += 0 < optimum < alone - 1e-6
    assert solved >= 9 and interesting >= 1
    assert missed == 0
