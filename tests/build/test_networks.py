"""Builders of networks on handmade nodes: tickets of trained weights, fine-tuned tickets, lottery tickets, families."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rstbench.build import Bench, run_node
from rstbench.data.sources import facts
from rstbench.errors import StoreError, TicketError
from rstbench.networks import ModelSpec, build
from rstbench.networks.init import initialise, theta_digest
from rstbench.nodes import Node, node_key
from rstbench.spec.models import DatasetSpec
from rstbench.spec.training import SearchSpec, TrainingSpec
from rstbench.store import Store, Value
from rstbench.tickets.checkpoint import Checkpoint
from rstbench.tickets.mask import expand, kept_units
from rstbench.tickets.masked import magnitude_masks
from rstbench.tickets.pruned import Pruned
from rstbench.tickets.ticket import Ticket
from tests.networks.specs import digits

CUT = {"validation_fraction": 0.1, "validation_seed": 0}
QUICK: dict[str, Any] = {
    "epochs": 1, "batch": 256, "lr_schedule": {"kind": "constant"}, "augmentation": {"padding": 0, "flip": False},
    "inner": {"kind": "fgsm_rs", "epsilon": "8/255"}, "validation": {"steps": 1},
}  # fmt: skip
STILL = QUICK | {"lr": 1e-300}
"""A training that moves no weight: what it leaves is what it started from."""


def silent(done: float, total: float, note: str) -> None:
    pass


def node(kind: str, spec: Mapping[str, Any], inputs: Mapping[str, str]) -> Node:
    return Node(kind, node_key(kind, spec, inputs), spec, inputs, kind, 0.0)


def data(source: str = "digits") -> Node:
    known = facts(DatasetSpec(source=source, **CUT), None)
    load = DatasetSpec(source=source).model_dump(mode="json", exclude=set(CUT))
    return node("data", {"fingerprint": known.fingerprint, "load": load}, {})


def model(classes: int = 10, **changes: Any) -> ModelSpec:
    return digits("preact_resnet10", width=0.0625, classes=classes, **changes)


def fitted(kind: str, of: ModelSpec, training: TrainingSpec, on: Node, inputs: Mapping[str, str], **extra: Any) -> Node:
    spec = {"model": of.written(), "training": training.written(), "cut": CUT, "seed": 7, **extra}
    return node(kind, spec, {"data": on.key, **inputs})


DENSE = model(bn_affine=True, classifier_bias=True)
DIGITS, TURNED = data(), data("digits20")
TRAIN = fitted("train", DENSE, TrainingSpec(**QUICK), DIGITS, {}, init="kaiming_normal")
KEPT = {"checkpoint": "last", "classifier": "kept", "init": "kaiming_normal"}
HALF = {"remaining_ratio": 0.3, "pattern": "element"}
SEARCH = fitted("search", model(), SearchSpec(**QUICK), DIGITS, {}, init="signed_kaiming_constant", **HALF)
RTT = fitted("rtt", DENSE, SearchSpec(**QUICK), DIGITS, {"weights": TRAIN.key}, weights=KEPT, **HALF)


def tune(of: Node = SEARCH, start: str = "inherited", training: dict[str, Any] = QUICK, **changes: Any) -> Node:
    fields = {"start": start, "ticket": {"checkpoint": "last"}, "init": "signed_kaiming_constant"} | changes
    own = ModelSpec.model_validate(of.spec["model"])
    return fitted("tune", own, TrainingSpec(**training), DIGITS, {"ticket": of.key}, **fields)


def lottery(training: dict[str, Any] = QUICK) -> Node:
    fields = {"init": "kaiming_normal", "remaining_ratio": 0.2, "weights": {"checkpoint": "best_on_validation"}}
    return fitted("lottery", DENSE, TrainingSpec(**training), DIGITS, {"weights": TRAIN.key}, **fields)


def new_bench(root: Path) -> Bench:
    store = Store(root)
    store.prepare()
    return Bench(store, None, torch.device("cpu"))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A store with the nodes that the others draw from."""
    made = new_bench(tmp_path_factory.mktemp("store"))
    for each in (DIGITS, TURNED, TRAIN, SEARCH, RTT):
        run_node(each, made, silent)
    return made


def made(each: Node, done: Bench, checkpoint: str = "last") -> Any:
    run_node(each, done, silent)
    return done.file(each.key, checkpoint)


def state_of(each: Node, done: Bench, checkpoint: str = "last") -> Mapping[str, Tensor]:
    dense = done.file(each.key, checkpoint)
    assert isinstance(dense, Checkpoint)
    return dense.state


def files(value: Value) -> dict[str, bytes]:
    return {name: value.read(name) for name in value.record["files"]}


def drawn(of: ModelSpec, init: str, seed: int) -> dict[str, Tensor]:
    network = build(of)
    initialise(network, init, seed)
    return {name: value.detach() for name, value in network.named_parameters()}


def masked(parameters: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: value * expand(masks[n], value) if n in masks else value for n, value in parameters.items()}


def test_a_ticket_of_trained_weights(done: Bench) -> None:
    for checkpoint in ("best_on_validation", "last"):
        ticket, dense = done.file(RTT.key, checkpoint), state_of(TRAIN, done)
        assert isinstance(ticket, Ticket) and (ticket.remaining_ratio, ticket.model) == (0.3, DENSE)
        network = done.network(RTT.key, checkpoint)
        parameters = {name: value for name, value in dense.items() if name in dict(network.named_parameters())}
        for name, value in masked(parameters, ticket.masks).items():
            assert torch.equal(dict(network.named_parameters())[name], value), name
        for mask in ticket.masks.values():
            assert int(mask.sum()) == kept_units(mask.numel(), 0.3)
        # The search gathers statistics of its own, from the trained ones on.
        assert int(ticket.buffers["bn.num_batches_tracked"]) > int(dense["bn.num_batches_tracked"])
        assert not torch.equal(ticket.buffers["bn.running_mean"], dense["bn.running_mean"])
        origin = ticket.provenance
        assert origin["weights"] == {"key": TRAIN.key, **KEPT} and origin["data"] == DIGITS.spec
        assert (origin["node"], origin["checkpoint"], origin["search"]) == (RTT.key, checkpoint, RTT.spec["training"])
    assert done.store.value(RTT.key).record["theta_digest"] == ticket.theta_digest


def test_a_transferred_ticket_has_a_new_classifier_and_the_other_data_sets_backbone(done: Bench) -> None:
    own = model(20, bn_affine=True, classifier_bias=True)
    chosen = KEPT | {"classifier": "reinitialised"}
    transferred = fitted(
        "rtt", own, SearchSpec(**QUICK), TURNED, {"weights": TRAIN.key}, weights=chosen, seed=9, **HALF
    )
    theta = dict(made(transferred, done).theta(done.weights).named_parameters())
    dense, anew = state_of(TRAIN, done), drawn(own, "kaiming_normal", 9)
    for name, value in theta.items():
        assert torch.equal(value, anew[name] if name.startswith("classifier") else dense[name]), name
    assert done.network(transferred.key, "last")(torch.rand(2, 1, 8, 8)).shape == (2, 20)
    kept = fitted("rtt", own, SearchSpec(**QUICK), TURNED, {"weights": TRAIN.key}, weights=KEPT, **HALF)
    with pytest.raises(TicketError, match=r"for 20 classes \(classifier\.weight differs\)"):
        run_node(kept, done, silent)


def test_a_search_seed_changes_the_mask_and_not_the_weights(done: Bench) -> None:
    found = {}
    for seed in (7, 8):
        extra: dict[str, Any] = {"init": "signed_kaiming_constant", "search_seed": seed, **HALF}
        found[seed] = made(fitted("search", model(), SearchSpec(**QUICK), DIGITS, {}, **extra), done)
    plain = done.file(SEARCH.key, "last")
    assert isinstance(plain, Ticket) and plain.theta_digest == found[7].theta_digest == found[8].theta_digest
    assert all(torch.equal(mask, found[7].masks[name]) for name, mask in plain.masks.items())
    assert not all(torch.equal(mask, found[8].masks[name]) for name, mask in plain.masks.items())
    assert found[8].provenance["search_seed"] == 8 and "search_seed" not in plain.provenance
    assert found[8].weights == plain.weights


@pytest.mark.parametrize("of", [SEARCH, RTT], ids=["rst", "rtt"])
def test_fine_tuning_starts_from_the_tickets_weights_and_keeps_its_mask(done: Bench, of: Node) -> None:
    ticket, network = done.file(of.key, "last"), done.network(of.key, "last")
    assert isinstance(ticket, Ticket)
    start = {name: value.clone() for name, value in network.named_parameters()}
    still = made(tune(of, training=STILL), done)
    assert isinstance(still, Pruned) and (still.remaining_ratio, still.pattern) == (0.3, "element")
    assert all(torch.equal(still.state[name], value) for name, value in start.items())
    for checkpoint in ("best_on_validation", "last"):
        tuned = made(tune(of), done, checkpoint)
        moved = done.network(tune(of).key, checkpoint).state_dict()
        for name, mask in ticket.masks.items():
            assert torch.equal(tuned.masks[name], mask)
            whole = expand(mask, moved[name]).expand_as(moved[name])
            assert not moved[name][~whole].any() and not torch.equal(moved[name], start[name])
        free = start.keys() - ticket.masks.keys()
        assert all(not torch.equal(moved[name], start[name]) for name in free) and bool(free) == (of is RTT)
        # Statistics are inherited too, and go on.
        assert int(moved["bn.num_batches_tracked"]) > int(ticket.buffers["bn.num_batches_tracked"])
        origin = tuned.provenance
        assert origin["ticket"] == {"key": of.key, "checkpoint": "last"} and origin["checkpoint"] == checkpoint
        assert origin["tune"] == {"training": tune(of).spec["training"], "start": "inherited"}


@pytest.mark.parametrize("of", [SEARCH, RTT], ids=["rst", "rtt"])
def test_fine_tuning_from_new_weights_draws_them_from_the_next_seed(done: Bench, of: Node) -> None:
    init = "signed_kaiming_constant" if of is SEARCH else "kaiming_normal"
    ticket = done.file(of.key, "last")
    assert isinstance(ticket, Ticket)
    each = tune(of, "reinitialised", STILL, init=init)
    still = made(each, done)
    assert isinstance(still, Pruned)
    for name, value in masked(drawn(ticket.model, init, 8), ticket.masks).items():
        assert torch.equal(still.state[name], value), name
    steps = int(still.state["bn.num_batches_tracked"])
    assert 0 < steps <= int(ticket.buffers["bn.num_batches_tracked"])
    assert {key: still.provenance["tune"][key] for key in ("start", "init", "seed")} == {
        "start": "reinitialised", "init": init, "seed": 8,
    }  # fmt: skip


def test_a_lottery_ticket_keeps_the_largest_weights_and_rewinds_them(done: Bench) -> None:
    dense = done.file(TRAIN.key, "best_on_validation")
    masks = magnitude_masks(dense.network(), 0.2)
    still, found = made(lottery(STILL), done), made(lottery(), done)
    start = drawn(DENSE, "kaiming_normal", 7)
    assert done.store.value(TRAIN.key).record["theta_digest"] == done.store.value(lottery().key).record["theta_digest"]
    for name, value in masked(start, masks).items():
        assert torch.equal(still.state[name], value), name
        assert not torch.equal(found.state[name], value)
    for name, mask in masks.items():
        assert torch.equal(found.masks[name], mask) and int(found.state[name].count_nonzero()) <= int(mask.sum())
    assert found.provenance["weights"] == {"key": TRAIN.key, "checkpoint": "best_on_validation"}
    assert found.provenance["lottery"]["init"] == "kaiming_normal" and found.provenance["lottery"]["seed"] == 7


def test_a_family_leaves_one_ticket_for_each_ratio(done: Bench) -> None:
    spec = SearchSpec(**QUICK, family=(0.05, 0.3), last_bn_affine=True)
    own = model(last_bn_affine=True)
    of = fitted("search", own, spec, DIGITS, {}, init="signed_kaiming_constant", pattern="element")
    found = {}
    for ratio, text in ((0.05, "0.05"), (0.3, "0.30")):
        for checkpoint in (f"best_on_validation-{text}", f"last-{text}"):
            ticket = made(of, done, checkpoint)
            assert isinstance(ticket, Ticket) and ticket.remaining_ratio == ratio
            assert ticket.provenance["checkpoint"] == checkpoint
            assert set(ticket.parameters) == {"bn.weight", "bn.bias"} and bool(
                (ticket.parameters["bn.weight"] != 1).any()
            )
            network = done.network(of.key, checkpoint)
            assert torch.equal(dict(network.named_parameters())["bn.bias"], ticket.parameters["bn.bias"])
            for mask in ticket.masks.values():
                assert int(mask.sum()) == kept_units(mask.numel(), ratio)
            found[ratio] = ticket
    assert len(done.store.value(of.key).record["files"]) == 4
    for name, mask in found[0.05].masks.items():
        assert bool((found[0.3].masks[name] | ~mask).all())  # nested
    assert any(not torch.equal(value, found[0.3].buffers[name]) for name, value in found[0.05].buffers.items())
    tuned = made(tune(of, ticket={"checkpoint": "last-0.05"}, training=STILL), done)
    assert tuned.remaining_ratio == 0.05 and torch.equal(tuned.state["bn.bias"], found[0.05].parameters["bn.bias"])


@pytest.mark.parametrize(
    "each", [RTT, tune(), tune(RTT, "reinitialised"), lottery()], ids=["rtt", "tune", "new", "lot"]
)
def test_the_same_work_leaves_the_same_bytes_also_after_a_kill(done: Bench, tmp_path: Path, each: Node) -> None:
    class Killed(BaseException):
        pass

    def dies(step: float, total: float, note: str) -> None:
        if step == 3:
            raise Killed

    other = new_bench(tmp_path)
    for behind in (DIGITS, TRAIN, SEARCH, RTT):
        if behind is not each:
            value = done.store.value(behind.key)
            other.store.write(behind.key, value.record, files(value))
    with pytest.raises(Killed):
        run_node(each, other, dies)
    assert not other.store.has(each.key)
    seen: list[float] = []
    again = run_node(each, other, lambda step, total, note: seen.append(step))
    assert seen[0] == 4 and files(again) == files(run_node(each, done, silent))
    assert set(again.record["files"]) == {"best_on_validation.safetensors", "last.safetensors"}
    assert again.record["outcome"]["best_epoch"] == 1 and again.record["kind"] == each.kind


def test_memory_layout_leaves_no_trace_in_the_files(done: Bench) -> None:
    """The mask and the kept weights are stored in one order, whatever the engine computes in."""
    last = STILL | {"engine": {"layout": "channels_last"}}
    for plain, other in (
        (tune(RTT, training=STILL), tune(RTT, training=last)),
        (lottery(STILL), lottery(last)),
    ):
        one, two = made(plain, done), made(other, done)
        for name, mask in one.masks.items():
            assert torch.equal(mask, two.masks[name]) and torch.equal(one.state[name], two.state[name])


@pytest.mark.gpu
@pytest.mark.parametrize("each", [RTT, tune(RTT), lottery()], ids=["rtt", "tune", "lottery"])
def test_on_a_gpu_masks_hold_too(done: Bench, tmp_path: Path, each: Node) -> None:
    there = new_bench(tmp_path)
    there.device = torch.device("cuda")
    for behind in (DIGITS, TRAIN, RTT):
        if behind is not each:
            value = done.store.value(behind.key)
            there.store.write(behind.key, value.record, files(value))
    found = made(each, there)
    state = {name: value.cpu() for name, value in there.network(each.key, "last").state_dict().items()}
    for name, mask in found.masks.items():
        whole = expand(mask, state[name]).expand_as(state[name])
        assert not state[name][~whole].any() and state[name][whole].any()


def test_theta_is_noted_as_it_was_before_the_mask(done: Bench) -> None:
    network = build(DENSE)
    network.load_state_dict(dict(state_of(TRAIN, done)))
    assert done.store.value(RTT.key).record["theta_digest"] == theta_digest(network)


def test_what_cannot_be_drawn_from_is_one_message(done: Bench, tmp_path: Path) -> None:
    with pytest.raises(TicketError, match="a ticket is needed to fine-tune, not a trained network"):
        run_node(tune(TRAIN), done, silent)
    other = fitted("tune", model(7), TrainingSpec(**QUICK), DIGITS, {"ticket": SEARCH.key}, **{
        "start": "inherited", "ticket": {"checkpoint": "last"},
    })  # fmt: skip
    with pytest.raises(TicketError, match="the ticket is of another network than is to be fine-tuned"):
        run_node(other, done, silent)
    wide = fitted(
        "lottery", model(), TrainingSpec(**QUICK), DIGITS, {"weights": TRAIN.key}, init="kaiming_normal",
        remaining_ratio=0.2, weights={"checkpoint": "last"},
    )  # fmt: skip
    with pytest.raises(TicketError, match="the network that is to be pruned is another one"):
        run_node(wide, done, silent)
    drawn_from = fitted("rtt", model(), SearchSpec(**QUICK), DIGITS, {"weights": SEARCH.key}, weights=KEPT, **HALF)
    with pytest.raises(TicketError, match="is a search, and no dense network to draw from"):
        run_node(drawn_from, done, silent)
    empty = new_bench(tmp_path)
    for behind in (DIGITS, RTT):
        value = done.store.value(behind.key)
        empty.store.write(behind.key, value.record, files(value))
    with pytest.raises(StoreError, match=f"has no value {TRAIN.key}"):
        empty.network(RTT.key, "last")
