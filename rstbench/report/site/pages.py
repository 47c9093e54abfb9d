"""The pages as text. Everything that users wrote is escaped: templates escape all that they are given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from rstbench import __version__
from rstbench.report.leaderboard.files import json_beside
from rstbench.report.leaderboard.schema import COLUMNS, METRICS, RANKED_IMAGES, Entry, EntryRow
from rstbench.report.site import plot as plots
from rstbench.report.site import words
from rstbench.report.site.boards import Folder, ThreatModel
from rstbench.report.site.columns import METRIC_HEADINGS, SHOWN, Cell, Column, cell, size
from rstbench.report.site.heat import heats
from rstbench.report.site.plot import plot
from rstbench.report.site.suites import named

TITLE = "Robust scratch tickets: leaderboards"
FIRST = 50
"""Rows of a table that stand in the page itself; the script puts them all in."""
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
"""No script but the site's own files, and nothing from elsewhere; browsers hold pages to it."""


class Pages:
    """Makes the pages of a folder of leaderboards."""

    def __init__(self, folder: Folder, title: str = "", suites: Mapping[str, str] | None = None) -> None:
        self._suites = suites or {}
        environment = Environment(
            loader=PackageLoader("rstbench.report.site"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["zip"] = zip
        environment.globals.update(
            site=title or TITLE,
            policy=_POLICY,
            version=__version__,
            groups=_groups(folder),
            metrics=METRIC_HEADINGS,
            size=size,
        )
        self._content = environment.get_template("cells.html.jinja").module.content  # type: ignore[attr-defined]
        self._board = environment.get_template("board.html.jinja")
        self._entry = environment.get_template("entry.html.jinja")
        self._suite = environment.get_template("suite.html.jinja")

    def board(self, threat: ThreatModel) -> str:
        """The page of a threat model: its table."""
        return self._board.render(
            root="",
            threat=threat,
            columns=SHOWN,
            rows=[self._cells(entry) for entry in threat.entries],
            first=FIRST,
            random=words.RANDOM,
            weak=words.WEAK,
            bound=words.BOUND,
            least=RANKED_IMAGES,
            file=threat.file,
            json_file=json_beside(Path(threat.file)).name,
        )

    def _cells(self, entry: Entry) -> list[tuple[str, str, str]]:
        """(HTML, what sorting compares, what searching reads) of the cells of a row."""
        cells = [(each, cell(each, entry.row)) for each in SHOWN]
        name = entry.row["entry"]
        return [(self._content(each, c, name), c.order, f"{c.text} {c.note}".strip()) for each, c in cells]

    def entry(self, threat: ThreatModel, entry: Entry) -> str:
        """The page of an entry. Raises `StoreError` if one of its transfer matrices is none."""
        row = entry.row
        return self._entry.render(
            root="../",
            threat=threat,
            row=row,
            figures=[(METRIC_HEADINGS[name], name, _figure(name, row)) for name in METRIC_HEADINGS],
            means=words.means(row),
            means_not=words.means_not(row, entry.record),
            flags=words.flags(row),
            heats=heats(entry.transfer),
            plot=plot(entry, threat.entries),
            frame=plots,
            rows=[(each, _behind(each)) for each in entry.rows],
            entry=entry,
            record=json.dumps(entry.record, indent=2, ensure_ascii=False),
            facts=_facts(entry),
            suites=[name for name in named(row["suite"]) if name in self._suites],
        )

    def suite(self, name: str) -> str:
        """The page of a suite file."""
        return self._suite.render(root="../", threat=None, name=name, text=self._suites[name])


_ELSEWHERE = {"rank", "name", "entry", "flags", "threat_model", "suite", "store_keys", "challengers"}


def _groups(folder: Folder) -> list[tuple[str, list[ThreatModel]]]:
    found: dict[str, list[ThreatModel]] = {}
    for threat in folder.threats:
        found.setdefault(threat.dataset, []).append(threat)
    return list(found.items())


def _figure(metric: str, row: dict[str, str]) -> Cell:
    return cell(Column(metric, METRIC_HEADINGS[metric], "metric"), row)


def _behind(row: EntryRow) -> str:
    """The columns of the leaderboard that show a row, in words."""
    return ", ".join(METRIC_HEADINGS.get(metric, metric) for metric in row.metrics)


def _facts(entry: Entry) -> list[tuple[str, str, str]]:
    """(name, value, meaning) of what else the CSV says about an entry."""
    figures = {f"{metric}{part}" for metric in METRICS for part in ("", "_low", "_high", "_n")}
    return [
        (name, entry.row[name], meaning)
        for name, meaning in COLUMNS.items()
        if name not in _ELSEWHERE | figures and entry.row[name]
    ]
