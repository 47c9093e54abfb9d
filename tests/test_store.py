from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rstbench.errors import StoreError
from rstbench.store import DEFAULT_STORE, STORE_ENV, Store, default_root

KEY = "ab" + "0" * 62
OTHER = "cd" + "1" * 62
ROOT = Path(__file__).parents[1]


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process of its own that knows `Store`, `KEY` and its arguments."""
    head = f"import sys, time\nfrom pathlib import Path\nfrom rstbench.store import Store\nKEY = {KEY!r}\n"
    command = [sys.executable, "-c", head + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def said(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == word


def everything(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_default_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(STORE_ENV, raising=False)
    assert default_root() == Path(DEFAULT_STORE)
    monkeypatch.setenv(STORE_ENV, str(tmp_path))
    assert default_root() == tmp_path


def test_round_trip(store: Store) -> None:
    assert not store.has(KEY)
    with pytest.raises(StoreError, match=f"has no value {KEY}"):
        store.value(KEY)
    files = {"a.bin": b"\0\1", "empty.txt": b""}
    written = store.write(KEY, {"kind": "train", "history": [1.5, {"x": None}]}, files)
    assert store.has(KEY) and not store.has(OTHER)
    again = Store(store.root).value(KEY)
    assert written == again
    assert again.record["kind"] == "train" and again.record["history"] == [1.5, {"x": None}]
    assert {name: again.read(name) for name in files} == files
    with pytest.raises(StoreError, match=r"holds no file 'b.bin'; it holds \['a.bin', 'empty.txt'\]"):
        again.read("b.bin")
    assert not list((store.root / "tmp").iterdir())


def test_opening_creates_nothing(tmp_path: Path) -> None:
    assert not Store(tmp_path / "new").has(KEY)
    assert not (tmp_path / "new").exists()


def test_the_first_value_stays(store: Store) -> None:
    store.write(KEY, {"by": "first"}, {"a.bin": b"1"})
    kept = store.write(KEY, {"by": "second"}, {"a.bin": b"2"})
    assert kept.record["by"] == "first" and kept.read("a.bin") == b"1"
    assert not list((store.root / "tmp").iterdir())


def test_what_an_interrupted_removal_left_is_replaced(store: Store) -> None:
    directory = store.write(KEY, {}, {"a.bin": b"1"}).directory
    (directory / "record.json").unlink()
    assert not store.has(KEY)
    assert store.write(KEY, {}, {"a.bin": b"2"}).read("a.bin") == b"2"


# ---- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, -1, 1], ids=["flipped", "cut", "grown"])
def test_a_damaged_file_is_noticed(store: Store, size: int) -> None:
    value = store.write(KEY, {}, {"a.bin": bytes(range(100))})
    path = value.directory / "a.bin"
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes({0: bytes(data), -1: bytes(range(99)), 1: bytes(range(101))}[size])
    with pytest.raises(StoreError) as caught:
        store.value(KEY).read("a.bin")
    assert str(path) in str(caught.value)
    assert f"remove the folder {value.directory} and run again" in str(caught.value)


def test_a_missing_file_is_noticed(store: Store) -> None:
    value = store.write(KEY, {}, {"a.bin": b"1"})
    (value.directory / "a.bin").unlink()
    with pytest.raises(StoreError, match=r"No such file.*remove the folder"):
        value.read("a.bin")


def _entry(name: str) -> Callable[[dict[str, object]], object]:
    return lambda record: {**record, "files": {name: {"sha256": "0" * 64, "bytes": 1}}}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: [],
        lambda record: {},
        lambda record: {**record, "files": []},
        lambda record: {**record, "files": {"a.bin": 3}},
        lambda record: {**record, "files": {"a.bin": {}}},
        lambda record: {**record, "files": {"a.bin": {"sha256": 1, "bytes": "x"}}},
        lambda record: {**record, "key": OTHER},
        _entry("../../../format.json"),
        _entry("/etc/passwd"),
        _entry(".."),
        _entry("a/b.bin"),
        _entry("a.bin\n"),
    ],
)
def test_a_spoilt_record_is_refused(store: Store, spoil: Callable[[dict[str, object]], object]) -> None:
    path = store.write(KEY, {}, {"a.bin": b"1"}).directory / "record.json"
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    with pytest.raises(StoreError, match="not the record of this value; remove the folder"):
        store.value(KEY)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"key": NaN'])
def test_a_record_that_is_no_json_is_refused(store: Store, text: bytes) -> None:
    path = store.write(KEY, {}, {}).directory / "record.json"
    path.write_bytes(text)
    with pytest.raises(StoreError, match="remove the folder"):
        store.value(KEY)


def test_a_gigantic_record_is_not_read(store: Store) -> None:
    path = store.write(KEY, {}, {}).directory / "record.json"
    with path.open("r+b") as handle:
        handle.truncate(2**26 + 1)  # sparse
    with pytest.raises(StoreError, match="larger than any record"):
        store.value(KEY)


@pytest.mark.parametrize("key", ["", "../../etc", "AB" + "0" * 62, "0" * 63, "0" * 65, "0" * 63 + "\n", "0" * 63 + "/"])
def test_hostile_keys(store: Store, key: str) -> None:
    before = everything(store.root)
    for use in (store.has, store.value, lambda k: store.write(k, {}, {}), lambda k: store.read_partial(k, "a.b")):
        with pytest.raises(StoreError, match="is not a key"):
            use(key)
    with pytest.raises(StoreError, match="is not a key"), store.lock(key):
        pass
    assert everything(store.root) == before


@pytest.mark.parametrize("name", ["../x.bin", "/x.bin", "a/b.bin", "", "..", "a", "record.json", "A.bin", "a.bin\n"])
def test_hostile_names(store: Store, name: str) -> None:
    before = everything(store.root)
    with pytest.raises(StoreError, match="is not a file name of a value"):
        store.write(KEY, {}, {name: b"1"})
    if name != "record.json":
        with pytest.raises(StoreError, match="is not a file name"):
            store.write_partial(KEY, name, b"1")
        with pytest.raises(StoreError, match="is not a file name"):
            store.read_partial(KEY, name)
    assert everything(store.root) == before


def test_a_value_that_is_no_json_leaves_nothing(store: Store) -> None:
    before = everything(store.root)
    with pytest.raises(TypeError):
        store.write(KEY, {"what": object()}, {"a.bin": b"1"})
    assert everything(store.root) == before and not store.has(KEY)


# ---- directories that are no store, or not ours ----------------------------------------------------------------------


def test_a_folder_with_other_things_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreError, match="neither empty nor a store"):
        Store(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_store_that_was_begun_is_completed(tmp_path: Path) -> None:
    for name in ("values", "tmp"):
        (tmp_path / name).mkdir()
    Store(tmp_path).prepare()
    assert json.loads((tmp_path / "format.json").read_text()) == {"format": 1}


@pytest.mark.parametrize("text", ["", "3", "[]", "{}", "{", "\0"])
def test_a_marker_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "format.json").write_text(text)
    with pytest.raises(StoreError, match="not the marker of a store"):
        Store(tmp_path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "format.json").write_text('{"format": 2}')
    with pytest.raises(StoreError, match=r"store format 2; this rstbench reads format 1\. .* another store"):
        Store(tmp_path)


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be written|Not a directory"):
        Store(tmp_path / "file").prepare()


def test_a_full_disk(mount: Callable[[str], Path]) -> None:
    store = Store(mount("size=256k") / "store")
    store.prepare()
    store.write(KEY, {}, {"a.bin": b"1"})
    before = everything(store.root)
    with pytest.raises(StoreError, match=r"cannot be written \(No space left on device\); choose another with --store"):
        store.write(OTHER, {}, {"a.bin": bytes(2**20)})
    with pytest.raises(StoreError, match="No space left on device"):
        store.write_partial(OTHER, "a.bin", bytes(2**20))
    assert everything(store.root) == before and not store.has(OTHER)
    assert store.read_partial(OTHER, "a.bin") is None
    assert store.write(OTHER, {}, {"a.bin": b"2"}).read("a.bin") == b"2"


def test_a_read_only_mount(mount: Callable[[str], Path]) -> None:
    point = mount("size=256k")
    store = Store(point)
    store.prepare()
    store.write(KEY, {}, {"a.bin": b"1"})
    subprocess.run(["mount", "-o", "remount,ro", point], check=True)
    store = Store(point)
    assert store.value(KEY).read("a.bin") == b"1"
    for write in (
        store.prepare,
        lambda: store.write(OTHER, {}, {}),
        lambda: store.write_partial(OTHER, "a.bin", b"1"),
        lambda: store.lock(OTHER).__enter__(),
    ):
        with pytest.raises(
            StoreError, match=r"cannot be written \(Read-only file system\); choose another with --store"
        ):
            write()


# ---- processes that die, and processes at once -----------------------------------------------------------------------


def test_killed_while_writing(store: Store) -> None:
    # 64 MiB: the kill comes somewhere between the first byte and the rename.
    writer = start(
        "store = Store(Path(sys.argv[1]))\nprint('go', flush=True)\nstore.write(KEY, {}, {'a.bin': bytes(2**26)})",
        store.root,
    )
    said(writer, "go")
    while not list((store.root / "tmp").iterdir()) and writer.poll() is None:
        time.sleep(0.001)
    writer.kill()
    writer.wait()
    if store.has(KEY):  # it was too fast for us: then the value is whole
        assert store.value(KEY).read("a.bin") == bytes(2**26)
    else:
        assert not list((store.root / "values").rglob("*.bin"))
        assert store.write(KEY, {}, {"a.bin": b"1"}).read("a.bin") == b"1"


def test_leftovers_are_swept_after_a_day(store: Store) -> None:
    old, new = store.root / "tmp" / "old", store.root / "tmp" / "new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "a.bin").touch()
    file = store.root / "tmp" / "state"
    file.touch()
    for path in (old, file):
        os.utime(path, (time.time() - 90_000,) * 2)
    Store(store.root).prepare()
    assert [path.name for path in (store.root / "tmp").iterdir()] == ["new"]


def test_two_processes_write_the_same_value(store: Store) -> None:
    code = """
store = Store(Path(sys.argv[1]))
print('go', flush=True)
sys.stdin.readline()
for i in range(50):
    key = f'{i:064x}'
    value = store.write(key, {'by': sys.argv[2]}, {'a.bin': bytes([i]) * 10_000})
    assert value.read('a.bin') == bytes([i]) * 10_000
"""
    head = "import sys\nfrom pathlib import Path\nfrom rstbench.store import Store\n"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", head + code, store.root, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for number in range(3)
    ]
    for writer in writers:
        said(writer, "go")
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert all(store.value(f"{i:064x}").read("a.bin") == bytes([i]) * 10_000 for i in range(50))
    assert not list((store.root / "tmp").iterdir())


def test_the_lock_excludes(store: Store) -> None:
    held: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(30):
            with store.lock(KEY):
                held.append(1)
                most.append(len(held))
                time.sleep(0.0005)
                held.pop()

    # Threads have file descriptions of their own, so to flock they are strangers, as processes are.
    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 180 and max(most) == 1
    assert not list((store.root / "locks").iterdir())


def test_a_lock_on_a_removed_file_is_not_taken_for_one(store: Store) -> None:
    path = store.root / "locks" / KEY
    entered = threading.Event()
    leave = threading.Event()

    def waiter() -> None:
        with store.lock(KEY):
            entered.set()
            leave.wait(30)

    with path.open("a") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        thread = threading.Thread(target=waiter)
        thread.start()
        for _ in range(100):  # until it waits; where that cannot be seen, for long enough
            if any(" -> FLOCK" in line for line in Path("/proc/locks").read_text().splitlines()):
                break
            time.sleep(0.005)
        # The holder ends as the store does: the file goes first, then the lock.
        path.unlink()
    assert entered.wait(10)
    with path.open("a") as third, pytest.raises(BlockingIOError):
        fcntl.flock(third, fcntl.LOCK_EX | fcntl.LOCK_NB)
    leave.set()
    thread.join()


def test_the_lock_is_freed_by_an_error(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.lock(KEY):
        _ = 1 / 0
    with store.lock(KEY):
        pass


def test_the_lock_of_a_killed_process_is_free(store: Store) -> None:
    holder = start(
        "with Store(Path(sys.argv[1])).lock(KEY):\n    print('held', flush=True)\n    time.sleep(60)", store.root
    )
    said(holder, "held")
    with (store.root / "locks" / KEY).open("a") as handle, pytest.raises(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with store.lock(KEY):
        pass


# ---- unfinished work -------------------------------------------------------------------------------------------------


def test_partial_state(store: Store) -> None:
    assert store.read_partial(KEY, "state.bin") is None
    store.write_partial(KEY, "state.bin", b"1")
    store.write_partial(KEY, "state.bin", b"22")
    assert store.read_partial(KEY, "state.bin") == b"22"
    assert store.read_partial(OTHER, "state.bin") is None
    assert not store.has(KEY)
    store.write(KEY, {}, {})
    assert store.read_partial(KEY, "state.bin") is None
    assert not list((store.root / "partial").iterdir())
