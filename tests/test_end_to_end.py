"""The main job through the command line: real searches, real attacks, real workers; on digits, in seconds."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rstbench.store import Store
from tests.commands import COMMAND, ROOT, environment, main, rstbench

SUITE = Path(__file__).parent / "end_to_end.yaml"
COLUMNS = (
    "table,dataset,network,defense,ratio,candidate_set,attack,norm,eps,attack_source,metric,value,"
    "variant,ours,difference,ci_low,ci_high,n,seeds,profile,run_dataset,run_network,run_eps,flags"
)
NODES = 18


def arguments(folder: Path, profile: str = "smoke") -> tuple[object, ...]:
    return (
        "run", SUITE, "--profile", profile, "--store", folder / "store", "--out", folder / "out", "--device", "cpu",
        "--workers", 1,
    )  # fmt: skip


def records(folder: Path) -> dict[str, int]:
    """Every value of the store with the time it was written."""
    found = (folder / "store" / "values").glob("*/*/record.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in found}


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "out" / "table.csv").read_text(encoding="utf-8").splitlines()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Store and results of one undisturbed run."""
    folder = tmp_path_factory.mktemp("run")
    done = rstbench(*arguments(folder), cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    (folder / "said").write_text(done.stdout)
    return folder


def test_what_it_says(folder: Path) -> None:
    lines = (folder / "said").read_text().splitlines()
    assert lines[0] == f"{NODES} of {NODES} nodes to compute, the others are in the store"
    assert [line.split("]")[0] for line in lines[1 : NODES + 1]] == [f"[{i}/{NODES}" for i in range(1, NODES + 1)]
    assert any(line.startswith("All kinds of nodes") for line in lines)
    (results,) = [line for line in lines if line.startswith("results: ")]
    for path in results.removeprefix("results: ").split(", "):
        assert Path(path).is_file()


def test_the_table(folder: Path) -> None:
    text = (folder / "out" / "table.csv").read_bytes()
    assert text.startswith(COLUMNS.encode() + b"\n") and b"\r" not in text
    found = rows(folder)
    names = COLUMNS.split(",")
    key = [*names[: names.index("metric") + 1], "variant"]
    assert len({tuple(row[name] for name in key) for row in found}) == len(found) == 5
    for row in found:
        assert (row["dataset"], row["network"], row["profile"]) == ("cifar10", "preact_resnet18", "smoke")
        assert (row["run_dataset"], row["run_network"]) == ("digits", "preact_resnet10-w0.06")
        assert (row["eps"], row["run_eps"]) == (("", "") if row["attack"] == "none" else ("8", "16"))
        assert row["n"] == ("359" if row["attack"] == "none" else "60")
        assert row["difference"] == "" and row["seeds"] == "0"
        assert 0 <= float(row["ci_low"]) <= float(row["ours"]) <= float(row["ci_high"]) <= 100
        for flag in ("data", "network", "schedule", "seeds"):
            assert f"substitute:{flag}" in row["flags"].split()
    # The paper's value stands where the cell is the paper's own; a switch between two tickets is not in its Table 3.
    assert [row["value"] != "" for row in found] == [row["defense"] == "dense_at" for row in found]


def test_again_nothing_is_computed(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    written = records(folder)
    assert len(written) == NODES
    script = (
        "import sys\nfrom rstbench import cli\n"
        "try:\n    cli.main()\nfinally:\n"
        "    print('torch' in sys.modules, 'torchvision' in sys.modules, file=sys.stderr)"
    )
    command = [COMMAND[0], "-c", script, *map(str, arguments(folder))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment(), timeout=300)
    assert (done.returncode, done.stderr) == (0, "False False\n")
    assert done.stdout.startswith(f"all {NODES} nodes are in the store; nothing to compute\n")
    assert records(folder) == written
    assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == before


def test_a_diverging_search_stops_only_what_needs_it(folder: Path) -> None:
    out, before = folder / "diverged", records(folder)
    command = [*arguments(folder, "desk"), "--out", out]
    done = rstbench(*command, cwd=folder)
    assert done.returncode == 1
    assert records(folder) == before, "all but the searches is shared with the other profile"
    assert done.stdout.count("FAILED search") == 2 and "Traceback" not in done.stdout + done.stderr
    assert "not finite" in done.stdout
    found = list(csv.DictReader((out / "table.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["defense"]: row["ours"] != "" for row in found} == {"dense_at": True, "r2s": False}
    assert all("not_run" in row["flags"].split() for row in found if row["defense"] == "r2s")


def test_tickets_can_be_inspected(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    store = Store(folder / "store")
    values = [store.value(key) for key in records(folder)]
    value = next(value for value in values if value.record["kind"] == "search")
    file = value.directory / "best_on_validation.safetensors"
    assert main(monkeypatch, "ticket", "inspect", file) == 0
    shown = capfd.readouterr().out
    assert "preact_resnet10" in shown and "verified" in shown
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    damaged = tmp_path / "ticket.safetensors"
    damaged.write_bytes(data)
    assert main(monkeypatch, "ticket", "inspect", damaged) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("rstbench: ") and str(damaged) in err and "damaged" in err


# ---- runs that are stopped -------------------------------------------------------------------------------------------


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def workers_of(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def begin(folder: Path) -> subprocess.Popen[str]:
    command = [*COMMAND, *map(str, arguments(folder))]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, env=environment(),
        start_new_session=True,
    )  # fmt: skip


def test_killed_and_finished(folder: Path, tmp_path: Path) -> None:
    killed = begin(tmp_path)
    wait_for(lambda: len(records(tmp_path)) >= 3, killed)
    children = workers_of(killed.pid)
    assert children
    killed.kill()
    killed.communicate()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    kept = records(tmp_path)
    assert 3 <= len(kept) < NODES

    done = rstbench(*arguments(tmp_path), cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{NODES - len(kept)} of {NODES} nodes to compute")
    finished = records(tmp_path)
    assert kept.items() <= finished.items(), "what was finished was computed again"
    assert finished.keys() == records(folder).keys()
    for name in ("table.csv", "transfer.csv", "samples.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / "out" / name).read_bytes()


def test_interrupted_while_its_workers_start(tmp_path: Path) -> None:
    process = begin(tmp_path)
    wait_for(lambda: workers_of(process.pid), process)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert err == "\nstopped; everything finished is kept. Run the same command to go on.\n"
    assert not (tmp_path / "out").exists()
