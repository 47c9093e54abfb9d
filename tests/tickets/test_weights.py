"""Tickets of trained weights (RTT)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rstbench.errors import TicketError
from rstbench.networks import build
from rstbench.networks.init import initialise, theta_digest
from rstbench.tickets.mask import expand
from rstbench.tickets.ticket import Ticket, read_ticket
from rstbench.tickets.weights import RandomWeights, TrainedWeights, class_parameters, fill
from tests.networks.specs import digits, spec
from tests.tickets.tickets import DENSE, KEY, TINY, forged, header_of, rtt, store_of, ticket, trained


def test_a_ticket_of_trained_weights_is_those_weights_times_its_mask() -> None:
    state = trained()
    made = rtt()
    data = made.to_bytes()
    back = read_ticket(data)
    assert back.weights == made.weights and back.to_bytes() == data
    network = back.network(store_of(state))
    found = network.state_dict()
    for name, value in state.items():
        if name in made.buffers:
            assert torch.equal(found[name], made.buffers[name])  # of the search, not of the training
        else:
            mask = made.masks.get(name)
            assert torch.equal(found[name], value if mask is None else value * expand(mask, value)), name
    assert not network.training and not any(value.requires_grad for value in network.parameters())
    # The weights are stored once, with the dense network: the file has masks and buffers only.
    assert len(data) < 4 * sum(value.numel() for value in state.values()) / 2


def test_the_header_says_whose_weights_they_are_and_that_of_random_ones_is_what_it_was() -> None:
    assert header_of(rtt().to_bytes())["weights"] == {
        "kind": "trained", "key": KEY, "checkpoint": "last", "classifier": "kept", "init": "kaiming_normal", "seed": 5,
    }  # fmt: skip
    header = header_of(ticket().to_bytes())
    assert header["weights"] == {"kind": "random", "init": "signed_kaiming_constant", "seed": 3}
    assert header.keys() == {
        "format", "model", "weights", "theta_digest", "remaining_ratio", "pattern", "layers", "provenance", "digest",
    }  # fmt: skip
    assert header["model"] == {
        "family": "preact_resnet10", "width": 0.0625, "classes": 10, "channels": 1, "image_size": 8, "mean": [0.3],
        "std": [0.37], "bn_affine": False, "classifier_bias": False,
    }  # fmt: skip


def test_without_the_weights_the_message_names_their_key() -> None:
    with pytest.raises(TicketError, match=f"checkpoint last of value {KEY}; name the store that holds that value"):
        rtt().network()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state.update({"stem.weight": state["stem.weight"] + 1e-6}),
        lambda state: state.update({"classifier.bias": state["classifier.bias"].neg()}),
    ],
)
def test_other_weights_under_the_same_name_are_noticed(spoil: Any) -> None:
    state = trained()
    spoil(state)
    with pytest.raises(TicketError, match=r"found as checkpoint last of value 0123456789ab are not those .*SHA-256"):
        rtt().network(store_of(state))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda state: state.pop("stem.weight"), "stem.weight"),
        (lambda state: state.update(more=torch.zeros(1)), "more"),
        (lambda state: state.update({"bn.running_var": torch.zeros(3)}), "bn.running_var"),
        (lambda state: state.update({"classifier.bias": torch.zeros(10, dtype=torch.float64)}), "classifier.bias"),
    ],
)
def test_weights_that_do_not_fit_are_one_message(change: Any, name: str) -> None:
    state = trained()
    change(state)
    with pytest.raises(TicketError, match=f"are not those of a preact_resnet10 .* for 10 classes .{name} differs"):
        rtt().network(store_of(state))


def test_weights_of_another_number_of_classes_need_a_new_classifier() -> None:
    seven = digits("preact_resnet10", width=0.0625, bn_affine=True, classifier_bias=True, classes=7)
    state = trained(seven)
    with pytest.raises(TicketError, match=r"for 10 classes \(classifier\.weight differs\)"):
        rtt(state=state)
    drawn = build(DENSE)
    initialise(drawn, "kaiming_normal", 5)
    for of in (state, trained()):  # the classifier is drawn anew also where it would have fitted
        theta = dict(rtt(classifier="reinitialised", state=of).theta(store_of(of)).named_parameters())
        for name, value in theta.items():
            expected = dict(drawn.named_parameters())[name] if name.startswith("classifier") else of[name]
            assert torch.equal(value, expected), name
    assert not theta["classifier.bias"].any() and theta["classifier.weight"].any()


def test_running_statistics_start_at_the_trained_ones() -> None:
    module, state = build(DENSE), trained()
    weights = TrainedWeights(key=KEY, checkpoint="last", classifier="reinitialised", init="kaiming_normal", seed=5)
    fill(module, DENSE, weights, store_of(state))
    found = module.state_dict()
    assert torch.equal(found["bn.running_mean"], state["bn.running_mean"]) and int(found["bn.num_batches_tracked"]) == 7


@pytest.mark.parametrize("family", ["preact_resnet10", "cifar_resnet18", "wide_resnet10", "resnet18"])
@pytest.mark.parametrize("bias", [False, True])
def test_class_parameters_are_the_classifier(family: str, bias: bool) -> None:
    width = 1.0 if family == "resnet18" else 0.0625
    found = class_parameters(spec(family, width=width, classifier_bias=bias))
    head = "fc" if family == "resnet18" else "classifier"
    assert found == {f"{head}.weight"} | ({f"{head}.bias"} if bias else set())


@pytest.mark.parametrize(
    "change",
    [{"key": "x"}, {"key": KEY.upper()}, {"key": KEY + "\n"}, {"checkpoint": "../last"}, {"checkpoint": ""},
     {"checkpoint": "last\n"}, {"classifier": "new"}, {"init": "zero"}, {"seed": -1}, {"kind": "random"}, {"more": 1}],
)  # fmt: skip
def test_origins_that_are_none(change: dict[str, Any]) -> None:
    with pytest.raises(TicketError, match=r"its header's 'weights"):
        read_ticket(forged(rtt().to_bytes(), lambda header: header["weights"].update(change)))


LAST = TINY.model_copy(update={"last_bn_affine": True})


def _with_parameters(**changes: Tensor) -> Ticket:
    names = {"bn.weight": torch.rand(32), "bn.bias": torch.rand(32)}
    return replace(ticket(LAST), parameters={name: value for name, value in (names | changes).items() if len(value)})


def test_parameters_that_are_trained_beside_the_mask_are_stored() -> None:
    made = _with_parameters()
    back = read_ticket(made.to_bytes())
    found = dict(back.network().named_parameters())
    for name, value in made.parameters.items():
        assert torch.equal(found[name], value) and not found[name].requires_grad
    assert {name for name in header_of(made.to_bytes())["model"] if "last" in name} == {"last_bn_affine"}
    plain = _with_parameters(**{"bn.weight": torch.zeros(0), "bn.bias": torch.zeros(0)}).network()
    assert bool((dict(plain.named_parameters())["bn.weight"] == 1).all())


@pytest.mark.parametrize(
    "changes",
    [{"bn.weight": torch.rand(3)}, {"bn.bias": torch.rand(32).double()}, {"stem.weight": torch.rand(4, 1, 3, 3)},
     {"bn.running_mean": torch.rand(32)}, {"nothing": torch.rand(1)}],
)  # fmt: skip
def test_parameters_that_are_not_the_networks(changes: dict[str, Tensor]) -> None:
    spoilt = read_ticket(_with_parameters(**changes).to_bytes())
    with pytest.raises(TicketError, match="trained parameters are not among those of its network"):
        spoilt.network()


def test_what_last_bn_affine_adds_is_drawn_where_the_trained_network_has_none() -> None:
    plain = digits("preact_resnet10", width=0.0625)
    weights = TrainedWeights(key=KEY, checkpoint="last", classifier="kept", init="kaiming_normal", seed=5)
    for dense in (plain, DENSE):
        model = dense.model_copy(update={"last_bn_affine": True})
        module, state = build(model), trained(dense)
        fill(module, model, weights, store_of(state))
        found = module.state_dict()
        assert all(torch.equal(found[name], value) for name, value in state.items())
        if dense is plain:
            assert bool((found["bn.weight"] == 1).all()) and not found["bn.bias"].any()


def test_random_weights_need_no_store() -> None:
    module, expected = build(TINY), build(TINY)
    fill(module, TINY, RandomWeights(init="kaiming_normal", seed=2), None)
    initialise(expected, "kaiming_normal", 2)
    assert theta_digest(module) == theta_digest(expected)
