"""Write the site: all of its files, or none."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from rstbench.errors import StoreError
from rstbench.report.leaderboard.files import json_beside, samples_beside
from rstbench.report.site.boards import Folder, ThreatModel
from rstbench.report.site.component import component
from rstbench.report.site.pages import Pages

MARK = "rstbench-site.txt"
"""A file that says that a folder is a site of ours, and may be replaced by a newer one."""
_OWN = ("site.css", "board.js", "theme.js")


def write_site(folder: Folder, out: Path, title: str = "", suites: Mapping[str, str] | None = None) -> Path:
    """Write the pages of leaderboards into `out`, which is replaced if it is an older site; returns index.html.

    suites: name of a suite file -> its text; entries whose command names one have a link to it.

    Raises `StoreError` if `out` holds anything else, if it cannot be written, or if a transfer matrix is none;
    `ComponentError` if the table component is not there. Whatever is raised, `out` is as it was.
    """
    out = Path(out)
    _check(out)
    assets = {**component(), **{name: _own(name) for name in _OWN}}
    fresh = out.with_name(f".{out.name}-{uuid.uuid4().hex}")
    try:
        fresh.mkdir(parents=True)
        _write(fresh, {f"assets/{name}": text for name, text in assets.items()}.items())
        _write(fresh, _pages(folder, title, suites or {}))
        _copy(folder.files, fresh / "data")
        _write(fresh, [(MARK, "Made by `rstbench leaderboard page`, which may replace this folder.\n")])
        _replace(fresh, out)
    except OSError as error:
        raise StoreError(f"the site cannot be written to {out} ({error.strerror or error})") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return out / "index.html"


def _check(out: Path) -> None:
    try:
        if out.exists() and not (out.is_dir() and ((out / MARK).is_file() or not any(out.iterdir()))):
            raise StoreError(f"{out}: not empty, and not a site of ours; choose another folder by --out")
    except OSError as error:
        raise StoreError(f"{out}: cannot be read ({error.strerror or error})") from error


def _own(name: str) -> str:
    return (files("rstbench.report.site") / "static" / name).read_text(encoding="utf-8")


def _pages(folder: Folder, title: str, suites: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    pages = Pages(folder, title, suites)
    for name in suites:
        yield f"suites/{name}.html", pages.suite(name)
    for threat in folder.threats:
        text = pages.board(threat)
        yield f"{threat.slug}.html", text
        if threat is folder.first:
            yield "index.html", text
        yield from _entries(pages, threat)


def _entries(pages: Pages, threat: ThreatModel) -> Iterator[tuple[str, str]]:
    for entry in threat.entries:
        yield f"entries/{entry.row['entry']}.html", pages.entry(threat, entry)


def _write(root: Path, texts: Iterable[tuple[str, str]]) -> None:
    for name, text in texts:
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode("utf-8"))


def _copy(paths: Sequence[Path], folder: Path) -> None:
    """The files that the pages are made of, so that readers can check them."""
    folder.mkdir()
    for path in paths:
        for each in (path, json_beside(path), samples_beside(path)):
            if each.is_file():
                shutil.copyfile(each, folder / each.name)


def _replace(fresh: Path, out: Path) -> None:
    old = fresh.with_name(f"{fresh.name}-old")
    if out.exists():
        out.rename(old)
    try:
        fresh.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
