from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from rstbench.errors import StoreError, TicketError
from rstbench.store import Store
from rstbench.tickets.checkpoint import checkpoint_bytes
from rstbench.tickets.inspect import inspect
from tests.tickets.test_files import CHECKPOINT, store_with
from tests.tickets.tickets import DENSE, KEY, forged, pruned, rtt, ticket, trained, undigested


def _printed(path: Path, store: Store | None = None) -> str:
    stream = io.StringIO()
    inspect(path, Console(file=stream, width=200), store)
    return stream.getvalue()


def test_inspect_tells_what_a_ticket_is(tmp_path: Path) -> None:
    made = ticket(pattern="kernel", ratio=0.25)
    path = tmp_path / "[red]a.ticket"
    path.write_bytes(made.to_bytes())
    text = _printed(path)
    assert str(path) in text.replace("\n", "")
    assert "preact_resnet10, width 0.0625, 10 classes, 1 x 8 x 8 images" in text
    assert "remaining ratio 0.25, pattern kernel, init signed_kaiming_constant, seed 3, last" in text
    assert made.theta_digest in text and "verified" in text
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    layers = {row[0]: row[1:] for row in rows}
    assert list(layers) == [*made.masks, "all"]
    kernels = made.masks["stem.weight"]
    kept = int(kernels.sum())
    assert layers["stem.weight"] == ["4 x 1 x 3 x 3", str(9 * kept), "36", f"{kept / kernels.numel():.4f}"]
    assert int(layers["all"][1]) == sum(int(row[1]) for name, row in layers.items() if name != "all")


def test_inspect_verifies(tmp_path: Path) -> None:
    path = tmp_path / "a.ticket"
    data = ticket().to_bytes()
    path.write_bytes(forged(data, lambda header: header["weights"].update(seed=4)))
    with pytest.raises(TicketError, match="regenerated"):
        _printed(path)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(TicketError, match="damaged"):
        _printed(path)


def test_inspect_prints_whatever_provenance_says(tmp_path: Path) -> None:
    path = tmp_path / "a.ticket"
    path.write_bytes(forged(ticket().to_bytes(), lambda header: header.update(provenance={"checkpoint": "[/bold] [x"})))
    assert "[/bold] [x" in _printed(path)
    path.write_bytes(forged(ticket().to_bytes(), lambda header: header.update(provenance={})))
    assert "checkpoint unknown" in _printed(path)


def test_a_ticket_of_trained_weights_is_verified_as_far_as_they_are_there(tmp_path: Path) -> None:
    path = tmp_path / "a.ticket"
    path.write_bytes(rtt(classifier="reinitialised").to_bytes())
    text = _printed(path)
    assert "remaining ratio 0.5, pattern element, last" in text
    assert f"weights trained: last of value {KEY}, classifier drawn anew from seed 5" in text
    assert "verified: file digest, mask counts\n" in text
    assert "not verified: the trained weights; name the store that holds them with --store" in text
    text = _printed(path, store_with(tmp_path / "store"))
    assert "verified: file digest, mask counts, stored weights\n" in text and "not verified" not in text
    other = store_with(tmp_path / "other", data=checkpoint_bytes(DENSE, trained(seed=2)))
    with pytest.raises(TicketError, match="not those it was drawn from"):
        _printed(path, other)
    empty = Store(tmp_path / "empty")
    with pytest.raises(StoreError, match="has no value"):
        _printed(path, empty)


def test_a_pruned_network_says_where_it_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(pruned(ratio=0.25, pattern="row").to_bytes())
    text = _printed(path)
    assert "pruned network, remaining ratio 0.25, pattern row, last" in text
    assert f"fine-tuned ticket last of value {KEY}, weights inherited" in text
    assert "stem.weight" in text and "verified: file digest, mask counts\n" in text
    lottery = {"lottery": {"init": "kaiming_normal", "seed": 3}, "weights": {"key": KEY, "checkpoint": "last"}}
    path.write_bytes(forged(pruned().to_bytes(), lambda header: header.update(provenance=lottery)))
    assert f"pruned last of value {KEY}, init kaiming_normal, seed 3" in _printed(path)
    for strange in ({}, {"tune": 1, "ticket": {}}, {"tune": {}, "ticket": None}, {"lottery": {}, "weights": {}}):
        path.write_bytes(forged(pruned().to_bytes(), lambda header, to=strange: header.update(provenance=to)))  # type: ignore[misc]
        assert "checkpoint unknown" in _printed(path)


def test_a_dense_network_is_shown_too(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(CHECKPOINT)
    text = _printed(path)
    count = sum(value.numel() for name, value in trained().items() if "running" not in name and "num_" not in name)
    assert f"dense network, {count} parameters" in text and "verified: file digest, tensors are the network's" in text
    path.write_bytes(undigested(CHECKPOINT))
    assert "verified: tensors are the network's" in _printed(path)
