"""Tasks, specs and files that tests of models from elsewhere share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rstbench.foreign.loading import Loaded, load
from rstbench.spec.foreign import ForeignSpec

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def spec(**fields: Any) -> ForeignSpec:
    return ForeignSpec.model_validate({"kind": "model", **fields})


def loaded(
    data_dir: Path | None,
    classes: int = 10,
    channels: int = 3,
    image_size: int = 32,
    planned: Any = None,
    **fields: Any,
) -> Loaded:
    """The model of a spec with these fields, for data with `MEAN` and `STD`."""
    task = {"classes": classes, "channels": channels, "image_size": image_size}
    mean, std = MEAN[:channels], STD[:channels]
    return load(spec(**fields), **task, mean=mean, std=std, data_dir=data_dir, planned=planned)


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with small random weights and plausible batch-norm buffers, in evaluation mode."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=random) * 0.2 + 0.01)
    return module.eval()


def saved(module: nn.Module, path: Path) -> Path:
    """The module's state dict as a file of the path's kind."""
    state = {name: value.clone().contiguous() for name, value in module.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def normalised(images: Tensor, mean: Any = MEAN, std: Any = STD) -> Tensor:
    return (images - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)
