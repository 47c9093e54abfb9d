"""Claims of Section 5: fine-tuning, trained networks, stronger perturbations, other attacks."""

from __future__ import annotations

from typing import Any

from rstbench.report.claims.language import (
    Claim,
    Pick,
    Quantity,
    above,
    below,
    between,
    equals,
    less,
    minus,
    share,
    value,
)  # fmt: skip
from rstbench.report.claims.rules import ALMOST_ZERO, COMPARABLE, MARGIN, NOTABLE, SIZE_MARGIN
from rstbench.report.claims.vocabulary import (
    AXIS,
    CIFAR10,
    CIFAR100,
    FOUR,
    LOW,
    RESNET18,
    USUAL,
    WIDE,
    ahead,
    at,
    best,
    counted,
    decent,
    robust,
)  # fmt: skip

_HERE = ((RESNET18, CIFAR10),)
_TUNED, _RETRAINED = "rst_tuned", "rst_retrained"
_NATURAL, _ADVERSARIAL = "rtt_natural", "rtt_adversarial"
_FIGURE2, _FIGURE3 = ("figure2_",), ("figure3_",)
_NOISES = tuple(f"{noise} {magnitude}/255" for noise in ("uniform", "sign") for magnitude in (8, 4, 12, 16))
"""Variants of Figure 4's measure; the first is the epsilon of the search."""


def _gap(network: str, dataset: str, ratio: str) -> Quantity:
    return less(robust(_TUNED, network, dataset, ratio), robust("rst", network, dataset, ratio))


TUNING = (
    Claim(
        "vanilla-comparable-tuned", "5.1",
        "untuned RSTs are comparable in robustness with fine-tuned ones at 5 to 60 % (ResNet18, CIFAR-10)",
        "difference", _FIGURE2,
        tuple(
            below(at(RESNET18, CIFAR10, ratio), _gap(RESNET18, CIFAR10, ratio), COMPARABLE, plain=False)
            for ratio in AXIS[2:11]
        ),
    ),
    Claim(
        "tuned-gap-range", "5.1",
        "at 1 to 20 %, fine-tuning from inherited weights changes robust accuracy by -0.22 to 3.52 points",
        "range", _FIGURE2,
        tuple(
            between(at(network, dataset, ratio), _gap(network, dataset, ratio), -0.22, 3.52, MARGIN)
            for network, dataset in FOUR for ratio in LOW
        ),
    ),
    Claim(
        "inherited-mostly-best", "5.1",
        "at 1 to 20 %, fine-tuned RSTs with inherited weights are mostly the most robust of the three",
        "ordering", _FIGURE2,
        tuple(best(_TUNED, ("rst", _RETRAINED), FOUR, LOW)),
        need="most",
    ),
    Claim(
        "reinitialised-not-better", "5.1",
        "at 5 to 20 %, fine-tuned RSTs with re-initialised weights are at best comparable with untuned RSTs",
        "difference", _FIGURE2,
        tuple(
            below(
                at(network, dataset, ratio),
                less(robust(_RETRAINED, network, dataset, ratio), robust("rst", network, dataset, ratio)),
                COMPARABLE, plain=False,
            )
            for network, dataset in FOUR for ratio in USUAL
        ),
    ),
    Claim(
        "reinitialised-better-at-1", "5.1",
        "at 1 % of WideResNet32, fine-tuned RSTs with re-initialised weights are more robust than untuned RSTs",
        "ordering", _FIGURE2,
        tuple(ahead(_RETRAINED, ("rst",), ((WIDE, CIFAR10), (WIDE, CIFAR100)), ("0.01",))),
    ),
    Claim(
        "better-initialisation", "5.1",
        "fine-tuning from inherited weights is notably more robust than from re-initialised ones, at 1 to 20 %",
        "difference", _FIGURE2,
        tuple(ahead(_TUNED, (_RETRAINED,), FOUR, LOW, bound=NOTABLE, plain=False)),
        need="most",
    ),
)  # fmt: skip


def _distance(defense: str) -> Pick:
    ratio = "1.00" if defense == "random" else ""
    return counted("feature_distance", defense, RESNET18, CIFAR10, ratio, variant=None)


TRAINED = (
    Claim(
        "adversarial-rtt-best", "5.2",
        "adversarial RTTs are more robust than RSTs and natural RTTs at every ratio, on both networks and both CIFARs",
        "ordering", _FIGURE3,
        tuple(ahead(_ADVERSARIAL, ("rst", _NATURAL), FOUR, AXIS)),
    ),
    Claim(
        "natural-rtt-decent", "5.2",
        "some natural RTTs are decently robust (ResNet18, CIFAR-10)",
        "existence", _FIGURE3,
        tuple(
            decent(
                at(RESNET18, CIFAR10, ratio),
                robust(_NATURAL, RESNET18, CIFAR10, ratio), robust("dense_at", RESNET18, CIFAR10),
            )
            for ratio in AXIS
        ),
        need="any",
    ),
    Claim(
        "natural-dense-zero", "5.2",
        "the naturally trained dense network has almost no robust accuracy (ResNet18, CIFAR-10)",
        "number", ("table7_",),
        (
            below(
                "dense, naturally trained",
                value(robust("dense_nat", RESNET18, CIFAR10, attack_source="dense_nat")),
                ALMOST_ZERO, plain=False,
            ),
        ),
    ),
    Claim(
        "rst-over-natural-rtt", "5.2",
        "RSTs are more robust than natural RTTs at every ratio, on both networks and both CIFARs",
        "ordering", _FIGURE3,
        tuple(ahead("rst", (_NATURAL,), FOUR, AXIS)),
    ),
    Claim(
        "rst-over-natural-rtt-natural", "5.2",
        "RSTs have more natural accuracy than natural RTTs at every ratio, on both networks and both CIFARs",
        "ordering", ("figure11_",),
        tuple(ahead("rst", (_NATURAL,), FOUR, AXIS, "natural")),
    ),
    Claim(
        "feature-distance", "5.2",
        "noise moves the features of the naturally trained network farthest, those of the adversarially trained least "
        "(ResNet18, CIFAR-10)",
        "ordering", ("figure4_",),
        tuple(
            above(f"{one} less {other}", less(_distance(one), _distance(other)))
            for one, other in (("dense_nat", "random"), ("random", "dense_at"))
        ),
        readings=_NOISES,
        note="the paper defines neither the distance nor the noise; ours are those of the suite",
    ),
    Claim(
        "rtt-over-tuned", "5.2",
        "adversarial RTTs are more robust than RSTs and than fine-tuned RSTs with inherited weights (ResNet18, "
        "CIFAR-10)",
        "ordering", ("figure5_",),
        tuple(ahead(_ADVERSARIAL, ("rst", _TUNED), _HERE, AXIS)),
    ),
)  # fmt: skip


def _over_natural(eps: str, ratio: str) -> Quantity:
    names = ("rst", _NATURAL) if eps == "8" else (f"rst_{eps}", f"{_NATURAL}_{eps}")
    return less(*(robust(name, RESNET18, CIFAR10, ratio, eps=eps) for name in names))


def _l2(defense: str, network: str, eps: str, ratio: str = "") -> Quantity:
    return value(robust(defense, network, CIFAR10, ratio, attack="pgd_l2", eps=eps))


def _wide5(attack: str, eps: str) -> Quantity:
    columns: dict[str, Any] = {"attack": attack, "eps": eps}
    return less(robust("rst", WIDE, CIFAR10, "0.05", **columns), robust("dense_at", RESNET18, CIFAR10, **columns))


STRONGER = (
    Claim(
        "exist-at-12-and-16", "5.3",
        "RSTs are found for epsilon 12 and 16 too: at 20 % both are decent (ResNet18, CIFAR-10)",
        "existence", ("figure6_",),
        tuple(
            decent(
                f"epsilon {eps}",
                robust(f"rst_{eps}", RESNET18, CIFAR10, "0.20", eps=eps),
                robust(f"dense_at_{eps}", RESNET18, CIFAR10, eps=eps),
            )
            for eps in ("12", "16")
        ),
    ),
    Claim(
        "gap-grows-with-epsilon", "5.3",
        "RSTs lead natural RTTs by more at epsilon 12 and 16 than at 8 (ResNet18, CIFAR-10)",
        "difference", ("figure6_", "figure3_"),
        tuple(
            above(
                f"epsilon {eps} less 8, {at(RESNET18, CIFAR10, ratio)}",
                minus(_over_natural(eps, ratio), _over_natural("8", ratio)),
            )
            for eps in ("12", "16") for ratio in AXIS
        ),
        need="most",
    ),
    Claim(
        "l2-smaller-drop", "5.4",
        "from L2 epsilon 0.5 to 2.0, dense networks lose more robust accuracy than RSTs of 5 to 20 % (CIFAR-10)",
        "difference", ("table2_",),
        tuple(
            above(
                f"dense less RST, {at(network, CIFAR10, ratio)}",
                minus(
                    minus(_l2("dense_at", network, "0.5"), _l2("dense_at", network, "2.0")),
                    minus(_l2("rst", network, "0.5", ratio), _l2("rst", network, "2.0", ratio)),
                ),
            )
            for network in (RESNET18, WIDE) for ratio in USUAL
        ),
    ),
    Claim(
        "l2-outperform", "5.4",
        "at L2 epsilon 1.71 and 2.0, RSTs of 5 to 20 % lead dense networks notably (CIFAR-10)",
        "difference", ("table2_",),
        tuple(
            above(
                f"epsilon {eps}, {at(network, CIFAR10, ratio)}",
                minus(_l2("rst", network, eps, ratio), _l2("dense_at", network, eps)), NOTABLE, plain=False,
            )
            for network in (RESNET18, WIDE) for eps in ("1.71", "2.0") for ratio in USUAL
        ),
    ),
    Claim(
        "rst5-wide-autoattack", "5.5",
        "under AutoAttack, the RST of 5 % of WideResNet32 gains 2.51 points over the dense ResNet18 (CIFAR-10)",
        "number", ("table6_",),
        (equals("epsilon 8", _wide5("autoattack", "8"), 2.51, MARGIN),),
    ),
    Claim(
        "rst5-wide-cw-inf", "5.5",
        "under CW-Inf, the RST of 5 % of WideResNet32 gains 2.80 points over the dense ResNet18 (CIFAR-10)",
        "number", ("table6_",),
        tuple(equals(f"epsilon {eps}", _wide5("cw_inf", eps), 2.80, MARGIN) for eps in ("8", "12")),
        need="any",
        note="the text does not say which epsilon; either would do",
    ),
    Claim(
        "rst5-wide-size", "5.5",
        "the RST of 5 % of WideResNet32 has 80 % fewer parameters than the dense ResNet18",
        "ratio", ("sizes",),
        (
            equals(
                "RST in percent of dense",
                share(
                    counted("params_m", "rst", WIDE, CIFAR10, "0.05"),
                    counted("params_m", "dense_at", RESNET18, CIFAR10),
                ),
                20.0, SIZE_MARGIN,
            ),
        ),
    ),
)  # fmt: skip
