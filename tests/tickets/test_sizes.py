from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load
from torch import Tensor

from rstbench.errors import TicketError
from rstbench.networks import build
from rstbench.tickets.checkpoint import Checkpoint, checkpoint_bytes
from rstbench.tickets.files import read
from rstbench.tickets.mask import maskable
from rstbench.tickets.sizes import (
    chance_overlap,
    mask_bytes,
    masked_weights,
    overlap,
    raw_mask_bytes,
    weight_bytes,
    weights_drawn_from,
)
from rstbench.tickets.weights import RandomWeights
from tests.networks.specs import digits
from tests.tickets.tickets import DENSE, KEY, TINY, pruned, rtt, ticket, trained

PARAMETERS = sum(p.numel() for p in build(TINY).parameters())
MASKABLE = sum(w.numel() for w in maskable(build(TINY)).values())


@pytest.mark.parametrize("made", [ticket(), ticket(pattern="row"), rtt(), pruned()], ids=["rst", "row", "rtt", "tuned"])
def test_bytes_of_files_with_masks(made: Any) -> None:
    data = made.to_bytes()
    stored = mask_bytes(data)
    assert stored == load(data)["mask"].numel() > 0
    file = read(data, "here")
    weights = sum(w.numel() for w in maskable(build(file.model)).values())
    # Whatever the pattern: one bit for each weight.
    assert raw_mask_bytes(file) == -(-weights // 8)
    assert weight_bytes(file) == 4 * sum(p.numel() for p in build(file.model).parameters())
    assert sum(weights_drawn_from(file, "k", "last").values()) == weight_bytes(file)


def test_a_dense_network_has_no_mask() -> None:
    data = checkpoint_bytes(DENSE, trained())
    file = read(data, "here")
    assert isinstance(file, Checkpoint)
    assert (mask_bytes(data), raw_mask_bytes(file)) == (0, 0)
    with pytest.raises(TicketError, match="member 2: a dense network has no mask"):
        masked_weights(file, "member 2")


def shared(*files: tuple[Any, str]) -> int:
    """Bytes of the weights that the files are drawn from, each once."""
    drawn = [weights_drawn_from(file, key, "last") for file, key in files]
    return sum({origin: size for each in drawn for origin, size in each.items()}.values())


def test_random_weights_are_shared_where_seed_initialisation_name_and_shape_are() -> None:
    one, other = ticket(ratio=0.1), ticket(ratio=0.5)
    assert shared((one, "a"), (other, "b")) == 4 * PARAMETERS
    assert shared((one, "a"), (ticket(seed=4), "b")) == 8 * PARAMETERS
    assert shared((one, "a"), (ticket(init="kaiming_normal"), "b")) == 8 * PARAMETERS
    # Another number of classes: only the classifier is another one.
    hundred = ticket(digits("preact_resnet10", width=0.0625, classes=100))
    classifier = [p.numel() for name, p in build(hundred.model).named_parameters() if name == "classifier.weight"]
    assert shared((one, "a"), (hundred, "b")) == 4 * (PARAMETERS + classifier[0])


def test_trained_weights_are_shared_with_the_network_they_are_drawn_from() -> None:
    dense = read(checkpoint_bytes(DENSE, trained()), "here")
    size = weight_bytes(dense)
    assert shared((rtt(), "a"), (rtt(), "b")) == shared((rtt(), "a"), (dense, KEY)) == size
    assert shared((rtt(), "a"), (dense, "elsewhere")) == 2 * size
    # A classifier that is drawn anew is its own, for every task that draws it from the same seed.
    anew = shared((rtt(classifier="reinitialised"), "a"), (dense, KEY)) - size
    assert anew == 4 * sum(p.numel() for name, p in build(DENSE).named_parameters() if "classifier" in name)
    assert shared((pruned(), "a"), (pruned(), "b")) == 2 * weight_bytes(pruned())
    assert isinstance(ticket().weights, RandomWeights)


def test_overlap_counts_weights_whatever_the_pattern() -> None:
    by_element, by_row = masked_weights(ticket(), "a"), masked_weights(ticket(pattern="row"), "b")
    assert overlap(by_element, by_element) == overlap(by_row, by_row) == 1.0
    either = sum(int((mask | by_row[name]).sum()) for name, mask in by_element.items())
    both = sum(int((mask & by_row[name]).sum()) for name, mask in by_element.items())
    assert overlap(by_element, by_row) == both / either
    wider = masked_weights(ticket(digits("preact_resnet10", width=0.125)), "c")
    with pytest.raises(TicketError, match="different networks"):
        overlap(by_element, wider)


@settings(max_examples=15, deadline=None)
@given(p=st.floats(0.05, 1.0), q=st.floats(0.05, 1.0), seed=st.integers(0, 99))
def test_random_masks_overlap_as_chance_has_it(p: float, q: float, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)

    def drawn(share: float) -> dict[str, Tensor]:
        return {name: torch.rand(40_000, generator=random) < share for name in ("a", "b")}

    one, other = drawn(p), drawn(q)
    assert overlap(one, other) == overlap(other, one)
    assert overlap(one, other) == pytest.approx(chance_overlap(one, other), abs=0.02)


def test_masks_that_keep_nothing_are_equal() -> None:
    none = {"a": torch.zeros(5, dtype=torch.bool)}
    assert overlap(none, none) == chance_overlap(none, none) == 1.0
    assert overlap(none, {"a": torch.ones(5, dtype=torch.bool)}) == 0.0


def test_a_mask_of_tensors_is_read_from_the_header_alone() -> None:
    data = ticket().to_bytes()
    size = int.from_bytes(data[:8], "little")
    begin, end = json.loads(data[8 : 8 + size])["mask"]["data_offsets"]
    assert mask_bytes(data[: 8 + size]) == end - begin
