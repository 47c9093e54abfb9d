from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstbench.report.regression.compare import measure, relation
from rstbench.report.regression.pairs import pair
from rstbench.report.regression.rows import SeedScores
from tests.report.regression.sides import changed, row, verdicts


@given(st.permutations(range(12)), st.permutations(range(12)))
@settings(max_examples=20, deadline=None)
def test_images_are_paired_by_index_in_whatever_order(first: list[int], second: list[int]) -> None:
    scores = np.random.default_rng(0).random(12)
    one, other = (row(scores[list(order)], index=np.array(order)) for order in (first, second))
    pairs, notes = pair(one, other)
    assert pairs is not None and not pairs.differences.any() and notes == []


def test_only_common_images_are_compared_and_it_is_said() -> None:
    before = row(verdicts(100, 50), index=np.arange(100))
    after = row(verdicts(80, 20), index=np.arange(40, 120))
    pairs, notes = pair(before, after)
    assert pairs is not None and len(pairs.differences) == 60
    assert pairs.before.sum() == 10 and pairs.after.sum() == 20
    assert notes == ["on the 60 common test images only (100 before, 80 now)"]
    found = measure(before, after, 0.05)
    assert found.n == 60 and found.before == pytest.approx(100 * 10 / 60)


def test_seeds_are_averaged_within_images_and_are_no_further_images() -> None:
    one, other = verdicts(10, 5), verdicts(10, 8)
    pairs, notes = pair(row(one, other), row(other, other))
    assert pairs is not None and pairs.seeds == (0, 1) and notes == []
    assert pairs.before.tolist() == [1] * 5 + [0.5] * 3 + [0] * 2 and not pairs.binary
    assert len(pairs.differences) == 10


def test_only_common_seeds_are_compared_and_it_is_said() -> None:
    one, other = verdicts(10, 5), verdicts(10, 8)
    pairs, notes = pair(row(one, other, seeds=(0, 1)), row(other, one, seeds=(1, 2)))
    assert pairs is not None and pairs.seeds == (1,) and not pairs.differences.any() and pairs.binary
    assert notes == ["on the common seeds only (1)"]
    pairs, notes = pair(row(one, seeds=(0,)), row(other, seeds=(7,)))
    assert pairs is not None and pairs.seeds == () and pairs.differences.sum() == 3
    assert notes == ["other seeds (0 before, 7 now): paired by image alone"]


def test_what_cannot_be_paired_says_why() -> None:
    scores = verdicts(10, 5)
    bare = replace(row(scores), scores={})
    assert pair(row(scores), bare) == (
        None,
        ["no per-image results of the new side: intervals are compared"],
    )
    apart, notes = pair(row(scores), row(scores, index=np.arange(50, 60)))
    assert apart is None and "no test image in common" in notes[0]
    other_data = replace(row(scores), scores={0: SeedScores(np.arange(10), scores, np.zeros(10, dtype=np.int64))})
    unlike, notes = pair(row(scores), other_data)
    assert unlike is None and "other labels" in notes[0]


def test_the_same_networks_are_told_from_others() -> None:
    scores = verdicts(10, 5)
    assert relation(row(scores), row(scores, networks="a")) == "unknown"
    assert relation(row(scores, networks="a"), row(scores, networks="a")) == "re-evaluated"
    assert relation(row(scores, networks="a"), row(scores, networks="b")) == "re-searched"
    assert relation(row(scores, networks="a", seeds=(0,)), row(scores, networks="a", seeds=(1,))) == "re-searched"

    def keyed(text: str) -> object:
        return replace(row(scores), networks={0: (text,)})

    assert relation(keyed("abcdef:12"), keyed("abc")) == "re-evaluated"  # type: ignore[arg-type]
    assert relation(keyed("abc:12"), keyed("abc:12")) == "re-evaluated"  # type: ignore[arg-type]
    # One recipe, other bits.
    assert relation(keyed("abc:12"), keyed("abc:13")) == "re-searched"  # type: ignore[arg-type]


def test_other_settings_are_said() -> None:
    scores = verdicts(100, 50)
    before = row(scores, setting={"worst_tries": "7", "data": "x"})
    after = row(changed(scores, 2), setting={"worst_tries": "9", "data": "x"})
    assert "worst_tries: 7 before, 9 now" in measure(before, after, 0.05).notes
