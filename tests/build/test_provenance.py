"""Which revision of rstbench computed a value."""

from __future__ import annotations

import subprocess
from pathlib import Path

from rstbench.build.provenance import commit, revision


def git(folder: Path, *arguments: str) -> None:
    name = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *name, *arguments], check=True, capture_output=True)


def test_the_commit_of_a_checkout_and_whether_it_was_changed(tmp_path: Path) -> None:
    assert commit(tmp_path) == ""
    git(tmp_path, "init")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "first")
    git(tmp_path, "tag", "v1")
    found = commit(tmp_path)
    assert len(found) == 40 and set(found) <= set("0123456789abcdef")
    (tmp_path / "file").write_text("two")
    assert commit(tmp_path) == f"{found}-dirty"
    (tmp_path / "inside").mkdir()
    assert commit(tmp_path / "inside") == ""  # an installed package below somebody's checkout
    assert commit(tmp_path / "absent") == ""


def test_the_own_revision_is_a_commit_or_nothing() -> None:
    assert all(name == "commit" and value for name, value in revision().items())
