from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rstbench.attacks.cw_inf import cw_inf_bounded, cw_inf_penalty
from rstbench.attacks.draws import PerImage
from rstbench.attacks.margin import margin
from rstbench.attacks.threat import Threat, distances, random_start
from rstbench.defenses.view import CallableView
from rstbench.defenses.views import ExpectationView
from rstbench.errors import SpecError
from tests.attacks.digits import trained
from tests.attacks.linear_models import linear_model
from tests.attacks.networks import images, small_net

STEP = 0.005
"""How far one step of Adam at lr 0.01 moves a mid-grey pixel: tanh has slope 1 there, and half of it is the image."""


def bounded(network: nn.Module, inputs: Tensor, labels: Tensor, epsilon: float, **options: object) -> Tensor:
    settings = {"draws": PerImage(0, range(len(inputs))), "steps": 100, "step_size": 2 * epsilon} | options
    return cw_inf_bounded(
        CallableView(network),
        inputs,
        labels,
        threat=Threat("linf", epsilon),
        **settings,  # type: ignore[arg-type]
    ).images


def penalty(network: nn.Module, inputs: Tensor, labels: Tensor, tau: float, **options: object) -> Tensor:
    return cw_inf_penalty(CallableView(network), inputs, labels, tau=tau, **options).images  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
def test_bounded_reaches_the_two_class_linear_optimum(seed: int) -> None:
    model = linear_model(2, 40, seed=seed)
    for epsilon in (0.01, 0.1, 0.25):
        found = bounded(model.network, model.inputs, model.labels, epsilon)
        assert torch.allclose(model.margins(found)[:, 0], model.optimum("linf", epsilon), rtol=1e-2)


def test_bounded_reaches_a_corner_of_several_classes() -> None:
    # The margin is the greatest of several linear functions: ascent ends in the corner of one rival, exactly, and the
    # rival that is nearest at the start need not be the one that reaches furthest. It is for most.
    model = linear_model(6, 200)
    found = model.margins(bounded(model.network, model.inputs, model.labels, 0.05)).amax(1)
    best = model.optimum("linf", 0.05)
    corners = model.margins(model.inputs) + 0.05 * model.dual_norm("linf")
    assert float((found.unsqueeze(1) - corners).abs().amin(1).max()) < 1e-2 * float(best.abs().mean())
    assert float((found >= best - 0.01 * best.abs()).float().mean()) > 0.6


def test_bounded_fools_exactly_within_the_distance_to_the_boundary() -> None:
    model = linear_model(2, 100)
    reach = model.distance("linf")
    for epsilon in (0.01, 0.03):
        fooled = model.network(bounded(model.network, model.inputs, model.labels, epsilon)).argmax(1) != model.labels
        assert bool(fooled[reach < epsilon * 0.99].all()) and not bool(fooled[reach > epsilon * 1.01].any())
        assert 5 < int(fooled.sum()) < 95


class Recording:
    """A view that keeps what it was asked about."""

    def __init__(self, network: nn.Module) -> None:
        self.view, self.asked = CallableView(network), []

    def logits(self, asked: Tensor) -> Tensor:
        return self.view.logits(asked)

    def step(self, asked, labels, criterion):  # type: ignore[no-untyped-def]
        self.asked.append(asked.clone())
        return self.view.step(asked, labels, criterion)


def test_bounded_keeps_the_iterate_of_the_greatest_margin() -> None:
    network, inputs = small_net(), images(40)
    labels = network(inputs).argmax(1)
    threat, view = Threat("linf", 0.1), Recording(network)
    # Every step is longer than the ball is wide: the iterates jump about, and the last is seldom the best.
    found = cw_inf_bounded(view, inputs, labels, threat=threat, draws=PerImage(0, range(40)), steps=7, step_size=10.0)
    trace = torch.stack([margin(network(asked), labels) for asked in view.asked])
    assert trace.shape == (8, 40) and found.losses is not None
    assert torch.allclose(found.losses, trace[:7], atol=1e-6)
    assert torch.equal(view.asked[0], random_start(inputs, threat, PerImage(0, range(40))))
    best = trace.argmax(0)
    assert len(set(best.tolist())) > 3 and 7 in best.tolist()
    assert torch.equal(found.images, torch.stack(view.asked)[best, torch.arange(40)])


def test_bounded_halves_its_steps() -> None:
    # Far from any corner or edge, each step moves every pixel by its full length.
    model = linear_model(2, 3)
    view = Recording(model.network)
    cw_inf_bounded(
        view, model.inputs, model.labels, threat=Threat("linf", 0.25), draws=PerImage(0, range(3)), steps=12,
        step_size=1e-3,
    )  # fmt: skip
    moved = (torch.stack(view.asked[1:]) - torch.stack(view.asked[:-1])).abs().flatten(1).median(1).values
    assert moved.tolist() == pytest.approx([1e-3 * 0.5 ** (number // 2) for number in range(12)], rel=0.02)


def test_bounded_is_at_least_as_strong_as_its_last_iterate() -> None:
    network, inputs = small_net(), images(200)
    labels = network(inputs).argmax(1)
    view = Recording(network)
    found = cw_inf_bounded(
        view, inputs, labels, threat=Threat("linf", 0.03), draws=PerImage(0, range(200)), steps=20, step_size=0.003
    ).images
    assert bool((margin(network(found), labels) >= margin(network(view.asked[-1]), labels) - 1e-6).all())


def test_bounded_is_of_the_linf_norm() -> None:
    with pytest.raises(SpecError, match="l2"):
        cw_inf_bounded(
            CallableView(small_net()), images(2), torch.zeros(2).long(), threat=Threat("l2", 0.5),
            draws=PerImage(0, range(2)), steps=1, step_size=0.5,
        )  # fmt: skip


def sign_model(pixels: int, scale: float, count: int = 200):  # type: ignore[no-untyped-def]
    """A two-class linear model, all of whose margin's slopes are `scale` in size."""
    model = linear_model(2, count, pixels)
    gap = (model.weight[1] - model.weight[0]).sign() * scale
    with torch.no_grad():
        model.weight[0], model.weight[1] = -gap / 2, gap / 2
        model.network[1].weight.copy_(model.weight)
        model.network[1].bias.copy_(-model.weight.sum(1) / 2)
    return type(model)(model.network, model.inputs, model.network(model.inputs).argmax(1), model.weight)


@pytest.mark.parametrize("tau", [0.01, 8 / 255, 0.1])
def test_penalty_finds_the_nearest_boundary_where_the_margin_outweighs_the_penalty(tau: float) -> None:
    # The oracle: with constant * slope above 1 at every pixel, no penalty holds a pixel back; every image must be
    # fooled, from any tau, at the closed form's least distance plus what one step of Adam overshoots.
    model = sign_model(48, scale=40.0)
    found = penalty(model.network, model.inputs, model.labels, tau)
    reach = model.distance("linf").double()
    linf, _ = distances(found, model.inputs)
    assert bool((model.network(found).argmax(1) != model.labels).all())
    assert bool((linf >= reach * 0.999).all()) and bool((linf <= reach + 1.5 * STEP).all())


def test_penalty_gives_up_where_the_penalty_outweighs_the_margin() -> None:
    # With constant * slope below 1 a pixel over tau is pulled back: beyond tau plus the overshoot nothing is fooled.
    model = sign_model(48, scale=2.0)
    reach, tau = model.distance("linf"), 0.02
    found = penalty(model.network, model.inputs, model.labels, tau)
    fooled = model.network(found).argmax(1) != model.labels
    assert torch.equal(found[~fooled], model.inputs[~fooled])
    near, far = reach < 0.6 * tau, reach > tau + 2 * STEP
    assert int(near.sum()) > 10 and bool(fooled[near].all())
    assert int(far.sum()) > 10 and not bool(fooled[far].any())


def test_penalty_distances_on_random_linear_models() -> None:
    model = linear_model(5, 200, scale=10.0)
    found = penalty(model.network, model.inputs, model.labels, 0.1)
    fooled = model.network(found).argmax(1) != model.labels
    reach = model.distance("linf").double()
    linf, _ = distances(found, model.inputs)
    assert float(fooled.float().mean()) > 0.99
    assert bool((linf >= reach * 0.999)[fooled].all())
    assert float(((linf - STEP) / reach)[fooled].median()) < 1.1


def reference(network: nn.Module, image: Tensor, label: Tensor, tau: float, steps: int) -> tuple[Tensor, list[float]]:
    """One image alone, by torch's own Adam and autograd; and the tau of every step."""
    start = torch.atanh((image * 2 - 1) * 0.999999)
    w = start.clone().requires_grad_(True)
    adam = torch.optim.Adam([w], lr=0.01)
    origin, best, nearest = (start.tanh() + 1) / 2, image.clone(), float("inf")
    before, taus = float("inf"), []
    for number in range(steps):
        candidate = (w.tanh() + 1) / 2
        logits = network(candidate)
        gap = logits[0, label] - torch.cat([logits[0, :label], logits[0, label + 1 :]]).max()
        excess = ((candidate - origin).abs() - tau).clamp_min(0).sum()
        loss = 1.0 * gap.clamp_min(0).squeeze() + excess
        adam.zero_grad()
        loss.backward()
        linf = float((candidate.detach() - image).abs().max())
        if int(logits.argmax(1)) != int(label) and linf < nearest:
            best, nearest = candidate.detach().clone(), linf
        taus.append(tau)
        adam.step()
        if not bool(excess > 0):
            tau *= 0.9
        if number % max(steps // 10, 1) == 0:
            if float(loss.detach()) > before * 0.999999:
                break
            before = float(loss.detach())
    return best, taus


@pytest.mark.parametrize("steps", [5, 40])
def test_penalty_is_the_loop_it_is_said_to_be(steps: int) -> None:
    network, inputs, _ = trained()
    inputs = inputs[:40]
    labels = network(inputs).argmax(1)
    labels[0] = (labels[0] + 1) % 10  # wrong from the start
    found = penalty(network, inputs, labels, 0.05, steps=steps, initial_const=1.0)
    expected = [reference(network, inputs[i : i + 1], labels[i], 0.05, steps) for i in range(40)]
    stopped = {len(taus) for _, taus in expected}
    assert torch.allclose(found, torch.cat([image for image, _ in expected]), atol=2e-5)
    assert steps == 5 or len(stopped) > 1
    assert steps == 5 or len({taus[-1] for _, taus in expected}) > 1
    fooled = network(found).argmax(1) != labels
    assert 1 <= int(fooled.sum()) < 40 and (steps == 5 or int(fooled.sum()) > 3)
    assert torch.equal(found[~fooled], inputs[~fooled]) and float((found[0] - inputs[0]).abs().max()) < 1e-5


def test_penalty_leaves_the_ball_where_it_must() -> None:
    model = sign_model(48, scale=40.0)
    linf, _ = distances(penalty(model.network, model.inputs, model.labels, 0.005), model.inputs)
    assert float(linf.max()) > 0.02


def test_penalty_steps_no_further_with_aborted_images() -> None:
    network, inputs = small_net(), images(40)
    labels = network(inputs).argmax(1)
    view = Recording(network)
    cw_inf_penalty(view, inputs, labels, tau=0.03, steps=60)
    sizes = [len(asked) for asked in view.asked]
    assert sizes[0] == 40 and sizes == sorted(sizes, reverse=True) and sizes[-1] < 40 and 0 not in sizes


def test_penalty_on_an_expectation_wants_every_member_fooled() -> None:
    members, inputs = [small_net(seed=s) for s in (1, 4)], images(60)
    labels = members[0](inputs).argmax(1)
    found = cw_inf_penalty(ExpectationView(members, (0.5, 0.5)), inputs, labels, tau=0.05, initial_const=10.0).images
    moved = (found != inputs).flatten(1).any(1)
    right = torch.stack([member(found).argmax(1) == labels for member in members]).any(0)
    assert int(moved.sum()) > 3 and not bool(right[moved].any())
