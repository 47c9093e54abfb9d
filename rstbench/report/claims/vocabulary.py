"""The rows that the paper's claims speak of, by the names that the suites give them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rstbench.report.claims.language import Pick, Quantity, Statement, Term, above, lead, less
from rstbench.report.claims.rules import DECENT

CIFAR10, CIFAR100, SVHN, IMAGENET = "cifar10", "cifar100", "svhn", "imagenet"
RESNET18, WIDE = "preact_resnet18", "wide_resnet32"
FOUR = ((RESNET18, CIFAR10), (RESNET18, CIFAR100), (WIDE, CIFAR10), (WIDE, CIFAR100))
"""The paper's pairs of network and data."""

AXIS = ("0.01", "0.03", "0.05", "0.07", "0.10", "0.15", "0.20", "0.30", "0.40", "0.50", "0.60", "0.70", "0.80", "0.90")
"""Remaining ratios of the figures' axes."""

LOW = AXIS[:7]
"""1 to 20 %."""

USUAL = ("0.05", "0.07", "0.10", "0.15", "0.20")
"""5 to 20 %, "commonly used"."""

MIDDLE = ("0.05", "0.07", "0.10", "0.15", "0.20", "0.30", "0.40")
"""5 to 40 %, the "wide range" of Section 4.2."""

SIX = "0.05 0.07 0.10 0.15 0.20 0.30"
SEVEN = "0.03 0.05 0.07 0.10 0.15 0.20 0.30"
SMALL = "0.03 0.05 0.07 0.10"
LARGE = "0.07 0.10 0.15 0.20 0.30"
RTT_SEVEN = "0.03 0.05 0.07 0.10 0.15 0.20 0.40"
"""Candidate sets of Tables 3, 8 and 9."""

OTHER_INITS = ("rst_kaiming_normal", "rst_kaiming_uniform", "rst_xavier_normal")

NEVER = "stop=never"
"""Variant of attacks whose images do not rest once their source is fooled."""

_SHORT = {RESNET18: "ResNet18", WIDE: "WideResNet32", CIFAR10: "CIFAR-10", CIFAR100: "CIFAR-100", SVHN: "SVHN"}


def robust(defense: str, network: str, dataset: str, ratio: str = "", **columns: Any) -> Pick:
    """Accuracy under PGD-20 at epsilon 8, unless `columns` say otherwise."""
    return Pick(dataset, network, defense, ratio, **columns)


def natural(defense: str, network: str, dataset: str, ratio: str = "", candidate_set: str = "", eps: str = "") -> Pick:
    """Accuracy without an attack. eps: of training, where a table's rows differ by it."""
    return Pick(dataset, network, defense, ratio, candidate_set, "none", eps, metric="natural_acc")


def counted(metric: str, defense: str, network: str, dataset: str, ratio: str = "", **columns: Any) -> Pick:
    """A measure that is no accuracy."""
    fields: dict[str, Any] = {"attack": "", "eps": "", "metric": metric, **columns}
    return Pick(dataset, network, defense, ratio, **fields)


def at(network: str, dataset: str, ratio: str = "") -> str:
    """A place in words."""
    percent = f" at {float(ratio) * 100:g} %" if ratio else ""
    return f"{_SHORT[network]}/{_SHORT[dataset]}{percent}"


def decent(label: str, ticket: Pick, dense: Pick) -> Statement:
    """The ticket has at least `rules.DECENT` of the dense network's accuracy."""
    return above(label, decency(ticket, dense), plain=False)


def decency(ticket: Pick, dense: Pick) -> Quantity:
    """What a ticket has beyond `rules.DECENT` of the dense network's accuracy, in points."""
    return Quantity("sum", (Term(1.0, ticket), Term(-DECENT, dense)))


def ahead(
    one: str,
    others: Iterable[str],
    places: Iterable[tuple[str, str]],
    ratios: Iterable[str],
    accuracy: str = "robust",
    bound: float = 0.0,
    plain: bool = True,
) -> Iterator[Statement]:
    """One series of tickets above others at every place and ratio, under PGD-20 or (accuracy "natural") no attack."""
    for network, dataset in places:
        for other in others:
            for ratio in ratios:
                picks = [_accuracy(accuracy, name, network, dataset, ratio) for name in (one, other)]
                yield above(f"{one} less {other}, {at(network, dataset, ratio)}", less(*picks), bound, plain)


def best(
    one: str,
    others: tuple[str, ...],
    places: Iterable[tuple[str, str]],
    ratios: Iterable[str],
    accuracy: str = "robust",
) -> Iterator[Statement]:
    """One series of tickets above all others at once, a statement for every place and ratio.

    For claims of "mostly the best": to lead one of two others everywhere is not to be the best anywhere.
    """
    for network, dataset in places:
        for ratio in ratios:
            first, *rest = (_accuracy(accuracy, name, network, dataset, ratio) for name in (one, *others))
            label = f"{one} less the best of {', '.join(others)}, {at(network, dataset, ratio)}"
            yield above(label, lead(first, rest))


def _accuracy(which: str, defense: str, network: str, dataset: str, ratio: str) -> Pick:
    if which == "natural":
        return natural(defense, network, dataset, ratio)
    return robust(defense, network, dataset, ratio)
