"""Models from elsewhere as nodes hold them: loaded whenever a node asks, and checked by a digest of their weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from rstbench.errors import ModelError
from rstbench.foreign.loading import Loaded, load
from rstbench.spec.base import canonical_json
from rstbench.spec.foreign import ForeignSpec


def load_model(record: Mapping[str, Any], data_dir: Path | None) -> nn.Module:
    """The model of a stored model node. Raises `ModelError` if its weights are no longer those that were noted."""
    found = loaded(record["spec"], data_dir)
    if weights_digest(found.module) != record["weights"]:
        name = record["spec"]["model"]["name"]
        raise ModelError(
            f"model {name}: its weights are not those that earlier results were made with; use another store, or bring "
            "the former weights back"
        )
    return found.module


def weights_digest(module: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name}/{values.dtype}/{tuple(values.shape)}/".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def loaded(spec: Mapping[str, Any], data_dir: Path | None) -> Loaded:
    """The model of a model node's spec. Raises `ModelError` if it is no longer what was planned with."""
    task = spec["task"]
    return load(
        ForeignSpec.model_validate_json(canonical_json(spec["model"])),
        classes=task["classes"],
        channels=task["channels"],
        image_size=task["image_size"],
        mean=tuple(task["mean"]),
        std=tuple(task["std"]),
        data_dir=data_dir,
        planned=spec["identity"],
    )
