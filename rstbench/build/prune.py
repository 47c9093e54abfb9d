"""Builders of networks whose kept weights are trained under a frozen mask: fine-tuned tickets and lottery tickets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rstbench.build.bench import Bench, Built
from rstbench.build.fit import fit, model_of, origin, snapshots
from rstbench.errors import TicketError
from rstbench.networks import build as build_network
from rstbench.networks.init import initialise
from rstbench.nodes import Node
from rstbench.spec.base import canonical_json
from rstbench.spec.training import TrainingSpec
from rstbench.tickets.masked import MaskedWeights, magnitude_masks
from rstbench.tickets.pruned import Pruned
from rstbench.tickets.ticket import Ticket
from rstbench.training import Progress


def build_tune(node: Node, bench: Bench, progress: Progress) -> Built:
    """A fine-tuned ticket: best and last epoch (paper, Section 5.1). The mask is the ticket's and stays.

    start `inherited`: the ticket's weights and batch-norm statistics. `reinitialised`: weights drawn by `init` from
    the node's seed + 1, statistics as of a new network. Parameters that no mask covers start and train with them.
    The paper names the two starts and no more; seed, statistics and those parameters are our choice.
    """
    key, checkpoint = node.inputs["ticket"], node.spec["ticket"]["checkpoint"]
    ticket = bench.file(key, checkpoint)
    if not isinstance(ticket, Ticket):
        raise TicketError(f"value {key[:12]}, {checkpoint}: a ticket is needed to fine-tune, not a trained network")
    if ticket.model != model_of(node):
        raise TicketError(f"value {key[:12]}, {checkpoint}: the ticket is of another network than is to be fine-tuned")
    if node.spec["start"] == "inherited":
        network = ticket.network(bench.weights).requires_grad_(True).train()
        start: dict[str, Any] = {"start": "inherited"}
    else:
        network = build_network(ticket.model)
        start = {"start": "reinitialised", "init": node.spec["init"], "seed": node.spec["seed"] + 1}
        initialise(network, start["init"], start["seed"])
    facts = {"tune": {"training": node.spec["training"], **start}, "ticket": {"key": key, "checkpoint": checkpoint}}
    return _trained(node, bench, progress, network, ticket.masks, ticket.remaining_ratio, ticket.pattern, facts)


def build_lottery(node: Node, bench: Bench, progress: Progress) -> Built:
    """An adversarially trained lottery ticket: best and last epoch (the comparison of the paper's Section 4.7).

    Each layer of the trained network keeps its largest weights by magnitude, in one round of pruning; they are
    rewound to where they started (`init`, seed) and trained again. Batch norm starts as in a new network. Deviation:
    the work that the paper compares with (Li et al. 2020) prunes in several rounds.
    """
    key, checkpoint = node.inputs["weights"], node.spec["weights"]["checkpoint"]
    model, init, seed, ratio = model_of(node), node.spec["init"], node.spec["seed"], node.spec["remaining_ratio"]
    trained = bench.file(key, checkpoint)
    if trained.model != model:
        raise TicketError(f"value {key[:12]}, {checkpoint}: the network that is to be pruned is another one")
    masks = magnitude_masks(trained.network(bench.weights), ratio)
    network = build_network(model)
    initialise(network, init, seed)
    facts = {
        "lottery": {"training": node.spec["training"], "init": init, "seed": seed},
        "weights": {"key": key, "checkpoint": checkpoint},
    }
    return _trained(node, bench, progress, network, masks, ratio, "element", facts)


def _trained(
    node: Node,
    bench: Bench,
    progress: Progress,
    network: nn.Module,
    masks: Mapping[str, Tensor],
    ratio: float,
    pattern: str,
    facts: dict[str, Any],
) -> Built:
    spec = TrainingSpec.model_validate_json(canonical_json(node.spec["training"]))
    model, seed = model_of(node), node.spec["seed"]
    outcome, record = fit(node, bench, progress, spec, network, lambda each: MaskedWeights(each, masks), seed)
    files = {}
    for name, state in snapshots(outcome).items():
        pruned = Pruned(model, ratio, pattern, masks, state, {**facts, **origin(node, bench, name)})
        files[f"{name}.safetensors"] = pruned.to_bytes()
    return record, files
