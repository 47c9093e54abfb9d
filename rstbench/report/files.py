"""Files of a report: each whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text. Raises OSError."""
    write(path, lambda temporary: temporary.write_bytes(text.encode("utf-8")))


def write(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write a file beside `path`, and put it in its place. The folder must be there. Raises OSError."""
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        fill(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
