"""Several stores read as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rstbench.errors import StoreError
from rstbench.store import Store, Value

_OF_THE_RUN = {"title", "wall_seconds", "cpu_seconds", "attack_seconds", "provenance", "finished", "outcome", "flags"}
"""What may differ between two computations of the same bits."""


class Stores(Store):
    """The values of several stores, for reading. One that two of them hold must be the same bits in both.

    Raises `StoreError` for a folder that is no store, and on asking for a value that two stores hold with other bits.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        if not stores:
            raise StoreError("no store is named")
        self.stores = tuple(stores)
        super().__init__(stores[0].root)

    @property
    def roots(self) -> tuple[Path, ...]:
        """The directories that values are read from, in the order in which the stores were named."""
        return tuple(root for store in self.stores for root in store.roots)

    def prepare(self) -> None:
        """Never: several stores are only read."""
        raise StoreError("several stores together are only read; name one store to write to")

    def has(self, key: str) -> bool:
        """Whether one of the stores has the value."""
        return any(store.has(key) for store in self.stores)

    def value(self, key: str) -> Value:
        """The value, of the first store that has it. Raises `StoreError` if another one has other bits under `key`."""
        found = [store.value(key) for store in self.stores if store.has(key)]
        if not found:
            raise StoreError(f"none of the stores {self} has a value {key}")
        for other in found[1:]:
            if _bits(found[0].record) != _bits(other.record):
                raise StoreError(
                    f"value {key} ({found[0].record.get('title', found[0].record.get('kind'))}) is not the same in "
                    f"{found[0].directory} and {other.directory}; results of these stores do not belong together "
                    "(another processor or other package versions?)"
                )
        return found[0]

    def write(self, key: str, record: Mapping[str, Any], files: Mapping[str, bytes]) -> Value:
        """Never: several stores are only read."""
        self.prepare()
        raise AssertionError  # prepare has raised

    def __str__(self) -> str:
        return ", ".join(str(store.root) for store in self.stores)


def _bits(record: Mapping[str, Any]) -> object:
    """What must be equal: the files by digest; of a value without files, the facts of its record."""
    if record["files"]:
        return {name: (entry["sha256"], entry["bytes"]) for name, entry in record["files"].items()}
    return {name: value for name, value in record.items() if name not in _OF_THE_RUN}
