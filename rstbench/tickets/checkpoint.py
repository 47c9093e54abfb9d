"""Weight checkpoints of dense networks: one safetensors file, never unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from rstbench.errors import TicketError
from rstbench.networks import build
from rstbench.networks.spec import ModelSpec
from rstbench.spec.base import canonical_json

FORMAT = 1


def checkpoint_bytes(model: ModelSpec, state: Mapping[str, Tensor]) -> bytes:
    """A checkpoint file: the network's spec and its state dict."""
    header = canonical_json({"format": FORMAT, "model": model.model_dump(mode="json")})
    return save_tensors(dict(state), metadata={"rstbench": header})


def checkpoint_network(data: bytes, where: str = "checkpoint") -> nn.Module:
    """The network of a checkpoint file, in evaluation mode. Raises `TicketError` if it is not one or does not fit."""
    try:
        tensors = load_tensors(data)
        header = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["rstbench"])
        if header["format"] != FORMAT:
            raise TicketError(f"{where}: checkpoint format {header['format']!r}; this rstbench reads format {FORMAT}")
        module = build(ModelSpec.model_validate_json(json.dumps(header["model"])))
        module.load_state_dict(tensors, strict=True)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise TicketError(f"{where}: not a checkpoint of ours, or damaged ({error})") from error
    return module.eval().requires_grad_(False)
