from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rstbench.errors import ModelError
from rstbench.evaluation.target import device_of, first_not_finite, prepared
from tests.attacks.networks import images, small_net

CPU = torch.device("cpu")


class Wrapped(nn.Module):
    """A network whose answer is changed, outside every layer."""

    def __init__(self, change: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.network, self.change = small_net(), change

    def forward(self, inputs: Tensor) -> object:
        return self.change(self.network(inputs))


def test_a_model_in_order_stays_the_same_object() -> None:
    model = small_net()
    assert prepared(model, images(4), 5, CPU) == (model, ())
    assert prepared(model, images(4), 3) == (model, ())  # fewer classes among the labels than the model knows
    assert prepared(model, images(0), 5, CPU) == (model, ())
    assert prepared(model, images(1), 5, CPU) == (model, ())


def test_training_mode_is_ended_and_flagged() -> None:
    model = nn.Sequential(nn.Dropout(0.9), small_net())
    for part in (model, model[0], model[1][1]):  # type: ignore[index]
        model.eval()
        part.train()
        before = [buffer.clone() for buffer in model.buffers()]
        found, flags = prepared(model, images(4), 5, CPU)
        assert found is model and flags == ("training_mode",)
        assert not any(module.training for module in model.modules())
        assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
    assert prepared(model, images(4), 5, CPU)[1] == ()


def test_flags_are_known_ones() -> None:
    from rstbench.spec.flags import RELIABILITY

    assert set(prepared(small_net().train(), images(2), 5, CPU)[1]) <= RELIABILITY.keys()


def test_too_few_classes_with_both_numbers() -> None:
    with pytest.raises(ModelError, match=r"Sequential: answers with 5 classes, the labels need at least 7 \(0 to 6\)"):
        prepared(small_net(), images(4), 7, CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.argmax(1), r"tensor \[2\]; \[2, classes\] is expected"),
        (lambda x: x.argmax(1, keepdim=True), "torch.int64; logits are floating-point numbers"),
        (lambda x: x[:1], r"tensor \[1, 5\]; \[2, classes\]"),
        (lambda x: x[:, :, None, None], r"tensor \[2, 5, 1, 1\]"),
        (lambda x: (x, x), "answers with a tuple; a tensor of logits"),
        (lambda x: {"logits": x}, "answers with a dict"),
        (lambda x: x.view(7, 7), "fails on float32 images 2 x 3 x 8 x 8 in .* on cpu: RuntimeError: shape"),
    ],
)
def test_answers_that_are_no_logits(change: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        prepared(Wrapped(change), images(4), 5, CPU)


def test_images_it_does_not_take() -> None:
    with pytest.raises(ModelError, match="fails on float32 images 2 x 1 x 8 x 8"):
        prepared(small_net(), images(4, channels=1), 5, CPU)


def test_weights_of_another_type_are_named() -> None:
    with pytest.raises(ModelError, match=r"with torch.float64 weights; model.float\(\)"):
        prepared(small_net().double(), images(4), 5, CPU)


def test_not_a_module() -> None:
    with pytest.raises(ModelError, match=r"a torch\.nn\.Module is expected"):
        prepared(lambda x: x, images(4), 5, CPU)  # type: ignore[arg-type]


def test_another_device_is_named_and_nothing_is_moved() -> None:
    model = small_net()
    with pytest.raises(ModelError, match=r"is on cpu, the evaluation runs on cuda:0; move it there with model\.to"):
        prepared(model, images(4), 5, torch.device("cuda:0"))
    with pytest.raises(ModelError, match="without values"):
        prepared(nn.Sequential(small_net(), nn.Linear(5, 5, device="meta")), images(4), 5, CPU)
    assert device_of(model) == device_of(nn.Flatten()) == CPU


@pytest.mark.gpu
def test_a_model_on_a_gpu() -> None:
    model = small_net().cuda()
    assert device_of(model).type == "cuda"
    for asked in (None, torch.device("cuda"), torch.device("cuda:0")):
        assert prepared(model, images(4), 5, asked) == (model, ())
    with pytest.raises(ModelError, match="is on cuda:0, the evaluation runs on cpu"):
        prepared(model, images(4), 5, CPU)
    model[7].cpu()
    with pytest.raises(ModelError, match="spread over cpu, cuda:0"):
        prepared(model, images(4), 5, None)


# ---- where an answer stops being a number --------------------------------------------------------------------------


def test_the_first_layer_is_named_not_those_after_it() -> None:
    for index, kind in ((0, "Conv2d"), (3, "Conv2d"), (7, "Linear")):
        model = nn.Sequential(small_net(), nn.Identity())
        with torch.no_grad():
            model[0][index].weight.view(-1)[0] = torch.nan  # type: ignore[index]
        text = first_not_finite(model, images(4))
        assert f"that of layer '0.{index}' ({kind}), whose weight is not finite" in text


def test_a_layer_that_overflows_is_named_without_blaming_its_weights() -> None:
    model = small_net()
    with torch.no_grad():
        model[0].weight.fill_(3e38)  # type: ignore[union-attr, operator]
    assert first_not_finite(model, images(4)).endswith("is that of layer '0' (Conv2d)")


def test_what_happens_outside_layers_is_the_models_own() -> None:
    assert "the model itself (Wrapped)" in first_not_finite(Wrapped(lambda x: (x - x.abs() - 1).log()), images(4))
    inner = nn.Sequential(Wrapped(lambda x: x / 0), nn.Softmax(1))
    assert first_not_finite(inner, images(4)).endswith("layer '0' (Wrapped)")


def test_outputs_that_are_packed() -> None:
    model = nn.Sequential(Wrapped(lambda x: {"a": [x, (x * torch.inf,)]}))
    assert "layer '0' (Wrapped)" in first_not_finite(model, images(4))


def test_images_and_answers_that_come_and_go() -> None:
    assert "images themselves" in first_not_finite(small_net(), images(4) * torch.nan)
    assert "random" in first_not_finite(small_net(), images(4))


def test_hooks_are_taken_off_even_after_an_error() -> None:
    model = Wrapped(lambda x: x.view(7, 7))
    with pytest.raises(RuntimeError):
        first_not_finite(model, images(4))
    first_not_finite(small_net(), images(4))
    assert not any(module._forward_hooks for module in model.modules())


def test_a_scripted_model_is_named_as_a_whole_at_least() -> None:
    network = small_net()
    with torch.no_grad():
        network[3].weight.view(-1)[0] = torch.nan  # type: ignore[union-attr, operator]
    with pytest.warns():
        traced = torch.jit.trace(network, images(2))
    assert "not finite is that of" in first_not_finite(traced, images(4))


def test_the_room_imports_no_zoo() -> None:
    code = "import sys, rstbench.evaluation.judge; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"timm", "robustbench", "torchvision"}.isdisjoint(done.stdout.split())
