"""The reference of suites, written from their JSON Schema, so that it cannot fall behind the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

Schema = Mapping[str, Any]

PARTS = (
    "matrix", "datasets", "networks", "trainings", "searches", "defenses", "attacks", "measures", "table", "figure",
)  # fmt: skip
"""The keys of a suite that hold more than a value, in the order of the page."""


def suite_reference(schema: Schema) -> str:
    """The Markdown of every field of a suite, from its JSON Schema (`rstbench.spec.json_schema()`)."""
    seen: list[str] = []
    texts = ["## The file", _rows(schema["properties"], schema["required"])]
    for part in PARTS:
        texts += [f"## `{part}`"]
        kinds = _behind(schema["properties"][part])
        if part == "searches":
            texts += _search(schema)
        else:
            texts += _one(kinds[0], schema) if len(kinds) == 1 else _several(kinds, schema)
        seen += kinds
    texts += ["## Parts of the above"]
    for name in (found := _reached(seen, schema)):
        texts += [f"### {name}", *_one(name, schema)]
    lost = sorted(_plain(schema) - {*seen, *found})
    if lost:
        raise ValueError(f"definitions of the schema that no part of a suite leads to: {', '.join(lost)}")
    return "\n\n".join(texts) + "\n"


def _one(name: str, schema: Schema) -> list[str]:
    definition = schema["$defs"][name]
    return [definition.get("description", ""), _rows(definition["properties"], definition.get("required", ()))]


def _search(schema: Schema) -> list[str]:
    """Searches have all fields of trainings, and some of their own."""
    training, search = (schema["$defs"][name]["properties"] for name in ("TrainingSpec", "SearchSpec"))
    if any(search.get(name) != field for name, field in training.items()):
        raise ValueError("a search no longer has all fields of a training: let it have a table of its own")
    own = {name: field for name, field in search.items() if name not in training}
    text = schema["$defs"]["SearchSpec"]["description"]
    return [text, "All fields of [`trainings`](#trainings), with the same defaults, and:", _rows(own, ())]


def _several(names: list[str], schema: Schema) -> list[str]:
    """Kinds of one part: what several of them share stands once, before them."""
    definitions = {name: schema["$defs"][name] for name in names}
    shared = {
        field: value
        for definition in definitions.values()
        for field, value in definition["properties"].items()
        if field != "kind"
        and 2 * sum(other["properties"].get(field) == value for other in definitions.values()) > len(names)
    }
    texts = ["Fields that most kinds share:", _rows(shared, ())]
    for definition in definitions.values():
        own = {name: value for name, value in definition["properties"].items() if shared.get(name) != value}
        kind = own.pop("kind")
        values = [f"`{value}`" for value in kind.get("enum", [kind.get("const")])]
        texts += [f"### kind {', '.join(values)}", definition.get("description", "")]
        texts += [_rows(own, definition.get("required", ()))] if own else []
        taken = [f"`{name}`" for name in shared if definition["properties"].get(name) == shared[name]]
        texts += [f"Shared: {', '.join(taken)}."] if taken else []
    return texts


def _rows(fields: Mapping[str, Schema], required: Iterable[str]) -> str:
    lines = ["| field | value | default | meaning |", "|---|---|---|---|"]
    for name, field in fields.items():
        if "default" in field:
            default = "" if field["default"] is None else f"`{json.dumps(field['default'])}`"
        else:
            default = "**required**" if name in required else ""
        kind = f"[below](#{name})" if name in PARTS else _type(field)
        cells = (f"`{name}`", kind, default, field.get("description", ""))
        lines.append(
            "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"
        )
    return "\n".join(lines)


def _type(field: Schema) -> str:
    """What a value may be, in words."""
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[-1]
        return "one of the above" if name.endswith("Overlay") else f"[{name}](#{name.lower()})"
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    for union in ("anyOf", "oneOf"):
        if union in field:
            some = (option for option in field[union] if option.get("type") != "null")
            return " or ".join(dict.fromkeys(_type(option) for option in some))
    kind = field.get("type", "anything")
    if kind == "array":
        inner = _type(field["items"])
        return "list of " + re.sub(r"^(text|whole number|number)\b", r"\1s", inner)
    if kind == "object":
        return "mapping"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    # The bound of seeds is that of a 64-bit number, and tells nobody anything.
    limits = [f"{sign} {field[name]:g}" for name, sign in bounds.items() if name in field and field[name] < 2**60]
    return words.get(kind, kind) + (f" {' and '.join(limits)}" if limits else "")


def _behind(field: Any) -> list[str]:
    """Names of the definitions that a value refers to itself, in order."""
    if isinstance(field, Mapping):
        own = [field["$ref"].rsplit("/", 1)[-1]] if "$ref" in field else []
        inner = [name for key, value in field.items() if key != "discriminator" for name in _behind(value)]
        return list(dict.fromkeys([*own, *inner]))
    if isinstance(field, list):
        return list(dict.fromkeys(name for value in field for name in _behind(value)))
    return []


def _reached(names: list[str], schema: Schema) -> list[str]:
    """Further definitions behind those named, nearest first."""
    found: list[str] = []
    waiting = list(names)
    while waiting:
        for name in _behind(schema["$defs"][waiting.pop(0)]["properties"]):
            if name not in names and name not in found:
                found.append(name)
                waiting.append(name)
    return found


def _plain(schema: Schema) -> set[str]:
    """Definitions that are not overlays: of profiles, which are the same with every field optional."""
    return {name for name in schema["$defs"] if not name.endswith("Overlay")}
