"""Claims of Section 6: transfer between tickets, the random switch, one random network for several tasks."""

from __future__ import annotations

from functools import partial
from typing import Any

from rstbench.report.claims.language import Claim, Pick, Quantity, above, below, between, equals, less, share
from rstbench.report.claims.paper_check import masks_of_set, range_of_worst, set_in_table
from rstbench.report.claims.rules import MARGIN, NOTABLE
from rstbench.report.claims.vocabulary import (
    AXIS,
    CIFAR10,
    CIFAR100,
    FOUR,
    NEVER,
    RESNET18,
    SEVEN,
    SIX,
    WIDE,
    ahead,
    at,
    counted,
    natural,
    robust,
)  # fmt: skip

AUTOATTACK_READINGS = ("", "switching_standard", "rand_eot20")
"""How AutoAttack can meet a switch: a random member, or the switch as it is queried. The paper does not say."""


def switch(network: str, dataset: str, candidate_set: str = SIX, defense: str = "r2s", **columns: Any) -> Pick:
    """A random switch under transferred PGD-20, of the reading's stop rule unless `columns` say otherwise."""
    return robust(defense, network, dataset, candidate_set=candidate_set, **{"variant": None, **columns})


def transfer(network: str, dataset: str, candidate_set: str, defense: str = "r2s") -> Quantity:
    """Accuracy off the diagonal of the transfer matrix less that on it."""
    return less(
        switch(network, dataset, candidate_set, defense, part="off_diagonal"),
        switch(network, dataset, candidate_set, defense, part="diagonal"),
    )


def _gain(network: str, dataset: str, attack: str = "pgd20", eps: str = "8") -> Quantity:
    """The switch under an attack less the dense network under the same."""
    variant = None if attack in ("pgd20", "autoattack") else ""
    return less(
        switch(network, dataset, attack=attack, eps=eps, variant=variant),
        robust("dense_at", network, dataset, attack=attack, eps=eps),
    )


def _adaptive(network: str, dataset: str, attack: str) -> Pick:
    return switch(network, dataset, attack=attack, variant="")


def _adaptive_gain(network: str, dataset: str, attack: str) -> Quantity:
    return less(_adaptive(network, dataset, attack), robust("dense_at", network, dataset))


_TASKS = "cifar10 cifar100 svhn"
_ADAPTIVE = ("eot_pgd20", "ensemble_pgd20")
_TWO = ((RESNET18, CIFAR10), (WIDE, CIFAR10))

SWITCH = (
    Claim(
        "transfer-poor", "6.1",
        "adversarial images transfer poorly between RSTs of different ratios: accuracy on the diagonal is notably "
        "lower (ResNet18, CIFAR-10)",
        "difference", ("figure7_",),
        (above("off the diagonal less on it", transfer(RESNET18, CIFAR10, SEVEN), NOTABLE, plain=False),),
        readings=("", NEVER),
        note="whether the diagonal is lower, not whether what transfers is harmless: for that see the gain over dense",
    ),
    Claim(
        "mask-overhead", "6.2",
        "the masks of a random switch cost about 3 % of the network's parameters",
        "ratio", ("storage",),
        (
            equals(
                "raw masks in percent of fp32 weights",
                share(
                    counted("bytes_raw_masks", "r2s", RESNET18, CIFAR10, candidate_set=SIX),
                    counted("bytes_separate_weights", "dense_at", RESNET18, CIFAR10),
                ),
                3.0, MARGIN,
            ),
        ),
        checks=(partial(masks_of_set, 3, "r2s", 3.0),),
    ),
    Claim(
        "shared-network-stores-less", "6.2",
        "tickets of one random network for several tasks take fewer bytes than a dense network for each (20 %, "
        "CIFAR-10, CIFAR-100 and SVHN, ResNet18)",
        "ordering", ("storage",),
        (
            below(
                "files of three RSTs less weights of three dense networks",
                less(
                    counted("bytes_files", "rst", RESNET18, _TASKS, "0.20"),
                    counted("bytes_separate_weights", "dense_at", RESNET18, _TASKS),
                ),
            ),
        ),
    ),
    Claim(
        "r2s-gain-pgd20", "6.3",
        "under PGD-20 on CIFAR-10, R2S gains 13.74 (ResNet18) and 15.28 (WideResNet32) points over dense",
        "number", ("table3_",),
        tuple(
            equals(at(network, CIFAR10), _gain(network, CIFAR10), gain, MARGIN)
            for network, gain in ((RESNET18, 13.74), (WIDE, 15.28))
        ),
        readings=("", NEVER),
    ),
    Claim(
        "r2s-gain-autoattack", "6.3",
        "under AutoAttack on CIFAR-10, R2S gains 5.53 to 8.94 points over dense",
        "range", ("table4_",),
        tuple(
            between(
                f"{at(network, CIFAR10)}, epsilon {eps}", _gain(network, CIFAR10, "autoattack", eps), 5.53, 8.94, MARGIN
            )
            for network, _ in _TWO for eps in ("8", "12")
        ),
        readings=AUTOATTACK_READINGS,
        note="the paper does not say how AutoAttack meets a switch; every way is a reading of its own",
    ),
    Claim(
        "r2s-gains-everywhere", "6.3",
        "R2S is more robust than dense under PGD-20, on both networks and both CIFARs",
        "ordering", ("table3_",),
        tuple(above(at(network, dataset), _gain(network, dataset)) for network, dataset in FOUR),
        readings=("", NEVER),
    ),
    Claim(
        "r2s-gains-cw-inf", "6.3",
        "R2S is more robust than dense under CW-Inf at epsilon 8 and 12 (CIFAR-10)",
        "ordering", ("table4_",),
        tuple(
            above(f"{at(network, CIFAR10)}, epsilon {eps}", _gain(network, CIFAR10, "cw_inf", eps))
            for network, _ in _TWO for eps in ("8", "12")
        ),
    ),
    Claim(
        "r2s-gain-adaptive", "6.3",
        "under EOT and Ensemble, R2S still gains 7.40 points or more over dense (7.40 to 9.83)",
        "range", ("table5_",),
        tuple(
            above(
                f"{attack}, {at(network, dataset)}",
                _adaptive_gain(network, dataset, attack), 7.40 - MARGIN, plain=False,
            )
            for network, dataset in FOUR for attack in _ADAPTIVE
        ),
        checks=(
            partial(
                range_of_worst,
                tuple(
                    (_adaptive_gain(network, dataset, "eot_pgd20"), _adaptive_gain(network, dataset, "ensemble_pgd20"))
                    for network, dataset in FOUR
                ),
                7.40, 9.83,
            ),
        ),
        note="the paper's range is that of the worse of both attacks",
    ),
    Claim(
        "adaptive-stronger", "6.3",
        "EOT and Ensemble leave less of R2S standing than PGD-20 from a random member does",
        "ordering", ("table5_", "table3_"),
        tuple(
            below(
                f"{attack}, {at(network, dataset)}",
                less(_adaptive(network, dataset, attack), switch(network, dataset)),
            )
            for network, dataset in FOUR for attack in _ADAPTIVE
        ),
        readings=("", NEVER),
    ),
)  # fmt: skip

_RTT_SET = partial(set_in_table, 9, "r2s_adv_rtt", SIX, "the candidate set of Table 3, 5 to 30 %")


def _rtt_gain(what: str, gain: float) -> Claim:
    switches = [
        natural(defense, RESNET18, CIFAR10, candidate_set=SIX) if what == "natural"
        else switch(RESNET18, CIFAR10, defense=defense)
        for defense in ("r2s_adv_rtt", "r2s")
    ]  # fmt: skip
    return Claim(
        f"r2s-rtt-{what}-gain", "6.3",
        f"with Table 3's candidate set, R2S on adversarial RTTs gains {gain} points of {what} accuracy over R2S on "
        "RSTs (ResNet18, CIFAR-10)",
        "number", ("r2s_rtt",),
        (equals("RTTs less RSTs", less(*switches), gain, MARGIN),),
        checks=(_RTT_SET,),
        readings=("",) if what == "natural" else ("", NEVER),
        note="Section 6.3 points to Appendix H for it",
    )  # fmt: skip


SHARING = (
    _rtt_gain("robust", 0.84),
    _rtt_gain("natural", 1.58),
    Claim(
        "transferred-rtt-worst", "6.3",
        "RTTs transferred from CIFAR-10 are less robust on CIFAR-100 than RSTs and CIFAR-100's own adversarial RTTs, "
        "at every ratio (ResNet18)",
        "ordering", ("figure8_",),
        tuple(
            statement
            for better in ("rst", "rtt_adversarial")
            for statement in ahead(better, ("rtt_transferred",), ((RESNET18, CIFAR100),), AXIS)
        ),
    ),
    Claim(
        "transferred-rtt-drop", "6.3",
        "at 5 %, the transferred RTT loses 1.68 points of robust accuracy against the RST (ResNet18, CIFAR-100)",
        "number", ("figure8_",),
        (
            equals(
                "transferred RTT less RST",
                less(robust("rtt_transferred", RESNET18, CIFAR100, "0.05"), robust("rst", RESNET18, CIFAR100, "0.05")),
                -1.68, MARGIN,
            ),
        ),
    ),
)  # fmt: skip
