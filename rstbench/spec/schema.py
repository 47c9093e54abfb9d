"""The JSON Schema of a suite file, for editors."""

from __future__ import annotations

import copy
from typing import Any

from rstbench.spec.suite import PROFILES, SuiteFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REF = "#/$defs/"
_PARTIAL = "Overlay"


def json_schema() -> dict[str, Any]:
    """The schema of a suite file, JSON Schema 2020-12. Overlays are the same schema with every field optional.

    It says less than `find_faults` does: references, and whatever joins two fields, are checked only there.
    """
    schema = SuiteFile.model_json_schema(by_alias=True, mode="validation")
    definitions: dict[str, Any] = schema["$defs"]
    overlay = _partial({key: schema[key] for key in ("type", "properties", "additionalProperties")})
    for key in ("schema", "name", "profiles"):
        del overlay["properties"][key]
    partials = {name + _PARTIAL: _partial(definition) for name, definition in definitions.items()}
    schema["$defs"] = {**definitions, **partials, _PARTIAL: overlay}
    schema["properties"]["profiles"] = {
        "type": "object",
        "title": "Profiles",
        "description": "one overlay for each profile: mappings merge, everything else replaces",
        "additionalProperties": False,
        "properties": {profile: {"$ref": _REF + _PARTIAL} for profile in PROFILES},
    }
    schema["title"] = "rstbench suite"
    return {"$schema": DIALECT, **schema}


def _partial(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema like `schema` for the part of a value that an overlay gives.

    Lists replace as a whole, so what stands inside them keeps its required fields. A union may come without its
    `kind`, so it is told apart by trying, not by the discriminator.
    """
    schema = copy.deepcopy(schema)
    schema.pop("required", None)
    schema.pop("default", None)
    if "discriminator" in schema:
        del schema["discriminator"]
        schema["anyOf"] = schema.pop("oneOf")
    if "$ref" in schema:
        schema["$ref"] += _PARTIAL
    for key in ("properties", "patternProperties"):
        if key in schema:
            schema[key] = {name: _partial(value) for name, value in schema[key].items()}
    if isinstance(schema.get("additionalProperties"), dict):
        schema["additionalProperties"] = _partial(schema["additionalProperties"])
    if "anyOf" in schema:
        schema["anyOf"] = [_partial(option) for option in schema["anyOf"]]
    return schema
