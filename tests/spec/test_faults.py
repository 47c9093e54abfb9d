"""The words of faults."""

from __future__ import annotations

import pytest

from rstbench.spec.faults import Fault, listing, nearest, show, unknown


@pytest.mark.parametrize(
    ("word", "allowed", "meant"),
    [
        ("preact_resnet_18", ["resnet18", "preact_resnet18"], "preact_resnet18"),
        ("CIFAR-10", ["cifar100", "cifar10", "svhn"], "cifar10"),
        ("preact", ["preact_resnet18", "resnet50"], "preact_resnet18"),
        ("pgd200", ["pgd20", "clean"], "pgd20"),
        ("depth", ["width", "family"], None),
        ("zzz", ["width", "family"], None),
        ("", ["width"], None),
        ("-", ["width"], None),
        ("x" * 1000, ["x"], None),
        (5, ["width"], None),
        ("width", [], None),
    ],
)
def test_nearest(word: object, allowed: list[str], meant: str | None) -> None:
    assert nearest(word, allowed) == meant


def test_words() -> None:
    assert [listing([]), listing(["a"]), listing(["a", "b"]), listing("abc")] == ["nothing", "a", "a or b", "a, b or c"]
    assert unknown("not here", "a", []) == ("not here; none is defined", None)
    assert show({"a": [1, "b"]}) == '{"a": [1, "b"]}'
    assert len(show("x" * 100)) == 60
    assert show(object)[0] == "<"


def test_key_and_render() -> None:
    fault = Fault(7, ("table", "cells", 3, "attack"), '"pgd"', "not defined", "pgd20")
    assert fault.key == "table.cells[3].attack"
    assert fault.render("a.yaml") == (
        "a.yaml:7: table.cells[3].attack: not defined (given: \"pgd\"); did you mean 'pgd20'?"
    )
    assert Fault(1, (), None, "broken").render("a.yaml") == "a.yaml:1: broken"
