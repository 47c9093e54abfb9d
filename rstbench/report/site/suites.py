"""The suite files that entries name, as pages. A name from a leaderboard never leaves the folder of suites."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from rstbench.errors import StoreError

MAX_BYTES = 2**20
_FILE = re.compile(r"[\w.-]+\.ya?ml\b")


def named(command: str) -> tuple[str, ...]:
    """The names of suite files in a command, without folders, each once."""
    return tuple(dict.fromkeys(_FILE.findall(command)))


def suite_texts(folder: Path, commands: Iterable[str]) -> Mapping[str, str]:
    """Name of a suite file -> its text, of those that commands name and `folder` has; others are left out.

    Raises `StoreError` for a file that cannot be read, is larger than 1 MiB, or is not UTF-8.
    """
    found = {}
    for name in sorted({name for command in commands for name in named(command)}):
        path = folder / name
        if not path.is_file():
            continue
        try:
            if path.stat().st_size > MAX_BYTES:
                raise StoreError(f"{path}: larger than {MAX_BYTES} bytes; not a suite")
            found[name] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise StoreError(f"{path}: not UTF-8 ({error.reason})") from error
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error
    return found
