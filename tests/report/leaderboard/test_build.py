"""From a store to leaderboards: what the figures are, what is behind them, who is ranked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from rstbench.errors import SpecError
from rstbench.plan import Node
from rstbench.report.leaderboard.behind import Behind
from rstbench.report.leaderboard.build import boards, form_of, write_boards
from rstbench.report.leaderboard.entries import epsilon_of, epsilon_text
from rstbench.report.leaderboard.files import evidence, of_entry
from rstbench.report.leaderboard.measured import Asked, keys_of, measured
from rstbench.report.leaderboard.schema import METRICS, Entry
from rstbench.report.leaderboard.verify import verify
from rstbench.report.predictions import read_samples
from rstbench.report.statistics import bootstrap, wilson
from rstbench.store import Store
from tests.report.leaderboard.stored import BASE, N, built, count, fill, planned, ran, share
from tests.suites import changed


def of(entries: tuple[Entry, ...], name: str, epsilon: str = "8/255") -> Entry:
    return next(each for each in entries if each.row["name"].startswith(name) and each.row["epsilon"] == epsilon)


def right(store: Store, key: str) -> np.ndarray:
    found = read_samples(store, key)
    assert found is not None
    return found.prediction == found.label


def test_the_figures_of_a_switch(tmp_path: Path) -> None:
    store, plan, (made,) = built(tmp_path)
    assert made.name == "cifar10_linf" and made.board.dataset == "cifar10" and made.board.norm == "linf"
    entry = of(made.board.entries, "r2s")
    row = entry.row
    cells = {(cell.columns["attack"], cell.columns["variant"]): cell for cell in plan.cells if cell.defense == "r2s"}

    def correctness(attack: str, variant: str = "") -> np.ndarray:
        grid = cells[attack, variant].predictions[0]
        return np.array([np.mean([right(store, key) for key in members], axis=0) for members in grid])

    clean, paper, never = correctness("none"), correctness("pgd20"), correctness("pgd20", "never stops")
    eot = correctness("eot_pgd20")
    for metric, scores in {"clean": clean, "pgd20_paper": paper, "pgd20": never, "adaptive": eot}.items():
        assert row[metric] == f"{100 * scores.mean():.2f}" and row[f"{metric}_n"] == str(N), metric
        between = bootstrap(np.round(scores.mean(axis=0), 12))
        assert (row[f"{metric}_low"], row[f"{metric}_high"]) == (f"{between.low:.2f}", f"{between.high:.2f}"), metric
    worst = np.concatenate([clean, paper, never, eot]).min(axis=0)
    assert row["worst"] == f"{100 * worst.mean():.2f}" and float(row["worst"]) < float(row["adaptive"])
    assert row["worst_tries"] == "7" and row["adaptive_attack"] == "eot_pgd20" and row["autoattack"] == ""
    assert row["n"] == str(N) and row["seeds"] == "0" and row["members"] == "3"
    own = of_entry(made.samples, row["entry"])
    assert np.allclose(np.sort(own["worst", 0].score), np.sort(worst)) and evidence(own) == row["evidence"]
    assert set(own) == {(metric, 0) for metric in METRICS if row[metric]}


def test_what_is_said_of_an_entry(tmp_path: Path) -> None:
    _, plan, (made,) = built(tmp_path)
    entry = of(made.board.entries, "r2s")
    row = entry.row
    assert row["name"] == "r2s (0.05 0.10 0.30)" and row["defense"] == "r2s"
    assert row["network"] == "preact_resnet18" and row["remaining_ratio"] == "0.05 0.10 0.30"
    assert (row["parameters"], row["parameters_kept"]) == ("1000", "300")
    assert row["ticket_bytes"] == str(3 * len(f"{'0' * 64} best_on_validation"))
    assert "all 3 networks" in row["threat_model"] and "8/255" in row["threat_model"]
    assert row["suite"] == "rstbench run suites/stored.yaml --profile desk" and row["profile"] == "desk"
    assert row["commit"] == "c" * 40 and row["packages"] == "rstbench 0.1.0; python 3.12.1; torch 2.15.0"
    assert row["hardware"] == "a processor" and row["date"] == "2026-11-21" and row["data_fingerprint"] == "0" * 64
    searches = [key for key, node in plan.nodes.items() if node.kind == "search"]
    assert sorted(row["store_keys"].split()) == sorted(searches) == sorted(each.key for each in entry.networks)
    assert all(each.sha256 and each.checkpoint == "best_on_validation" for each in entry.networks)
    (matrix, _) = entry.transfer
    assert tuple(each.member for each in entry.networks) == matrix.members == ("0.05", "0.10", "0.30")
    assert len(matrix.matrix) == len(matrix.sources) == 3
    paper, never, eot = (each for each in entry.rows if each.attack == "pgd")
    assert paper.metrics == ("pgd20_paper", "worst") and paper.stop == "source_fooled" and paper.view == "member"
    assert never.metrics == ("pgd20", "worst") and never.variant == "never stops" and never.label == "pgd20"
    assert eot.metrics == ("adaptive", "worst") and eot.view == "eot" and len(eot.images[0]) == 1
    assert all(each.bounded and not each.transfer for each in entry.rows)


def test_ranks_are_by_worst_case_within_one_epsilon(tmp_path: Path) -> None:
    _, _, (made,) = built(tmp_path)
    rows = [each.row for each in made.board.entries]
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert float(rows[0]["worst"]) > float(rows[1]["worst"])
    dense = of(made.board.entries, "dense_at").row
    assert (
        dense["defense"] == "dense" and dense["worst_tries"] == "2" and dense["adaptive_attack"] == "apgd_ce, 100 steps"
    )
    correct = round(float(dense["worst"]) * N / 100)
    between = wilson(correct, N)
    assert (dense["worst_low"], dense["worst_high"]) == (f"{between.low:.2f}", f"{between.high:.2f}")


def test_another_epsilon_is_another_entry_and_smaller_ones_count_there(tmp_path: Path) -> None:
    text = changed(
        BASE,
        (
            "    - {defense: r2s, attack: clean}",
            "    - {defense: dense_at, attack: far}\n    - {defense: r2s, attack: clean}",
        ),
    )
    _, _, (made,) = built(tmp_path, text)
    assert [each.row["epsilon"] for each in made.board.entries] == ["8/255", "8/255", "12/255"]
    near, far = of(made.board.entries, "dense_at"), of(made.board.entries, "dense_at", "12/255")
    assert float(far.row["worst"]) < float(near.row["worst"]) and far.row["worst_tries"] == "3"
    assert far.row["rank"] == "1" and near.row["entry"] != far.row["entry"]
    assert {each.epsilon for each in far.rows} == {"", "8/255", "12/255"}
    assert {each.epsilon for each in near.rows} == {"", "8/255"}
    assert far.row["pgd20_paper"] == "" and far.row["pgd20"] and near.row["pgd20"] == ""


def fewer(kind: str, images: int) -> object:
    """As `share`, but attacks of a kind are on some of the images only, and there nothing stands."""

    def of_node(node: Node, nodes: Mapping[str, Node]) -> np.ndarray:
        made = nodes[node.inputs["images"]]
        if made.kind == "craft" and made.spec["attack"]["kind"] == kind:
            return np.zeros(images, dtype=bool)
        return share(node, nodes)

    return of_node


def test_attacks_on_fewer_images_do_not_lower_the_worst_case_but_are_told(tmp_path: Path) -> None:
    _, _, (made,) = built(tmp_path, right=fewer("apgd", 60))  # type: ignore[arg-type]
    dense = of(made.board.entries, "dense_at")
    assert dense.row["n"] == str(N) and dense.row["worst_tries"] == "1"
    assert (dense.row["adaptive"], dense.row["adaptive_n"]) == ("0.00", "60")
    assert "stronger_on_fewer_images" in dense.row["flags"].split()
    assert dense.record["fewer_images"]["images"] == 60 and dense.record["fewer_images"]["with_all"] == "0.00"
    switch = of(made.board.entries, "r2s")
    assert "stronger_on_fewer_images" not in switch.row["flags"] and "fewer_images" not in switch.record


def test_few_images_have_no_rank(tmp_path: Path) -> None:
    def some(node: Node, nodes: Mapping[str, Node]) -> np.ndarray:
        return share(node, nodes)[:199]

    _, _, (made,) = built(tmp_path, right=some)
    assert {each.row["rank"] for each in made.board.entries} == {""}
    assert all("unranked:few_images" in each.row["flags"].split() for each in made.board.entries)


def test_a_switch_without_an_adversary_that_has_all_members_has_no_rank(tmp_path: Path) -> None:
    text = changed(BASE, ("    - {defense: r2s, attack: eot}\n", ""))
    _, _, (made,) = built(tmp_path, text)
    switch, dense = of(made.board.entries, "r2s"), of(made.board.entries, "dense_at")
    assert switch.row["rank"] == "" and "unranked:no_fitting_attack" in switch.row["flags"].split()
    assert dense.row["rank"] == "1" and switch.row["adaptive"] == ""


@pytest.mark.parametrize("blind, rank", [({"pgd", "apgd"}, ""), ({"pgd"}, "1")])
def test_where_every_gradient_may_be_blind_there_is_no_rank(tmp_path: Path, blind: set[str], rank: str) -> None:
    plan, store = planned(tmp_path), Store(tmp_path / "store")

    def facts(node: Node) -> dict[str, object]:
        attack = node.spec.get("attack", {}).get("kind", "")
        return {"flags": ["zero_gradients"]} if attack in blind else {}

    fill(store, plan, facts=facts)
    (made,) = boards([ran(plan)], store, count)
    dense = of(made.board.entries, "dense_at")
    assert dense.row["rank"] == rank and "zero_gradients" in dense.row["flags"].split()


@pytest.mark.parametrize("steps, rank", [(9, ""), (10, "1")])
def test_attacks_of_few_steps_carry_no_rank(tmp_path: Path, steps: int, rank: str) -> None:
    few = f"kind: pgd, steps: {steps}"
    text = changed(BASE, ("kind: apgd, report_as: apgd_ce", few), ("pgd20: {kind: pgd,", f"pgd20: {{{few},"))
    _, _, (made,) = built(tmp_path, text)
    dense = of(made.board.entries, "dense_at")
    assert dense.row["rank"] == rank and ("unranked:no_fitting_attack" in dense.row["flags"].split()) == (not rank)


def test_an_adversary_that_reckons_with_another_draw_does_not_fit(tmp_path: Path) -> None:
    plan, store = planned(tmp_path), Store(tmp_path / "store")
    fill(store, plan)
    behind = Behind(store)
    form = next(form_of(cell) for cell in plan.cells if cell.sources == ("eot",))
    behind.read(keys_of(form))
    for draw, fits in (((1 / 3, 1 / 3, 1 / 3), True), ((0.5, 0.25, 0.25), False)):
        asked = Asked(form.model_copy(update={"probabilities": draw}), "", ())
        assert measured(asked, behind, store).fits == fits


def test_images_of_one_attack_judged_within_two_distances_are_two(tmp_path: Path) -> None:
    attacks = "".join(
        f"  {name}: {{kind: cw_l2, within_epsilon: {within}}}\n" for name, within in (("near", 0.25), ("wide", 0.5))
    )
    rows = "".join(f"    - {{defense: dense_at, attack: {name}}}\n" for name in ("near", "wide"))
    clean = "    - {defense: r2s, attack: clean}"
    text = changed(BASE, ("  apgd: {kind: apgd", f"{attacks}  apgd: {{kind: apgd"), (clean, f"{rows}{clean}"))
    store, _, made = built(tmp_path, text)
    (l2,) = (each for each in made if each.board.norm == "l2")
    tries = {each.row["epsilon"]: each.row["worst_tries"] for each in l2.board.entries}
    assert tries == {"0.25": "1", "0.5": "2"}
    for path in write_boards(made, tmp_path / "boards"):
        assert verify(path, store, count).findings == ()


@pytest.mark.parametrize("epsilon", [8 / 255, 0.031373, 0.03137255, 0.3333343, 1 / 510, 0.1])
def test_an_epsilon_is_read_as_it_was_written(epsilon: float) -> None:
    for norm in ("linf", "l2"):
        assert abs(epsilon_of(norm, epsilon_text(norm, epsilon)) - epsilon) < 1e-11


def test_the_same_defense_of_two_suites_is_one_entry_with_the_attacks_of_both(tmp_path: Path) -> None:
    one, other = (
        planned(tmp_path / "a"),
        planned(
            tmp_path / "b",
            changed(
                BASE,
                ("name: stored", "name: other"),
                ("    - {defense: r2s, attack: pgd20}\n", ""),
                ("dense_at: {kind", "other: {kind"),
                ("dense_at, attack", "other, attack"),
            ),
        ),
    )
    store = Store(tmp_path / "store")
    fill(store, one)
    fill(store, other)
    (both,) = boards([ran(one), ran(other)], store, count)
    (single,) = boards([ran(one)], store, count)
    assert len(both.board.entries) == 2
    assert [e.row["worst"] for e in both.board.entries] == [e.row["worst"] for e in single.board.entries]
    assert of(both.board.entries, "dense_at").row["suite"].count("rstbench run") == 1  # the same command


def test_attacks_that_only_another_suite_has_are_taken_from_the_store(tmp_path: Path) -> None:
    whole, less = (
        planned(tmp_path / "a"),
        planned(tmp_path / "b", changed(BASE, ("    - {defense: dense_at, attack: apgd}\n", ""))),
    )
    store = Store(tmp_path / "store")
    fill(store, whole)
    (made,) = boards([ran(less)], store, count)
    (full,) = boards([ran(whole)], store, count)
    dense = of(made.board.entries, "dense_at")
    assert dense.row["adaptive_attack"] == "apgd_ce, 100 steps" and dense.row["worst_tries"] == "2"
    assert dense.row["evidence"] == of(full.board.entries, "dense_at").row["evidence"]


def test_what_was_not_run_to_its_end_is_left_out(tmp_path: Path) -> None:
    def clean_only(node: Node, nodes: Mapping[str, Node]) -> np.ndarray | None:
        return share(node, nodes) if nodes[node.inputs["images"]].kind == "data" else None

    _, _, made = built(tmp_path, right=clean_only)
    assert made == []


def test_several_seeds_are_one_entry_with_an_interval_over_seeds(tmp_path: Path) -> None:
    text = changed(
        BASE,
        ("seeds: [0]\nmatrix", "seeds: [0, 1, 2]\nmatrix"),
        ("desk:\n    seeds: [0]", "desk:\n    seeds: [0, 1, 2]"),
    )
    _, _, (made,) = built(tmp_path, text)
    row = of(made.board.entries, "r2s").row
    assert row["seeds"] == "0 1 2" and len(row["store_keys"].split()) == 9
    own = of_entry(made.samples, row["entry"])
    means = [100 * own["worst", seed].score.mean() for seed in range(3)]
    assert row["worst"] == f"{np.mean(means):.2f}"
    half = 4.302652729911275 * np.std(means, ddof=1) / 3**0.5
    assert row["worst_low"] == f"{np.mean(means) - half:.2f}" and row["n"] == str(N)


def test_one_name_for_different_images_is_refused(tmp_path: Path) -> None:
    one = planned(tmp_path / "a")
    store = Store(tmp_path / "store")
    fill(store, one)
    (made,) = boards([ran(one)], store, count)
    first, second = made.board.entries
    from rstbench.report.leaderboard.build import _require_one_data

    other = second.model_copy(update={"row": {**second.row, "data_fingerprint": "1" * 64}})
    with pytest.raises(SpecError, match="stands for different images"):
        _require_one_data("cifar10", [first, other])
