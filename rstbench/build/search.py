"""Builders of tickets: searches over random weights (RST) and over trained ones (RTT)."""

from __future__ import annotations

from typing import Any

from rstbench.build.bench import Bench, Built
from rstbench.build.fit import fit, model_of, origin, snapshots
from rstbench.networks import build as build_network
from rstbench.nodes import Node
from rstbench.spec.base import canonical_json, ratio_text
from rstbench.spec.training import SearchSpec
from rstbench.tickets.family import search_subject
from rstbench.tickets.ticket import Ticket, part
from rstbench.tickets.weights import RandomWeights, TrainedWeights, fill
from rstbench.training import Progress


def build_search(node: Node, bench: Bench, progress: Progress) -> Built:
    """Tickets of random weights: best and last epoch, of every ratio where one search serves a family of them."""
    weights = RandomWeights(init=node.spec["init"], seed=node.spec["seed"])
    return _tickets(node, bench, progress, weights, {})


def build_rtt(node: Node, bench: Bench, progress: Progress) -> Built:
    """Tickets of trained weights, natural or robust: best and last epoch (paper, Sections 5.2 and 6.3).

    Batch-norm statistics start at the trained ones. Weights of another data set's network keep all but the
    classifier, which is drawn anew (`TrainedWeights`).
    """
    chosen = node.spec["weights"]
    weights = TrainedWeights(key=node.inputs["weights"], seed=node.spec["seed"], **chosen)
    return _tickets(node, bench, progress, weights, {"weights": {"key": weights.key, **chosen}})


def _tickets(
    node: Node, bench: Bench, progress: Progress, weights: RandomWeights | TrainedWeights, drawn_from: dict[str, Any]
) -> Built:
    spec = SearchSpec.model_validate_json(canonical_json(node.spec["training"]))
    model, pattern, ratio = model_of(node), node.spec["pattern"], node.spec.get("remaining_ratio")
    seed = node.spec.get("search_seed", node.spec["seed"])  # of scores, order and draws; theta has its own
    network = build_network(model)
    fill(network, model, weights, bench.weights)
    outcome, facts = fit(
        node, bench, progress, spec, network, lambda each: search_subject(each, ratio, pattern, spec, seed), seed
    )
    files = {}
    for checkpoint, snapshot in snapshots(outcome).items():
        for each in spec.family or (float(node.spec["remaining_ratio"]),):
            own, name = snapshot, checkpoint
            if spec.family:
                own, name = part(snapshot, f"{ratio_text(each)}/"), f"{checkpoint}-{ratio_text(each)}"
            ticket = Ticket(
                model=model,
                weights=weights,
                remaining_ratio=each,
                pattern=pattern,
                theta_digest=facts["theta_digest"],
                masks=part(own, "mask/"),
                buffers=part(own, "buffer/"),
                provenance={"search": node.spec["training"], **drawn_from, **_seed(node), **origin(node, bench, name)},
                parameters=part(own, "parameter/"),
            )
            files[f"{name}.safetensors"] = ticket.to_bytes()
    return facts, files


def _seed(node: Node) -> dict[str, int]:
    return {"search_seed": node.spec["search_seed"]} if "search_seed" in node.spec else {}
