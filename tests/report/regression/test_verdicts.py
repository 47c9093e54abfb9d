"""Verdicts: single cases, and how often they are wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rstbench.errors import SpecError
from rstbench.report.regression.options import Options
from rstbench.report.regression.rows import Row
from rstbench.report.regression.significance import holm, mcnemar
from rstbench.report.regression.verdicts import Compared, Verdict, check
from tests.report.regression.sides import changed, differences, row, side, verdicts


def judged(before: Row, after: Row, **options: float | None) -> Compared:
    (found,) = check(side(before), side(after), Options(**options)).rows  # type: ignore[arg-type]
    return found


def test_five_points_down_at_500_images_is_worse_and_a_fifth_of_a_point_cannot_be_told() -> None:
    scores = verdicts(500, 250)
    worse = judged(row(scores), row(changed(scores, 27, 2)))
    assert worse.verdict == Verdict.worse and worse.measured and worse.measured.difference == pytest.approx(-5)
    for fall, rise in ((1, 0), (3, 2), (13, 12)):
        unclear = judged(row(scores), row(changed(scores, fall, rise)))
        assert unclear.verdict == Verdict.cannot_tell
        assert unclear.n_same is not None and unclear.n_same > 500
        assert unclear.n_worse is not None and unclear.n_worse > unclear.n_same
    better = judged(row(scores), row(changed(scores, 2, 27)))
    assert better.verdict == Verdict.better


def test_the_same_networks_with_the_same_scores_are_the_same_however_few_images() -> None:
    scores = verdicts(8, 4)
    assert judged(row(scores, networks="a"), row(scores, networks="a")).verdict == Verdict.same
    assert judged(row(scores, evidence="x"), row(scores, evidence="x")).verdict == Verdict.same


def test_other_networks_that_agree_are_the_same_only_with_enough_images() -> None:
    for n, verdict in ((50, Verdict.cannot_tell), (360, Verdict.cannot_tell), (370, Verdict.same)):
        scores = verdicts(n, n // 2)
        found = judged(row(scores, networks="a", evidence="x"), row(scores, networks="b", evidence="x"))
        assert found.verdict == verdict
        assert any("luck of the search" in note for note in found.notes)
    assert found.p is None  # no image differs: there is nothing to test
    few = judged(row(verdicts(50, 20)), row(verdicts(50, 20)))
    assert few.n_same is not None and 368 <= few.n_same <= 400 and few.n_worse is None
    assert "no score changed" in few.why


def test_few_and_many_discordant_images() -> None:
    tiny = verdicts(3, 3)
    assert judged(row(tiny), row(np.zeros(3))).verdict == Verdict.cannot_tell  # p = 1/4
    assert judged(row(np.ones(6)), row(np.zeros(6))).verdict == Verdict.worse  # p = 1/32
    assert judged(row(np.ones(1)), row(np.zeros(1))).verdict == Verdict.cannot_tell
    scores = verdicts(10_000, 5_000)
    assert judged(row(scores), row(1 - scores)).verdict == Verdict.cannot_tell  # all differ, none prevails
    assert judged(row(scores), row(changed(scores, 10, 12))).verdict == Verdict.same


def test_what_is_shown_to_lie_within_the_margin_is_the_same_unless_a_drop_is_asked_for() -> None:
    scores = verdicts(10_000, 5_000)
    before, after = row(scores), row(changed(scores, 40, 5))
    assert judged(before, after).verdict == Verdict.same
    assert "lower, but within 1 point" in judged(before, after).why
    assert judged(before, after, margin=0.2).verdict == Verdict.worse
    assert judged(before, after, drop=0.3).verdict == Verdict.worse
    assert judged(before, after, drop=0.0).verdict == Verdict.worse
    assert judged(before, after, drop=0.5).verdict == Verdict.same
    unclear = judged(before, after, drop=2.0, margin=0.2)
    assert unclear.verdict == Verdict.cannot_tell and "less than 2 points" in unclear.why


def test_rows_share_the_level() -> None:
    scores = verdicts(500, 250)
    one = row(scores, name="one"), row(changed(scores, 8, 1), name="one")
    assert judged(*one).verdict == Verdict.worse  # p = 0.039
    still = [(row(scores, name=f"r{i}"), row(changed(scores, 3, 3), name=f"r{i}")) for i in range(4)]
    pairs = [one, *still]
    found = check(side(*(p[0] for p in pairs)), side(*(p[1] for p in pairs)), Options())
    assert found.rows[0].verdict == Verdict.cannot_tell and found.rows[0].p == pytest.approx(5 * 0.0390625)
    assert found.exit_code == 0
    # Rows of which no image differs take nothing of the level.
    pairs = [one, *((row(scores, name=f"r{i}"), row(scores, name=f"r{i}")) for i in range(10))]
    found = check(side(*(p[0] for p in pairs)), side(*(p[1] for p in pairs)), Options())
    assert found.rows[0].verdict == Verdict.worse and found.exit_code == 1


def test_missing_and_new_rows() -> None:
    scores = verdicts(400, 200)
    before = side(row(scores, name="a"), row(scores, name="b"))
    after = side(row(scores, name="a"), row(scores, name="c"))
    found = check(before, after, Options())
    assert [each.verdict for each in found.rows] == [Verdict.same, Verdict.missing, Verdict.new]
    assert found.exit_code == 0
    assert check(before, after, Options(strict=True)).exit_code == 1
    with pytest.raises(SpecError, match="no row in common"):
        check(side(row(scores, name="a")), side(row(scores, name="z")), Options())
    with pytest.raises(SpecError, match="is empty"):
        check(side(row(scores, name="a")), side(), Options())


def test_an_alias_finds_a_row_before_its_name_does() -> None:
    scores = verdicts(400, 200)
    before = side(row(scores, name="x", alias=("1",)), row(changed(scores, 100), name="y", alias=("2",)))
    after = side(row(scores, name="y", alias=("1",)), row(changed(scores, 100), name="x", alias=("9",)))
    # "y" was renamed from "x"; what is left has no row of its name.
    assert [each.verdict for each in check(before, after, Options()).rows] == [
        Verdict.same,
        Verdict.missing,
        Verdict.new,
    ]


def test_without_images_intervals_are_compared() -> None:
    def bare(value: float, half: float | None, n: int | None = 500) -> Row:
        low, high = (None, None) if half is None else (value - half, value + half)
        return replace(row(np.zeros(1)), value=value, low=low, high=high, n=n, scores={})

    assert judged(bare(50, 4), bare(30, 4)).verdict == Verdict.worse
    assert judged(bare(50, 4), bare(46, 4)).verdict == Verdict.cannot_tell
    assert judged(bare(50, 0.3), bare(50.1, 0.3)).verdict == Verdict.same
    assert judged(bare(50, None), bare(30, None)).verdict == Verdict.worse  # Wilson's, of n
    unknown = judged(bare(50, None, None), bare(30, None, None))
    assert unknown.verdict == Verdict.cannot_tell and (unknown.n_same, unknown.n_worse) == (None, None)
    unclear = judged(bare(50, 4), bare(46, 4))
    assert unclear.n_same is None and unclear.n_worse is not None and unclear.n_worse > 500
    stayed = judged(bare(50, 4), bare(50, 4))
    assert stayed.n_same is not None and stayed.n_same > 500 and stayed.n_worse is None
    same = replace(bare(50, 4), evidence="x")
    assert judged(same, same).verdict == Verdict.same
    other = [replace(same, networks={0: (name,)}) for name in "ab"]
    assert judged(*other).verdict == Verdict.cannot_tell


@pytest.mark.parametrize(
    "wrong",
    [{"margin": 0.0}, {"margin": float("nan")}, {"alpha": 0.5}, {"alpha": 0.0}, {"drop": -1.0}, {"power": 1.0}],
)
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SpecError, match="--"):
        Options(**wrong)  # type: ignore[arg-type]


def rates(shift: float, members: int, n: int, sets: int) -> dict[Verdict, float]:
    """Share of sets with a verdict, of evaluations whose true accuracy fell by `shift`; noise changes some verdicts."""
    generator = np.random.Generator(np.random.Philox([members, n]))
    seen = dict.fromkeys(Verdict, 0.0)
    for _ in range(sets):
        ease = generator.random((n, 1))
        rows = []
        for cut in (0.5, 0.5 - shift):
            noisy = ease + 0.06 * (generator.random((n, members)) - 0.5)
            rows.append(row((noisy < cut).mean(axis=1)))
        seen[judged(*rows).verdict] += 1 / sets
    return seen


@pytest.mark.parametrize("members", [1, 6])
def test_false_alarms_are_as_rare_as_promised_and_drops_are_seen(members: int) -> None:
    still = rates(0.0, members, 400, 25)
    assert still[Verdict.worse] <= 0.08 and still[Verdict.better] <= 0.08  # 2.5 % each is promised
    fallen = rates(0.04, members, 400, 10)
    assert fallen[Verdict.worse] >= 0.85 and fallen[Verdict.better] == 0 and fallen[Verdict.same] == 0


def test_among_many_rows_a_false_alarm_is_no_more_frequent() -> None:
    generator = np.random.Generator(np.random.Philox(3))
    alone = corrected = 0
    for _ in range(25):
        fell, rose, _ = generator.multinomial(500, [0.1, 0.1, 0.8], size=10).T
        p = [mcnemar(differences(int(a), int(b), 500)) for a, b in zip(fell, rose, strict=True)]
        alone += min(p) <= 0.05
        corrected += min(each for each in holm(p) if each is not None) <= 0.05
    assert alone >= 5
    assert corrected <= 3  # 5 % is promised


def test_what_is_compared_only_in_part_is_not_said_to_be_unchanged() -> None:
    scores = verdicts(100, 50)
    part = row(scores[:3], networks="n", index=np.arange(3))
    assert judged(row(scores, networks="n"), part).verdict is Verdict.cannot_tell
    assert judged(row(scores, scores, networks="n"), row(scores, networks="n")).verdict is Verdict.cannot_tell
    assert judged(row(scores, networks="n"), row(scores, networks="n")).verdict is Verdict.same


def test_a_drop_that_is_shown_but_small_needs_no_more_images_to_be_shown() -> None:
    scores = verdicts(1000, 500)
    small = judged(row(scores), row(changed(scores, 50)), drop=20)
    assert small.verdict is Verdict.cannot_tell and small.n_worse is None
    with pytest.raises(SpecError, match=r"--alpha 0\.0001"):
        judged(row(scores), row(scores), alpha=0.0001)
