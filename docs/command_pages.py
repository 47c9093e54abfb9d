"""The reference of commands, written from the command line itself, so that it cannot fall behind the code."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

WORDS = {Path: "PATH", str: "TEXT", int: "N", float: "X"}
"""How a value without a name of its own is called."""


def command_reference(app: typer.Typer) -> str:
    """The Markdown of every command: what it does, its arguments and options with their defaults."""
    texts: list[str] = []
    for name, function in commands(app, "rstbench"):
        texts += [f"## `{name}`", _line(inspect.getdoc(function) or "")]
        rows = _rows(function)
        texts += ["\n".join(["| argument or option | default | meaning |", "|---|---|---|", *rows])] if rows else []
    return "\n\n".join(texts) + "\n"


def commands(app: typer.Typer, name: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every command with the words that call it, those of sub-apps after the others."""
    for command in app.registered_commands:
        if command.callback is not None and not command.hidden:
            yield f"{name} {command.name or command.callback.__name__.replace('_', '-')}", command.callback
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from commands(group.typer_instance, f"{name} {group.name}")


def _rows(function: Callable[..., Any]) -> list[str]:
    hints = get_type_hints(function, include_extras=True)
    rows = []
    for name, parameter in inspect.signature(function).parameters.items():
        if get_origin(hints[name]) is not Annotated:
            continue  # the context, which typer hands in
        kind, *extras = get_args(hints[name])
        (info,) = [extra for extra in extras if isinstance(extra, ArgumentInfo | OptionInfo)]
        names = ", ".join(info.param_decls or ()) if isinstance(info, OptionInfo) else info.metavar or name.upper()
        names = names or "--" + name.replace("_", "-")
        if kind is bool and parameter.default is True:
            names += f", --no-{name.replace('_', '-')}"
        value = "" if isinstance(info, ArgumentInfo) else f" {_value(kind, info)}".rstrip()
        rows.append(f"| `{names}{value}` | {_default(parameter.default)} | {_line(info.help or '')} |")
    return rows


def _value(kind: Any, info: OptionInfo) -> str:
    """How the value of an option is called; empty for a switch."""
    if kind is bool:
        return ""
    if info.metavar:
        return info.metavar
    if get_origin(kind) is Literal:
        return "\\|".join(map(str, get_args(kind)))
    inner = [one for one in get_args(kind) if one is not NoneType]
    if inner:
        return _value(inner[0], info)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "\\|".join(str(one.value) for one in kind)
    return WORDS.get(kind, "VALUE")


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "**required**"
    if value is None or value is False:
        return ""
    if value is True:
        return "on"
    return f"`{getattr(value, 'value', value)}`"


def _line(text: str) -> str:
    """One line, for the cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
