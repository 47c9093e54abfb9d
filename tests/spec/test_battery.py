"""Attacks by name."""

from __future__ import annotations

import pytest

from rstbench.errors import SpecError
from rstbench.spec.attacks import (
    AutoAttackSpec,
    CleanSpec,
    CraftedSpec,
    CwL2Spec,
    PgdSpec,
)
from rstbench.spec.battery import NAMES, SINGLE, SWITCHING, attack_spec, battery, budget_value, named_attack
from rstbench.spec.budgets import reported_budget, written_out


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_an_attack_in_a_norm(name: str) -> None:
    norms = {"pgd_l2": ("l2",), "fgsm": ("linf",), "fgsm_rs": ("linf",), "cw_inf": ("linf",)}
    norms["cw_inf_penalty"] = ("linf",)
    for norm, epsilon, text in (("linf", "4/255", "4"), ("l2", 0.25, "0.25")):
        if norm not in norms.get(name, ("linf", "l2")):
            with pytest.raises(SpecError, match=f"attack '{name}' is of norm"):
                named_attack(name, norm, epsilon)
            continue
        spec = named_attack(name, norm, epsilon)
        if name == "none":
            assert isinstance(spec, CleanSpec)
        else:
            assert isinstance(spec, CraftedSpec)
            assert reported_budget(spec) == (("l2", "") if (name, norm) == ("cw_l2", "linf") else (norm, text))
            assert written_out(spec, cifar=True).kind == spec.kind


@pytest.mark.parametrize(
    "name, steps, view", [("pgd7", 7, "member"), ("eot_pgd100", 100, "eot"), ("ensemble_pgd1", 1, "ensemble")]
)
def test_any_number_of_steps(name: str, steps: int, view: str) -> None:
    spec = named_attack(name)
    assert isinstance(spec, PgdSpec) and (spec.steps, spec.view) == (steps, view)


def test_minimum_norm_counts_within_epsilon_in_its_own_norm_only() -> None:
    near, far = named_attack("cw_l2", "l2", 0.5), named_attack("cw_l2", "linf", "8/255")
    assert isinstance(near, CwL2Spec) and near.within_epsilon == 0.5
    assert isinstance(far, CwL2Spec) and far.within_epsilon is None


@pytest.mark.parametrize(
    "name, words",
    [
        ("pgd020", "no attack is called 'pgd020'; did you mean 'pgd20'?"),
        ("autoatack", "did you mean 'autoattack'?"),
        ("pgd0", "no attack is called 'pgd0'"),
        ("zzz", "there are none, fgsm, fgsm_rs, pgd20"),
        ("PGD20", "no attack is called 'PGD20'"),
        ("", "there are none"),
        ("pgd20\n", "no attack is called"),
    ],
)
def test_names_that_do_not_exist(name: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        named_attack(name)
    assert words in str(caught.value)


def test_changes_are_checked() -> None:
    changed = named_attack("autoattack", steps=3)
    assert isinstance(changed, AutoAttackSpec) and changed.steps == 3
    with pytest.raises(SpecError, match=r"attack autoattack: stpes: unknown key; allowed: .*did you mean 'steps'\?"):
        named_attack("autoattack", stpes=3)
    with pytest.raises(SpecError, match=r"attack pgd20: .*steps"):
        named_attack("pgd20", steps=0)
    with pytest.raises(SpecError, match="attack x: kind: not a kind; allowed: clean, "):
        attack_spec({"kind": "nothing"}, "x")
    with pytest.raises(SpecError, match="attack x: kind: this key is missing; allowed: clean, "):
        attack_spec({}, "x")
    with pytest.raises(SpecError, match=r"attack x: engine\.layout: not allowed; allowed: contiguous or channels_last"):
        attack_spec({"kind": "pgd", "engine": {"layout": "wide"}}, "x")


@pytest.mark.parametrize("epsilon", ["eight", 0.03, 8, "300/255", None])
def test_wrong_epsilons(epsilon: object) -> None:
    with pytest.raises(SpecError, match="epsilon"):
        named_attack("pgd20", "linf", epsilon)  # type: ignore[arg-type]


def test_default_batteries_have_one_norm() -> None:
    assert battery("linf", switching=False) == SINGLE and battery("linf", switching=True) == SWITCHING
    for switching in (False, True):
        assert "none" in battery("l2", switching) and len(battery("l2", switching)) > 4
        for norm, epsilon in (("linf", "8/255"), ("l2", 0.5)):
            for name in battery(norm, switching):
                named_attack(name, norm, epsilon)


def test_budgets_of_commands() -> None:
    assert (budget_value("linf", None), budget_value("linf", "4/255")) == ("8/255", "4/255")
    assert (budget_value("l2", None), budget_value("l2", "1.5")) == (0.5, 1.5)
    with pytest.raises(SpecError, match=r"an L2 epsilon is a number, e.g. 0.5, not '8/255'"):
        budget_value("l2", "8/255")
