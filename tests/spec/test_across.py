"""Rows that could not be told apart, and those that can."""

from __future__ import annotations

from pathlib import Path

import pytest

from rstbench.spec import find_faults
from tests.suites import TINY, changed, written

SUITE = changed(
    TINY,
    ("    - {defense: r2s, attack: eot}\n", "    - {defense: r2s, attack: eot}\n    - MORE\n"),
    ("table:\n", "  other: {kind: pgd, epsilon: \"16/255\", report_as: pgd20}\n"
                 "  near: {kind: cw_l2, within_epsilon: 1, report_as: cw}\n"
                 "  nearer: {kind: cw_l2, within_epsilon: 0.5, report_as: cw}\n"
                 "  far: {kind: cw_l2, report_as: cw}\n"
                 "  same: {kind: cw_l2, within_epsilon: 1.0, report_as: cw}\n"
                 "  point: {kind: pointwise, over: [pgd20, eot], report_as: pgd20}\n"
                 "  point16: {kind: pointwise, over: [other], report_as: pgd20, variant: x}\n"
                 "  l2: {kind: pgd, norm: l2, epsilon: 1, report_as: pgd20}\n"
                 "  l2_too: {kind: square, norm: l2, epsilon: 1.0, report_as: pgd20}\n"
                 "table:\n"),
)  # fmt: skip


def faults(folder: Path, *cells: str) -> list[str]:
    text = changed(SUITE, ("- MORE", "\n    ".join(f"- {cell}" for cell in cells)))
    return [f"{fault.key}: {fault.message}" for fault in find_faults(written(folder, text))]


@pytest.mark.parametrize(
    "cell",
    [
        "{defense: r2s, attack: other}",  # another distance
        "{defense: r2s, attack: pgd20, source: dense_at}",
        "{defense: dense_at, attack: pgd20, source: r2s}",
        "{defense: r2s, attack: pgd20, source_seed: other}",
        "{defense: r2s, attack: pgd20, source: dense_at, source_seed: other}",
        "{defense: r2s, attack: l2}",
        "{defense: dense_at, attack: eot, source: r2s}",  # a view of the source
    ],
)
def test_rows_that_differ(tmp_path: Path, cell: str) -> None:
    assert faults(tmp_path, cell) == []


def test_minimum_norm_rows_differ_by_what_counts(tmp_path: Path) -> None:
    assert faults(tmp_path, *(f"{{defense: r2s, attack: {name}}}" for name in ("near", "nearer", "far"))) == []
    (fault,) = faults(tmp_path, "{defense: r2s, attack: near}", "{defense: r2s, attack: same}")
    assert "cell 5 gives too" in fault


@pytest.mark.parametrize(
    "cells, other",
    [
        (["{defense: r2s, attack: pgd20}"], 3),
        (["{defense: r2s, attack: point}"], 3),  # of the distance that it chooses from
        (["{defense: r2s, attack: l2}", "{defense: r2s, attack: l2_too}"], 5),
        (["{defense: r2s, attack: pgd20, source: dense_at}"] * 2, 5),
    ],
)
def test_rows_that_are_one(tmp_path: Path, cells: list[str], other: int) -> None:
    (fault,) = faults(tmp_path, *cells)
    assert f"gives a row of the table that cell {other} gives too" in fault


@pytest.mark.parametrize(
    "cell, key, message",
    [
        ("{defense: r2s, attack: pgd20, source: dense}", "table.cells[5].source", "not defined in `defenses`"),
        ("{defense: r2s, attack: pgd20, source_seed: another}", "table.cells[5].source_seed", "allowed: same or other"),
        ("{defense: r2s, attack: eot, source: dense_at}", "table.cells[5].attack", "the view eot is over the members"),
        ("{defense: dense_at, attack: eot}", "table.cells[5].attack", "and 'dense_at' is none"),
    ],
)
def test_faults_of_sources(tmp_path: Path, cell: str, key: str, message: str) -> None:
    (fault,) = faults(tmp_path, cell)
    assert fault.startswith(f"{key}: ") and message in fault


def test_a_derived_attack_that_chooses_from_itself_is_one_fault(tmp_path: Path) -> None:
    text = changed(SUITE, ("    - MORE\n", ""), ("over: [other]", "over: [point16]"))
    (fault,) = find_faults(written(tmp_path, text))
    assert fault.key == "attacks.point16.over[0]"


MEASURED = changed(
    SUITE,
    ("attacks:\n", "  ticket: {kind: ticket, search: rst, ratio: 0.1}\n"
                   "  mixed: {kind: switch, members: [ticket, dense_at]}\n"
                   "  twins: {kind: switch, members: [ticket, twin]}\n"
                   "  twin: {kind: ticket, search: rst, ratio: 0.1, seed_offset: 1}\n"
                   "  mean: {kind: ensemble, of: twins}\n"
                   "attacks:\n"),
    ("table:\n", "measures:\n  params: {kind: parameters}\n  size: {kind: bytes}\n  overlap: {kind: mask_overlap}\n"
                 "  distance: {kind: feature_distance}\ntable:\n"),
)  # fmt: skip


@pytest.mark.parametrize(
    "cell, message",
    [
        ("{defense: r2s, measure: params}", "how far its masks overlap; measure bytes"),
        ("{defense: mean, measure: params}", "how far its masks overlap; measure bytes"),
        ("{defense: ticket, measure: overlap}", "'ticket' is none"),
        ("{defense: mean, measure: overlap}", "'mean' is none"),
        ("{defense: mixed, measure: overlap}", "member 'dense_at' (dense) has none"),
        ("{defense: twins, measure: distance}", "name one of its members"),
        ("{defense: twins, measure: overlap}", ""),
        ("{defense: r2s, measure: overlap}", ""),
        ("{defense: mixed, measure: size}", ""),
        ("{defense: dense_at, measure: distance}", ""),
        ("{defense: ticket, measure: params}", ""),
    ],
)
def test_measures_that_a_defense_has(tmp_path: Path, cell: str, message: str) -> None:
    found = find_faults(written(tmp_path, changed(MEASURED, ("- MORE", f"- {cell}"))))
    assert [fault.key for fault in found] == (["table.cells[5].measure"] if message else [])
    assert all(message in fault.message for fault in found)
