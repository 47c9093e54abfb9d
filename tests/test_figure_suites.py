"""What the suites of the paper's figures show, and what they share."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from rstbench.nodes import Node
from rstbench.plan import Plan
from rstbench.spec.defenses import TicketsSpec
from rstbench.spec.load import load_suite
from rstbench.spec.suite import PROFILES, SuiteSpec
from tests.suites import SHIPPED, planned

FIGURES = {int(path.stem[6:].partition("_")[0]): path for path in SHIPPED if path.stem.startswith("figure")}

SHOWN = {
    1: ("lines", 8), 2: ("lines", 4), 3: ("lines", 4), 4: ("bars", 3), 5: ("lines", 1), 6: ("lines", 4),
    7: ("heatmap", 2), 8: ("lines", 1), 9: ("lines", 2), 10: ("lines", 4), 11: ("lines", 4), 12: ("heatmap", 8),
    13: ("heatmap", 4), 14: ("lines", 2),
}  # fmt: skip
"""Kind of the first panel, and number of panels; transfer matrices twice, under both stop rules."""

ZOOMED = (2, 3, 10, 11)
"""Figures whose captions say that they zoom in on 1 to 20 %."""


@cache
def plan_of(number: int, profile: str) -> Plan:
    return planned(FIGURES[number], profile)


def run_of(number: int, profile: str = "paper") -> SuiteSpec:
    return load_suite(FIGURES[number], profile).run


def fits(number: int, profile: str) -> dict[str, Node]:
    return {
        key: node
        for key, node in plan_of(number, profile).nodes.items()
        if node.kind in ("train", "search", "rtt", "tune")
    }


def test_all_fourteen() -> None:
    assert sorted(FIGURES) == list(range(1, 15))


@pytest.mark.parametrize("number", range(1, 15))
def test_what_a_figure_shows(number: int) -> None:
    figure = run_of(number).figure
    assert figure is not None and figure.paper == number
    assert (figure.panels[0].kind, len(figure.panels)) == SHOWN[number]
    for panel in figure.panels:
        assert (panel.inset == (0.01, 0.20)) == (number in ZOOMED)
        assert (panel.dashed is not None) == (panel.kind == "lines"), "the dense network is annotated by dashed lines"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("number", range(1, 15))
def test_every_line_and_every_inset_has_two_points(number: int, profile: str) -> None:
    run = run_of(number, profile)
    assert run.figure is not None
    for panel in run.figure.panels:
        for series in panel.series:
            defense = run.defenses[series.defense]
            if not isinstance(defense, TicketsSpec):
                continue
            assert len(defense.ratios) >= 2
            if panel.inset is not None:
                assert sum(panel.inset[0] <= ratio <= panel.inset[1] for ratio in defense.ratios) >= 2


@pytest.mark.parametrize("profile", ["paper", "smoke"])
@pytest.mark.parametrize("number, others", [(9, (1,)), (10, (2,)), (11, (3,)), (5, (2, 3)), (7, (12,))])
def test_figures_of_the_same_networks_share_them(number: int, others: tuple[int, ...], profile: str) -> None:
    theirs = {key for other in others for key in fits(other, profile)}
    assert set(fits(number, profile)) <= theirs


@pytest.mark.parametrize("number, epsilons", [(6, {"12/255", "16/255"}), (1, {"8/255"}), (3, {"8/255"})])
def test_search_training_and_attack_share_the_epsilon(number: int, epsilons: set[str]) -> None:
    nodes = plan_of(number, "paper").nodes
    crafted = [node for node in nodes.values() if node.kind == "craft"]
    assert {str(node.spec["attack"]["epsilon"]) for node in crafted} == {_reduced(one) for one in epsilons}
    for node in crafted:
        made = nodes[node.inputs["member_0"]]
        assert made.spec["training"]["inner"]["epsilon"] == node.spec["attack"]["epsilon"]
        behind = [nodes[key] for role, key in made.inputs.items() if role in ("weights", "ticket")]
        adversarial = [one for one in behind if one.spec["training"]["inner"]["kind"] != "none"]
        assert all(one.spec["training"]["inner"]["epsilon"] == node.spec["attack"]["epsilon"] for one in adversarial)


def _reduced(text: str) -> str:
    from rstbench.spec.base import linf_text

    return linf_text(text)


@pytest.mark.parametrize("number, profile", [(8, "paper"), (14, "paper"), (14, "smoke")])
def test_transferred_tickets_come_from_other_data(number: int, profile: str) -> None:
    nodes = plan_of(number, profile).nodes
    transferred = [
        node
        for node in nodes.values()
        if node.kind == "rtt" and nodes[node.inputs["weights"]].inputs["data"] != node.inputs["data"]
    ]
    assert transferred
    assert {node.spec["weights"]["classifier"] for node in transferred} == {"reinitialised"}
    # All tickets of random weights are of the same random network, and none of them is transferred.
    assert len(transferred) < sum(node.kind in ("search", "rtt") for node in nodes.values())


def test_svhn_has_its_own_schedule() -> None:
    run = run_of(14)
    searches = (run.searches["adversarial_svhn"], run.trainings["adversarial_svhn"])
    assert [(one.lr, one.augmentation.padding, one.augmentation.flip) for one in searches] == [(0.01, 0, False)] * 2
    assert run.searches["adversarial"] == load_suite(FIGURES[1]).run.searches["adversarial"]


def test_networks_of_the_figures_are_those_of_the_tables() -> None:
    """Tables 8 and 9 search what Figures 7, 12 and 13 show."""
    tables = {path.stem.partition("_")[0]: path for path in SHIPPED if path.stem.startswith("table")}
    for number, table in ((7, "table8"), (12, "table8"), (13, "table9")):
        assert set(fits(number, "paper")) <= set(planned(Path(tables[table]), "paper").nodes)


@pytest.mark.parametrize("profile, most", [("smoke", 160), ("paper", 1930)])
def test_all_fourteen_search_and_train_this_often(profile: str, most: int) -> None:
    everything = {key for number in FIGURES for key in fits(number, profile)}
    assert 0.9 * most < len(everything) <= most
