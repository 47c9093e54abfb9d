"""How we guard our own networks: suite, workflow, environment of tox and page say the same, and do what they say."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from rstbench.plan import merge_nodes
from rstbench.report.leaderboard.files import read_csv, read_samples, samples_beside
from rstbench.report.leaderboard.schema import RANKED_IMAGES
from rstbench.session import Request, plans_of
from rstbench.spec.suite import PROFILES
from rstbench.store import Store
from tests.commands import ROOT, environment
from tests.suites import planned

SUITE = ROOT / "suites" / "guard.yaml"
WORKFLOW = ROOT / ".github" / "workflows" / "robustness.yml"
BASELINE = ROOT / "leaderboards" / "smoke"
RUN = "rstbench run suites/guard.yaml --profile smoke"
BUILD = "rstbench leaderboard build suites/guard.yaml --profile smoke"
CHECK = "rstbench check leaderboards/smoke"


def workflow() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(WORKFLOW.read_text(encoding="utf-8"))
    return found


def steps() -> list[dict[str, Any]]:
    (job,) = workflow()["jobs"].values()
    found: list[dict[str, Any]] = job["steps"]
    return found


def tox_commands() -> list[str]:
    ini = configparser.ConfigParser(interpolation=None)
    ini.read(ROOT / "tox.ini", encoding="utf-8")
    lines = ini["testenv:guard"]["commands"].replace("{[shared]bin}/", "").splitlines()
    return [line.strip() for line in lines if line.strip()]


def test_the_workflow_is_one_of_githubs() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(WORKFLOW)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_pull_request_can_change_nothing_of_the_repository() -> None:
    found = workflow()
    # YAML 1.2: "on" is no truth value.
    assert set(found["on"]) == {"pull_request", "workflow_dispatch"}
    assert found["permissions"] == {"contents": "read"}
    assert "secrets." not in WORKFLOW.read_text(encoding="utf-8")
    # What a title or a branch is called must not get into a shell.
    assert not [step for step in steps() if "${{ github." in step.get("run", "")]
    (checkout,) = [step for step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert checkout["with"]["persist-credentials"] is False


def test_workflow_and_tox_do_the_same() -> None:
    told = [line for step in steps() for line in step.get("run", "").splitlines() if line.startswith("rstbench ")]
    assert [_essence(line) for line in told] == [_essence(line) for line in tox_commands()]
    run, build, check = told
    assert (run.startswith(RUN), build.startswith(BUILD), check.startswith(CHECK)) == (True, True, True)
    assert "--strict" in check and "--drop 20" in check and "--format github" in check
    # The published files are the product of the same command.
    assert BUILD in (ROOT / "docs" / "guard.md").read_text(encoding="utf-8")


def _essence(line: str) -> list[str]:
    """Without folders of results, and how the check is told."""
    words = iter(shlex.split(line.replace("{posargs}", "")))
    kept = []
    for word in words:
        if word in ("--store", "--out", "--format"):
            next(words)
        elif not word.startswith(("results/", "{env_tmp_dir}")):
            kept.append(word)
    return kept


def test_the_cache_is_named_by_all_that_results_depend_on(tmp_path: Path) -> None:
    """The step that names the results is run, with a stand-in for what lists packages."""
    (step,) = [step for step in steps() if step.get("id") == "results"]
    (cache,) = [step for step in steps() if step.get("uses", "").startswith("actions/cache@")]
    output = tmp_path / "output"
    (tmp_path / "bin").mkdir()
    for name, text in {"uv": "echo torch==2.15.0", "rstbench": 'exec python -m rstbench.cli "$@"'}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    kept = environment()
    kept |= {"GITHUB_OUTPUT": str(output), "PATH": f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{kept['PATH']}"}
    command = ["bash", "-e", "-o", "pipefail", "-c", step["run"]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=kept, timeout=60)
    assert done.returncode == 0, done.stderr
    named = dict(line.split("=", 1) for line in output.read_text().splitlines())
    assert set(named) == {"packages", "nodes"} and all(re.fullmatch("[0-9a-f]{64}", each) for each in named.values())
    assert named["nodes"] != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of nothing
    for name in named:
        assert f"${{{{ steps.results.outputs.{name} }}}}" in cache["with"]["key"]
    assert "hashFiles('rstbench/**/*.py')" in cache["with"]["key"] and "restore-keys" not in cache["with"]
    assert cache["with"]["path"] == ".rstbench"


@pytest.mark.parametrize("profile", PROFILES)
def test_every_entry_has_what_a_leaderboard_shows(profile: str) -> None:
    plan = planned(SUITE, profile)
    asked: dict[str, set[str]] = {}
    for cell in plan.cells:
        asked.setdefault(cell.defense, set()).add(cell.attack_key)
    single = {"clean", "pgd20", "pgd20_never", "apgd_ce", "autoattack"}
    switch = {"clean", "pgd20", "pgd20_never", "eot", "ensemble"}
    assert asked == {"dense_at": single, "rst": single, "r2s": switch}


def test_its_networks_are_those_of_table_3() -> None:
    for profile in ("paper", "express", "desk"):
        ours = {key for key, node in planned(SUITE, profile).nodes.items() if node.kind in ("train", "search")}
        table = merge_nodes([planned(ROOT / "suites" / "table3_r2s.yaml", profile)])
        assert ours and ours <= set(table)


def test_the_published_leaderboard_is_of_this_suite() -> None:
    if not BASELINE.is_dir():
        pytest.skip(
            f"leaderboards/smoke is not published yet: {RUN} --store S && {BUILD} --store S --out leaderboards/smoke"
        )
    (path,) = BASELINE.glob("*.csv")
    rows = read_csv(path)
    assert path.name == "digits_linf.csv" and [row["epsilon"] for row in rows] == ["16/255"] * 3
    assert {row["defense"] for row in rows} == {"dense", "ticket", "r2s"}
    assert {row["profile"] for row in rows} == {"smoke"}
    assert all(row["suite"] == RUN and row["rank"] and int(row["n"]) >= RANKED_IMAGES for row in rows)
    keys = {key for row in rows for key in row["store_keys"].split()}
    request = Request([SUITE], "smoke", Path("none"))
    (plan,) = plans_of(request, Store(request.store))
    assert keys <= set(plan.nodes), "the suite asks for other networks than those of the published leaderboard"
    # Per-image scores are there: without them only intervals would be compared.
    assert {entry for entry, _, _ in read_samples(samples_beside(path))} == {row["entry"] for row in rows}
