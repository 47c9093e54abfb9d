"""A suite: what is measured, for which table, under which profile."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rstbench.spec.base import Name, Seed, Spec
from rstbench.spec.defenses import DefenseSpec
from rstbench.spec.derived import AttackSpec
from rstbench.spec.figure import FigureSpec
from rstbench.spec.measures import MeasureSpec
from rstbench.spec.models import DatasetSpec, NetworkSpec
from rstbench.spec.training import SearchSpec, TrainingSpec

PROFILES = ("paper", "express", "desk", "smoke")
MATRIX_AXES = ("dataset", "network")


class Cell(Spec):
    """One measurement of the table, repeated for every combination of the matrix.

    `dataset` and `network` restrict it to one value of that axis; default: all of the matrix. `source` and
    `source_seed` make it a transfer: the images are made against another network, which the attack knows instead.
    """

    defense: Name = Field(description="key in `defenses`")
    attack: Name | None = Field(None, description="key in `attacks`; a cell has this or `measure`")
    measure: Name | None = Field(None, description="key in `measures`")
    source: Name | None = Field(
        None, description="key in `defenses`: what the images are made against; default: the defense itself"
    )
    source_seed: Literal["same", "other"] = Field(
        "same",
        description="other: the source has the suite's next seed; the first after the last; if there is one, seed + 1",
    )
    dataset: Name | None = None
    network: Name | None = None

    @model_validator(mode="after")
    def _one_question(self) -> Cell:
        if (self.attack is None) == (self.measure is None):
            raise ValueError("a cell names an `attack` or a `measure`, and only one of them")
        if self.measure is not None and (self.source is not None or self.source_seed != "same"):
            raise ValueError("a `source` makes the images of an attack; a `measure` has none")
        return self


class Matrix(Spec):
    """Axes that expand: each cell is measured for every data set with every network."""

    dataset: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
    network: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]


class Table(Spec):
    """Layout: which keys label the rows and the columns of the printed table, and its cells."""

    layout: Literal["grid", "list"] = Field("grid", description="list: one line for each cell, with cost and flags")
    paper: Annotated[int, Field(ge=1, le=9)] | None = Field(None, description="the paper's table this answers")
    rows: Annotated[tuple[Literal["dataset", "network", "defense", "source"], ...], Field(strict=False)] = (
        "network",
        "defense",
    )
    columns: Annotated[tuple[Literal["dataset", "network", "defense", "attack"], ...], Field(strict=False)] = (
        "dataset",
        "attack",
    )
    cells: Annotated[tuple[Cell, ...], Field(min_length=1, strict=False)]


class SuiteSpec(Spec):
    """A suite under one profile: the file with that profile's overlay merged in."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Name
    title: str = Field(max_length=200)
    description: str = Field("", max_length=4000)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, strict=False)] = (0, 1, 2)
    matrix: Matrix
    datasets: dict[Name, DatasetSpec]
    networks: dict[Name, NetworkSpec]
    trainings: dict[Name, TrainingSpec] = Field(default_factory=dict)
    searches: dict[Name, SearchSpec] = Field(default_factory=dict)
    defenses: dict[Name, DefenseSpec]
    attacks: dict[Name, AttackSpec] = Field(default_factory=dict)
    measures: dict[Name, MeasureSpec] = Field(default_factory=dict)
    table: Table
    figure: FigureSpec | None = None


class SuiteFile(SuiteSpec):
    """The file itself: the paper's setting, and one overlay for each profile.

    An overlay is merged key by key: mappings merge, everything else replaces.
    """

    profiles: dict[Literal[PROFILES], dict[str, Any]] = Field(default_factory=dict)  # type: ignore[valid-type]


class Suite(Spec):
    """What `load_suite` returns: the suite as the paper has it, and as the profile runs it."""

    profile: Literal[PROFILES]  # type: ignore[valid-type]
    paper: SuiteSpec
    run: SuiteSpec
