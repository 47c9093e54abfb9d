"""Texts of the command line turned into values. Raises `SpecError` with what would be right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from rstbench.errors import SpecError
from rstbench.spec.models import SOURCES, DatasetSpec

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


def _hint(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
