"""The k-th score of a layer on a CPU, and walks over large tensors that stay in its cache.

A layer may lie in memory as `channels_last`. What is computed here follows memory, where that is several times faster;
only of equal scores at the threshold it matters, and counts, which of them comes first in the tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Values = NDArray[np.float32]

_BLOCK = 1 << 16
"""Entries of a block: three tensors of it fit into the second-level cache."""

_STRIDE = 61
"""Every so manieth score is looked at first; prime, so that no dimension of a layer is met in step."""

_SMALL = 1 << 14
"""Scores below which a sample saves nothing."""


def select_on_host(scores: Tensor, dropped: int) -> Tensor:
    """`mask.select` on a CPU: drops `dropped` scores, at least one and not all."""
    values: Values = _in_memory_order(scores).numpy()
    threshold = nth_smallest(values, dropped - 1)
    if not threshold < np.inf:
        values = np.nan_to_num(values, nan=np.inf, posinf=np.inf, neginf=-np.inf)
        threshold = np.partition(values, dropped - 1)[dropped - 1]
    # Not `values > threshold`: NaN is above everything.
    mask = np.less_equal(values, threshold)
    np.logical_not(mask, out=mask)
    missing = len(values) - dropped - int(np.count_nonzero(mask))
    if missing:
        tied = np.flatnonzero(values == threshold)
        mask[_latest(tied, scores, missing)] = True
    return _back(torch.from_numpy(mask), scores)


def nth_smallest(values: Values, rank: int) -> np.float32:
    """The entry that would stand at `rank` (from 0) if `values` were sorted, NaN last.

    Floyd and Rivest's selection (1975): a sample says between which two values it lies, which few others do, and only
    those are partitioned. Where the sample was wrong, all are.
    """
    count = len(values)
    if count >= _SMALL:
        sample = values[::_STRIDE]
        share = rank / count
        margin = 4.0 * math.sqrt(len(sample) * share * (1.0 - share)) + 2.0
        first, last = math.floor(share * len(sample) - margin), math.ceil(share * len(sample) + margin)
        ends = [place for place in (first, last) if 0 <= place < len(sample)]
        sorted_there = np.partition(sample, ends) if ends else sample
        lower = sorted_there[first] if first >= 0 else np.float32(-np.inf)
        upper = sorted_there[last] if last < len(sample) else np.float32(np.inf)
        below = int(np.count_nonzero(values < lower))
        between = values[np.flatnonzero((values >= lower) & (values <= upper))]
        if below <= rank < below + len(between):
            return np.float32(np.partition(between, rank - below)[rank - below])
    return np.float32(np.partition(values, rank)[rank])


def blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of tensors of one shape that together cover them, entry by entry the same ones of each.

    Small flat ones where all are on a CPU and lie in memory alike, contiguous or channels_last; else the tensors as
    they are.
    """
    alike = all(each.is_contiguous() for each in tensors) or all(_channels_last(each) for each in tensors)
    if not alike or any(each.device.type != "cpu" for each in tensors):
        return iter([tensors])
    return zip(*(torch.split(_in_memory_order(each), _BLOCK) for each in tensors), strict=True)


def _channels_last(tensor: Tensor) -> bool:
    return not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)


def _in_memory_order(tensor: Tensor) -> Tensor:
    """(N,): a view where the layout is known, else a copy in the order of the tensor."""
    return (tensor.permute(0, 2, 3, 1) if _channels_last(tensor) else tensor).reshape(-1)


def _back(flat: Tensor, like: Tensor) -> Tensor:
    """What `_in_memory_order` took apart, in the shape of `like` again."""
    if not _channels_last(like):
        return flat.view(like.shape)
    outputs, inputs, height, width = like.shape
    return flat.view(outputs, height, width, inputs).permute(0, 3, 1, 2)


def _latest(places: NDArray[np.int64], scores: Tensor, count: int) -> NDArray[np.int64]:
    """Those `count` of some places in memory that come last in the tensor."""
    if not _channels_last(scores):
        return places[-count:]
    outputs, inputs, height, width = scores.shape
    output, row, column, channel = np.unravel_index(places, (outputs, height, width, inputs))
    order = np.ravel_multi_index((output, channel, row, column), (outputs, inputs, height, width))
    return places[np.argpartition(order, len(order) - count)[len(order) - count :]]
