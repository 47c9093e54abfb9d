from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rstbench.plan import PlannedCell
from rstbench.report.claims.catalogue import CLAIMS
from rstbench.report.claims.judge import Where, judge
from rstbench.report.claims.language import Statement, above, below, equals, lead, less, share, value
from rstbench.report.claims.readings import Planned
from rstbench.report.claims.render import render
from rstbench.report.claims.vocabulary import counted
from rstbench.store import Store
from tests.report.claims.scenes import C10, DENSE, RN18, SUITE, claim, fill, found, row, suite

BETTER = claim(above("RST less dense", less(row(), DENSE)))


def on_cifar10(cell: PlannedCell) -> bool:
    return cell.columns["dataset"] == C10 and cell.columns["attack"] == "pgd20"


def tickets(seeds: tuple[float, ...], dense: float | None = 50.0):  # type: ignore[no-untyped-def]
    """Accuracy of every ticket by seed, and of the dense network."""

    def rate(cell: PlannedCell, position: int) -> float | None:
        if not on_cifar10(cell) or cell.columns["defense"] == "r2s":
            return None
        return seeds[position] if cell.columns["ratio"] else dense

    return rate


def rates(**accuracy: float):  # type: ignore[no-untyped-def]
    """Accuracy under PGD-20 on CIFAR-10 by defense; tickets have a little more under every seed than before."""

    def rate(cell: PlannedCell, position: int) -> float | None:
        defense = cell.columns["defense"]
        if defense not in accuracy or not on_cifar10(cell):
            return None
        return accuracy[defense] + 0.25 * position * (defense == "rst")

    return rate


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_supported(tmp_path: Path, store: Store) -> None:
    here = suite(tmp_path)
    fill(store, here, rates(rst=60.0, dense_at=50.0))
    finding = found(BETTER, store, here)
    assert finding.status == finding.measured == "supported"
    (reading,) = finding.readings
    (outcome,) = reading.outcomes
    assert reading.reasons == () and finding.commands == () and finding.remarks == ()
    assert outcome.by_seed == (10.0, 10.25, 10.5)
    assert (outcome.seeds, outcome.n, outcome.kind) == ((0, 1, 2), 400, "t over seeds")


def test_reliability_flags_are_carried_along(tmp_path: Path, store: Store) -> None:
    here = suite(tmp_path)
    fill(store, here, rates(rst=60.0, dense_at=50.0), flags=("zero_gradients", "batch:halved_to_8"))
    finding = found(BETTER, store, here)
    assert finding.readings[0].outcomes[0].flags == ("zero_gradients",)
    assert "  flagged     zero_gradients\n" in render([finding], Where("paper", "store", "suites"))


def test_refuted(tmp_path: Path, store: Store) -> None:
    here = suite(tmp_path)
    fill(store, here, rates(rst=40.0, dense_at=50.0))
    assert found(BETTER, store, here).status == "refuted"


def test_undecided(tmp_path: Path, store: Store) -> None:
    here = suite(tmp_path)
    fill(store, here, tickets((49.0, 53.0, 50.5)))
    finding = found(BETTER, store, here)
    assert finding.status == "undecided"
    low, high = finding.readings[0].outcomes[0].interval()
    assert low < 0 < high


@pytest.mark.parametrize("rst, status", [(60.0, "indicative for"), (40.0, "indicative against")])
def test_indicative_with_substitutes_and_one_seed(tmp_path: Path, store: Store, rst: float, status: str) -> None:
    here = suite(tmp_path, profile="desk")
    fill(store, here, rates(rst=rst, dense_at=50.0))
    finding = found(BETTER, store, here, profile="desk")
    assert finding.status == status
    (reading,) = finding.readings
    assert reading.reasons[0] == "1 of 3 seeds"
    assert "substitute:schedule" in reading.reasons[1]
    assert reading.outcomes[0].kind == "paired bootstrap"


def test_seeds_that_are_missing_make_it_indicative(tmp_path: Path, store: Store) -> None:
    here = suite(tmp_path)
    fill(store, here, lambda cell, i: None if i == 2 else tickets((60.0, 60.25))(cell, i))
    finding = found(BETTER, store, here)
    assert finding.status == "indicative for"
    assert finding.readings[0].reasons == ("2 of 3 seeds", "seeds:missing")


def test_not_run_with_the_command_that_would_run_it(tmp_path: Path, store: Store) -> None:
    here = suite(tmp_path)
    finding = found(BETTER, store, here)
    assert finding.status == "not run"
    assert finding.commands == (
        f"rstbench run {here.path} --profile paper --store {store.root} --only dataset=cifar10",
    )
    fill(store, here, rates(dense_at=50.0))
    finding = found(BETTER, store, here)
    assert finding.status == "not run" and finding.commands
    (missing,) = finding.readings[0].missing
    assert [pick.defense for pick in missing.picks] == ["rst"]


BYTES = SUITE.replace(
    "measures:\n", "measures:\n  files: {kind: bytes, over: [cifar10, cifar100], report_as: bytes_files}\n"
).replace("  cells:\n", "  cells:\n    - {defense: rst, measure: files, dataset: cifar10}\n")


def test_a_command_names_the_data_and_narrows_only_to_what_the_matrix_has(tmp_path: Path, store: Store) -> None:
    here = suite(tmp_path)
    where = Where("paper", str(store.root), "suites", "my data")
    (finding,) = judge([BETTER], [here], store, where)
    (command,) = finding.commands
    assert command.endswith(" --data-dir 'my data' --only dataset=cifar10")
    both = suite(tmp_path, "figure1_bytes", text=BYTES)
    files = counted("bytes_files", "rst", RN18, "cifar10 cifar100", "0.05")
    finding = found(claim(above("bytes of both tasks", value(files))), store, both)
    assert finding.commands == (f"rstbench run {both.path} --profile paper --store {store.root}",)


def test_the_best_of_three_is_above_both_others(tmp_path: Path, store: Store) -> None:
    here = suite(tmp_path)

    def rate(cell: PlannedCell, position: int) -> float | None:
        ratio = cell.columns["ratio"]
        if not on_cifar10(cell) or cell.columns["defense"] != "rst":
            return None
        return {"0.05": 50.0, "0.10": 40.0, "0.20": (48.0, 49.0, 56.0)[position]}[ratio]

    fill(store, here, rate)
    others = [row(ratio="0.10"), row(ratio="0.20")]
    finding = found(claim(above("first less the best of others", lead(row(), others))), store, here)
    (outcome,) = finding.readings[0].outcomes
    # The strongest over all seeds, not under each.
    assert outcome.by_seed == (2.0, 1.0, -6.0)
    assert finding.status == "undecided"
    weaker = found(claim(above("first less the other", lead(row(), others[:1]))), store, here)
    assert weaker.readings[0].outcomes[0].by_seed == (10.0, 10.0, 10.0) and weaker.status == "supported"


def test_a_suite_that_is_missing_or_broken_is_named(tmp_path: Path, store: Store) -> None:
    finding = found(BETTER, store)
    assert finding.status == "not run" and finding.commands == ()
    assert finding.remarks == ("no suite figure1_*.yaml in suites",)
    broken = Planned(tmp_path / "figure1_broken.yaml", None, "not valid")
    finding = found(BETTER, store, broken)
    assert finding.status == "not run"
    assert finding.remarks == (f"{broken.path}: not valid",)


def test_inconsistent_whatever_was_measured(tmp_path: Path, store: Store) -> None:
    known = next(each for each in CLAIMS if each.id == "rst10-wide-accuracy")
    finding = found(known, store)
    assert (finding.status, finding.measured) == ("inconsistent", "not run")
    here = suite(tmp_path)
    fill(store, here, rates(rst=60.0, dense_at=50.0))
    finding = found(replace(BETTER, checks=known.checks), store, here)
    assert (finding.status, finding.measured) == ("inconsistent", "supported")


def test_numbers_need_equivalence(tmp_path: Path, store: Store) -> None:
    here = suite(tmp_path)
    fill(store, here, rates(rst=48.0, dense_at=50.0))
    gap = less(row(), DENSE)
    for number, status in ((-2.0, "supported"), (2.0, "refuted"), (-0.9, "undecided")):
        assert found(claim(equals("gap", gap, number, 1.0)), store, here).status == status


def test_ratios_that_the_profile_leaves_out(tmp_path: Path, store: Store) -> None:
    over = claim(*(above(f"at {ratio}", less(row(ratio=ratio), DENSE)) for ratio in ("0.05", "0.10", "0.20")))
    here = suite(tmp_path, profile="express")
    fill(store, here, rates(rst=60.0, dense_at=50.0))
    finding = found(over, store, here)
    assert finding.status == "indicative for"
    (reading,) = finding.readings
    assert [left.pick.ratio for left in reading.left_out] == ["0.10"]
    assert reading.statements == 2 and "1 of 3 statements are not in this profile" in reading.reasons
    nowhere = claim(above("x", less(row(ratio="0.50"), DENSE)))
    finding = found(nowhere, store, here)
    assert (finding.status, finding.remarks) == (
        "not run",
        ("the profile has none of its rows; another may have, such as paper",),
    )


def test_one_counterexample_among_many_ratios(tmp_path: Path, store: Store) -> None:
    ratios = ("0.05", "0.10", "0.20")
    over = claim(*(above(f"at {ratio}", less(row(ratio=ratio), DENSE)) for ratio in ratios))
    here = suite(tmp_path)
    fill(store, here, lambda cell, i: 30.0 + i / 4 if cell.columns["ratio"] == "0.10" and on_cifar10(cell) else None)
    fill(store, here, rates(rst=60.0, dense_at=50.0))
    assert found(over, store, here).status == "refuted"
    assert found(replace(over, need="most"), store, here).status == "supported"
    assert found(replace(over, need="any"), store, here).status == "supported"


def test_readings_stand_beside_one_another(tmp_path: Path, store: Store) -> None:
    gain = claim(
        above("R2S less dense", less(row("r2s", "", candidate_set="0.10 0.05", variant=None), DENSE)),
        readings=("", "stop=never"),
    )
    here = suite(tmp_path)

    def rate(cell: PlannedCell, position: int) -> float | None:
        if not on_cifar10(cell) or cell.columns["defense"] != "r2s":
            return None
        return (50.0 if cell.columns["variant"] else 80.0) + position / 4

    fill(store, here, rate)
    fill(store, here, rates(dense_at=50.0))
    finding = found(gain, store, here)
    # The diagonal is 20 points lower, so the mean of four entries is 10 lower.
    assert [(each.variant, each.status) for each in finding.readings] == [("", "supported"), ("stop=never", "refuted")]
    assert finding.status == "supported"
    assert finding.readings[1].outcomes[0].by_seed[0] == pytest.approx(-10.0)


def test_parts_of_a_transfer_matrix(tmp_path: Path, store: Store) -> None:
    here = suite(tmp_path)
    fill(store, here, rates(r2s=80.0))
    fill(store, here, lambda cell, i: 70.0 if cell.columns["attack"] == "eot_pgd20" else None)
    switch = {"candidate_set": "0.05 0.10"}
    numbers = {
        "off_diagonal": 80.0, "diagonal": 60.0, "source 0.05": 70.0, "": 70.0,
    }  # fmt: skip
    for part, number in numbers.items():
        finding = found(claim(equals(part, value(row("r2s", "", part=part, **switch)), number, 0.01)), store, here)
        assert finding.readings[0].outcomes[0].value == pytest.approx(number), part
    with pytest.raises(ValueError, match=r"sources are 0.05, 0.10"):
        found(claim(above("x", value(row("r2s", "", part="source 0.07", **switch)))), store, here)
    with pytest.raises(ValueError, match="'row 1' of a transfer matrix is not known"):
        found(claim(above("x", value(row("r2s", "", part="row 1", **switch)))), store, here)
    with pytest.raises(ValueError, match="has a diagonal"):
        found(claim(above("x", value(row("r2s", "", attack="eot_pgd20", part="diagonal", **switch)))), store, here)


def test_counts_and_distances(tmp_path: Path, store: Store) -> None:
    here = suite(tmp_path)

    def rate(cell: PlannedCell, position: int) -> float | None:
        if not cell.values or cell.columns["dataset"] != C10:
            return None
        if cell.columns["metric"] == "params_m":
            return 4.4 if cell.columns["ratio"] else 11.0
        return (0.30 if cell.columns["ratio"] else 0.10) + 0.001 * position * bool(cell.columns["ratio"])

    fill(store, here, rate)
    size = share(counted("params_m", "rst", RN18, C10, "0.05"), counted("params_m", "dense_at", RN18, C10))
    finding = found(claim(equals("size", size, 40.0, 2.5)), store, here)
    assert finding.status == "supported"
    assert finding.readings[0].outcomes[0].value == pytest.approx(40.0)
    farther = less(
        counted("feature_distance", "rst", RN18, C10, "0.05"), counted("feature_distance", "dense_at", RN18, C10)
    )
    finding = found(claim(above("farther", farther)), store, here)
    assert finding.status == "supported"
    assert finding.readings[0].outcomes[0].by_seed == pytest.approx((0.2, 0.201, 0.202))


def test_one_seed_of_a_count_is_exact(tmp_path: Path, store: Store) -> None:
    here = suite(tmp_path, profile="desk")
    fill(store, here, lambda cell, _: 5.0 if cell.values else None)
    size = value(counted("params_m", "rst", RN18, C10, "0.05"))
    finding = found(claim(below("size", size, 5.1)), store, here, profile="desk")
    assert finding.readings[0].outcomes[0].kind == "exact"
    assert finding.status == "indicative for"


# ---- rows of several suites ------------------------------------------------------------------------------------------

TWO = replace(BETTER, suites=("table3_", "figure1_"))
WITHOUT_RST = SUITE.replace("    - {defense: rst, attack: pgd20}\n", "")


def test_rows_of_two_suites_share_their_images(tmp_path: Path, store: Store) -> None:
    table, figure = suite(tmp_path, "table3_rows", "desk", WITHOUT_RST), suite(tmp_path, profile="desk")
    fill(store, table, rates(dense_at=50.0))
    fill(store, figure, rates(rst=60.0))
    finding = found(TWO, store, table, figure, profile="desk")
    assert finding.readings[0].outcomes[0].kind == "paired bootstrap"
    assert finding.status == "indicative for"


def test_fewer_images_are_compared_on_those_that_both_have(tmp_path: Path, store: Store) -> None:
    here = suite(tmp_path, profile="desk")
    fill(store, here, rates(dense_at=50.0))
    fill(store, here, rates(rst=100.0), n=200)
    finding = found(BETTER, store, here, profile="desk")
    (outcome,) = finding.readings[0].outcomes
    # The dense network is right on its first 200 images, which are all that the ticket was shown.
    assert (outcome.n, outcome.value, outcome.kind) == (200, 0.0, "paired bootstrap")
    assert finding.status == "undecided"


def test_other_images_are_compared_without_pairing(tmp_path: Path, store: Store) -> None:
    here = suite(tmp_path, profile="desk")
    fill(store, here, rates(dense_at=50.0))
    fill(store, here, rates(rst=70.0), n=200, first=1000)
    (outcome,) = found(BETTER, store, here, profile="desk").readings[0].outcomes
    assert (outcome.value, outcome.kind) == (20.0, "bootstrap")


def test_names_that_mean_other_images_are_not_compared(tmp_path: Path, store: Store) -> None:
    other = WITHOUT_RST.replace("cifar10: {source: cifar10}", "cifar10: {source: svhn}")
    table, figure = suite(tmp_path, "table3_rows", text=other), suite(tmp_path)
    fill(store, table, rates(dense_at=50.0))
    fill(store, figure, rates(rst=60.0))
    finding = found(TWO, store, table, figure)
    assert finding.status == "not run"
    assert finding.remarks == ("figure1_rows, table3_rows mean different images or networks by the same names",)


def test_statements_are_what_they_are_called() -> None:
    assert below("x", value(DENSE), 3.0).said == (-float("inf"), 3.0)
    assert Statement("x", value(DENSE), 0.0, 1.0).said is None
