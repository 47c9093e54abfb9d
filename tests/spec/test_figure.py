"""Figures of a suite: what a panel may say, and that what it shows is defined and measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from rstbench.spec import find_faults
from rstbench.spec.figure import Panel
from tests.report.figures.small_figure import FIGURE
from tests.report.figures.test_scatter import SCATTER
from tests.suites import changed, written

PANEL = {
    "kind": "lines",
    "title": "t",
    "dataset": "d",
    "network": "n",
    "attack": "a",
    "series": [{"defense": "x", "label": "X"}],
}


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"measure": "m"}, "an `attack` or a `measure`, not both"),
        ({"attack": None}, "name an `attack` or a `measure`, of the panel or of each series"),
        ({"kind": "bars", "dashed": "x"}, "`dashed` and `inset` belong to lines"),
        ({"kind": "heatmap", "inset": [0.1, 0.2]}, "`dashed` and `inset` belong to lines"),
        ({"inset": [0.2, 0.1]}, "end at a larger ratio"),
        ({"inset": [0.2, 0.2]}, "end at a larger ratio"),
        ({"series": [{"defense": "x", "label": "X", "group": "g"}]}, "`group` belongs to bars"),
        ({"kind": "heatmap", "series": [{"defense": "x", "label": "X"}, {"defense": "y", "label": "Y"}]}, "one matrix"),
        ({"kind": "heatmap", "attack": None, "measure": "m"}, "a `measure` has no matrix"),
        ({"kind": "distribution"}, "right or wrong has none"),
        ({"series": [{"defense": "x", "label": "X"}, {"defense": "y", "label": "X"}]}, "the same label"),
        ({"series": [{"defense": "x", "label": str(i)} for i in range(9)]}, "9 labels; more than 8"),
        ({"series": [{"defense": "x", "label": "X", "attack": "a", "measure": "m"}]}, "not both"),
        ({"series": [{"defense": "x", "label": "X", "source": "y"}]}, "`source` belongs to bars"),
        (
            {"kind": "bars", "attack": None, "measure": "m", "series": [{"defense": "x", "label": "X", "source": "y"}]},
            "a `source` makes the images of an attack",
        ),
        ({"gain": True}, "`gain` belongs to scatter"),
        ({"kind": "scatter", "attack": None, "measure": "m"}, "a scatter shows an `attack`"),
    ],
)
def test_panels_that_make_no_sense(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Panel.model_validate(PANEL | fields)


def test_a_series_may_ask_in_place_of_its_panel() -> None:
    panel = Panel.model_validate(
        PANEL | {"series": [{"defense": "x", "label": "X"}, {"defense": "x", "label": "Y", "measure": "m"}]}
    )
    assert [panel.asked(one) for one in panel.series] == [("a", None), (None, "m")]


def test_bars_of_one_label_in_several_groups() -> None:
    series = [{"defense": "x", "label": "X", "group": group} for group in ("one", "two")]
    assert len(Panel.model_validate(PANEL | {"kind": "bars", "series": series}).series) == 2


def faults(folder: Path, *pairs: tuple[str, str]) -> list[str]:
    return [f"{fault.key}: {fault.message}" for fault in find_faults(written(folder, changed(FIGURE, *pairs)))]


def test_a_sound_figure(tmp_path: Path) -> None:
    assert faults(tmp_path) == []


RST, DASHED = "{defense: rst, label: scratch}", "      dashed: dense_at\n      inset"


@pytest.mark.parametrize(
    "pair, words",
    [
        ((RST, "{defense: rstt, label: scratch}"), "panels[0].series[0].defense: not defined in `defenses`"),
        (("title: (a) lines\n      dataset: cifar10", "title: (a)\n      dataset: cifar"), "[0].dataset: not def"),
        ((DASHED, "      dashed: dense\n      inset"), "panels[0].dashed: not defined in `defenses`"),
        (("label: natural, attack: clean", "label: natural, attack: cleen"), "series[0].attack: not defined in"),
        (("measure: far\n", "measure: fra\n"), "panels[4].measure: not defined in `measures`"),
        ((RST, "{defense: dense_at, label: scratch}"), "series[0].defense: a line runs over remaining ratios"),
        ((DASHED, "      dashed: rst\n      inset"), "panels[0].dashed: a dashed line is one value, of one network"),
        (("[{defense: r2s, label: tickets}]", "[{defense: rst, label: tickets}]"), "a heat map shows transfer between"),
        (("    - {defense: rtt, attack: pgd20}\n", ""), "no cell of the table measures this; add {defense: rtt"),
        (("    - {defense: dense_at, attack: clean}\n", ""), "panels[1].dashed: no cell of the table measures this"),
        (("    - {defense: r2s, attack: pgd20}\n", "    - {defense: r2s, attack: pgd20, dataset: cifar100}\n"),
         "panels[2].series[0].defense: no cell of the table measures this"),
        (("    - {defense: r2s, attack: pgd20}\n", "    - {defense: r2s, attack: pgd20, source_seed: other}\n"),
         "panels[2].series[0].defense: no cell of the table measures this"),
        (("dataset: [cifar10, cifar100]", "dataset: [cifar100]"), "panels[0].series[0].defense: no cell of the table"),
    ],
)  # fmt: skip
def test_what_a_panel_shows_must_be_there(tmp_path: Path, pair: tuple[str, str], words: str) -> None:
    found = faults(tmp_path, pair)
    assert any(words in fault for fault in found), found


@pytest.mark.parametrize(
    "pairs, words",
    [
        ((), ""),
        ((("{defense: r2s, label: ratios}", "{defense: rst, label: ratios}"),), "a scatter shows pairs of members"),
        ((("    - {defense: r2s, measure: overlap}\n", ""),), "add {defense: r2s, measure: overlap, dataset: cifar10"),
        ((("    - {defense: r2s, measure: overlap}\n", ""), ("  overlap: {kind: mask_overlap}\n", "")),
         "a scatter goes over the overlap of masks; add a measure of kind mask_overlap"),
        ((("{kind: pgd, stop: source_fooled}", "{kind: pgd, view: eot}"),), "this attack is of view eot"),
        ((("{kind: pgd, stop: source_fooled}", "{kind: arc}"),), "this attack is of kind arc"),
        ((("      attack: pgd20\n", "      attack: clean\n"),), "this attack is of kind clean"),
        ((("label: ratios}", "label: ratios, attack: point}"),
          ("attacks:\n", "attacks:\n  point: {kind: pointwise, over: [pgd20]}\n")), "this attack is of kind pointwise"),
    ],
)  # fmt: skip
def test_what_a_scatter_needs(tmp_path: Path, pairs: tuple[tuple[str, str], ...], words: str) -> None:
    found = [f"{fault.key}: {fault.message}" for fault in find_faults(written(tmp_path, changed(SCATTER, *pairs)))]
    assert any(words in fault for fault in found) if words else found == [], found


BAR = '        - {defense: dense_at, label: dense, measure: far, group: "8/255"}\n'
OTHER = "        - {defense: r2s, label: ratios, attack: pgd20, source: rtt_05}\n"
RTT_05 = "rtt_05: {kind: ticket, search: rst, ratio: 0.05, weights: dense_at}"
TRANSFER = (
    (BAR, BAR + OTHER),
    ("  rst: {kind: tickets", f"  {RTT_05}\n  rst: {{kind: tickets"),
)  # fmt: skip


def test_a_bar_of_images_made_against_another_network(tmp_path: Path) -> None:
    cell = "    - {defense: r2s, attack: pgd20}\n"
    (fault,) = [each for each in faults(tmp_path, *TRANSFER) if "panels[3]" in each]
    assert "no cell of the table measures this; add {defense: r2s, attack: pgd20, source: rtt_05" in fault
    assert faults(tmp_path, *TRANSFER, (cell, cell + cell.replace("pgd20}", "pgd20, source: rtt_05}"))) == []
    unknown = (TRANSFER[0][0], BAR + OTHER.replace("rtt_05", "rtt_5"))
    assert any("series[2].source: not defined in `defenses`" in each for each in faults(tmp_path, unknown))


def test_an_overlay_that_breaks_the_figure(tmp_path: Path) -> None:
    text = changed(
        FIGURE, ("  desk:\n    seeds: [0]\n", "  desk:\n    seeds: [0]\n    matrix: {dataset: [cifar100]}\n")
    )
    found = [f"{fault.key}: {fault.message}" for fault in find_faults(written(tmp_path, text))]
    assert any("under the overlay of profile desk: no cell of the table measures this" in fault for fault in found)
