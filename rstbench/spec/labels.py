"""What tells one model from elsewhere from another, and the names that titles and tables have for what is run."""

from __future__ import annotations

from rstbench.spec.base import digest
from rstbench.spec.foreign import ForeignSpec
from rstbench.spec.models import DatasetSpec, NetworkSpec
from rstbench.spec.training import Engine


def model_digest(defense: ForeignSpec) -> str:
    """What tells one model from elsewhere from another, whatever tables call it."""
    return digest(defense.model_dump(mode="json", exclude={"report_as"}))


def foreign_label(defense: ForeignSpec) -> str:
    """Name of a model from elsewhere, e.g. "torchvision:resnet50"."""
    return f"{defense.source}:{defense.name}"


def label_of(spec: DatasetSpec | NetworkSpec) -> str:
    """Name of what was really run: the data source, or the family with its width."""
    if isinstance(spec, DatasetSpec):
        return spec.name or spec.source
    return spec.family if spec.width == 1.0 else f"{spec.family}-w{spec.width:g}"


def engine_label(engine: Engine) -> str:
    """What an engine has that is not its default, e.g. "bf16 channels_last"; empty where nothing is."""
    words = [
        f"{value} threads" if name == "threads" else str(value)
        for name, value in engine
        if value != type(engine).model_fields[name].get_default()
    ]
    return " ".join(words)
