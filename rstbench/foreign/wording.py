"""Parts of messages that several sources share. No torch."""

from __future__ import annotations

from collections.abc import Iterable

from rstbench.spec.faults import nearest


def near(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` where a known word is close, else nothing."""
    found = nearest(word, known)
    return f"; did you mean {found!r}?" if found else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, cut to what a message can hold; its type where it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]


def listed(names: Iterable[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    names = [name[:80] for name in names]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def needs_code(where: str, what: str = "") -> str:
    """The message for a pickle that holds more than tensors."""
    return (
        f"{where}: refused, because loading it would run code from the file{what}. If you trust its origin, convert it "
        "to safetensors where it comes from: safetensors.torch.save_file(model.state_dict(), 'NAME.safetensors')"
    )
