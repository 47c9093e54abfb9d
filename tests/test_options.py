from __future__ import annotations

import pytest

from rstbench.errors import SpecError
from rstbench.options import conditions, dataset, seconds


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
