from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from rstbench.spec.load import load_suite
from rstbench.spec.suite import PROFILES
from rstbench.store import STORE_ENV
from tests.commands import ROOT, environment, main, rstbench
from tests.suites import SHIPPED, TINY, changed, written

ARRAYS = changed(TINY, ("source: digits,", "source: arrays, name: toy,"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(STORE_ENV, raising=False)
    monkeypatch.delenv("RSTBENCH_DATA", raising=False)


def refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What is said, on standard error only, by a command that must end with code 2."""
    code = main(monkeypatch, *arguments)
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert "Traceback" not in err and err.strip()
    return err


# ---- what needs no torch ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["eval", "--help"],
        ["curves", "--help"],
        ["claims", "--help"],
        ["validate", *map(str, SHIPPED)],
        ["schema"],
        ["paper"],
        ["--version"],
    ],
    ids=lambda arguments: " ".join(arguments)[:20],
)
def test_commands_that_import_no_torch(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom rstbench import cli\ntry:\n    cli.main()\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment()
    )
    assert done.returncode == 0 and done.stdout
    assert {"torch", "pandas", "sklearn", "scipy"}.isdisjoint(done.stderr.split())


def test_version(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(monkeypatch, "--version") == 0
    assert capfd.readouterr().out.startswith("rstbench ")


def test_reference_values_byte_for_byte(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(monkeypatch, "paper", "--format", "csv") == 0
    assert capfdbinary.readouterr().out == files("rstbench.report").joinpath("paper_tables.csv").read_bytes()


def test_one_table(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(monkeypatch, "paper", "--table", 3, "--format", "markdown") == 0
    assert capfd.readouterr().out.startswith("## Table 3\n")


def test_a_reader_that_leaves_early() -> None:
    for arguments in ("paper --format csv", "schema"):
        command = f"{sys.executable} -m rstbench.cli {arguments} | head -n 1"
        done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT, env=environment())
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("\n") == 1


def test_the_schema_is_json(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(monkeypatch, "schema") == 0
    assert json.loads(capfd.readouterr().out)["title"] == "rstbench suite"


# ---- validate --------------------------------------------------------------------------------------------------------


def test_valid_suites(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(monkeypatch, "validate", *SHIPPED) == 0
    assert capfd.readouterr().out.splitlines() == [f"{path}: valid" for path in SHIPPED]


def test_all_faults_of_all_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    good = written(tmp_path)
    bad = written(
        tmp_path, changed(TINY, ("preact_resnet10", "preact_resnet11"), ("[0.1, 0.3]", "[0, 1.5]")), "bad.yaml"
    )
    code = main(monkeypatch, "validate", bad, "missing.yaml", good)
    out, err = capfd.readouterr()
    assert code == 2
    assert out == f"{good}: valid\n"
    lines = err.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith(f"{bad}:10: networks.preact_resnet18.family: ") and "did you mean" in lines[0]
    assert "missing.yaml" in lines[3] and "no such file" in lines[3]


@pytest.mark.parametrize(
    "pair, words",
    [
        (("family: preact_resnet10", "family: resnet9000"), "resnet9000"),
        (("attack: pgd20}", "attack: pgd21}"), "did you mean 'pgd20'?"),
        (("kind: pgd, epsilon", "kind: pdg, epsilon"), "did you mean 'pgd'?"),
        (("[0.1, 0.3]", "[0, 0.3]"), "greater than 0"),
        (("[0.1, 0.3]", "[0.1, 1.5]"), "at most 1"),
        (('epsilon: "24/255", steps', "epsilon: 0.03, steps"), "8/255"),
        (("name: tiny", "name:\ttiny"), "a tab"),
        (("name: tiny", "name: tiny\nname: tiny"), "already stands on line"),
        (("schema: 1", "schema: 2"), "must be 1"),
    ],
    ids=lambda value: value[1].strip() if isinstance(value, tuple) else None,
)
def test_bad_suites(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    pair: tuple[str, str],
    words: str,
) -> None:
    path = written(tmp_path, changed(TINY, pair))
    for command in (["validate", path], ["run", path, "--profile", "smoke"], ["plan", path]):
        message = refused(monkeypatch, capfd, *command)
        assert f"{path}:" in message
        if words != "must be 1":
            assert words in message
    assert not Path(".rstbench").exists()


# ---- plan ------------------------------------------------------------------------------------------------------------


def test_plan_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(monkeypatch, "plan", written(tmp_path), "--format", "json") == 0
    out, err = capfd.readouterr()
    made = json.loads(out)
    assert err == ""
    assert made["suites"][0]["name"] == "tiny" and len(made["suites"][0]["cells"]) == 5
    keys = {node["key"] for node in made["nodes"]}
    assert {key for cell in made["suites"][0]["cells"] for s in cell["predictions"] for r in s for key in r} <= keys
    assert not any(node["stored"] for node in made["nodes"])
    assert not Path(".rstbench").exists(), "a plan creates no store"


def test_plan_as_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    other = written(tmp_path, changed(TINY, ("name: tiny", "name: other"), ("[0.1, 0.3]", "[0.1, 0.4]")), "other.yaml")
    assert main(monkeypatch, "plan", written(tmp_path), other, "--profile", "smoke") == 0
    out = capfd.readouterr().out
    rows = {
        line.split("│")[1].strip(): [c.strip() for c in line.split("│")[2:5]]
        for line in out.splitlines()
        if "│" in line
    }
    assert rows["data"] == ["1", "0", "1"]
    assert rows["train"] == ["1", "0", "1"]
    assert rows["search"] == ["3", "0", "1"]
    assert "tiny (smoke) + other (smoke)" in out
    assert "GPU-hours" in out and "Left to compute" in out


@pytest.mark.parametrize("profile", PROFILES)
def test_the_profiles_are_those_of_suites(profile: str) -> None:
    from rstbench.cli import Profile

    assert [member.value for member in Profile] == list(PROFILES)
    assert load_suite(SHIPPED[0], profile).profile == profile


# ---- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, words",
    [
        (["--only", "datset=x"], "did you mean 'dataset'?"),
        (["--only", "dataset=mnist"], "no cell of the table has dataset=mnist"),
        (["--time-limit", "soon"], "write 45s, 9m or 1.5h"),
        (["--seed", "1", "--seed", "1"], "the seeds must differ"),
        (["--seed", "-1"], "--seed"),
        (["--seed", str(2**63)], "--seed"),
        (["--seed", "one"], "--seed"),
        (["--workers", "0"], "--workers"),
        (["--profile", "huge"], "--profile"),
        (["--device"], "--device"),
        (["--colour"], "--colour"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert words in refused(monkeypatch, capfd, "run", written(tmp_path), *options)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["nothing"],
        ["paper", "--table", "10"],
        ["paper", "--format", "json"],
        ["plan", "x.yaml", "--format", "csv"],
    ],
)
def test_misuse(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    refused(monkeypatch, capfd, *arguments)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["ticket", "inspect", "missing.safetensors"], "missing.safetensors"),
        (["data", "download", "cifar"], "did you mean 'cifar10'?"),
        (["data", "download", "folder"], "data sets of your own"),
        (["data", "download", "digits"], "cannot be downloaded; these can: cifar10"),
        (["run", "missing.yaml"], "missing.yaml: no such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_arguments(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    message = refused(monkeypatch, capfd, *arguments)
    assert words in message and message.startswith("rstbench: ")


def test_the_same_suite_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path)
    assert "two of the suites have the same name" in refused(monkeypatch, capfd, "run", path, path)


# ---- data and store --------------------------------------------------------------------------------------------------


def toy(folder: Path, **changes: np.ndarray) -> Path:
    """toy.npz: 40 images of 8 x 8 pixels in ten classes."""
    random = np.random.Generator(np.random.PCG64(0))
    arrays = {}
    for part in ("train", "test"):
        arrays[f"{part}_images"] = random.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(40) % 10
    folder.mkdir(exist_ok=True)
    np.savez(folder / "toy.npz", **(arrays | changes))
    return folder


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"test_labels": np.arange(40)}, "label"),
        ({"train_labels": np.arange(40) % 10 - 1}, "label"),
        ({"train_images": np.zeros((40, 8, 8, 3), dtype=np.float32)}, "train_images"),
        ({"train_images": np.full((40, 8, 8, 3), 300, dtype=np.int16)}, "train_images"),
    ],
    ids=["labels above", "labels below", "float images", "images above 255"],
)
def test_bad_data(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    changes: dict[str, np.ndarray],
    words: str,
) -> None:
    data = toy(tmp_path / "data", **changes)
    message = refused(monkeypatch, capfd, "run", written(tmp_path, ARRAYS), "--profile", "smoke", "--data-dir", data)
    assert message.startswith(f"rstbench: {data / 'toy.npz'}") and words in message
    assert len(message.splitlines()) == 1


def test_missing_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, changed(TINY, ("source: digits", "source: cifar10")))
    message = refused(monkeypatch, capfd, "run", path, "--device", "cpu", "--data-dir", tmp_path / "nowhere")
    assert len(message.splitlines()) == 1
    for words in (str(tmp_path / "nowhere" / "cifar10.npz"), "rstbench data download cifar10", "--data-dir"):
        assert words in message


def test_absent_data_can_be_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, changed(TINY, ("source: digits", "source: cifar10")))
    assert main(monkeypatch, "plan", path, "--format", "json", "--data-dir", tmp_path / "nowhere") == 0
    out, err = capfd.readouterr()
    assert not any(node["stored"] for node in json.loads(out)["nodes"])
    assert err.startswith("planned with the published numbers of images, because CIFAR-10 was not found")


@pytest.mark.parametrize("absent", [False, True])
def test_profile_paper_without_a_gpu(
    absent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = written(tmp_path, changed(TINY, ("source: digits", "source: cifar10")) if absent else ARRAYS)
    code = main(monkeypatch, "run", path, "--data-dir", toy(tmp_path / "data"))
    out, err = capfd.readouterr()
    assert code == 2
    assert "tiny (paper)" in out and "GPU-hours" in out
    assert err.startswith("rstbench: profile paper needs a GPU") and "--profile desk fits" in err
    assert not Path("results").exists() and not Path(".rstbench").exists()


def test_the_store_is_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path)
    assert "neither empty nor a store" in refused(monkeypatch, capfd, "run", path, "--store", tmp_path)


def test_a_store_on_a_read_only_mount(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    mount: Callable[[str], Path],
) -> None:
    point = mount("ro")
    options = ["--profile", "smoke", "--store", point / "store"]
    message = refused(monkeypatch, capfd, "run", written(tmp_path), *options)
    assert message.startswith(f"rstbench: the store {point / 'store'} cannot be written (Read-only file system)")
    assert len(message.splitlines()) == 1 and "--store" in message


def test_an_absent_device_is_one_message(tmp_path: Path) -> None:
    path = written(tmp_path, ARRAYS)
    options = ["--profile", "smoke", "--data-dir", toy(tmp_path / "data"), "--device", "quantum", "--workers", 1]
    done = rstbench("run", path, *options, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("rstbench: device 'quantum' is not available here")
    assert "Traceback" not in done.stderr


def test_tables_in_files_are_not_folded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data, path = toy(tmp_path / "data"), written(tmp_path, ARRAYS)

    def longest() -> int:
        assert main(monkeypatch, "plan", path, "--profile", "smoke", "--data-dir", data) == 0
        return max(map(len, capfd.readouterr().out.splitlines()))

    monkeypatch.delenv("COLUMNS", raising=False)
    assert longest() > 100
    monkeypatch.setenv("COLUMNS", "70")
    assert longest() <= 70
