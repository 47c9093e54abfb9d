from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from rstbench.errors import TicketError
from rstbench.tickets.inspect import inspect
from tests.tickets.tickets import forged, ticket


def _printed(path: Path) -> str:
    stream = io.StringIO()
    inspect(path, Console(file=stream, width=200))
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
