"""Adversaries that choose among images: what they may choose from, as told with lines before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from rstbench.spec import Fault, find_faults
from rstbench.spec.battery import attack_spec
from rstbench.spec.derived import DERIVED, DerivedSpec, chosen_from
from tests.suites import TINY, changed, written

WITH = changed(
    TINY,
    (
        "table:\n",
        """  worst: {kind: worst_source, of: pgd20}
  any: {kind: any_of, of: pgd20, tries: 3}
  point: {kind: pointwise, over: [pgd20, eot]}
  game: {kind: game, over: [pgd20, eot], held_out: 20}
table:
""",
    ),
)


def faults(folder: Path, *pairs: tuple[str, str]) -> tuple[list[Fault], list[str]]:
    text = changed(WITH, *pairs)
    return find_faults(written(folder, text)), text.splitlines()


def test_the_sample_is_in_order(tmp_path: Path) -> None:
    assert faults(tmp_path)[0] == []


@pytest.mark.parametrize(
    "fields, names",
    [
        ({"kind": "worst_source", "of": "a"}, ("a",)),
        ({"kind": "any_of", "of": "a"}, ("a",)),
        ({"kind": "pointwise", "over": ["a", "b"]}, ("a", "b")),
        ({"kind": "game", "over": ["a"]}, ("a",)),
    ],
)
def test_what_is_chosen_from(fields: dict[str, object], names: tuple[str, ...]) -> None:
    spec = attack_spec(fields, "x")
    assert isinstance(spec, DerivedSpec) and chosen_from(spec) == names and spec.kind in DERIVED


@pytest.mark.parametrize(
    "old, new, key, message",
    [
        ("of: pgd20}", "of: clean}", "attacks.worst.of", "an attack of kind clean makes no images"),
        ("of: pgd20}", "of: point}", "attacks.worst.of", "an attack of kind pointwise makes no images"),
        ("of: pgd20}", "of: worst}", "attacks.worst.of", "an attack of kind worst_source makes no images"),
        ("of: pgd20}", "of: pdg20}", "attacks.worst.of", "not defined in `attacks`"),
        ("of: pgd20, tries", "of: game, tries", "attacks.any.of", "an attack of kind game makes no images"),
        ("over: [pgd20, eot]}", "over: [pgd20, clean]}", "attacks.point.over[1]", "kind clean makes no images"),
        ("over: [pgd20, eot]}", "over: [any, eot]}", "attacks.point.over[0]", "kind any_of makes no images"),
        ("over: [pgd20, eot]}", "over: [pgd20, eto]}", "attacks.point.over[1]", "not defined in `attacks`"),
        ("over: [pgd20, eot]}", "over: [eot, eot]}", "attacks.point.over[1]", "stands twice in this list"),
        ("over: [pgd20, eot], held", "over: [pgd20, point], held", "attacks.game.over[1]", "kind pointwise makes no"),
        ("over: [pgd20, eot]}", "over: []}", "attacks.point.over", "at least 1 entry"),
        ("tries: 3", "tries: 1", "attacks.any.tries", "at least 2"),
        ("held_out: 20", "held_out: 0", "attacks.game.held_out", "at least 1"),
    ],
)
def test_faults_with_their_lines(tmp_path: Path, old: str, new: str, key: str, message: str) -> None:
    found, lines = faults(tmp_path, (old, new))
    (fault,) = [each for each in found if each.message != "this key is missing"]
    assert (fault.key, message in fault.message) == (key, True), fault.message
    assert new.partition("}")[0] in lines[fault.line - 1]


def test_a_suggestion_for_a_misspelt_choice(tmp_path: Path) -> None:
    ((fault,), _) = faults(tmp_path, ("of: pgd20}", "of: pdg20}"))
    assert fault.suggestion == "pgd20"
