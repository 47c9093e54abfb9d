from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from rstbench.errors import DeviceError, RstbenchError, StoreError
from rstbench.execute import local
from rstbench.execute.local import Outcome, Settings, execute
from rstbench.nodes import Node
from rstbench.store import Store

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))  # spawned workers inherit it

import stand_in  # noqa: E402
from stand_in import graph, node  # noqa: E402


class Diary:
    """An observer that writes down what it is told."""

    def __init__(self, act: Callable[[str, Node], None] | None = None) -> None:
        self.lines: list[tuple[str, str]] = []
        self.said: list[str] = []
        self._act = act

    def _note(self, what: str, made: Node) -> None:
        self.lines.append((what, made.title))
        if self._act:
            self._act(what, made)

    def started(self, node: Node) -> None:
        self._note("started", node)

    def advanced(self, node: Node, done: float, total: float, note: str) -> None:
        self._note("advanced", node)

    def finished(self, node: Node, seconds: float) -> None:
        self._note("finished", node)

    def retried(self, node: Node, message: str) -> None:
        self.said.append(message)
        self._note("retried", node)

    def failed(self, node: Node, message: str) -> None:
        self.said.append(message)
        self._note("failed", node)

    def all(self, what: str) -> list[str]:
        return [title for happened, title in self.lines if happened == what]


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "work", stand_in.work)


def run(
    nodes: dict[str, Node], store: Store, diary: Diary | None = None, workers: int = 1, limit: float | None = None,
    device: str | None = "cpu",
) -> Outcome:  # fmt: skip
    settings = Settings(data_dir=None, device=device, workers=workers, time_limit_s=limit)
    outcome = execute(nodes, store, settings, diary or Diary())
    assert not multiprocessing.active_children()
    return outcome


def begun(store: Store, name: str) -> int:
    return len(list(store.root.glob(f"begun-{name}-*")))


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_everything_once_and_in_order(store: Store) -> None:
    first, second = node("first"), node("second")
    both = node("both", inputs=(first, second))
    last = node("last", inputs=(both,))
    nodes = graph(first, second, both, last)
    diary = Diary()
    assert run(nodes, store, diary, workers=2) == Outcome(4, {}, (), False)
    assert diary.all("finished")[2:] == ["both", "last"]
    assert diary.all("started").index("both") >= 2
    assert all(begun(store, made.title) == 1 for made in nodes.values())
    times = {key: (store.value(key).directory / "record.json").stat().st_mtime_ns for key in nodes}
    diary = Diary()
    assert run(nodes, store, diary) == Outcome(0, {}, (), False)
    assert diary.lines == []
    assert times == {key: (store.value(key).directory / "record.json").stat().st_mtime_ns for key in nodes}


def test_what_is_stored_counts_as_done(store: Store) -> None:
    first = node("first")
    second = node("second", inputs=(first,))
    store.write(first.key, {"kind": "predict"}, {})
    assert run(graph(first, second), store).computed == 1
    assert begun(store, "first") == 0


def test_nothing_to_do_needs_no_writable_store(tmp_path: Path) -> None:
    assert execute({}, Store(tmp_path / "nowhere"), Settings(None, None), Diary()) == Outcome(0, {}, (), False)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    "fault, words, code",
    [
        ("data", "it failed", 2),
        ("divergence", "it failed", 1),
        ("defect", "a defect of rstbench:\nTraceback", 1),
        ("memory", "out of memory", 1),
    ],
)
def test_a_failure_stops_only_what_needs_it(store: Store, fault: str, words: str, code: int) -> None:
    bad, good = node("bad", fail=fault), node("good")
    needs_bad = node("needs bad", inputs=(bad, good))
    needs_that = node("needs that", inputs=(needs_bad,))
    needs_good = node("needs good", inputs=(good,))
    diary = Diary()
    outcome = run(graph(bad, needs_bad, needs_that, good, needs_good), store, diary)
    assert outcome.computed == 2 and not outcome.timed_out
    assert outcome.unfinished == (bad.key, needs_bad.key, needs_that.key)
    assert outcome.failures.keys() == {bad.key}
    assert words in outcome.failures[bad.key].message and outcome.failures[bad.key].exit_code == code
    assert diary.all("failed") == ["bad"]
    assert begun(store, "bad") == 1, "what fails for a reason is not tried again"


def test_one_death_is_forgiven(store: Store) -> None:
    frail = node("frail", deaths=1)
    other = node("other")
    after = node("after", inputs=(frail,))
    diary = Diary()
    assert run(graph(frail, other, after), store, diary) == Outcome(3, {}, (), False)
    assert begun(store, "frail") == 2
    assert diary.said == ["the worker died (signal SIGKILL); once more"]


def test_two_deaths_are_not(store: Store) -> None:
    frail = node("frail", deaths=9)
    other = node("other")
    after = node("after", inputs=(frail,))
    outcome = run(graph(frail, other, after), store)
    assert outcome.computed == 1
    failure = outcome.failures[frail.key]
    assert failure.exit_code == 1
    assert "died 2 times (last: signal SIGKILL); out of memory is the usual cause" in failure.message
    assert begun(store, "frail") == 2


def test_an_exit_is_reported_with_its_code(store: Store) -> None:
    outcome = run(graph(node("leaves", exit=7)), store)
    (failure,) = outcome.failures.values()
    assert "exit code 7" in failure.message and "out of memory" not in failure.message


def test_workers_that_never_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "work", stand_in.work_that_dies_at_once)
    outcome = run(graph(node("one"), node("two")), store)
    assert len(outcome.failures) == 2
    assert all("exit code 3" in failure.message for failure in outcome.failures.values())


def test_a_worker_that_died_while_idle_is_replaced(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "work", stand_in.work_that_dies_when_idle)
    nodes = graph(node("one"), node("two"), node("three"))
    assert run(nodes, store) == Outcome(3, {}, (), False)


def test_floods_of_messages_do_not_block(store: Store) -> None:
    slow = Diary(lambda what, made: time.sleep(0.0002) if what == "advanced" else None)
    nodes = graph(node("talks", flood=2000), node("talks too", flood=2000))
    assert run(nodes, store, slow, workers=2).computed == 2
    assert len(slow.all("advanced")) == 4000


def test_a_worker_whose_messages_nobody_reads_can_be_stopped(store: Store) -> None:
    def fall(what: str, made: Node) -> None:
        if what == "advanced":
            time.sleep(0.5)  # meanwhile the pipe fills up, and the worker waits in the middle of a message
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(graph(node("talks", flood=100_000)), store, Diary(fall))
    assert not multiprocessing.active_children()


def test_the_time_limit_stops_and_keeps(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = [0.0]
    monkeypatch.setattr(local, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + passed[0]))

    def wait_long(what: str, made: Node) -> None:
        if (what, made.title) == ("advanced", "long") and store.has(quick.key):
            passed[0] = 1000.0

    quick, long = node("quick"), node("long", kind="search", seconds=60)
    after = node("after", inputs=(long,))
    outcome = run(graph(quick, long, after), store, Diary(wait_long), workers=2, limit=900)
    assert outcome.timed_out and not outcome.failures
    assert store.has(quick.key) and outcome.unfinished == (long.key, after.key)
    # The worker was asked, not shot: between two steps it saved its state.
    assert store.read_partial(long.key, "state.bin") == b"saved when it was asked to stop"
    with store.lock(long.key):
        pass


def test_long_time_limits(store: Store) -> None:
    assert run(graph(node("quick")), store, limit=1e9).computed == 1


def test_an_absent_device_is_one_error(store: Store) -> None:
    with pytest.raises(DeviceError, match="'quantum' is not available here"):
        run(graph(node("one"), node("two")), store, device="quantum", workers=2)
    assert not multiprocessing.active_children()


def test_workers_import_plug_ins_or_say_why_not(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planted_plugin.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('imported').touch()\nRSTBENCH_NETWORKS = {}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = Settings(None, "cpu", 1, plugins=("planted_plugin",))
    assert execute(graph(node("one")), store, settings, Diary()).computed == 1
    assert (tmp_path / "imported").exists()
    settings = Settings(None, "cpu", 1, plugins=("no_such_plugin",))
    with pytest.raises(RstbenchError, match="plug-in module 'no_such_plugin': cannot be imported"):
        execute(graph(node("two")), store, settings, Diary())
    assert not multiprocessing.active_children()


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be written|Not a directory"):
        execute(graph(node("one")), Store(tmp_path / "file" / "store"), Settings(None, "cpu"), Diary())


def test_errors_of_the_observer_leave_no_worker(store: Store) -> None:
    def fall(what: str, made: Node) -> None:
        if what == "advanced":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(graph(node("long", seconds=60)), store, Diary(fall))
    assert not multiprocessing.active_children()


def test_the_handler_of_sigterm_is_put_back(store: Store) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run(graph(node("one")), store)
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread(store: Store) -> None:
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(run(graph(node("one")), store)))
    thread.start()
    thread.join(30)
    assert outcomes == [Outcome(1, {}, (), False)]


@pytest.mark.parametrize("device, workers", [("cuda", 1), ("cuda:1", 1), ("cpu", len(os.sched_getaffinity(0)))])
def test_default_workers(device: str, workers: int) -> None:
    assert local._default_workers(device) == workers


# ---- signals: the parent is a process of its own ---------------------------------------------------------------------

PARENT = """
import sys
sys.path.insert(0, {here!r})
import stand_in
from pathlib import Path
from rstbench.execute import local
from rstbench.execute.progress import Lines
from rstbench.store import Store
from rich.console import Console

local.work = stand_in.work
nodes = stand_in.graph(
    stand_in.node("quick"), stand_in.node("long", kind="search", seconds=60), stand_in.node("craft", seconds=60)
)
store = Store(Path(sys.argv[1]))
try:
    local.execute(nodes, store, local.Settings(None, "cpu", workers=2), Lines(nodes, Console()))
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


@pytest.fixture
def parent(store: Store, tmp_path: Path) -> subprocess.Popen[str]:
    """A run with two long nodes at work."""
    script = tmp_path / "parent.py"
    script.write_text("if __name__ == '__main__':\n" + "".join(
        f"    {line}\n" for line in PARENT.format(here=str(HERE)).splitlines()
    ))  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, script, store.root],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True,
    )  # fmt: skip
    wait_for(lambda: begun(store, "long") and begun(store, "craft"))
    time.sleep(0.1)  # until both have begun to step
    return process


def workers_of(store: Store) -> list[int]:
    return [int((store.root / f"begun-{name}-0").read_text()) for name in ("long", "craft")]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("group", [False, True], ids=["parent", "group"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal(parent: subprocess.Popen[str], store: Store, number: signal.Signals, group: bool) -> None:
    workers = workers_of(store)
    (os.killpg if group else os.kill)(parent.pid, number)
    out, err = parent.communicate(timeout=20)
    assert (parent.returncode, err) == (130, "")
    assert out.endswith("interrupted\n")
    wait_for(lambda: not any(map(alive, workers)), 5)
    long = node("long", kind="search", seconds=60)
    assert store.read_partial(long.key, "state.bin") == b"saved when it was asked to stop"
    with store.lock(long.key):
        assert not list((store.root / "tmp").iterdir())


def test_two_times_ctrl_c(parent: subprocess.Popen[str], store: Store) -> None:
    workers = workers_of(store)
    os.kill(workers[0], signal.SIGSTOP)  # it cannot end by itself
    parent.send_signal(signal.SIGINT)
    time.sleep(0.3)
    parent.send_signal(signal.SIGINT)
    _, err = parent.communicate(timeout=8)
    assert (parent.returncode, err) == (130, "")
    wait_for(lambda: not any(map(alive, workers)), 5)


def test_the_parent_is_killed(parent: subprocess.Popen[str], store: Store) -> None:
    workers = workers_of(store)
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(map(alive, workers)), 5)
    parent.communicate()
    for name, kind in (("long", "search"), ("craft", "predict")):
        with store.lock(node(name, kind=kind, seconds=60).key):
            pass
