"""The command `challenge`: anybody's adversarial images against an entry of a leaderboard."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rstbench.errors import ChallengeError, RunError, SpecError
from rstbench.report.leaderboard.challenge_accepted import Lowering
from rstbench.report.leaderboard.challenged import Challenged, challenged
from rstbench.report.leaderboard.challenges import Challenge, Lowered, challenge_node, lowered
from rstbench.store import Store

if TYPE_CHECKING:
    from rich.console import Console

    from rstbench.build import Bench
    from rstbench.build.handed_in import HandedIn
    from rstbench.nodes import Node

_LONGEST_NAME = 80


@dataclass(frozen=True)
class Handing:
    """What is handed in. entry: CSV#ENTRY; by: whom to credit; accept: keep it, and lower the entry.

    out: folder of the lowered leaderboard; None: in place.
    """

    entry: str
    images: Path
    by: str = ""
    accept: bool = False
    out: Path | None = None


def challenge(handing: Handing, store_root: Path, data_dir: Path | None, device: str | None, console: Console) -> int:
    """Check images against an entry, and tell; with `accept`, keep them and lower the entry. Returns the exit code.

    0: some images fall further than in any attack so far; 1: none does (and nothing is kept). Raises errors of the
    `RstbenchError` tree: `SpecError` for an entry that is not there, `ChallengeError` for images that do not count.
    """
    from rstbench.build import Bench, choose_device
    from rstbench.build.challenge import test_set
    from rstbench.build.handed_in import read

    by = _name(handing)
    started = time.monotonic()
    store = Store(store_root)
    against = challenged(handing.entry, store)
    bench = Bench(store, data_dir, choose_device(device))
    when = datetime.now(UTC).isoformat(timespec="seconds")
    handed_in = read(handing.images, *test_set(bench, against.data), by, when)
    node = challenge_node(handed_in.content, len(handed_in.index), against.data, against.norm, against.epsilon)
    found = _judged(handed_in, node, against, bench)
    index, standing = [each.index for each in against.standing], [each.score for each in against.standing]
    after = lowered(index, standing, [found], against.probabilities)
    _tell(against, handed_in, found, after, console)
    fell = bool(after.by)
    if fell and handing.accept:
        _accept(handing, node, handed_in, against, bench, console)
    elif fell:
        console.print("Nothing is changed; --accept --by NAME keeps the images and lowers the entry.", highlight=False)
    console.print(f"{time.monotonic() - started:.1f} s", highlight=False)
    return 0 if fell else RunError.exit_code


def _name(handing: Handing) -> str:
    """The challenger's name as a leaderboard shows it. Raises `SpecError` for one that it cannot show."""
    by = handing.by.strip()
    if not by and handing.accept:
        raise SpecError("--accept needs --by NAME: who is credited")
    if len(by) > _LONGEST_NAME or not by.isprintable() or ";" in by:
        raise SpecError(f"--by: a name has at most {_LONGEST_NAME} characters on one line, and no semicolon")
    return by


def _judged(handed_in: HandedIn, node: Node, against: Challenged, bench: Bench) -> Challenge:
    """What the entry's networks say. Raises `ChallengeError` for images beyond the budget, or beside the entry's."""
    from rstbench.build.challenge import measured, right

    rows = np.unique(np.concatenate([each.index for each in against.standing]))
    if not np.isin(handed_in.index, rows).any():
        raise ChallengeError(
            f"none of the {len(handed_in.index)} images handed in is of the {len(rows)} test images that the entry's "
            "worst case rests on; the file NAME.samples.parquet lists their indices"
        )
    measured(handed_in, bench, against.data, against.norm, against.epsilon)
    asked = [[judge.asked(node.key) for judge in members] for members in against.judges]
    said = [right(handed_in, members, bench, against.data, lambda done, total, note: None) for members in asked]
    keys = tuple(tuple(each.key for each in members) for members in asked)
    return Challenge(node.key, handed_in.by, handed_in.when, handed_in.index, keys, tuple(said))


def _tell(against: Challenged, handed_in: HandedIn, found: Challenge, after: Lowered, console: Console) -> None:
    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    row = against.row
    count = len(against.probabilities)
    members = f"the one of {count} networks that is drawn is" if count > 1 else "the network is"
    say(f"entry {row['entry']}: {row['name']}, {row['network']} on {row['dataset']}, {row['norm']} {row['epsilon']}")
    counted = [np.intersect1d(each.index, found.index, return_indices=True) for each in against.standing]
    images, scores = len(counted[0][0]), found.scores(against.probabilities)
    say(f"{len(found.index)} images handed in: all within [0, 1] and {row['norm']} {row['epsilon']} of the clean ones")
    if images < len(found.index):
        say(f"{len(found.index) - images} of them are not among the entry's {len(against.standing[0].index)}; ignored")
    before = _mean([each.score[at] for each, (_, at, _) in zip(against.standing, counted, strict=True)])
    now = _mean([each[at] for each, (_, _, at) in zip(scores, counted, strict=True)])
    say(f"on these {images}, {members} right: {now:.2f} % in expectation; the worst so far: {before:.2f} %")
    fell = sum(after.fell)
    seeds = f" (over {len(against.seeds)} seeds)" if len(against.seeds) > 1 else ""
    say(f"{fell} of {images * len(against.seeds)} fall further than under any attack so far{seeds}")
    if fell:
        (old, was), (new, is_) = (against.figure(each) for each in ([s.score for s in against.standing], after.scores))
        say(
            f"worst: {old:.2f} [{was.low:.2f}, {was.high:.2f}] -> {new:.2f} [{is_.low:.2f}, {is_.high:.2f}] "
            f"({is_.kind}, n = {len(against.standing[0].index)})"
        )


def _mean(parts: Sequence[np.ndarray[tuple[int], np.dtype[np.float64]]]) -> float:
    return 100 * float(np.concatenate(parts).mean())


def _accept(
    handing: Handing, node: Node, handed_in: HandedIn, against: Challenged, bench: Bench, console: Console
) -> None:
    """Keep the images and what the networks say to them, and write the leaderboard anew."""
    from rstbench.build import run_node

    lowering = Lowering(against, bench.store)
    bench.store.prepare()
    bench.handed_in[node.key] = handed_in
    for each in (node, *(judge.asked(node.key) for members in against.judges for judge in members)):
        run_node(each, bench, lambda done, total, note: None)
    for entry in lowering.write(handing.out):
        row = entry.row
        rank = f", rank {row['rank']}" if row["rank"] else ""
        text = (
            f"entry {row['entry']} ({row['norm']} {row['epsilon']}): worst {row['worst']}{rank}; {row['challengers']}"
        )
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    where = (handing.out or against.path.parent) / against.path.name
    text = f"kept as {node.key[:12]} in {bench.store.root}; written: {where}, with its JSON and samples"
    console.print(text, markup=False, highlight=False, soft_wrap=True)
