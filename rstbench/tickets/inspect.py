"""What a ticket file holds, for people."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from rstbench.tickets.mask import maskable
from rstbench.tickets.ticket import load_ticket


def inspect(path: Path, console: Console) -> None:
    """Print what the ticket is, and verify it by loading its network.

    Raises `TicketError` if the file is damaged, or its weights cannot be regenerated.
    """
    ticket = load_ticket(path)
    weights = maskable(ticket.network())
    table = Table()
    for name in ("layer", "shape", "kept", "of", "ratio"):
        table.add_column(name, justify="left" if name in ("layer", "shape") else "right")
    total_kept = total = 0
    for name, mask in ticket.masks.items():
        weight = weights[name]
        kept = int(mask.sum()) * (weight.numel() // mask.numel())
        shape = " x ".join(map(str, weight.shape))
        table.add_row(name, shape, str(kept), str(weight.numel()), f"{kept / weight.numel():.4f}")
        total_kept, total = total_kept + kept, total + weight.numel()
    table.add_row("all", "", str(total_kept), str(total), f"{total_kept / total:.4f}", style="bold")
    model, origin = ticket.model, ticket.provenance
    facts = (
        f"{path}  ({path.stat().st_size / 1e6:.3f} MB)",
        f"{model.family}, width {model.width:g}, {model.classes} classes, "
        f"{model.channels} x {model.image_size} x {model.image_size} images",
        f"remaining ratio {ticket.remaining_ratio:g}, pattern {ticket.pattern}, init {ticket.init}, "
        f"seed {ticket.seed}, {origin.get('checkpoint', 'checkpoint unknown')}",
    )
    for line in facts:
        console.print(line, highlight=False, markup=False)
    console.print(table)
    console.print(f"theta SHA-256 {ticket.theta_digest}", highlight=False, markup=False, soft_wrap=True)
    console.print("verified: file digest, mask counts, regenerated weights", highlight=False)
