from __future__ import annotations

import hashlib

import pytest

from rstbench.errors import SpecError
from rstbench.report.paper import IDENTITY, paper_csv, paper_frame, paper_rows, paper_value, render_paper

R2S = {
    "table": "3", "dataset": "cifar10", "network": "preact_resnet18", "defense": "r2s", "ratio": "",
    "candidate_set": "0.05 0.07 0.10 0.15 0.20 0.30", "attack": "pgd20", "norm": "linf", "eps": "8",
    "attack_source": "", "metric": "robust_acc", "variant": "",
}  # fmt: skip


def test_the_reference_values_are_the_published_ones() -> None:
    assert hashlib.sha256(paper_csv()).hexdigest() == "76daafd00c2948ed3c606d712739d26e1d78cabda385af2ccb817eac3f4331aa"
    assert len(paper_rows()) == 272
    frame = paper_frame()
    assert list(frame.columns) == [*IDENTITY, "value", "number"]
    assert frame["number"].between(0, 100).all()
    assert frame.loc[0, "value"] == "11.17"
    assert frame.loc[0, "number"] == 11.17
    assert not frame.isna().any().any()


def test_every_value_is_found_by_its_own_columns() -> None:
    for row in paper_rows():
        assert paper_value(row.columns) == row


def test_numbers_are_compared_as_numbers() -> None:
    row = paper_value(R2S | {"candidate_set": "0.3 0.2 0.15 0.1 0.07 0.05", "eps": "8.0", "variant": "whatever"})
    assert row is not None
    assert row.value == "63.93"
    assert row.columns["candidate_set"] == R2S["candidate_set"]
    table1 = R2S | {"table": "1", "dataset": "imagenet", "network": "resnet50", "defense": "rst", "candidate_set": ""}
    found = paper_value(table1 | {"ratio": "0.40", "eps": "2"})
    assert found is not None
    assert (found.columns["ratio"], found.value) == ("0.4", "35.24")


@pytest.mark.parametrize(
    "other",
    [
        {"table": ""}, {"table": "4"}, {"dataset": "svhn"}, {"eps": "7.99"}, {"eps": ""}, {"norm": "l2"},
        {"ratio": "0.05"}, {"candidate_set": "0.05 0.07"}, {"candidate_set": "five"}, {"metric": "natural_acc"},
    ],
)  # fmt: skip
def test_another_cell_answers_nothing(other: dict[str, str]) -> None:
    assert paper_value(R2S | other) is None


def test_a_natural_accuracy_matches_on_epsilon_only_where_it_is_given() -> None:
    natural = R2S | {"attack": "none", "norm": "", "eps": "", "metric": "natural_acc"}
    found = paper_value(natural)
    assert found is not None
    assert found.value == "77.49"
    assert paper_value(natural | {"norm": "linf", "eps": "8"}) is None
    table1 = natural | {"table": "1", "dataset": "imagenet", "network": "resnet18", "defense": "dense_at"}
    table1["candidate_set"] = ""
    assert paper_value(table1) is None  # trained at epsilon 2 or at 4: which one is not said
    at_two = paper_value(table1 | {"norm": "linf", "eps": "2"})
    assert at_two is not None
    assert at_two.value == "56.25"


def test_csv_is_the_file_and_a_table_is_its_lines() -> None:
    assert render_paper("csv").encode() == paper_csv()
    lines = render_paper("csv", 3).splitlines()
    assert len(lines) == 17
    assert lines[0].startswith("table,dataset")
    assert all(line.startswith("3,") for line in lines[1:])


def test_markdown_and_text_show_every_value() -> None:
    markdown, text = render_paper("markdown"), render_paper("table")
    for shown in (markdown, text):
        assert all(row.value in shown for row in paper_rows())
        assert "attack_source" not in render_paper("table", 3)  # blank throughout
    assert sum(line.startswith("| cifar") or line.startswith("| imagenet") for line in markdown.splitlines()) == 272
    assert len(text.splitlines()) == 272 + 9 * 3 + 8


def test_a_table_the_paper_lacks_is_refused() -> None:
    with pytest.raises(SpecError, match="no table 10"):
        render_paper("csv", 10)
