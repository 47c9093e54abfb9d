from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rstbench.spec.base import canonical_json
from rstbench.spec.foreign import SUFFIXES, ForeignSpec, relative_file

VALID: list[dict[str, Any]] = [
    {"source": "robustbench", "name": "Wang2023Better_WRN-28-10", "threat": "Linf"},
    {"source": "torchvision", "name": "resnet50", "weights": "IMAGENET1K_V2"},
    {"source": "torchvision", "name": "resnet50", "file": "weights/mine.pth", "normalise": False},
    {"source": "timm", "name": "resnet18", "weights": "a1_in1k"},
    {"source": "timm", "name": "vit_tiny_patch16_224", "file": "v.safetensors", "mean": [0.5], "std": [0.25]},
    {"source": "rstbench", "name": "preact_resnet18", "file": "t.safetensors", "width": 0.25},
    {"source": "plugin", "name": "mine", "arguments": {"depth": 3, "rate": 0.5, "act": "relu", "bias": True}},
    {"source": "plugin", "name": "mine", "file": "w.pt"},
]


def spec(**fields: Any) -> ForeignSpec:
    return ForeignSpec.model_validate({"kind": "model", **fields})


def fault(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        spec(**fields)
    (error,) = caught.value.errors()
    return str(error.get("ctx", {}).get("error") or error["msg"])


@pytest.mark.parametrize("fields", VALID)
def test_what_each_source_takes_survives_json(fields: dict[str, Any]) -> None:
    first = spec(**fields)
    again = ForeignSpec.model_validate_json(canonical_json(first.model_dump(mode="json")))
    assert again == first
    assert canonical_json(again.model_dump(mode="json")) == canonical_json(first.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        (VALID[0] | {"file": "a.pt"}, "file"),
        (VALID[0] | {"weights": "x"}, "weights"),
        (VALID[0] | {"normalise": False}, "normalise"),
        (VALID[1] | {"threat": "L2"}, "threat"),
        (VALID[1] | {"width": 0.5}, "width"),
        (VALID[3] | {"arguments": {"a": 1}}, "arguments"),
        (VALID[5] | {"weights": "x"}, "weights"),
        (VALID[6] | {"mean": [0.5], "std": [0.5]}, "mean"),
        (VALID[6] | {"width": 2.0}, "width"),
    ],
)
def test_fields_of_other_sources_are_refused_by_name(fields: dict[str, Any], field: str) -> None:
    assert fault(**fields) == f"`{field}` means nothing for source {fields['source']}"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "robustbench", "name": "x"}, "needs `threat`: Linf or L2"),
        ({"source": "torchvision", "name": "resnet18"}, "needs `weights` (published ones) or `file`"),
        ({"source": "timm", "name": "resnet18", "weights": "a", "file": "a.pt"}, "one of them"),
        ({"source": "rstbench", "name": "preact_resnet18"}, "needs `file`"),
        (
            {"source": "rstbench", "name": "resnet19", "file": "a.pt"},
            "no network family 'resnet19'; source rstbench has",
        ),
        (VALID[2] | {"normalise": True, "mean": [0.5]}, "`mean` and `std` come together"),
        (VALID[2] | {"normalise": True, "mean": [0.5], "std": [0.5, 0.5]}, "as many values each"),
        (VALID[2] | {"mean": [0.5], "std": [0.5]}, "mean nothing where `normalise` is false"),
        ({"source": "plugin", "name": "m", "arguments": {"a b": 1}}, "'a b' is no name of one"),
    ],
)
def test_what_a_source_needs(fields: dict[str, Any], message: str) -> None:
    assert message in fault(**fields)


@pytest.mark.parametrize(
    "file",
    ["/etc/weights.pt", "../a.pt", "a/../../b.pt", "~/a.pt", "~root/a.pt", "C:/a.pt", "a\\..\\b.pt", "a\n.pt", ""],
)
def test_files_outside_the_data_directory_are_refused(file: str) -> None:
    message = fault(source="plugin", name="m", file=file)
    assert "relative to it" in message or "a path of at most" in message


@pytest.mark.parametrize("file", ["a.pkl", "a.npz", "weights", "a.safetensors.gz", "a.PT"])
def test_files_of_other_kinds_are_refused(file: str) -> None:
    assert fault(source="plugin", name="m", file=file) == "must end in .safetensors, .pt or .pth"


@given(st.text(max_size=30), st.sampled_from(SUFFIXES))
def test_no_accepted_path_leaves_its_folder(text: str, suffix: str) -> None:
    from pathlib import Path

    try:
        file = relative_file(text + suffix)
    except ValueError:
        return
    root = Path("/data/here")
    assert (root / file).is_relative_to(root) and ".." not in Path(file).parts


@pytest.mark.parametrize("name", ["hf-hub:someone/model", "a/b", "", "-x", "a b", "x" * 121, "local-dir:/tmp"])
def test_names_that_could_be_addresses_are_refused(name: str) -> None:
    assert "at most 120 letters" in fault(source="timm", name=name, weights="a")


def test_lists_and_whole_numbers_of_yaml_are_taken() -> None:
    found = spec(source="torchvision", name="resnet18", file="./a.pt", mean=[0, 0, 0], std=[1.0, 1.0, 1.0])
    assert found.mean == (0.0, 0.0, 0.0) and found.file == "a.pt"


def test_the_kind_of_an_argument_is_kept() -> None:
    arguments = {"a": 1, "b": 1.0, "c": True, "d": "1"}
    found = json.loads(canonical_json(spec(source="plugin", name="m", arguments=arguments).model_dump(mode="json")))
    again = spec(**{key: value for key, value in found.items() if key != "kind"}).arguments
    assert [type(value) for value in again.values()] == [int, float, bool, str]
