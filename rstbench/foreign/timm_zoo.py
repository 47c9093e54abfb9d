"""timm's networks, with its published weights (as safetensors from the Hugging Face hub) or a state dict of one's own.

timm's own download is not used: it falls back to pickles, and timm 1.0.9 (the version that robustbench asks for) does
not work with huggingface_hub 1 and later.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from rstbench.errors import ModelError
from rstbench.foreign.files import WeightFile, read
from rstbench.foreign.normalised import behind_normalisation, normalisation
from rstbench.foreign.task import Task
from rstbench.foreign.weights import check_finite, fill, read_state
from rstbench.foreign.wording import first_line, near, needs_code
from rstbench.spec.foreign import ForeignSpec

WEIGHTS = "model.safetensors"


def network(spec: ForeignSpec, task: Task, file: WeightFile | None) -> tuple[nn.Module, tuple[str, ...]]:
    """The network, and notes.

    With a file, networks of fixed input size are built for the data set's. Raises `ModelError` for unknown names,
    weights that are for other classes or channels, damaged, or not to be had.
    """
    timm = _timm()
    if not timm.is_model(spec.name) or "." in spec.name:
        names = timm.list_models()
        raise ModelError(f"timm has no network {spec.name!r}{near(spec.name.partition('.')[0], names)}")
    if file is not None:
        fixed = timm.models.get_pretrained_cfg_value(spec.name, "fixed_input_size")
        size = {"img_size": task.image_size} if fixed else {}
        try:
            module = timm.create_model(spec.name, num_classes=task.classes, in_chans=task.channels, **size)
        except Exception as error:  # not every network can be built for every size
            raise ModelError(
                f"timm's {spec.name} cannot be built for {task.channels} x {task.image_size} x {task.image_size} "
                f"images ({first_line(error)})"
            ) from error
        fill(module, read_state(file.data, file.suffix, file.where), file.where, task.classes)
        return behind_normalisation(module, normalisation(spec, task)), ()
    return _published(timm, spec, task)


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ModelError(f"models of source timm need the package timm ({first_line(error)})") from error
    return timm  # type: ignore[no-any-return]


def _published(timm: ModuleType, spec: ForeignSpec, task: Task) -> tuple[nn.Module, tuple[str, ...]]:
    name = f"{spec.name}.{spec.weights}"
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{spec.name}.*")]
    if spec.weights not in tags:
        raise ModelError(
            f"timm has no weights {spec.weights!r} for {spec.name}; it has {', '.join(tags) or 'none'}"
            + near(str(spec.weights), tags)
        )
    config = timm.models.get_pretrained_cfg(name)
    for what, has, here in (
        ("classes", config.num_classes, task.classes),
        ("channels", config.input_size[0], task.channels),
    ):
        if has != here:  # timm would put random weights in their place
            raise ModelError(f"timm's weights {name} are for {has} {what}, the data set has {here}")
    path = _fetched(name, config)
    data = read(path)
    state = read_state(data, path.suffix, str(path))
    try:
        module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": state})
    except Exception as error:  # timm's own conversion of old weights may fail in any way
        raise ModelError(f"{path}: does not load as timm's {name} ({first_line(error)})") from error
    check_finite(module, str(path))
    notes = [f"weights SHA-256 {hashlib.sha256(data).hexdigest()}"]
    if config.input_size[1] != task.image_size:
        notes.append(
            f"the weights were published for {config.input_size[1]} pixels, images here have {task.image_size}"
        )
    module = behind_normalisation(module, normalisation(spec, task, (config.mean, config.std)))
    return module, tuple(notes)


def _fetched(name: str, config: Any) -> Path:
    """The safetensors file of published weights, from the hub's cache or the network."""
    import huggingface_hub

    repository = config.hf_hub_id
    if not repository or config.custom_load:
        raise ModelError(needs_code(f"timm's weights {name} ({config.url or 'no safetensors file is published'})"))
    if repository.endswith("/"):
        repository += name
    try:
        return Path(huggingface_hub.hf_hub_download(repository, WEIGHTS))
    except Exception as error:  # the hub's errors have no common root: no network, no such file, no space
        raise ModelError(
            f"timm's weights {name} are not in the cache and could not be downloaded ({first_line(error)}). Fetch "
            f"{WEIGHTS} of {repository} from huggingface.co where there is a network, and name it by `file`, or copy "
            f"the cache folder to {huggingface_hub.constants.HF_HUB_CACHE}"
        ) from error
