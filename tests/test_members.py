from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rstbench.errors import SpecError
from rstbench.members import Members
from rstbench.nodes import Member, Node, Nodes
from rstbench.plan import Plan
from rstbench.spec.load import load_suite
from tests.suites import TINY, changed, facts_of, planned, written

KINDS = changed(
    TINY,
    (
        "  r2s: {kind: r2s, search: rst, ratios: [0.1, 0.3]}\n",
        """  r2s: {kind: r2s, search: rst, ratios: [0.1, 0.3]}
  rst: {kind: ticket, search: rst, ratio: 0.3}
  other_search: {kind: ticket, search: rst, ratio: 0.3, search_offset: 5}
  other_theta: {kind: ticket, search: rst, ratio: 0.3, seed_offset: 7}
  other_dense: {kind: dense, training: at, seed_offset: 7}
  rtt: {kind: ticket, search: rst, ratio: 0.3, weights: dense_at}
  moved: {kind: ticket, search: rst, ratio: 0.3, weights: dense_at, weights_dataset: twenty}
  inherited: {kind: ticket, search: rst, ratio: 0.3, tuning: {training: at, start: inherited}}
  reinitialised: {kind: ticket, search: rst, ratio: 0.3, tuning: {training: at, start: reinitialised}}
  tuned_rtt: {kind: ticket, search: rst, ratio: 0.3, weights: dense_at, tuning: {training: at, start: inherited}}
  lottery: {kind: lottery, ratio: 0.2, weights: dense_at, training: at}
  series: {kind: tickets, search: rst, ratios: [0.1, 0.3]}
  switch: {kind: switch, members: [rst, other_search, dense_at]}
  both: {kind: ensemble, of: switch}
""",
    ),
    (
        "  cifar10: {source: digits, validation_fraction: 0.05}\n",
        "  cifar10: {source: digits, validation_fraction: 0.05}\n"
        "  twenty: {source: digits20, validation_fraction: 0.05}\n",
    ),
    (
        "table:\n",
        "measures:\n  overlap: {kind: mask_overlap}\n  params: {kind: parameters}\n"
        "  size: {kind: bytes, over: [cifar10, twenty]}\n  distance: {kind: feature_distance, samples: 20}\n\ntable:\n",
    ),
)  # fmt: skip


class At:
    """The tiny suite with every kind of defense, and the nodes that its defenses add."""

    def __init__(self, folder: Path, *pairs: tuple[str, str]) -> None:
        self.suite = load_suite(written(folder, changed(KINDS, *pairs)))
        self.nodes = Nodes(self.suite.run, facts_of(self.suite))

    def of(self, name: str, seed: int = 0) -> list[Member]:
        run = self.suite.run
        place = Members(self.nodes, run.datasets["cifar10"], run.networks["preact_resnet18"], seed)
        return place.of(run.defenses[name], name)

    def node(self, name: str, seed: int = 0) -> Node:
        (member,) = self.of(name, seed)
        return self.nodes.by_key[member.key]


@pytest.fixture
def at(tmp_path: Path) -> At:
    return At(tmp_path)


def differing(one: Node, other: Node) -> set[str]:
    assert one.kind == other.kind
    return {name for name in one.spec.keys() | other.spec.keys() if one.spec.get(name) != other.spec.get(name)}


def test_an_rtt_is_searched_in_the_weights_of_the_dense_network(at: At) -> None:
    rtt, dense = at.node("rtt"), at.node("dense_at")
    assert rtt.kind == "rtt" and rtt.inputs["weights"] == dense.key
    expected = {"checkpoint": "best_on_validation", "classifier": "kept", "init": "kaiming_normal"}
    assert rtt.spec["weights"] == expected
    # The architecture is the dense network's: it has what batch norm and the classifier have learned.
    assert rtt.spec["model"] == dense.spec["model"]
    assert at.node("rst").spec["model"] != dense.spec["model"]


def test_a_transferred_rtt_trains_on_the_other_data_and_searches_here(at: At) -> None:
    moved = at.node("moved")
    trained = at.nodes.by_key[moved.inputs["weights"]]
    assert trained.kind == "train" and trained.key != at.node("dense_at").key
    assert at.nodes.by_key[trained.inputs["data"]].spec["load"]["source"] == "digits20"
    assert at.nodes.by_key[moved.inputs["data"]].spec["load"]["source"] == "digits"
    assert (trained.spec["model"]["classes"], moved.spec["model"]["classes"]) == (20, 10)
    assert moved.spec["weights"]["classifier"] == "reinitialised"


@pytest.mark.parametrize("start", ["inherited", "reinitialised"])
def test_fine_tuning_trains_what_the_same_ticket_keeps(at: At, start: str) -> None:
    tuned, ticket = at.node(start), at.node("rst")
    assert tuned.kind == "tune" and tuned.inputs["ticket"] == ticket.key
    assert tuned.spec["start"] == start and tuned.spec["init"] == "signed_kaiming_constant"
    assert tuned.spec["model"] == ticket.spec["model"]


def test_a_fine_tuned_rtt_goes_on_from_the_rtt(at: At) -> None:
    assert at.node("tuned_rtt").inputs["ticket"] == at.node("rtt").key
    assert at.node("tuned_rtt").spec["init"] == "kaiming_normal"


def test_a_lottery_ticket_is_pruned_from_the_trained_network_and_rewound(at: At) -> None:
    lottery, dense = at.node("lottery"), at.node("dense_at")
    assert lottery.kind == "lottery" and lottery.inputs["weights"] == dense.key
    assert {name: lottery.spec[name] for name in ("init", "seed", "model")} == {
        name: dense.spec[name] for name in ("init", "seed", "model")
    }


def test_another_search_keeps_theta_and_another_theta_changes_all(at: At) -> None:
    assert differing(at.node("rst"), at.node("other_search")) == {"search_seed"}
    assert at.node("other_search").spec["search_seed"] == 5
    assert differing(at.node("rst"), at.node("other_theta")) == {"seed"}
    # An offset is nothing but another seed: the work is shared with a suite that runs it.
    assert at.node("other_theta").key == at.node("rst", seed=7).key
    assert at.node("other_dense").key == at.node("dense_at", seed=7).key


def test_a_switch_has_the_members_it_names(at: At) -> None:
    members = at.of("switch")
    assert [member.label for member in members] == ["rst", "other_search", "dense_at"]
    assert [member.key for member in members] == [at.node(name).key for name in ("rst", "other_search", "dense_at")]


def test_an_ensemble_is_one_member_with_parts(at: At) -> None:
    (member,) = at.of("both")
    assert [part.label for part in member.parts] == ["rst", "other_search", "dense_at"]
    assert member.average == "logits" and member.macs == sum(part.macs for part in member.parts)


def test_a_family_is_one_search_with_a_file_for_each_ratio(tmp_path: Path) -> None:
    at = At(tmp_path, ("  rst:\n    epochs: 1\n", "  rst:\n    family: [0.1, 0.3]\n    epochs: 1\n"))
    members = at.of("r2s")
    assert len({member.key for member in members}) == 1
    assert [member.checkpoint for member in members] == ["best_on_validation-0.10", "best_on_validation-0.30"]
    assert "remaining_ratio" not in at.nodes.by_key[members[0].key].spec
    family = ("  rst:\n    epochs: 1\n", "  rst:\n    family: [0.1, 0.3]\n    epochs: 1\n")
    stranger = ("rst: {kind: ticket, search: rst, ratio: 0.3}", "rst: {kind: ticket, search: rst, ratio: 0.2}")
    with pytest.raises(SpecError, match=r"ratio 0.2 is not in the family of search 'rst' \(0.1, 0.3\)"):
        At(tmp_path, family, stranger).of("rst")


def test_a_series_stands_for_a_cell_for_each_ratio(tmp_path: Path) -> None:
    made = asked(tmp_path, "{defense: series, attack: pgd20}", "{defense: series, attack: clean}")
    assert [(cell.columns["ratio"], cell.columns["attack"]) for cell in made.cells] == [
        ("0.10", "pgd20"), ("0.30", "pgd20"), ("0.10", "none"), ("0.30", "none")
    ]  # fmt: skip
    assert {cell.defense for cell in made.cells} == {"series"}
    single = asked(tmp_path, "{defense: rst, attack: pgd20}")
    assert made.cells[1].predictions == single.cells[0].predictions


def test_a_source_of_the_same_ratio_goes_with_each_ticket_of_a_series(tmp_path: Path) -> None:
    others = "  others: {kind: tickets, search: rst, ratios: [0.3, 0.1], search_offset: 2}\n"
    made = asked(
        tmp_path, "{defense: series, attack: pgd20, source: others}", pairs=(("  switch:", others + "  switch:"),)
    )
    for cell in made.cells:
        crafted = made.nodes[made.nodes[cell.predictions[0][0][0]].inputs["images"]]
        source = made.nodes[crafted.inputs["member_0"]]
        assert source.spec["search_seed"] == 2 and f"{source.spec['remaining_ratio']:.2f}" == cell.columns["ratio"]


def asked(folder: Path, *cells: str, pairs: tuple[tuple[str, str], ...] = ()) -> Plan:
    """The plan of a suite with these cells only."""
    text = changed(KINDS, *pairs)
    head = text[: text.index("  cells:\n")]
    return planned(written(folder, head + "  cells:\n" + "".join(f"    - {cell}\n" for cell in cells)))


def test_images_against_an_ensemble_come_from_all_parts_and_are_judged_by_their_average(tmp_path: Path) -> None:
    attack = '  ensemble: {kind: pgd, epsilon: "24/255", steps: 2, samples: 50, view: ensemble}\n'
    made = asked(
        tmp_path,
        "{defense: both, attack: ensemble}",
        "{defense: both, attack: clean}",
        pairs=(("  eot:", attack + "  eot:"),),
    )
    predict = made.nodes[made.cells[0].predictions[0][0][0]]
    assert predict.spec["average"] == "logits" and {"target_0", "target_1", "target_2"} <= predict.inputs.keys()
    crafted = made.nodes[predict.inputs["images"]]
    assert [crafted.inputs[f"member_{i}"] for i in range(3)] == [predict.inputs[f"target_{i}"] for i in range(3)]
    assert made.cells[0].members == ("both",)


def test_members_with_different_checkpoints_are_listed(tmp_path: Path) -> None:
    made = asked(
        tmp_path, "{defense: switch, attack: eot}",
        pairs=(("search_offset: 5", "search_offset: 5, checkpoint: last"),),
    )  # fmt: skip
    crafted = made.nodes[made.nodes[made.cells[0].predictions[0][0][0]].inputs["images"]]
    assert crafted.spec["checkpoint"] == ["best_on_validation", "last", "best_on_validation"]


def test_a_measure_has_values_and_no_predictions(tmp_path: Path) -> None:
    made = asked(
        tmp_path, "{defense: rst, measure: params}", "{defense: switch, measure: size}",
        "{defense: dense_at, measure: distance}", "{defense: r2s, measure: overlap}",
    )  # fmt: skip
    nodes = [made.nodes[cell.values[0]] for cell in made.cells]
    assert all(cell.predictions == () for cell in made.cells)
    assert [cell.columns["metric"] for cell in made.cells] == [
        "params_m", "bytes", "feature_distance", "mask_overlap"
    ]  # fmt: skip
    assert nodes[0].inputs == {} and nodes[0].spec["members"][0]["remaining_ratio"] == 0.3
    # The switch of one task, then that of the other: six members in all.
    assert sorted(nodes[1].inputs) == [f"member_{i}" for i in range(6)]
    assert (
        made.cells[1].columns["dataset"] == "cifar10 twenty" and made.cells[1].run["run_dataset"] == "digits digits20"
    )
    assert sorted(nodes[2].inputs) == ["data", "member_0"] and nodes[2].spec["seed"] == 0
    assert sorted(nodes[3].inputs) == ["member_0", "member_1"]


def test_counting_parameters_trains_nothing(tmp_path: Path) -> None:
    made = asked(tmp_path, "{defense: rst, measure: params}", "{defense: lottery, measure: params}")
    assert {node.kind for node in made.nodes.values()} <= {"measure", "data", "search", "train", "lottery"}
    assert {made.nodes[cell.values[0]].kind for cell in made.cells} == {"measure"}
    assert all(not made.nodes[cell.values[0]].inputs for cell in made.cells)


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ((("weights: dense_at}", "weights: dense_at, init: kaiming_normal}"),), "name one of them"),
        ((("weights_dataset: twenty}", "weights_dataset: thirty}"),), "not defined in `datasets`"),
        ((("training: at, start: reinitialised}", "training: no, start: reinitialised}"),), "defined in `trainings`"),
        ((("of: switch}", "of: rst}"),), "is a defense of kind ticket; `of` takes r2s or switch"),
        ((("members: [rst, other_search, dense_at]", "members: [rst, rst]"),), "stands twice"),
        ((("members: [rst, other_search,", "members: [rst, r2s,"),), "`members` takes dense, ticket or lottery"),
        ((("weights: dense_at}", "weights: rst}"),), "kind ticket; `weights` takes dense"),
        ((("over: [cifar10, twenty]", "over: [cifar10, forty]"),), "not defined in `datasets`"),
        ((("{defense: r2s, attack: eot}", "{defense: both, attack: pgd20}"),), "differentiates its own average"),
        ((("{defense: r2s, attack: eot}", "{defense: both, attack: clean, measure: size}"),), "only one of them"),
        ((("{defense: r2s, attack: eot}", "{defense: rst, measure: overlap}"),), "masks of a switching defense"),
        ((("{defense: r2s, attack: eot}", "{defense: r2s, measure: distance}"),), "name one of its members"),
        ((("{defense: r2s, attack: eot}", "{defense: r2s, measure: size, source: rst}"),), "a `measure` has none"),
    ],
)  # fmt: skip
def test_bad_references_are_faults_of_the_file(tmp_path: Path, pairs: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said.replace("(", r"\(")):
        load_suite(written(tmp_path, changed(KINDS, *pairs)))


def test_a_series_needs_its_ratios_on_both_sides(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"profile paper runs the series 'series' at 0.1, which 'rest' does not have"):
        asked(
            tmp_path, "{defense: series, attack: pgd20, source: rest}",
            pairs=(("  switch:", "  rest: {kind: tickets, search: rst, ratios: [0.3]}\n  switch:"),),
        )  # fmt: skip
    with pytest.raises(SpecError, match="is a series of tickets, and 'rst' is none"):
        asked(tmp_path, "{defense: rst, attack: pgd20, source: series}")


def test_a_switch_with_other_ratios_may_be_the_source_of_a_series(tmp_path: Path) -> None:
    made = asked(
        tmp_path,
        "{defense: series, attack: eot, source: r2s}",
        pairs=(("ratios: [0.1, 0.3]}\n  rst:", "ratios: [0.1, 0.4]}\n  rst:"),),
    )
    assert [cell.columns["ratio"] for cell in made.cells] == ["0.10", "0.30"]
    assert len({made.nodes[cell.predictions[0][0][0]].inputs["images"] for cell in made.cells}) == 1


@pytest.mark.parametrize(
    "name, fields",
    [("series", "{kind: ticket, search: rst, ratio: 0.1}"), ("lottery", "{kind: tickets, search: rst, ratios: [0.2]}")],
)
def test_a_series_is_one_under_every_profile(tmp_path: Path, name: str, fields: str) -> None:
    head = KINDS[: KINDS.index("  cells:\n")] + f"  cells:\n    - {{defense: {name}, attack: clean}}\n"
    path = written(tmp_path, head + f"profiles: {{smoke: {{defenses: {{{name}: {fields}}}}}}}\n")
    with pytest.raises(SpecError, match=f"profile smoke runs '{name}', of kind .*under every profile"):
        planned(path, "smoke")


def test_titles_tell_networks_apart(at: At) -> None:
    names = ("rst", "other_search", "other_theta", "rtt", "moved", "inherited", "tuned_rtt", "reinitialised", "lottery")
    assert len({at.node(name).title for name in names}) == len(names)
    assert at.node("other_search").title == "search 30 % preact_resnet10-w0.06 on digits, seed 0, search seed 5"


def test_what_is_transferred_is_so_under_every_profile(tmp_path: Path) -> None:
    head = KINDS[: KINDS.index("  cells:\n")] + "  cells:\n    - {defense: moved, attack: clean}\n"
    overlay = "profiles: {smoke: {datasets: {twenty: {source: digits, MORE}}}}\n"
    path = written(tmp_path, head + overlay.replace("MORE", "validation_fraction: 0.05"))
    assert planned(path).cells
    with pytest.raises(SpecError, match=r"smoke runs 'cifar10' and 'twenty' on the same data, .* 'moved' would not be"):
        planned(path, "smoke")
    other_cut = written(tmp_path, head + overlay.replace("MORE", "validation_seed: 1"))
    (rtt,) = [node for node in planned(other_cut, "smoke").nodes.values() if node.kind == "rtt"]
    assert rtt.spec["weights"]["classifier"] == "reinitialised"


# As the golden keys of tests/test_plan.py: a store that was filled for weeks is found again under them.
GOLDEN = """
b369e731ea49037c36415542ca240c25 rtt
f12eda76645eb792be0d8fac74c58f9e moved
21d27dd50fef7998653ba4aa4f3e8bc6 inherited
32b3da0a2bf55a94f07f6d509ab3228d reinitialised
e9984c551a7f6fb51d1fc1f963eb9413 tuned_rtt
c3b253f8b2c79ea850a5974d1b0e0566 lottery
e038212662995e5757205df150618809 other_search
52905cd12aa0a94839ede34cd5eb25f6 other_theta
76095f8dce65831ef0f870526926189a family
d75510bd2fe6bc93d57fc4640bb271cd params_m
368c45683eb741f8efe3ab2e467ba900 bytes
a466d75e916a9c1d72d947f56e114349 feature_distance
38068fd350f27a621b296b94bdecfd06 mask_overlap
"""


def test_golden_keys_of_every_kind(tmp_path: Path) -> None:
    names = ("rtt", "moved", "inherited", "reinitialised", "tuned_rtt", "lottery", "other_search", "other_theta")
    at = At(tmp_path)
    lines = [f"{at.node(name).key[:32]} {name}" for name in names]
    family = At(tmp_path, ("  rst:\n    epochs: 1\n", "  rst:\n    family: [0.1, 0.3]\n    epochs: 1\n"))
    lines.append(f"{family.of('r2s')[0].key[:32]} family")
    made = asked(
        tmp_path, "{defense: rst, measure: params}", "{defense: switch, measure: size}",
        "{defense: dense_at, measure: distance}", "{defense: r2s, measure: overlap}",
    )  # fmt: skip
    lines += [f"{cell.values[0][:32]} {cell.columns['metric']}" for cell in made.cells]
    assert "\n".join(lines) == GOLDEN.strip()


def test_weights_move_between_images_of_equal_channels_only(at: At) -> None:
    facts = dict(at.nodes.facts)
    twenty = at.suite.run.datasets["twenty"]
    facts[twenty] = replace(facts[twenty], channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    at.nodes.facts = facts
    with pytest.raises(SpecError, match=r"trained on twenty \(3 channels\) cannot be transferred to digits \(1"):
        at.of("moved")
