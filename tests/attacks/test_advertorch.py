"""Against AdverTorch's own attacks, on the same trained network and the same real images in the same run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor, nn

from rstbench.attacks.cw_inf import cw_inf_bounded
from rstbench.attacks.cw_l2 import cw_l2
from rstbench.attacks.draws import PerImage
from rstbench.attacks.fgsm import fgsm
from rstbench.attacks.pgd import pgd
from rstbench.attacks.threat import Threat, distances
from rstbench.compat import import_advertorch
from rstbench.defenses.view import CallableView
from tests.attacks.digits import trained

NETWORK, INPUTS, LABELS = trained()
VIEW = CallableView(NETWORK)
SUM = nn.CrossEntropyLoss(reduction="sum")
LINF, SMALL, L2 = Threat("linf", 0.2), Threat("linf", 0.1), Threat("l2", 1.5)


def draws() -> PerImage:
    return PerImage(0, range(300))


def ours_and_theirs() -> dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]]:
    import_advertorch()
    from advertorch.attacks import CarliniWagnerL2Attack, GradientSignAttack, L2PGDAttack, LinfPGDAttack

    def reference(kind: type, **settings: object) -> Callable[[], Tensor]:
        return lambda: kind(NETWORK, SUM, **settings).perturb(INPUTS, LABELS)

    def carlini_wagner() -> Tensor:
        return CarliniWagnerL2Attack(  # type: ignore[no-any-return]
            NETWORK, 10, learning_rate=0.01, binary_search_steps=1, max_iterations=100, initial_const=0.1
        ).perturb(INPUTS, LABELS)

    linf = reference(LinfPGDAttack, eps=0.2, nb_iter=20, eps_iter=0.05, rand_init=True)
    return {
        "fgsm": (
            lambda: fgsm(VIEW, INPUTS, LABELS, threat=LINF, draws=draws(), step_size=0.2).images,
            reference(GradientSignAttack, eps=0.2),
        ),
        "pgd20": (
            lambda: pgd(VIEW, INPUTS, LABELS, threat=LINF, draws=draws(), step_size=0.05, steps=20).images,
            linf,
        ),
        "pgd20_source_fooled": (
            lambda: (
                pgd(
                    VIEW, INPUTS, LABELS, threat=LINF, draws=draws(), step_size=0.05, steps=20, stop="source_fooled"
                ).images
            ),
            linf,
        ),
        "pgd_l2": (
            lambda: pgd(VIEW, INPUTS, LABELS, threat=L2, draws=draws(), step_size=0.1875, steps=20).images,
            reference(L2PGDAttack, eps=1.5, nb_iter=20, eps_iter=0.1875, rand_init=True),
        ),
        "cw_l2": (lambda: cw_l2(VIEW, INPUTS, LABELS, classes=10).images, carlini_wagner),
        # AdverTorch has no bounded CW-Inf; the nearest thing is as many steps on the cross-entropy.
        "cw_inf_bounded": (
            lambda: cw_inf_bounded(VIEW, INPUTS, LABELS, threat=SMALL, draws=draws(), step_size=0.2).images,
            reference(LinfPGDAttack, eps=0.1, nb_iter=100, eps_iter=0.01, rand_init=True),
        ),
    }


def accuracy(images: Tensor) -> float:
    return 100 * float((NETWORK(images).argmax(1) == LABELS).double().mean())


@pytest.mark.parametrize("name", ours_and_theirs())
def test_no_weaker_than_advertorch(name: str) -> None:
    ours, theirs = (craft() for craft in ours_and_theirs()[name])
    clean = accuracy(INPUTS)
    assert clean > 80 and accuracy(theirs) < clean - 5
    assert accuracy(ours) <= accuracy(theirs) + 0.5
    if name == "cw_l2":  # a minimum-norm attack is compared by its distances too
        fooled = (NETWORK(ours).argmax(1) != LABELS) & (NETWORK(theirs).argmax(1) != LABELS)
        medians = [float(distances(each, INPUTS)[1][fooled].median()) for each in (ours, theirs)]
        assert medians[0] <= medians[1] * 1.001


def test_order_of_strength() -> None:
    attacks = ours_and_theirs()
    fgsm_, pgd20, stopped = (accuracy(attacks[name][0]()) for name in ("fgsm", "pgd20", "pgd20_source_fooled"))
    assert accuracy(INPUTS) > fgsm_ > pgd20
    # Stopping where the source is fooled takes nothing from the source's own verdict.
    assert abs(pgd20 - stopped) <= 1.0
