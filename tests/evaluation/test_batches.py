from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rstbench.attacks.pgd import cross_entropy
from rstbench.defenses.view import CallableView
from rstbench.errors import DeviceError
from rstbench.evaluation.batches import InParts, in_batches, out_of_memory, padded, whole_batches
from tests.attacks.networks import images, small_net


class Limited:
    """A network that runs out of memory above some number of images."""

    def __init__(self, limit: int, error: Exception | None = None) -> None:
        self.network, self.limit, self.sizes = small_net(), limit, []
        self.error = error or torch.OutOfMemoryError("CUDA out of memory")

    def __call__(self, inputs: Tensor) -> Tensor:
        self.sizes.append(len(inputs))
        if len(inputs) > self.limit:
            raise self.error
        return self.network(inputs)  # type: ignore[no-any-return]


@given(count=st.integers(0, 50), batch=st.integers(1, 20), limit=st.integers(1, 20))
def test_every_row_once_and_in_order(count: int, batch: int, limit: int) -> None:
    def work(begin: int, end: int) -> list[int]:
        if end - begin > limit:
            raise torch.OutOfMemoryError
        return list(range(begin, end))

    told: list[float] = []
    parts, used = in_batches(work, count, batch, lambda done, total, note: told.append(done / total))
    assert [row for part in parts for row in part] == list(range(count))
    assert used <= batch and (used == batch or used <= limit)
    assert told == sorted(told) and (told[-1] == 1 if count else not told)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    ],
)
def test_memory_errors_halve_the_batch(error: Exception) -> None:
    assert out_of_memory(error)
    limited = Limited(5, error)
    inputs = images(23)
    parts, used = in_batches(lambda begin, end: limited(inputs[begin:end]), 23, 16)
    assert torch.allclose(torch.cat(parts), limited.network(inputs), atol=1e-6)
    assert used == 4 and limited.sizes == [16, 8, 4, 4, 4, 4, 4, 3]


def test_one_image_that_does_not_fit_is_the_devices_fault() -> None:
    with pytest.raises(DeviceError, match="single image"):
        in_batches(lambda begin, end: Limited(0)(images(end - begin)), 4, 4)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("can't allocate memory")])
def test_other_errors_are_not_touched(error: Exception) -> None:
    assert not out_of_memory(error)
    with pytest.raises(type(error), match=str(error)):
        in_batches(lambda begin, end: Limited(0, error)(images(1)), 4, 4)


@given(count=st.integers(0, 60), batch=st.integers(1, 20))
def test_padding(count: int, batch: int) -> None:
    rows = torch.arange(count)
    total = whole_batches(count, batch)
    size = min(batch, count)
    assert total >= count and (total - count < size or count == 0)
    for begin in range(0, total, max(size, 1)):
        part = padded(rows, begin, begin + size).tolist()
        assert part == [min(row, count - 1) for row in range(begin, begin + size)]


def test_padding_of_images() -> None:
    inputs = images(5)
    part = padded(inputs, 3, 7)
    assert torch.equal(part, torch.stack([inputs[3], inputs[4], inputs[4], inputs[4]]))


@pytest.mark.parametrize("limit", [100, 6, 1])
def test_a_view_in_parts_is_the_view(limit: int) -> None:
    inputs, limited = images(13), Limited(limit)
    labels = limited.network(inputs).argmax(1)
    labels[::3] = 0
    expected = CallableView(limited.network).step(inputs, labels, cross_entropy)
    view = InParts(CallableView(limited), 13)
    step = view.step(inputs, labels, cross_entropy)
    assert torch.allclose(step.gradient, expected.gradient, atol=1e-6)
    assert torch.allclose(step.loss, expected.loss, atol=1e-6) and torch.equal(step.standing, expected.standing)
    assert torch.allclose(view.logits(inputs), limited.network(inputs), atol=1e-6)
    assert view.batch == {100: 13, 6: 6, 1: 1}[limit]
    tried = len([size for size in limited.sizes if size > limit])
    view.step(inputs, labels, cross_entropy)
    assert len([size for size in limited.sizes if size > limit]) == tried  # it has learned


def test_tensors_that_did_not_fit_are_gone_when_it_is_tried_again() -> None:
    class Big:
        alive = 0

        def __init__(self) -> None:
            Big.alive += 1

        def __del__(self) -> None:
            Big.alive -= 1

    seen: list[int] = []

    def work(begin: int, end: int) -> int:
        seen.append(Big.alive)
        held = Big()
        if end - begin > 2:
            raise torch.OutOfMemoryError
        return len([held])

    in_batches(work, 8, 8)
    assert seen[:3] == [0, 0, 0]
