from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rstbench.data import sources
from rstbench.data.sources import DataFacts, facts, fingerprint, load
from rstbench.spec.models import DatasetSpec
from tests.data.made import Members, paint, zoo

DIGITS = DatasetSpec(source="digits")


def counted(monkeypatch: pytest.MonkeyPatch) -> list[DatasetSpec]:
    calls: list[DatasetSpec] = []

    def counting(spec: DatasetSpec, data_dir: Path | None = None) -> sources.Arrays:
        calls.append(spec)
        return held(spec, data_dir)

    held = sources._in_memory
    monkeypatch.setattr(sources, "_in_memory", counting)
    return calls


def test_facts_are_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: Members, toy_spec: DatasetSpec
) -> None:
    np.savez(tmp_path / "toy.npz", **toy, train_lossless=np.arange(12) > 0)
    content = fingerprint(load(toy_spec, tmp_path))
    calls = counted(monkeypatch)
    cache = tmp_path / "deep" / "facts.json"
    first = facts(toy_spec, tmp_path, cache)
    assert first == DataFacts(
        content, 3, 3, 6, 12, 6, ("arrays, 1 of 18 images restored from JPEG",),
        (0.5,) * 3, (0.5,) * 3,
    )  # fmt: skip
    assert facts(toy_spec, tmp_path, cache) == first and len(calls) == 1
    # the cut of the training set and its seed change nothing about the data
    assert facts(toy_spec.model_copy(update={"validation_seed": 9}), tmp_path, cache) == first and len(calls) == 1
    assert sorted(path.name for path in cache.parent.iterdir()) == ["facts.json"]

    old = (tmp_path / "toy.npz").stat()
    toy["train_images"][0] ^= 1
    np.savez(tmp_path / "toy.npz", **toy, train_lossless=np.arange(12) > 0)
    os.utime(tmp_path / "toy.npz", ns=(old.st_atime_ns, old.st_mtime_ns))  # same size, same mtime, other content
    assert facts(toy_spec, tmp_path, cache).fingerprint != first.fingerprint and len(calls) == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "{ not json",
        lambda text: "[]",
        lambda text: "[" * 100_000,
        lambda text: text.replace('"fingerprint"', '"other"'),
        lambda text: text.replace('"classes": 3', '"classes": "many"'),
        lambda text: json.dumps(dict.fromkeys(json.loads(text), 3)),
    ],
)
def test_a_damaged_cache_is_ignored_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: Members, toy_spec: DatasetSpec, spoil: object
) -> None:
    np.savez(tmp_path / "toy.npz", **toy)
    cache = tmp_path / "facts.json"
    first = facts(toy_spec, tmp_path, cache)
    cache.write_text(spoil(cache.read_text()))  # type: ignore[operator]
    calls = counted(monkeypatch)
    assert facts(toy_spec, tmp_path, cache) == first == facts(toy_spec, tmp_path, cache)
    assert len(calls) == 1


def test_a_cache_that_cannot_be_written(tmp_path: Path, toy: Members, toy_spec: DatasetSpec) -> None:
    np.savez(tmp_path / "toy.npz", **toy)
    first = facts(toy_spec, tmp_path)
    (tmp_path / "file").write_text("in the way")
    assert facts(toy_spec, tmp_path, tmp_path / "file" / "facts.json") == first
    (tmp_path / "folder").mkdir()
    assert facts(toy_spec, tmp_path, tmp_path / "folder") == first
    assert not list(tmp_path.glob(".folder.*"))  # nothing half-written is left


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: Members, toy_spec: DatasetSpec
) -> None:
    np.savez(tmp_path / "toy.npz", **toy)

    def slow(spec: DatasetSpec, data_dir: Path | None = None) -> sources.Arrays:
        arrays = held(spec, data_dir)
        os.utime(tmp_path / "toy.npz", ns=(1, 1))
        return arrays

    held = sources._in_memory
    monkeypatch.setattr(sources, "_in_memory", slow)
    facts(toy_spec, tmp_path, tmp_path / "facts.json")
    assert not (tmp_path / "facts.json").exists()


def test_facts_of_folders_notice_added_and_changed_files(tmp_path: Path) -> None:
    spec, cache = DatasetSpec(source="folder", name="zoo"), tmp_path / "facts.json"
    root = zoo(tmp_path)
    (root / "circle").symlink_to(root)
    (root / "train" / "gone.png").symlink_to(root / "nowhere")
    first = facts(spec, tmp_path, cache)
    assert facts(spec, tmp_path, cache) == first and first.train_samples == 4
    paint(root / "train" / "bee" / "9.png")
    assert facts(spec, tmp_path, cache).train_samples == 5


def test_digits_are_remembered_by_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, cache = counted(monkeypatch), tmp_path / "facts.json"
    first = facts(DIGITS, None, cache)
    assert first == facts(DIGITS, tmp_path, cache) and len(calls) == 1
    assert (first.channels, first.image_size, first.mean) == (1, 8, (0.5,))
    monkeypatch.setattr("rstbench.data.remembered.version", lambda package: "another")
    assert facts(DIGITS, None, cache) == first and len(calls) == 2


def test_a_remembered_plan_imports_nothing_heavy(tmp_path: Path, toy: Members, toy_spec: DatasetSpec) -> None:
    np.savez(tmp_path / "toy.npz", **toy)
    code = """
import sys
from pathlib import Path
from rstbench.data.sources import facts
from rstbench.spec.models import DatasetSpec
directory = Path(sys.argv[1])
facts(DatasetSpec(source="arrays", name="toy"), directory, directory / "facts.json")
facts(DatasetSpec(source="digits"), directory, directory / "facts.json")
print(sorted({"torch", "torchvision", "sklearn", "PIL", "scipy"} & set(sys.modules)))
"""
    printed = [
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert "torch" not in printed[0]
    assert printed[1].strip() == "[]"
