from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from rstbench.data.crops import as_tensor, cropped, whole
from rstbench.data.tensors import augment
from rstbench.spec.training import Augmentation

RESIZED = Augmentation(kind="resized_crop")


def ramp(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width).round()[None]
    pixels[..., 1] = np.linspace(0, 255, height).round()[:, None]
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("width", "height"), [(40, 40), (80, 40), (40, 100), (41, 57)])
def test_whole_keeps_the_centre_and_the_aspect_ratio(width: int, height: int) -> None:
    image = as_tensor(whole(ramp(width, height), 14, 16)).float()
    assert image.shape == (3, 14, 14)
    scale = 255 / 16 * 14
    for channel, length, axis in ((0, width, 1), (1, height, 0)):
        shown = image[channel].select(1 - axis, 7)
        span = float(shown[-1] - shown[0]) * length / min(width, height)
        assert span == pytest.approx(scale * 13 / 14, rel=0.12)  # as many pixels of the original in both directions
        assert float(shown.mean()) == pytest.approx(127.5, abs=6)


def box(crop: torch.Tensor) -> tuple[float, float, float, float]:
    """Left, right, top and bottom of a crop of `ramp`, as shares of its sides."""
    red, green = crop[0].float().mean(0) / 255, crop[1].float().mean(1) / 255
    return float(red.min()), float(red.max()), float(green.min()), float(green.max())


def test_resized_crops_have_the_areas_and_shapes_that_are_asked_for() -> None:
    crops = [as_tensor(cropped(ramp(256, 256), 64, RESIZED, seed)) for seed in range(300)]
    boxes = [box(crop) for crop in crops]
    areas = np.array([(right - left) * (bottom - top) for left, right, top, bottom in boxes])
    shapes = np.array([(right - left) / (bottom - top) for left, right, top, bottom in boxes])
    assert 0.06 < areas.min() < 0.15 and 0.85 < areas.max() < 1.01
    assert areas.mean() == pytest.approx(0.5, abs=0.06)  # uniform, but for what does not fit
    assert 0.7 < shapes.min() < 0.8 and 1.25 < shapes.max() < 1.42
    mirrored = np.mean([float(crop[0, 0, 0]) > float(crop[0, 0, -1]) for crop in crops])
    assert mirrored == pytest.approx(0.5, abs=0.09)
    least = [box(as_tensor(cropped(ramp(256, 256), 64, RESIZED.model_copy(update={"min_scale": 1.0}), 4)))]
    assert (least[0][1] - least[0][0]) * (least[0][3] - least[0][2]) > 0.9


def test_resized_crops_of_tensors_in_memory() -> None:
    images = torch.stack([as_tensor(ramp(32, 32)), as_tensor(ramp(32, 32)).flip(2)])
    before, state = images.clone(), torch.get_rng_state()
    found = augment(images, RESIZED, torch.Generator().manual_seed(3))
    assert found.shape == images.shape and found.dtype == torch.uint8 and torch.equal(images, before)
    assert torch.equal(found, augment(images, RESIZED, torch.Generator().manual_seed(3)))
    assert not torch.equal(found, augment(images, RESIZED, torch.Generator().manual_seed(4)))
    assert torch.equal(torch.get_rng_state(), state)
    assert augment(images[:0], RESIZED, torch.Generator()).shape == (0, 3, 32, 32)
    with pytest.raises(TypeError, match="square"):
        augment(images[:, :, :20], RESIZED, torch.Generator())


def test_a_seed_is_all_that_a_crop_depends_on() -> None:
    torch.manual_seed(1)
    first = as_tensor(cropped(ramp(30, 20), 8, RESIZED, 5))
    torch.manual_seed(2)
    assert torch.equal(as_tensor(cropped(ramp(30, 20), 8, RESIZED, 5)), first)
    square = ramp(8, 8)
    padded = {as_tensor(cropped(square, 8, Augmentation(padding=2), seed)).numpy().tobytes() for seed in range(200)}
    assert len(padded) == 50  # 25 crops, and their mirror images
