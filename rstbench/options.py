"""Texts of the command line turned into values. Raises `SpecError` with what would be right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from rstbench.errors import SpecError
from rstbench.spec.models import SOURCES, DatasetSpec

MODEL_SOURCES = ("robustbench", "torchvision", "timm", "rstbench", "plugin")

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_FILTERS = ("dataset", "network", "defense", "ratio", "candidate_set", "attack", "norm", "eps", "metric", "variant")


def seconds(text: str) -> float:
    """A duration such as 45, 30s, 9m or 1.5h, in seconds."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smh]?)", text.strip())
    if match is None or float(match[1]) <= 0:
        raise SpecError(f"--time-limit {text!r} is not a duration; write 45s, 9m or 1.5h")
    return float(match[1]) * _UNITS[match[2]]


def conditions(texts: Sequence[str]) -> dict[str, str]:
    """--only options: table column -> value."""
    found: dict[str, str] = {}
    for text in texts:
        column, equals, value = text.partition("=")
        if not equals or column not in _FILTERS:
            hint = "" if column in _FILTERS else _hint(column, _FILTERS)
            raise SpecError(f"--only {text!r}: write COLUMN=VALUE with a column of {', '.join(_FILTERS)}{hint}")
        if column in found:
            raise SpecError(f"--only names {column} twice")
        found[column] = value
    return found


def dataset(name: str) -> DatasetSpec:
    """The data set of a name."""
    if name not in SOURCES:
        raise SpecError(f"no data set {name!r}; known: {', '.join(SOURCES)}{_hint(name, SOURCES)}")
    if name in ("folder", "arrays"):
        raise SpecError(f"{name} stands for data sets of your own, which lie in the data directory already")
    return DatasetSpec(source=name)


def evaluated_data(name: str, image_size: int | None) -> DatasetSpec:
    """The data set of `--dataset`: a source, or folder:NAME or arrays:NAME of the data directory."""
    source, colon, own = name.partition(":")
    if source not in SOURCES:
        raise SpecError(f"no data set {source!r}; known: {', '.join(SOURCES)}{_hint(source, SOURCES)}")
    try:
        return DatasetSpec(source=source, name=own if colon else None, image_size=image_size)
    except ValidationError as error:
        raise SpecError(f"--dataset {name}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error


def model_fields(
    model: str, weights: str | None, file: str | None, threat: str | None, width: float, normalise: bool
) -> dict[str, Any]:
    """Fields of a defense of kind `model`, as a suite would write them, from the options of `eval`."""
    source, colon, name = model.partition(":")
    if not colon or not name or source not in MODEL_SOURCES:
        raise SpecError(
            f"{model!r}: a model is SOURCE:NAME with a source of {', '.join(MODEL_SOURCES)}, e.g. torchvision:resnet50"
            + _hint(source, MODEL_SOURCES)
        )
    given = {"weights": weights, "file": file, "threat": threat}
    fields: dict[str, Any] = {
        "source": source,
        "name": name,
        **{key: value for key, value in given.items() if value is not None},
    }
    if width != 1.0:
        fields["width"] = width
    return fields if normalise else fields | {"normalise": False}


def _hint(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
