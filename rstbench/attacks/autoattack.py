"""AutoAttack on a whole test set, the published package batch by batch; it can be killed, and goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rstbench.attacks.autoattack_parts import RAND, STANDARD, Parts
from rstbench.attacks.autoattack_state import Saved, State, fingerprint
from rstbench.attacks.found import Found
from rstbench.attacks.package import Logits, Warnings, own_generator, seed_of
from rstbench.attacks.pgd import cross_entropy
from rstbench.attacks.threat import Threat
from rstbench.compat import import_autoattack
from rstbench.defenses.view import View
from rstbench.errors import SpecError

_TIE = 1e-9  # accuracies are sums of member probabilities, equal up to rounding
_SMALLEST_L2 = 5  # pixels a side: the package's Square divides the image into five tiles a side

ExpectedAccuracy = Callable[[Tensor, Tensor], Tensor]
"""(images (N, C, H, W), labels (N,)) -> (N,), the probability that the defense is right about each."""


def autoattack(
    view: View,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    version: str,
    batch: int,
    seed: int,
    steps: int = 100,
    square_queries: int = 5000,
    eot_queries: int = 20,
    expected_accuracy: ExpectedAccuracy | None = None,
    saved: Saved | None = None,
    progress: Callable[[float, float, str], None] = lambda done, total, note: None,
    device: torch.device | None = None,
    reseed: Callable[[int], object] | None = None,
) -> Found:
    """Adversarial images of all inputs, within `threat` and [0, 1], on the device of the inputs.

    inputs: float32 (N, C, H, W) in [0, 1]; labels: int64 (N,); the whole test set, wherever it lies. Batches of
    `batch` images go to `device` (default: of the inputs), on which the view answers. steps: of APGD and FAB.
    square_queries: per image. saved: where the state is kept after each (attack, batch), so that a killed run repeats
    at most the batch it was in, with the same result; a state of other inputs, labels or settings, or a damaged one,
    is ignored, but whether the model is the same is the caller's to know. reseed: called with a seed before each
    (attack, batch), for a view that draws from a generator of its own; without it, such a view answers a resumed run
    with other numbers. progress: (attacks done, attacks, what was done last). Raises `SpecError` if the images are
    too small for Square in L2.

    Source: Croce and Hein 2020, `pyautoattack` 0.2.0, its attack objects called on each batch of survivors in its
    order and with its seeds, so that images and robust set are those of its `run_standard_evaluation` at the same
    seed and batch. standard: APGD-CE, targeted APGD-DLR, targeted FAB, Square, each on what those before left standing.
    An image that is not fooled, or is misclassified to begin with, is returned clean, as the package does; as an
    attack on another model it says nothing. Deviations:

    - as many targets as there are other classes, at most the published nine. Below four classes the targeted DLR loss
      does not exist; the difference of the two logits, unscaled, takes its place;
    - FAB differentiates to the images only, and leaves no gradients in the weights of the network;
    - torch's global generators are afterwards as they were, nothing is printed or logged, and the check for
      gradients taken inside the model, which needs Python's tracing hook, is not made.

    rand: APGD-CE and APGD-DLR with gradients averaged over `eot_queries` queries. Deviation: the package drops an
    image as soon as a single draw misclassifies it; here both attacks run on all images, and of the clean image and
    those that either attack found (the highest loss, the last misclassified) the one is kept under which the expected
    accuracy of the defense is lowest, and of equals the one of the higher cross-entropy; both are estimated by
    `eot_queries` queries, unless `expected_accuracy` gives the accuracy. With two classes, DLR is replaced by the
    margin.

    Flags, with the package's thresholds (its `checks`): randomised_output (standard; five answers on the first batch
    differ by over 1e-4 in direction, or in accuracy), softmax_output (on the first batch), zero_gradients (of an
    image at the start of an attack on a DLR loss), black_box_beats_white_box (Square lowered the accuracy by over 0.2
    points), few_classes (a loss was replaced or there are fewer than nine targets), reduced_budget (below 100 steps,
    or 5000 queries of Square, or 20 of a randomised defense).
    """
    if threat.norm == "l2" and version == "standard" and len(inputs) and min(inputs.shape[2:]) < _SMALLEST_L2:
        raise SpecError(
            f"AutoAttack in L2 needs images of at least {_SMALLEST_L2} pixels a side (its Square attack does); "
            f"these have {inputs.shape[2]} x {inputs.shape[3]}"
        )
    names = STANDARD if version == "standard" else RAND
    target = inputs.device if device is None else device
    settings = {"norm": threat.norm, "epsilon": threat.epsilon, "version": version, "batch": batch, "seed": seed}
    settings |= {"steps": steps, "package": import_autoattack().__version__}
    settings |= {"square_queries": square_queries} if version == "standard" else {"eot_queries": eot_queries}
    reduced = steps < 100 or (square_queries < 5000 if version == "standard" else eot_queries < 20)
    flags = {"reduced_budget"} if reduced else set()
    if len(inputs) == 0:
        return Found(inputs.clone(), flags=tuple(sorted(flags)))
    key = fingerprint(inputs, labels, settings)
    with torch.no_grad():
        run = _Run(view, inputs, labels, threat, version, batch, seed, steps, square_queries, eot_queries, target)
        run.expected_accuracy, run.reseed = expected_accuracy, reseed
        data = None if saved is None else saved.load()
        state = None if data is None else State.unpacked(data, key, inputs)
        if state is None:
            state = run.first_look()
            if saved is not None:
                saved.save(state.packed(key))
        parts = run.parts(state.classes)
        while state.stage < len(names):
            if state.batch == 0:
                state.rows = state.standing.nonzero()[:, 0]
            number = -(-len(state.rows) // batch)
            if number == 0:
                break
            name, done = names[state.stage], state.batch + 1
            run.work(state, parts, name)
            if done < number:
                state.batch = done
            else:
                state.counts.append(int(state.standing.sum()))
                state.stage, state.batch = state.stage + 1, 0
            if saved is not None:
                saved.save(state.packed(key))
            progress(state.stage + state.batch / number, len(names), f"{name}, batch {done} of {number}")
    progress(len(names), len(names), "done")
    if version == "standard" and _square_surprises(state.counts, len(inputs)):
        flags.add("black_box_beats_white_box")
    return Found(state.images, flags=tuple(sorted(flags | state.flags)))


def _square_surprises(counts: list[int], images: int) -> bool:
    warnings = Warnings()
    accuracies = {name: count / images for name, count in zip(("clean", *STANDARD), counts, strict=False)}
    import_autoattack().checks.check_square_sr(accuracies, logger=warnings)
    return warnings.taken()


@dataclass
class _Run:
    """What stays the same during a run."""

    view: View
    inputs: Tensor
    labels: Tensor
    threat: Threat
    version: str
    batch: int
    seed: int
    steps: int
    square_queries: int
    eot_queries: int
    device: torch.device
    expected_accuracy: ExpectedAccuracy | None = None
    reseed: Callable[[int], object] | None = None

    def __post_init__(self) -> None:
        self._model = Logits(self.view)
        self._warnings = Warnings()

    def parts(self, classes: int) -> Parts:
        """The package's attacks."""
        return Parts(
            self._model, self.threat, self.seed, self.steps, self.square_queries, self.eot_queries, classes,
            self.device, self._warnings,
        )  # fmt: skip

    def first_look(self) -> State:
        """The package's checks of the model, and what it gets right."""
        state, checks = State.fresh(self.inputs), import_autoattack().checks
        first, labels = self._moved(torch.arange(min(self.batch, len(self.inputs))))
        with own_generator(self._seeded("first look", 0)):
            if self.version == "standard":
                checks.check_randomized(self._model, first, labels, bs=self.batch, logger=self._warnings)
                if self._warnings.taken():
                    state.flags.add("randomised_output")
            state.classes = checks.check_range_output(self._model, first, logger=self._warnings)
            if self._warnings.taken():
                state.flags.add("softmax_output")
            if self.version == "standard":
                for begin in range(0, len(self.inputs), self.batch):
                    rows = torch.arange(begin, min(begin + self.batch, len(self.inputs)))
                    images, labels = self._moved(rows)
                    state.standing[rows] = self._right(images, labels).cpu()
        if state.classes < (10 if self.version == "standard" else 3):
            state.flags.add("few_classes")
        state.counts = [int(state.standing.sum())]
        return state

    def work(self, state: State, parts: Parts, name: str) -> None:
        """One batch of one attack, entered into the state."""
        begin = state.batch * self.batch
        rows = state.rows[begin : begin + self.batch]
        images, labels = self._moved(rows)
        with own_generator(self._seeded(name, state.batch)):
            if self.version == "standard":
                found = parts.perturbed(name, images, labels)
                better = ~self._right(found, labels).cpu()
                state.standing[rows[better]] = False
            else:
                found, better = self._lowest(state, rows, images, labels, parts.candidates(name, images, labels))
        if self._warnings.taken():
            state.flags.add("zero_gradients")
        chosen = rows[better]
        state.changed[chosen] = True
        state.images[chosen.to(state.images.device)] = found[better.to(found.device)].to(state.images.device)

    def _lowest(
        self, state: State, rows: Tensor, clean: Tensor, labels: Tensor, candidates: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        accuracy, loss = state.accuracy[rows], state.loss[rows]
        chosen, better = clean.clone(), torch.zeros(len(rows), dtype=torch.bool)
        for candidate in [clean, *candidates] if state.stage == 0 else candidates:
            new_accuracy, new_loss = self._measured(candidate, labels)
            lower = new_accuracy < accuracy - _TIE
            lower |= ((new_accuracy - accuracy).abs() <= _TIE) & (new_loss > loss)
            accuracy, loss = torch.where(lower, new_accuracy, accuracy), torch.where(lower, new_loss, loss)
            chosen[lower.to(chosen.device)] = candidate[lower.to(chosen.device)]
            better |= lower
        state.accuracy[rows], state.loss[rows] = accuracy, loss
        return chosen, better

    def _measured(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        right = loss = torch.zeros(len(images), dtype=torch.float64)
        for _ in range(self.eot_queries):
            logits = self._model(images)
            right = right + (logits.max(dim=1)[1] == labels).cpu()
            loss = loss + cross_entropy(logits, labels).cpu()
        if self.expected_accuracy is not None:
            return self.expected_accuracy(images, labels).cpu().double(), loss / self.eot_queries
        return right / self.eot_queries, loss / self.eot_queries

    def _right(self, images: Tensor, labels: Tensor) -> Tensor:
        return self._model(images).max(dim=1)[1] == labels

    def _moved(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        images = self.inputs[rows.to(self.inputs.device)].to(self.device).contiguous()
        return images, self.labels[rows.to(self.labels.device)].to(self.device)

    def _seeded(self, name: str, batch: int) -> int:
        if self.reseed is not None:
            self.reseed(seed_of(self.seed, "view", name, batch))
        return seed_of(self.seed, name, batch)
