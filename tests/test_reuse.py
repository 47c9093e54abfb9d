"""Worst cases over epsilons in a plan: craft nodes that stand on those of smaller ones, and where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from rstbench.errors import SpecError
from rstbench.nodes import Node
from rstbench.plan import Plan, plan
from rstbench.spec.budgets import epsilon_text
from rstbench.spec.load import load_suite
from rstbench.spec.made import Series, series_suite
from rstbench.spec.suite import Cell, Suite
from tests.suites import TINY, changed, facts_of, planned, written

SUITE = changed(
    TINY,
    ("table:\n", """  small: {kind: pgd, epsilon: "6/255", steps: 2, samples: 50}
  chain: {kind: pgd, epsilon: "24/255", steps: 2, samples: 50, smaller_epsilons: ["6/255", "12/255"], variant: chain}
  worst: {kind: worst_source, of: chain}
  one_step: {kind: fgsm, epsilon: "24/255", samples: 50}
  far: {kind: cw_inf, epsilon: "24/255", samples: 50}
table:
"""),
    ("    - {defense: dense_at, attack: pgd20}\n",
     "    - {defense: dense_at, attack: pgd20}\n    - {defense: dense_at, attack: chain}\n"),
)  # fmt: skip


def crafts(made: Plan) -> dict[str, Node]:
    """Craft nodes of the attacks `small` and `chain`, by epsilon in 1/255."""
    nodes = [node for node in made.nodes.values() if node.kind == "craft"]
    wanted = {"stop": "never", "view": "member"}
    found = [node for node in nodes if {name: node.spec["attack"][name] for name in wanted} == wanted]
    return {epsilon_text(node.spec["attack"]["epsilon"]): node for node in found}


def test_each_epsilon_stands_on_the_one_before(tmp_path: Path) -> None:
    made = planned(written(tmp_path, SUITE))
    nodes = crafts(made)
    assert list(nodes) == ["6", "12", "24"], "inputs stand before what is made of them"
    assert [node.inputs.get("smaller") for node in nodes.values()] == [None, nodes["6"].key, nodes["12"].key]
    assert [node.title.partition(", first")[2] for node in nodes.values()] == [" at epsilon 6", " at epsilon 12", ""]
    for node in nodes.values():
        assert {"data", "member_0"} <= set(node.inputs)
    (cell,) = [cell for cell in made.cells if cell.columns["variant"] == "chain"]
    assert made.nodes[cell.predictions[0][0][0]].inputs["images"] == nodes["24"].key
    # The first attacks everything, the others one look and half of it.
    assert [node.passes for node in nodes.values()] == [50 * 4, 50 * 3, 50 * 3]


def test_the_smallest_is_the_node_of_that_epsilon_alone(tmp_path: Path) -> None:
    cells = ("    - {defense: dense_at, attack: chain}\n", "    - {defense: dense_at, attack: small}\n")
    alone, both = planned(written(tmp_path, changed(SUITE, cells))), planned(written(tmp_path, SUITE))
    assert crafts(alone)["6"].key == crafts(both)["6"].key


def test_parts_stand_on_the_same_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rstbench.nodes.PART_BYTES", 20 * 4 * 64)  # 20 digits
    made = planned(written(tmp_path, SUITE))
    found = [node for node in made.nodes.values() if node.kind == "craft" and node.spec["attack"]["smaller_epsilons"]]
    assert len(found) == 2 * 3
    for node in found:
        before = made.nodes[node.inputs["smaller"]]
        assert before.kind == "craft" and before.spec["part"] == node.spec["part"]
    # Nothing is read from the smaller images but by the attack after them: they need not be joined.
    assert all("smaller" not in node.inputs or node.kind == "craft" for node in made.nodes.values())


@pytest.mark.parametrize(
    "defense, attack, source",
    [("r2s", "chain", None), ("r2s", "worst", None), ("dense_at", "chain", "r2s")],
)
def test_a_plan_refuses_it_too(tmp_path: Path, defense: str, attack: str, source: str | None) -> None:
    suite = load_suite(written(tmp_path, SUITE))
    cell = Cell(defense=defense, attack=attack, source=source)

    def side(spec: object) -> object:
        table = spec.table.model_copy(update={"cells": (cell,)})  # type: ignore[attr-defined]
        return spec.model_copy(update={"table": table})  # type: ignore[attr-defined]

    made = suite.model_copy(update={"paper": side(suite.paper), "run": side(suite.run)})
    with pytest.raises(SpecError, match=r"suite tiny: chain .*only one network that is attacked and judged itself"):
        plan(made, facts_of(made))


# ---- curves ----------------------------------------------------------------------------------------------------------


def curves(
    folder: Path, attack: str, *axes: str, defense: str = "dense_at", source: str | None = None, reuse: bool = True
) -> tuple[Suite, dict[str, Series]]:
    suite = load_suite(written(folder, SUITE))
    cell = Cell(defense=defense, attack=attack, dataset="cifar10", network="preact_resnet18", source=source)
    made, found = series_suite(suite, cell, axes or ("epsilon",), 8.0, reuse)
    return made, {each.axis: each for each in found}


@pytest.mark.parametrize("attack", ["small", "one_step"])
def test_a_curve_that_reuses_is_one_chain(tmp_path: Path, attack: str) -> None:
    suite, series = curves(tmp_path, attack)
    assert series["epsilon"].reused
    made = plan(suite, facts_of(suite))
    nodes = [node for node in made.nodes.values() if node.kind == "craft"]
    points = len(series["epsilon"].points) - 1  # without epsilon zero
    assert len(nodes) == points, "an attack at a smaller epsilon is that point of the curve"
    assert [node.inputs.get("smaller") for node in nodes] == [None, *(node.key for node in nodes[:-1])]
    # The same steps as of the curve without reuse.
    alone, _ = curves(tmp_path, attack, reuse=False)
    for key, spec in suite.run.attacks.items():
        assert getattr(spec, "step_size", None) == getattr(alone.run.attacks[key], "step_size", None)
        assert getattr(alone.run.attacks[key], "smaller_epsilons", ()) == ()


def test_only_the_curve_over_epsilon_reuses(tmp_path: Path) -> None:
    suite, series = curves(tmp_path, "small", "steps", "epsilon")
    assert {axis: each.reused for axis, each in series.items()} == {"steps": False, "epsilon": True}
    for key in series["steps"].points.values():
        assert suite.run.attacks[key].smaller_epsilons == ()  # type: ignore[union-attr]


def test_a_chain_is_drawn_point_by_point(tmp_path: Path) -> None:
    suite, series = curves(tmp_path, "chain", reuse=False)
    for value, key in series["epsilon"].points.items():
        assert value == 0 or suite.run.attacks[key].smaller_epsilons == ()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "attack, axes, words",
    [
        ("small", ("steps",), "attack 'small': images are reused along epsilon, and no curve is over epsilon"),
        ("far", ("epsilon",), "attack 'far' of kind cw_inf: what it finds within one epsilon is not reused"),
        ("eot", ("epsilon",), "it is for one network, with view member"),
    ],
)
def test_no_curve_that_reuses(tmp_path: Path, attack: str, axes: tuple[str, ...], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        curves(tmp_path, attack, *axes, defense="r2s" if attack == "eot" else "dense_at")
    assert words in str(caught.value)


@pytest.mark.parametrize("defense, source", [("r2s", None), ("dense_at", "r2s")])
def test_a_curve_over_several_networks_does_not_reuse(tmp_path: Path, defense: str, source: str | None) -> None:
    suite, _ = curves(tmp_path, "small", defense=defense, source=source)
    with pytest.raises(SpecError, match="only one network that is attacked and judged itself"):
        plan(suite, facts_of(suite))
