"""A suite file as a tree that knows its lines, and the overlays merged into it.

YAML is read from its events, not by constructing objects: so nothing in a file can run code, and what a suite
does not need (tags, anchors, aliases, several documents) is refused with its line instead of being half understood.
Scalars follow the core schema of YAML 1.2: `1e-3` is a number, `yes` and `12:30` are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from rstbench.spec.faults import Fault, Path, show

MAX_DEPTH = 16
UNION_ROOMS = ("defenses", "attacks", "measures")
"""Mappings whose entries are unions told apart by `kind`."""

Scalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the file with the line it stands on, counted from 1; for an entry of a mapping, its key's line.

    `profile` names the overlay the value came from (None: the file's own part). A mapping that an overlay was merged
    into keeps its own line and remembers the overlay's in `overlay_line`.
    """

    value: Scalar | dict[str, Node] | list[Node]
    line: int
    profile: str | None = None
    overlay_line: int | None = None

    def plain(self) -> Any:
        """The value without its lines: dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def get(self, *path: str | int) -> Node | None:
        """The node at `path` below this one, or None where the file has no such place."""
        node = self
        for step in path:
            if isinstance(node.value, dict) and step in node.value:
                node = node.value[str(step)]
            elif isinstance(node.value, list) and isinstance(step, int) and 0 <= step < len(node.value):
                node = node.value[step]
            else:
                return None
        return node

    def nearest(self, path: Path) -> Node:
        """The node at `path`, or the deepest one on the way there."""
        for end in range(len(path), 0, -1):
            node = self.get(*path[:end])
            if node is not None:
                return node
        return self


def merge(base: Node, overlay: Node, profile: str, path: Path = ()) -> Node:
    """`overlay` laid over `base`: mappings merge key by key, everything else replaces.

    A defense, attack or measure whose `kind` changes replaces as a whole: the old kind's fields mean nothing to it.
    """
    if not isinstance(base.value, dict) or not isinstance(overlay.value, dict) or _other_kind(base, overlay, path):
        return _owned(overlay, profile)
    merged = dict(base.value)
    for key, node in overlay.value.items():
        merged[key] = merge(merged[key], node, profile, (*path, key)) if key in merged else _owned(node, profile)
    return Node(merged, base.line, base.profile, overlay.line)


def _other_kind(base: Node, overlay: Node, path: Path) -> bool:
    if len(path) != 2 or path[0] not in UNION_ROOMS:
        return False
    old, new = base.get("kind"), overlay.get("kind")
    return new is not None and (old is None or old.value != new.value)


def _owned(node: Node, profile: str) -> Node:
    value = node.value
    if isinstance(value, dict):
        value = {key: _owned(child, profile) for key, child in value.items()}
    elif isinstance(value, list):
        value = [_owned(child, profile) for child in value]
    return Node(value, node.line, profile)


class _Unreadable(Exception):
    """Reading cannot go on; the fault is the last one of the list."""


def read_tree(text: str) -> tuple[Node | None, list[Fault]]:
    """The tree of a YAML text, and what is wrong with it as YAML.

    Duplicate keys, tags and anchors are reported without ending the reading. The tree is None where the syntax is
    broken (then the last fault says where) or the text holds no value at all (then there is no fault).
    """
    faults: list[Fault] = []
    events = YAML(typ="safe", pure=True).parse(text)
    root: Node | None = None
    try:
        for event in events:
            if isinstance(event, DocumentStartEvent):
                if root is not None:
                    faults.append(_fault(event, (), "a second YAML document; a suite file holds one"))
                    break
                root = _node(next(events), events, (), faults)
    except _Unreadable:
        return None, faults
    except MarkedYAMLError as error:
        faults.append(_syntax(error, text))
        return None, faults
    except YAMLError as error:
        faults.append(_unprintable(error, text))
        return None, faults
    if root is not None and root.value is None:
        root = None
    return root, faults


def _node(event: Any, events: Iterator[Any], path: Path, faults: list[Fault], line: int | None = None) -> Node:
    line = event.start_mark.line + 1 if line is None else line
    if isinstance(event, AliasEvent):
        faults.append(_fault(event, path, "an alias; write the value out", f"*{event.anchor}"))
        raise _Unreadable
    if event.anchor is not None:
        faults.append(_fault(event, path, "an anchor; a suite has no anchors and aliases", f"&{event.anchor}"))
    if event.tag is not None:
        faults.append(_fault(event, path, "a tag; a suite holds plain values only", str(event.tag)))
    if len(path) > MAX_DEPTH:
        faults.append(_fault(event, path[:4], f"nested more than {MAX_DEPTH} levels deep"))
        raise _Unreadable
    if isinstance(event, ScalarEvent):
        return Node(_scalar(event, path, faults), line)
    if isinstance(event, SequenceStartEvent):
        items: list[Node] = []
        while not isinstance(item := next(events), SequenceEndEvent):
            items.append(_node(item, events, (*path, len(items)), faults))
        return Node(items, line)
    if not isinstance(event, MappingStartEvent):  # a document without a value
        return Node(None, line)
    entries: dict[str, Node] = {}
    while not isinstance(key_event := next(events), MappingEndEvent):
        key = _key(key_event, path, faults)
        value = _node(next(events), events, (*path, key), faults, key_event.start_mark.line + 1)
        if key in entries:
            faults.append(_fault(key_event, (*path, key), f"this key already stands on line {entries[key].line}"))
        else:
            entries[key] = value
    return Node(entries, line)


def _key(event: Any, path: Path, faults: list[Fault]) -> str:
    if not isinstance(event, ScalarEvent):
        faults.append(_fault(event, path, "a key that is not plain text"))
        raise _Unreadable
    key = _node(event, iter(()), path, faults).value
    if not isinstance(key, str):
        message = f'a key is text; this reads as {_KINDS[type(key)]}, so quote it: "{event.value}"'
        faults.append(_fault(event, (*path, str(event.value)), message))
    return str(event.value)


_KINDS: dict[type, str] = {int: "a number", float: "a number", bool: "true or false", type(None): "null"}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Scalar] = {"": None, "~": None}
for _word, _value in (("null", None), ("true", True), ("false", False)):
    _WORDS |= {_word: _value, _word.title(): _value, _word.upper(): _value}
for _word in (".nan", ".NaN", ".NAN"):
    _WORDS[_word] = float("nan")
for _word in (".inf", ".Inf", ".INF"):
    _WORDS |= {_word: float("inf"), "+" + _word: float("inf"), "-" + _word: -float("inf")}


def _scalar(event: ScalarEvent, path: Path, faults: list[Fault]) -> Scalar:
    text: str = event.value
    if not event.implicit[0] or event.style in ("'", '"', "|", ">"):
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        if len(text) > 40:
            faults.append(_fault(event, path, "a number of more than 40 digits", show(text)))
            return 0
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)
    return float(text) if _FLOAT.fullmatch(text) else text


def _fault(event: Any, path: Path, message: str, value: str | None = None) -> Fault:
    return Fault(event.start_mark.line + 1, path, value, message)


def _syntax(error: MarkedYAMLError, text: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    number = mark.line if mark is not None else 0
    lines = text.splitlines() or [""]
    if "'\\t'" in str(error.problem):
        return Fault(number + 1, (), show(lines[number]), "a tab; YAML indents and separates with spaces only")
    # An unclosed bracket or quote shows only later; its beginning is what the reader must look at.
    opened = error.context_mark
    begun = f" that begins on line {opened.line + 1}" if opened is not None and opened.line != number else ""
    context = f"{error.context}{begun}: " if error.context else ""
    line = lines[number].strip() if number < len(lines) else ""
    return Fault(number + 1, (), show(line) if line else None, f"not YAML: {context}{error.problem}")


def _unprintable(error: YAMLError, text: str) -> Fault:
    position = getattr(error, "position", 0)
    code = getattr(error, "character", 0)
    code = ord(code) if isinstance(code, str) else int(code)
    return Fault(text.count("\n", 0, position) + 1, (), f"U+{code:04X}", "a character that YAML does not allow")
