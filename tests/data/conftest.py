from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rstbench.errors import DataError
from rstbench.spec.models import DatasetSpec
from tests.data.made import Members, members


@pytest.fixture
def toy() -> Members:
    """A valid data set of three classes, to be spoilt by a test."""
    return members()


@pytest.fixture
def toy_spec() -> DatasetSpec:
    return DatasetSpec(source="arrays", name="toy")


@pytest.fixture
def refused(tmp_path: Path, toy_spec: DatasetSpec) -> Callable[[Members], str]:
    """Writes toy.npz, expects a `DataError` and returns its message."""
    from rstbench.data.sources import load

    def check(arrays: Members) -> str:
        np.savez(tmp_path / "toy.npz", **arrays)
        with pytest.raises(DataError) as caught:
            load(toy_spec, tmp_path)
        assert str(tmp_path / "toy.npz") in str(caught.value)
        return str(caught.value)

    return check
