"""Suites that are made: a model under a battery, and an attack over one of its settings."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from rstbench.errors import SpecError
from rstbench.plan import plan
from rstbench.spec.attacks import CleanSpec
from rstbench.spec.budgets import written_out
from rstbench.spec.derived import PointwiseSpec
from rstbench.spec.load import load_suite
from rstbench.spec.made import AXES, RESTARTS, STEPS, Series, model_suite, series_suite
from rstbench.spec.models import DatasetSpec
from rstbench.spec.suite import Cell, Suite
from tests.suites import TINY, changed, facts_of, written

MODEL = {"source": "plugin", "name": "mine"}
DIGITS = DatasetSpec(source="digits")
BATTERY = ("fgsm", "pgd20", "cw_l2", "cw_inf_penalty", "cw_inf")


def made(attacks: tuple[str, ...] = BATTERY, norm: str = "linf", epsilon: Any = "8/255", **model: Any) -> Suite:
    return model_suite("mine", {**MODEL, **model}, DIGITS, attacks, norm, epsilon, 40, 16)


def test_a_model_under_a_battery() -> None:
    suite = made()
    assert suite.run == suite.paper and suite.run.seeds == (0,) and suite.run.table.layout == "list"
    assert list(suite.run.attacks) == ["none", *BATTERY, "pointwise"]
    assert [cell.attack for cell in suite.run.table.cells] == list(suite.run.attacks)
    for name, spec in suite.run.attacks.items():
        if name != "pointwise":
            assert (spec.samples, spec.batch) == (40, 16)  # type: ignore[union-attr]
    worst = suite.run.attacks["pointwise"]
    # Neither another norm nor images that nothing bounds.
    assert isinstance(worst, PointwiseSpec) and worst.over == ("fgsm", "pgd20", "cw_inf")


def test_minimum_norm_within_epsilon_is_in_the_worst_case() -> None:
    worst = made(("pgd_l2", "cw_l2", "autoattack"), "l2", 0.5).run.attacks["pointwise"]
    assert isinstance(worst, PointwiseSpec) and worst.over == ("pgd_l2", "cw_l2", "autoattack")


def test_no_worst_case_of_one() -> None:
    assert list(made(("pgd20",)).run.attacks) == ["none", "pgd20"]
    assert list(made(("pgd20", "pgd20", "none")).run.attacks) == ["none", "pgd20"]


@pytest.mark.parametrize(
    "options, words",
    [
        ({"attacks": ("pgd", "fgsm")}, "no attack is called 'pgd'"),
        ({"norm": "l2", "epsilon": 0.5}, "attack 'fgsm' is of norm linf"),
        ({"epsilon": 0.1}, "epsilon"),
        ({"width": 2.0}, "`width` means nothing for source plugin"),
        ({"name": "my network"}, "name: must be made of"),
        ({"source": "robustbench"}, "source robustbench needs `threat`"),
    ],
)
def test_what_a_suite_could_not_say(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        made(**options)
    assert words in str(caught.value) and "\n" not in str(caught.value)


# ---- curves ----------------------------------------------------------------------------------------------------------

CURVES = changed(
    TINY,
    (
        "table:\n",
        """  plain: {kind: pgd, epsilon: "24/255", samples: 50, headline: true}
  l2: {kind: pgd, norm: l2, epsilon: 0.5, steps: 5}
  one: {kind: fgsm, epsilon: "24/255"}
  min: {kind: cw_l2}
  black: {kind: square, epsilon: "24/255"}
  worst: {kind: worst_source, of: pgd20}
table:
""",
    ),
)


def series(folder: Path, attack: str, *axes: str, defense: str = "dense_at") -> tuple[Suite, dict[str, Series]]:
    suite = load_suite(written(folder, CURVES))
    cell = Cell(defense=defense, attack=attack, dataset="cifar10", network="preact_resnet18")
    made, found = series_suite(suite, cell, axes or AXES, 8.0)
    return made, {each.axis: each for each in found}


def test_one_attack_over_all_its_settings(tmp_path: Path) -> None:
    suite, found = series(tmp_path, "plain")
    assert tuple(found) == AXES
    assert tuple(found["steps"].points) == STEPS and tuple(found["restarts"].points) == RESTARTS
    values = list(found["epsilon"].points)
    assert values[0] == 0 and values[-1] == 1 and values == sorted(values) and 24 / 255 in values
    attacks = suite.run.attacks
    assert found["epsilon"].points[0.0] == "none" and isinstance(attacks["none"], CleanSpec)
    assert attacks["none"].samples == 50
    # The step size of the attack itself, which on other data than CIFAR is a quarter of epsilon.
    for key in (*found["steps"].points.values(), *found["restarts"].points.values()):
        assert attacks[key].step_size == "2/85" and attacks[key].samples == 50  # type: ignore[union-attr]
    assert [attacks[key].steps for key in found["steps"].points.values()] == list(STEPS)  # type: ignore[union-attr]
    assert not any(attack.headline for attack in attacks.values())
    # The curve goes through the attack itself.
    original = written_out(load_suite(written(tmp_path, CURVES)).run.attacks["plain"], cifar=False)  # type: ignore[arg-type]
    for key in (found["steps"].points[20.0], found["epsilon"].points[24 / 255], found["restarts"].points[1.0]):
        table = {"variant", "report_as", "headline"}
        assert attacks[key].model_dump(exclude=table) == original.model_dump(exclude=table)


def test_every_image_of_the_ball_can_be_reached(tmp_path: Path) -> None:
    suite, found = series(tmp_path, "plain", "epsilon")
    for value, key in list(found["epsilon"].points.items())[1:]:
        spec = suite.run.attacks[key]
        assert float(Fraction(spec.epsilon)) == value  # type: ignore[union-attr]
        assert float(Fraction(spec.step_size)) * spec.steps >= min(2 * value, 1)  # type: ignore[union-attr, arg-type]
    suite, found = series(tmp_path, "l2", "epsilon")
    values = list(found["epsilon"].points)
    assert values[-1] == 8.0 and values[1:4] == [0.125, 0.25, 0.5]
    for value, key in list(found["epsilon"].points.items())[1:]:
        spec = suite.run.attacks[key]
        assert spec.epsilon == value and spec.step_size * spec.steps >= 2 * value  # type: ignore[union-attr, operator]


@pytest.mark.parametrize(
    "attack, axes", [("one", ["epsilon"]), ("black", ["epsilon"]), ("plain", ["steps", "restarts", "epsilon"])]
)
def test_only_the_axes_that_an_attack_has(tmp_path: Path, attack: str, axes: list[str]) -> None:
    assert list(series(tmp_path, attack)[1]) == axes


@pytest.mark.parametrize(
    "attack, axes, defense, words",
    [
        ("min", (), "dense_at", "attack 'min' of kind cw_l2 has no steps and no restarts and no epsilon to vary"),
        ("one", ("steps",), "dense_at", "attack 'one' of kind fgsm has no steps to vary"),
        ("clean", (), "dense_at", "attack 'clean' makes no images"),
        ("worst", (), "r2s", "attack 'worst' makes no images"),
        ("pgd", (), "dense_at", "suite tiny has no 'pgd' in `attacks`; there are clean, pgd20"),
        ("eot", (), "dense_at", "attack 'eot': the view eot is over the members of a switching defense"),
        ("plain", (), "dense", "suite tiny has no 'dense' in `defenses`; there are dense_at, r2s"),
    ],
)
def test_no_curve(tmp_path: Path, attack: str, axes: tuple[str, ...], defense: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        series(tmp_path, attack, *axes, defense=defense)
    assert words in str(caught.value)


def test_a_made_suite_can_be_planned(tmp_path: Path) -> None:
    suite, found = series(tmp_path, "plain", defense="r2s")
    facts = {spec: known for spec, known in facts_of(suite).items()}
    made = plan(suite, facts)
    assert suite.run.name == "tiny-curves"
    assert {cell.attack_key for cell in made.cells} == {key for each in found.values() for key in each.points.values()}
    # Points of two curves that are the same attack are one node.
    crafts = [node for node in made.nodes.values() if node.kind == "craft"]
    points = sum(len(each.points) for each in found.values()) - 1  # without epsilon zero
    assert len(crafts) == 2 * (points - 2)  # two tickets; steps 20, restarts 1 and epsilon 24/255 are one attack
    assert math.isclose(max(found["epsilon"].points), 1.0)
