"""What every part of the benchmark needs: sizes, runs that take turns, and rows of the table."""

from __future__ import annotations

import sys
import typing as t
from dataclasses import dataclass, field
from statistics import median

from benchmarks.measure import run

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.customers import Inputs, Kind
    from benchmarks.measure import Program, Run

TARGET: Program = "target-altcraft"
TEMPLATE: Program = "template"
BARE_LOOP: Program = "bare loop"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    records: int = 100_000
    repeats: int = 5
    task_seconds: float = 5.0
    task_rows: int = 100
    small_batches: int = 3_000
    growth: int = 10
    remembered: int = 10_000_000
    warm_up: bool = True

    @property
    def wide_records(self) -> int:
        """Records of sixty columns: about as many bytes as `records` of ten."""
        return max(1, self.records // 5)

    @property
    def journal_records(self) -> int:
        """Records of a run with a journal."""
        return 2 * self.records


QUICK = Sizes(
    records=2_000,
    repeats=1,
    task_seconds=0.2,
    task_rows=20,
    small_batches=60,
    remembered=20_000,
    warm_up=False,
)


@dataclass(frozen=True, slots=True)
class Row:
    """A program's figures in one measurement; None where they would say nothing."""

    what: str
    program: Program
    arrived: int
    wall: float
    cpu: float
    peak: int
    rate: float | None = None
    compared: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of the chart."""

    group: str
    program: Program
    value: float
    label: str


@dataclass(slots=True)
class Results:
    """What the parts have found: the table's rows, and the bars of the chart's two panels."""

    rows: list[Row] = field(default_factory=list)
    rates: list[Bar] = field(default_factory=list)
    windows: list[Bar] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every part needs."""

    sizes: Sizes
    inputs: Inputs
    results: Results

    def interleaved(
        self,
        programs: Sequence[Program],
        kind: Kind,
        records: int,
        settings: dict[str, t.Any] | None = None,
    ) -> dict[Program, list[Run]]:
        """Run programs in turn over one input, as often as the sizes say.

        Whatever slows the machine for a while then slows all of them.
        """
        source = self.inputs.path(kind, records)
        runs: dict[Program, list[Run]] = {program: [] for program in programs}
        for _ in range(self.sizes.repeats):
            for program in programs:
                runs[program].append(run(program, source, records, settings=settings))
                say(".")
        return runs

    def versus(
        self,
        what: str,
        group: str,
        runs: dict[Program, list[Run]],
        *more: str,
    ) -> None:
        """Add the rows and bars of programs that ran over one input, the target first.

        What else is to be said of the target stands behind its ratios.
        """
        notes = {TARGET: "; ".join([*_ratios(runs), *more])}
        for program, its in runs.items():
            rate = self.row(what, program, its, notes.get(program, ""))
            self.results.rates.append(Bar(group, program, rate, f"{rate:,.0f} {program}"))

    def row(self, what: str, program: Program, its: list[Run], compared: str) -> float:
        """Add the row of a program's runs; return its records per second."""
        arrived, wall = its[0].arrived, median(run.wall for run in its)
        self.results.rows.append(
            Row(
                what=what,
                program=program,
                arrived=arrived,
                wall=wall,
                cpu=median(run.cpu for run in its),
                peak=round(median(run.peak for run in its)),
                rate=arrived / wall,
                compared=compared,
            )
        )
        return arrived / wall


def _ratios(runs: dict[Program, list[Run]]) -> list[str]:
    """Compare the target's wall time with the others', repeat by repeat."""
    notes = []
    ours = runs[TARGET]
    if TEMPLATE in runs:
        ratios = [theirs.wall / own.wall for theirs, own in zip(runs[TEMPLATE], ours, strict=True)]
        notes.append(f"{spread(ratios)} as fast as the template")
    if BARE_LOOP in runs:
        ratios = [own.wall / theirs.wall for theirs, own in zip(runs[BARE_LOOP], ours, strict=True)]
        notes.append(f"{spread(ratios)} the bare loop's time")
    return notes


def spread(ratios: Sequence[float]) -> str:
    """Return the median of ratios, with the least and the greatest, for the table."""
    return f"{median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})"


def say(text: str) -> None:
    """Show on stderr how far the benchmark is."""
    print(text, end="", file=sys.stderr, flush=True)
