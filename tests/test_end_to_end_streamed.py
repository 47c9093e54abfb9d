"""Images on disk through the command line: the paper's setting for ImageNet, killed within an epoch, and finished."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.commands import COMMAND, environment, rstbench
from tests.data.photos import photos

SUITE = """
schema: 1
name: photos
title: A ticket of photographs that are never all in memory
seeds: [0]
matrix: {dataset: [photos], network: [small]}
datasets:
  photos: {source: folder, name: photos, image_size: 16, validation_fraction: 0.2}
networks:
  small: {family: preact_resnet10, width: 0.25}
searches:
  fgsm_rs:
    epochs: 6
    batch: 4
    lr: 0.256
    momentum: 0.875
    weight_decay: 0.000030517578125
    lr_schedule: {kind: cosine, warmup_epochs: 1}
    augmentation: {kind: resized_crop}
    inner: {kind: fgsm_rs, epsilon: "4/255"}
    validation: {steps: 1}
defenses:
  rst: {kind: ticket, search: fgsm_rs, ratio: 0.4}
attacks:
  clean: {kind: clean}
  pgd: {kind: pgd, epsilon: "4/255", steps: 2}
table:
  cells:
    - {defense: rst, attack: clean}
    - {defense: rst, attack: pgd}
"""
FILES = ("*.safetensors", "*.parquet")


def arguments(folder: Path, root: Path) -> list[str]:
    return [
        "run", str(root / "photos.yaml"), "--profile", "smoke", "--store", str(folder / "store"), "--out",
        str(folder / "out"), "--data-dir", str(root), "--device", "cpu", "--workers", "1",
    ]  # fmt: skip


def values(folder: Path) -> dict[str, bytes]:
    found = [path for pattern in FILES for path in (folder / "store" / "values").glob(f"*/*/{pattern}")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def step(folder: Path) -> int:
    """Where the saved state of the unfinished search stands; 0 without one."""
    for path in (folder / "store" / "partial").glob("*/state.safetensors"):
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return int(json.loads(header["__metadata__"]["state"])["step"])
    return 0


@pytest.mark.slow
def test_killed_within_an_epoch_and_finished_with_the_same_bits(tmp_path: Path) -> None:
    photos(tmp_path, each=40)
    (tmp_path / "photos.yaml").write_text(SUITE, encoding="utf-8")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    done = rstbench(*arguments(whole, tmp_path), cwd=whole)
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr

    run = subprocess.Popen([*COMMAND, *arguments(killed, tmp_path)], cwd=killed, env=environment())
    end = time.monotonic() + 200
    while step(killed) < 12:  # 12 steps are an epoch
        assert run.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    run.kill()
    run.wait()
    assert 12 <= step(killed) < 72
    done = rstbench(*arguments(killed, tmp_path), cwd=killed)
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    found = values(whole)
    assert len(found) == 6 and found == values(killed)
