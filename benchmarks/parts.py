"""What is measured: five parts, each of which gives rows of the table and bars of the chart."""

from __future__ import annotations

import sys
import typing as t
from dataclasses import dataclass, field
from math import ceil
from statistics import fmean, median

from benchmarks.customers import RENAMES, STREAM
from benchmarks.measure import run

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.customers import Inputs, Kind
    from benchmarks.measure import Program, Run

TARGET: Program = "target-altcraft"
TEMPLATE: Program = "template"
BARE_LOOP: Program = "bare loop"

WINDOWS = (1, 4, 10)
_TASKS = 10
_WINDOW_REPEATS = 3
_MEMORY_REPEATS = 3
_WIDE_ROWS = 5_000
"""Rows of a batch of wide records: the default's ten thousand would be more than Altcraft takes."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    records: int = 100_000
    repeats: int = 5
    task_seconds: float = 5.0
    task_rows: int = 100
    growth: int = 10
    warm_up: bool = True

    @property
    def wide_records(self) -> int:
        """Records of sixty columns: about as many bytes as `records` of ten."""
        return max(1, self.records // 5)


QUICK = Sizes(records=2_000, repeats=1, task_seconds=0.2, task_rows=20, warm_up=False)


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
                _say(".")
        return runs

    def versus(
        self,
        what: str,
        group: str,
        runs: dict[Program, list[Run]],
    ) -> None:
        """Add the rows and bars of programs that ran over one input, the target first."""
        notes = {TARGET: "; ".join(_ratios(runs))}
        for program, its in runs.items():
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
                    compared=notes.get(program, ""),
                )
            )
            self.results.rates.append(
                Bar(group, program, arrived / wall, f"{arrived / wall:,.0f} {program}")
            )


def speed(bench: Bench) -> None:
    """Measure records of ten columns and instant tasks."""
    records = bench.sizes.records
    runs = bench.interleaved((TARGET, TEMPLATE, BARE_LOOP), "customers", records)
    bench.versus("10 columns, instant tasks", "10 columns", runs)


def window(bench: Bench) -> None:
    """Measure tasks that take their time, several in flight."""
    sizes = bench.sizes
    records = _TASKS * sizes.task_rows
    source = bench.inputs.path("customers", records)
    for in_flight in WINDOWS:
        ideal = ceil(_TASKS / in_flight) * sizes.task_seconds
        repeats = 1 if in_flight == 1 else min(sizes.repeats, _WINDOW_REPEATS)
        runs: list[Run] = []
        for _ in range(repeats):
            settings = {"batch_size_rows": sizes.task_rows, "max_in_flight": in_flight}
            its = run(TARGET, source, records, task_seconds=sizes.task_seconds, settings=settings)
            runs.append(its)
            _say(".")
        best = min(runs, key=lambda run: run.wall)
        polls = [number for run in runs for number in run.polls]
        late = max(seconds for run in runs for seconds in run.late)
        bench.results.rows.append(
            Row(
                what=f"{_TASKS} tasks of {sizes.task_seconds:g} s, {in_flight} in flight",
                program=TARGET,
                arrived=best.arrived,
                wall=best.wall,
                cpu=best.cpu,
                peak=best.peak,
                compared=f"{best.wall / ideal:.2f} times the ideal {ideal:g} s; polls per task "
                f"{fmean(polls):.1f}, at most {max(polls)}; end noticed after {late:.2f} s at most",
            )
        )
        label = f"{best.wall:.1f} s (ideal {ideal:g} s)"
        bench.results.windows.append(Bar(f"{in_flight} in flight", TARGET, best.wall, label))


def memory(bench: Bench) -> None:
    """Measure whether memory grows with the input."""
    few = bench.sizes.records
    numbers = (few, few * bench.sizes.growth)
    runs: dict[int, list[Run]] = {number: [] for number in numbers}
    for _ in range(min(bench.sizes.repeats, _MEMORY_REPEATS)):
        for number in numbers:
            source = bench.inputs.path("customers", number)
            runs[number].append(run(TARGET, source, number))
            _say(".")
    for number, its in runs.items():
        ratios = [more.peak / less.peak for more, less in zip(its, runs[few], strict=True)]
        wall = median(run.wall for run in its)
        bench.results.rows.append(
            Row(
                what=f"{number:,} records, default settings",
                program=TARGET,
                arrived=its[0].arrived,
                wall=wall,
                cpu=median(run.cpu for run in its),
                peak=round(median(run.peak for run in its)),
                rate=number / wall,
                compared="" if number == few else f"{_spread(ratios)} the peak of {few:,} records",
            )
        )


def stream_map(bench: Bench) -> None:
    """Measure a stream map that renames five columns: added first, then the old ones removed."""
    renaming = {
        **{field: column for column, field in RENAMES.items()},
        **dict.fromkeys(RENAMES, "__NULL__"),
    }
    runs = bench.interleaved(
        (TARGET, TEMPLATE),
        "customers",
        bench.sizes.records,
        {"stream_maps": {STREAM: renaming}},
    )
    bench.versus("10 columns, stream map renames five", "5 renamed", runs)


def width(bench: Bench) -> None:
    """Measure wide records and tiny ones."""
    wide = bench.interleaved(
        (TARGET, TEMPLATE),
        "wide",
        bench.sizes.wide_records,
        {"batch_size_rows": _WIDE_ROWS},
    )
    bench.versus("60 columns", "60 columns", wide)
    tiny = bench.interleaved((TARGET, TEMPLATE), "tiny", bench.sizes.records)
    bench.versus("2 columns", "2 columns", tiny)


PARTS: dict[str, Callable[[Bench], None]] = {
    "speed": speed,
    "window": window,
    "memory": memory,
    "map": stream_map,
    "width": width,
}


def warm_up(inputs: Inputs) -> None:
    """Run every program once, uncounted: byte code is compiled then, and files are in memory."""
    for program in (TARGET, TEMPLATE, BARE_LOOP):
        run(program, inputs.path("tiny", 1), 1)


def measure(names: Sequence[str], sizes: Sizes, inputs: Inputs) -> Results:
    """Run parts of the benchmark, in the table's order.

    Args:
        names: Of the parts.
        sizes: How much to measure.
        inputs: Where the input files are.

    Raises:
        BenchmarkError: If a program failed or did not deliver everything.
    """
    bench = Bench(sizes, inputs, Results())
    if sizes.warm_up:
        warm_up(inputs)
    for name, part in PARTS.items():
        if name in names:
            _say(f"{name} ")
            part(bench)
            _say("\n")
    return bench.results


def _ratios(runs: dict[Program, list[Run]]) -> list[str]:
    """Compare the target's wall time with the others', repeat by repeat."""
    notes = []
    ours = runs[TARGET]
    if TEMPLATE in runs:
        ratios = [theirs.wall / own.wall for theirs, own in zip(runs[TEMPLATE], ours, strict=True)]
        notes.append(f"{_spread(ratios)} as fast as the template")
    if BARE_LOOP in runs:
        ratios = [own.wall / theirs.wall for theirs, own in zip(runs[BARE_LOOP], ours, strict=True)]
        notes.append(f"{_spread(ratios)} the bare loop's time")
    return notes


def _spread(ratios: Sequence[float]) -> str:
    return f"{median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})"


def _say(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)
