from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rstbench.errors import DeviceError, StoreError
from rstbench.estimate.calibration import FILE, Calibration, Share, of_machine, read, write
from rstbench.estimate.machine import Machine, this_machine
from rstbench.estimate.units import unit

HERE = Machine("A CPU", "cpu", 2, "2.11.0")
THERE = Machine("A GPU", "cuda", 16, "2.11.0")
RATES = {unit("step", batch=128, model={"width": 0.25}): 0.002, unit("value"): 0.01}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read(tmp_path) == [] and of_machine(tmp_path, HERE) is None
    kept = Calibration(HERE, "2021-12-06", RATES, [Share({"kind": "pgd"}, 0.6, 3)])
    assert write(tmp_path, kept) == tmp_path / FILE
    write(tmp_path, Calibration(THERE, "2021-12-07", {unit("value"): 0.5}))
    assert of_machine(tmp_path, HERE) == kept
    assert [each.machine for each in read(tmp_path)] == [HERE, THERE]
    assert [path.name for path in tmp_path.iterdir()] == [FILE], "no temporary file is left"


def test_newer_rates_replace_older_ones_and_keep_the_rest(tmp_path: Path) -> None:
    first = Calibration(HERE, "2021-12-06", RATES)
    newer = first.with_rates({unit("value"): 0.02}, "2021-12-08", [])
    assert newer.rates == {**RATES, unit("value"): 0.02} and newer.date == "2021-12-08"
    write(tmp_path, first)
    write(tmp_path, newer)
    assert read(tmp_path) == [newer]


def test_shares_of_other_attacks_are_kept() -> None:
    pgd, square = Share({"kind": "pgd"}, 0.6, 3), Share({"kind": "square"}, 0.2, 1)
    newer = Share({"kind": "pgd"}, 0.5, 4)
    first = Calibration(HERE, "2021-12-06", RATES, [pgd, square])
    assert list(first.with_rates({}, "2021-12-08", []).shares) == [pgd, square]
    assert list(first.with_rates({}, "2021-12-08", [newer]).shares) == [newer, square]


def test_rates_are_those_of_the_same_machine_only(tmp_path: Path) -> None:
    write(tmp_path, Calibration(HERE, "2021-12-06", RATES))
    for change in ({"hardware": "B"}, {"device": "cuda"}, {"cores": 4}, {"torch": "2.12.0"}):
        assert of_machine(tmp_path, replace(HERE, **change)) is None  # type: ignore[arg-type]


def test_a_gpu_without_a_name(tmp_path: Path) -> None:
    write(tmp_path, Calibration(THERE, "2021-12-06", RATES))
    found = of_machine(tmp_path, replace(THERE, hardware=""))
    assert found is not None and found.machine == THERE


def entry(**changes: object) -> dict[str, object]:
    machine = {"hardware": "A CPU", "device": "cpu", "cores": 2, "torch": "2.11.0"}
    return {"machine": machine, "date": "2021-12-06", "rates": []} | changes


@pytest.mark.parametrize(
    "content, words",
    [
        ("{", "Expecting property name"),
        ("[]", "not a calibration of format 1"),
        ('{"format": 2}', "not a calibration of format 1"),
        (json.dumps({"format": 1}), "machines"),
        (json.dumps({"format": 1, "machines": [entry(date=None)]}), "machines.0.date"),
        (
            json.dumps({"format": 1, "machines": [entry(rates=[{"what": "step", "of": {}, "seconds": -1.0}])]}),
            "machines.0.rates.0.seconds",
        ),
    ],
)
def test_a_damaged_file(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(StoreError) as error:
        read(tmp_path)
    assert words in str(error.value) and "remove the file and calibrate again" in str(error.value)


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        write(tmp_path / "nowhere", Calibration(HERE, "2021-12-06", RATES))


def test_the_name_of_a_gpu_is_its_drivers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpu = tmp_path / "gpus" / "0000:01:00.0"
    gpu.mkdir(parents=True)
    (gpu / "information").write_text("Model: \t\t NVIDIA H200\nIRQ:   \t\t 1\n")
    monkeypatch.setattr("rstbench.estimate.machine._GPUS", tmp_path / "gpus")
    assert (this_machine("cuda:1").hardware, this_machine("cuda:1").device) == ("NVIDIA H200", "cuda")
    monkeypatch.setattr("rstbench.estimate.machine._GPUS", tmp_path / "none")
    assert this_machine("cuda").hardware == ""


def test_what_runs_by_default_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("rstbench.estimate.machine._FIRST_GPU", tmp_path / "none")
    assert this_machine() == this_machine("cpu")
    monkeypatch.setattr("rstbench.estimate.machine._FIRST_GPU", tmp_path)
    assert this_machine().device == "cuda"


def test_another_kind_of_device() -> None:
    with pytest.raises(DeviceError, match="'quantum' is of no kind that is known here; write cpu, cuda or cuda:1"):
        this_machine("quantum")
