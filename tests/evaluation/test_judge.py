from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rstbench.attacks.threat import Threat
from rstbench.errors import AttackError, DeviceError, RunError
from rstbench.evaluation.judge import check_images, predict, tolerance
from rstbench.evaluation.numerics import exact_fp32
from tests.attacks.networks import images, linear, small_net

LINF, L2 = Threat("linf", 8 / 255), Threat("l2", 0.5)
CLEAN = 0.25 + 0.5 * images(6)


def silent(done: float, total: float, note: str) -> None:
    pass


def moved(threat: Threat, factor: float) -> Tensor:
    """The last image `factor` times epsilon away."""
    adversarial = CLEAN.clone()
    if threat.norm == "linf":
        adversarial[-1, 0, 0, 0] += factor * threat.epsilon
    else:
        adversarial[-1] += factor * threat.epsilon / (3 * 8 * 8) ** 0.5
    return adversarial


@pytest.mark.parametrize("threat", [LINF, L2])
def test_within_the_budget(threat: Threat) -> None:
    linf, l2 = check_images(moved(threat, 1.0), CLEAN, threat)
    assert float((linf if threat.norm == "linf" else l2)[-1]) == pytest.approx(threat.epsilon, rel=1e-5)
    assert linf[:-1].tolist() == l2[:-1].tolist() == [0.0] * 5


@pytest.mark.parametrize("threat", [LINF, L2])
def test_beyond_the_budget(threat: Threat) -> None:
    with pytest.raises(AttackError, match=f"on 1 of 6 images: {threat.norm} distance .*, epsilon"):
        check_images(moved(threat, 1.001), CLEAN, threat)
    assert check_images(moved(threat, 1.001), CLEAN, None)[0].shape == (6,)  # a minimum-norm attack promises nothing


@pytest.mark.parametrize("threat", [LINF, L2])
def test_one_image_beyond_the_budget_is_found_wherever_it_is(threat: Threat) -> None:
    for row in range(6):
        order = list(range(5))
        order.insert(row, 5)
        with pytest.raises(AttackError):
            check_images(moved(threat, 1.01)[order], CLEAN[order], threat)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 224, 224)])
@pytest.mark.parametrize("epsilon", [0.1, 2.0, 10.0])
def test_l2_tolerance_covers_honest_rounding_and_little_more(shape: tuple[int, ...], epsilon: float) -> None:
    from rstbench.attacks.threat import distances, project

    threat = Threat("l2", epsilon)
    clean = 0.3 + 0.4 * torch.rand(4, *shape)
    far = project(clean + torch.randn(4, *shape), clean, threat)
    excess = distances(far, clean)[1] - epsilon
    assert float(excess.max()) < tolerance(threat, clean) < 1e-3 * epsilon
    check_images(far, clean, threat)


def test_range_and_numbers() -> None:
    for value in (-1e-7, 1.0000001):
        outside = CLEAN.clone()
        outside[2, 1, 1, 1] = value
        with pytest.raises(AttackError, match=r"left \[0, 1\]"):
            check_images(outside, CLEAN, None)
    for value in (torch.nan, torch.inf, -torch.inf):
        broken = CLEAN.clone()
        broken[2, 1, 1, 1] = value
        with pytest.raises(AttackError, match="not finite"):
            check_images(broken, CLEAN, LINF)


def test_shape_and_kind() -> None:
    for wrong in (CLEAN[:5], CLEAN[..., :4], CLEAN.double(), CLEAN.half()):
        with pytest.raises(AttackError, match=r"for float32 images \(6, 3, 8, 8\)"):
            check_images(wrong, CLEAN, LINF)


def test_no_images() -> None:
    linf, l2 = check_images(CLEAN[:0], CLEAN[:0], LINF)
    assert linf.shape == l2.shape == (0,)
    assert predict(small_net(), CLEAN[:0], 4, silent)[0].tolist() == []


class Watched(nn.Module):
    """Notes the size of every batch, and runs out of memory above a limit."""

    def __init__(self, limit: int = 1000) -> None:
        super().__init__()
        self.network, self.limit, self.sizes = small_net(), limit, []

    def forward(self, inputs: Tensor) -> Tensor:
        self.sizes.append(len(inputs))
        if len(inputs) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.network(inputs)  # type: ignore[no-any-return]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 23])
def test_predictions_are_those_of_a_plain_pass_at_one_numerical_batch(count: int) -> None:
    network, inputs = Watched(), images(count)
    predictions, used = predict(network, inputs, 8, silent)
    assert torch.equal(predictions, network.network(inputs).argmax(1))
    assert predictions.dtype == torch.int64 and used == 8
    assert set(network.sizes) == {min(8, count)}


def test_short_memory_is_survived_and_reported() -> None:
    network, inputs = Watched(3), images(21)
    told: list[tuple[float, float]] = []
    predictions, used = predict(network, inputs, 16, lambda done, total, note: told.append((done, total)))
    assert torch.equal(predictions, network.network(inputs).argmax(1))
    assert used == 2 and network.sizes[:4] == [16, 8, 4, 2] and set(network.sizes[3:]) == {2}
    assert told[-1][0] == told[-1][1]
    with pytest.raises(DeviceError):
        predict(Watched(0), inputs, 16, silent)


def test_the_verdict_is_given_in_evaluation_mode_and_fp32() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Dropout(0.9), small_net(), nn.BatchNorm1d(5))
            self.seen: list[object] = []

        def forward(self, inputs: Tensor) -> Tensor:
            logits: Tensor = self.layers(inputs)
            flags = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
            self.seen = [logits.dtype, torch.is_autocast_enabled("cpu"), torch.is_grad_enabled(), *flags]
            return logits

    network, inputs = Network().train(), images(8)
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictions, _ = predict(network, inputs, 4, silent)
    assert network.seen == [torch.float32, False, False, False, False]
    assert torch.equal(predictions, network.eval().layers(inputs).argmax(1))
    assert int(network.layers[2].num_batches_tracked) == 0
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before


def test_settings_are_put_back_after_an_error() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.deterministic
    with pytest.raises(KeyError), exact_fp32(torch.device("cpu")):
        assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.allow_tf32
        raise KeyError
    assert before == (
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.deterministic,
    )


def test_an_answer_that_is_no_number_is_no_verdict() -> None:
    layer = r"layer '1' \(Linear\), whose weight is not finite"
    with pytest.raises(RunError, match=f"NaN.* images 0 to 1, the first at image 0: .*{layer}"):
        predict(linear(torch.full((2, 192), torch.nan), torch.zeros(2)), images(3), 2, silent)
    infinite = linear(torch.zeros(2, 192), torch.tensor([0.0, torch.inf]))
    assert predict(infinite, images(3), 2, silent)[0].tolist() == [1, 1, 1]


@pytest.mark.parametrize("row", [0, 3, 4, 8])
def test_the_batch_and_the_image_without_a_number_are_named(row: int) -> None:
    class Picky(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return torch.where(inputs[:, :2, 0, 0] == 2, torch.nan, inputs[:, :2, 0, 0])

    inputs = images(9)
    inputs[row] = 2
    begin = row // 4 * 4
    where = f"images {begin} to {min(begin + 3, 8)}, the first at image {row}: .*that of layer '0' \\(Picky\\)$"
    with pytest.raises(RunError, match=where):
        predict(nn.Sequential(Picky(), nn.Identity()), inputs, 4, silent)
