"""Suites that are made, not written: one model under a battery, and one attack over its steps, restarts or epsilon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pydantic import ValidationError

from rstbench.errors import SpecError
from rstbench.spec.attack_fields import Bounded
from rstbench.spec.attacks import CleanSpec, CraftedSpec
from rstbench.spec.base import linf_text
from rstbench.spec.battery import attack_fields, attack_spec
from rstbench.spec.budgets import budget, judged_within, reported_budget, written_out
from rstbench.spec.defenses import EnsembleSpec, SwitchingSpec
from rstbench.spec.derived import DerivedSpec
from rstbench.spec.models import DatasetSpec
from rstbench.spec.suite import Cell, Suite, SuiteSpec

POINTWISE = "pointwise"
CLEAN = "none"

STEPS = (1, 2, 5, 10, 20, 50, 100)
RESTARTS = (1, 2, 5, 10)
AXES = ("steps", "restarts", "epsilon")
CURVES = "-curves"
"""What the name of a suite of curves ends in."""


def model_suite(
    name: str,
    model: Mapping[str, Any],
    dataset: DatasetSpec,
    attacks: Sequence[str],
    norm: str,
    epsilon: str | float,
    samples: int | None,
    batch: int,
) -> Suite:
    """A suite that attacks one model: a defense of kind `model`, as its fields, with attacks by name.

    samples: test images attacked; None: all. Raises `SpecError` for what a suite could not say either.
    """
    size = {"samples": samples, "batch": batch}
    named = {key: {**attack_fields(key, norm, epsilon), **size} for key in dict.fromkeys((CLEAN, *attacks))}
    specs = {key: attack_spec(fields, key) for key, fields in named.items()}
    budgets = {key: reported_budget(spec) for key, spec in specs.items() if isinstance(spec, CraftedSpec)}
    wanted = reported_budget(_crafted(attack_spec(attack_fields("pgd20", norm, epsilon), "pgd20")))
    bounded = {
        key for key, spec in specs.items() if isinstance(spec, CraftedSpec) and (budget(spec) or judged_within(spec))
    }
    over = [key for key, found in budgets.items() if found == wanted and key in bounded]
    derived = {POINTWISE: {"kind": "pointwise", "over": over}} if len(over) > 1 else {}
    label = dataset.name or dataset.source
    fields = {
        "schema": 1,
        "name": f"eval-{name}-{label}-{norm}-{str(epsilon).replace('/', '_')}"[:80],
        "title": f"{model['source']}:{model['name']} on {label}",
        "seeds": [0],
        "matrix": {"network": ["external"], "dataset": [label]},
        "datasets": {label: dataset.model_dump()},
        "networks": {"external": {"family": "external"}},
        "defenses": {name: {"kind": "model", **model}},
        "attacks": {**named, **derived},
        "table": {"layout": "list", "cells": [{"defense": name, "attack": key} for key in (*named, *derived)]},
    }
    try:
        suite = SuiteSpec.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        field = next((str(step) for step in reversed(first["loc"]) if isinstance(step, str) and step != "model"), "")
        raise SpecError(f"{field}: {message}" if field else message) from error
    return Suite(profile="paper", paper=suite, run=suite)


@dataclass(frozen=True)
class Series:
    """Attacks that differ in one setting. points: value -> key in `attacks`; the first is the smallest value.

    reused: whether each attack keeps what fools the network at the points before (`spec.reuse`).
    """

    axis: str
    points: Mapping[float, str]
    reused: bool = False


def series_suite(
    suite: Suite, cell: Cell, axes: Sequence[str], largest_l2: float, reuse: bool = False
) -> tuple[Suite, tuple[Series, ...]]:
    """The suite with one cell only, its attack repeated over steps, restarts and epsilon (those of `axes` it has).

    largest_l2: the distance within which every image lies, where an L2 curve ends; an l-infinity curve ends at 1. Both
    sides of the suite get the same attacks, made from the one the profile runs. Step sizes are the attack's own, but
    at least 2.5 epsilon / steps along epsilon, so that every image of the ball can be reached.
    reuse: along epsilon, attack only what stands at the smaller ones; without it they are attacked independently,
    whatever the attack's own `smaller_epsilons` say. Raises `SpecError` for a defense or an attack that does not exist,
    makes no images, has none of the axes, or has nothing to reuse.
    """
    run = suite.run
    for room, key in (
        ("defenses", cell.defense),
        ("defenses", cell.source),
        ("attacks", cell.attack),
        ("datasets", cell.dataset),
        ("networks", cell.network),
    ):
        if key is not None and key not in getattr(run, room):
            known = ", ".join(getattr(run, room))
            raise SpecError(f"suite {run.name} has no {key!r} in `{room}`; there are {known}")
    if cell.attack is None:
        raise SpecError(f"cell with measure {cell.measure!r}: a curve is over steps, restarts or epsilon of an attack")
    attack = run.attacks[cell.attack]
    if isinstance(attack, CleanSpec | DerivedSpec):
        raise SpecError(f"attack {cell.attack!r} makes no images; a curve is over steps, restarts or epsilon of one")
    view = getattr(attack, "view", "member")
    source = run.defenses[cell.source or cell.defense]
    if view != "member" and not isinstance(source, SwitchingSpec | EnsembleSpec):
        raise SpecError(
            f"attack {cell.attack!r}: the view {view} is over the members of a switching defense, and "
            f"{cell.source or cell.defense!r} is none"
        )
    data = run.datasets[cell.dataset or run.matrix.dataset[0]]
    attack = written_out(attack, cifar=data.source in ("cifar10", "cifar100"))
    made: dict[str, CraftedSpec | CleanSpec] = {
        CLEAN: CleanSpec(kind="clean", samples=attack.samples, batch=attack.batch)
    }
    found: list[Series] = []
    for axis in axes:
        points: dict[float, str] = {0.0: CLEAN} if axis == "epsilon" else {}
        varied = _varied(attack, axis, largest_l2)
        if reuse and axis == "epsilon":
            varied = _each_after_the_smaller(varied, cell.attack)
        for value, spec in varied:
            key = f"{axis}-{value:.6g}"
            changed = {"report_as": attack.report_as or cell.attack, "variant": f"{axis}={value:.6g}"}
            made[key] = spec.model_copy(update={**changed, "headline": False})
            points[value] = key
        if len(points) > 1:
            found.append(Series(axis, points, reuse and axis == "epsilon"))
    if not found:
        raise SpecError(f"attack {cell.attack!r} of kind {attack.kind} has no {' and no '.join(axes)} to vary")
    if reuse and not any(each.reused for each in found):
        raise SpecError(f"attack {cell.attack!r}: images are reused along epsilon, and no curve is over epsilon")
    # Without an attack there is nothing to transfer.
    cells = tuple(
        cell.model_copy(update={"attack": key} | ({"source": None, "source_seed": "same"} if key == CLEAN else {}))
        for key in made
    )

    def side(spec: SuiteSpec) -> SuiteSpec:
        table = spec.table.model_copy(update={"cells": cells, "layout": "list", "paper": None})
        return spec.model_copy(update={"name": f"{spec.name}{CURVES}", "attacks": made, "table": table})

    return suite.model_copy(update={"paper": side(suite.paper), "run": side(suite.run)}), tuple(found)


def _varied(attack: CraftedSpec, axis: str, largest_l2: float) -> list[tuple[float, CraftedSpec]]:
    """(value, attack) along an axis, in order; empty if the attack has no such setting.

    attack: written out, so that its step size does not follow from the number of steps.
    """
    if axis in ("steps", "restarts"):
        values = STEPS if axis == "steps" else RESTARTS
        if axis not in type(attack).model_fields:
            return []
        return [(float(value), _again(attack, {axis: value})) for value in values]
    given = getattr(attack, "epsilon", None)
    if given is None:
        return []
    found: list[tuple[float, CraftedSpec]] = []
    if isinstance(given, str):
        base = Fraction(given) or Fraction(8, 255)
        exact = [base * Fraction(2) ** power for power in range(-2, 12) if base * Fraction(2) ** power < 1]
        for fraction in [*exact, Fraction(1)]:
            found.append((float(fraction), _at(attack, fraction)))
        return found
    smaller = [given * 2.0**power for power in range(-2, 16) if given * 2.0**power < largest_l2]
    return [(value, _at(attack, value)) for value in [*smaller, largest_l2]]


def _each_after_the_smaller(varied: Sequence[tuple[float, CraftedSpec]], name: str) -> list[tuple[float, CraftedSpec]]:
    """The attacks, by rising epsilon, each of them made after all before it."""
    found: list[tuple[float, CraftedSpec]] = []
    for place, (value, spec) in enumerate(varied):
        if not isinstance(spec, Bounded) or budget(spec) is None:
            raise SpecError(f"attack {name!r} of kind {spec.kind}: what it finds within one epsilon is not reused")
        before = [each.model_dump() for _, each in varied[:place]]
        changes: dict[str, Any] = {"smaller_epsilons": [fields["epsilon"] for fields in before]}
        steps = [fields.get("step_size") for fields in before]
        if before and None not in steps:
            changes["smaller_step_sizes"] = steps
        found.append((value, _again(spec, changes)))
    return found


def _at(attack: CraftedSpec, epsilon: Fraction | float) -> CraftedSpec:
    alone: dict[str, Any] = {"smaller_epsilons": ()} if isinstance(attack, Bounded) else {}
    if "smaller_step_sizes" in type(attack).model_fields:
        alone["smaller_step_sizes"] = None
    if isinstance(epsilon, float):
        changes: dict[str, Any] = {"epsilon": epsilon, **alone}
        own = getattr(attack, "step_size", None)
        if own is not None:
            changes["step_size"] = max(own, 2.5 * epsilon / getattr(attack, "steps", 1))
        return _again(attack, changes)
    changes = {"epsilon": linf_text(str(epsilon)), **alone}
    own = getattr(attack, "step_size", None)
    if attack.kind in ("fgsm", "fgsm_rs"):
        changes["step_size"] = None  # a multiple of epsilon by definition
    elif own is not None:
        changes["step_size"] = linf_text(str(min(max(Fraction(own), epsilon * Fraction(5, 2) / _steps(attack)), 1)))
    return _again(attack, changes)


def _steps(attack: CraftedSpec) -> int:
    return int(getattr(attack, "steps", 1))


def _again(attack: CraftedSpec, changes: Mapping[str, Any]) -> CraftedSpec:
    # Through validation, so that units and ranges hold for what is made here, too.
    fields = {**attack.model_dump(), **changes}
    return _crafted(attack_spec(fields, attack.kind))


def _crafted(spec: CleanSpec | CraftedSpec | DerivedSpec) -> CraftedSpec:
    if isinstance(spec, CleanSpec | DerivedSpec):
        raise SpecError(f"an attack of kind {spec.kind} makes no images")
    return spec
