from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rstbench.estimate.breakdown import Breakdown
from rstbench.estimate.calibration import Share, Shares, attack_fields
from rstbench.estimate.forecast import Forecast, course
from rstbench.estimate.stated import CORE_FLOPS
from rstbench.plan import Plan
from tests.estimate.rates import SECONDS, calibrated
from tests.suites import planned, written


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return planned(written(tmp_path))


def test_without_rates_the_stated_ones_count(plan: Plan) -> None:
    forecast = Forecast(plan.nodes, None)
    for node in plan.nodes.values():
        cost = forecast.cost(node)
        assert not cost.calibrated and cost.seconds == pytest.approx(2 * node.macs / CORE_FLOPS["fp32"])
    whole = course(plan.nodes, forecast, 1)
    assert whole.wall == pytest.approx(sum(2 * node.macs / CORE_FLOPS["fp32"] for node in plan.nodes.values()))


def test_a_node_lacks_a_rate(plan: Plan) -> None:
    full = calibrated(plan.nodes)
    search = next(node for node in plan.nodes.values() if node.kind == "search")
    gone = next(work.unit for work in Breakdown(plan.nodes).of(search) if work.unit.what == "step")
    part = replace(full, rates={unit: rate for unit, rate in full.rates.items() if unit != gone})
    forecast = Forecast(plan.nodes, part)
    assert {node.kind for node in plan.nodes.values() if not forecast.cost(node).calibrated} == {"search"}


def test_seconds_are_amounts_at_their_rates(plan: Plan) -> None:
    forecast, breakdown = Forecast(plan.nodes, calibrated(plan.nodes)), Breakdown(plan.nodes)
    for node in plan.nodes.values():
        expected = sum(work.amount * SECONDS[work.unit.what] for work in breakdown.of(node))
        assert forecast.cost(node).seconds == pytest.approx(expected)


def test_a_share_that_was_learned_scales_the_attack_alone(plan: Plan) -> None:
    craft = next(node for node in plan.nodes.values() if node.kind == "craft")
    learned = Share(attack_fields(craft.spec["attack"]), 0.25, 3)
    full = calibrated(plan.nodes)
    plain, scaled = (Forecast(plan.nodes, each).cost(craft) for each in (full, replace(full, shares=[learned])))
    attacked = sum(w.amount for w in Breakdown(plan.nodes).of(craft) if w.unit.what == "attack") * SECONDS["attack"]
    assert plain.own - scaled.own == pytest.approx(0.75 * attacked)


def test_shares_of_attacks_that_are_alike_stand_in(plan: Plan) -> None:
    stopping = next(n for n in plan.nodes.values() if n.kind == "craft" and n.spec["attack"]["stop"] == "source_fooled")
    fields = attack_fields(stopping.spec["attack"])
    others = [Share({**fields, "steps": steps}, share, 1) for steps, share in ((7, 0.2), (8, 0.3), (9, 0.7))]
    assert Shares(others).of(stopping.spec["attack"]) == 0.3
    assert Shares([*others, Share(fields, 0.9, 1)]).of(stopping.spec["attack"]) == 0.9
    assert Shares([Share({**fields, "stop": "never"}, 0.2, 1)]).of(stopping.spec["attack"]) == 1.0
    assert Shares([]).of(stopping.spec["attack"]) == 1.0


def test_one_worker_brings_everything_once(plan: Plan) -> None:
    forecast = Forecast(plan.nodes, calibrated(plan.nodes))
    costs = forecast.costs(plan.nodes)
    things = {thing: seconds for cost in costs.values() for thing, seconds in cost.held}
    own = sum(cost.own for cost in costs.values())
    whole = course(plan.nodes, forecast, 1)
    assert whole.wall == pytest.approx(SECONDS["worker"] + own + sum(things.values()))
    assert sum(whole.seconds.values()) == pytest.approx(own + sum(things.values()))


def test_workers_share_the_work_and_wait_for_what_they_need(plan: Plan) -> None:
    forecast = Forecast(plan.nodes, calibrated(plan.nodes))
    costs = forecast.costs(plan.nodes)
    behind: dict[str, float] = {}
    for key, node in plan.nodes.items():  # in topological order
        behind[key] = costs[key].own + max([behind[each] for each in node.inputs.values()], default=0.0)
    own = sum(cost.own for cost in costs.values())
    walls = {workers: course(plan.nodes, forecast, workers).wall for workers in (1, 2, 8)}
    for workers, wall in walls.items():
        assert wall >= max(own / workers, max(behind.values())) + SECONDS["worker"]
    assert walls[2] < walls[1] and walls[8] < walls[1]


def test_stored_inputs_are_not_waited_for(plan: Plan) -> None:
    forecast = Forecast(plan.nodes, calibrated(plan.nodes))
    predicts = {key: node for key, node in plan.nodes.items() if node.kind == "predict"}
    assert course({}, forecast, 2).wall == 0.0
    rest = course(predicts, forecast, 1)
    assert set(rest.seconds) == set(predicts) and rest.wall > 0
