from __future__ import annotations

import pytest

from rstbench.errors import SpecError
from rstbench.options import MODEL_SOURCES, conditions, dataset, evaluated_data, model_fields, seconds


@pytest.mark.parametrize(
    "text, value", [("45", 45), ("30s", 30), ("9m", 540), ("1.5h", 5400), (" 2 m ", 120), ("600h", 2_160_000)]
)
def test_seconds(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "0", "0.0s", "-1", "9 minutes", "1h30m", "inf", "nan", "1e3", "9" * 400, "m"])
def test_no_seconds(text: str) -> None:
    with pytest.raises(SpecError, match=r"is not a duration; write 45s, 9m or 1\.5h"):
        seconds(text)


def test_conditions() -> None:
    assert conditions([]) == {}
    assert conditions(["dataset=cifar10", "variant=stop=never", "ratio="]) == {
        "dataset": "cifar10",
        "variant": "stop=never",
        "ratio": "",
    }


@pytest.mark.parametrize(
    "texts, message",
    [
        (["datset=cifar10"], "did you mean 'dataset'?"),
        (["cifar10"], "write COLUMN=VALUE with a column of dataset, network"),
        (["dataset"], "write COLUMN=VALUE"),
        (["=x"], "write COLUMN=VALUE"),
        (["ours=3"], "write COLUMN=VALUE"),
        (["eps=8", "eps=16"], "names eps twice"),
    ],
)
def test_no_conditions(texts: list[str], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        conditions(texts)
    assert message in str(caught.value)


def test_dataset() -> None:
    assert dataset("cifar10").source == "cifar10"


@pytest.mark.parametrize(
    "name, message",
    [
        ("cifar", "did you mean 'cifar10'?"),
        ("", "known: digits"),
        ("folder", "data sets of your own"),
        ("arrays", "data sets of your own"),
    ],
)
def test_no_dataset(name: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        dataset(name)
    assert message in str(caught.value)


def test_data_to_evaluate_on() -> None:
    assert evaluated_data("cifar10", None).source == "cifar10"
    own = evaluated_data("folder:birds", 64)
    assert (own.source, own.name, own.image_size) == ("folder", "birds", 64)
    assert evaluated_data("arrays:toy", None).name == "toy"


@pytest.mark.parametrize(
    "name, size, message",
    [
        ("cifar", None, "no data set 'cifar'; known: digits"),
        ("cifar", None, "did you mean 'cifar10'?"),
        ("folder", 64, "--dataset folder: "),
        ("folder:", 64, "--dataset folder:: "),
        ("cifar10:mine", None, "--dataset cifar10:mine: "),
        ("folder:../up", 64, "--dataset folder:../up: "),
        ("digits", 0, "--dataset digits: "),
    ],
)
def test_no_data_to_evaluate_on(name: str, size: int | None, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        evaluated_data(name, size)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_fields_of_a_model() -> None:
    nothing = (None, None, None, 1.0, True)
    assert model_fields("plugin:mine", *nothing) == {"source": "plugin", "name": "mine"}
    assert model_fields("timm:resnet18.a1_in1k", *nothing)["name"] == "resnet18.a1_in1k"
    assert model_fields("rstbench:resnet18", "W", "a.pt", "L2", 0.5, False) == {
        "source": "rstbench", "name": "resnet18", "weights": "W", "file": "a.pt", "threat": "L2", "width": 0.5,
        "normalise": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    "model, hint", [("resnet50", ""), ("torchvison:resnet50", "did you mean 'torchvision'?"), ("timm:", ""), ("", "")]
)
def test_no_model(model: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        model_fields(model, None, None, None, 1.0, True)
    assert f"a model is SOURCE:NAME with a source of {', '.join(MODEL_SOURCES)}" in str(caught.value)
    assert hint in str(caught.value)
