from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from rstbench.estimate.breakdown import Breakdown, training_of
from rstbench.estimate.units import Work
from rstbench.nodes import NETWORKS, Node
from rstbench.plan import Plan
from rstbench.spec.effort import passes_per_image, training_passes
from tests.suites import SHIPPED, TINY, changed, planned, written


def of_kind(plan: Plan, kind: str) -> list[Node]:
    return [node for node in plan.nodes.values() if node.kind == kind]


def amounts(plan: Plan, node: Node) -> dict[str, float]:
    found: Counter[str] = Counter()
    for work in Breakdown(plan.nodes).of(node):
        found[work.unit.what] += work.amount  # type: ignore[assignment]
    return dict(found)


def only(plan: Plan, node: Node, what: str) -> Work:
    (found,) = [work for work in Breakdown(plan.nodes).of(node) if work.unit.what == what]
    return found


@pytest.mark.parametrize(
    "name", ["table4_r2s_attacks", "table9_r2s_rtt", "figure2_finetuning", "figure4_features", "lottery"]
)
def test_nodes_of_every_kind_are_broken_down(name: str) -> None:
    plan = planned(next(path for path in SHIPPED if path.stem == name))
    breakdown = Breakdown(plan.nodes)
    for node in plan.nodes.values():
        works = breakdown.of(node)
        assert works[-1].unit.what == "value"
        assert all(work.amount >= 0 and work.about in plan.nodes for work in works)
        whats = {work.unit.what for work in works}
        if node.kind in NETWORKS:
            assert {"load", "make", "step", "validate", "save"} <= whats
        if node.kind in ("craft", "predict"):
            assert {"network", "attack" if node.kind == "craft" else "predict"} <= whats


def test_the_work_of_a_training(tmp_path: Path) -> None:
    plan = planned(written(tmp_path))
    (node,) = of_kind(plan, "train")
    found = amounts(plan, node)
    validated = 1438 * 0.05
    fitted = round(1438 - validated)
    assert found["step"] == fitted // 256 * 256  # one epoch, without its last incomplete batch
    assert found["validate"] == pytest.approx(validated * 3)
    assert (found["make"], found["save"], found["value"], found["load"]) == (1, 1, 1, 1)
    # The same work as the stated estimate has, but for the incomplete batch.
    training = training_of(node)
    stated = training_passes(training, fitted, validated)
    assert found["step"] * passes_per_image(training) + found["validate"] == pytest.approx(stated, rel=0.1)


def test_a_family_gathers_statistics(tmp_path: Path) -> None:
    text = changed(TINY, ("  rst:\n    epochs: 1", "  rst:\n    family: [0.1, 0.3]\n    epochs: 1"))
    plan, alone = planned(written(tmp_path, text)), planned(written(tmp_path))
    (node,) = of_kind(plan, "search")
    single = of_kind(alone, "search")[0]
    # Each ratio's statistics take the passes of a step on every image (fewer than 2048), without the way back.
    gathered = 2 * round(1438 * 0.95) * 3 / 5
    assert amounts(plan, node)["step"] == pytest.approx(amounts(alone, single)["step"] + gathered)
    assert amounts(plan, node)["validate"] == pytest.approx(2 * amounts(alone, single)["validate"])


def test_networks_of_one_architecture_share_their_units(tmp_path: Path) -> None:
    plan = planned(written(tmp_path))
    one, other = of_kind(plan, "search")
    assert one.key != other.key
    assert [work.unit for work in Breakdown(plan.nodes).of(one)] == [
        work.unit for work in Breakdown(plan.nodes).of(other)
    ]
    (dense,) = of_kind(plan, "train")
    assert only(plan, dense, "step").unit != only(plan, one, "step").unit
    wide = planned(written(tmp_path, changed(TINY, ("width: 0.06", "width: 0.12"))))
    assert only(wide, of_kind(wide, "search")[0], "step").unit != only(plan, one, "step").unit


def test_steps_and_epsilon_change_amounts_and_not_units(tmp_path: Path) -> None:
    more = changed(
        TINY, ('pgd20: {kind: pgd, epsilon: "24/255", steps: 2', 'pgd20: {kind: pgd, epsilon: "8/255", steps: 4')
    )
    plan, other = planned(written(tmp_path)), planned(written(tmp_path, more))

    def attack(of: Plan) -> Work:
        found = [node for node in of_kind(of, "craft") if node.spec["attack"]["stop"] == "source_fooled"]
        return only(of, found[0], "attack")

    assert attack(plan).unit == attack(other).unit
    assert attack(other).amount > attack(plan).amount


def test_what_is_held_is_named_by_network_and_checkpoint(tmp_path: Path) -> None:
    plan = planned(written(tmp_path))
    for node in of_kind(plan, "craft"):
        held = {work.held for work in Breakdown(plan.nodes).of(node) if work.held}
        members = {key for role, key in node.inputs.items() if role.startswith("member_")}
        assert held == {("data", node.inputs["data"])} | {("network", key, node.spec["checkpoint"]) for key in members}


def test_the_work_of_an_attack(tmp_path: Path) -> None:
    plan = planned(written(tmp_path))
    eot = next(node for node in of_kind(plan, "craft") if node.spec["attack"]["view"] == "eot")
    found = amounts(plan, eot)
    # Two steps, each a gradient of two members on 50 images; a look before them, and the checks before and after.
    assert found["attack"] == 2 * 50 * (4 + 1 + 7)
    assert found["network"] == 2 and found["pack"] == found["clean"] == 50
    assert only(plan, eot, "attack").unit.fields["batch"] == 50


def test_autoattack_is_gradients_and_queries(tmp_path: Path) -> None:
    text = changed(
        TINY, ('eot: {kind: pgd, epsilon: "24/255", steps: 2, samples: 50', "eot: {kind: autoattack, samples: 50")
    )
    plan = planned(written(tmp_path, text))
    node = next(node for node in of_kind(plan, "craft") if node.spec["attack"]["kind"] == "autoattack")
    works = [work for work in Breakdown(plan.nodes).of(node) if work.unit.what == "attack"]
    assert [work.unit.fields["attack"]["kind"] for work in works] == ["pgd", "square"]
    assert sum(work.amount for work in works) == pytest.approx(node.passes + 2 * 50 * (1 + 7))
    assert works[1].amount == pytest.approx(2 * 50 * 0.5 * 1.16 * 5000)


def test_the_last_batch_of_a_verdict_is_padded(tmp_path: Path) -> None:
    plan = planned(written(tmp_path))
    clean = next(n for n in of_kind(plan, "predict") if plan.nodes[n.inputs["images"]].kind == "data")
    assert clean.images == 359 and amounts(plan, clean)["predict"] == 512
    crafted = next(n for n in of_kind(plan, "predict") if plan.nodes[n.inputs["images"]].kind == "craft")
    assert amounts(plan, crafted)["predict"] == amounts(plan, crafted)["unpack"] == 50


def test_low_precision_is_compared_with_fp32_on_some_images(tmp_path: Path) -> None:
    text = changed(TINY, ("samples: 50, view: eot", "samples: 50, engine: {precision: bf16}, view: eot"))
    plan, exact = planned(written(tmp_path, text)), planned(written(tmp_path))
    low, full = (
        next(node for node in of_kind(each, "craft") if node.spec["attack"]["view"] == "eot") for each in (plan, exact)
    )
    works = [work for work in Breakdown(plan.nodes).of(low) if work.unit.what == "attack"]
    assert [work.unit.fields["engine"]["precision"] for work in works] == ["bf16", "fp32"]
    # Of fewer images than are compared, all.
    assert works[0].amount == works[1].amount == amounts(exact, full)["attack"]
    assert works[1].unit == only(exact, full, "attack").unit


def test_what_is_kept_from_a_smaller_epsilon_is_judged_once_more(tmp_path: Path) -> None:
    low = "engine: {precision: bf16, threads: 2}, batch: 20"
    text = changed(
        TINY,
        ('pgd20: {kind: pgd, epsilon: "24/255", steps: 2', f'pgd20: {{kind: pgd, {low}, epsilon: "24/255", steps: 2'),
        ("samples: 50, stop: source_fooled}", 'samples: 50, smaller_epsilons: ["8/255"]}'),
        ("    - {defense: r2s, attack: pgd20}\n", ""),
    )
    plan = planned(written(tmp_path, text))
    (node,) = [node for node in of_kind(plan, "craft") if "smaller" in node.inputs]
    before, found = plan.nodes[node.inputs["smaller"]], amounts(plan, node)
    assert "predict" not in amounts(plan, before) and "unpack" not in amounts(plan, before)
    assert found["unpack"] == 50 and found["predict"] == 60  # in whole batches of 20
    judged = only(plan, node, "predict")
    (verdict,) = [each for each in of_kind(plan, "predict") if each.inputs["images"] == node.key]
    assert judged.unit == only(plan, verdict, "predict").unit  # fp32, whatever crafts
    # The look is not counted as a pass of the attack a second time: two gradients for half of 50 images, in whole
    # batches; a look at what stands, and the checks. The comparison in fp32 is the same attack once more.
    works = [work for work in Breakdown(plan.nodes).of(node) if work.unit.what == "attack"]
    assert [work.amount for work in works] == [100 * 60 / 50 + 50 + 7 * 50] * 2
    assert node.passes == 50 + 100 and Breakdown(plan.nodes).attack_passes(node) == (100 + 50) * 60 / 50
