"""Rows of a leaderboard, redone on a few random images: judged again as they lie in the store, and attacked anew.

What a digest cannot tell: whether the images in the store are what the attack makes, whether they are of the right test
images, with the right labels, and whether the networks answer as the store says.

- **images**: indices and labels are those of the data set that the spec chooses, and adversarial images keep the budget
  of their attack (of the random images only).
- **judged**: in fp32, networks must answer as stored. Where the two largest logits are closer than rounding may carry
  them (`_UNDECIDED`), or a network's answers differ between two calls, a difference is counted and proves nothing.
- **attacked**: the same attack with the same seed on these images. An honest store makes nearly the same images again,
  and what counts is one-sided. Of the images whose expected correctness differs, the rerun is lower on b: contradicted
  where b heads of a fair coin in so many throws are rarer than `LEVEL` (exact; McNemar's test where scores are 0 or 1).
  With fewer than ten images no such proof is possible. Clean images and challenges are not attacked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rstbench.build.bench import Bench, choose_device
from rstbench.build.redone import Redone, Verdicts
from rstbench.errors import SpecError
from rstbench.store import Store

LEVEL = 0.001
_SAME = 1e-9
"""Expected correctness is a sum of a few weights: what differs by less is equal."""

Keys = Sequence[Sequence[Sequence[str]]]
"""Keys of predict nodes: [seed][source][member]."""


@dataclass(frozen=True)
class RerunRow:
    """A row behind an entry. label: in words; probabilities: of the members."""

    label: str
    seeds: Sequence[int]
    predictions: Keys
    probabilities: Sequence[float]


@dataclass(frozen=True)
class Finding:
    """What was done with one row under one seed, as a sentence, and whether it contradicts the store.

    step: "images", "judged" or "attacked". images: how many random ones. stands, breaks: of an attack, on how many
    images the rerun's expected correctness is higher and lower than the stored one; p: as in the module's words.
    """

    label: str
    seed: int
    step: str
    images: int
    contradicted: bool
    text: str
    stands: int = 0
    breaks: int = 0
    p: float = 1.0


def rerun(
    rows: Sequence[RerunRow],
    store: Store,
    data_dir: Path | None,
    n: int,
    seed: int,
    device: str | None = None,
    say: Callable[[Finding], None] = lambda found: None,
) -> list[Finding]:
    """Redo `n` random images of each row, chosen by `seed`; rows share the images as far as they have them.

    say: called with each finding at once. Raises `SpecError` for n below 1, `StoreError` where the store lacks images
    or predictions of a row, and what loading networks and data raises. For the rows of several entries, whose networks
    and images are often the same, ask one `Reruns`.
    """
    return Reruns(store, data_dir, n, seed, device).of(rows, say)


@dataclass
class Reruns:
    """Several reruns from one store: what was loaded, judged and attacked once serves the next."""

    store: Store
    data_dir: Path | None
    n: int
    seed: int
    device: str | None = None
    _redone: Redone | None = field(default=None, init=False)

    def of(self, rows: Sequence[RerunRow], say: Callable[[Finding], None] = lambda found: None) -> list[Finding]:
        """`rerun` of these rows."""
        if self.n < 1:
            raise SpecError(f"--rerun {self.n}: at least one image")
        if self._redone is None:
            bench = Bench(self.store, self.data_dir, choose_device(self.device))
            self._redone = Redone(bench, self.n, self.seed)
        torch.set_num_threads(1)
        found = []
        for row in rows:
            for position, seed in enumerate(row.seeds):
                for each in _row(row, seed, row.predictions[position], self._redone):
                    found.append(each)
                    say(each)
        return found


def _row(row: RerunRow, seed: int, grid: Sequence[Sequence[str]], redone: Redone) -> list[Finding]:
    started = time.monotonic()
    verdicts = [[redone.verdicts(key) for key in members] for members in grid]
    judged = time.monotonic() - started
    started = time.monotonic()
    anew = [[redone.anew(key) for key in members] for members in grid]
    attacked = time.monotonic() - started
    flat = [each for members in verdicts for each in members]
    found = [_images(row, seed, flat), _judged(row, seed, flat, judged)]
    again = [members for members in anew if all(each is not None for each in members)]
    if again:
        stored = [members for members, made in zip(verdicts, anew, strict=True) if all(e is not None for e in made)]
        right = np.array([[each.right for each in members] for members in stored])
        made = np.array([[each for each in members] for members in again])
        found.append(_attacked(row, seed, right, made, attacked))
    return found


def _images(row: RerunRow, seed: int, verdicts: Sequence[Verdicts]) -> Finding:
    faults = list(dict.fromkeys(fault for each in verdicts for fault in each.faults))
    n = len(verdicts[0].right)
    text = "; ".join(faults) or f"{n} images: indices, labels and budget are what the spec says"
    return Finding(row.label, seed, "images", n, bool(faults), text)


def _judged(row: RerunRow, seed: int, verdicts: Sequence[Verdicts], seconds: float) -> Finding:
    n, differ = len(verdicts[0].right), sum(each.differ for each in verdicts)
    undecided = sum(each.undecided for each in verdicts)
    text = f"{n * len(verdicts)} verdicts on {n} images in {seconds:.1f} s: "
    text += f"{differ} differ from the stored ones" if differ else "all as stored"
    if undecided:
        text += f", but for {undecided} that rounding, or the network's own chance, explains"
    return Finding(row.label, seed, "judged", n, differ > 0, text)


def _attacked(row: RerunRow, seed: int, stored: NDArray[np.bool_], anew: NDArray[np.bool_], seconds: float) -> Finding:
    """stored, anew: (S, M, n), by source, member and image."""
    weights = np.asarray(row.probabilities, dtype=np.float64)
    before, after = (np.einsum("smn,m->n", each.astype(np.float64), weights) / len(each) for each in (stored, anew))
    breaks, stands = int((after < before - _SAME).sum()), int((after > before + _SAME).sum())
    p = one_sided(breaks, stands)
    n = stored.shape[2]
    sources = f"{len(stored)} {'source' if len(stored) == 1 else 'sources'}"
    text = (
        f"{n} images from {sources} in {seconds:.1f} s: expected correctness {100 * after.mean():.2f}, stored "
        f"{100 * before.mean():.2f}; lower on {breaks} images, higher on {stands}"
    )
    text += f", p = {p:.2g}" if p < 1 else ""
    return Finding(row.label, seed, "attacked", n, p < LEVEL, text, stands, breaks, p)


def one_sided(breaks: int, stands: int) -> float:
    """Probability of so many `breaks` or more among `breaks + stands` throws of a fair coin; 1 without a throw."""
    if not breaks:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(breaks, breaks + stands, alternative="greater").pvalue)
