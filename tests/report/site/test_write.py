"""The site is written whole or not at all, and asks nothing of a network."""

from __future__ import annotations

import re

import pytest

from rstbench.errors import StoreError
from rstbench.report.leaderboard.files import json_beside, read_json, write_json
from rstbench.report.leaderboard.schema import Transfer
from rstbench.report.site import component
from rstbench.report.site.component import ComponentError, as_script
from rstbench.session_page import page
from tests.commands import rstbench
from tests.report.leaderboard.examples import example
from tests.report.site.conftest import HOSTILE

pytest.importorskip("itables", reason="the extra page has the table component")


@pytest.fixture
def boards(tmp_path):
    example(tmp_path / "boards", entries=3, n=20)
    return tmp_path / "boards"


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_site_has_pages_assets_and_the_data(boards, tmp_path):
    index, said = page(boards, tmp_path / "site", title="Ours")
    assert said == "3 entries under 1 threat model"
    found = contents(tmp_path / "site")
    entries = [entry.row["entry"] for entry in read_json(boards / "cifar10_linf.json").entries]
    assert {f"entries/{name}.html" for name in entries} <= set(found)
    assert found["index.html"] == found["cifar10_linf_8-255.html"] == index.read_bytes()
    assert b"Ours" in found["index.html"]
    for name, data in contents(boards).items():
        assert found[f"data/{name}"] == data
    assert page(boards, tmp_path / "again", title="Ours") and contents(tmp_path / "again") == found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "boards", "site"]  # nothing left beside


def test_pages_name_no_address_outside(site):
    for path in site.parent.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(src|href|action|data)\s*=\s*[\"']?\s*(https?:)?//", text), path.name
        assert HOSTILE not in text and "<img" not in text, path.name


def test_an_older_site_is_replaced_and_nothing_else(boards, tmp_path):
    out = tmp_path / "site"
    page(boards, out)
    (out / "entries" / "old.html").write_text("old", encoding="utf-8")
    page(boards, out)
    assert not (out / "entries" / "old.html").exists()
    other = tmp_path / "thesis"
    other.mkdir()
    page(boards, other)  # empty: taken
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "chapter.tex").write_text("work", encoding="utf-8")
    with pytest.raises(StoreError, match="not a site of ours"):
        page(boards, tmp_path / "work")
    assert contents(tmp_path / "work") == {"chapter.tex": b"work"}


def test_what_fails_on_the_way_leaves_the_older_site(boards, tmp_path):
    out = tmp_path / "site"
    page(boards, out)
    before = contents(out)
    path = json_beside(boards / "cifar10_linf.csv")
    board = read_json(path)
    broken = Transfer(attack="pgd20", sources=("a",), members=("a", "b"), matrix=((1.0,),))
    last = board.entries[-1].model_copy(update={"transfer": (broken,)})
    write_json(path, board.model_copy(update={"entries": (*board.entries[:-1], last)}))
    with pytest.raises(StoreError, match="transfer matrix"):
        page(boards, out)
    assert contents(out) == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["boards", "site"]


def test_the_component_becomes_a_script_that_any_page_may_load():
    script = as_script("var a=1,b=2;export{a as default,b as ITable};\n/* licence */", "0")
    assert "export" not in script and "window.rstbenchTables = { default: a, ITable: b };" in script
    for other in ("var a=1;", "export{a as b};export{c as d};", "export{a};", "export{a as b,};", "export default a;"):
        with pytest.raises(ComponentError, match="itables 0 has another form"):
            as_script(other, "0")


def test_without_the_component_it_says_what_to_install(boards, tmp_path, monkeypatch):
    def absent(name):
        raise component.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(component.metadata, "distribution", absent)
    with pytest.raises(ComponentError, match=r"rstbench\[page\]"):
        page(boards, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_the_command(boards, tmp_path):
    done = rstbench("leaderboard", "page", boards, "--out", tmp_path / "site", cwd=tmp_path)
    assert done.returncode == 0 and "3 entries under 1 threat model" in done.stdout
    done = rstbench("leaderboard", "page", tmp_path / "none", "--out", tmp_path / "site", cwd=tmp_path)
    assert done.returncode == 2 and "no such folder" in done.stderr and "Traceback" not in done.stderr
