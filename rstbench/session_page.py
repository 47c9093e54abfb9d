"""From a folder of leaderboards to a static site. What the command `leaderboard page` does."""

from __future__ import annotations

from pathlib import Path

from rstbench.report.site.boards import read_boards
from rstbench.report.site.suites import suite_texts
from rstbench.report.site.write import write_site


def page(folder: Path, out: Path, title: str = "", suites: Path = Path("suites")) -> tuple[Path, str]:
    """Write a site into `out` from the leaderboards in `folder`; returns its index.html and what was written.

    suites: folder of the suite files; entries link to those that are there.

    Raises `StoreError` for leaderboards that cannot be read or say two things, and for a folder that cannot be
    written; `ComponentError` if the table component is not installed. Nothing is half written.
    """
    boards = read_boards(folder)
    commands = [entry.row["suite"] for threat in boards.threats for entry in threat.entries]
    index = write_site(boards, out, title, suite_texts(suites, commands))
    entries = sum(len(threat.entries) for threat in boards.threats)
    threats = len(boards.threats)
    return index, f"{entries} entries under {threats} threat model{'' if threats == 1 else 's'}"
