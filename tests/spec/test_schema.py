"""The JSON Schema that editors use agrees with the loader on the sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rstbench.spec import PROFILES, json_schema
from rstbench.spec.overlay import read_tree

SAMPLE = Path(__file__).parent / "data" / "table3.yaml"


def test_it_is_json_and_every_reference_resolves() -> None:
    schema = json_schema()
    text = json.dumps(schema)
    assert schema["$schema"].endswith("2020-12/schema")
    assert schema["title"] == "rstbench suite"
    assert "schema" in schema["properties"]
    assert schema["additionalProperties"] is False
    for part in text.split('"$ref": "#/$defs/')[1:]:
        assert part.split('"')[0] in schema["$defs"]


def test_overlays_require_nothing() -> None:
    schema = json_schema()
    profiles = schema["properties"]["profiles"]["properties"]
    assert tuple(profiles) == PROFILES
    partials = {name: value for name, value in schema["$defs"].items() if name.endswith("Overlay")}
    assert partials
    assert all("required" not in value for value in partials.values())
    fields = partials["Overlay"]["properties"]
    assert '"#/$defs/NetworkSpecOverlay"' in json.dumps(fields["networks"])
    assert '"#/$defs/R2sSpecOverlay"' in json.dumps(fields["defenses"])
    assert '"#/$defs/R2sSpec"' not in json.dumps(fields)
    assert "discriminator" not in json.dumps(partials)
    assert '"#/$defs/Cell"' in json.dumps(partials["TableOverlay"])  # a list replaces as a whole, its entries too
    assert not {"schema", "name", "profiles"} & set(partials["Overlay"]["properties"])


def test_a_validator_takes_the_sample_and_refuses_a_typing_error() -> None:
    jsonschema: Any = pytest.importorskip("jsonschema", reason="no JSON Schema validator is installed")
    root, _ = read_tree(SAMPLE.read_text())
    assert root is not None
    data = root.plain()
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(json_schema())
    assert list(validator.iter_errors(data)) == []
    data["profiles"]["desk"]["networks"]["wrn"]["widht"] = 1
    assert len(list(validator.iter_errors(data))) == 1
