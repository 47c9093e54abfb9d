from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rstbench.data.folders import Folder
from rstbench.data.sources import load
from rstbench.data.streamed import StreamedImages
from rstbench.spec.models import DatasetSpec
from rstbench.spec.training import Augmentation, SearchSpec
from rstbench.tickets.family import search_subject
from rstbench.training import Run, TrainingData
from rstbench.training.batches import drawn, in_order, steps
from tests.training.problem import CPU, Killed, Memory, Notes, data, images, run, same, settings, subject

IMAGENET = {
    "inner": {"kind": "fgsm_rs", "epsilon": "4/255"},
    "lr": 0.256,
    "momentum": 0.875,
    "weight_decay": 2.0**-15,
    "lr_schedule": {"kind": "cosine", "warmup_epochs": 1},
    "augmentation": {"kind": "resized_crop", "min_scale": 0.3},
}
"""The paper's setting for ImageNet, but for epochs and batch."""


def written(root: Path, part: str, pixels: torch.Tensor, labels: torch.Tensor) -> None:
    for row, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        folder = root / "stripes" / part / str(int(label))
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(folder / f"{row:03}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    root = tmp_path_factory.mktemp("data")
    written(root, "train", *images(40))
    written(root, "test", *images(9, seed=1))
    found = load(DatasetSpec(source="folder", name="stripes"), root)
    assert isinstance(found, Folder)
    return found


def streamed(folder: Folder) -> TrainingData:
    """The problem's data in the problem's order, from disk."""

    def part(images: object, labels: np.ndarray) -> tuple[StreamedImages, torch.Tensor]:
        rows = np.argsort([int(images.files[row].stem) for row in range(len(labels))])  # type: ignore[attr-defined]
        return StreamedImages(images, rows, CPU, workers=0), torch.from_numpy(labels[rows])  # type: ignore[arg-type]

    return TrainingData(*part(folder.train_images, folder.train_labels), *part(folder.test_images, folder.test_labels))


def test_the_order_of_a_run_is_that_of_its_seed_wherever_it_begins() -> None:
    whole = list(steps(5, 10, 3, 0, 9))
    assert all(len(rows) == 3 for rows, _ in whole)
    for epoch in range(3):
        assert len({int(row) for rows, _ in whole[3 * epoch : 3 * epoch + 3] for row in rows}) == 9
    rest = list(steps(5, 10, 3, 4, 9))
    assert all(np.array_equal(one[0], other[0]) for one, other in zip(whole[4:], rest, strict=True))
    assert [random.initial_seed() for _, random in whole[4:]] == [random.initial_seed() for _, random in rest]


def test_from_disk_as_from_memory_where_nothing_is_augmented(folder: Folder) -> None:
    plain = settings(augmentation={"padding": 0, "flip": False})
    held = run(plain).train(data(), Memory(), Notes())
    assert same(held, run(plain).train(streamed(folder), Memory(), Notes()))


@pytest.mark.parametrize("augmentation", [Augmentation(padding=1), Augmentation(kind="resized_crop")])
def test_augmented_batches(folder: Folder, augmentation: Augmentation) -> None:
    for source in (data(), streamed(folder)):
        first = list(drawn(source, steps(3, 40, 12, 0, 6), augmentation))
        later = list(drawn(source, steps(3, 40, 12, 4, 6), augmentation))
        assert len(first) == 6 and first[0][0].shape == (12, 1, 8, 8) and first[0][0].dtype == torch.float32
        assert all(float(batch.min()) >= 0 and float(batch.max()) <= 1 for batch, _, _ in first)
        assert torch.equal(first[4][0], later[0][0]) and torch.equal(first[4][1], later[0][1])
        draws = [torch.rand(3, generator=random) for _, _, random in (first[4], later[0])]
        assert torch.equal(*draws), "what the step draws next does not depend on where the run began"
        rows = next(steps(3, 40, 12, 0, 6))[0]
        assert torch.equal(first[0][1], source.labels[torch.from_numpy(rows)])


def test_validation_images_come_in_order(folder: Folder) -> None:
    parts = list(in_order(streamed(folder).validation_images, streamed(folder).validation_labels, 4))
    expected, labels = images(9, seed=1)
    assert torch.equal(torch.cat([part for part, _ in parts]), expected)
    assert torch.equal(torch.cat([part for _, part in parts]), labels) and len(parts) == 3


@pytest.mark.parametrize("kill_at", [2, 3, 5])
def test_a_streamed_run_that_was_killed_goes_on_with_the_same_bits(folder: Folder, kill_at: int) -> None:
    spec = settings(**IMAGENET)  # 3 steps an epoch: killed within the first, at its end, and within the second
    whole = run(spec).train(streamed(folder), Memory(), Notes())
    memory = Memory()
    with pytest.raises(Killed):
        run(spec).train(streamed(folder), memory, Notes(kill_at))
    told = Notes()
    assert same(whole, run(spec).train(streamed(folder), Memory(memory.state), told))
    assert told.told[0][0] == kill_at + 1


def test_fgsm_rs_with_cosine_and_warm_up_learns_from_disk(folder: Folder) -> None:
    spec = settings(**{**IMAGENET, "epochs": 8})
    outcome = run(spec).train(streamed(folder), Memory(), Notes())
    losses = [row["loss"] for row in outcome.history]
    assert losses[-1] < losses[0] and outcome.best_accuracy > 60


def test_statistics_of_a_family_are_gathered_from_disk(folder: Folder) -> None:
    fields = {"family": (0.3, 0.6), "epochs": 2, "augmentation": {"padding": 0, "flip": False}}
    spec = SearchSpec(**{**settings().model_dump(), **fields})

    def outcome(source: TrainingData) -> object:
        network = subject("weights").network
        return Run(search_subject(network, None, "element", spec, 0), spec, 0, CPU).train(source, Memory(), Notes())

    assert same(outcome(data()), outcome(streamed(folder)))  # type: ignore[arg-type]
