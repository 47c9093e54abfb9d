"""Claims of the appendices."""

from __future__ import annotations

from typing import Any

from rstbench.report.claims.language import Claim, Quantity, above, between, equals, less
from rstbench.report.claims.rules import COMPARABLE, MARGIN, NOTABLE
from rstbench.report.claims.section6 import switch, transfer
from rstbench.report.claims.vocabulary import (
    AXIS,
    CIFAR10,
    CIFAR100,
    FOUR,
    LARGE,
    LOW,
    NEVER,
    OTHER_INITS,
    RESNET18,
    RTT_SEVEN,
    SEVEN,
    SIX,
    SMALL,
    SVHN,
    WIDE,
    ahead,
    at,
    best,
    natural,
    robust,
)  # fmt: skip

_TABLE7_RATIOS = ("0.03", "0.05", "0.07", "0.10", "0.15", "0.20", "0.40", "0.60")
_RST20 = ("rst", RESNET18, CIFAR10, "0.20")
_BOTH = ((RESNET18, CIFAR10), (RESNET18, CIFAR100))
_BEST_SETS = (
    (RESNET18, CIFAR10, SEVEN, 13.83), (WIDE, CIFAR10, SEVEN, 15.59),
    (RESNET18, CIFAR100, LARGE, 13.62), (WIDE, CIFAR100, SEVEN, 13.70),
)  # fmt: skip


def _wide5(attack: str, eps: str, dense: str) -> Quantity:
    columns: dict[str, Any] = {"attack": attack, "eps": eps}
    return less(robust("rst", WIDE, CIFAR10, "0.05", **columns), robust("dense_at", dense, CIFAR10, **columns))


def _transferred(ratio: str, source: str) -> Quantity:
    """A ticket under transferred images less the same ticket under its own."""
    return less(
        robust("rst", RESNET18, CIFAR10, ratio, attack_source=source, variant=None),
        robust("rst", RESNET18, CIFAR10, ratio, variant=None),
    )


ATTACKS = (
    Claim(
        "attack-members-similar", "B",
        "the robust accuracy of R2S is similar whichever member makes the images (ResNet18, CIFAR-10)",
        "difference", ("table3_",),
        tuple(
            between(
                f"images of {ratio} less the mean",
                less(switch(RESNET18, CIFAR10, part=f"source {ratio}"), switch(RESNET18, CIFAR10)),
                -COMPARABLE, COMPARABLE,
            )
            for ratio in SIX.split()
        ),
        readings=("", NEVER),
    ),
    Claim(
        "rst5-wide-autoattack-drop", "C",
        "under AutoAttack, the RST of 5 % of WideResNet32 loses 0.76 (epsilon 8) and 0.21 (12) points against the "
        "dense WideResNet32",
        "number", ("table6_",),
        tuple(
            equals(f"epsilon {eps}", _wide5("autoattack", eps, WIDE), -loss, MARGIN)
            for eps, loss in (("8", 0.76), ("12", 0.21))
        ),
    ),
    Claim(
        "rst5-wide-autoattack-gain", "C",
        "under AutoAttack, the RST of 5 % of WideResNet32 gains 2.51 (epsilon 8) and 3.63 (12) points over the dense "
        "ResNet18",
        "number", ("table6_",),
        tuple(
            equals(f"epsilon {eps}", _wide5("autoattack", eps, RESNET18), gain, MARGIN)
            for eps, gain in (("8", 2.51), ("12", 3.63))
        ),
    ),
)  # fmt: skip

NATURAL = (
    Claim(
        "signed-constant-best-natural", "D",
        "signed Kaiming constant has the best natural accuracy at every ratio, on both CIFARs (ResNet18)",
        "ordering", ("figure9_",),
        tuple(ahead("rst", OTHER_INITS, _BOTH, AXIS, "natural")),
    ),
    Claim(
        "tuned-natural-comparable", "D",
        "untuned RSTs mostly have natural accuracy comparable with fine-tuned RSTs",
        "difference", ("figure10_",),
        tuple(ahead("rst", ("rst_tuned",), FOUR, AXIS, "natural", -COMPARABLE, plain=False)),
        need="most",
    ),
    Claim(
        "tuned-natural-best-low", "D",
        "at 1 to 20 %, fine-tuned RSTs with inherited weights mostly have the best natural accuracy of the three",
        "ordering", ("figure10_",),
        tuple(best("rst_tuned", ("rst", "rst_retrained"), FOUR, LOW, "natural")),
        need="most",
    ),
    Claim(
        "adversarial-rtt-natural-best", "D",
        "adversarial RTTs mostly have more natural accuracy than both RSTs and natural RTTs",
        "ordering", ("figure11_",),
        tuple(best("rtt_adversarial", ("rst", "rtt_natural"), FOUR, AXIS, "natural")),
        need="most",
    ),
)  # fmt: skip

TRANSFER = (
    Claim(
        "transfer-poor-everywhere", "E",
        "the diagonal is notably lower than the rest on both networks and both CIFARs",
        "difference", ("figure12_",),
        tuple(
            above(at(network, dataset), transfer(network, dataset, SEVEN), NOTABLE, plain=False)
            for network, dataset in FOUR
        ),
        readings=("", NEVER),
    ),
    Claim(
        "dense-transfers-poorly", "E",
        "images made against dense networks, naturally or adversarially trained, leave RSTs notably more than their "
        "own (ResNet18, CIFAR-10)",
        "difference", ("table7_", "figure1_", "controls"),
        tuple(
            above(f"from {source}, {at(RESNET18, CIFAR10, ratio)}", _transferred(ratio, source), NOTABLE, plain=False)
            for source in ("dense_nat", "dense_at") for ratio in _TABLE7_RATIOS
        ),
        readings=("", NEVER),
    ),
    Claim(
        "other-seed-transfers-poorly", "E",
        "images made against the ticket of the same ratio from another seed leave RSTs notably more than their "
        "own (ResNet18, CIFAR-10)",
        "difference", ("table7_", "figure1_", "controls"),
        tuple(
            above(
                at(RESNET18, CIFAR10, ratio), _transferred(ratio, "same_ratio_other_seed"), NOTABLE, plain=False
            )
            for ratio in _TABLE7_RATIOS
        ),
        readings=("", NEVER),
    ),
    Claim(
        "no-proxy-ticket", "E",
        "who knows the random network cannot search a proxy: images of five tickets of another search, of the same "
        "ratio and theta, leave the RST notably more than its own (20 %, ResNet18, CIFAR-10)",
        "difference", ("controls",),
        tuple(
            above(
                attack,
                less(
                    robust(*_RST20, attack=attack, attack_source="proxies", variant="adaptive"),
                    robust(*_RST20, variant=NEVER),
                ),
                NOTABLE, plain=False,
            )
            for attack in ("ensemble_pgd20", "eot_pgd20")
        ),
        note="neither attack rests once its source is fooled, nor does the RST's own",
    ),
)  # fmt: skip


def _over_dense(network: str, dataset: str, candidate_set: str, defense: str = "r2s") -> Quantity:
    return less(switch(network, dataset, candidate_set, defense), robust("dense_at", network, dataset))


SETS = (
    Claim(
        "best-sets", "F",
        "the best candidate set gains 13.83 and 15.59 points over dense on CIFAR-10, 13.62 and 13.70 on CIFAR-100 "
        "(ResNet18, WideResNet32)",
        "number", ("table8_",),
        tuple(
            equals(at(network, dataset), _over_dense(network, dataset, candidate_set), gain, MARGIN)
            for network, dataset, candidate_set, gain in _BEST_SETS
        ),
        readings=("", NEVER),
    ),
    Claim(
        "wider-sets-better", "F",
        "R2S is mostly more robust with the wider candidate set",
        "ordering", ("table8_",),
        tuple(
            above(
                f"seven less {len(other.split())} members, {at(network, dataset)}",
                less(switch(network, dataset, SEVEN), switch(network, dataset, other)),
            )
            for network, dataset in FOUR for other in (SMALL, LARGE)
        ),
        need="most",
        readings=("", NEVER),
    ),
    Claim(
        "middle-set-natural", "F",
        "the set without very low ratios (7 to 30 %) has the best natural accuracy",
        "ordering", ("table8_",),
        tuple(
            above(
                f"five less {len(other.split())} members, {at(network, dataset)}",
                less(
                    natural("r2s", network, dataset, candidate_set=LARGE),
                    natural("r2s", network, dataset, candidate_set=other),
                ),
            )
            for network, dataset in FOUR for other in (SMALL, SEVEN)
        ),
    ),
    Claim(
        "rtt-transfer-poor", "G",
        "adversarial images transfer poorly between adversarial RTTs of different ratios too (ResNet18, both CIFARs)",
        "difference", ("figure13_",),
        tuple(
            above(at(network, dataset), transfer(network, dataset, RTT_SEVEN, "r2s_rtt"), NOTABLE, plain=False)
            for network, dataset in _BOTH
        ),
        readings=("", NEVER),
    ),
    Claim(
        "r2s-rtt-gain", "H",
        "R2S on adversarial RTTs gains 14.95 (CIFAR-10) and 15.09 (CIFAR-100) points over dense (ResNet18)",
        "number", ("table9_",),
        tuple(
            equals(at(RESNET18, dataset), _over_dense(RESNET18, dataset, RTT_SEVEN, "r2s_adv_rtt"), gain, MARGIN)
            for dataset, gain in ((CIFAR10, 14.95), (CIFAR100, 15.09))
        ),
        readings=("", NEVER),
    ),
    Claim(
        "rst-over-transferred-more", "I",
        "RSTs are more robust than transferred RTTs at every ratio, on SVHN and on CIFAR-10 (ResNet18)",
        "ordering", ("figure14_",),
        (
            *ahead("rst", ("rtt_from_cifar10",), ((RESNET18, SVHN),), AXIS),
            *ahead("rst", ("rtt_from_svhn",), ((RESNET18, CIFAR10),), AXIS),
        ),
    ),
    Claim(
        "svhn-up-to", "I",
        "on SVHN, RSTs lead transferred RTTs by up to 2.75 points of robust accuracy (ResNet18)",
        "existence", ("figure14_",),
        tuple(ahead("rst", ("rtt_from_cifar10",), ((RESNET18, SVHN),), AXIS, bound=2.75 - MARGIN, plain=False)),
        need="any",
    ),
)  # fmt: skip
