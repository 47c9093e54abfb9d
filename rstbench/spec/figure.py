"""What a figure shows of a suite's cells."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rstbench.spec.base import Name, Ratio, Spec

MAX_LABELS = 8
"""Lines or colours of bars in one panel."""


class Series(Spec):
    """One line, one colour of bars or points, or one matrix: cells of a defense."""

    defense: Name = Field(description="key in `defenses`")
    label: str = Field(min_length=1, max_length=60, description="in the legend")
    attack: Name | None = Field(None, description="in place of the panel's")
    measure: Name | None = Field(None, description="in place of the panel's")
    source: Name | None = Field(
        None, description="bars only: key in `defenses`, what the images are made against; default: the defense itself"
    )
    group: str = Field("", max_length=40, description="bars only: bars of one group stand together, above its name")

    @model_validator(mode="after")
    def _one_question(self) -> Series:
        if self.attack is not None and self.measure is not None:
            raise ValueError("a series shows an `attack` or a `measure`, not both")
        return self


class Panel(Spec):
    """One pair of axes.

    kind: `lines` (a value over the remaining ratio, one line for each series), `heatmap` (the transfer matrix of one
    switching defense), `bars` (one bar for each series), `distribution` (share of test images up to a value), `scatter`
    (transfer over the overlap of masks: a point for each ordered pair of a switching defense's members).
    """

    kind: Literal["lines", "heatmap", "bars", "distribution", "scatter"]
    title: str = Field(min_length=1, max_length=80)
    dataset: Name
    network: Name
    attack: Name | None = Field(None, description="key in `attacks`; a panel has this or `measure`")
    measure: Name | None = Field(None, description="key in `measures`")
    series: Annotated[tuple[Series, ...], Field(min_length=1, max_length=64, strict=False)]
    dashed: Name | None = Field(None, description="key in `defenses`: a horizontal line, lines only")
    dashed_label: str = Field("dense, adv. trained", max_length=60, description="in the legend")
    inset: Annotated[tuple[Ratio, ...], Field(min_length=2, max_length=2, strict=False)] | None = Field(
        None, description="remaining ratios that a zoomed inset spans, lines only"
    )
    gain: bool = Field(
        False, description="scatter only: points above a member's accuracy on images made against itself, not accuracy"
    )

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Panel:
        if self.attack is not None and self.measure is not None:
            raise ValueError("a panel shows an `attack` or a `measure`, not both")
        if any(self.asked(one) == (None, None) for one in self.series):
            raise ValueError("name an `attack` or a `measure`, of the panel or of each series")
        if self.kind != "lines" and (self.dashed is not None or self.inset is not None):
            raise ValueError(f"`dashed` and `inset` belong to lines; this panel is of kind {self.kind}")
        if self.inset is not None and self.inset[0] >= self.inset[1]:
            raise ValueError("the inset must end at a larger ratio than it begins")
        if self.kind != "bars" and any(one.group for one in self.series):
            raise ValueError(f"`group` belongs to bars; this panel is of kind {self.kind}")
        if self.kind != "bars" and any(one.source is not None for one in self.series):
            raise ValueError(f"`source` belongs to bars; this panel is of kind {self.kind}")
        if any(one.source is not None and self.asked(one)[0] is None for one in self.series):
            raise ValueError("a `source` makes the images of an attack; a `measure` has none")
        if self.kind == "scatter" and any(self.asked(one)[0] is None for one in self.series):
            raise ValueError("a scatter shows an `attack`; the overlap that it goes with is found by itself")
        if self.gain and self.kind != "scatter":
            raise ValueError(f"`gain` belongs to scatter; this panel is of kind {self.kind}")
        if self.kind == "heatmap" and len(self.series) > 1:
            raise ValueError(f"a heat map shows one matrix, and there are {len(self.series)} series")
        if self.kind == "heatmap" and self.asked(self.series[0])[0] is None:
            raise ValueError("a heat map shows an `attack`; a `measure` has no matrix")
        if self.kind == "distribution" and any(self.asked(one)[1] is None for one in self.series):
            raise ValueError("a distribution shows a `measure`; right or wrong has none")
        labels = len({one.label for one in self.series})
        if labels > MAX_LABELS:
            raise ValueError(f"{labels} labels; more than {MAX_LABELS} cannot be told apart by colour and marker")
        places = [(one.group, one.label) for one in self.series]
        if len(set(places)) != len(places):
            raise ValueError("two series have the same label (and group)")
        return self

    def asked(self, series: Series) -> tuple[str | None, str | None]:
        """(attack, measure) of a series: its own, or the panel's; one of them is None."""
        if series.attack is not None or series.measure is not None:
            return series.attack, series.measure
        return self.attack, self.measure


class FigureSpec(Spec):
    """A figure of the paper: panels over cells of the suite's table."""

    paper: Annotated[int, Field(ge=1, le=14)] | None = Field(None, description="the paper's figure this answers")
    columns: Annotated[int, Field(ge=1, le=6)] = Field(4, description="panels side by side")
    note: str = Field("", max_length=600, description="printed beneath the panels: what the paper leaves open")
    panels: Annotated[tuple[Panel, ...], Field(min_length=1, max_length=24, strict=False)]
