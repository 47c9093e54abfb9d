from __future__ import annotations

import pytest

from rstbench.networks import ModelSpec, build
from rstbench.report.paper import paper_rows
from rstbench.tickets.count import count


def _imagenet(family: str, trained: bool) -> ModelSpec:
    return ModelSpec(
        family=family,
        classes=1000,
        image_size=224,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        bn_affine=trained,
        classifier_bias=trained,
    )


@pytest.mark.parametrize(
    ("family", "ratio", "ours", "paper"),
    [("resnet18", 1.0, 11.69, "11.17"), ("resnet50", 0.4, 10.20, "9.41"), ("resnet101", 0.25, 11.11, "10.62")],
)
def test_counts_of_table_1_beside_the_papers(family: str, ratio: float, ours: float, paper: str) -> None:
    counted = count(build(_imagenet(family, trained=ratio == 1.0)), ratio)
    assert round(counted.kept / 1e6, 2) == ours
    rows = [row.columns for row in paper_rows() if row.columns["metric"] == "params_m"]
    assert paper in {
        row.value for row in paper_rows() if row.columns["metric"] == "params_m" and row.columns["network"] == family
    }
    assert rows


def test_structured_patterns_keep_whole_units() -> None:
    network = build(ModelSpec(family="preact_resnet10", width=0.0625, classes=10, mean=(0.5,) * 3, std=(0.5,) * 3))
    by_element, by_channel = count(network, 0.5), count(network, 0.5, "channel")
    assert by_element.parameters == by_element.maskable
    assert by_element.kept == pytest.approx(by_element.parameters / 2, rel=0.01)
    assert by_channel.kept == pytest.approx(by_channel.parameters / 2, rel=0.1)
    assert count(network).kept == by_element.parameters


def test_the_power_law_moves_parameters_between_layers_and_keeps_their_number() -> None:
    network = build(ModelSpec(family="preact_resnet10", width=0.25, classes=10, mean=(0.5,) * 3, std=(0.5,) * 3))
    uniform, power = count(network, 0.05), count(network, 0.05, layer_power=0.1)
    assert abs(power.kept - uniform.kept) < len(list(network.modules()))
    assert power.maskable == uniform.maskable
