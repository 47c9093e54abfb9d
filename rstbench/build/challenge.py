"""Adversarial images that somebody hands in against an entry: measured, judged, and kept as a value of the store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rstbench.attacks.threat import Threat
from rstbench.build.attack import judge
from rstbench.build.bench import Bench, Built
from rstbench.build.handed_in import HandedIn
from rstbench.build.images import images_at
from rstbench.errors import ChallengeError, RunError
from rstbench.evaluation.files import IMAGES, SAMPLES, pack_images, pack_samples
from rstbench.evaluation.judge import check_images, predict, tolerance
from rstbench.nodes import Node
from rstbench.spec.base import canonical_json, distance
from rstbench.training import Progress

HANDED_IN = "challenge.json"
"""The file that tells a challenge from what an attack of ours made: what its key says of it."""


def test_set(bench: Bench, data: str) -> tuple[int, tuple[int, ...]]:
    """How many test images a data node has, and the shape (C, H, W) of one."""
    arrays = bench.arrays(data)
    one = images_at({}, arrays, np.zeros(1, dtype=np.int64), bench.device)
    return len(arrays.test_labels), tuple(one.shape[1:])


def labels_of(bench: Bench, data: str, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels (N,) of test images of a data node."""
    return bench.arrays(data).test_labels[index]


def measured(
    handed_in: HandedIn, bench: Bench, data: str, norm: str, epsilon: str | float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(linf, l2) distances (N,) of the images to the test images of the data node, in double precision.

    Raises `ChallengeError` if one is further away than `epsilon` (as suites write it) in `norm`, and by more than
    rounding (`evaluation.judge.tolerance`): an attack of ours is held to the same.
    """
    arrays = bench.arrays(data)
    clean = images_at({}, arrays, handed_in.index, bench.device)
    linf, l2 = check_images(handed_in.images, clean, None)
    threat = Threat(norm, distance(epsilon))
    found = linf if norm == "linf" else l2
    outside = found > threat.epsilon + tolerance(threat, handed_in.images)
    if bool(outside.any()):
        at = int(found.argmax())
        raise ChallengeError(
            f"{int(outside.sum())} of {len(found)} images are beyond the budget, {norm} {epsilon} "
            f"({threat.epsilon:.6f}): the furthest, of test image {handed_in.index[at]}, is {float(found[at]):.6f} "
            "from the clean one"
        )
    return linf.numpy(), l2.numpy()


def right(handed_in: HandedIn, asked: Sequence[Node], bench: Bench, data: str, progress: Progress) -> NDArray[np.bool_]:
    """Whether networks classify the images rightly, (N, M): afresh, in fp32. asked: predict nodes, one for each.

    On as many threads as these nodes say, so that what is kept later has the same bits. Nothing is stored.
    """
    labels = labels_of(bench, data, handed_in.index)
    found = []
    for node in asked:
        torch.set_num_threads(int(node.spec["threads"]))
        predictions, _ = predict(judge(node, bench), handed_in.images, node.spec["batch"], progress)
        found.append(predictions.numpy() == labels)
    return np.stack(found, axis=-1)


def build_challenge(node: Node, bench: Bench, progress: Progress) -> Built:
    """Images that were handed in (`Bench.handed_in`), measured once more: `IMAGES`, `SAMPLES` and `HANDED_IN`.

    Nothing makes them but who handed them in: raises `RunError` where they are not at hand.
    """
    handed_in = bench.handed_in.get(node.key)
    if handed_in is None or handed_in.content != node.spec["content"]:
        raise RunError(f"{node.title}: images that were handed in cannot be computed; `rstbench challenge` brings them")
    data = node.inputs["data"]
    linf, l2 = measured(handed_in, bench, data, node.spec["norm"], node.spec["epsilon"])
    columns = {"index": handed_in.index, "label": labels_of(bench, data, handed_in.index), "linf": linf, "l2": l2}
    files = {
        IMAGES: pack_images(handed_in.images),
        SAMPLES: pack_samples(columns),
        HANDED_IN: canonical_json(dict(node.spec)).encode("ascii"),
    }
    # Not in a file: two stores may have the same images from two people, and their values are the same.
    return {"flags": [], "by": handed_in.by, "handed_in": handed_in.when}, files
