"""Write the files of a run: table.csv, table.md, battery.csv, details.csv, transfer.csv, samples.parquet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rstbench.errors import StoreError
from rstbench.plan import Plan
from rstbench.report.battery import battery
from rstbench.report.details import details
from rstbench.report.files import write, write_text
from rstbench.report.markdown import markdown
from rstbench.report.measure import measure_plan
from rstbench.report.samples import Samples
from rstbench.report.table import Counts, count, tidy
from rstbench.report.transfer import transfer
from rstbench.store import Store


@dataclass(frozen=True)
class Published:
    """What was written, and the frames behind it (`tidy`, `details`, `transfer`, `battery`).

    answering: counts of the cells that answer the paper; further: of variants and of cells the paper does not have.
    """

    table_csv: Path
    table_md: Path
    battery_csv: Path
    details_csv: Path
    transfer_csv: Path
    samples: Path
    answering: Counts
    further: Counts
    frame: Any
    details: Any
    matrices: Any
    battery: Any

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files."""
        tables = (self.table_csv, self.table_md, self.battery_csv, self.details_csv, self.transfer_csv)
        return (*tables, self.samples)


def publish(plan: Plan, store: Store, out: Path) -> Published:
    """Write the plan's results into the folder `out`, which is created; each file whole or not at all.

    Cells that are not (fully) in the store stay blank. Raises `StoreError` if `out` cannot be written or stored
    predictions are damaged, `SpecError` if two cells are one row.
    """
    results = measure_plan(plan, store)
    frame = tidy(plan, store, results)
    more = details(plan, store, results)
    matrices = transfer(plan, store, results)
    attacks = battery(plan, store, frame, results)
    answering, further = count(results, True), count(results, False)
    out = Path(out)
    published = Published(
        out / "table.csv", out / "table.md", out / "battery.csv", out / "details.csv", out / "transfer.csv",
        out / "samples.parquet", answering, further, frame, more, matrices, attacks,
    )  # fmt: skip
    page = markdown(plan, frame, more, matrices, attacks, answering, further)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_text(published.table_csv, _csv(frame))
        write_text(published.battery_csv, _csv(attacks))
        write_text(published.details_csv, _csv(more))
        write_text(published.transfer_csv, _csv(matrices))
        write_text(published.table_md, page)
        samples = Samples(plan, results, store)
        if not samples.are_in(published.samples):
            write(published.samples, samples.fill)
    except OSError as error:
        raise StoreError(
            f"results cannot be written to {out} ({error.strerror or error}); choose another folder with --out"
        ) from error
    return published


def _csv(frame: Any) -> str:
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text
