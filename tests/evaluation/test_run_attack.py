"""Every field of a spec reaches its attack: changed alone, it changes images or queries, or what they cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rstbench.attacks.draws import PerImage
from rstbench.attacks.found import Found
from rstbench.defenses.view import CallableView
from rstbench.errors import SpecError
from rstbench.evaluation import run_attack as module
from rstbench.evaluation.run_attack import run_attack
from rstbench.spec.attacks import BLACK_BOX, NOT_CRAFTED, BanditsSpec, CraftedSpec
from rstbench.spec.battery import named_attack
from rstbench.spec.budgets import written_out
from tests.attacks.networks import images, small_net

NETWORK = small_net()
CLEAN = images(8)
LABELS = NETWORK(CLEAN).argmax(1)


def spec_of(name: str, **changes: Any) -> CraftedSpec:
    norm = changes.pop("norm", "l2" if name in ("pgd_l2", "cw_l2") else "linf")
    epsilon = changes.pop("epsilon", 0.5 if norm == "l2" else "4/255")
    spec = named_attack(name, norm, epsilon, **changes)
    assert isinstance(spec, CraftedSpec)
    return written_out(spec, cifar=False)


def found(spec: CraftedSpec) -> Found:
    draws = PerImage(0, range(len(CLEAN)))
    return run_attack(spec, CallableView(NETWORK), [NETWORK], [1.0], CLEAN, LABELS, draws, 5)


SMALL: dict[str, dict[str, Any]] = {
    "fgsm": {},
    "fgsm_rs": {},
    "pgd20": {"steps": 3},
    "pgd_l2": {"steps": 3},
    "apgd_ce": {"steps": 6},
    "cw_l2": {"iterations": 30},
    "cw_inf": {"steps": 4},
    "cw_inf_penalty": {"steps": 10},
    "square": {"queries": 12},
    "bandits": {"queries": 12},
    "arc": {"steps": 2},
    "hinge": {"steps": 2, "restarts": 2},
}
FUNCTIONS = ("apgd", "arc", "bandits", "cw_inf_bounded", "cw_inf_penalty", "cw_l2", "fgsm", "hinge", "pgd", "square")


@pytest.mark.parametrize("name", SMALL)
def test_every_kind_runs(name: str) -> None:
    made = found(spec_of(name, **SMALL[name]))
    assert made.images.shape == CLEAN.shape and made.images.dtype == torch.float32
    assert (made.queries is not None) == (spec_of(name).kind in BLACK_BOX)


@pytest.mark.parametrize(
    "name, changes",
    [
        ("fgsm", {"epsilon": "2/255"}), ("fgsm", {"step_size": "1/255"}), ("fgsm", {"kind": "fgsm_rs"}),
        ("fgsm_rs", {"step_size": "1/255"}),
        ("pgd20", {"steps": 2}), ("pgd20", {"restarts": 2}), ("pgd20", {"start": "zero"}),
        ("pgd20", {"step_size": "2/255"}), ("pgd20", {"stop": "source_fooled"}), ("pgd20", {"epsilon": "3/255"}),
        ("pgd_l2", {"epsilon": 0.25}), ("pgd_l2", {"step_size": 0.02}),
        ("apgd_ce", {"loss": "dlr"}), ("apgd_ce", {"steps": 3}), ("apgd_ce", {"restarts": 2}),
        ("apgd_ce", {"keep": "best_loss"}), ("apgd_ce", {"norm": "l2", "epsilon": 0.5}),
        ("cw_l2", {"confidence": 1.0}), ("cw_l2", {"binary_search_steps": 2}), ("cw_l2", {"iterations": 10}),
        ("cw_l2", {"initial_const": 3.0}), ("cw_l2", {"lr": 0.03}), ("cw_l2", {"abort_early": False}),
        ("cw_inf", {"steps": 2}), ("cw_inf", {"step_size": "2/255"}), ("cw_inf", {"form": "penalty"}),
        ("cw_inf_penalty", {"steps": 5}), ("cw_inf_penalty", {"initial_const": 3.0}), ("cw_inf_penalty", {"lr": 0.03}),
        ("cw_inf_penalty", {"epsilon": "1/255"}),
        ("square", {"queries": 4}), ("square", {"p_init": 0.2}), ("square", {"norm": "l2", "epsilon": 0.5}),
        ("bandits", {"queries": 6}), ("bandits", {"fd_eta": 2.0}), ("bandits", {"image_lr": 0.001}),
        ("bandits", {"online_lr": 1.0}), ("bandits", {"exploration": 0.1}), ("bandits", {"tile": 2}),
        ("arc", {"steps": 1}), ("arc", {"rho": 0.5}), ("arc", {"rivals": 1}), ("arc", {"epsilon": "1/255"}),
        ("hinge", {"steps": 1}), ("hinge", {"restarts": 1}), ("hinge", {"epsilon": "1/255"}),
        ("hinge", {"engine": {"precision": "bf16"}}),
    ],
)  # fmt: skip
def test_every_field_reaches_its_attack(name: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    for attack in FUNCTIONS:
        monkeypatch.setattr(module, attack, _noting(asked, attack))
    before, after = (found(spec_of(name, **(SMALL[name] | more))) for more in ({}, changes))
    assert before is not after and asked[0] != asked[1]
    (differing,) = [{key for key in asked[0].keys() | asked[1].keys() if asked[0].get(key) != asked[1].get(key)}]
    if "kind" not in changes and "form" not in changes and "norm" not in changes:
        names = {"epsilon": {"threat", "step_size", "tau"}, "engine": {"confirm"}}
        assert all(differing & names.get(field, {field}) for field in changes)


def _noting(asked: list[dict[str, Any]], name: str) -> Any:
    def attack(*arguments: Any, **settings: Any) -> Found:
        asked.append({"attack": name, **{k: v for k, v in settings.items() if k != "draws"}})
        return Found(CLEAN)

    return attack


def test_no_field_is_forgotten() -> None:
    """What a spec says reaches the function that attacks, apart from what is of the view, the batch or the table."""
    elsewhere = NOT_CRAFTED | {"kind", "form", "samples", "batch", "engine", "view", "average", "expectation"}
    elsewhere |= {"smaller_epsilons", "smaller_step_sizes"}  # of the images that it is not asked about
    by_threat = {"norm", "epsilon"}
    for name in SMALL:
        asked: list[dict[str, Any]] = []
        with pytest.MonkeyPatch.context() as patch:
            for attack in FUNCTIONS:
                patch.setattr(module, attack, _noting(asked, attack))
            found(spec_of(name))
        only_of_another_form = {"cw_inf": {"initial_const", "lr"}, "cw_inf_penalty": {"step_size"}}.get(name, set())
        fields = set(type(spec_of(name)).model_fields) - elsewhere - by_threat - only_of_another_form
        assert fields <= asked[0].keys(), name


def test_the_tile_of_bandits_follows_the_size_of_the_images() -> None:
    spec = named_attack("bandits")
    assert isinstance(spec, BanditsSpec)
    for side, given, tile in ((64, None, None), (65, None, 50), (224, None, 50), (224, 20, 20), (32, 4, 4)):
        full = written_out(spec.model_copy(update={"tile": given}), False, side)
        assert isinstance(full, BanditsSpec) and full.tile == tile


def test_autoattack_is_no_batch_by_batch_attack() -> None:
    with pytest.raises(SpecError, match="autoattack does not work batch by batch"):
        found(spec_of("autoattack"))
