"""The suite that compares searches does so at equal cost, and with everything that the paper's search shares."""

from __future__ import annotations

from pathlib import Path

import pytest

from rstbench.plan import Plan
from rstbench.spec.effort import training_passes
from rstbench.spec.load import load_suite
from rstbench.spec.suite import PROFILES, SuiteSpec
from tests.suites import facts_of, planned

SUITES = Path(__file__).parents[1] / "suites"
SUITE = SUITES / "better_search.yaml"
TICKETS = 6


def spent(profile: str) -> dict[str, float]:
    """Forward passes behind six tickets of each search, over those behind six of the paper's."""
    suite = load_suite(SUITE, profile)
    (data,) = suite.run.datasets.values()
    (known,) = facts_of(suite).values()
    validated = known.train_samples * data.validation_fraction

    def cost(name: str) -> float:
        search = suite.run.searches[name]
        runs = 1 if search.family else TICKETS
        return runs * training_passes(search, known.train_samples - validated, validated)

    return {name: cost(name) / cost("adversarial") for name in suite.run.searches}


@pytest.mark.parametrize("profile", PROFILES)
def test_no_search_costs_more_than_the_papers_nor_much_less(profile: str) -> None:
    costs = spent(profile)
    sixth = costs.pop("family_sixth")
    assert all(0.82 <= cost <= 1.0 for cost in costs.values()), costs
    if profile == "paper":
        assert min(costs.values()) >= 0.98, costs
    if profile != "smoke":  # where statistics and validation of six ratios cost more than the few training images
        assert 0.85 / TICKETS <= sixth <= 1.0 / TICKETS


@pytest.mark.parametrize("profile", PROFILES)
def test_searches_differ_from_the_papers_in_their_improvement_alone(profile: str) -> None:
    run = load_suite(SUITE, profile).run
    improved = {
        "power_law": {"layer_power"},
        "small_scores": {"score_scale"},
        "last_norm": {"last_bn_affine"},
        "trades": {"objective"},
        "together": {"layer_power", "score_scale", "last_bn_affine", "objective"},
        "family": {"family"},
        "family_sixth": {"family"},
        "family_together": {"layer_power", "score_scale", "last_bn_affine", "objective", "family"},
    }
    paper = run.searches["adversarial"]
    assert run.searches.keys() == {"adversarial", *improved}
    for name, fields in improved.items():
        search = run.searches[name]
        found = {field for field in type(search).model_fields if getattr(search, field) != getattr(paper, field)}
        # What makes the cost equal, and the milestones that go with it.
        assert fields <= found <= fields | {"epochs", "lr_schedule", "validation"}, name
        if search.lr_schedule.kind == "multistep":
            assert search.lr_schedule.milestones == (round(search.epochs / 2), round(search.epochs * 3 / 4)), name


def _searches(plan: Plan) -> set[str]:
    return {key for key, node in plan.nodes.items() if node.kind == "search"}


@pytest.mark.parametrize("profile", PROFILES)
def test_the_papers_search_is_shared_with_table_3_and_a_family_is_one_search(profile: str) -> None:
    made, table_3 = planned(SUITE, profile), planned(SUITES / "table3_r2s.yaml", profile)
    assert len(_searches(made) & _searches(table_3)) == TICKETS * len(made.suite.run.seeds)
    singles, families = 6, 3
    assert len(_searches(made)) == (singles * TICKETS + families) * len(made.suite.run.seeds)


def test_every_search_meets_every_adversary() -> None:
    suite: SuiteSpec = load_suite(SUITE).run
    cells = {(cell.defense, cell.attack) for cell in suite.table.cells if cell.attack is not None}
    switches = [name for name, defense in suite.defenses.items() if defense.kind == "r2s"]
    assert len(switches) == len(suite.searches)
    assert {(name, attack) for name in switches for attack in suite.attacks} <= cells
