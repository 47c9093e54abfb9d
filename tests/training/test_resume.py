from __future__ import annotations

from functools import cache

import pytest
import torch
from safetensors.torch import load, save

from rstbench.networks import build
from rstbench.networks.init import initialise
from rstbench.training import Outcome, Run, Weights
from rstbench.training.state import UnusableState, restore_state
from tests.networks.specs import digits
from tests.training.problem import CPU, Killed, Memory, Notes, data, run, same, settings, subject, train

STEPS = 9  # three epochs of three steps


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("scores", {}),
        ("weights", {}),
        ("scores", {"momentum": 0.0, "engine": {"layout": "channels_last"}}),
        ("weights", {"engine": {"precision": "bf16", "layout": "channels_last"}}),
    ],
)
def test_a_run_killed_after_any_step_ends_with_the_same_bits(kind: str, changes: dict[str, object]) -> None:
    spec = settings(**changes)
    undisturbed = train(spec, kind)
    for kill_at in range(1, STEPS + 1):
        memory = Memory()
        with pytest.raises(Killed):
            run(spec, kind).train(data(), memory, Notes(kill_at), save_every_s=0)
        assert memory.saves == kill_at  # the step at which it was stopped included
        notes = Notes()
        outcome = run(spec, kind).train(data(), memory, notes, save_every_s=0)
        assert [told[0] for told in notes.told] == list(range(kill_at + 1, STEPS + 1))  # and did not start over
        assert same(outcome, undisturbed), f"killed at step {kill_at}"


def test_a_run_killed_again_and_again() -> None:
    memory, outcome = Memory(), None
    for kill_at in (2, 2, 4, 5, 9, None):
        try:
            outcome = run(settings()).train(data(), memory, Notes(kill_at), save_every_s=0)
        except Killed:
            continue
    assert outcome is not None and same(outcome, _undisturbed())


def test_a_run_killed_between_its_last_step_and_its_result() -> None:
    memory, notes = Memory(), Notes()
    first = run(settings()).train(data(), memory, Notes())
    assert memory.saves == 3  # without the clock: at the end of every epoch
    again = run(settings()).train(data(), memory, notes)
    assert notes.told == [] and same(first, again)


@cache
def _undisturbed() -> Outcome:
    return train(settings())


def _saved() -> bytes:
    memory = Memory()
    with pytest.raises(Killed):
        run(settings()).train(data(), memory, Notes(6), save_every_s=0)
    assert memory.state is not None
    return memory.state


def _starts_over(state: bytes) -> str:
    notes = Notes()
    outcome = run(settings()).train(data(), Memory(state), notes)
    assert notes.told[0][0] == 1
    assert same(outcome, _undisturbed())
    (remark,) = {note.partition(", ")[2] for _, _, note in notes.told}
    return remark


def test_damaged_state_is_no_reason_to_fail() -> None:
    state = _saved()
    middle = len(state) // 2
    flipped = state[:middle] + bytes([state[middle] ^ 1]) + state[middle + 1 :]
    tensors = load(state)
    spoilt = {
        "garbage": b"garbage" * 40,
        "empty": b"",
        "short": b"\xff" * 8,
        "truncated": state[:-3],
        "header only": state[:300],
        "one bit": flipped,
        "no facts": save(tensors),
        "facts of another kind": save(tensors, metadata={"state": "[]", "digest": "0"}),
        "no JSON": save(tensors, metadata={"state": "{", "digest": "0"}),
        "deep": b"\x40\x9c\0\0\0\0\0\0" + b"[" * 40000,
        "longer": state + b"\0",
    }
    for what, damaged in spoilt.items():
        with pytest.raises(UnusableState, match="damaged"):
            _restore(damaged)
            pytest.fail(what)
    assert _starts_over(flipped) == "started over: the saved state was damaged"


def _restore(state: bytes) -> None:
    mine = subject()
    restore_state(state, mine, torch.optim.SGD(list(mine.variables.values()), lr=0.1, momentum=0.9))


def test_a_changed_step_is_noticed() -> None:
    state = _saved()
    at = state.index(b'\\"step\\": 6') + len(b'\\"step\\": ')
    _restore(state)
    with pytest.raises(UnusableState, match="damaged"):
        _restore(state[:at] + b"4" + state[at + 1 :])


def _state_of_a_wider_network() -> bytes:
    network = build(digits("preact_resnet10", width=0.125, classes=3))
    initialise(network, "kaiming_normal", 0)
    memory = Memory()
    Run(Weights(network), settings(epochs=1), 0, CPU).train(data(), memory, Notes())
    assert memory.state is not None
    return memory.state


def test_state_of_another_network_is_not_taken() -> None:
    assert _starts_over(_state_of_a_wider_network()) == "started over: the saved state was of another network"


def test_state_that_is_refused_changes_nothing() -> None:
    mine = subject()
    before = {name: value.detach().clone() for name, value in mine.variables.items()}
    optimiser = torch.optim.SGD(list(mine.variables.values()), lr=0.1, momentum=0.9)
    with pytest.raises(UnusableState):
        restore_state(_state_of_a_wider_network(), mine, optimiser)
    assert all(torch.equal(value, before[name]) for name, value in mine.variables.items())
    assert not optimiser.state
