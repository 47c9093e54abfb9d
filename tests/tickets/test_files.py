from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rstbench.errors import StoreError, TicketError
from rstbench.store import Store
from rstbench.tickets.checkpoint import Checkpoint, checkpoint_bytes
from rstbench.tickets.container import declared
from rstbench.tickets.files import load, read, stored_weights
from rstbench.tickets.pruned import Pruned
from rstbench.tickets.ticket import Ticket
from tests.tickets.tickets import DENSE, KEY, pruned, raw, rtt, store_of, ticket, trained, undigested

CHECKPOINT = checkpoint_bytes(DENSE, trained())


def store_with(root: Path, kind: str = "train", data: bytes = CHECKPOINT) -> Store:
    """A store that holds a dense network under `KEY`."""
    store = Store(root)
    store.prepare()
    store.write(KEY, {"kind": kind}, {"last.safetensors": data})
    return store


def test_every_kind_is_told_from_the_others(tmp_path: Path) -> None:
    for data, kind in (
        (ticket().to_bytes(), Ticket),
        (rtt().to_bytes(), Ticket),
        (pruned().to_bytes(), Pruned),
        (CHECKPOINT, Checkpoint),
        (undigested(CHECKPOINT), Checkpoint),
    ):
        (tmp_path / "a").write_bytes(data)
        found = load(tmp_path / "a")
        assert type(found) is kind
        assert found.network(store_of(trained()))(torch.rand(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff" * 20, raw(CHECKPOINT, "{"), raw(CHECKPOINT, "[]"), raw(CHECKPOINT, '{"kind":1}'),
     raw(CHECKPOINT, '{"kind":"pruned"}'), raw(CHECKPOINT, '{"layers":1}'), raw(CHECKPOINT, '{"model":1}')],
)  # fmt: skip
def test_what_is_none_is_one_message(data: bytes) -> None:
    with pytest.raises(TicketError, match=r"^there: ") as caught:
        read(data, "there")
    assert "\n" not in str(caught.value)


def test_declared_knows_our_files_whole_or_damaged() -> None:
    assert (declared(CHECKPOINT) or {})["model"]["width"] == 0.0625
    for spoilt in ("{", "[]", "7"):
        assert declared(raw(CHECKPOINT, spoilt)) == {}
    for other in (b"", b"\xff" * 20, (3).to_bytes(8, "little") + b"[1]", (2).to_bytes(8, "little") + b"{}"):
        assert declared(other) is None


def test_a_file_that_is_absent_or_too_large(tmp_path: Path) -> None:
    with pytest.raises(TicketError, match="No such file"):
        load(tmp_path / "absent")
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(2**40)  # takes no room
    with pytest.raises(TicketError, match="more than any ticket takes"):
        load(tmp_path / "large")


def test_stored_weights_come_from_a_store(tmp_path: Path) -> None:
    store = store_with(tmp_path)
    state = stored_weights(store)(KEY, "last")
    assert state.keys() == trained().keys() and all(torch.equal(state[name], v) for name, v in trained().items())
    assert rtt().network(stored_weights(store))(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(StoreError, match=f"has no value {'f' * 64}"):
        stored_weights(store)("f" * 64, "last")
    with pytest.raises(StoreError, match=r"holds no file 'best_on_validation[.]safetensors'"):
        stored_weights(store)(KEY, "best_on_validation")


def test_only_a_dense_network_can_be_drawn_from(tmp_path: Path) -> None:
    with pytest.raises(TicketError, match="value 0123456789ab is a search, and no dense network to draw from"):
        stored_weights(store_with(tmp_path, "search"))(KEY, "last")
