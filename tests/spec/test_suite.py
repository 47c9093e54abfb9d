"""Specs: canonical form with defaults written out, and back."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rstbench.spec import PROFILES, SuiteSpec, canonical_json, digest, distance, load_suite
from rstbench.spec.attacks import PgdSpec
from rstbench.spec.base import linf_text
from rstbench.spec.defenses import R2sSpec
from rstbench.spec.models import FAMILIES, INITS, PATTERNS
from rstbench.spec.training import InnerAttack

SAMPLE = Path(__file__).parent / "data" / "table3.yaml"

names = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,6}", fullmatch=True)
counts = st.integers(1, 1000)
positive = st.floats(1e-6, 10.0)
ratios = st.floats(1e-4, 1.0)
linf = st.builds(lambda a, b: f"{min(a, b)}/{max(a, b)}", counts, counts) | st.sampled_from(["0.03", ".5", "0", "1"])
checkpoints = st.sampled_from(["best_on_validation", "last"])


def some(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


inner = some({}, kind=st.sampled_from(["none", "fgsm", "fgsm_rs", "pgd"]), epsilon=linf, step_size=linf, steps=counts)
milestones = st.lists(counts, unique=True).map(sorted)
engine = some({}, precision=st.sampled_from(["fp32", "bf16"]), threads=counts)
training = some(
    {},
    epochs=counts,
    lr=positive | st.integers(1, 5),
    momentum=st.floats(0, 0.99),
    lr_schedule=some({}, kind=st.sampled_from(["constant", "cosine"]), milestones=milestones),
    augmentation=some({}, padding=st.integers(0, 8), flip=st.booleans()),
    inner=inner,
    validation=some({}, every=counts, epsilon=linf),
    engine=engine,
)  # fmt: skip
shared = {"variant": st.text(max_size=10), "samples": counts, "engine": engine, "report_as": names}
pgd_linf = some({"kind": st.just("pgd")}, epsilon=linf, step_size=linf, steps=counts, **shared)
pgd_l2 = some({"kind": st.just("pgd"), "norm": st.just("l2"), "epsilon": positive}, step_size=positive, **shared)
attack = some({"kind": st.just("clean")}, **shared) | pgd_linf | pgd_l2
inits, patterns = st.sampled_from(INITS), st.sampled_from(PATTERNS)
members = st.lists(ratios, min_size=2, max_size=5, unique=True)


def suites() -> st.SearchStrategy[dict[str, Any]]:
    defense = (
        some({"kind": st.just("dense"), "training": names}, init=inits, bn_affine=st.booleans())
        | some({"kind": st.just("ticket"), "search": names, "ratio": ratios}, pattern=patterns, checkpoint=checkpoints)
        | some({"kind": st.just("r2s"), "search": names, "ratios": members}, init=inits)
    )
    return some(
        {
            "schema": st.just(1),
            "name": names,
            "title": st.text(max_size=20),
            "matrix": st.fixed_dictionaries({axis: st.lists(names, min_size=1) for axis in ("dataset", "network")}),
            "datasets": st.dictionaries(names, st.just({"source": "digits"}), max_size=2),
            "networks": st.dictionaries(names, some({"family": st.sampled_from(FAMILIES)}, width=st.floats(0.1, 4))),
            "defenses": st.dictionaries(names, defense, max_size=3),
            "attacks": st.dictionaries(names, attack, max_size=3),
            "table": some({"cells": st.just([{"defense": "a", "attack": "b"}])}, paper=st.integers(1, 9)),
        },
        seeds=st.lists(st.integers(0, 2**63 - 1), min_size=1),
        trainings=st.dictionaries(names, training, max_size=2),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(suites())
def test_canonical_form_and_back(data: dict[str, Any]) -> None:
    spec = SuiteSpec.model_validate(data)
    full = spec.model_dump(mode="json", by_alias=True)
    again = SuiteSpec.model_validate(json.loads(canonical_json(full)))
    assert again == spec
    assert canonical_json(again.model_dump(mode="json", by_alias=True)) == canonical_json(full)
    assert len(digest(full)) == 64


@pytest.mark.parametrize("profile", PROFILES)
def test_the_sample_round_trips_with_defaults_written_out(profile: str) -> None:
    spec = load_suite(SAMPLE, profile).run
    full = spec.model_dump(mode="json", by_alias=True)
    assert SuiteSpec.model_validate(full) == spec
    assert full["attacks"]["eot"]["epsilon"] == "8/255"
    assert (
        full["searches"]["rst"]["augmentation"] | {"padding": 4, "flip": True}
        == full["searches"]["rst"]["augmentation"]
    )


@given(st.integers(0, 10_000), st.integers(1, 10_000), st.integers(1, 50))
def test_equal_distances_have_one_text(a: int, b: int, scale: int) -> None:
    a, b = min(a, b), max(a, b)
    text = linf_text(f"{a}/{b}")
    assert linf_text(f" {a * scale} / {b * scale} ") == text
    assert linf_text(text) == text
    assert distance(text) == float(Fraction(a, b))


def test_decimal_text_is_exact() -> None:
    assert linf_text("0.03") == "3/100"
    assert distance(0.5) == 0.5


@pytest.mark.parametrize("value", [0.03, 8, True, None, "8/0", "-1/255", "1.5", "a", "8//255", "", "1e-3", "٣/٤"])
def test_what_is_no_distance(value: object) -> None:
    with pytest.raises(ValueError):
        linf_text(value)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [([0.5, 0.5, 0], "3 probabilities for 2"), ([0.5, 0.4], "sum to 0.9"), ([1.5, -0.5], "greater than or equal to 0")],
)
def test_probabilities_are_a_distribution(probabilities: list[float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        R2sSpec(kind="r2s", search="s", ratios=(0.1, 0.2), probabilities=tuple(probabilities))


def test_units_follow_the_norm() -> None:
    assert PgdSpec(kind="pgd", norm="l2", epsilon=2, step_size=0.1).epsilon == 2.0
    assert PgdSpec(kind="pgd", epsilon="16/510", step_size="2/255").epsilon == "8/255"
    for wrong in (
        {"norm": "l2", "epsilon": "8/255"},
        {"epsilon": 0.5},
        {"step_size": 0.01},
        {"norm": "l2", "epsilon": True},
    ):
        with pytest.raises(ValidationError):
            PgdSpec.model_validate({"kind": "pgd", **wrong})


def test_default_step_sizes_written_out() -> None:
    steps = {kind: InnerAttack(kind=kind).with_step_size().step_size for kind in ("none", "pgd", "fgsm", "fgsm_rs")}
    assert {kind: distance(step or "") * 255 for kind, step in steps.items()} == pytest.approx(
        {"none": 0, "pgd": 2, "fgsm": 8, "fgsm_rs": 10}
    )
    given = InnerAttack(step_size="1/255")
    assert given.with_step_size() is given
    linf = PgdSpec(kind="pgd", epsilon="4/255")
    assert (linf.with_step_size(True).step_size, linf.with_step_size(False).step_size) == ("2/255", "1/255")
    assert PgdSpec(kind="pgd", norm="l2", epsilon=0.5, steps=10).with_step_size(True).step_size == 0.125


def test_specs_are_frozen() -> None:
    suite = load_suite(SAMPLE)
    with pytest.raises(ValidationError):
        suite.run.table.paper = 4  # type: ignore[misc]
