from __future__ import annotations

import copy
import gc
import weakref

import torch

from rstbench.evaluation.crafting import crafting_network
from tests.evaluation.engines import CLEAN, engine, ours


def test_made_once_and_anew_when_values_change() -> None:
    network = ours()
    first = crafting_network(network, engine())
    assert (
        crafting_network(network, engine()) is first
        and crafting_network(network, engine(layout="channels_last")) is first
    )
    others = [engine(layout="contiguous"), engine(folding=False)]
    assert all(crafting_network(network, other) is not first for other in others)
    assert crafting_network(network, engine(), low=True) is not first
    with torch.no_grad():
        network.get_submodule("stem").weight.mul_(2)
    second = crafting_network(network, engine())
    assert second is not first and torch.equal(second(CLEAN), crafting_network(copy.deepcopy(network), engine())(CLEAN))
    # Written past autograd, which then does not count it; and values that only swap their signs.
    network.get_submodule("stem").weight.data.neg_()
    third = crafting_network(network, engine())
    assert third is not second and torch.equal(third(CLEAN), crafting_network(copy.deepcopy(network), engine())(CLEAN))
    network.get_submodule("bn").running_mean.add_(1.0)
    assert crafting_network(network, engine()) is not third


def test_kept_no_longer_than_the_network() -> None:
    network = ours()
    made = weakref.ref(crafting_network(network, engine()))
    gc.collect()
    assert made() is not None
    del network
    gc.collect()
    assert made() is None
