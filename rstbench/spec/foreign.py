"""Models that rstbench did not make, as a suite names them. No torch here.

A suite is data: it names weights and registered networks, and nothing in it makes code run or a path outside the
data directory be read.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from rstbench.spec.base import Name, Positive, Spec

SUFFIXES = (".safetensors", ".pt", ".pth")
ZOO_DATA = {10: "cifar10", 100: "cifar100", 1000: "imagenet"}
"""Number of classes -> the data set that RobustBench lists its models under."""

_ALLOWED = {
    "robustbench": {"threat"},
    "torchvision": {"weights", "file", "normalise", "mean", "std"},
    "timm": {"weights", "file", "normalise", "mean", "std"},
    "rstbench": {"file", "width", "normalise", "mean", "std"},
    "plugin": {"file", "arguments"},
}
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")


def _word(text: str) -> str:
    if not _WORD.fullmatch(text):
        raise ValueError("must be made of at most 120 letters, digits, '_', '.' and '-', the first a letter or a digit")
    return text


def relative_file(text: str) -> str:
    """The path of a weights file, if a suite may name it. Raises ValueError saying what is allowed."""
    path = PurePosixPath(text)
    if not text or len(text) > 400 or not text.isprintable() or "\\" in text or ":" in text:
        raise ValueError("must be a path of at most 400 printable characters with '/' between folders, and no ':'")
    if path.is_absolute() or text.startswith("~") or ".." in path.parts:
        raise ValueError("must lie in the data directory: a path relative to it, without '..'")
    if path.suffix not in SUFFIXES:
        raise ValueError(f"must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    return str(path)


Word = Annotated[str, AfterValidator(_word)]
PerChannel = Annotated[tuple[Annotated[float, Field(strict=False)], ...], Field(min_length=1, strict=False)]


class ForeignSpec(Spec):
    """A model from elsewhere as a defense: RobustBench's zoo, torchvision, timm, weights for our families, plug-ins.

    Images come in [0, 1] at the data set's size; whatever normalisation the model needs happens inside it.
    """

    kind: Literal["model"]
    report_as: Name | None = Field(None, description="name in the table's `defense` column; default: the key")
    source: Literal["robustbench", "torchvision", "timm", "rstbench", "plugin"]
    name: Word = Field(description="zoo model, architecture, family of ours, or registered name")
    weights: Word | None = Field(
        None, description="published weights: torchvision's such as IMAGENET1K_V2, timm's tag such as a1_in1k"
    )
    file: Annotated[str, AfterValidator(relative_file)] | None = Field(
        None, description="state dict in the data directory: .safetensors, or .pt/.pth without code"
    )
    threat: Literal["Linf", "L2"] | None = Field(None, description="robustbench: the list that the model is on")
    width: Annotated[float, Field(gt=0.0, le=4.0)] = Field(1.0, description="rstbench: multiplier of channel counts")
    normalise: bool = Field(True, description="false: the model takes images in [0, 1] as they are")
    mean: PerChannel | None = Field(
        None, description="default: that of the published weights, or of the data set for a file"
    )
    std: Annotated[tuple[Positive, ...], Field(min_length=1, strict=False)] | None = Field(None, description="see mean")
    arguments: dict[Annotated[str, Field(max_length=80)], int | float | str | bool] = Field(
        default_factory=dict, description="plugin: keyword arguments of the registered network"
    )

    @model_validator(mode="after")
    def _fits_source(self) -> ForeignSpec:
        defaults = {name: field.get_default(call_default_factory=True) for name, field in _fields().items()}
        given = [name for name in defaults if getattr(self, name) != defaults[name]]
        for name in given:
            if name not in _ALLOWED[self.source]:
                raise ValueError(f"`{name}` means nothing for source {self.source}")
        if self.source in ("torchvision", "timm") and (self.weights is None) == (self.file is None):
            raise ValueError(f"source {self.source} needs `weights` (published ones) or `file` (your own), one of them")
        if self.source == "rstbench" and self.file is None:
            raise ValueError("source rstbench needs `file`: a state dict, a checkpoint or a ticket")
        if self.source == "robustbench" and self.threat is None:
            raise ValueError("source robustbench needs `threat`: Linf or L2")
        if (self.mean is None) != (self.std is None) or len(self.mean or ()) != len(self.std or ()):
            raise ValueError("`mean` and `std` come together, with as many values each")
        if self.mean is not None and not self.normalise:
            raise ValueError("`mean` and `std` mean nothing where `normalise` is false")
        if self.source == "rstbench":
            self._check_family()
        wrong = [name for name in self.arguments if not name.isidentifier()]
        if wrong:
            raise ValueError(f"`arguments` are keyword arguments; {wrong[0]!r} is no name of one")
        return self

    def _check_family(self) -> None:
        # Here and not above: that module holds the union of all defenses, and so imports this one.
        from rstbench.spec.models import FAMILIES

        if self.name not in FAMILIES:
            raise ValueError(f"no network family {self.name!r}; source rstbench has {', '.join(FAMILIES)}")


def _fields() -> dict[str, Any]:
    return {name: ForeignSpec.model_fields[name] for name in sorted(set().union(*_ALLOWED.values()))}
