"""What is read is checked before anything is shown."""

from __future__ import annotations

import json

import pytest

from rstbench.errors import StoreError
from rstbench.report.leaderboard.files import json_beside
from rstbench.report.site.boards import read_boards
from tests.report.leaderboard.examples import example


def test_threat_models_in_order_with_pages_of_their_own(tmp_path):
    example(tmp_path, entries=7, epsilons=("16/255", "8/255", "2/255"), n=20)
    example(tmp_path, entries=2, norm="l2", epsilons=("2", "0.5"), n=20, seed=1)
    example(tmp_path, entries=2, dataset="a/b", n=20, seed=2)
    folder = read_boards(tmp_path)
    assert [each.title for each in folder.threats] == [
        "a/b, L∞ 8/255",
        "cifar10, L∞ 2/255",
        "cifar10, L∞ 8/255",
        "cifar10, L∞ 16/255",
        "cifar10, L2 0.5",
        "cifar10, L2 2",
    ]
    assert folder.threats[0].slug == "a-b_linf_8-255"
    assert folder.first.title == "cifar10, L∞ 16/255"  # three entries, the others have fewer
    assert [each.row["rank"] for each in folder.first.entries] == ["1", "2", "3"]


def test_epsilons_that_look_alike_as_file_names_do_not_share_a_page(tmp_path):
    example(tmp_path, entries=3, epsilons=("8/255", "8 255", "INDEX"), n=20)
    slugs = [each.slug for each in read_boards(tmp_path).threats]
    assert len({slug.lower() for slug in slugs}) == 3


def test_entries_without_a_rank_come_last_best_first(tmp_path):
    unranked = {0: {"rank": "", "worst": "99.00"}, 1: {"rank": "", "worst": "98.00"}}
    path = example(tmp_path, entries=4, n=20)
    for i, fields in unranked.items():
        change(path, i, **fields)
    rows = [entry.row for entry in read_boards(tmp_path).threats[0].entries]
    assert [row["rank"] for row in rows][2:] == ["", ""]
    assert [row["worst"] for row in rows][2:] == ["99.00", "98.00"]


def change(path, i, **fields):
    """Columns of the i-th entry, in CSV and JSON alike."""
    from rstbench.report.leaderboard.files import read_csv, write_csv

    rows = read_csv(path)
    rows[i] |= fields
    write_csv(path, rows)
    whole = json.loads(json_beside(path).read_text(encoding="utf-8"))
    whole["entries"][i] |= fields
    json_beside(path).write_text(json.dumps(whole), encoding="utf-8")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"worst": "<b>40</b>"}, "is not a percentage"),
        ({"pgd20": "140.00"}, "is not a percentage"),
        ({"clean_low": ""}, "is not a percentage"),
        ({"n": "1e3"}, "n: '1e3' is not a count"),
        ({"rank": "first"}, "rank: 'first' is not a count"),
        ({"norm": "l2"}, "another data set or norm"),
        ({"worst": "", "worst_low": "", "worst_high": ""}, "no worst case"),
        ({"entry": "../../../etc"}, "12 hex digits"),
    ],
)
def test_what_is_no_figure_is_refused_by_name(tmp_path, fields, said):
    change(example(tmp_path, entries=3, n=20), 1, **fields)
    with pytest.raises(StoreError, match=said):
        read_boards(tmp_path)


def test_csv_and_json_that_differ_are_refused(tmp_path):
    path = example(tmp_path, entries=3, n=20)
    text = path.read_text(encoding="utf-8")
    first = text.splitlines()[1].split(",")[1]
    path.write_text(text.replace("preact_resnet18-w0.25", "wide_resnet32", 1), encoding="utf-8")
    with pytest.raises(StoreError, match=rf"entry {first}, network: the CSV says 'wide_resnet32', the JSON 'preact"):
        read_boards(tmp_path)
    path.write_text("\n".join(text.splitlines()[:-1]) + "\n", encoding="utf-8")
    with pytest.raises(StoreError, match="different entries"):
        read_boards(tmp_path)


def test_formulas_in_names_are_read_as_they_were_written(tmp_path):
    example(tmp_path, entries=1, n=20, changes={0: {"name": "=1+1"}})
    assert read_boards(tmp_path).threats[0].entries[0].row["name"] == "=1+1"


def test_one_entry_in_two_files_is_refused(tmp_path):
    example(tmp_path, entries=1, n=20)
    example(tmp_path, entries=1, dataset="cifar100", n=20)
    with pytest.raises(StoreError, match=r"is in cifar100_linf\.csv and in cifar10_linf\.csv"):
        read_boards(tmp_path)


def test_a_folder_without_leaderboards_says_what_makes_them(tmp_path):
    with pytest.raises(StoreError, match="leaderboard build"):
        read_boards(tmp_path)
    with pytest.raises(StoreError, match="no such folder"):
        read_boards(tmp_path / "none")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(StoreError, match="no leaderboard"):
        read_boards(tmp_path)
