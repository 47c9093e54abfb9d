from __future__ import annotations

from typing import Any

import pytest

from rstbench.spec.attack_fields import AttackEngine
from rstbench.spec.labels import engine_label
from rstbench.spec.training import Engine


@pytest.mark.parametrize(
    ("fields", "label"),
    [
        ({}, ""),
        ({"precision": "fp32", "layout": "contiguous", "threads": 1, "compiler": "none"}, ""),
        ({"layout": "channels_last"}, "channels_last"),
        ({"precision": "bf16", "layout": "channels_last", "compiler": "inductor"}, "bf16 channels_last inductor"),
        ({"threads": 2, "compiler": "cuda_graphs"}, "2 threads cuda_graphs"),
    ],
)
def test_an_engine_is_called_by_what_is_not_its_default(fields: dict[str, Any], label: str) -> None:
    assert engine_label(Engine(**fields)) == label
    if fields.get("compiler") != "cuda_graphs" and "layout" not in fields:
        assert engine_label(AttackEngine(**fields)) == label
