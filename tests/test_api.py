"""`rstbench.evaluate`: any module, a battery, a frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rstbench
from rstbench.api import COLUMNS, POINTWISE
from rstbench.errors import ModelError, RstbenchError, RunError, SpecError
from rstbench.spec.attacks import ApgdSpec, PgdSpec
from rstbench.spec.battery import SINGLE, SWITCHING
from rstbench.spec.flags import RELIABILITY
from tests.attacks.networks import images, linear, small_net


def net(seed: int = 1, classes: int = 5) -> nn.Module:
    """Linear classifiers that mostly agree."""
    common = torch.randn(9, 192, generator=torch.Generator().manual_seed(0))
    weight = (common + 0.5 * torch.randn(9, 192, generator=torch.Generator().manual_seed(seed)))[:classes]
    return linear(weight, -weight.sum(1) / 2)


IMAGES = images(24)
LABELS = net()(IMAGES).argmax(1)
LABELS[:3] = (LABELS[:3] + 1) % 5


def evaluate(
    model: Any = None, attacks: Any = ("pgd3",), images: Any = IMAGES, labels: Any = LABELS, **more: Any
) -> Any:
    """`rstbench.evaluate` on a linear network."""
    return rstbench.evaluate(net() if model is None else model, images, labels, attacks, **more)


def row(frame: Any, attack: str) -> dict[str, Any]:
    (found,) = frame[frame.attack == attack].to_dict("records")
    return found  # type: ignore[no-any-return]


def flags(frame: Any, attack: str) -> set[str]:
    return set(row(frame, attack)["flags"].split())


# ---- what comes back -------------------------------------------------------------------------------------------------


def test_five_lines() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).eval()
    images = torch.rand(16, 3, 8, 8)
    labels = model(images).argmax(1)
    frame = rstbench.evaluate(model, images, labels, attacks=["fgsm", "pgd20", "square"], epsilon="4/255")
    assert tuple(frame.columns) == COLUMNS
    assert list(frame.attack) == ["none", "fgsm", "pgd20", "square", "pointwise"]
    assert list(frame.norm) == ["", *["linf"] * 4] and list(frame.eps) == ["", *["4"] * 4]
    assert (frame.n == 16).all() and frame.accuracy[0] == 100
    assert (frame.ci_low <= frame.accuracy).all() and (frame.accuracy <= frame.ci_high).all()
    assert frame.accuracy.iloc[-1] <= frame.accuracy.min() < 100
    assert all(parameter.grad is None for parameter in model.parameters())


def test_columns() -> None:
    frame = evaluate(attacks=["fgsm", "square", "cw_l2"], epsilon="2/255")
    fgsm, square, cw = (row(frame, name) for name in ("fgsm", "square", "cw_l2"))
    assert fgsm["linf"] == pytest.approx(2, abs=1e-3) and 0 < fgsm["l2"] < 2 / 255 * 14
    assert (fgsm["forward"], fgsm["gradient"]) == (0, 1) and np.isnan(fgsm["queries"])
    assert square["gradient"] == 0 and 1 <= square["queries"] <= 5000 and square["forward"] >= 2
    assert (cw["norm"], cw["eps"]) == ("l2", "")
    assert (frame.seconds[1:4] > 0).all()
    assert set(" ".join(frame["flags"]).split()) <= RELIABILITY.keys()
    # What nothing bounds is no part of the worst case.
    assert row(frame, POINTWISE)["accuracy"] <= min(fgsm["accuracy"], square["accuracy"])


def test_by_hand() -> None:
    frame = evaluate(attacks=["pgd5", "fgsm"], epsilon="8/255", batch=5)
    assert row(frame, "none")["accuracy"] == pytest.approx(100 * 21 / 24)
    assert frame.attack.tolist() == ["none", "pgd5", "fgsm", POINTWISE]
    low, high = row(frame, "none")["ci_low"], row(frame, "none")["ci_high"]
    p, n, z = 21 / 24, 24, 1.959964  # Wilson
    middle, half = (p + z**2 / 2 / n), z * np.sqrt(p * (1 - p) / n + z**2 / 4 / n**2)
    assert (low, high) == pytest.approx(
        (100 * (middle - half) / (1 + z**2 / n), 100 * (middle + half) / (1 + z**2 / n))
    )


def test_the_same_seed_gives_the_same_frame() -> None:
    attacks = ["fgsm_rs", "pgd4", "square", {"kind": "bandits", "queries": 20}]
    first, again = (evaluate(attacks=attacks, seed=5).drop(columns="seconds") for _ in range(2))
    assert first.equals(again)
    assert not evaluate(attacks=attacks, seed=6).drop(columns="seconds").equals(first)


def test_no_budget_leaves_clean_accuracy() -> None:
    attacks = ["fgsm", "fgsm_rs", "pgd3", {"kind": "apgd", "steps": 2, "epsilon": "0"}, "cw_inf",
               {"kind": "square", "queries": 4, "epsilon": "0"},
               {"kind": "arc", "steps": 2, "epsilon": "0"}]  # fmt: skip
    frame = evaluate(attacks=attacks, epsilon="0")
    assert frame.accuracy.tolist() == [100 * 21 / 24] * 9
    assert (frame.linf[1:8] == 0).all()


@pytest.mark.parametrize("kind", ["numpy", "uint8", "int32 labels"])
def test_forms_of_inputs(kind: str) -> None:
    pixels = (IMAGES * 255).round()
    plain = evaluate(images=pixels / 255, labels=LABELS)
    images: Any = {"numpy": (pixels / 255).numpy(), "uint8": pixels.byte()}.get(kind, pixels / 255)
    labels: Any = LABELS.numpy() if kind == "numpy" else LABELS.int() if kind == "int32 labels" else LABELS
    assert evaluate(images=images, labels=labels).drop(columns="seconds").equals(plain.drop(columns="seconds"))


def test_names_specs_and_fields() -> None:
    spec = PgdSpec(kind="pgd", steps=3, epsilon="8/255", batch=256)
    frame = evaluate(
        attacks=["pgd3", spec, {"kind": "pgd", "steps": 3}, {"kind": "pgd", "steps": 1, "report_as": "one"}]
    )
    assert frame.attack.tolist() == ["none", "pgd3", "pgd", "one", POINTWISE]  # what is equal is run once
    assert row(frame, "pgd3")["accuracy"] == row(frame, "pgd")["accuracy"]
    two = evaluate(attacks=[{"kind": "pgd", "steps": 1}, {"kind": "pgd", "steps": 2}])
    assert len(set(two.attack)) == 4
    frame = evaluate(attacks=[ApgdSpec(kind="apgd", steps=2, norm="l2", epsilon=0.5)])
    assert (row(frame, "apgd")["norm"], row(frame, "apgd")["eps"]) == ("l2", "0.5")
    assert frame.attack.tolist() == ["none", "apgd"]


@pytest.mark.parametrize("norm, epsilon, switching", [("linf", "2/255", False), ("linf", "2/255", True)])
def test_the_whole_battery_is_the_default(norm: str, epsilon: str, switching: bool, monkeypatch: Any) -> None:
    from rstbench import api

    asked: list[str] = []
    monkeypatch.setattr(api.Evaluation, "attack", lambda self, name, spec: asked.append(name))
    monkeypatch.setattr(api.Evaluation, "frame", lambda self: None)
    evaluate([net(seed=1), net(seed=2)] if switching else None, None, norm=norm, epsilon=epsilon)
    assert tuple(asked) == (SWITCHING if switching else SINGLE)


def test_progress_is_told() -> None:
    told = []
    evaluate(attacks=["fgsm", "pgd3"], batch=10, progress=lambda *arguments: told.append(arguments))
    assert told == [(name, done, 24) for name in ("fgsm", "pgd3") for done in (10, 20, 24)]


def test_minimum_norm_within_epsilon() -> None:
    attacks = [{"kind": "cw_l2", "within_epsilon": 1e-4, "report_as": "near"}, {"kind": "cw_l2", "report_as": "far"}]
    attacks = [{"iterations": 40, "initial_const": 10.0, "lr": 0.05, **each} for each in attacks]
    frame = evaluate(attacks=attacks, norm="l2", epsilon=1e-4)
    assert row(frame, "near")["accuracy"] == row(frame, "none")["accuracy"] > row(frame, "far")["accuracy"]
    assert row(frame, "near")["l2"] == row(frame, "far")["l2"]  # distances are those of the images that were found


# ---- several members -------------------------------------------------------------------------------------------------


def test_a_switch_of_two() -> None:
    members = [net(seed=1), net(seed=2)]
    right = torch.stack([member(IMAGES).argmax(1) == LABELS for member in members]).double()
    for probabilities in (None, [0.25, 0.75]):
        weights = torch.tensor(probabilities or [0.5, 0.5], dtype=torch.float64)
        frame = evaluate(members, ["pgd3", "eot_pgd3", "ensemble_pgd3", "arc"], probabilities=probabilities)
        assert row(frame, "none")["accuracy"] == pytest.approx(100 * float(weights @ right.mean(1)))
        assert row(frame, POINTWISE)["accuracy"] <= frame.accuracy.min() + 1e-9
        assert row(frame, "eot_pgd3")["gradient"] == 2 * 3
        assert not any("order_violated" in each or "above" in each for each in frame["flags"])
    only = evaluate(members, ["eot_pgd3"], probabilities=[1.0, 0.0])
    assert row(only, "eot_pgd3")["accuracy"] == row(evaluate(attacks=["pgd3"]), "pgd3")["accuracy"]


# ---- flags -----------------------------------------------------------------------------------------------------------


class Wrapped(nn.Module):
    def __init__(self, change: Any) -> None:
        super().__init__()
        self.network, self.change = net(), change

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.change(self.network(images))
        return found


def test_a_model_in_training_mode_is_put_right() -> None:
    model = net().train()
    frame = evaluate(model)
    assert not model.training and all("training_mode" in flags(frame, name) for name in frame.attack)
    assert frame.accuracy.tolist() == evaluate().accuracy.tolist()


def test_probabilities_are_flagged() -> None:
    frame = evaluate(Wrapped(lambda logits: logits.softmax(1)), ["fgsm", "pgd3"])
    assert "softmax_output" in flags(frame, "fgsm") & flags(frame, "pgd3")
    assert not any(evaluate(attacks=["fgsm"])["flags"])


def test_an_answer_that_is_no_number_ends_it() -> None:
    model = small_net()
    with torch.no_grad():
        model[3].weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(RunError, match=r"NaN.*images 0 to 23.*layer '3' \(Conv2d\), whose weight is not finite"):
        evaluate(model)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"images": IMAGES[0]}, r"images are \(N, C, H, W\) with at least one image, not \(3, 8, 8\)"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "at least one image"),
        ({"images": IMAGES.double()}, "float32 in .* not torch.float64"),
        ({"images": IMAGES.int()}, "float32 in .* not torch.int32"),
        ({"images": (IMAGES - 0.5) / 0.25}, "normalisation belongs into the model"),
        ({"images": IMAGES * 255}, r"images lie in \[0, 1\]"),
        ({"images": IMAGES * torch.nan}, r"images lie in \[0, 1\]"),
        ({"labels": LABELS[:5]}, r"one for each of 24 images, not torch.int64 \(5,\)"),
        ({"labels": LABELS.float()}, "labels are integers, .* not torch.float32"),
        ({"labels": nn.functional.one_hot(LABELS)}, "labels are integers"),
        ({"labels": LABELS > 1}, "labels are integers, .* not torch.bool"),
        ({"labels": LABELS - 1}, "labels are classes from 0 on, not -1"),
        ({"attacks": ["pgd"]}, "no attack is called 'pgd'; did you mean"),
        ({"attacks": "pgd20"}, r"attacks is a list of names, e.g. \['pgd20'\]"),
        ({"attacks": [{"kind": "pgd", "stpes": 3}]}, "attack pgd: stpes"),
        ({"attacks": [{"steps": 3}]}, "attack .*steps"),
        ({"attacks": [{"kind": "worst_source", "of": "pgd3"}]}, "worst_source"),
        ({"norm": "l2"}, "epsilon"),
        ({"norm": "l2", "epsilon": 0.5, "attacks": ["fgsm"]}, "attack 'fgsm' is of norm linf"),
        ({"norm": "l1"}, "norm"),
        ({"epsilon": 8}, "epsilon"),
        ({"model": []}, "no model to evaluate"),
        ({"probabilities": [0.5, 0.5]}, "probabilities are 1 numbers"),
    ],
)
def test_inputs_that_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        evaluate(**changes)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "model, words",
    [
        (lambda images: images, "the model is a function; a torch.nn.Module is expected"),
        (None, "a torch.nn.Module is expected"),
        (nn.Linear(3, 5), "Linear: answers images|fails on float32 images"),
        (net(classes=3), "answers with 3 classes, the labels need at least 5"),
        (small_net(channels=1), "fails on float32 images 2 x 3 x 8 x 8"),
        (Wrapped(lambda logits: logits.argmax(1)), "is expected|predicted classes"),
        (Wrapped(lambda logits: (logits,)), "answers with a tuple"),
        (net().double(), r"model.float\(\) makes them float32"),
        (nn.Linear(192, 5, device="meta"), "parameters without values"),
        ([net(), "resnet"], "the model is a str"),
    ],
)
def test_models_that_are_refused(model: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        rstbench.evaluate(model, IMAGES, LABELS, ["fgsm"])


def test_members_share_their_classes() -> None:
    with pytest.raises(RstbenchError, match=r"tell apart \[5, 6\] classes"):
        evaluate([net(), net(classes=6)])
    assert len(evaluate([net(classes=7), net(seed=2, classes=7)], ["eot_pgd1"])) == 2
