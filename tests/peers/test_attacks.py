"""Each attack against the same attack of other libraries: same network, images, epsilon, steps and step sizes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from rstbench.attacks.threat import Threat, distances
from rstbench.evaluation.craft import Target, craft, threat_of
from rstbench.evaluation.judge import within
from rstbench.spec.attacks import CraftedSpec
from rstbench.spec.battery import named_attack
from rstbench.spec.budgets import written_out
from tests.peers import theirs
from tests.peers.defended import BATCH, CPU, Defended, seeded
from tests.peers.table import Row, Table, timed

pytestmark = pytest.mark.peers

EPS, STEP, L2_EPS, L2_STEP = 8 / 255, 2 / 255, 0.5, 2.5 * 0.5 / 20
QUERIES = 1000  # of the published 5000, which would take longer than all else together
POINTS = 0.5


@dataclass(frozen=True)
class Case:
    """An attack of ours and its peers."""

    name: str
    norm: str
    epsilon: str | float
    peers: dict[str, theirs.Attack]
    changes: dict[str, object] = field(default_factory=dict)

    @property
    def spec(self) -> CraftedSpec:
        made = named_attack(self.name, self.norm, self.epsilon, batch=BATCH, **self.changes)
        return written_out(made, cifar=True)  # type: ignore[arg-type]


def _apgd(norm: str, epsilon: float, loss: str) -> dict[str, theirs.Attack]:
    return {
        "pyautoattack": theirs.package_apgd(norm, epsilon, loss),
        "adv-lib": theirs.adv_lib_apgd(norm, epsilon, loss),
    }


CASES = {
    "FGSM": Case(
        "fgsm", "linf", "8/255",
        {
            "advertorch": theirs.advertorch("GradientSignAttack", eps=EPS),
            "foolbox": theirs.foolbox("FGSM", EPS),
        },
    ),
    "PGD-20": Case(
        "pgd20", "linf", "8/255",
        {
            "advertorch": theirs.advertorch("LinfPGDAttack", eps=EPS, nb_iter=20, eps_iter=STEP, rand_init=True),
            "foolbox": theirs.foolbox("LinfPGD", EPS, abs_stepsize=STEP, steps=20, random_start=True),
            "adv-lib": theirs.adv_lib("pgd_linf", ε=EPS, steps=20, random_init=True, absolute_step_size=STEP),
        },
    ),
    "L2-PGD-20": Case(
        "pgd_l2", "l2", L2_EPS,
        {
            "advertorch": theirs.advertorch("L2PGDAttack", eps=L2_EPS, nb_iter=20, eps_iter=L2_STEP, rand_init=True),
            "foolbox": theirs.foolbox("L2PGD", L2_EPS, abs_stepsize=L2_STEP, steps=20, random_start=True),
        },
    ),
    "APGD-CE": Case("apgd_ce", "linf", "8/255", _apgd("linf", EPS, "ce")),
    "APGD-DLR": Case("apgd_dlr", "linf", "8/255", _apgd("linf", EPS, "dlr")),
    "APGD-CE, L2": Case("apgd_ce", "l2", L2_EPS, _apgd("l2", L2_EPS, "ce")),
    "Square, 1000 queries": Case(
        "square", "linf", "8/255",
        {"pyautoattack": theirs.package_square("linf", EPS, QUERIES)},
        changes={"queries": QUERIES},
    ),
    "Square, 1000 queries, L2": Case(
        "square", "l2", L2_EPS,
        {"pyautoattack": theirs.package_square("l2", L2_EPS, QUERIES)},
        changes={"queries": QUERIES},
    ),
}  # fmt: skip


def quiet(done: float, total: float, note: str) -> None:
    pass


_MADE: dict[tuple[str, int], tuple[Tensor, float]] = {}


def ours(case: Case, subject: Defended) -> tuple[Tensor, float]:
    """Our images, made once for all peers, and the seconds."""
    key = (case.spec.model_dump_json(), id(subject))
    if key not in _MADE:
        target, count = Target([subject.network], 10, CPU), range(len(subject.images))
        made, seconds = timed(lambda: craft(target, subject.images, subject.labels, count, case.spec, 0, quiet))
        _MADE[key] = made.images, seconds
    return _MADE[key]


def reference_of(case: Case, peer: str, subject: Defended) -> tuple[Tensor, float]:
    """The images of a peer, and the seconds."""
    attack = case.peers[peer]
    with seeded():
        return timed(lambda: subject.in_batches(lambda images, labels: attack(subject.network, images, labels)))


def percent(right: Tensor) -> float:
    return 100 * float(right.double().mean())


def pairs(cases: dict[str, Case]) -> list[tuple[str, str]]:
    return [(name, peer) for name, case in cases.items() for peer in case.peers]


@pytest.mark.parametrize("name,peer", pairs(CASES))
def test_no_weaker(name: str, peer: str, subject: Defended, table: Table) -> None:
    case = CASES[name]
    threat = threat_of(case.spec)
    reference, seconds = reference_of(case, peer, subject)
    images, own_seconds = ours(case, subject)
    clean, mine, other = (subject.right(each, threat) for each in (subject.images, images, reference))
    row = Row(name, peer, len(images), percent(clean), percent(mine), percent(other), own_seconds, seconds)
    table.add(row)
    assert row.theirs < row.clean, "the reference does not attack"
    assert row.ours <= row.theirs + POINTS


def _cw(const: float) -> Case:
    """At the start constant `const`; AdverTorch's and the paper's 0.1 gives up early on a defended network."""
    settings = {"binary_search_steps": 1, "initial_const": const}
    named = {"learning_rate": 0.01, "max_iterations": 100} | settings
    return Case(
        "cw_l2", "l2", L2_EPS,
        {
            "advertorch": theirs.advertorch_cw(**named),
            "foolbox": theirs.foolbox("L2CarliniWagnerAttack", None, stepsize=0.01, steps=100, **settings),
            "adv-lib": theirs.adv_lib("carlini_wagner_l2", **named),
        },
        changes={"initial_const": const},
    )  # fmt: skip


CW = {"CW-L2, const 0.1": _cw(0.1), "CW-L2, const 10": _cw(10.0)}


@pytest.mark.parametrize("name,peer", pairs(CW))
def test_cw_l2_no_weaker_at_any_distance_and_within_epsilon(
    name: str, peer: str, subject: Defended, table: Table
) -> None:
    reference, seconds = reference_of(CW[name], peer, subject)
    images, own_seconds = ours(CW[name], subject)
    clean = subject.right(subject.images, None)
    rows = []
    for where, limit in (("any distance", None), ("within 0.5", Threat("l2", L2_EPS))):
        made = [each if limit is None else within(each, subject.images, limit) for each in (images, reference)]
        mine, other = (subject.right(each, limit) for each in made)
        both = clean & ~mine & ~other
        l2 = [float(torch.median(distances(each, subject.images)[1][both])) for each in made]
        accuracies = [percent(right) for right in (clean, mine, other)]
        rows.append(Row(f"{name}, {where}", peer, len(images), *accuracies, own_seconds, seconds, *l2))
        table.add(rows[-1])
    for row in rows:
        assert row.theirs < row.clean, "the reference does not attack"
        assert row.ours <= row.theirs + POINTS
