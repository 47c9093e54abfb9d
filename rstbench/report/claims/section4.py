"""Claims of Sections 1 and 4: robust scratch tickets exist."""

from __future__ import annotations

from functools import partial

from rstbench.report.claims.language import Claim, Pick, Statement, above, below, equals, less, share, value
from rstbench.report.claims.paper_check import sum_against
from rstbench.report.claims.rules import COMPARABLE, COMPARABLE_SIZE, MARGIN, SIZE_MARGIN
from rstbench.report.claims.vocabulary import (
    AXIS,
    CIFAR10,
    CIFAR100,
    FOUR,
    IMAGENET,
    MIDDLE,
    OTHER_INITS,
    RESNET18,
    WIDE,
    ahead,
    at,
    best,
    counted,
    decency,
    decent,
    natural,
    robust,
)  # fmt: skip

_FIGURE1 = ("figure1_",)
_HERE = ((RESNET18, CIFAR10),)
_DENSE = robust("dense_at", RESNET18, CIFAR10)
_DENSE_NATURAL = natural("dense_at", RESNET18, CIFAR10)
_EXTREMES = ("0.01", "0.03", "0.05", "0.70", "0.80", "0.90")


def _imagenet(what: str, network: str, eps: str) -> Pick:
    defense, ratio = {"resnet18": ("dense_at", ""), "resnet50": ("rst", "0.4"), "resnet101": ("rst", "0.25")}[network]
    if what == "natural":
        return natural(defense, network, IMAGENET, ratio, eps=eps)
    if what == "params_m":
        return counted("params_m", defense, network, IMAGENET, ratio, eps=eps)
    return robust(defense, network, IMAGENET, ratio, eps=eps)


def _over_resnet18(eps: str, robust_gain: float, natural_gain: float) -> Claim:
    gains = {"robust": robust_gain, "natural": natural_gain}
    return Claim(
        f"imagenet-resnet101-eps{eps}", "4.3",
        f"on ImageNet at epsilon {eps}, the RST of ResNet101 gains {robust_gain} robust and {natural_gain} natural "
        "points over the adversarially trained ResNet18",
        "number", ("table1_",),
        tuple(
            equals(what, less(_imagenet(what, "resnet101", eps), _imagenet(what, "resnet18", eps)), gain, MARGIN)
            for what, gain in gains.items()
        ),
    )  # fmt: skip


def _comparable(what: str) -> Claim:
    row = natural if what == "natural" else robust
    return Claim(
        f"comparable-{what}", "4.2",
        f"RSTs of 5 to 40 % reach {what} accuracy comparable with the adversarially trained dense network's, "
        "on both networks and both CIFARs",
        "difference", _FIGURE1,
        tuple(
            above(
                at(network, dataset, ratio),
                less(row("rst", network, dataset, ratio), row("dense_at", network, dataset)), -COMPARABLE, plain=False,
            )
            for network, dataset in FOUR for ratio in MIDDLE
        ),
    )  # fmt: skip


EXISTENCE = (
    Claim(
        "imagenet-match-or-surpass", "1",
        "there are RSTs that match or surpass the robust accuracy of adversarially trained networks of comparable size "
        "(ImageNet)",
        "existence", ("table1_",),
        tuple(
            above(
                f"{network}, epsilon {eps}",
                less(_imagenet("robust", network, eps), _imagenet("robust", "resnet18", eps)),
            )
            for eps in ("2", "4") for network in ("resnet50", "resnet101")
        ),
        need="any",
    ),
    Claim(
        "rst20-robust-loss", "4.2",
        "the RST of 20 % of ResNet18 on CIFAR-10 loses 2.08 points of robust accuracy against dense",
        "number", _FIGURE1,
        (equals("RST less dense", less(robust("rst", RESNET18, CIFAR10, "0.20"), _DENSE), -2.08, MARGIN),),
    ),
    Claim(
        "rst20-natural-loss", "4.2",
        "the RST of 20 % of ResNet18 on CIFAR-10 loses 2.43 points of natural accuracy against dense",
        "number", _FIGURE1,
        (equals("RST less dense", less(natural("rst", RESNET18, CIFAR10, "0.20"), _DENSE_NATURAL), -2.43, MARGIN),),
    ),
    _comparable("robust"),
    _comparable("natural"),
    Claim(
        "rst10-wide-robust-gain", "4.2",
        "the RST of 10 % of WideResNet32 on CIFAR-10 gains 1.14 points of robust accuracy over the dense ResNet18",
        "number", _FIGURE1,
        (equals("RST less dense", less(robust("rst", WIDE, CIFAR10, "0.10"), _DENSE), 1.14, MARGIN),),
    ),
    Claim(
        "rst10-wide-natural-gain", "4.2",
        "the RST of 10 % of WideResNet32 on CIFAR-10 gains 1.72 points of natural accuracy over the dense ResNet18",
        "number", _FIGURE1,
        (equals("RST less dense", less(natural("rst", WIDE, CIFAR10, "0.10"), _DENSE_NATURAL), 1.72, MARGIN),),
    ),
    Claim(
        "rst10-wide-size", "4.2",
        "the RST of 10 % of WideResNet32 has 60 % fewer parameters than the dense ResNet18",
        "ratio", ("sizes",),
        (
            equals(
                "RST in percent of dense",
                share(
                    counted("params_m", "rst", WIDE, CIFAR10, "0.10"),
                    counted("params_m", "dense_at", RESNET18, CIFAR10),
                ),
                40.0, SIZE_MARGIN,
            ),
        ),
    ),
    Claim(
        "extremes-inferior", "4.2",
        "RSTs of very large (above 60 %) or very small (5 % and less) ratios are less robust than that of 20 %",
        "ordering", _FIGURE1,
        tuple(
            above(
                f"20 % less {float(ratio) * 100:g} %, {at(network, dataset)}",
                less(robust("rst", network, dataset, "0.20"), robust("rst", network, dataset, ratio)),
            )
            for network, dataset in FOUR for ratio in _EXTREMES
        ),
    ),
    _over_resnet18("2", 3.56, 4.31),
    _over_resnet18("4", 1.22, 4.43),
    Claim(
        "imagenet-overparameterised", "4.3",
        "RSTs of the larger network are better at comparable sizes: ResNet101 over ResNet50 on ImageNet",
        "ordering", ("table1_",),
        tuple(
            above(f"{what}, epsilon {eps}", less(_imagenet(what, "resnet101", eps), _imagenet(what, "resnet50", eps)))
            for eps in ("2", "4") for what in ("robust", "natural")
        ),
    ),
    Claim(
        "imagenet-sizes", "4.3",
        "the RSTs of ResNet50 (0.4) and ResNet101 (0.25) are of a size comparable with ResNet18's",
        "ratio", ("table1_",),
        tuple(
            Statement(
                f"{network} in percent of ResNet18",
                share(_imagenet("params_m", network, "2"), _imagenet("params_m", "resnet18", "2")),
                100 - COMPARABLE_SIZE, 100 + COMPARABLE_SIZE,
            )
            for network in ("resnet50", "resnet101")
        ),
    ),
)  # fmt: skip

VARIATIONS = (
    Claim(
        "initialisations-exist", "4.4",
        "RSTs exist under every initialisation: at 20 % each is decent, on both CIFARs (ResNet18)",
        "existence", _FIGURE1,
        tuple(
            decent(
                f"{defense}, {at(RESNET18, dataset, '0.20')}",
                robust(defense, RESNET18, dataset, "0.20"), robust("dense_at", RESNET18, dataset),
            )
            for dataset in (CIFAR10, CIFAR100) for defense in ("rst", *OTHER_INITS)
        ),
    ),
    Claim(
        "signed-constant-best-robust", "4.4",
        "signed Kaiming constant is the most robust initialisation at every ratio, on both CIFARs (ResNet18)",
        "ordering", _FIGURE1,
        tuple(ahead("rst", OTHER_INITS, ((RESNET18, CIFAR10), (RESNET18, CIFAR100)), AXIS)),
    ),
    *(
        Claim(
            f"{pattern}-wise-exists", "4.5",
            f"RSTs with {pattern}-wise sparsity exist (ResNet18, CIFAR-10)",
            "existence", _FIGURE1,
            tuple(
                decent(at(RESNET18, CIFAR10, ratio), robust(f"rst_{pattern}", RESNET18, CIFAR10, ratio), _DENSE)
                for ratio in AXIS
            ),
            need="any",
        )
        for pattern in ("row", "kernel")
    ),
    Claim(
        "structured-loses-more", "4.5",
        "row-wise and kernel-wise sparsity lose more robust accuracy than element-wise (ResNet18, CIFAR-10)",
        "ordering", _FIGURE1,
        tuple(best("rst", ("rst_row", "rst_kernel"), _HERE, AXIS)),
        need="most",
    ),
    Claim(
        "channel-wise-fails", "4.5",
        "no RST with channel-wise sparsity is decent at any ratio (ResNet18, CIFAR-10)",
        "existence", _FIGURE1,
        tuple(
            below(at(RESNET18, CIFAR10, r), decency(robust("rst_channel", RESNET18, CIFAR10, r), _DENSE), plain=False)
            for r in AXIS
        ),
    ),
    Claim(
        "fgsm-finds-rsts", "4.6",
        "FGSM and FGSM-RS search find RSTs too: at 20 % both are decent (ResNet18, CIFAR-10)",
        "existence", _FIGURE1,
        tuple(
            decent(search, robust(search, RESNET18, CIFAR10, "0.20"), _DENSE) for search in ("rst_fgsm", "rst_fgsm_rs")
        ),
    ),
    Claim(
        "pgd7-best-search", "4.6",
        "PGD-7 search gives more robust RSTs than FGSM and FGSM-RS at every ratio (ResNet18, CIFAR-10)",
        "ordering", _FIGURE1,
        tuple(ahead("rst_pgd", ("rst_fgsm", "rst_fgsm_rs"), _HERE, AXIS)),
    ),
    Claim(
        "rst10-wide-accuracy", "4.7",
        "the RST of 10 % of WideResNet32 on CIFAR-10 has 51.39 % robust accuracy",
        "number", ("figure1_", "lottery"),
        (equals("RST", value(robust("rst", WIDE, CIFAR10, "0.10")), 51.39, MARGIN),),
        checks=(partial(sum_against, _DENSE, 1.14, "Section 4.2", 51.39, "Section 4.7"),),
    ),
    Claim(
        "better-than-lottery", "4.7",
        "that RST is more robust than an adversarially trained lottery ticket of 20 % (WideResNet32, CIFAR-10)",
        "ordering", ("lottery", "figure1_"),
        (
            above(
                "RST at 10 % less lottery ticket at 20 %",
                less(robust("rst", WIDE, CIFAR10, "0.10"), robust("lottery", WIDE, CIFAR10, "0.20")),
            ),
        ),
        note="ours is found in one round of pruning; the work that the paper compares with prunes in several",
    ),
)  # fmt: skip
