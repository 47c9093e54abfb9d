from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rstbench.errors import SpecError
from rstbench.nodes import Member, Node, Nodes, node_key
from rstbench.plan import Plan, merge_nodes, plan, ratio_text
from rstbench.spec.attacks import BLACK_BOX, NOT_CRAFTED, CraftedSpec, PgdSpec
from rstbench.spec.battery import attack_spec
from rstbench.spec.budgets import reported_budget
from rstbench.spec.load import load_suite
from rstbench.spec.models import DatasetSpec
from rstbench.spec.suite import PROFILES
from tests.suites import SHIPPED, TINY, changed, facts_of, known_facts, planned, written

ROOT = Path(__file__).parents[1]
TABLE3 = ROOT / "suites" / "table3_r2s.yaml"


def kinds(nodes: dict[str, Node] | Plan) -> Counter[str]:
    found = nodes.nodes if isinstance(nodes, Plan) else nodes
    return Counter(node.kind for node in found.values())


def titled(made: Plan, title: str) -> Node:
    (node,) = [node for node in made.nodes.values() if node.title == title]
    return node


# ---- keys ------------------------------------------------------------------------------------------------------------

# These keys are promises: a store that somebody filled for weeks is found again under them. If this test fails, the
# change makes every stored value of that kind unreachable. Where that is not meant, undo it (a new field of a spec
# changes every key it is part of; give it to the nodes that need it only). Where a builder now computes something
# else, raise its number in rstbench/spec/versions.py, say so in the change, and only then write the new keys here. The
# same where the suite's own settings were changed on purpose: its old results belong to the old settings.
GOLDEN = {
    "paper": """
9bc92f2d1cedeffdc2b7d16c669e8fbc data cifar10
3dda40560ca7dce2e65b135981612a26 train dense (adversarial) preact_resnet18 on cifar10, seed 0
8c0d09124927a284bebd8451f040e55a search 5 % preact_resnet18 on cifar10, seed 0
fefb4d2fb8476308e48da9835e8af6ac search 30 % wide_resnet34 on cifar100, seed 2
f173e89441aca7b248398c080e5a7f3a craft pgd20 on preact_resnet18 on cifar10, seed 0 from 0.05
222a3401069116c47dadd385cdc17632 craft eot on preact_resnet18 on cifar10, seed 0
479263ae6a8797a342e4157c173bfecf predict pgd20 on preact_resnet18 on cifar10, seed 0: 0.05 to 0.30
""",
    "smoke": """
5a9650e3e4c85fbaf46da1387cb24519 data digits
7893cb52af544ffe74bf0deb70a76506 train dense (adversarial) preact_resnet10-w0.25 on digits, seed 0
81701b9d636fdc911d1d74c602c5a9f6 search 5 % preact_resnet10-w0.25 on digits, seed 0
d2ee47517d01c237c3822df6caf06781 craft ensemble on wide_resnet10-w0.15 on digits20, seed 0
ef187d54697cfb076f3fcdd65619baac predict clean on preact_resnet10-w0.25 on digits, seed 0: clean to dense
""",
}


@pytest.mark.parametrize("profile", GOLDEN)
def test_golden_keys(profile: str) -> None:
    made = planned(TABLE3, profile)
    titles = [line.partition(" ")[2] for line in GOLDEN[profile].strip().splitlines()]
    # Half a digest is enough to tell, and fits on the line.
    assert "\n".join(f"{titled(made, title).key[:32]} {title}" for title in titles) == GOLDEN[profile].strip()


def test_a_key_is_the_digest_of_its_node() -> None:
    for key, node in planned(TABLE3, "desk").nodes.items():
        assert key == node.key == node_key(node.kind, node.spec, node.inputs)
        assert re.fullmatch("[0-9a-f]{64}", key)
        assert json.loads(json.dumps(node.spec)) == node.spec


def keys_of(folder: Path, *pairs: tuple[str, str]) -> dict[str, set[str]]:
    made = planned(written(folder, changed(TINY, *pairs)))
    return {kind: {node.key for node in made.nodes.values() if node.kind == kind} for kind in kinds(made)}


AT = "  at:\n    epochs: 1\n"
RST = "  rst:\n    epochs: 1\n"
ALL = {"data", "train", "search", "craft", "predict"}
FITTED = ALL - {"data"}
OF_TICKETS = {"search", "craft", "predict"}
OF_DENSE = {"train", "craft", "predict"}


@pytest.mark.parametrize(
    "pair, kinds_that_change",
    [
        (("validation_fraction: 0.05", "validation_fraction: 0.06"), FITTED),
        (("validation_fraction: 0.05", "validation_fraction: 0.05, validation_seed: 1"), FITTED),
        (("source: digits", "source: digits20"), ALL),
        (("family: preact_resnet10", "family: preact_resnet18"), FITTED),
        (("width: 0.06", "width: 0.12"), FITTED),
        (("seeds: [0]", "seeds: [1]"), FITTED),
        ((AT, AT.replace("1", "2")), OF_DENSE),
        ((RST, RST.replace("1", "2")), OF_TICKETS),
        ((RST, RST + "    lr: 0.2\n"), OF_TICKETS),
        ((RST, RST + "    momentum: 0.8\n"), OF_TICKETS),
        ((RST, RST + "    weight_decay: 1e-4\n"), OF_TICKETS),
        ((RST, RST + "    inner_bn: eval\n"), OF_TICKETS),
        ((RST, RST + "    rank: score\n"), OF_TICKETS),
        ((RST, RST + "    engine: {threads: 2}\n"), OF_TICKETS),
        ((RST, RST + "    engine: {precision: bf16}\n"), OF_TICKETS),
        ((RST, RST + "    engine: {layout: channels_last}\n"), OF_TICKETS),
        (("batch: 256", "batch: 128"), FITTED),
        (("padding: 1", "padding: 2"), FITTED),
        (("flip: false", "flip: true"), FITTED),
        (("{kind: constant}", "{kind: cosine}"), FITTED),
        (("{kind: constant}", "{kind: constant, warmup_epochs: 1}"), FITTED),
        (('kind: fgsm_rs, epsilon: "24/255"', 'kind: fgsm, epsilon: "24/255"'), FITTED),
        (('kind: fgsm_rs, epsilon: "24/255"', 'kind: fgsm_rs, epsilon: "23/255"'), FITTED),
        (("{every: 1, steps: 1}", "{every: 1, steps: 2}"), FITTED),
        (("{every: 1, steps: 1}", "{every: 2, steps: 1}"), FITTED),
        (("{every: 1, steps: 1}", '{every: 1, steps: 1, epsilon: "1/255"}'), FITTED),
        (("search: rst,", "search: rst, pattern: row,"), OF_TICKETS),
        (("search: rst,", "search: rst, init: kaiming_normal,"), OF_TICKETS),
        (("training: at", "training: at, init: kaiming_uniform"), OF_DENSE),
        (("training: at", "training: at, bn_affine: false"), OF_DENSE),
        (("training: at", "training: at, classifier_bias: false"), OF_DENSE),
        (("search: rst,", "search: rst, checkpoint: last,"), {"craft", "predict"}),
        (("[0.1, 0.3]", "[0.1, 0.4]"), OF_TICKETS),
        (('pgd, epsilon: "24/255"', 'pgd, epsilon: "16/255"'), {"craft", "predict"}),
        (("steps: 2,", "steps: 3,"), {"craft", "predict"}),
        (("steps: 2,", 'steps: 2, step_size: "1/255",'), {"craft", "predict"}),
        (("steps: 2,", "steps: 2, restarts: 2,"), {"craft", "predict"}),
        (("steps: 2,", "steps: 2, start: zero,"), {"craft", "predict"}),
        (("steps: 2,", "steps: 2, batch: 64,"), {"craft", "predict"}),
        (("steps: 2,", "steps: 2, engine: {threads: 2},"), {"craft", "predict"}),
        (("samples: 50", "samples: 51"), {"craft", "predict"}),
        ((", stop: source_fooled", ""), {"craft", "predict"}),
        (("search: rst,", "search: rst, probabilities: [0.25, 0.75],"), {"craft", "predict"}),
        (("view: eot", "view: ensemble"), {"craft", "predict"}),
        (("view: eot", "view: ensemble, average: probabilities"), {"craft", "predict"}),
        (("{kind: clean}", "{kind: clean, batch: 64}"), {"predict"}),
        (("{kind: clean}", "{kind: clean, samples: 64}"), {"predict"}),
    ],
    ids=lambda value: None if isinstance(value, set) else value[1].strip(),
)
def test_what_changes_bits_changes_keys(tmp_path: Path, pair: tuple[str, str], kinds_that_change: set[str]) -> None:
    before, after = keys_of(tmp_path), keys_of(tmp_path, pair)
    assert {kind for kind in ALL if before[kind] != after[kind]} == kinds_that_change


def test_the_content_of_the_data_is_part_of_every_key(tmp_path: Path) -> None:
    suite = load_suite(written(tmp_path))
    facts = facts_of(suite)
    before = plan(suite, facts).nodes
    ((spec, known),) = facts.items()
    other = type(known)(**{**vars(known), "fingerprint": "f" * 64})
    assert not before.keys() & plan(suite, {spec: other}).nodes.keys()


@pytest.mark.parametrize(
    "pair",
    [
        ("name: tiny", "name: other"),
        ("title: Two tickets", "title: 2 tickets"),
        ("seeds:", "description: words\nseeds:"),
        ("training: at", "training: at, report_as: dense"),
        ("search: rst,", "search: rst, report_as: switch,"),
        ("search: rst,", "search: rst, probabilities: [0.5, 0.5],"),
        ("variant: adaptive", "variant: other, headline: true"),
        ("report_as: eot_pgd20", "report_as: eot"),
        ("{kind: clean}", "{kind: clean, report_as: natural}"),
        ("  paper: 3\n", "  rows: [dataset, defense]\n  columns: [network, attack]\n"),
        ("rst", "renamed"),
        ("pgd20: {kind: pgd, ", 'pgd20: {kind: pgd, step_size: "6/255", '),
        ("batch: 256\n", "batch: 256\n    weight_decay: 0.0005\n"),
        ('"24/255"', '"48/510"'),
    ],
    ids=lambda value: value[1].strip(),
)
def test_names_and_notation_do_not_change_keys(tmp_path: Path, pair: tuple[str, str]) -> None:
    before, after = keys_of(tmp_path), keys_of(tmp_path, pair)
    assert before == after


CRAFTED: dict[str, dict[str, Any]] = {
    "fgsm": {"epsilon": "4/255", "step_size": "3/255"},
    "pgd": {
        "epsilon": "4/255", "step_size": "3/255", "steps": 3, "restarts": 2, "start": "zero", "stop": "source_fooled",
    },
    "apgd": {"epsilon": "4/255", "loss": "dlr", "steps": 3, "restarts": 2, "keep": "best_loss"},
    "cw_l2": {
        "confidence": 1.0, "binary_search_steps": 2, "iterations": 3, "initial_const": 0.2, "lr": 0.1,
        "abort_early": False,
    },
    "cw_inf": {
        "form": "bounded", "epsilon": "4/255", "steps": 3, "initial_const": 0.2, "lr": 0.1, "step_size": "1/255",
    },
    "autoattack": {
        "epsilon": "4/255", "version": "rand", "steps": 3, "square_queries": 3, "eot_queries": 3,
    },
    "square": {"epsilon": "4/255", "queries": 3, "p_init": 0.5},
    "bandits": {
        "epsilon": "4/255", "queries": 3, "fd_eta": 0.5, "image_lr": 0.5, "online_lr": 0.5, "exploration": 0.5,
        "tile": 4,
    },
    "arc": {"epsilon": "4/255", "steps": 3, "rho": 0.5, "rivals": 2},
    "hinge": {"epsilon": "4/255", "steps": 3, "restarts": 2},
}  # fmt: skip
ALSO: dict[str, Any] = {"samples": 7, "batch": 9, "engine": {"folding": False}}
OF_VIEWS: tuple[dict[str, str], ...] = (
    {"view": "ensemble"}, {"view": "ensemble", "average": "probabilities"},
    {"view": "eot"}, {"view": "eot", "expectation": "mean_unit_gradient"},
)  # fmt: skip
"""Each of them other work. Without its view, a field changes nothing, and no key."""
OTHER_NORM = {"norm": "l2", "epsilon": 1.0}


def craft_key(kind: str, **fields: Any) -> str:
    spec = attack_spec({"kind": kind, **fields}, kind)
    assert isinstance(spec, CraftedSpec)
    data = DatasetSpec(source="cifar10")
    nodes = Nodes(load_suite(TABLE3).run, {data: known_facts(data)})
    return nodes.craft(spec, data, [Member("a" * 64, "last", "one", 1.0)], 0, "any title")


@pytest.mark.parametrize("kind", CRAFTED)
def test_every_field_of_an_attack_is_part_of_its_key_but_the_tables(kind: str) -> None:
    usual = craft_key(kind)
    spec = type(attack_spec({"kind": kind}, kind))
    assert craft_key(kind, report_as="other", variant="x", headline=True) == usual
    changes = CRAFTED[kind] | ALSO
    of_views = () if kind in ("arc", "hinge") else OF_VIEWS
    reused = [] if "smaller_epsilons" not in spec.model_fields else [{"smaller_epsilons": ["2/255"]}]
    if "smaller_step_sizes" in spec.model_fields:
        reused.append({"smaller_epsilons": ["2/255"], "smaller_step_sizes": ["1/510"]})
    of_form = {"form": "bounded"} if kind == "cw_inf" else {}
    tried = set(changes) | {"kind", "norm"} | {name for fields in (*of_views, *reused) for name in fields}
    assert tried | NOT_CRAFTED >= set(spec.model_fields), "a field was added to the attack: try it here"
    keys = [craft_key(kind, **{name: value}) for name, value in changes.items()]
    keys += [craft_key(kind, **fields) for fields in of_views]
    keys += [craft_key(kind, **fields, **of_form) for fields in reused]
    if "norm" in spec.model_fields and kind not in ("fgsm", "cw_inf"):
        keys.append(craft_key(kind, **OTHER_NORM))
    assert len({usual, *keys}) == len(keys) + 1
    # Of gradients: what asks for none does the same in both.
    assert (craft_key(kind, engine={"precision": "bf16"}) == usual) == (kind in BLACK_BOX)
    if of_views:
        assert craft_key(kind, average="probabilities", expectation="mean_unit_gradient") == usual
    if "within_epsilon" in spec.model_fields:
        assert craft_key(kind, within_epsilon=0.5 if kind == "cw_l2" else True) == usual


def test_defaults_of_an_attack_are_written_out_in_its_key() -> None:
    assert craft_key("fgsm") == craft_key("fgsm", step_size="8/255")
    assert craft_key("pgd") == craft_key("pgd", step_size="2/255", steps=20, epsilon="16/510")
    assert craft_key("bandits") == craft_key("bandits", fd_eta=0.1, online_lr=100.0)
    assert craft_key("bandits", **OTHER_NORM) == craft_key("bandits", fd_eta=0.01, **OTHER_NORM)


def test_profile_does_not_change_keys(tmp_path: Path) -> None:
    path = written(tmp_path, TINY + "profiles: {smoke: {}, desk: {seeds: [0, 1]}}\n")
    assert planned(path).nodes.keys() == planned(path, "smoke").nodes.keys()
    assert planned(path).nodes.keys() < planned(path, "desk").nodes.keys()


# ---- the graph -------------------------------------------------------------------------------------------------------


def test_the_papers_table_3() -> None:
    made = planned(TABLE3, "paper")
    settings, seeds, ratios = 4, 3, 6
    assert len(made.cells) == settings * 8
    assert kinds(made) == {
        "data": 2,
        "train": settings * seeds,
        "search": settings * seeds * ratios,
        # Dense: two attacks. R2S: two attacks on each member, and two adaptive ones.
        "craft": settings * seeds * (2 + 2 * ratios + 2),
        "predict": settings * seeds * (3 + ratios + 2 * ratios**2 + 2 * ratios),
    }


@pytest.mark.parametrize("profile", PROFILES)
def test_inputs_come_first(profile: str) -> None:
    seen: set[str] = set()
    for key, node in planned(TABLE3, profile).nodes.items():
        assert set(node.inputs.values()) <= seen
        seen.add(key)


def test_r2s_is_a_matrix_of_sources_and_members() -> None:
    made = planned(TABLE3, "paper")
    cell = next(c for c in made.cells if c.columns["defense"] == "r2s" and c.attack_key == "pgd20")
    labels = ("0.05", "0.07", "0.10", "0.15", "0.20", "0.30")
    assert cell.sources == cell.members == labels
    assert cell.probabilities == (1 / 6,) * 6
    assert len(cell.predictions) == 3
    for seed, rows in enumerate(cell.predictions):
        assert [len(row) for row in rows] == [6] * 6
        for source, row in zip(labels, rows, strict=True):
            # One set of adversarial images for each source, and each member on its own column.
            (images,) = {made.nodes[key].inputs["images"] for key in row}
            member = made.nodes[images].inputs["member_0"]
            assert made.nodes[member].title.startswith(f"search {100 * float(source):g} %")
            assert made.nodes[member].spec["seed"] == seed
        for column, ratio in enumerate(labels):
            (target,) = {made.nodes[row[column]].inputs["target"] for row in rows}
            assert made.nodes[target].spec["remaining_ratio"] == float(ratio)


def test_adaptive_attacks_see_all_members() -> None:
    made = planned(TABLE3, "paper")
    for attack in ("eot", "ensemble"):
        cell = next(c for c in made.cells if c.attack_key == attack)
        assert cell.sources == (attack,)
        ((row, *_), *_) = cell.predictions
        craft = made.nodes[made.nodes[row[0]].inputs["images"]]
        members = [craft.inputs[f"member_{i}"] for i in range(6)]
        assert [made.nodes[key].spec["remaining_ratio"] for key in members] == [0.05, 0.07, 0.10, 0.15, 0.20, 0.30]


def test_clean_images_are_predicted_once() -> None:
    made = planned(TABLE3, "paper")
    cell = next(c for c in made.cells if c.columns["defense"] == "r2s" and c.columns["attack"] == "none")
    assert cell.sources == ("clean",)
    assert all(made.nodes[made.nodes[key].inputs["images"]].kind == "data" for key in cell.predictions[0][0])


def test_columns_are_the_papers_and_run_columns_ours() -> None:
    cell = next(c for c in planned(TABLE3, "smoke").cells if c.attack_key == "pgd20" and c.columns["defense"] == "r2s")
    assert cell.columns == {
        "table": "3",
        "dataset": "cifar10",
        "network": "preact_resnet18",
        "defense": "r2s",
        "ratio": "",
        "candidate_set": "0.05 0.07 0.10 0.15 0.20 0.30",
        "attack": "pgd20",
        "norm": "linf",
        "eps": "8",
        "attack_source": "",
        "metric": "robust_acc",
        "variant": "",
    }
    assert cell.run == {"run_dataset": "digits", "run_network": "preact_resnet10-w0.25", "run_eps": "16"}
    assert cell.substitutes == tuple(
        f"substitute:{what}" for what in ("data", "network", "attack", "schedule", "seeds")
    )


def test_the_papers_setting_has_no_substitutes() -> None:
    assert all(cell.substitutes == () for cell in planned(TABLE3, "paper").cells)


def test_a_substituted_defense_is_flagged(tmp_path: Path) -> None:
    overlay = "profiles: {smoke: {defenses: {r2s: {ratios: [0.1, 0.2]}}}}\n"
    made = planned(written(tmp_path, TINY + overlay), "smoke")
    assert {cell.columns["defense"]: cell.substitutes for cell in made.cells} == {
        "dense_at": (),
        "r2s": ("substitute:defense",),
    }


def test_suites_share_equal_work(tmp_path: Path) -> None:
    text = """
schema: 1
name: single_tickets
title: One ticket of Table 3, alone
matrix: {dataset: [cifar10], network: [preact_resnet18]}
datasets: {cifar10: {source: cifar10}}
networks: {preact_resnet18: {family: preact_resnet18}}
searches:
  any_name:
    lr_schedule: {milestones: [80, 120]}
defenses: {rst: {kind: ticket, ratio: 0.05, search: any_name}}
attacks:
  nothing: {kind: clean}
  pgd: {kind: pgd, report_as: pgd20, stop: source_fooled}
  weak: {kind: pgd, epsilon: "4/255"}
table: {cells: [{defense: rst, attack: nothing}, {defense: rst, attack: pgd}, {defense: rst, attack: weak}]}
"""
    table3, single = planned(TABLE3), planned(written(tmp_path, text))
    merged = merge_nodes([table3, single])
    assert len(merged) < len(table3.nodes) + len(single.nodes)
    new = {key: node for key, node in single.nodes.items() if key not in table3.nodes}
    # Table 3 has the data, the tickets, and the attack that the paper names; the diagonal holds its predictions.
    assert kinds(new) == {"craft": 3, "predict": 3}
    assert kinds(single) == {"data": 1, "search": 3, "craft": 6, "predict": 9}
    assert list(merged) == [*table3.nodes, *new]


@pytest.mark.parametrize(
    "source, epsilon, step",
    [
        ("cifar10", "8/255", "2/255"),
        ("cifar100", "16/255", "2/255"),
        ("svhn", "8/255", "2/255"),
        ("svhn", "16/255", "4/255"),
        ("digits", "24/255", "2/85"),
    ],
)
def test_default_step_size(tmp_path: Path, source: str, epsilon: str, step: str) -> None:
    text = changed(
        TINY, ("source: digits", f"source: {source}"), ('pgd, epsilon: "24/255"', f'pgd, epsilon: "{epsilon}"')
    )
    made = planned(written(tmp_path, text))
    found = {node.spec["attack"]["step_size"] for node in made.nodes.values() if node.kind == "craft"}
    assert found == {step}


def test_default_step_size_of_l2(tmp_path: Path) -> None:
    text = changed(TINY, ('pgd, epsilon: "24/255"', "pgd, norm: l2, epsilon: 0.5"))
    made = planned(written(tmp_path, text))
    assert {n.spec["attack"]["step_size"] for n in made.nodes.values() if n.kind == "craft"} == {2.5 * 0.5 / 2}
    assert {cell.columns["eps"] for cell in made.cells} == {"", "0.5"}


def test_probabilities(tmp_path: Path) -> None:
    made = planned(written(tmp_path, changed(TINY, ("search: rst,", "search: rst, probabilities: [0.25, 0.75],"))))
    assert {cell.probabilities for cell in made.cells} == {(1.0,), (0.25, 0.75)}


def test_costs_grow_with_the_work(tmp_path: Path) -> None:
    def macs(*pairs: tuple[str, str]) -> dict[str, float]:
        made = planned(written(tmp_path, changed(TINY, *pairs)))
        return {kind: sum(n.macs for n in made.nodes.values() if n.kind == kind) for kind in ALL}

    base = macs()
    assert base["data"] == 0 and all(base[kind] > 0 for kind in FITTED)
    twice = macs((RST, RST.replace("1", "2")), ("steps: 2,", "steps: 4,"))
    assert twice["search"] == pytest.approx(2 * base["search"])
    assert twice["craft"] == pytest.approx(2 * base["craft"])
    assert twice["train"] == base["train"] and twice["predict"] == base["predict"]
    assert macs(("samples: 50", "samples: 1000000"))["craft"] == pytest.approx(base["craft"] * 359 / 50)


# ---- choosing cells, and faults --------------------------------------------------------------------------------------


def test_only() -> None:
    suite = load_suite(TABLE3)
    chosen = plan(suite, facts_of(suite), {"dataset": "cifar10", "network": "preact_resnet18", "attack": "pgd20"})
    assert len(chosen.cells) == 4
    assert all(cell.columns["attack"] == "pgd20" for cell in chosen.cells)
    assert chosen.nodes.keys() < plan(suite, facts_of(suite)).nodes.keys()
    assert kinds(chosen)["data"] == 1


def test_only_nothing() -> None:
    suite = load_suite(TABLE3)
    with pytest.raises(SpecError, match="suite table3_r2s: no cell of the table has defense=dense_at, eps=9"):
        plan(suite, facts_of(suite), {"defense": "dense_at", "eps": "9"})


def test_facts_of_left_out_data_are_not_needed() -> None:
    suite = load_suite(TABLE3)
    facts = {spec: known for spec, known in facts_of(suite).items() if spec.source == "cifar10"}
    assert plan(suite, facts, {"dataset": "cifar10"}).cells


def test_a_cell_may_keep_to_one_axis_value(tmp_path: Path) -> None:
    cell = "- {defense: dense_at, attack: clean"
    text = changed(TABLE3.read_text(encoding="utf-8"), (cell, cell + ", dataset: cifar100"))
    made = planned(written(tmp_path, text))
    chosen = [c for c in made.cells if c.columns["defense"] == "dense_at" and c.columns["attack"] == "none"]
    assert [cell.columns["dataset"] for cell in chosen] == ["cifar100", "cifar100"]
    assert len(made.cells) == 30


@pytest.mark.parametrize(
    "overlay, name, room",
    [
        ("datasets: {more: {source: digits20}}, matrix: {dataset: [cifar10, more]}", "more", "datasets"),
        ("networks: {more: {family: wide_resnet10}}, matrix: {network: [more]}", "more", "networks"),
        (
            "attacks: {more: {kind: clean}}, table: {cells: [{defense: r2s, attack: more}]}",
            "more",
            "attacks",
        ),
        (
            "defenses: {more: {kind: dense, training: at}}, table: {cells: [{defense: more, attack: clean}]}",
            "more",
            "defenses",
        ),
    ],
)
def test_what_only_an_overlay_names(tmp_path: Path, overlay: str, name: str, room: str) -> None:
    path = written(tmp_path, TINY + f"profiles: {{smoke: {{{overlay}}}}}\n")
    assert planned(path, "paper").cells
    with pytest.raises(SpecError, match=f"suite tiny: profile smoke runs '{name}', .* `{room}` too"):
        planned(path, "smoke")


def test_an_overlay_may_choose_fewer_cells(tmp_path: Path) -> None:
    overlay = "profiles: {smoke: {table: {cells: [{defense: r2s, attack: eot}]}}}\n"
    made = planned(written(tmp_path, TINY + overlay), "smoke")
    assert [cell.attack_key for cell in made.cells] == ["eot"]


def test_two_cells_that_are_one_row(tmp_path: Path) -> None:
    text = changed(
        TINY,
        (
            "  r2s: {kind",
            "  dense_two: {kind: dense, training: at, init: xavier_normal, report_as: dense_at}\n  r2s: {kind",
        ),
        ("    - {defense: r2s, attack: clean}", "    - {defense: dense_two, attack: clean}"),
    )
    with pytest.raises(SpecError, match=r"two cells are the same row of the table \(3, cifar10.*report_as"):
        planned(written(tmp_path, text))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_suites_plan_in_every_profile(path: Path, profile: str) -> None:
    made = planned(path, profile)
    full = load_suite(path, "paper").paper.table.cells
    assert len(made.cells) >= len(full)
    named = {name for cell in made.cells for name in cell.columns["dataset"].split()}
    assert named == set(made.suite.paper.matrix.dataset)


@pytest.mark.parametrize(
    "ratio, text", [(0.05, "0.05"), (0.1, "0.10"), (0.3, "0.30"), (0.125, "0.125"), (1.0, "1.00"), (0.001, "0.001")]
)
def test_ratio_text(ratio: float, text: str) -> None:
    assert ratio_text(ratio) == text


@pytest.mark.parametrize("epsilon, text", [("8/255", "8"), ("1/510", "0.5"), ("0.03", "7.65"), ("0", "0")])
def test_reported_budget(epsilon: str, text: str) -> None:
    assert reported_budget(PgdSpec(kind="pgd", epsilon=epsilon)) == ("linf", text)


def test_planning_needs_no_torch() -> None:
    code = (
        "import sys\nfrom pathlib import Path\nsys.path.insert(0, 'tests')\nfrom suites import planned\n"
        f"planned(Path({str(TABLE3)!r}), 'paper')\nprint('torch' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.split()) == (0, ["False", "False"]), done.stderr


def test_a_count_of_parameters_plans_no_network() -> None:
    """Nothing is trained for it; where a network is measured too, it is planned for that."""
    made = planned(Path(__file__).parents[1] / "suites" / "sizes.yaml")
    assert {node.kind for node in made.nodes.values()} == {"measure"}
    assert {key for cell in made.cells for key in cell.values} == set(made.nodes)
