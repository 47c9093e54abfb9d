from __future__ import annotations

import copy
import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor, nn

from rstbench.errors import ModelError
from rstbench.foreign.weights import fill, read_state, weights_only
from tests.attacks.networks import small_net


def packed(value: object, **options: Any) -> bytes:
    sink = io.BytesIO()
    torch.save(value, sink, **options)
    return sink.getvalue()


STATE = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}


def equal(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("wrap", [None, "state_dict", "model", "model_state_dict", "net"])
@pytest.mark.parametrize("legacy", [False, True])
def test_files_of_torch(wrap: str | None, legacy: bool) -> None:
    value: dict[str, Any] = STATE if wrap is None else {"epoch": 3, wrap: STATE, "optimizer": {"lr": 0.1}}
    data = packed(value, _use_new_zipfile_serialization=not legacy)
    assert equal(read_state(data, ".pt", "f"), STATE) and equal(read_state(data, ".pth", "f"), STATE)


def test_safetensors() -> None:
    assert equal(read_state(save(STATE), ".safetensors", "f"), STATE)


# ---- hostile files -------------------------------------------------------------------------------------------------


class Writes:
    """A pickle of it writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("key", [None, "state_dict"])
def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(
    tmp_path: Path, suffix: str, kind: str, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not even where the user's environment asks torch for full unpickling.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    mark = tmp_path / "ran"
    hostile = {"a": Writes(mark)}
    value = hostile if key is None else {key: hostile}
    data = pickle.dumps(value) if kind == "pickle" else packed(value, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(ModelError, match=r"^somewhere: ") as caught:
        read_state(data, suffix, "somewhere")
    assert not mark.exists()
    if suffix != ".safetensors" and kind != "pickle":
        assert "would run code" in str(caught.value) and "mkdir" in str(caught.value)
        assert "safetensors.torch.save_file" in str(caught.value)
    pickle.loads(pickle.dumps(hostile))
    assert mark.exists()  # the trap does work


def test_a_whole_pickled_module_is_refused_with_the_way_out() -> None:
    with pytest.raises(ModelError, match=r"f: refused, because loading it would run code .*torch.*save_file"):
        read_state(packed(small_net()), ".pt", "f")


def test_a_script_archive_is_refused(tmp_path: Path) -> None:
    with pytest.warns():
        torch.jit.save(torch.jit.trace(small_net(), torch.rand(1, 3, 8, 8)), tmp_path / "s.pt")
    with pytest.raises(ModelError):
        read_state((tmp_path / "s.pt").read_bytes(), ".pt", "f")


def test_what_swells_is_refused_before_it_swells() -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("archive/data.pkl", "w") as record:
            for _ in range(64):
                record.write(bytes(2**20))
        archive.writestr("archive/version", "3")
    assert len(sink.getvalue()) < 2**18
    with pytest.raises(ModelError, match="unpacks to more than the file holds"):
        read_state(sink.getvalue(), ".pt", "f")


def test_records_that_share_their_bytes_are_refused() -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data/0", bytes(2**16))
        for index in range(1, 50):
            twin = copy.copy(archive.filelist[0])
            twin.filename = f"archive/data/{index}"
            archive.filelist.append(twin)
    assert len(sink.getvalue()) < 2**17
    with pytest.raises(ModelError, match="unpacks to more than the file holds"):
        read_state(sink.getvalue(), ".pt", "f")


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 10**9) + b"{" + b" " * 1000,
        struct.pack("<Q", 2) + b"{}" + bytes(10**6),
        struct.pack("<Q", 20) + b'{"a": 1, "b": [[[[[[',
        b"",
        b"{}",
        packed(STATE),
    ],
)
def test_headers_of_safetensors_that_lie(data: bytes) -> None:
    with pytest.raises(ModelError, match="not a safetensors file, or damaged"):
        read_state(data, ".safetensors", "f")


@pytest.mark.parametrize("offsets", [[0, 4 * 10**12], [0, 8], [-4, 0], [4, 0]])
def test_tensors_that_claim_more_than_there_is(offsets: list[int]) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": offsets}}).encode()
    with pytest.raises(ModelError):
        read_state(struct.pack("<Q", len(header)) + header + bytes(4), ".safetensors", "f")


def test_a_file_under_the_suffix_of_another_kind() -> None:
    with pytest.raises(ModelError, match=r"looks like a file of torch\.save, whose suffix is \.pt"):
        read_state(packed(STATE), ".safetensors", "f")
    with pytest.raises(ModelError, match="looks like a safetensors file"):
        read_state(save(STATE), ".pt", "f")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255), st.sampled_from([".pt", ".safetensors", "legacy"]))
def test_one_flipped_byte_gives_tensors_or_one_message(at: int, flip: int, kind: str) -> None:
    whole = save(STATE) if kind == ".safetensors" else packed(STATE, _use_new_zipfile_serialization=kind == ".pt")
    data = bytearray(whole)
    data[at % len(data)] ^= flip
    try:
        found = read_state(bytes(data), kind if kind[0] == "." else ".pt", "f")
    except ModelError:
        return
    assert all(isinstance(value, Tensor) for value in found.values())


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_cut_short(suffix: str) -> None:
    data = packed(STATE) if suffix == ".pt" else save(STATE)
    for length in (0, 1, 7, 8, 9, 50, len(data) // 2, len(data) - 1):
        with pytest.raises(ModelError):
            read_state(data[:length], suffix, "f")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(3), "holds a Tensor, not a state dict"),
        ([torch.ones(3)], "holds a list"),
        ({}, "holds an empty dict"),
        ({"a": 1, "b": torch.ones(1)}, "a of 2 entries are no tensors"),
        ({"ema": {"a": torch.ones(1)}, "epoch": 1}, "ema, epoch of 2 entries are no tensors"),
        ({"state_dict": {"a": 0.5}}, "a of 1 entries are no tensors"),
        ({3: torch.ones(1)}, "3 of 1 entries"),
    ],
)
def test_what_is_no_state_dict(value: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_state(packed(value), ".pt", "f")


def test_loaders_of_others_unpickle_weights_only_and_the_environment_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    mark, file = tmp_path / "ran", tmp_path / "f.pt"
    torch.save(Writes(mark), file)
    with weights_only(), pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=False)
    assert not mark.exists()
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


# ---- fitting into a module -----------------------------------------------------------------------------------------


def state_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module.model.", "model.module._orig_mod."])
def test_prefixes_of_wrappers(prefix: str) -> None:
    source, target = small_net(seed=3), small_net(seed=4)
    fill(target, {prefix + name: value for name, value in state_of(source).items()}, "f", 5)
    assert equal(state_of(target), state_of(source))


def test_a_prefix_that_is_the_modules_own_stays() -> None:
    source, target = nn.ModuleDict({"model": small_net(seed=3)}), nn.ModuleDict({"model": small_net(seed=4)})
    fill(target, state_of(source), "f", 5)
    assert equal(state_of(target), state_of(source))
    fill(target, {f"module.{name}": value for name, value in state_of(source).items()}, "f", 5)


def test_half_precision_becomes_the_modules_own() -> None:
    source, target = small_net(seed=3), small_net(seed=4)
    fill(target, {name: value.half() for name, value in state_of(source).items()}, "f", 5)
    assert target[0].weight.dtype == torch.float32  # type: ignore[union-attr]
    assert torch.allclose(target[0].weight, source[0].weight, atol=1e-3)  # type: ignore[union-attr, arg-type]


def test_counters_of_batch_norm_may_be_missing() -> None:
    state = state_of(small_net(seed=3))
    assert state.pop("1.num_batches_tracked") is not None
    fill(small_net(), state, "f", 5)


def changed(**changes: Tensor | None) -> dict[str, Tensor]:
    state: dict[str, Any] = state_of(small_net()) | {
        name.replace("_", ".", 1): value for name, value in changes.items()
    }
    return {name: value for name, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (changed(**{"0_weight": None}), "^f: 0.weight of the network's 11 tensors are missing$"),
        (changed(**{f"{i}_weight": None for i in (0, 1, 3, 7)}), "0.weight, 1.weight, 3.weight and 1 more of"),
        (changed(extra_weight=torch.ones(1)), "^f: extra.weight are not the network's$"),
        (
            changed(**{"3_weight": torch.ones(8, 8, 5, 5)}),
            r"3.weight has shape \[8, 8, 5, 5\], the network's \[8, 8, 3",
        ),
        (changed(**{"7_weight": torch.ones(7, 32), "7_bias": torch.ones(7)}), "for 7 classes, the data set has 5$"),
        (changed(**{"7_weight": torch.ones(5, 30)}), r"7.weight has shape \[5, 30\], the network's \[5, 32\]$"),
        (changed(**{"7_bias": torch.ones(5, dtype=torch.complex64)}), "7.bias: complex or quantised"),
        (changed(**{"7_bias": torch.full((5,), torch.nan)}), "^f: 7.bias is not finite"),
        (changed(**{"1_running_var": torch.full((8,), torch.inf)}), "1.running_var is not finite"),
        (changed(**{"0_weight": torch.ones(1).expand(10**9)}), r"0.weight has shape \[1000000000\]"),
        ({"w": torch.ones(1)}, "and 7 more of the network's 11 tensors are missing; w are not the network's"),
    ],
)
def test_one_message_names_the_first_few(state: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        fill(small_net(), state, "f", 5)
