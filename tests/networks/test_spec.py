from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from rstbench.networks.spec import ModelSpec
from tests.networks.specs import spec


def test_survives_json_and_is_frozen() -> None:
    model = spec("wide_resnet34", width=0.5, mean=[0, 0.5, 1], bn_affine=True)
    assert ModelSpec.model_validate_json(model.model_dump_json()) == model
    assert ModelSpec.model_validate(json.loads(model.model_dump_json())) == model
    with pytest.raises(ValidationError):
        model.width = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "resnet19"}, "family"),
        ({"width": 0}, "width"),
        ({"classes": 1}, "classes"),
        ({"mean": (0.5,)}, "mean has 1 values for 3 channels"),
        ({"std": (0.0, 0.2, 0.2)}, "std"),
        ({"mean": (float("nan"), 0, 0)}, "mean"),
        ({"depth": 3}, "depth"),
    ],
)
def test_refuses(changes: dict[str, object], message: str) -> None:
    good = spec("preact_resnet18").model_dump()
    with pytest.raises(ValidationError, match=message):
        ModelSpec.model_validate(good | changes)


def test_importing_specs_imports_no_torch() -> None:
    code = "import sys; from rstbench.networks import ModelSpec, build; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
