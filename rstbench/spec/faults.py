"""A fault of a suite file, and pydantic's errors in plain words."""

from __future__ import annotations

import difflib
import json
import re
import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

UNKNOWN_KEY = "unknown key"
MISSING = "this key is missing"
Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a suite file.

    line: counted from 1. path: keys and indices from the top of the file. value: what was given, as text (None: the
    fault is not about one value). message: what is wrong and what is allowed. suggestion: the nearest allowed word.
    """

    line: int
    path: Path
    value: str | None
    message: str
    suggestion: str | None = None

    @property
    def key(self) -> str:
        """The path as people write it, e.g. `table.cells[3].attack`; empty for the file as a whole."""
        return _key(self.path)

    def render(self, file: object) -> str:
        """One line: file, line, key, what is wrong, what was given, what was perhaps meant."""
        return f"{file}:{self.line}: {_words(self)}"


def show(value: Any) -> str:
    """`value` as YAML would write it on one line, cut to 60 characters."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(word: object, allowed: Iterable[str]) -> str | None:
    """The allowed word that `word` most likely meant, or None."""
    if not isinstance(word, str) or not word or len(word) > 100:
        return None
    # Names differ in case and separators far more often than in letters: cifar-10, CIFAR10.
    plain = {re.sub(r"[^a-z0-9]", "", other.lower()): other for other in reversed(list(allowed))}
    short = re.sub(r"[^a-z0-9]", "", word.lower())
    found = difflib.get_close_matches(short, plain, n=1, cutoff=0.65)
    if not found and len(short) >= 3:  # resnet18 -> preact_resnet18 is closer than the ratio says
        found = [other for other in plain if short in other or (len(other) >= 3 and other in short)][:1]
    return plain[found[0]] if found else None


def listing(words: Iterable[str]) -> str:
    """Words for a message: `a, b or c`."""
    words = list(words)
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words) or "nothing"


def unknown(what: str, word: object, allowed: Sequence[str]) -> tuple[str, str | None]:
    """Message and suggestion for a word that is none of the allowed ones."""
    return f"{what}; allowed: {listing(allowed)}" if allowed else f"{what}; none is defined", nearest(word, allowed)


@dataclass(frozen=True, slots=True)
class Complaint:
    """A fault before its line is known, or without one; the fields are those of `Fault`."""

    path: Path
    value: str | None
    message: str
    suggestion: str | None = None

    def render(self) -> str:
        """As that of `Fault`, without file and line."""
        return _words(self)


def _key(path: Path) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


def _words(fault: Fault | Complaint) -> str:
    where = f"{_key(fault.path)}: " if fault.path else ""
    given = f" (given: {fault.value})" if fault.value is not None else ""
    meant = f"; did you mean '{fault.suggestion}'?" if fault.suggestion is not None else ""
    return where + fault.message + given + meant


def complaints(error: ValidationError, model: Any, data: Any) -> list[Complaint]:
    """Every error of a validation of `data` against `model`, in plain words, in the order of the fields.

    model: a model, or a union of models that go by `kind`.
    """
    items: list[dict[str, Any]] = [dict(item) for item in error.errors(include_url=False)]
    # Pydantic counts only the valid entries of a list; a list that is long enough has the fault in its entries.
    items = [i for i in items if i["type"] != "too_short" or len(i["input"]) < i["ctx"]["min_length"]]
    return [_complaint(item, model, data) for item in items]


def _complaint(item: dict[str, Any], model: Any, data: Any) -> Complaint:
    kind, ctx, given = item["type"], item.get("ctx", {}), item.get("input")
    path, annotation, on_key = _place(item["loc"], model, data)
    if on_key:
        given = path[-1]
    value = None if isinstance(given, dict) else show(given)
    if kind == "extra_forbidden":
        allowed = _fields(_place(item["loc"][:-1], model, data)[1], _at(data, path[:-1]))
        message, suggestion = unknown(UNKNOWN_KEY, path[-1], allowed)
        return Complaint(path, None, message, suggestion)
    if kind == "missing":
        parent = _place(item["loc"][:-1], model, data)[1]
        return Complaint(path, None, MISSING + _about(parent, path[-1], _at(data, path[:-1])))
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        allowed = _kinds(annotation)
        tag = given.get("kind") if isinstance(given, dict) else None
        if kind == "union_tag_not_found":
            return Complaint((*path, "kind"), None, f"{MISSING}; allowed: {listing(allowed)}")
        message, suggestion = unknown("not a kind", tag, allowed)
        return Complaint((*path, "kind"), show(tag), message, suggestion)
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", ctx["expected"]) or [str(ctx["expected"])]
        message, suggestion = unknown("not known" if on_key else "not allowed", given, allowed)
        return Complaint(path, value, message, suggestion)
    if kind == "value_error":
        return Complaint(path, value, str(ctx["error"]))
    if kind in _BOUNDS:
        return Complaint(path, value, f"must be {_bounds(annotation) or _BOUNDS[kind].format(**ctx)}")
    if kind == "string_pattern_mismatch":
        return Complaint(path, value, _NAME_RULE)
    if kind in ("string_too_long", "too_long", "too_short", "string_too_short"):
        return Complaint(path, value if "string" in kind else None, _length(kind, ctx))
    if kind in _TYPES:
        hint = ""
        if kind == "string_type" and isinstance(given, int | float | bool):
            hint = ", so quote it"
        elif kind == "tuple_type" and isinstance(given, str | int | float):
            hint = f", e.g. [{show(given)}]"
        return Complaint(path, show(given) if value is None else value, f"must be {_TYPES[kind]}{hint}")
    return Complaint(path, value, item["msg"][:1].lower() + item["msg"][1:])


_NAME_RULE = "a name is made of lower-case letters, digits, '.', '_' and '-', and begins with a letter or a digit"
_BOUNDS = {
    "greater_than": "greater than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
}
_TYPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "tuple_type": "a list",
    "finite_number": "a finite number",
}


def _length(kind: str, ctx: dict[str, Any]) -> str:
    one, many = ("character", "characters") if "string" in kind else ("entry", "entries")
    least = "short" in kind
    count = ctx["min_length" if least else "max_length"]
    return f"must have at {'least' if least else 'most'} {count} {one if count == 1 else many}"


# ---- what the schema says at a place -------------------------------------------------------------------------------


def _place(loc: Sequence[str | int], model: Any, data: Any) -> tuple[Path, Any, bool]:
    """Path in the file, annotation there, and whether the error is about the key.

    Pydantic's location also names union members and `[key]`; neither is a place in the file.
    """
    path: list[str | int] = []
    annotation: Any = model
    on_key = False
    for step in loc:
        if step == "[key]":
            on_key = True
            continue
        options = [option for option in _options(annotation) if isinstance(option, type)]
        here = _at(data, path)
        if (
            len(options) > 1
            and step in _kinds(annotation)
            and isinstance(here, dict)
            and here.get("kind", step) == step
        ):
            annotation = next(option for option in options if step in _kinds(option))
            continue
        annotation = _child(annotation, step, here)
        path.append(step)
    return tuple(path), annotation, on_key


def _at(data: Any, path: Iterable[str | int]) -> Any:
    for step in path:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _strip(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def _options(annotation: Any) -> list[Any]:
    """Members of a union without None, each without its annotations; for any other type just that."""
    annotation = _strip(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        return [option for member in get_args(annotation) for option in _options(member) if option is not type(None)]
    return [annotation]


def _models(annotation: Any) -> list[type[BaseModel]]:
    return [option for option in _options(annotation) if isinstance(option, type) and issubclass(option, BaseModel)]


def _kinds(annotation: Any) -> list[str]:
    """The values of `kind` that the models of a union go by."""
    hints = [get_type_hints(model).get("kind") for model in _models(annotation)]
    return [str(word) for hint in hints if get_origin(hint) is Literal for word in get_args(hint)]


def _chosen(annotation: Any, here: Any) -> list[type[BaseModel]]:
    models = _models(annotation)
    kind = here.get("kind") if isinstance(here, dict) else None
    return [model for model in models if len(models) == 1 or kind in _kinds(model)]


def _fields(annotation: Any, here: Any) -> list[str]:
    return [field.alias or name for model in _chosen(annotation, here) for name, field in model.model_fields.items()]


def _child(annotation: Any, step: str | int, here: Any) -> Any:
    for model in _chosen(annotation, here):
        for name, field in model.model_fields.items():
            if step in (name, field.alias):
                return get_type_hints(model, include_extras=True)[name]
    for option in _options(annotation):
        if get_origin(option) in (dict, tuple, list):
            return get_args(option)[1 if get_origin(option) is dict else 0]
    return Any


def _metadata(annotation: Any) -> list[Any]:
    found: list[Any] = []
    for option in (annotation, *get_args(_strip(annotation))):
        if get_origin(option) is Annotated:
            for extra in get_args(option)[1:]:
                found += extra.metadata if isinstance(extra, FieldInfo) else [extra]
    return found


def _bounds(annotation: Any) -> str:
    """All bounds of a number together, so that one reading tells the allowed range."""
    words = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}
    found = [
        (word, getattr(x, name)) for name, word in words.items() for x in _metadata(annotation) if hasattr(x, name)
    ]
    return " and ".join(f"{word} {bound if isinstance(bound, int) else format(bound, 'g')}" for word, bound in found)


def _about(parent: Any, step: str | int, here: Any) -> str:
    """What a missing key would hold, where the schema says it."""
    annotation = _strip(_child(parent, step, here))
    if get_origin(annotation) is Literal:
        return f"; allowed: {listing(str(word) for word in get_args(annotation))}"
    for model in _chosen(parent, here):
        for name, field in model.model_fields.items():
            if step in (name, field.alias) and field.description:
                return f" ({field.description})"
    return ""
