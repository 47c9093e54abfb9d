"""Floors and baselines of a network in memory.

A baseline is one CSV file, so that a change of it can be read line by line in review: a line for each image with the
digest of its pixels and its label, and for each row of `rstbench.evaluate` the expected correctness of the image.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rstbench.errors import SpecError, StoreError
from rstbench.report.files import write_text
from rstbench.report.regression.options import Options
from rstbench.report.regression.rows import Row, SeedScores, Side
from rstbench.report.regression.verdicts import Check, check
from rstbench.report.statistics import bootstrap, wilson

if TYPE_CHECKING:
    from rstbench.api import Evaluation

MAX_BYTES = 64 * 2**20
"""Half a million images; more is refused before it is read."""
_FIRST = ["image", "label"]
_SEED = 0
"""Scores of both sides stand under this one; `evaluate` has one seed, and it is no part of the question."""


@dataclass(frozen=True)
class Scores:
    """images: what tells them apart, each once; labels: of each; rows: name of a row -> a score in [0, 1] for each."""

    images: tuple[str, ...]
    labels: tuple[int, ...]
    rows: Mapping[str, tuple[float, ...]]


def expected(floor: float | Mapping[str, float] | None, baseline: Path | None, updating: bool) -> None:
    """Refuse what cannot be judged before anything is attacked. Raises `SpecError`, `StoreError`."""
    if floor is None and baseline is None:
        raise SpecError("nothing is guarded: give `floor`, in percent, or `baseline`, a file")
    values = floor.values() if isinstance(floor, Mapping) else () if floor is None else (floor,)
    for value in values:
        if not (math.isfinite(value) and 0 <= value <= 100):
            raise SpecError(f"a floor is in percent, from 0 to 100, not {value:g}")
    if baseline is not None and not updating:
        read(baseline)


def below(frame: Any, names: list[str], floor: float | Mapping[str, float] | None) -> list[str]:
    """What lies below its floor, a line for each row.

    names: of the frame's rows. Raises `SpecError` for a floor of a row that is not there.
    """
    if floor is None:
        return []
    if not isinstance(floor, Mapping):
        attacked = [name for name in names if name != "none"]
        chosen = ["pointwise"] if "pointwise" in names else attacked
        floors = dict.fromkeys(chosen, float(floor))
    else:
        floors = dict(floor)
    unknown = sorted(set(floors) - set(names))
    if unknown or not floors:
        wrong = f"a floor of {unknown[0]!r}" if unknown else "a floor, and no attack"
        raise SpecError(f"{wrong}: the rows are {', '.join(names)}")
    lines = []
    for name, row in zip(names, frame.to_dict("records"), strict=True):
        if name in floors and row["accuracy"] < floors[name]:
            lines.append(
                f"{_label(name, row)}: {row['accuracy']:.2f} % of {row['n']} images stand "
                f"(95 % interval {row['ci_low']:.2f} to {row['ci_high']:.2f}), and {floors[name]:g} must"
            )
    return lines


def check_memory(
    run: Evaluation, frame: Any, path: Path, options: Options, written: Callable[[Path], None] | None
) -> Check:
    """Compare an evaluation with its baseline, which is written first where `written` is to be told of it.

    Raises `StoreError` for a baseline that cannot be read or written, or that has none of these images.
    """
    labels = [_label(name, row) for name, row in zip(run.attacks, frame.to_dict("records"), strict=True)]
    scores = dict(zip(labels, (tuple(map(float, each)) for each in run.scores().values()), strict=True))
    new = Scores(_digests(run.clean.numpy()), tuple(run.labels.tolist()), scores)
    if written is not None:
        write(path, new)
        written(path)
    old = read(path)
    places = {image: place for place, image in enumerate(dict.fromkeys([*old.images, *new.images]))}
    if not set(old.images) & set(new.images):
        raise StoreError(
            f"{path}: a baseline of other images; these have other pixels. --rstbench-update writes it anew"
        )
    return check(_side(str(path), old, places), _side("this run", new, places), options)


def write(path: Path, scores: Scores) -> None:
    """Write a baseline, whole or not at all. Raises `StoreError`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_FIRST, *scores.rows])
    for image, label, *each in zip(scores.images, scores.labels, *scores.rows.values(), strict=True):
        writer.writerow([image, label, *(f"{score:.12g}" for score in each)])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text.getvalue())
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from error


def read(path: Path) -> Scores:
    """A baseline. Raises `StoreError` for a file that is not there, too large, or not of this form."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise StoreError(f"{path}: {path.stat().st_size} bytes; a baseline has at most {MAX_BYTES}")
        first, *lines = csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), strict=True)
    except FileNotFoundError:
        raise StoreError(f"{path}: no such baseline; --rstbench-update writes it") from None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from error
    except (ValueError, csv.Error) as error:
        raise StoreError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    if first[:2] != _FIRST or len(first) < 3 or len(set(first)) != len(first) or not lines:
        raise StoreError(f"{path}: a baseline has the columns image, label, then one for each row, and some images")
    for number, line in enumerate(lines, start=2):
        if len(line) != len(first):
            raise StoreError(f"{path}: line {number} has {len(line)} cells, not {len(first)}")
    images = tuple(line[0] for line in lines)
    if len(set(images)) != len(images):
        raise StoreError(f"{path}: image {Counter(images).most_common(1)[0][0]!r} stands there more than once")
    try:
        labels = tuple(int(line[1]) for line in lines)
        rows = {name: tuple(float(line[place]) for line in lines) for place, name in enumerate(first) if place > 1}
    except ValueError as error:
        raise StoreError(f"{path}: {error}") from None
    if not all(0 <= score <= 1 for row in rows.values() for score in row) or not all(0 <= n < 2**63 for n in labels):
        raise StoreError(f"{path}: scores lie in [0, 1], labels are classes from 0 on")
    return Scores(images, labels, rows)


def _side(name: str, scores: Scores, places: Mapping[str, int]) -> Side:
    index = np.array([places[image] for image in scores.images], dtype=np.int64)
    labels = np.array(scores.labels, dtype=np.int64)
    order = np.argsort(index)
    rows = []
    for row, values in scores.rows.items():
        score = np.array(values, dtype=np.float64)
        binary = bool(np.isin(score, (0.0, 1.0)).all())
        interval = wilson(int(score.sum()), len(score)) if binary else bootstrap(score)
        sha = hashlib.sha256(index[order].tobytes() + labels[order].tobytes() + np.round(score[order], 12).tobytes())
        rows.append(
            Row(
                key=(row,),
                label=row,
                value=100 * float(score.mean()),
                low=interval.low,
                high=interval.high,
                n=len(score),
                seeds=(_SEED,),
                scores={_SEED: SeedScores(index, score, labels)},
                evidence=sha.hexdigest(),
            )
        )
    return Side(name, tuple(rows))


def _label(name: str, row: Mapping[str, Any]) -> str:
    """A row as the baseline calls it: with its budget, so that a stronger attack is not taken for a weaker network."""
    budget = f"{row['norm']} {row['eps']}{'/255' * (row['norm'] == 'linf')}" if row["norm"] and row["eps"] else ""
    return " ".join(word for word in (name, row["variant"], budget) if word)


def _digests(images: np.ndarray[Any, Any]) -> tuple[str, ...]:
    """Of the pixels of each image (N, C, H, W), 16 hex digits; an image that comes again has its count behind it."""
    found: Counter[str] = Counter()
    names = []
    for image in np.ascontiguousarray(images):
        digest = hashlib.sha256(repr(image.shape).encode() + image.astype("<f4").tobytes()).hexdigest()[:16]
        found[digest] += 1
        names.append(digest if found[digest] == 1 else f"{digest}-{found[digest]}")
    return tuple(names)
