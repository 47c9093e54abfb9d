"""The suite that asks whether switching between ratios does anything: that its controls are matched."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from rstbench.plan import Plan, PlannedCell
from rstbench.spec.defenses import R2sSpec, SwitchSpec, TicketSpec
from rstbench.spec.derived import GameSpec, PointwiseSpec
from rstbench.spec.load import load_suite
from rstbench.spec.suite import PROFILES
from tests.suites import planned

PATH = Path(__file__).parents[1] / "suites" / "controls.yaml"
SWITCHES = {
    "r2s": "ensemble_of_r2s",
    "switch_searches": "ensemble_of_searches",
    "switch_thetas": "ensemble_of_thetas",
    "switch_dense": "ensemble_of_dense",
}
LADDER = ["clean", "pgd20", "pgd20_never", "eot", "ensemble", "arc", "pointwise", "game", "game_member"]


@cache
def plan_of(profile: str) -> Plan:
    return planned(PATH, profile)


def cells(profile: str, defense: str, source: str = "") -> dict[str, PlannedCell]:
    found = plan_of(profile).cells
    return {c.attack_key: c for c in found if c.defense == defense and c.columns["attack_source"] == source}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_switch_meets_one_ladder(profile: str) -> None:
    run = load_suite(PATH, profile).run
    for switch, ensemble in SWITCHES.items():
        found = cells(profile, switch)
        assert [attack for attack in LADDER if attack not in found] == []
        assert {len(cell.members) for cell in found.values()} == {6}
        assert {probability for cell in found.values() for probability in cell.probabilities} == {1 / 6}
        assert set(cells(profile, ensemble)) == {"clean", "ensemble", "apgd_ensemble"}
        # What chooses among images has the same ones to choose from, for the switch and for its rivals.
        rival = cells(profile, ensemble, switch)["pointwise"]
        chosen = [found["pointwise"], found["game"], found["game_member"], rival]
        images = [{plan_of(profile).nodes[row[0]].inputs["images"] for row in cell.predictions[0]} for cell in chosen]
        assert images[0] == images[1] == images[2] == images[3] and len(images[0]) == 1 + 6 + 3
        assert found["game"].held_out == found["game_member"].held_out != ()
        assert found["game_member"].commits == "member" and found["game"].commits == "mixture"
    over = [run.attacks[name] for name in ("pointwise", "game", "game_member")]
    assert {one.over for one in over if isinstance(one, PointwiseSpec | GameSpec)} == {LADDER_IMAGES}
    samples = {getattr(run.attacks[name], "samples", None) for name in ("pgd20", *LADDER_IMAGES, "apgd_ensemble")}
    assert len(samples) == 1


LADDER_IMAGES = ("pgd20_never", "eot", "ensemble", "arc")


def test_what_the_controls_have_in_common() -> None:
    run = load_suite(PATH).run
    r2s = run.defenses["r2s"]
    assert isinstance(r2s, R2sSpec)
    for name in ("switch_searches", "switch_thetas", "switch_dense", "proxies", "strangers"):
        switch = run.defenses[name]
        assert isinstance(switch, SwitchSpec)
        assert len(switch.members) == (5 if name in ("proxies", "strangers") else len(r2s.ratios))
        members = [run.defenses[each] for each in switch.members]
        tickets = [each for each in members if isinstance(each, TicketSpec)]
        assert {each.ratio for each in tickets} in ({0.20}, set()) and 0.20 in r2s.ratios
        assert len(tickets) == (0 if name == "switch_dense" else len(members))
        offsets = {(each.seed_offset, getattr(each, "search_offset", 0)) for each in members}  # type: ignore[union-attr]
        assert len(offsets) == len(members)
        assert len({offset for offset, _ in offsets}) == (1 if name in ("switch_searches", "proxies") else len(members))


def test_members_of_a_control_are_searched_in_the_network_that_their_name_says() -> None:
    plan = plan_of("desk")
    networks = {}
    for name in ("switch_searches", "switch_thetas", "switch_dense"):
        row = cells("desk", name)["clean"].predictions[0][0]
        networks[name] = [plan.nodes[plan.nodes[key].inputs["target"]] for key in row]
    assert {node.kind for node in networks["switch_dense"]} == {"train"}
    for name, seeds in (("switch_searches", 1), ("switch_thetas", 6)):
        assert len({node.spec["seed"] for node in networks[name]}) == seeds
        assert len({(node.spec["seed"], node.spec.get("search_seed")) for node in networks[name]}) == 6


def test_an_adversary_who_knows_the_random_network() -> None:
    rungs = {"pgd20_never", "eot", "ensemble", "arc", "pointwise"}
    for defense, source in (("rst_20", "proxies"), ("rst_20", "strangers"), ("r2s", "r2s_proxy")):
        found = cells("desk", defense, source)
        assert set(found) == rungs
        # None of the images is made with a network of the defense.
        defended, attacked = _targets(found["eot"]), _attacked(found["pointwise"])
        assert defended and attacked and not defended & attacked


def _targets(cell: PlannedCell) -> set[str]:
    nodes = plan_of("desk").nodes
    return {nodes[key].inputs["target"] for row in cell.predictions[0] for key in row}


def _attacked(cell: PlannedCell) -> set[str]:
    nodes = plan_of("desk").nodes
    images = {nodes[key].inputs["images"] for row in cell.predictions[0] for key in row}
    return {key for image in images for role, key in nodes[image].inputs.items() if role.startswith("member")}
