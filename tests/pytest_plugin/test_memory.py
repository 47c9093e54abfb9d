"""A network in memory against its floor and its baseline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rstbench.errors import RstbenchError, StoreError
from rstbench.pytest_plugin.guard import Guard
from rstbench.pytest_plugin.memory import Scores, read, write

N, ATTACKS = 200, ["fgsm", "pgd5"]
BROKEN = pytest.fail.Exception


class Threshold(nn.Module):
    """Class 1 where the mean pixel is above `at`: of a known distance to every image."""

    def __init__(self, at: float = 0.5, steep: float = 20.0) -> None:
        super().__init__()
        self.at, self.steep = at, steep

    def forward(self, images: Tensor) -> Tensor:
        score = self.steep * (images.mean(dim=(1, 2, 3)) - self.at)
        return torch.stack([-score, score], dim=1)


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    images = torch.rand(N, 1, 1, 1, generator=draws).expand(N, 1, 4, 4).clone()
    images += 0.01 * (torch.rand(images.shape, generator=draws) - 0.5)
    return images.clamp(0, 1), (images.mean(dim=(1, 2, 3)) > 0.5).long()


def test_a_floor(guard: Guard, data: tuple[Tensor, Tensor]) -> None:
    frame = guard.evaluate(Threshold(), *data, ["fgsm"], floor={"none": 99, "fgsm": 80})
    assert list(frame["attack"]) == ["none", "fgsm"]
    stands = float(frame["accuracy"][1])
    with pytest.raises(BROKEN) as failed:
        guard.evaluate(Threshold(), *data, ["fgsm"], floor=99)
    low, high = frame["ci_low"][1], frame["ci_high"][1]
    assert str(failed.value) == (
        f"fgsm linf 8/255: {stands:.2f} % of 200 images stand (95 % interval {low:.2f} to {high:.2f}), and 99 must"
    )


def test_one_floor_is_of_the_worst_case(guard: Guard, data: tuple[Tensor, Tensor]) -> None:
    guard.evaluate(Threshold(), *data, ATTACKS, floor=80)
    with pytest.raises(BROKEN, match=r"^pointwise linf 8/255: "):
        guard.evaluate(Threshold(0.45), *data, ATTACKS, floor=95)


@pytest.mark.parametrize(
    "floor, words",
    [
        (None, "nothing is guarded"),
        (101, "from 0 to 100, not 101"),
        (float("nan"), "not nan"),
        ({"pgd20": 10}, "a floor of 'pgd20': the rows are none, fgsm"),
        ({}, "no attack"),
    ],
)
def test_floors_that_guard_nothing(guard: Guard, data: tuple[Tensor, Tensor], floor: object, words: str) -> None:
    with pytest.raises(BROKEN, match=words):
        guard.evaluate(Threshold(), *data, ["fgsm"], floor=floor)  # type: ignore[arg-type]


def test_a_baseline(guard: Guard, request: pytest.FixtureRequest, data: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    path, (images, labels) = tmp_path / "deep" / "mine.csv", data
    with pytest.raises(BROKEN, match=r"mine\.csv: no such baseline; --rstbench-update writes it"):
        guard.evaluate(Threshold(), images, labels, ATTACKS, baseline=path)
    request.config.option.rstbench_update = True
    guard.evaluate(Threshold(), images, labels, ATTACKS, baseline=path)
    request.config.option.rstbench_update = False
    assert path.read_text().splitlines()[0] == "image,label,none,fgsm linf 8/255,pgd5 linf 8/255,pointwise linf 8/255"
    assert len(path.read_text().splitlines()) == 1 + N
    # The order of the images is no part of it.
    guard.evaluate(Threshold(), images.flip(0), labels.flip(0), ATTACKS, baseline=path)
    with pytest.raises(BROKEN) as failed:
        guard.evaluate(Threshold(0.4), images, labels, ATTACKS, baseline=path)
    text = str(failed.value)
    assert text.startswith(
        f"robust accuracy fell: 4 rows worse than in {path} (4 worse)\n  none\n    worse: 100.00 -> "
    )
    assert "n = 200" in text and " fell, 0 rose; " in text and text.endswith("--rstbench-update")
    # It fell, but by less than matters here.
    guard.evaluate(Threshold(0.47), images, labels, ATTACKS, baseline=path, drop=50)


def test_a_row_that_is_gone_fails(
    guard: Guard, request: pytest.FixtureRequest, data: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "mine.csv"
    request.config.option.rstbench_update = True
    guard.evaluate(Threshold(), *data, ATTACKS, baseline=path)
    request.config.option.rstbench_update = False
    with pytest.raises(BROKEN, match=r"(?s)2 rows of .* missing .*  pgd5 linf 8/255\n    missing: "):
        guard.evaluate(Threshold(), *data, ["fgsm"], baseline=path)
    # An attack at another epsilon is another row.
    with pytest.raises(BROKEN, match=r"(?s)3 rows of .* missing .*  fgsm linf 8/255\n    missing: "):
        guard.evaluate(Threshold(), *data, ATTACKS, baseline=path, epsilon="1/255")


def test_images_of_another_set_are_refused(updating: Guard, data: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    path, (images, labels) = tmp_path / "mine.csv", data
    updating.evaluate(Threshold(), images, labels, ["fgsm"], baseline=path)
    updating._config.option.rstbench_update = False
    with pytest.raises(BROKEN, match="a baseline of other images"):
        updating.evaluate(Threshold(), images.flip(3) * 0.9, labels, ["fgsm"], baseline=path)


def test_scores_of_a_switch_are_fractions(updating: Guard, data: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    updating.evaluate([Threshold(), Threshold(0.3)], *data, ["eot_pgd5"], baseline=path)
    found = read(path)
    assert set(found.rows["none"]) == {0.5, 1.0}
    updating._config.option.rstbench_update = False
    updating.evaluate([Threshold(), Threshold(0.3)], *data, ["eot_pgd5"], baseline=path)
    with pytest.raises(BROKEN, match="robust accuracy fell"):
        updating.evaluate([Threshold(0.3), Threshold(0.3)], *data, ["eot_pgd5"], baseline=path)


def test_equal_images_are_told_apart_by_their_count(updating: Guard, tmp_path: Path) -> None:
    images, labels = torch.full((3, 1, 4, 4), 0.75), torch.ones(3, dtype=torch.int64)
    updating.evaluate(Threshold(), images, labels, ["fgsm"], baseline=tmp_path / "mine.csv")
    digest, *others = read(tmp_path / "mine.csv").images
    assert others == [f"{digest}-2", f"{digest}-3"]


def test_uint8_images_are_those_they_stand_for(updating: Guard, tmp_path: Path) -> None:
    images = np.arange(64, dtype=np.uint8).reshape(4, 1, 4, 4)
    labels = np.zeros(4, dtype=np.int64)
    updating.evaluate(Threshold(), images, labels, ["fgsm"], baseline=tmp_path / "a.csv")
    updating.evaluate(Threshold(), images.astype(np.float32) / 255, labels, ["fgsm"], baseline=tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    scores = Scores(("a", "b"), (3, 0), {"none": (1.0, 1 / 3), 'x, "y"': (0.0, 0.5)})
    write(tmp_path / "a.csv", scores)
    found = read(tmp_path / "a.csv")
    assert (found.images, found.labels, list(found.rows)) == (scores.images, scores.labels, list(scores.rows))
    assert np.allclose(list(found.rows.values()), list(scores.rows.values()), atol=1e-12)


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "not a CSV file"),
        ("image,label\n", "columns image, label"),
        ("image,label,none\n", "some images"),
        ("image,label,none,none\na,1,1,1\n", "one for each row"),
        ("picture,label,none\na,1,1\n", "columns image, label"),
        ("image,label,none\na,1\n", "line 2 has 2 cells, not 3"),
        ("image,label,none\na,1,1\na,1,0\n", "image 'a' stands there more than once"),
        ("image,label,none\na,1,1.5\n", "lie in"),
        ("image,label,none\na,1,nan\n", "lie in"),
        ("image,label,none\na,-1,1\n", "from 0 on"),
        ("image,label,none\na,one,1\n", "invalid literal"),
        ("image,label,none\na,1,x\n", "could not convert"),
        ('image,label,none\n"a,1,1\n', "not a CSV file"),
    ],
)
def test_what_is_no_baseline_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(StoreError, match=words):
        read(tmp_path / "a.csv")


def test_a_baseline_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RstbenchError, match="cannot be written"):
        write(tmp_path / "file" / "a.csv", Scores(("a",), (0,), {"none": (1.0,)}))
