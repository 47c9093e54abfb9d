"""Figures of a suite: what a panel may say, and that what it shows is defined and measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from rstbench.spec import find_faults
from rstbench.spec.figure import Panel
from tests.report.figures.small_figure import FIGURE
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


def test_an_overlay_that_breaks_the_figure(tmp_path: Path) -> None:
    text = changed(
        FIGURE, ("  desk:\n    seeds: [0]\n", "  desk:\n    seeds: [0]\n    matrix: {dataset: [cifar100]}\n")
    )
    found = [f"{fault.key}: {fault.message}" for fault in find_faults(written(tmp_path, text))]
    assert any("under the overlay of profile desk: no cell of the table measures this" in fault for fault in found)
