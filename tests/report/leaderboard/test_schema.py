"""The columns of a leaderboard are fixed: whoever reads one may rely on them."""

from __future__ import annotations

from pathlib import Path

from rstbench.report.leaderboard.schema import COLUMNS, METRICS, RANKED_IMAGES, SCHEMA, columns_table

ROOT = Path(__file__).parents[3]

GOLDEN = (
    "rank entry name defense network dataset norm epsilon members remaining_ratio parameters parameters_kept "
    "ticket_bytes clean clean_low clean_high clean_n pgd20 pgd20_low pgd20_high pgd20_n pgd20_paper pgd20_paper_low "
    "pgd20_paper_high pgd20_paper_n autoattack autoattack_low autoattack_high autoattack_n adaptive adaptive_low "
    "adaptive_high adaptive_n adaptive_attack worst worst_low worst_high worst_n worst_attack worst_tries n seeds "
    "profile flags threat_model challengers suite commit packages data_fingerprint hardware date store_keys evidence"
)


def test_the_columns_are_those_that_readers_know() -> None:
    assert " ".join(COLUMNS) == GOLDEN and SCHEMA == 1  # other columns: another version
    assert set(METRICS) < set(COLUMNS) and RANKED_IMAGES == 200


def test_every_column_is_documented() -> None:
    text = (ROOT / "leaderboards" / "README.md").read_text(encoding="utf-8")
    assert columns_table() in text
    assert str(RANKED_IMAGES) in text
    for flag in ("few_images", "no_fitting_attack", "masked_gradients"):
        assert f"`unranked:{flag}`" in text
