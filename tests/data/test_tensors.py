from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rstbench.data.tensors import as_float, augment, to_device
from rstbench.spec.training import Augmentation


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def legal(image: torch.Tensor, padding: int, flip: bool) -> list[torch.Tensor]:
    """Every crop that the rule allows, made the slow way."""
    height, width = image.shape[1:]
    crops = []
    for mirrored in (False, True)[: 1 + flip]:
        canvas = torch.zeros(image.shape[0], height + 2 * padding, width + 2 * padding, dtype=torch.uint8)
        canvas[:, padding : padding + height, padding : padding + width] = image.flip(2) if mirrored else image
        crops += [
            canvas[:, top : top + height, left : left + width]
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
        ]
    return crops


@settings(max_examples=60, deadline=None)
@given(
    number=st.integers(0, 5), channels=st.sampled_from([1, 3]), side=st.integers(1, 6), padding=st.integers(0, 3),
    flip=st.booleans(), seed=st.integers(0, 2**62),
)  # fmt: skip
def test_every_image_becomes_one_of_its_legal_crops(
    number: int, channels: int, side: int, padding: int, flip: bool, seed: int
) -> None:
    images = torch.randint(0, 256, (number, channels, side, side), dtype=torch.uint8, generator=seeded(1))
    before = images.clone()
    spec = Augmentation(padding=padding, flip=flip)
    result = augment(images, spec, seeded(seed))
    assert torch.equal(images, before)
    assert result.shape == images.shape and result.dtype == torch.uint8
    for image, crop in zip(images, result, strict=True):
        assert any(torch.equal(crop, allowed) for allowed in legal(image, padding, flip))
    assert torch.equal(augment(images, spec, seeded(seed)), result)


def test_all_crops_occur_equally_often() -> None:
    image = torch.arange(1, 10, dtype=torch.uint8).reshape(1, 1, 3, 3)
    result = augment(image.expand(18_000, 1, 3, 3), Augmentation(padding=1, flip=True), seeded(3))
    allowed = torch.stack(legal(image[0], 1, True))
    counts = (result[:, None] == allowed[None]).flatten(2).all(2).sum(0)
    assert len(counts) == 18 and counts.sum() == 18_000
    # chi-square with 17 degrees of freedom: 40.8 is exceeded once in a thousand; the seed is fixed
    assert ((counts - 1000.0) ** 2 / 1000.0).sum() < 40.8


def test_nothing_asked_draws_nothing() -> None:
    generator = seeded()
    state = generator.get_state()
    images = torch.ones(2, 1, 4, 4, dtype=torch.uint8)
    assert torch.equal(augment(images, Augmentation(padding=0, flip=False), generator), images)
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("images", [torch.zeros(2, 3, 4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8)])
def test_other_tensors_are_refused(images: torch.Tensor) -> None:
    with pytest.raises(TypeError, match="uint8 images"):
        augment(images, Augmentation(), seeded())


def test_a_batch_is_augmented_in_a_few_milliseconds() -> None:
    """Measured: 2.3 ms on one slow core for 256 CIFAR images; the bound leaves room for a busy machine."""
    images = torch.zeros(256, 3, 32, 32, dtype=torch.uint8)
    generator, best = seeded(), float("inf")
    for _ in range(10):
        start = time.perf_counter()
        augment(images, Augmentation(), generator)
        best = min(best, time.perf_counter() - start)
    assert best < 0.02


@pytest.mark.parametrize("channels", [1, 3])
def test_to_device_copies_and_transposes(channels: int) -> None:
    images = np.arange(2 * 4 * 5 * channels, dtype=np.uint8).reshape(2, 4, 5, channels)
    tensor = to_device(images, "cpu")
    assert tensor.shape == (2, channels, 4, 5) and tensor.is_contiguous() and tensor.dtype == torch.uint8
    assert np.array_equal(tensor.numpy(), images.transpose(0, 3, 1, 2))
    tensor.zero_()
    assert images.any()


def test_as_float_is_value_over_255() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    result = as_float(values)
    assert result.dtype == torch.float32
    assert result.tolist() == (np.arange(256, dtype=np.float32) / np.float32(255)).tolist()
    assert torch.equal((result * 255).round().to(torch.uint8), values)


@pytest.mark.gpu
def test_the_same_bits_on_the_gpu() -> None:
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=seeded(2))
    here = augment(images, Augmentation(), seeded(5))
    there = augment(images.cuda(), Augmentation(), seeded(5))
    assert there.is_cuda and torch.equal(there.cpu(), here)
    assert torch.equal(as_float(there).cpu(), as_float(here))
    assert augment(images.cuda(), Augmentation(), torch.Generator("cuda").manual_seed(1)).is_cuda
