"""Work of fixed shapes that is recorded once and replayed: CUDA graphs.

A replay runs what was recorded on the very memory that it was recorded with, and nothing of what the host did then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Record = Callable[[Callable[[], Tensor]], tuple[Callable[[], object], Tensor]]
"""Records a function, which may run it a few times first: (what replays it, where the answer then stands)."""

_WARM_UP = 3
"""Runs before the recording: libraries set themselves up in them, which cannot be recorded."""

_Tape = tuple[tuple[Tensor, ...], Callable[[], object], Tensor]
"""Where inputs are put, what replays the recording, and where the answer then stands."""


def record_on_gpu(function: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
    """Records on the current GPU; source of the procedure: PyTorch's notes on CUDA graphs (whole-network capture)."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UP):
            function()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # Of this thread alone: another one may be pinning the next images.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        answer = function()
    return graph.replay, answer


class Recorded:
    """A function of tensors that is recorded, and anew where their shapes are others than the time before.

    function: reads and writes only its arguments and tensors that stay where they are; waits for no value; draws
    nothing. changed: the tensors it changes in place, each time as if it were run once; what the runs before the
    recording did to them is undone. What it leaves behind elsewhere, such as gradients, a replay leaves in the same
    memory. A call returns the answer in memory that the next one overwrites.
    """

    def __init__(
        self, function: Callable[..., Tensor], changed: Callable[[], Iterable[Tensor]], record: Record = record_on_gpu
    ) -> None:
        self._function, self._changed, self._record = function, changed, record
        self._tape: _Tape | None = None

    def __call__(self, *inputs: Tensor) -> Tensor:
        # One tape: gradients stand where the last recording has left them.
        if self._tape is None or [each.shape for each in inputs] != [each.shape for each in self._tape[0]]:
            self._tape = None  # its memory serves the next
            self._tape = self._recorded(inputs)
        places, replay, answer = self._tape
        for place, given in zip(places, inputs, strict=True):
            place.copy_(given, non_blocking=True)
        replay()
        return answer

    def _recorded(self, inputs: tuple[Tensor, ...]) -> _Tape:
        places = tuple(each.clone() for each in inputs)
        before = [(each, each.clone()) for each in self._changed()]
        replay, answer = self._record(lambda: self._function(*places))
        with torch.no_grad():
            for each, value in before:
                each.copy_(value)
        return places, replay, answer
