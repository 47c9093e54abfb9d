"""Attacks as suites write them: defaults, units, and what is written out before a key is made of them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from rstbench.errors import SpecError
from rstbench.spec.attacks import (
    BLACK_BOX,
    NOT_CRAFTED,
    ApgdSpec,
    ArcSpec,
    AutoAttackSpec,
    BanditsSpec,
    CraftedSpec,
    CwInfSpec,
    CwL2Spec,
    FgsmSpec,
    PgdSpec,
    SquareSpec,
)
from rstbench.spec.battery import attack_spec
from rstbench.spec.budgets import budget, judged_within, passes, reported_budget, written_out
from rstbench.spec.derived import DERIVED


def of(kind: str, **fields: Any) -> Any:
    return attack_spec({"kind": kind, **fields}, kind)


def test_published_settings_are_the_defaults() -> None:
    assert of("pgd") == PgdSpec(kind="pgd", steps=20, restarts=1, stop="never", start="uniform", epsilon="8/255")
    assert of("apgd") == ApgdSpec(kind="apgd", steps=100, loss="ce", restarts=1, keep="fooling")
    found = of("autoattack")
    assert isinstance(found, AutoAttackSpec)
    assert (found.steps, found.square_queries, found.eot_queries) == (100, 5000, 20)
    cw = of("cw_l2")
    assert isinstance(cw, CwL2Spec)
    assert (cw.binary_search_steps, cw.iterations, cw.initial_const, cw.lr) == (1, 100, 0.1, 0.01)
    square, bandits, arc = of("square"), of("bandits"), of("arc")
    assert isinstance(square, SquareSpec) and (square.queries, square.p_init) == (5000, 0.8)
    assert isinstance(bandits, BanditsSpec) and bandits.queries == 10000
    assert isinstance(arc, ArcSpec) and arc.epsilon == "8/255"


@pytest.mark.parametrize("kind", ["pgd", "apgd", "autoattack", "square", "bandits", "arc", "hinge"])
def test_units_follow_the_norm(kind: str) -> None:
    assert of(kind, norm="l2", epsilon=1).epsilon == 1.0
    assert of(kind, epsilon="16/510").epsilon == "8/255"
    for wrong in ({"norm": "l2"}, {"norm": "l2", "epsilon": "8/255"}, {"epsilon": 0.03}, {"norm": "l1"}):
        with pytest.raises(ValidationError):
            type(of(kind)).model_validate({"kind": kind, **wrong})


@pytest.mark.parametrize("kind", ["fgsm", "fgsm_rs", "cw_inf"])
def test_attacks_of_one_norm(kind: str) -> None:
    assert of(kind).norm == "linf"
    with pytest.raises(ValidationError):
        type(of(kind)).model_validate({"kind": kind, "norm": "l2", "epsilon": 0.5})


@pytest.mark.parametrize(
    "kind, fields, cifar, step",
    [
        ("fgsm", {}, True, "8/255"),
        ("fgsm", {"epsilon": "4/255"}, False, "4/255"),
        ("fgsm_rs", {}, True, "2/51"),  # 10/255
        ("fgsm_rs", {"epsilon": "1"}, True, "1/1"),
        ("fgsm", {"step_size": "1/255"}, True, "1/255"),
        ("pgd", {"epsilon": "16/255"}, True, "2/255"),
        ("pgd", {"epsilon": "16/255"}, False, "4/255"),
        ("pgd", {"norm": "l2", "epsilon": 0.5, "steps": 10}, True, 0.125),
        ("cw_inf", {"form": "bounded", "epsilon": "4/255"}, True, "8/255"),
        ("cw_inf", {"form": "penalty"}, True, None),
    ],
)
def test_step_sizes_written_out(kind: str, fields: dict[str, Any], cifar: bool, step: str | float | None) -> None:
    full = written_out(of(kind, **fields), cifar)
    assert full.step_size == step
    assert written_out(full, not cifar) == full


@pytest.mark.parametrize(
    "norm, epsilon, expected", [("linf", "8/255", (0.1, 0.01, 100.0, 1.0)), ("l2", 0.5, (0.01, 0.5, 0.1, 0.01))]
)
def test_settings_of_bandits_follow_the_norm(norm: str, epsilon: str | float, expected: tuple[float, ...]) -> None:
    full = written_out(of("bandits", norm=norm, epsilon=epsilon), cifar=True)
    assert isinstance(full, BanditsSpec)
    assert (full.fd_eta, full.image_lr, full.online_lr, full.exploration) == expected and full.tile is None
    own = written_out(of("bandits", norm=norm, epsilon=epsilon, fd_eta=0.5), cifar=True)
    assert isinstance(own, BanditsSpec) and (own.fd_eta, own.image_lr) == (0.5, expected[1])


@pytest.mark.parametrize(
    "kind, fields, kept, limit, reported",
    [
        ("pgd", {}, ("linf", 8 / 255), None, ("linf", "8")),
        ("pgd", {"norm": "l2", "epsilon": 0.5}, ("l2", 0.5), None, ("l2", "0.5")),
        ("fgsm", {"epsilon": "1/510"}, ("linf", 1 / 510), None, ("linf", "0.5")),
        ("cw_l2", {}, None, None, ("l2", "")),
        ("cw_l2", {"within_epsilon": 0.5}, None, ("l2", 0.5), ("l2", "0.5")),
        ("cw_inf", {}, None, None, ("linf", "8")),
        ("cw_inf", {"within_epsilon": True}, None, ("linf", 8 / 255), ("linf", "8")),
        ("cw_inf", {"form": "bounded"}, ("linf", 8 / 255), None, ("linf", "8")),
        ("arc", {"norm": "l2", "epsilon": 1.0}, ("l2", 1.0), None, ("l2", "1")),
        ("autoattack", {"epsilon": "0"}, ("linf", 0.0), None, ("linf", "0")),
    ],
)
def test_budgets(
    kind: str,
    fields: dict[str, Any],
    kept: tuple[str, float] | None,
    limit: tuple[str, float] | None,
    reported: tuple[str, str],
) -> None:
    spec = of(kind, **fields)
    assert (budget(spec), judged_within(spec), reported_budget(spec)) == (kept, limit, reported)


@pytest.mark.parametrize(
    "kind, fields, expected",
    [
        ("fgsm", {}, 2), ("pgd", {"steps": 10, "restarts": 3}, 60), ("apgd", {"steps": 10, "restarts": 2}, 44),
        ("pgd", {"steps": 10, "stop": "source_fooled"}, 10), ("cw_inf", {"steps": 30, "form": "bounded"}, 60),
        ("cw_l2", {"iterations": 50, "binary_search_steps": 2, "abort_early": False}, 200),
        ("cw_l2", {"iterations": 50, "binary_search_steps": 2}, 25), ("cw_inf", {"steps": 30}, 30),
        ("square", {"queries": 70}, 35), ("bandits", {"queries": 70}, 35),
        ("autoattack", {"version": "rand", "steps": 9, "eot_queries": 2}, 80),
    ],
)  # fmt: skip
def test_passes(kind: str, fields: dict[str, Any], expected: float) -> None:
    assert passes(of(kind, **fields)) == expected


def test_costs_of_autoattack_and_arc_grow_with_their_settings() -> None:
    assert passes(of("autoattack")) > passes(of("autoattack", steps=50)) > passes(of("autoattack", steps=1)) > 2500
    assert passes(of("arc", steps=4)) == 2 * passes(of("arc", steps=2)) > 0


def test_a_minimum_norm_attack_has_no_epsilon() -> None:
    with pytest.raises(ValidationError, match="epsilon"):
        CwL2Spec.model_validate({"kind": "cw_l2", "epsilon": 0.5})
    assert not hasattr(of("cw_l2"), "epsilon") and of("cw_l2").norm == "l2"


def test_kinds_are_told_apart() -> None:
    kinds = [kind for spec in CraftedSpec.__args__ for kind in spec.model_fields["kind"].annotation.__args__]
    assert len(set(kinds)) == len(kinds) and not set(kinds) & {*DERIVED, "clean"} and set(BLACK_BOX) < set(kinds)
    assert {FgsmSpec, CwInfSpec} <= set(CraftedSpec.__args__)
    for spec in CraftedSpec.__args__:
        # What is left out of keys is of the table or the judgement, and never of the images.
        assert NOT_CRAFTED & set(spec.model_fields) >= {"report_as", "variant", "headline"}


def test_a_single_unlucky_draw_may_not_end_an_attack() -> None:
    with pytest.raises(SpecError, match="unlucky draw"):
        attack_spec({"kind": "pgd", "view": "switch", "stop": "source_fooled"}, "pgd")
