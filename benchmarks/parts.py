"""What is measured: the parts, each of which gives rows of the table and bars of the chart."""

from __future__ import annotations

import typing as t
from math import ceil
from statistics import fmean, median

from benchmarks.bench import (
    BARE_LOOP,
    TARGET,
    TEMPLATE,
    Bar,
    Bench,
    Results,
    Row,
    say,
    spread,
)
from benchmarks.customers import RENAMING, STREAM
from benchmarks.journal import journal
from benchmarks.measure import run
from benchmarks.piped import piped
from benchmarks.production import production

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.bench import Sizes
    from benchmarks.customers import Inputs
    from benchmarks.measure import Run

WINDOWS = (1, 4, 10)
_SMALL_TASK_SECONDS = 0.05
_MOST_IN_FLIGHT = 32
_TASKS = 10
_WINDOW_REPEATS = 3
_MEMORY_REPEATS = 3
_WIDE_ROWS = 5_000
"""Rows of a batch of wide records: the default's ten thousand would be more than Altcraft takes."""


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
            say(".")
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


def batches(bench: Bench) -> None:
    """Measure many batches of one row, of one stream and of a stream for each."""
    number = bench.sizes.small_batches
    inputs = {
        f"{number:,} batches of one row": (bench.inputs.path("tiny", number), number),
        f"{number // 2:,} streams of one row": (bench.inputs.streams(number // 2), number // 2),
    }
    settings = {"batch_size_rows": 1, "max_in_flight": _MOST_IN_FLIGHT}
    for what, (source, records) in inputs.items():
        ideal = ceil(records / _MOST_IN_FLIGHT) * _SMALL_TASK_SECONDS
        runs: list[Run] = []
        for _ in range(min(bench.sizes.repeats, _WINDOW_REPEATS)):
            its = run(TARGET, source, records, task_seconds=_SMALL_TASK_SECONDS, settings=settings)
            runs.append(its)
            say(".")
        best = min(runs, key=lambda run: run.wall)
        polls = [number for run in runs for number in run.polls]
        bench.results.rows.append(
            Row(
                what=f"{what}, tasks of {1000 * _SMALL_TASK_SECONDS:g} ms, "
                f"{_MOST_IN_FLIGHT} in flight",
                program=TARGET,
                arrived=best.arrived,
                wall=best.wall,
                cpu=best.cpu,
                peak=best.peak,
                rate=records / best.wall,
                compared=f"{best.wall / ideal:.2f} times the ideal {ideal:.1f} s; polls per task "
                f"{fmean(polls):.2f}, at most {max(polls)}",
            )
        )


def memory(bench: Bench) -> None:
    """Measure whether memory grows with the input."""
    few = bench.sizes.records
    numbers = (few, few * bench.sizes.growth)
    runs: dict[int, list[Run]] = {number: [] for number in numbers}
    for _ in range(min(bench.sizes.repeats, _MEMORY_REPEATS)):
        for number in numbers:
            source = bench.inputs.path("customers", number)
            runs[number].append(run(TARGET, source, number))
            say(".")
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
                compared="" if number == few else f"{spread(ratios)} the peak of {few:,} records",
            )
        )


def stream_map(bench: Bench) -> None:
    """Measure a stream map that renames five columns."""
    runs = bench.interleaved(
        (TARGET, TEMPLATE),
        "customers",
        bench.sizes.records,
        {"stream_maps": {STREAM: RENAMING}},
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
    "batches": batches,
    "memory": memory,
    "map": stream_map,
    "width": width,
    "journal": journal,
    "production": production,
    "tap": piped,
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
            say(f"{name} ")
            part(bench)
            say("\n")
    return bench.results
