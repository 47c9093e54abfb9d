"""What records say of networks is what the suite asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from rstbench.report.leaderboard.behind import Behind
from rstbench.report.leaderboard.build import form_of
from rstbench.report.leaderboard.measured import defense_behind
from rstbench.report.leaderboard.provenance import kind_of, network_label, parameters, ratio_of
from rstbench.report.leaderboard.words import attack_words, derived_words
from rstbench.spec.attacks import AutoAttackSpec, CleanSpec, CwInfSpec, PgdSpec, SquareSpec
from rstbench.spec.defenses import LotterySpec, R2sSpec, TicketSpec, TicketsSpec
from rstbench.store import Store
from tests.report.leaderboard.stored import count
from tests.suites import SHIPPED, planned


@pytest.mark.parametrize(
    "name", ["table3_r2s", "r2s_rtt", "controls", "lottery", "better_search", "figure2_finetuning"]
)
def test_kinds_and_ratios_follow_from_the_nodes(tmp_path: Path, name: str) -> None:
    (path,) = [each for each in SHIPPED if each.stem == name]
    plan = planned(path, "smoke")
    behind = Behind(Store(tmp_path / "store"), nodes=dict(plan.nodes))
    seen = set()
    for cell in plan.cells:
        if not cell.predictions or cell.defense in seen:
            continue
        seen.add(cell.defense)
        spec = plan.suite.run.defenses[cell.defense]
        found = defense_behind(form_of(cell), behind)
        members = found.networks[0]
        kind = "ticket" if isinstance(spec, TicketsSpec) else spec.kind
        assert kind_of(behind, members, found.average) == kind, cell.defense
        ratios = [ratio_of(behind, *network) for network in found.flat[0]]
        if isinstance(spec, R2sSpec):
            assert [float(ratio) for ratio in ratios] == list(spec.ratios)
        elif isinstance(spec, TicketSpec | LotterySpec):
            assert float(ratios[0]) == spec.ratio
        elif spec.kind == "dense":
            assert ratios == ["1.00"]
        total, kept = parameters(behind, found.flat[0], count)
        assert total == "1000" and kept == str(round(1000 * max(map(float, ratios))))
        assert network_label(behind, found.flat[0]) == cell.run["run_network"]
        assert found.fingerprint and found.probabilities == cell.probabilities
    assert len(seen) > 1


def test_attacks_are_called_by_what_they_are() -> None:
    assert attack_words(CleanSpec()) == "natural"
    assert attack_words(PgdSpec(kind="pgd")) == "pgd20"
    slow = PgdSpec(kind="pgd", steps=50, restarts=3, stop="source_fooled")
    assert attack_words(slow) == "pgd50, 3 restarts, stop at the source's boundary"
    unit = PgdSpec(kind="pgd", view="eot", expectation="mean_unit_gradient")
    assert attack_words(unit) == "eot_pgd20, unit gradients"
    averaged = PgdSpec(kind="pgd", view="ensemble", average="probabilities")
    assert attack_words(averaged) == "ensemble_pgd20, averaged probabilities"
    assert (
        attack_words(AutoAttackSpec(kind="autoattack", version="rand", view="switch")) == "autoattack rand, view switch"
    )
    assert attack_words(CwInfSpec(kind="cw_inf", within_epsilon=True)) == "cw_inf, form penalty, within epsilon"
    assert attack_words(SquareSpec(kind="square")) == "square, 5000 queries"
    assert derived_words("any_of", 10, "eot_pgd20") == "any of 10 tries of eot_pgd20"
    assert derived_words("worst_source", 1, "pgd20") == "worst source of pgd20"
