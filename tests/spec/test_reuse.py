"""Attacks that keep what fools a network within smaller epsilons: what a suite can ask, and what it comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rstbench.api.inputs import chosen_attacks
from rstbench.errors import SpecError
from rstbench.spec import find_faults
from rstbench.spec.attack_fields import Bounded
from rstbench.spec.battery import attack_spec
from rstbench.spec.budgets import passes, written_out
from rstbench.spec.reuse import smaller
from tests.suites import TINY, changed, written


def of(kind: str, **fields: Any) -> Any:
    return attack_spec({"kind": kind, **fields}, kind)


@pytest.mark.parametrize("kind", ["fgsm", "fgsm_rs", "pgd", "apgd", "cw_inf", "autoattack", "square", "bandits"])
def test_nothing_is_reused_unless_asked(kind: str) -> None:
    spec = of(kind)
    assert isinstance(spec, Bounded) and spec.smaller_epsilons == () and smaller(spec) is None
    written = written_out(spec, cifar=True)
    assert getattr(written, "smaller_step_sizes", None) is None and passes(written) == passes(spec)


@pytest.mark.parametrize("kind", ["fgsm", "pgd", "apgd", "autoattack", "square", "bandits"])
def test_the_chain_of_smaller_epsilons(kind: str) -> None:
    attack = written_out(of(kind, epsilon="12/255", smaller_epsilons=["2/255", "16/510"]), cifar=False)
    second = smaller(attack)
    assert second is not None
    first = smaller(second)
    assert first is not None and smaller(first) is None
    # What an image is kept from is what a suite that asks for the smaller epsilon alone gets: one node for both.
    assert first == written_out(of(kind, epsilon="2/255"), cifar=False)
    assert second == written_out(of(kind, epsilon="8/255", smaller_epsilons=["2/255"]), cifar=False)
    assert written_out(attack, cifar=False) == attack


@pytest.mark.parametrize(
    "kind, fields, cifar, steps",
    [
        ("pgd", {}, True, ["2/255", "2/255", "2/255"]),
        ("pgd", {}, False, ["1/510", "2/255", "1/85"]),
        ("pgd", {"step_size": "1/255"}, False, ["1/255", "1/255", "1/255"]),
        ("pgd", {"smaller_step_sizes": ["1/255", "3/255"]}, False, ["1/255", "1/85", "1/85"]),
        ("fgsm", {}, True, ["2/255", "8/255", "4/85"]),
        ("fgsm_rs", {}, True, ["1/102", "2/51", "1/17"]),
        ("cw_inf", {"form": "bounded"}, True, ["4/255", "16/255", "8/85"]),
    ],
)
def test_step_sizes_are_those_of_each_epsilon(kind: str, fields: dict[str, Any], cifar: bool, steps: list[str]) -> None:
    attack = written_out(of(kind, epsilon="12/255", smaller_epsilons=["2/255", "8/255"], **fields), cifar)
    found = []
    while attack is not None:
        found.append(attack.step_size)
        attack = smaller(attack)
    assert found[::-1] == steps


def test_l2_distances_are_numbers() -> None:
    attack = written_out(of("pgd", norm="l2", epsilon=1, steps=10, smaller_epsilons=[0.25, 0.5]), cifar=True)
    assert attack.smaller_epsilons == (0.25, 0.5) and attack.smaller_step_sizes == (0.0625, 0.125)
    assert attack.step_size == 0.25


@pytest.mark.parametrize(
    "kind, fields, words",
    [
        ("pgd", {"smaller_epsilons": ["8/255"]}, "ascend, from above 0 to below `epsilon`"),
        ("pgd", {"smaller_epsilons": ["4/255", "2/255"]}, "ascend"),
        ("pgd", {"smaller_epsilons": ["4/255", "8/510"]}, "ascend"),
        ("pgd", {"smaller_epsilons": ["0"]}, "from above 0"),
        ("pgd", {"smaller_epsilons": [4]}, "an l-infinity distance is text"),
        ("square", {"norm": "l2", "epsilon": 1.0, "smaller_epsilons": ["4/255"]}, "an L2 distance is a number"),
        ("pgd", {"smaller_epsilons": "4/255"}, 'smaller_epsilons: must be a list, e.g. ["4/255"] (given: "4/255")'),
        ("pgd", {"smaller_epsilons": ["4/255"], "view": "eot"}, "it is for one network, with view member"),
        ("pgd", {"smaller_epsilons": ["4/255"], "smaller_step_sizes": []}, "0 `smaller_step_sizes` for 1"),
        ("pgd", {"smaller_step_sizes": ["1/255"]}, "and there are none"),
        ("cw_inf", {"smaller_epsilons": ["4/255"]}, "whose images nothing bounds; use form bounded"),
        ("arc", {"smaller_epsilons": ["4/255"]}, "unknown key; allowed: "),
        ("cw_l2", {"smaller_epsilons": [0.5]}, "unknown key; allowed: "),
        ("apgd", {"smaller_step_sizes": ["1/255"]}, "unknown key; allowed: "),
    ],
)
def test_what_is_no_worst_case(kind: str, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        of(kind, **fields)
    assert words in str(caught.value) and isinstance(caught.value.__cause__, ValidationError)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5, unique=True).map(sorted))
def test_estimates_count_what_is_left(pixels: list[int]) -> None:
    texts = [f"{pixel}/255" for pixel in pixels]
    attack = of("pgd", epsilon="41/255", smaller_epsilons=texts)
    alone = of("pgd", epsilon="41/255")
    # One look at every image, and half of them to attack; the nodes before count for themselves.
    assert passes(attack) == 1 + passes(alone) / 2


def test_images_in_memory_have_no_store_behind_them() -> None:
    attacks = [{"kind": "pgd", "smaller_epsilons": ["4/255"]}]
    with pytest.raises(SpecError, match="attack pgd: `smaller_epsilons` keeps images that a suite has stored"):
        chosen_attacks(attacks, "linf", "8/255", 8, 8)


SUITE = changed(
    TINY,
    ("    - {defense: r2s, attack: eot}\n", "    - {defense: r2s, attack: eot}\n    - CELL\n"),
    ("attacks:\n", """  one: {kind: ticket, search: rst, ratio: 0.1}
  all: {kind: ensemble, of: r2s}
  both: {kind: switch, members: [dense_at, one]}
attacks:
"""),
    ("table:\n", """  chain: {kind: pgd, epsilon: "24/255", samples: 50, smaller_epsilons: ["8/255"], variant: chain}
  worst: {kind: worst_source, of: chain}
  point: {kind: pointwise, over: [pgd20, chain]}
table:
"""),
)  # fmt: skip


@pytest.mark.parametrize(
    "cell, words",
    [
        ("{defense: dense_at, attack: chain}", None),
        ("{defense: one, attack: chain, source: one}", None),
        ("{defense: dense_at, attack: point}", None),
        ("{defense: r2s, attack: chain}", "'r2s' (r2s) is several"),
        ("{defense: both, attack: chain}", "'both' (switch) is several"),
        ("{defense: r2s, attack: worst}", "'r2s' (r2s) is several"),
        ("{defense: r2s, attack: point}", "'r2s' (r2s) is several"),
        ("{defense: dense_at, attack: chain, source: one}", "made against another than the one that is judged"),
        ("{defense: dense_at, attack: point, source: one}", "made against another than the one that is judged"),
        ("{defense: dense_at, attack: chain, source_seed: other}", "made against another than the one that is judged"),
    ],
)
def test_faults_of_cells_are_told_with_their_line(tmp_path: Path, cell: str, words: str | None) -> None:
    text = changed(SUITE, ("CELL", cell))
    found = find_faults(written(tmp_path, text))
    if words is None:
        assert found == []
        return
    (fault,) = found
    assert words in fault.message and "`smaller_epsilons` of 'chain'" in fault.message
    assert fault.line == text.splitlines().index(f"    - {cell}") + 1


def test_a_deterministic_ensemble_is_no_single_network(tmp_path: Path) -> None:
    found = find_faults(written(tmp_path, changed(SUITE, ("CELL", "{defense: all, attack: chain}"))))
    assert any("'all' (ensemble) is several" in fault.message for fault in found)


def test_an_overlay_that_brings_epsilon_down(tmp_path: Path) -> None:
    overlay = "profiles:\n  smoke:\n    attacks: {chain: {epsilon: 4/255}}\n"
    text = changed(SUITE, ("CELL", "{defense: dense_at, attack: chain}")) + overlay
    (fault,) = find_faults(written(tmp_path, text))
    assert "below `epsilon`" in fault.message and "smoke" in str(fault.key)
