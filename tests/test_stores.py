"""Several stores read as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from rstbench.errors import StoreError
from rstbench.store import Store
from rstbench.stores import Stores

ONE, OTHER = "1" * 64, "2" * 64


def store(folder: Path, **values: tuple[str, bytes | None]) -> Store:
    made = Store(folder)
    made.prepare()
    for key, (fact, data) in values.items():
        files = {} if data is None else {"samples.parquet": data}
        made.write(key[1:], {"kind": "predict", "title": "told", "value": fact, "wall_seconds": len(fact)}, files)
    return made


def test_values_of_all_are_there(tmp_path: Path) -> None:
    a, b = store(tmp_path / "a", **{f"k{ONE}": ("x", b"1")}), store(tmp_path / "b", **{f"k{OTHER}": ("x", b"2")})
    both = Stores([a, b])
    assert both.has(ONE) and both.has(OTHER) and not both.has("3" * 64)
    assert both.value(ONE).read("samples.parquet") == b"1" and both.value(OTHER).read("samples.parquet") == b"2"
    assert both.holding("samples.parquet") == [ONE, OTHER] and a.holding("samples.parquet") == [ONE]
    assert both.roots == (a.root, b.root)
    with pytest.raises(StoreError, match="has a value 333"):
        both.value("3" * 64)


def test_equal_values_are_one_whatever_time_they_took(tmp_path: Path) -> None:
    a, b = store(tmp_path / "a", **{f"k{ONE}": ("x", b"1")}), store(tmp_path / "b", **{f"k{ONE}": ("longer", b"1")})
    assert Stores([a, b]).value(ONE).directory == a.value(ONE).directory


@pytest.mark.parametrize("data, other", [(b"1", b"2"), (b"1", b"12"), (None, None)])
def test_the_same_key_with_other_bits_is_refused_by_name(
    tmp_path: Path, data: bytes | None, other: bytes | None
) -> None:
    a, b = store(tmp_path / "a", **{f"k{ONE}": ("x", data)}), store(tmp_path / "b", **{f"k{ONE}": ("y", other)})
    with pytest.raises(StoreError, match=f"value {ONE} .told. is not the same"):
        Stores([a, b]).value(ONE)


def test_nothing_is_written(tmp_path: Path) -> None:
    both = Stores([store(tmp_path / "a")])
    for write in (both.prepare, lambda: both.write(ONE, {}, {})):
        with pytest.raises(StoreError, match="only read"):
            write()
    with pytest.raises(StoreError, match="no store is named"):
        Stores([])
