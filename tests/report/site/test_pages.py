"""Cells, sentences, plots and heat maps."""

from __future__ import annotations

import pytest

from rstbench.errors import StoreError
from rstbench.report.leaderboard.schema import COLUMNS, METRICS, Transfer
from rstbench.report.site.boards import read_boards
from rstbench.report.site.columns import METRIC_HEADINGS, SHOWN, cell, ratios_of, size
from rstbench.report.site.heat import heat, heats
from rstbench.report.site.plot import HEIGHT, WIDTH, plot
from rstbench.report.site.suites import named, suite_texts
from rstbench.report.site.words import drawn, flags, means, means_not
from tests.report.leaderboard.examples import example


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boards")
    example(folder, entries=6, n=300)
    return read_boards(folder).threats[0].entries


def of(entries, kind):
    return next(each for each in entries if each.row["defense"] == kind)


def column(name):
    return next(each for each in SHOWN if each.name == name)


def test_every_metric_and_only_columns_of_the_csv_are_shown():
    assert set(METRIC_HEADINGS) == set(METRICS)
    assert {each.name for each in SHOWN} <= set(COLUMNS)
    names = [each.name for each in SHOWN]
    assert names.index("pgd20_paper") == names.index("adaptive") + 1  # the weak adversary beside the strong one


def test_cells_say_what_the_csv_says_with_intervals_beside(entries):
    row = dict(of(entries, "r2s").row)
    worst = cell(column("worst"), row)
    assert worst.text == row["worst"] == worst.order
    assert worst.note == f"{float(row['worst_low']):.1f}\u2013{float(row['worst_high']):.1f}"
    assert cell(column("worst"), row | {"worst_n": "100"}).note.endswith("\nn 100")
    assert cell(column("autoattack"), row | {"autoattack": ""}).text == ""
    ratio = cell(column("remaining_ratio"), row)
    assert (ratio.text, ratio.note, ratio.order) == ("0.05\u20130.3", "6 members", "0.05")
    assert cell(column("remaining_ratio"), row | {"remaining_ratio": "0.1 0.1"}).text == "2 \u00d7 0.1"
    flagged = cell(column("name"), row | {"flags": "substitute:network zero_gradients"})
    assert flagged.note == "zero_gradients"
    assert cell(column("parameters"), row).text == "701\u202f466"
    assert [size(count) for count in (12, 2048, 701466)] == ["12 bytes", "2 KiB", "685 KiB"]
    assert ratios_of("0.2 x nan 0 1.5 inf 0.05") == [0.05, 0.2]


def test_a_switch_is_said_to_be_random_and_judged_by_the_adaptive_adversary(entries):
    row = of(entries, "r2s").row
    assert drawn(row)
    said = " ".join(means(row))
    gap = float(row["pgd20_paper"]) - float(row["adaptive"])
    assert "One of 6 networks is drawn" in said and "upper bound" in said
    assert f"{row['pgd20_paper']} %" in said and f"{row['adaptive']} %: {gap:.2f} points less" in said
    assert "not a deterministic defense" in " ".join(means_not(row))


def test_a_single_network_is_not(entries):
    row = of(entries, "ticket").row
    assert not drawn(row) and not drawn({**of(entries, "r2s").row, "defense": "ensemble"})
    assert "deterministic" not in " ".join([*means(row), *means_not(row)])
    assert f"Of {row['worst_n']} test images, {row['worst']} %" in means(row)[0]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"autoattack": ""}, "AutoAttack was not run."),
        ({"autoattack": "40.00", "autoattack_n": "100"}, "AutoAttack had 100 of the 300 images"),
        ({"seeds": "0"}, "not the luck of training and search"),
        ({"profile": "smoke"}, "no test of the paper's claims"),
        ({"rank": "", "flags": "unranked:few_images"}, "It has no rank: its worst case rests on fewer than 200"),
        ({"rank": "", "flags": "unranked:masked_gradients x"}, "It has no rank: an attack without gradients"),
        ({"rank": "", "flags": ""}, "It has no rank."),
    ],
)
def test_what_a_number_does_not_say(entries, fields, said):
    assert said in " ".join(means_not({**of(entries, "r2s").row, **fields}))


def test_every_flag_is_explained_and_doubts_are_marked(entries):
    found = flags(entries[0].row | {"flags": "substitute:data unranked:few_images zero_gradients data:notes"})
    said = {flag: (meaning, doubt) for flag, meaning, doubt in found}
    assert {flag for flag, (_, doubt) in said.items() if doubt} == {"unranked:few_images", "zero_gradients"}
    assert "fewer than 200" in said["unranked:few_images"][0] and "details.csv" in said["data:notes"][0]


def test_a_setting_without_limits_has_none_said(entries):
    row = {**of(entries, "ticket").row, "autoattack": "40.00", "autoattack_n": "300"}
    assert means_not(row | {"seeds": "0 1 2", "profile": "paper"}) == []


def test_plots_stay_within_their_frame_and_switches_are_lines(entries):
    for entry in entries:
        drawing = plot(entry, entries)
        marks = [*drawing.own.values(), *drawing.members, *(m for each in drawing.others.values() for m in each)]
        assert all(0 < mark.x <= mark.x2 < WIDTH and 0 < mark.high <= mark.low < HEIGHT for mark in marks)
        assert all(mark.high <= mark.y <= mark.low for mark in marks)
        assert len(drawing.others["worst"]) == len(entries) - 1
    switch, ticket = (plot(of(entries, kind), entries) for kind in ("r2s", "ticket"))
    assert switch.own["worst"].x < switch.own["worst"].x2 and len(switch.members) == 6
    assert [mark.x for mark in switch.members] == sorted(mark.x for mark in switch.members)
    assert ticket.own["worst"].x == ticket.own["worst"].x2 and not ticket.members


def test_no_plot_without_a_ratio(entries):
    foreign = entries[0].model_copy(update={"row": entries[0].row | {"remaining_ratio": ""}})
    assert plot(foreign, [*entries, foreign]) is None


def test_heat_runs_from_the_lowest_to_the_highest():
    found = heat(Transfer(attack="pgd20", sources=("a", "b"), members=("a", "b"), matrix=((10.0, 60.0), (35.0, 60.0))))
    assert found.rows == (
        ("a", (("10.0", 0, True), ("60.0", 20, False))),
        ("b", (("35.0", 10, False), ("60.0", 20, True))),
    )
    assert (found.low, found.high) == ("10.0", "60.0")


@pytest.mark.parametrize(
    "matrix", [(), ((1.0,),), ((1.0, 2.0),), ((1.0, 2.0), (3.0, float("nan"))), ((1.0, 2.0), (3.0, 101.0))]
)
def test_a_matrix_that_is_none_is_refused(matrix):
    with pytest.raises(StoreError, match="transfer matrix of 'pgd20'"):
        heat(Transfer(attack="pgd20", sources=("a", "b"), members=("a", "b"), matrix=matrix))


def test_members_that_share_a_label_are_told_apart_and_matrices_shown_once():
    matrix = ((1.0, 2.0), (3.0, 4.0))
    twice = Transfer(attack="pgd20", sources=("a", "a"), members=("a", "a"), matrix=matrix)
    (found,) = heats([twice, twice])
    assert [[own for _, _, own in cells] for _, cells in found.rows] == [[True, False], [False, True]]
    other = Transfer(attack="pgd20", sources=("x", "a"), members=("a", "x"), matrix=matrix)
    assert not any(own for _, cells in heat(other).rows for _, _, own in cells)


def test_attacks_on_fewer_images_are_told(entries):
    said = means_not(entries[0].row, {"fewer_images": {"images": 64, "worst": "45.31", "with_all": "40.36"}})
    assert "On 64 of the images" in said[-1] and "from 45.31 to 40.36 %" in said[-1]
    assert means_not(entries[0].row, {"fewer_images": "64"}) == means_not(entries[0].row)


def test_suites_are_taken_from_their_folder_alone(tmp_path):
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "a.yaml").write_text("name: a\n", encoding="utf-8")
    (tmp_path / "secret.yaml").write_text("secret\n", encoding="utf-8")
    command = "rstbench run x/a.yaml ../secret.yaml suites/b.yml --profile smoke; rstbench run suites/a.yaml"
    assert named(command) == ("a.yaml", "secret.yaml", "b.yml")
    assert suite_texts(tmp_path / "suites", [command]) == {"a.yaml": "name: a\n"}
    assert suite_texts(tmp_path / "none", [command]) == {}
    (tmp_path / "suites" / "b.yml").write_bytes(b"\xff")
    with pytest.raises(StoreError, match="not UTF-8"):
        suite_texts(tmp_path / "suites", [command])
