"""YAML as the suite files have it: plain values with lines, nothing that runs code."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstbench.spec.overlay import Node, merge, read_tree


def plain(text: str) -> object:
    root, faults = read_tree(text)
    assert faults == []
    assert root is not None
    return root.plain()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1E3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-2", -2), ("010", 10), ("0x10", 16), ("0o10", 8),
        ("true", True), ("False", False), ("yes", "yes"), ("on", "on"), ("12:30", "12:30"),
        ("2001-01-01", "2001-01-01"),
        ("8/255", "8/255"), ("1_000", "1_000"), ("'1'", "1"), ('"true"', "true"), (".inf", math.inf),
        ("-.inf", -math.inf), ("|\n  1\n", "1\n"),
    ],
)  # fmt: skip
def test_scalars_of_the_core_schema(text: str, value: object) -> None:
    result = plain(f"a: {text}")
    assert result == {"a": value}
    assert type(result["a"]) is type(value)  # type: ignore[index]


def test_null_and_nan() -> None:
    assert plain("a: ~\nb:\nc: null") == {"a": None, "b": None, "c": None}
    assert math.isnan(plain("a: .nan")["a"])  # type: ignore[index]


def test_lines_are_those_of_the_keys_and_of_the_items() -> None:
    root, _ = read_tree("a:\n  b: 1\n  c: [1,\n    2]\n\nd:\n  - x\n  - y: 1\n")
    assert root is not None
    places = {("a",): 1, ("a", "b"): 2, ("a", "c"): 3, ("a", "c", 1): 4, ("d",): 6, ("d", 0): 7, ("d", 1, "y"): 8}
    for path, line in places.items():
        node = root.get(*path)
        assert node is not None
        assert node.line == line
    assert root.nearest(("a", "c", 7)).line == 3
    assert root.get("a", "b", "c") is None


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        ("a:\n\tb: 1\n", 2, "", "a tab"),
        ("a:\n  b: 1\n\tc: 1\n", 3, "", "a tab"),
        ("a:\tb\n", 1, "", "a tab"),
        ("a: 1\nb: 2\na: 3\n", 3, "a", "already stands on line 1"),
        ("a: {b: 1,\n b: 2}\n", 2, "a.b", "already stands on line 1"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]\n", 2, "b", "a tag"),
        ("a: !thing 1\n", 1, "a", "a tag"),
        ("a: 1\nb: &x [1]\n", 2, "b", "an anchor"),
        ("a: 1\nb: [*x]\n", 2, "b[0]", "an alias"),
        ("a: 1\n10: 2\n", 2, "10", 'quote it: "10"'),
        ("a: 1\n? [b]\n: 2\n", 2, "", "a key that is not plain text"),
        ("a: 1\n---\nb: 1\n", 2, "", "a second YAML document"),
        ("a: b: c\n", 1, "", "not YAML: mapping values are not allowed here"),
        ("a: 1\nb: [1,\nc: 2\n", 4, "", "begins on line 2"),
        ("a: 'x\nb: 1\n", 3, "", "begins on line 1"),
        ("a: 1\nb: \x01\n", 2, "", "does not allow"),
        ("a: " + "1" * 5000, 1, "a", "more than 40 digits"),
        ("a: " + "[" * 100_000, 1, "a[0][0][0]", "levels deep"),
    ],
)
def test_what_is_refused(text: str, line: int, key: str, message: str) -> None:
    _, faults = read_tree(text)
    assert len(faults) == 1
    assert (faults[0].line, faults[0].key) == (line, key)
    assert message in faults[0].message


def test_nothing_in_the_text() -> None:
    assert read_tree("") == (None, [])
    assert read_tree("# only words\n") == (None, [])


def test_a_merge_key_is_a_plain_key() -> None:
    assert plain("a: {<<: {b: 1}}") == {"a": {"<<": {"b": 1}}}


_VALUES = st.recursive(
    st.integers(0, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=8,
)


def tree(value: object) -> Node:
    if isinstance(value, dict):
        return Node({key: tree(child) for key, child in value.items()}, 1)
    if isinstance(value, list):
        return Node([tree(child) for child in value], 1)
    return Node(value, 1)  # type: ignore[arg-type]


def reference(base: object, overlay: object) -> object:
    if not (isinstance(base, dict) and isinstance(overlay, dict)):
        return overlay
    both = {key: reference(base[key], overlay[key]) for key in base.keys() & overlay.keys()}
    return {**base, **overlay, **both}


@given(_VALUES, _VALUES)
def test_merge_is_the_recursive_update(base: object, overlay: object) -> None:
    merged = merge(tree(base), tree(overlay), "desk")
    assert merged.plain() == reference(base, overlay)
    assert merge(merged, tree(overlay), "desk").plain() == merged.plain()


def test_provenance() -> None:
    base, _ = read_tree("a: {b: 1, c: 2}\nd: 1")
    overlay, _ = read_tree("\n\na: {c: 3}")
    assert base is not None
    assert overlay is not None
    merged = merge(base, overlay, "smoke")
    a, b, c = merged.get("a"), merged.get("a", "b"), merged.get("a", "c")
    assert a is not None
    assert b is not None
    assert c is not None
    assert (a.profile, a.line, a.overlay_line) == (None, 1, 3)
    assert (b.profile, b.line) == (None, 1)
    assert (c.profile, c.line, c.value) == ("smoke", 3, 3)


def test_only_unions_are_told_apart_by_kind() -> None:
    base, _ = read_tree("attacks: {p: {kind: pgd, steps: 3}}\nsearches: {s: {kind: pgd, steps: 3}}")
    overlay, _ = read_tree("attacks: {p: {kind: clean}}\nsearches: {s: {kind: clean}}")
    assert base is not None
    assert overlay is not None
    assert merge(base, overlay, "desk").plain() == {
        "attacks": {"p": {"kind": "clean"}},
        "searches": {"s": {"kind": "clean", "steps": 3}},
    }


@pytest.mark.parametrize("room", ["defenses", "attacks", "measures"])
def test_an_entry_of_another_kind_replaces_as_a_whole(room: str) -> None:
    base, _ = read_tree(f"{room}:\n  a: {{kind: one, field: 1}}\n  b: {{kind: one, field: 1}}\n")
    overlay, _ = read_tree(f"{room}:\n  a: {{kind: two, other: 2}}\n  b: {{kind: one, other: 2}}\n")
    assert base is not None and overlay is not None
    assert merge(base, overlay, "smoke").plain() == {
        room: {"a": {"kind": "two", "other": 2}, "b": {"kind": "one", "field": 1, "other": 2}}
    }
