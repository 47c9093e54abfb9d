from __future__ import annotations

import hashlib
import math
import os
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import ndtri
from torch import nn

from rstbench.errors import SpecError
from rstbench.networks import build
from rstbench.networks.init import fans, initialise, kaiming_uniform_scores, theta_digest, uniform
from rstbench.spec.models import INITS
from tests.networks.specs import digits, spec

SHAPE = (64, 32, 3, 3)


def weights(init: str, seed: int = 0, name: str = "conv", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    layer = nn.Conv2d(shape[1], shape[0], shape[2:], bias=False)
    module = nn.Module()
    module.add_module(name, layer)
    initialise(module, init, seed)
    return layer.weight.detach().numpy()


def philox_words(text: str, count: int) -> list[int]:
    """Philox4x64-10 from its publication (Salmon et al. 2011), in Python's integers; first block: counter 1."""
    mask = 2**64 - 1
    start = struct.unpack("<2Q", hashlib.sha256(text.encode()).digest()[:16])
    words: list[int] = []
    for block in range(1, count // 4 + 2):
        key = list(start)
        x = [block, 0, 0, 0]
        for _ in range(10):
            first, second = 0xD2E7470EE14C6C93 * x[0], 0xCA5A826395121157 * x[2]
            x = [(second >> 64) ^ x[1] ^ key[0], second & mask, (first >> 64) ^ x[3] ^ key[1], first & mask]
            key = [(key[0] + 0x9E3779B97F4A7C15) & mask, (key[1] + 0xBB67AE8584CAA73B) & mask]
        words += x
    return words[:count]


def test_weights_follow_the_documented_text_and_generator() -> None:
    words = philox_words("rstbench theta v1\nseed 7\nname conv.weight\nshape 8x4x3x3\n", 8 * 4 * 9)
    u = [((word >> 11) * 2 + 1) / 2**54 for word in words]  # rounds where u is above 1/2; enough for a comparison
    std = math.sqrt(2 / 36)
    shape = (8, 4, 3, 3)
    np.testing.assert_allclose(weights("kaiming_normal", 7, shape=shape).ravel(), ndtri(u) * std, rtol=1e-6)
    signs = [1 if word >> 63 else -1 for word in words]
    np.testing.assert_array_equal(
        weights("signed_kaiming_constant", 7, shape=shape).ravel(), (np.array(signs) * std).astype(np.float32)
    )


def test_scores_follow_the_documented_text_and_have_a_stream_of_their_own() -> None:
    words = philox_words("rstbench score v1\nseed 7\nname conv.weight\nshape 5x3\n", 15)
    expected = (np.array([(word >> 11) / 2**53 for word in words]) * 2 - 1) * 0.25
    np.testing.assert_allclose(uniform(7, "conv.weight", (5, 3), 0.25).ravel(), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("init", "moment"),
    [
        ("signed_kaiming_constant", math.sqrt(2 / 288)),
        ("kaiming_normal", math.sqrt(2 / 288)),
        ("kaiming_uniform", math.sqrt(2 / 288)),  # bound sqrt(6 / fan_in), so the same standard deviation
        ("xavier_normal", math.sqrt(2 / (288 + 576))),
    ],
)
def test_distributions(init: str, moment: float) -> None:
    values = weights(init)
    assert values.dtype == np.float32 and values.shape == SHAPE
    assert values.std() == pytest.approx(moment, rel=0.02) and abs(values.mean()) < 0.02 * moment
    sample = (values / moment).ravel().astype(float)
    if init == "signed_kaiming_constant":
        assert set(np.abs(values).ravel()) == {np.float32(moment)}
    elif init == "kaiming_uniform":
        assert np.abs(values).max() <= math.sqrt(6 / 288)
        assert stats.kstest(sample / math.sqrt(3), stats.uniform(-1, 2).cdf).pvalue > 0.01
    else:
        assert stats.kstest(sample, "norm").pvalue > 0.01


def test_the_four_initialisations_share_their_signs() -> None:
    signs = [np.sign(weights(init)) for init in INITS]
    assert all((sign == signs[0]).all() for sign in signs) and (signs[0] != 0).all()


def test_streams_differ_by_seed_name_shape_and_purpose() -> None:
    drawn = [
        weights("kaiming_uniform", 0, "a", (4, 4, 3, 3)),
        weights("kaiming_uniform", 1, "a", (4, 4, 3, 3)),
        weights("kaiming_uniform", 0, "b", (4, 4, 3, 3)),
        weights("kaiming_uniform", 0, "a", (4, 4, 1, 9)),
        uniform(0, "a", (4, 4, 3, 3), math.sqrt(6 / 36)),
    ]
    assert len({values.ravel()[:8].tobytes() for values in drawn}) == len(drawn)


def test_long_parameters_are_one_stream() -> None:
    # More elements than are drawn at once.
    shape = (3, 40_000)
    words = np.random.Philox(
        key=int.from_bytes(
            hashlib.sha256(b"rstbench score v1\nseed 0\nname w\nshape 3x40000\n").digest()[:16], "little"
        ),
        counter=0,
    ).random_raw(120_000)
    expected = ((words >> np.uint64(11)).astype(float) / 2**53 - 0.5).reshape(shape)
    np.testing.assert_allclose(uniform(0, "w", shape, 0.5), expected, atol=1e-7)


@pytest.mark.parametrize("bound", [1.0, 0.1, 1 / 3, math.sqrt(1 / 27), 1e-12])
def test_scores_stay_in_their_half_open_range(bound: float, monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.array([0, 2**64 - 1, 2**63], dtype=np.uint64)
    monkeypatch.setattr(np.random, "Philox", lambda key, counter: type("S", (), {"random_raw": lambda _, n: words})())
    low, high, middle = (float(value) for value in uniform(0, "w", (3,), bound))
    assert -bound <= low < -0.999999 * bound and 0.999999 * bound < high < bound and 0 < middle < 1e-7 * bound


def test_extreme_words_give_finite_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.array([0, 2**64 - 1, 2**63, 2**63 - 1], dtype=np.uint64)
    monkeypatch.setattr(np.random, "Philox", lambda key, counter: type("S", (), {"random_raw": lambda _, n: words})())
    for init in INITS:
        low, high, above, below = weights(init, shape=(4, 1, 1, 1)).ravel()
        assert low == -high < 0 < above == -below and math.isfinite(low)


def test_kaiming_uniform_scores_are_those_of_edge_popup() -> None:
    scores = kaiming_uniform_scores(3, "conv.weight", SHAPE, 288)
    theirs = nn.init.kaiming_uniform_(torch.empty(SHAPE), a=math.sqrt(5))
    assert scores.std() == pytest.approx(float(theirs.std()), rel=0.02)
    assert np.abs(scores).max() <= math.sqrt(1 / 288) and scores.dtype == np.float32


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(7, 5), nn.Conv2d(6, 4, 3), nn.Conv2d(6, 4, (1, 5), groups=2), nn.Conv1d(2, 3, 4), nn.Conv3d(2, 3, 2)],
)
def test_fans_are_torchs(layer: nn.Conv2d | nn.Linear) -> None:
    assert fans(tuple(layer.weight.shape)) == nn.init._calculate_fan_in_and_fan_out(layer.weight)


def test_fans_need_two_dimensions() -> None:
    with pytest.raises(ValueError, match="two dimensions"):
        fans((3,))


def test_other_parameters_and_running_statistics() -> None:
    network = build(spec("preact_resnet10", width=0.1, bn_affine=True, classifier_bias=True))
    fresh = {name: buffer.clone() for name, buffer in network.named_buffers()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(7.0)
    network(torch.rand(2, 3, 32, 32))
    initialise(network, "kaiming_normal", 0)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        elif parameter.dim() == 1:
            assert (parameter == 1).all()
        else:
            assert 0 < parameter.std() < 2
    assert all(torch.equal(buffer, fresh[name]) for name, buffer in network.named_buffers())


@pytest.mark.parametrize("family", ["preact_resnet18", "wide_resnet16", "resnet18"])
def test_one_backbone_whatever_the_number_of_classes(family: str) -> None:
    width = 1.0 if family == "resnet18" else 0.25
    ten, hundred = build(spec(family, width=width, classes=10)), build(spec(family, width=width, classes=100))
    for network in (ten, hundred):
        initialise(network, "signed_kaiming_constant", 5)
    theirs = dict(hundred.named_parameters())
    differing = [name for name, parameter in ten.named_parameters() if not torch.equal(parameter, theirs[name])]
    assert differing == ["fc.weight" if family == "resnet18" else "classifier.weight"]


def test_any_module_of_convolutions_and_linear_layers_can_be_initialised() -> None:
    module = nn.Sequential(nn.Conv1d(2, 4, 3), nn.GroupNorm(2, 4), nn.LayerNorm(6), nn.Flatten(), nn.Linear(24, 3))
    initialise(module, "xavier_normal", 0)
    assert module(torch.rand(2, 2, 8)).shape == (2, 3)
    single = nn.Linear(3, 2)
    initialise(single, "kaiming_normal", 0)
    assert not single.bias.any() and single.weight.all()


def test_refuses_what_it_does_not_know() -> None:
    with pytest.raises(SpecError, match=r"parameter 1\.weight belongs to a PReLU"):
        initialise(nn.Sequential(nn.Linear(2, 2), nn.PReLU()), "kaiming_normal", 0)
    with pytest.raises(SpecError, match=r"unknown initialisation 'he'.*kaiming_normal"):
        initialise(nn.Linear(2, 2), "he", 0)


def test_type_and_layout_are_kept() -> None:
    plain, other = nn.Conv2d(4, 8, 3), nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
    for layer in (plain, other):
        initialise(layer, "kaiming_normal", 0)
    assert theta_digest(plain) == theta_digest(other) and not other.weight.is_contiguous()
    half = nn.Conv2d(4, 8, 3, dtype=torch.bfloat16)
    initialise(half, "kaiming_normal", 0)
    assert torch.equal(half.weight, plain.weight.bfloat16())
    theta_digest(half)


@pytest.mark.gpu
def test_digest_is_the_same_on_a_gpu() -> None:
    network = build(spec("preact_resnet10"))
    initialise(network, "kaiming_normal", 0)
    expected = theta_digest(network)
    network.to("cuda")
    initialise(network, "kaiming_normal", 0)
    assert theta_digest(network) == expected


def test_digest_sees_names_shapes_and_bits_and_no_buffers() -> None:
    layer = nn.Linear(3, 2, bias=False)
    initialise(layer, "kaiming_normal", 0)
    digest = theta_digest(layer)
    expected = hashlib.sha256(b"weight\n2x3\n" + layer.weight.detach().numpy().astype("<f4").tobytes()).hexdigest()
    assert digest == expected
    assert theta_digest(nn.Sequential(layer)) != digest
    with torch.no_grad():
        layer.weight[0, 0] = torch.nextafter(layer.weight[0, 0], torch.tensor(9.0))
    assert theta_digest(layer) != digest
    norm = nn.BatchNorm2d(2)
    before = theta_digest(norm)
    norm(torch.rand(2, 2, 3, 3))
    assert theta_digest(norm) == before


GOLDEN: dict[str, dict[str, str]] = {
    "digits": {
        "signed_kaiming_constant": "1993b7e913a6e645ab64f6dc8e6f574c39bce2d3c1d5b709ec209b12a05c86fe",
        "kaiming_normal": "e2eafc62c1df83aae11ee0daf470d3d7916ffb23b59e5c81b1a87da4e1fc2f09",
        "kaiming_uniform": "ef9f9e500a1c22c693c183c4a185df0de1cd83b4da43664f52917e8c7ea2035d",
        "xavier_normal": "861eb2f44f5b0c9278e655609e9cd71fcab3af7f7b3e7549f8814824a51873ef",
    },
    "families": {
        "cifar_resnet18": "3cfcd1e114df82b5c249fa3bcded64b714078e2ee7b1cb7d9b6951e61ff1e32d",
        "wide_resnet34": "b0026858e019f0b46d37e45e2e4672d7ea251b1ce94cd371306cee001840cbc9",
        "wide_resnet16": "b3b5d3aecfdfd56557574fc8e4f0cc85ba186b121b0a0510b0103d4400ed482e",
        "wide_resnet10": "d00923f1b2c829d4b63ed45f632697c2ec19b1c20054ebb51fde30dc7b1eb6d5",
        "preact_resnet18": "2cf70c49620cc6f60600c32dcf63415270750c8521f294474943ca04dc87531d",
    },
    "cifar": {
        "signed_kaiming_constant": "f5c05ba970838c130d157c8088a3ad506d948c0f8ca7e41bfc383b737ae390fa",
        "kaiming_normal": "66a83cf7c02795eaf5508a99db97bcfbaa738fa3902ca393f654eb9c89ed819d",
    },
}


@pytest.mark.parametrize("init", INITS)
def test_golden_digests_of_a_small_network(init: str) -> None:
    network = build(digits("preact_resnet10", width=0.25))
    initialise(network, init, 1)
    assert theta_digest(network) == GOLDEN["digits"][init]


def test_golden_digest_of_every_small_family() -> None:
    found = {}
    for family in ("cifar_resnet18", "wide_resnet34", "wide_resnet16", "wide_resnet10", "preact_resnet18"):
        network = build(digits(family, width=0.1, classes=20, bn_affine=True, classifier_bias=True))
        initialise(network, "kaiming_normal", 2**63 - 1)
        found[family] = theta_digest(network)
    assert found == GOLDEN["families"]


@pytest.mark.parametrize("init", ["signed_kaiming_constant", "kaiming_normal"])
def test_golden_digests_of_preact_resnet18(init: str) -> None:
    network = build(spec("preact_resnet18"))
    started = time.perf_counter()
    initialise(network, init, 0)
    assert time.perf_counter() - started < 3.0  # 0.2 s on an idle core
    assert theta_digest(network) == GOLDEN["cifar"][init]


def test_bits_do_not_depend_on_the_vector_instructions_of_the_processor() -> None:
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    enabled = [feature for feature in __cpu_dispatch__ if __cpu_features__.get(feature)]
    if not enabled:
        pytest.skip("numpy uses no optional instructions on this processor")
    code = (
        "import numpy as np\n"
        "from rstbench.networks.quantile import normal_quantile\n"
        "import hashlib\n"
        "x = (np.random.Philox(key=1, counter=0).random_raw(200_000) >> np.uint64(11)).astype(float)\n"
        "print(hashlib.sha256(normal_quantile((x - 2.0**52 + 0.5) * 2.0**-53).tobytes()).hexdigest())\n"
    )
    digests = set()
    for disabled in ("", " ".join(enabled)):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"NPY_DISABLE_CPU_FEATURES": disabled}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        digests.add(done.stdout)
    assert len(digests) == 1
