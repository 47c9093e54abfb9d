"""Numerics of crafting: defaults that depend on the networks, and what has no meaning for a view."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from rstbench.spec.attack_fields import AttackEngine
from rstbench.spec.attacks import BLACK_BOX, ArcSpec, BanditsSpec, CraftedSpec, PgdSpec, SquareSpec
from rstbench.spec.budgets import written_out


def engine_of(attack: CraftedSpec, **options: Any) -> AttackEngine:
    return written_out(attack, cifar=True, **options).engine


def pgd(**fields: Any) -> PgdSpec:
    return PgdSpec(**{"kind": "pgd", **fields})


def test_the_layout_follows_the_networks() -> None:
    assert engine_of(pgd()).layout is None
    assert engine_of(pgd(), ours=True).layout == "channels_last"
    assert engine_of(pgd(), ours=False).layout == "contiguous"
    chosen = pgd(engine={"layout": "contiguous"})
    assert engine_of(chosen, ours=True).layout == "contiguous"


def test_only_some_views_ask_members_together() -> None:
    together = {"members": "together"}
    assert engine_of(pgd(view="eot", engine=together)).members == "together"
    assert engine_of(pgd(view="ensemble", engine=together)).members == "together"
    # Equal work has one key.
    assert written_out(pgd(engine=together), True) == written_out(pgd(), True)
    assert written_out(pgd(view="switch", engine=together), True) == written_out(pgd(view="switch"), True)
    assert engine_of(ArcSpec(kind="arc", engine=AttackEngine(members="together"))).members == "one_by_one"


@pytest.mark.parametrize("kind", BLACK_BOX)
def test_precision_is_that_of_gradients(kind: str) -> None:
    attacks = {"square": SquareSpec, "bandits": BanditsSpec}
    exact, low = (attacks[kind](kind=kind, engine={"precision": each}) for each in ("fp32", "bf16"))
    assert written_out(exact, True) == written_out(low, True)
    assert engine_of(pgd(engine={"precision": "bf16"})).precision == "bf16"


def test_recorded_graphs_are_for_training() -> None:
    assert pgd(engine={"compiler": "inductor"}).engine.compiler == "inductor"
    with pytest.raises(ValidationError, match="compiler"):
        pgd(engine={"compiler": "cuda_graphs"})
