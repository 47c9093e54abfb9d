"""Which images attacks stand for: transfers, adversaries that choose, held-out images, limits of the judgement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rstbench.errors import SpecError
from rstbench.images import attacks_behind
from rstbench.nodes import Node
from rstbench.plan import Plan, PlannedCell, plan
from rstbench.spec.load import load_suite
from tests.suites import TINY, changed, facts_of, planned, written

FIVE = """    - {defense: dense_at, attack: clean}
    - {defense: dense_at, attack: pgd20}
    - {defense: r2s, attack: clean}
    - {defense: r2s, attack: pgd20}
    - {defense: r2s, attack: eot}
"""
SUITE = changed(
    TINY,
    ("attacks:\n", """  one: {kind: ticket, search: rst, ratio: 0.1}
  two: {kind: r2s, search: rst, ratios: [0.1, 0.3], probabilities: [0.25, 0.75]}
attacks:
"""),
    ("table:\n", """  eot2: {kind: pgd, epsilon: "24/255", steps: 3, samples: 50, view: eot, variant: three}
  switch: {kind: square, epsilon: "24/255", samples: 50, view: switch}
  arc: {kind: arc, epsilon: "24/255", samples: 50}
  hinge: {kind: hinge, epsilon: "24/255", samples: 50}
  worst: {kind: worst_source, of: pgd20}
  any: {kind: any_of, of: eot, tries: 7}
  point: {kind: pointwise, over: [pgd20, eot, arc]}
  game: {kind: game, over: [pgd20, eot], held_out: 20}
  cw: {kind: cw_l2, samples: 50}
  cw_near: {kind: cw_l2, samples: 50, within_epsilon: 0.5}
  penalty: {kind: cw_inf, epsilon: "24/255", samples: 50}
  penalty_near: {kind: cw_inf, epsilon: "24/255", samples: 50, within_epsilon: true, variant: near}
table:
"""),
    (FIVE, "CELLS"),
)  # fmt: skip


def suite_of(folder: Path, *cells: str, text: str = SUITE) -> Path:
    return written(folder, changed(text, ("CELLS", "".join(f"    - {cell}\n" for cell in cells))))


def one(folder: Path, cell: str, text: str = SUITE) -> tuple[Plan, PlannedCell]:
    made = planned(suite_of(folder, cell, text=text))
    return made, made.cells[0]


def craft_of(made: Plan, key: str) -> Node:
    """What a predict node's images are."""
    return made.nodes[made.nodes[key].inputs["images"]]


# ---- views -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attack, label, members",
    [("eot", "eot", 2), ("switch", "switch", 2), ("arc", "arc", 2), ("hinge", "hinge", 2), ("pgd20", "0.10", 1)],
)
def test_who_is_attacked(tmp_path: Path, attack: str, label: str, members: int) -> None:
    made, cell = one(tmp_path, f"{{defense: two, attack: {attack}}}")
    assert cell.sources[0] == label and cell.score == "mean" and cell.members == ("0.10", "0.30")
    craft = craft_of(made, cell.predictions[0][0][0])
    assert set(craft.inputs) == {"data", *(f"member_{i}" for i in range(members))}
    # Only who holds several members needs their probabilities.
    assert craft.spec.get("probabilities") == ([0.25, 0.75] if members == 2 else None)


def test_uniform_probabilities_are_not_written_down(tmp_path: Path) -> None:
    made, cell = one(tmp_path, "{defense: r2s, attack: switch}")
    assert "probabilities" not in craft_of(made, cell.predictions[0][0][0]).spec


# ---- transfers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell, label, kind",
    [
        ("{defense: one, attack: pgd20, source: dense_at}", "dense_at", "train"),
        ("{defense: one, attack: pgd20, source_seed: other}", "same_ratio_other_seed", "search"),
        ("{defense: one, attack: pgd20, source: dense_at, source_seed: other}", "dense_at_other_seed", "train"),
        ("{defense: one, attack: pgd20}", "", "search"),
    ],
)
def test_where_images_come_from(tmp_path: Path, cell: str, label: str, kind: str) -> None:
    made, found = one(tmp_path, cell)
    assert found.columns["attack_source"] == label and found.columns["defense"] == "one"
    (((key,),),) = found.predictions
    craft = craft_of(made, key)
    source, target = made.nodes[craft.inputs["member_0"]], made.nodes[made.nodes[key].inputs["target"]]
    assert source.kind == kind and (target.kind, target.spec["seed"]) == ("search", 0)
    assert source.spec["seed"] == (1 if "other" in label else 0)  # one seed only: the next number
    assert craft.spec["seed"] == 0


def test_the_papers_names_of_sources(tmp_path: Path) -> None:
    text = changed(SUITE, ("training: at}", "training: at, report_as: dense_nat}"))
    assert one(tmp_path, "{defense: one, attack: pgd20, source: dense_at}", text)[1].columns["attack_source"] == (
        "dense_nat"
    )


@pytest.mark.parametrize("seeds, others", [((0, 1, 2), (1, 2, 0)), ((5, 3), (3, 5)), ((4,), (5,))])
def test_another_seed_is_one_of_the_suite_where_there_is_one(
    tmp_path: Path, seeds: tuple[int, ...], others: tuple[int, ...]
) -> None:
    text = changed(SUITE, ("seeds: [0]", f"seeds: {list(seeds)}"))
    made = planned(
        suite_of(
            tmp_path, "{defense: one, attack: pgd20}", "{defense: one, attack: pgd20, source_seed: other}", text=text
        )
    )
    direct, moved = made.cells
    for place, (seed, other) in enumerate(zip(seeds, others, strict=True)):
        key = moved.predictions[place][0][0]
        source = made.nodes[craft_of(made, key).inputs["member_0"]]
        target = made.nodes[made.nodes[key].inputs["target"]]
        assert (source.spec["seed"], target.spec["seed"]) == (other, seed)
        if len(seeds) > 1:  # the other seed's own search, and no further one
            assert source.key == made.nodes[direct.predictions[seeds.index(other)][0][0]].inputs["target"]
    searches = {node.key for node in made.nodes.values() if node.kind == "search"}
    assert len(searches) == max(len(seeds), 2)


def test_images_of_a_source_are_shared_with_it(tmp_path: Path) -> None:
    made = planned(
        suite_of(tmp_path, "{defense: dense_at, attack: pgd20}", "{defense: one, attack: pgd20, source: dense_at}")
    )
    direct, moved = (made.nodes[cell.predictions[0][0][0]].inputs["images"] for cell in made.cells)
    assert direct == moved


def test_a_switch_may_be_the_source_of_a_single_network(tmp_path: Path) -> None:
    made, cell = one(tmp_path, "{defense: dense_at, attack: eot, source: two}")
    assert cell.probabilities == (1.0,) and cell.members == ("dense",)
    assert craft_of(made, cell.predictions[0][0][0]).spec["probabilities"] == [0.25, 0.75]
    made, cell = one(tmp_path, "{defense: two, attack: pgd20, source: one}")
    assert (cell.sources, cell.members) == (("0.10",), ("0.10", "0.30"))


def test_a_source_that_only_an_overlay_has(tmp_path: Path) -> None:
    overlay = """profiles:
  smoke:
    defenses: {extra: {kind: dense, training: at}}
    table: {cells: [{defense: one, attack: pgd20, source: extra}]}
"""
    path = suite_of(tmp_path, "{defense: one, attack: pgd20}", text=SUITE + overlay)
    with pytest.raises(SpecError, match=r"profile smoke runs 'extra', .* `defenses` too"):
        planned(path, "smoke")


# ---- adversaries that choose -----------------------------------------------------------------------------------------


def test_what_stands_behind_an_attack(tmp_path: Path) -> None:
    suite = load_suite(suite_of(tmp_path, "{defense: two, attack: game}")).run
    assert attacks_behind(suite, "pgd20") == ("pgd20",)
    assert attacks_behind(suite, "worst") == ("worst", "pgd20")
    assert attacks_behind(suite, "point") == ("point", "pgd20", "eot", "arc")


@pytest.mark.parametrize(
    "attack, sources, score, tries",
    [
        ("worst", ("0.10", "0.30"), "worst_source", 1),
        ("any", ("eot",), "any_of", 7),
        ("point", ("clean", "pgd20/0.10", "pgd20/0.30", "eot/eot", "arc/arc"), "pointwise", 1),
        ("game", ("clean", "pgd20/0.10", "pgd20/0.30", "eot/eot"), "game", 1),
    ],
)
def test_sources_of_adversaries_that_choose(
    tmp_path: Path, attack: str, sources: tuple[str, ...], score: str, tries: int
) -> None:
    made, cell = one(tmp_path, f"{{defense: two, attack: {attack}}}")
    assert (cell.sources, cell.score, cell.tries, cell.attack_kind) == (sources, score, tries, score)
    assert (cell.columns["norm"], cell.columns["eps"], cell.columns["metric"]) == ("linf", "24", "robust_acc")
    assert [len(row) for row in cell.predictions[0]] == [2] * len(sources)
    if sources[0] == "clean":
        clean = made.nodes[cell.predictions[0][0][0]]
        assert made.nodes[clean.inputs["images"]].kind == "data" and clean.spec["samples"] == 50


def test_what_is_chosen_from_is_no_new_work(tmp_path: Path) -> None:
    attacks = ("pgd20", "eot", "arc")
    alone = planned(suite_of(tmp_path, *(f"{{defense: two, attack: {name}}}" for name in attacks)))
    further = ("worst", "any", "point")
    cells = [f"{{defense: two, attack: {name}}}" for name in (*attacks, *further)]
    made = planned(suite_of(tmp_path, *cells))
    new = [node for key, node in made.nodes.items() if key not in alone.nodes]
    assert {node.kind for node in new} == {"predict"} and len(new) == 2  # the 50 clean images, by two members
    chosen = {cell.attack_key: cell for cell in made.cells}
    expected = chosen["pgd20"].predictions[0] + chosen["eot"].predictions[0] + chosen["arc"].predictions[0]
    assert chosen["point"].predictions[0][1:] == expected


def test_held_out_images_are_nodes_of_their_own(tmp_path: Path) -> None:
    made, cell = one(tmp_path, "{defense: two, attack: game}")
    ((*rows,),) = cell.held_out
    assert len(rows) == len(cell.sources) and not {k for r in rows for k in r} & {
        k for r in cell.predictions[0] for k in r
    }
    for row, tested in zip(rows, cell.predictions[0], strict=True):
        for key, other in zip(row, tested, strict=True):
            source = craft_of(made, key)
            where = made.nodes[key] if source.kind == "data" else source
            assert where.spec["held_out"] == 20 and where.spec["cut"] == {
                "validation_fraction": 0.05, "validation_seed": 0,
            }  # fmt: skip
            assert made.nodes[key].inputs["target"] == made.nodes[other].inputs["target"]
            if source.kind == "craft":
                assert "held_out images" not in source.title and "held-out images" in source.title
                assert "held_out" not in craft_of(made, other).spec and source.macs < craft_of(made, other).macs
    # The part of the training set that it is must be in the key, and be no part of other keys.
    text = changed(SUITE, ("validation_fraction: 0.05", "validation_fraction: 0.05, validation_seed: 3"))
    again, other_cell = one(tmp_path, "{defense: two, attack: game}", text)
    assert again.nodes[other_cell.held_out[0][1][0]].key not in made.nodes


def test_no_more_held_out_images_than_there_are(tmp_path: Path) -> None:
    text = changed(SUITE, ("held_out: 20", "held_out: 5000"))
    made, cell = one(tmp_path, "{defense: two, attack: game}", text)
    assert made.nodes[cell.held_out[0][0][0]].passes == round(1438 * 0.05)


def test_of_the_smallest_training_set_one_image_is_held_out(tmp_path: Path) -> None:
    text = changed(SUITE, ("validation_fraction: 0.05", "validation_fraction: 0.02"))
    suite = load_suite(suite_of(tmp_path, "{defense: two, attack: game}", text=text))
    # 2 % of them are less than half an image.
    made = plan(suite, {spec: replace(known, train_samples=20) for spec, known in facts_of(suite).items()})
    ((*rows,),) = made.cells[0].held_out
    assert all(made.nodes[key].kind == "predict" and made.nodes[key].passes == 1 for row in rows for key in row)


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("over: [pgd20, eot, arc]", "over: [pgd20, cw_near]", r"differ in their budgets \(l2 0.5, linf 24\)"),
        ("over: [pgd20, eot, arc]", "over: [pgd20, penalty]", r"differ in their budgets \(linf 24, linf without bound"),
        ("over: [pgd20, eot, arc]", "over: [cw, cw_near]", "differ in their budgets"),
        ("{kind: arc, epsilon: \"24/255\", samples: 50}", "{kind: arc, epsilon: \"24/255\", samples: 40}",
         r"differ in their `samples` \(40, 50\)"),
    ],
)  # fmt: skip
def test_a_worst_case_is_over_equal_terms(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = changed(SUITE, (old, new))
    with pytest.raises(SpecError, match=f"suite tiny: the attacks that 'point' chooses from {words}"):
        one(tmp_path, "{defense: two, attack: point}", text)


def test_an_image_within_epsilon_may_be_chosen(tmp_path: Path) -> None:
    text = changed(SUITE, ("over: [pgd20, eot, arc]", "over: [pgd20, penalty_near]"))
    assert one(tmp_path, "{defense: two, attack: point}", text)[1].sources[-1] == "penalty_near/0.30"


def test_an_overlay_may_not_choose_from_what_makes_no_images(tmp_path: Path) -> None:
    suite = load_suite(suite_of(tmp_path, "{defense: two, attack: worst}"))
    for other in ("clean", "point"):
        wrong = suite.run.attacks["worst"].model_copy(update={"of": other})
        run = suite.run.model_copy(update={"attacks": {**suite.run.attacks, "worst": wrong}})
        with pytest.raises(SpecError, match=f"'worst' chooses from '{other}', which makes no images"):
            plan(suite.model_copy(update={"run": run}), facts_of(suite))


# ---- limits of the judgement -----------------------------------------------------------------------------------------


def test_far_images_are_of_the_judgement(tmp_path: Path) -> None:
    cells = [f"{{defense: one, attack: {name}}}" for name in ("cw", "cw_near", "penalty", "penalty_near")]
    made = planned(suite_of(tmp_path, *cells))
    far, near, penalty, penalty_near = (made.nodes[cell.predictions[0][0][0]] for cell in made.cells)
    assert far.inputs["images"] == near.inputs["images"] and penalty.inputs["images"] == penalty_near.inputs["images"]
    assert "within" not in far.spec and "data" not in far.inputs and "within" not in penalty.spec
    assert near.spec["within"] == {"norm": "l2", "epsilon": 0.5}
    assert penalty_near.spec["within"] == {"norm": "linf", "epsilon": 24 / 255}
    assert made.nodes[near.inputs["data"]].kind == "data"
    assert [(cell.columns["norm"], cell.columns["eps"]) for cell in made.cells] == [
        ("l2", ""), ("l2", "0.5"), ("linf", "24"), ("linf", "24"),
    ]  # fmt: skip
