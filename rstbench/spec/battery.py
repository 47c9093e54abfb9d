"""Attacks by the names that tables give them, in their published settings."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rstbench.errors import SpecError
from rstbench.spec.attacks import CleanSpec, CraftedSpec
from rstbench.spec.derived import AttackSpec, DerivedSpec
from rstbench.spec.faults import complaints

_SETTINGS: dict[str, dict[str, Any]] = {
    "none": {"kind": "clean"},
    "fgsm": {"kind": "fgsm"},
    "fgsm_rs": {"kind": "fgsm_rs"},
    "pgd20": {"kind": "pgd", "steps": 20},
    "pgd_l2": {"kind": "pgd", "steps": 20, "norm": "l2"},
    "apgd_ce": {"kind": "apgd", "loss": "ce"},
    "apgd_dlr": {"kind": "apgd", "loss": "dlr"},
    "cw_l2": {"kind": "cw_l2"},
    "cw_inf": {"kind": "cw_inf", "form": "bounded", "variant": "form=bounded"},
    "cw_inf_penalty": {"kind": "cw_inf", "form": "penalty", "report_as": "cw_inf"},
    "autoattack": {"kind": "autoattack"},
    "autoattack_rand": {
        "kind": "autoattack",
        "version": "rand",
        "view": "switch",
        "report_as": "autoattack",
        "variant": "rand_eot20",
    },
    "square": {"kind": "square"},
    "bandits": {"kind": "bandits"},
    "eot_pgd20": {"kind": "pgd", "steps": 20, "view": "eot"},
    "ensemble_pgd20": {"kind": "pgd", "steps": 20, "view": "ensemble"},
    "arc": {"kind": "arc"},
    "hinge": {"kind": "hinge"},
}
NAMES = tuple(_SETTINGS)
"""The names that `named_attack` knows; `pgd20` stands for any number of steps."""

_ONE_NORM = {"fgsm": "linf", "fgsm_rs": "linf", "cw_inf": "linf", "cw_inf_penalty": "linf", "pgd_l2": "l2"}
_PGD = re.compile(r"(eot_|ensemble_|)pgd([1-9][0-9]{0,4})")
_ATTACK: TypeAdapter[CleanSpec | CraftedSpec | DerivedSpec] = TypeAdapter(AttackSpec)

SINGLE = ("none", "fgsm", "pgd20", "apgd_ce", "apgd_dlr", "cw_inf", "square", "autoattack")
"""The battery of a deterministic network under l-infinity, weakest first."""
SWITCHING = ("none", "fgsm", "pgd20", "eot_pgd20", "ensemble_pgd20", "arc", "hinge", "autoattack_rand")
"""The battery of a random switch under l-infinity."""


def battery(norm: str, switching: bool) -> tuple[str, ...]:
    """The default battery: names for `named_attack`, those of one norm left out under another."""
    names = SWITCHING if switching else SINGLE
    # L2's PGD has a name of its own in the paper's tables.
    renamed = [("pgd_l2" if name == "pgd20" and norm == "l2" else name) for name in names]
    return tuple(name for name in renamed if _ONE_NORM.get(name, norm) == norm)


def attack_fields(name: str, norm: str, epsilon: str | float) -> dict[str, Any]:
    """Fields of the attack `name`, as a suite would write them, at `epsilon` in `norm`.

    epsilon: for linf text such as "8/255", for L2 a number. Raises `SpecError` for a name that does not exist, with
    the nearest one, and for an attack of another norm.
    """
    pgd = _PGD.fullmatch(name)
    known = f"{pgd[1]}pgd20" if pgd else name
    if known not in _SETTINGS:
        near = difflib.get_close_matches(name, NAMES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(NAMES)}"
        raise SpecError(f"no attack is called {name!r}{hint}")
    fields = dict(_SETTINGS[known])
    if pgd:
        fields["steps"] = int(pgd[2])
    if fields["kind"] == "clean":
        return fields
    if fields["kind"] == "cw_l2":
        return fields | ({"within_epsilon": epsilon} if norm == "l2" else {})
    own = _ONE_NORM.get(known, norm)
    if own != norm:
        raise SpecError(f"attack {name!r} is of norm {own}, and epsilon {epsilon} of {norm}")
    return fields | {"norm": norm, "epsilon": epsilon}


def named_attack(
    name: str, norm: str = "linf", epsilon: str | float = "8/255", **changes: Any
) -> CleanSpec | CraftedSpec | DerivedSpec:
    """The attack `name` in its published setting at `epsilon` in `norm`, with some fields changed.

    Raises `SpecError` for a name or a field that does not exist.
    """
    return attack_spec({**attack_fields(name, norm, epsilon), **changes}, name)


def attack_spec(fields: Mapping[str, Any], where: str) -> CleanSpec | CraftedSpec | DerivedSpec:
    """The attack that a suite would write as `fields`. Raises `SpecError`, naming `where`."""
    try:
        return _ATTACK.validate_python(dict(fields))
    except ValidationError as error:
        first = complaints(error, AttackSpec, dict(fields))[0]
        raise SpecError(f"attack {where}: {first.render()}") from error


def budget_value(norm: str, text: str | None) -> str | float:
    """Epsilon as a command gives it, by default the norm's usual one. Raises `SpecError` if it is no number."""
    if norm == "linf":
        return text or "8/255"
    try:
        return float(text or 0.5)
    except ValueError:
        raise SpecError(f"an L2 epsilon is a number, e.g. 0.5, not {text!r}") from None
