from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rstbench.attacks.draws import PerImage
from rstbench.attacks.pgd import pgd
from rstbench.attacks.threat import Threat, distances, random_start
from rstbench.defenses.view import CallableView
from rstbench.defenses.views import EnsembleView, ExpectationView, SwitchView
from rstbench.errors import DeviceError, RunError, SpecError
from rstbench.evaluation.craft import Crafted, Target, craft, threat_of, view_of
from rstbench.evaluation.engine import Counter, InEngine
from rstbench.evaluation.judge import check_images, within
from rstbench.spec.attack_fields import AttackEngine
from rstbench.spec.attacks import CraftedSpec, PgdSpec
from rstbench.spec.battery import named_attack
from rstbench.spec.budgets import written_out
from rstbench.training import generator
from tests.attacks.networks import images, small_net

CPU = torch.device("cpu")
COUNT = 19
CLEAN = images(COUNT)
LABELS = small_net()(CLEAN).argmax(1)
INDICES = [7 * i + 100 for i in range(COUNT)]


def attack(**fields: Any) -> PgdSpec:
    return PgdSpec(**{"kind": "pgd", "step_size": "2/255", "steps": 5, "batch": 8} | fields)


def named(name: str, **changes: Any) -> CraftedSpec:
    """A small attack of the battery, as nodes have it."""
    spec = named_attack(name, **{"batch": 8, **changes})
    assert isinstance(spec, CraftedSpec)
    return written_out(spec, cifar=False)


class Watched(nn.Module):
    """Notes size, layout and precision of every batch, counts passes, and runs out of memory above a limit."""

    def __init__(self, limit: int = 1000, seed: int = 1, classes: int = 5) -> None:
        super().__init__()
        self.network, self.limit = small_net(seed=seed, classes=classes), limit
        self.sizes: list[int] = []
        self.layouts: set[bool] = set()
        self.kinds: set[torch.dtype] = set()
        self.passes = {"forward": 0, "gradient": 0}

    def forward(self, inputs: Tensor) -> Tensor:
        self.sizes.append(len(inputs))
        self.layouts.add(inputs.is_contiguous(memory_format=torch.channels_last) and not inputs.is_contiguous())
        if len(inputs) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        logits: Tensor = self.network(inputs)
        self.passes["gradient" if logits.requires_grad else "forward"] += len(inputs)
        self.kinds.add(logits.dtype)
        return logits


def silent(done: float, total: float, note: str) -> None:
    pass


def run(
    network: nn.Module | list[nn.Module],
    spec: CraftedSpec,
    rows: Sequence[int] = range(COUNT),
    seed: int = 3,
    probabilities: Sequence[float] | None = None,
    **options: Any,
) -> Crafted:
    members = network if isinstance(network, list) else [network]
    target = Target(members, 5, CPU, probabilities)
    chosen = list(rows)
    indices = [INDICES[row] for row in chosen]
    return craft(target, CLEAN[chosen], LABELS[chosen], indices, spec, seed, silent, **options)


def test_batches_are_attacked_one_by_one() -> None:
    crafted = run(small_net(), attack())
    for begin in (0, 8):
        rows = slice(begin, begin + 8)
        expected = pgd(
            CallableView(small_net()), CLEAN[rows], LABELS[rows], threat=Threat("linf", 8 / 255), steps=5,
            draws=PerImage(3, INDICES[rows]), step_size=2 / 255,
        )  # fmt: skip
        assert torch.equal(crafted.images[rows], expected.images)
    check_images(crafted.images, CLEAN, threat_of(attack()))
    assert crafted.images.dtype == torch.float32 and crafted.flags == () and crafted.queries is None


def test_the_last_batch_is_padded() -> None:
    network = Watched()
    full = run(network, attack()).images
    # Asked about first and last are the reliability checks' images; then three batches of five steps and a look.
    assert network.sizes[12:-3] == [8] * 18
    # So what an image becomes depends neither on how many follow nor on what they are.
    for count in (8, 9, 15, 18):
        assert torch.equal(run(small_net(), attack(), range(count)).images, full[:count])


def test_regrouped_images_draw_the_same() -> None:
    # Bits may differ by the rounding of another batch; numbers drawn do not.
    full = run(small_net(), attack(restarts=2)).images
    rows = [18, 3, 11, 0, 7, 12, 16, 1, 5, 9]
    mixed = run(small_net(), attack(restarts=2, batch=4), rows).images
    assert torch.allclose(mixed, full[rows], atol=1e-6)
    again = run(small_net(), attack(restarts=2), [*rows]).images
    assert torch.allclose(again, full[rows], atol=1e-6)


def test_fewer_images_than_a_batch_are_a_batch() -> None:
    network = Watched()
    crafted = run(network, attack(batch=256))
    assert set(network.sizes) == {19} and len(crafted.images) == 19 and crafted.flags == ()


@pytest.mark.parametrize("name", ["fgsm", "pgd20", "cw_l2", "square", "autoattack", "arc"])
def test_no_images(name: str) -> None:
    crafted = run(small_net(), named(name), [])
    assert crafted.images.shape == (0, 3, 8, 8) and (crafted.forward, crafted.gradient) == (0, 0)


def test_progress_counts_real_images() -> None:
    told = []
    target = Target([small_net()], 5, CPU)
    craft(target, CLEAN, LABELS, INDICES, attack(), 0, lambda *arguments: told.append(arguments))
    assert told == [(8, 19, "images"), (16, 19, "images"), (19, 19, "images")]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_starts_depend_on_seed_and_index_alone(norm: str) -> None:
    budget = {"norm": "l2", "epsilon": 0.5, "step_size": 1e-9} if norm == "l2" else {"step_size": "0"}
    spec = attack(steps=1, **budget)
    starts = run(small_net(), spec).images
    again = run(Watched(limit=3), spec)
    tolerance = {"linf": 0.0, "l2": 1e-6}[norm]
    assert "batch:halved_to_2" in again.flags and torch.allclose(again.images, starts, rtol=0, atol=tolerance)
    assert not torch.allclose(run(small_net(), spec, seed=4).images, starts, atol=1e-3)
    expected = random_start(CLEAN[8:16], threat_of(spec), PerImage(3, INDICES[8:16]))
    assert torch.allclose(starts[8:16], expected, atol=1e-6)
    assert not torch.allclose((starts - CLEAN)[:8], (starts - CLEAN)[8:16], atol=1e-3)


@pytest.mark.parametrize("stop", ["never", "source_fooled"])
def test_short_memory_changes_nothing_but_rounding(stop: str) -> None:
    spec = attack(stop=stop, restarts=2)
    plain = run(small_net(), spec)
    split = run(Watched(limit=5), spec)
    assert plain.flags == () and split.flags == ("batch:halved_to_4",)
    assert torch.allclose(split.images, plain.images, atol=1e-6)
    with pytest.raises(DeviceError, match="single image"):
        run(Watched(limit=0), spec)


def test_engine() -> None:
    plain, mixed, last = Watched(), Watched(), Watched()
    reference = run(plain, attack()).images
    coarse = run(mixed, attack(engine=AttackEngine(precision="bf16"))).images
    other = run(last, attack(engine=AttackEngine(layout="channels_last"))).images
    # Answers without gradients are fp32 in any case.
    assert plain.kinds == last.kinds == {torch.float32} and mixed.kinds == {torch.bfloat16, torch.float32}
    assert plain.layouts == mixed.layouts == {False} and last.layouts == {True}
    assert not torch.equal(coarse, reference) and float((coarse != reference).float().mean()) < 0.2
    assert torch.allclose(other, reference, atol=1e-6)
    for found in (coarse, other):
        assert found.dtype == torch.float32 and found.is_contiguous()
        check_images(found, CLEAN, threat_of(attack()))


def test_members_are_attacked_in_evaluation_mode() -> None:
    network = small_net()
    expected = run(network, attack()).images
    network.train()
    before = network[1].running_mean.clone()
    assert torch.equal(run(network, attack()).images, expected)
    assert torch.equal(network[1].running_mean, before)


@pytest.mark.parametrize("name", ["cw_l2", "cw_inf", "apgd_ce", "square", "autoattack", "arc"])
def test_attacks_leave_no_gradients_in_the_weights(name: str) -> None:
    network = small_net().requires_grad_(True)
    changes = {"queries": 3} if name == "square" else {"iterations": 2} if name == "cw_l2" else {"steps": 2}
    run(network, named(name, **changes), range(8))
    assert all(parameter.grad is None for parameter in network.parameters())


# ---- what it cost ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, changes",
    [
        ("fgsm", {}), ("pgd20", {"steps": 3, "restarts": 2}), ("pgd20", {"steps": 4, "stop": "source_fooled"}),
        ("pgd_l2", {"norm": "l2", "epsilon": 0.5, "steps": 3}), ("apgd_ce", {"steps": 4}), ("apgd_dlr", {"steps": 4}),
        ("cw_l2", {"iterations": 5}), ("cw_inf", {"steps": 4}), ("cw_inf_penalty", {"steps": 4}),
        ("square", {"queries": 20}), ("bandits", {"queries": 20}), ("arc", {"steps": 2}),
        ("hinge", {"steps": 2, "restarts": 2}),
        ("autoattack", {"steps": 3, "square_queries": 5}), ("autoattack_rand", {"steps": 2, "eot_queries": 2}),
        ("eot_pgd20", {"steps": 3}), ("ensemble_pgd20", {"steps": 3}),
    ],
)  # fmt: skip
def test_passes_are_those_of_the_networks(name: str, changes: dict[str, Any]) -> None:
    several = name in ("arc", "hinge", "eot_pgd20", "ensemble_pgd20", "autoattack_rand")
    members = [Watched(seed=1), Watched(seed=2)] if several else [Watched()]
    spec = named(name, **changes)
    crafted = run(list(members), spec)
    asked = {kind: sum(member.passes[kind] for member in members) for kind in ("forward", "gradient")}
    # The reliability checks look at all 19 images (fewer than they may). Before the attack: two queries, and two
    # gradients, of the cross-entropy and of the margin; AutoAttack has checks of its own. After: a query.
    networks = COUNT if spec.kind == "autoattack" and several else COUNT * len(members)
    before = 0 if spec.kind == "autoattack" else 2
    assert crafted.forward == asked["forward"] - (before + 1) * networks
    assert crafted.gradient == asked["gradient"] - before * networks
    assert crafted.gradient > 0 or spec.kind in ("square", "bandits")


def test_passes_of_pgd_by_hand() -> None:
    crafted = run(small_net(), attack(steps=5, restarts=2))
    # Padded to 24: a look at what stands, five steps of each restart, and the loss at the end of each.
    assert (crafted.forward, crafted.gradient) == (24, 24 * 2 * (5 + 1))
    members = [small_net(seed=1), small_net(seed=2)]
    crafted = run(members, attack(view="eot"), range(8))
    assert (crafted.forward, crafted.gradient) == (2 * 8, 2 * 8 * 5)


@pytest.mark.parametrize("name", ["square", "bandits"])
def test_queries_of_black_boxes(name: str) -> None:
    network = Watched()
    crafted = run(network, named(name, queries=30))
    assert crafted.queries is not None and crafted.queries.dtype == torch.int64 and crafted.queries.shape == (COUNT,)
    assert int(crafted.queries.min()) >= 1 and int(crafted.queries.max()) <= 30
    assert crafted.gradient == 0


# ---- flags -----------------------------------------------------------------------------------------------------------


class Changed(nn.Module):
    def __init__(self, change: Any) -> None:
        super().__init__()
        self.network, self.change = small_net(), change

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.change(self.network(inputs))
        return found


suspicious = pytest.mark.parametrize(
    "change, flag",
    [
        (lambda logits: logits.softmax(1), "softmax_output"),
        (lambda logits: logits.detach(), "zero_gradients"),
        (lambda logits: logits * 0 + 1, "constant_output"),
        (lambda logits: logits + torch.randn_like(logits), "randomised_output"),
    ],
    ids=["softmax", "no gradient", "constant", "random"],
)


@suspicious
def test_what_the_probe_sees_is_flagged(change: Any, flag: str) -> None:
    assert flag in run(Changed(change), attack()).flags
    assert run(Changed(lambda logits: logits), attack()).flags == ()


@suspicious
def test_autoattacks_own_checks_stand_in_for_the_probe(change: Any, flag: str) -> None:
    spec = named("autoattack", steps=2, square_queries=3, epsilon="1/255")
    assert flag in run(Changed(change), spec).flags
    assert flag not in run(Changed(lambda logits: logits), spec).flags


def test_only_who_expects_noise_may_meet_it() -> None:
    noisy = Changed(lambda logits: logits + torch.randn_like(logits))
    assert "randomised_output" in run(noisy, named("square", queries=5)).flags
    # Also where it asks a switch: it believes the first answer, whatever it could know.
    assert "randomised_output" in run(noisy, named("square", queries=5, view="switch")).flags
    assert "randomised_output" not in run(noisy, named("autoattack_rand", steps=1, eot_queries=1)).flags
    assert "randomised_output" in run(noisy, named("autoattack", steps=1, square_queries=1)).flags


def test_losses_that_do_not_rise_are_flagged_over_all_batches() -> None:
    assert "loss_not_rising" in run(small_net(), attack(step_size="0", start="zero")).flags
    assert "loss_not_rising" not in run(small_net(), attack(start="zero")).flags


def test_a_reduced_budget_is_flagged() -> None:
    assert "reduced_budget" in run(small_net(), named("autoattack", steps=2, square_queries=5)).flags


# ---- views -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["eot", "ensemble"])
def test_views_of_several_members(view: str) -> None:
    members: list[nn.Module] = [small_net(seed=1), small_net(seed=2)]
    uniform = run(members, attack(view=view)).images
    assert torch.equal(run(members, attack(view=view), probabilities=[0.5, 0.5]).images, uniform)
    first = run(members[:1], attack()).images
    assert torch.equal(run(members, attack(view=view), probabilities=[1.0, 0.0]).images, first)
    assert not torch.equal(uniform, first)
    check_images(uniform, CLEAN, threat_of(attack()))


def test_unit_gradients_are_another_attack() -> None:
    members: list[nn.Module] = [small_net(seed=1), small_net(seed=2)]
    plain = run(members, attack(view="eot")).images
    assert not torch.equal(run(members, attack(view="eot", expectation="mean_unit_gradient")).images, plain)


def test_a_switch_is_drawn_from_the_seed() -> None:
    members: list[nn.Module] = [small_net(seed=1), small_net(seed=2)]
    switched = run(members, attack(view="switch"))
    assert "randomised_output" in switched.flags
    assert torch.equal(run(members, attack(view="switch")).images, switched.images)
    assert not torch.equal(run(members, attack(view="switch"), seed=4).images, switched.images)
    only = run(members, attack(view="switch"), probabilities=[0.0, 1.0])
    assert torch.equal(only.images, run(members[1:], attack()).images) and "randomised_output" not in only.flags


def test_arc_meets_all_members_with_their_probabilities() -> None:
    members: list[nn.Module] = [small_net(seed=1), small_net(seed=2)]
    assert torch.equal(
        run(members, named("arc", steps=2), probabilities=[1.0, 0.0]).images,
        run(members[:1], named("arc", steps=2)).images,
    )
    # The second errs without being attacked.
    assert torch.equal(run(members, named("arc", steps=2), probabilities=[0.0, 1.0]).images[:1], CLEAN[:1])
    assert not torch.equal(run(members[:1], named("arc", steps=2)).images[:1], CLEAN[:1])


def test_view_of() -> None:
    members, draws, uniform = [small_net(seed=1), small_net(seed=2)], generator(0, "switch"), (0.5, 0.5)
    assert isinstance(view_of(members, uniform, attack(view="eot"), draws), ExpectationView)
    assert isinstance(view_of(members, uniform, attack(view="switch"), draws), SwitchView)
    assert isinstance(view_of(members, uniform, named("arc"), draws), ExpectationView)
    logits = view_of(members, uniform, attack(view="ensemble"), draws).logits(CLEAN[:3])
    probabilities = view_of(members, uniform, attack(view="ensemble", average="probabilities"), draws)
    assert isinstance(probabilities, EnsembleView) and not torch.allclose(probabilities.logits(CLEAN[:3]), logits)
    with pytest.raises(SpecError, match="one network, not of 2"):
        view_of(members, uniform, attack(), draws)


# ---- budgets ---------------------------------------------------------------------------------------------------------


def test_l2() -> None:
    spec = attack(norm="l2", epsilon=0.5, step_size=0.2)
    found = run(small_net(), spec).images
    assert float(distances(found, CLEAN)[1].max()) == pytest.approx(0.5, abs=1e-5)
    check_images(found, CLEAN, threat_of(spec))


@pytest.mark.parametrize("name", ["fgsm", "fgsm_rs", "pgd20", "apgd_ce", "cw_inf", "square", "arc", "autoattack"])
def test_no_budget_no_change(name: str) -> None:
    changes = {"square": {"queries": 4}, "autoattack": {"steps": 2, "square_queries": 4}}.get(name, {})
    found = run(small_net(), named(name, epsilon="0", **changes)).images
    assert torch.equal(found, CLEAN)


def test_minimum_norm_images_are_judged_within() -> None:
    found = run(small_net(), named("cw_l2", iterations=40, initial_const=10.0, lr=0.05)).images
    assert threat_of(named("cw_l2")) is None
    _, l2 = check_images(found, CLEAN, None)
    moved = l2 > 0
    assert int(moved.sum()) > 5
    limit = float(l2[moved].median())
    judged = within(found, CLEAN, Threat("l2", limit))
    near = l2 <= limit * (1 + 1e-6)
    assert torch.equal(judged[near], found[near]) and torch.equal(judged[~near], CLEAN[~near])
    assert 0 < int((~near).sum()) < int(moved.sum())


@pytest.mark.parametrize(
    "spec", [attack(step_size=None), named_attack("cw_inf"), named_attack("fgsm"), named_attack("bandits")]
)
def test_an_open_default_is_refused(spec: CraftedSpec) -> None:
    with pytest.raises(SpecError, match="left open"):
        run(small_net(), spec)


# ---- AutoAttack that is stopped --------------------------------------------------------------------------------------


class Kept:
    """State in memory; dies on the save of a given number."""

    def __init__(self, dies_at: int | None = None, data: bytes | None = None) -> None:
        self.dies_at, self.data, self.saves = dies_at, data, 0

    def load(self) -> bytes | None:
        return self.data

    def save(self, data: bytes) -> None:
        self.saves += 1
        if self.saves == self.dies_at:
            raise KeyboardInterrupt
        self.data = data


@pytest.mark.parametrize("name, view", [("autoattack", "member"), ("autoattack_rand", "switch")])
def test_autoattack_goes_on_where_it_was(name: str, view: str) -> None:
    changes = {"steps": 2, "view": view, "epsilon": "2/255"}
    changes |= {"square_queries": 5} if name == "autoattack" else {"eot_queries": 2}
    spec = named(name, **changes)
    members: list[nn.Module] = [small_net(seed=1)] if view == "member" else [small_net(seed=1), small_net(seed=2)]
    whole = Kept()
    undisturbed = run(members, spec, range(11), saved=whole)
    for dies_at in (2, whole.saves - 1):
        killed = Kept(dies_at)
        with pytest.raises(KeyboardInterrupt):
            run(members, spec, range(11), saved=killed)
        rest = Kept(data=killed.data)
        resumed = run(members, spec, range(11), saved=rest)
        assert torch.equal(resumed.images, undisturbed.images) and resumed.flags == undisturbed.flags
        # Repeated: the batch whose result was not saved.
        assert rest.saves == whole.saves - (dies_at - 1)


@pytest.mark.parametrize("name", ["fgsm", "pgd20", "apgd_ce", "cw_l2", "cw_inf", "square", "bandits", "arc", "hinge"])
def test_an_answer_that_is_no_number_under_attack_is_an_error(name: str) -> None:
    class Fragile(nn.Module):
        """Right on the images it knows, NaN anywhere else."""

        def __init__(self) -> None:
            super().__init__()
            self.network = small_net()
            self.root = nn.Identity()

        def forward(self, images: Tensor) -> Tensor:
            grid = images * 16
            off = ((grid - grid.round()).abs() > 1e-4).flatten(1).any(1)
            return self.network(images) + self.root(torch.where(off, torch.nan, 0.0))[:, None]

    clean = (images(8) * 16).round() / 16
    labels = small_net()(clean).argmax(1)
    target = Target([Fragile()], 5, torch.device("cpu"))
    with pytest.raises(RunError, match=r"not numbers \(NaN\): .*layer 'root' \(Identity\)"):
        craft(target, clean, labels, range(8), named(name), 0, lambda done, total, note: None)


def test_where_answers_are_looked_at_late_none_that_is_no_number_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fragile(nn.Module):
        """Answers with NaN for images that are not the clean ones."""

        def __init__(self) -> None:
            super().__init__()
            self.network = small_net()

        def forward(self, images: Tensor) -> Tensor:
            known = (images[:, None] == CLEAN[None]).flatten(2).all(2).any(1)
            return self.network(images) + torch.where(known, 0.0, torch.nan)[:, None]

    def late(network: nn.Module, engine: AttackEngine, device: torch.device, counter: Counter) -> InEngine:
        return InEngine(network, engine, device, counter, deferred=True)  # as on a GPU

    monkeypatch.setattr("rstbench.evaluation.craft.in_engine", late)
    kept = Kept()
    for _ in range(2):  # nor does going on from what was saved get past it
        with pytest.raises(RunError, match=r"not numbers \(NaN\)"):
            run(Fragile(), named("autoattack", steps=2, square_queries=3), range(11), saved=kept)
        assert kept.saves == 1, "the first look, at clean images"
