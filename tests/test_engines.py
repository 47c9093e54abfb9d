"""The suite that compares engines changes the engine of one search, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from rstbench.plan import Plan
from rstbench.spec.defenses import SwitchSpec, TicketSpec
from rstbench.spec.load import load_suite
from rstbench.spec.suite import PROFILES
from rstbench.spec.training import Engine
from tests.suites import planned

SUITES = Path(__file__).parents[1] / "suites"
SUITE = SUITES / "engines.yaml"
REFERENCE = "fp32"


@pytest.mark.parametrize("profile", PROFILES)
def test_searches_differ_in_their_engine_alone(profile: str) -> None:
    searches = load_suite(SUITE, profile).run.searches
    assert searches[REFERENCE].engine == Engine()
    assert len({search.engine for search in searches.values()}) == len(searches) == 5
    for name, search in searches.items():
        assert search.model_copy(update={"engine": Engine()}) == searches[REFERENCE], name


def test_each_engine_differs_from_another_in_one_choice() -> None:
    engines = [search.engine for search in load_suite(SUITE).run.searches.values()]

    def apart(one: Engine, other: Engine) -> int:
        return sum(getattr(one, field) != getattr(other, field) for field in Engine.model_fields)

    for engine in engines:
        assert min(apart(engine, other) for other in engines if other != engine) == 1
    # What needs no compiler is there in all combinations.
    plain = {(engine.precision, engine.layout) for engine in engines if engine.compiler == "none"}
    assert len(plain) == 4 and [engine.compiler for engine in engines].count("inductor") == 1


@pytest.mark.parametrize("profile", PROFILES)
def test_titles_tell_the_searches_apart(profile: str) -> None:
    titles = [node.title for node in planned(SUITE, profile).nodes.values() if node.kind == "search"]
    assert len(set(titles)) == len(titles)
    first = [title.partition("seed 0")[2] for title in titles if "seed 0" in title]
    assert first == ["", ", channels_last", ", bf16", ", bf16 channels_last", ", bf16 channels_last inductor"]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_ticket_is_of_one_ratio_and_meets_the_same_attacks(profile: str) -> None:
    run = load_suite(SUITE, profile).run
    tickets = {name: one for name, one in run.defenses.items() if isinstance(one, TicketSpec)}
    assert {one.search for one in tickets.values()} == run.searches.keys()
    assert {one.ratio for one in tickets.values()} == {0.20}
    for name in tickets:
        assert {cell.attack for cell in run.table.cells if cell.defense == name} == run.attacks.keys()
    switch = run.defenses["engines"]
    assert isinstance(switch, SwitchSpec) and set(switch.members) == tickets.keys()
    made = planned(SUITE, profile)
    seeds, attacks = len(run.seeds), len(run.attacks) - 1  # clean images are crafted by nobody
    kinds = [node.kind for node in made.nodes.values()]
    assert (kinds.count("search"), kinds.count("craft")) == (5 * seeds, 5 * attacks * seeds)


def _searches(plan: Plan) -> set[str]:
    return {key for key, node in plan.nodes.items() if node.kind == "search"}


@pytest.mark.parametrize(("profile", "shared"), [("paper", 3), ("desk", 1), ("express", 1), ("smoke", 1)])
def test_one_engine_is_that_of_table_3_and_shares_its_searches(profile: str, shared: int) -> None:
    made, table_3 = planned(SUITE, profile), planned(SUITES / "table3_r2s.yaml", profile)
    assert len(_searches(made) & _searches(table_3)) == shared
