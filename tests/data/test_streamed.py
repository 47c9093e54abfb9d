from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rstbench.data.folders import Folder
from rstbench.data.streamed import BLOCK, FloatImages, StreamedImages
from rstbench.errors import DataError, RunError
from rstbench.spec.training import Augmentation
from tests.data.photos import CPU, folder, streamed

KEYS = [[(row, 100 * number + row) for row in range(10 * number, 10 * number + 10)] for number in range(6)]
SPECS = (Augmentation(padding=2), Augmentation(kind="resized_crop"), Augmentation(padding=0, flip=False))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return folder(tmp_path_factory.mktemp("data"), each=50)


def test_images_in_order(data: Folder) -> None:
    images = streamed(data.train_images)
    every = images[:]
    assert len(images) == 80 and images.shape == every.shape == (80, 3, 8, 8) and every.dtype == torch.uint8
    assert torch.equal(torch.cat(list(images.batches(7))), every)
    assert torch.equal(torch.cat(list(images.batches(7, begin=30))), every[30:])
    assert torch.equal(images[torch.tensor([5, 0, 5])], every[[5, 0, 5]])
    assert images[3:3].shape == (0, 3, 8, 8)
    chosen = StreamedImages(data.train_images, np.array([9, 2, 70]), CPU, 0)
    assert torch.equal(chosen[:], every[[9, 2, 70]])


def test_neither_processes_nor_timing_change_a_bit(data: Folder) -> None:
    here, there = streamed(data.train_images), streamed(data.train_images, workers=2)
    assert torch.equal(torch.cat(list(there.batches(9))), here[:])
    for one, other in zip(here.drawn(KEYS, SPECS[1]), there.drawn(KEYS, SPECS[1]), strict=True):
        assert torch.equal(one, other)


def test_what_is_asked_for_is_done(data: Folder) -> None:
    images = streamed(data.train_images)
    padded, resized, plain = (torch.cat(list(images.drawn(KEYS, spec))) for spec in SPECS)
    assert torch.equal(plain, images[:60])  # nothing asked: what evaluation sees
    assert not torch.equal(padded, plain) and not torch.equal(resized, plain)


@pytest.mark.parametrize("spec", SPECS[:2])
def test_an_images_crop_follows_from_its_seed_alone(data: Folder, spec: Augmentation) -> None:
    images = streamed(data.train_images)
    state = torch.get_rng_state()
    (one,) = images.drawn([[(4, 11), (5, 12), (4, 13)]], spec)
    (other,) = images.drawn([[(5, 12), (4, 11)]], spec)
    assert torch.equal(one[:2], other.flip(0)) and not torch.equal(one[0], one[2])
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left as it was"


def test_a_reader_that_is_dropped_leaves_no_process(data: Folder) -> None:
    before = set(_children())
    batches = streamed(data.train_images, workers=2).batches(4)
    next(batches)
    assert len(set(_children()) - before) >= 2
    del batches
    deadline = time.monotonic() + 10
    while len(left := {pid for pid in set(_children()) - before if _is_reader(pid)}) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def _children(of: int | None = None) -> list[int]:
    """Processes below this one."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, new = [], [of or os.getpid()]
    while new:
        new = [pid for pid, parent in parents.items() if parent in new]
        found += new
    return found


def _is_reader(pid: int) -> bool:
    """Neither the server that forks readers, nor a process that has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" and bool(_children(pid) == [] and b"resource_tracker" not in _command(pid))
    except OSError:
        return False


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_file_is_named_in_one_sentence(tmp_path: Path, workers: int) -> None:
    data = folder(tmp_path)
    broken = data.train_images.files[3]
    broken.write_bytes(b"overwritten")
    for batches in (
        streamed(data.train_images, workers).batches(2),
        streamed(data.train_images, workers).drawn([[(3, 0)]], SPECS[1]),
    ):
        with pytest.raises(DataError) as caught:
            list(batches)
        assert str(caught.value).startswith(f"{broken}: not a readable image") and "Traceback" not in str(caught.value)


def test_a_reader_that_is_killed_is_said_to_be(data: Folder) -> None:
    batches = streamed(data.train_images, workers=1).batches(1)
    before = set(_children())
    next(batches)
    for pid in set(_children()) - before:
        if _is_reader(pid):
            os.kill(pid, signal.SIGKILL)
    with pytest.raises(RunError, match="a process that reads images died; too little memory"):
        list(batches)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_reader_that_lives_is_not_its_death(data: Folder, workers: int) -> None:
    spec = Augmentation.model_construct(kind="resized_crop", min_scale=float("nan"), flip=False)
    with pytest.raises(RuntimeError, match=r"out of bounds|expects"):  # torch's words, which change
        list(streamed(data.train_images, workers).drawn([[(0, 0)]], spec))


@settings(max_examples=15, deadline=None)
@given(slices=st.lists(st.tuples(st.integers(-90, 90), st.integers(-90, 90)), min_size=1, max_size=5))
def test_any_slices_of_float_images(data: Folder, slices: list[tuple[int, int]]) -> None:
    expected = streamed(data.train_images)[:].float() / 255
    images = FloatImages(streamed(data.train_images))
    assert images.shape == expected.shape and len(images) == 80
    for begin, end in slices:
        assert torch.equal(images[begin:end], expected[begin:end])


def test_float_images_are_read_once_where_slices_follow_one_another(
    data: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = streamed(data.train_images)
    begun: list[int] = []
    real = stream.batches
    monkeypatch.setattr(stream, "batches", lambda size, begin=0: begun.append(begin) or real(size, begin))
    monkeypatch.setattr(StreamedImages, "__getitem__", lambda *_: pytest.fail("read on its own"))
    images = FloatImages(stream)
    images[:40]  # the first ones looked at, then all of them in batches
    assert len(torch.cat([images[at : at + 9] for at in range(0, 80, 9)])) == 80
    assert begun == [0] and BLOCK < 80
    with pytest.raises(ValueError, match="consecutive"):
        images[::2]


def test_images_stay_in_their_places_where_memory_ran_short(data: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = streamed(data.train_images)[:].float() / 255
    images = FloatImages(streamed(data.train_images))
    assert torch.equal(images[:8], expected[:8])
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="can't allocate memory"):
        patch.setattr(torch, "cat", lambda _: (_ for _ in ()).throw(RuntimeError("can't allocate memory")))
        images[8:80]
    # What `in_batches` does then: it begins there again, with fewer.
    assert torch.equal(torch.cat([images[at : at + 12] for at in range(8, 80, 12)]), expected[8:])


@pytest.mark.slow
def test_readers_end_with_the_process_that_they_feed(data: Folder, tmp_path: Path) -> None:
    script = tmp_path / "feed.py"
    script.write_text(
        """
import sys, time
from pathlib import Path
import numpy, torch
from rstbench.data.sources import load
from rstbench.data.streamed import StreamedImages
from rstbench.spec.models import DatasetSpec
if __name__ == "__main__":
    data = load(DatasetSpec(source="folder", name="photos", image_size=8), Path(sys.argv[1]))
    batches = StreamedImages(data.train_images, numpy.arange(80), torch.device("cpu"), 2).batches(2)
    next(batches)
    print("reading", flush=True)
    time.sleep(600)
""",
        encoding="utf-8",
    )
    root = data.train_images.files.root.parent
    repository = Path(__file__).parents[2]
    fed = subprocess.Popen(
        [sys.executable, str(script), str(root)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )
    assert fed.stdout is not None and fed.stdout.readline() == b"reading\n"
    below = _children(fed.pid)
    assert len(below) >= 4  # the server, what it tracks, and two readers
    fed.kill()
    fed.wait()
    deadline = time.monotonic() + 15
    while (left := [pid for pid in below if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
