"""What README's production settings cost: a stream map that renames, and the four files."""

from __future__ import annotations

import typing as t

from benchmarks.bench import TARGET, TEMPLATE, say, spread
from benchmarks.customers import RENAMING, STREAM
from benchmarks.measure import run

if t.TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.measure import Program, Run

FILES = {
    "journal_path": "journal.sqlite",
    "rejects_path": "rejects.jsonl",
    "receipts_path": "receipts.jsonl",
    "report_path": "last-run.html",
}
_PAIRS = 3
"""So many runs with the files and without them for each run of the template: what they differ by is
less than what some machines differ by from minute to minute."""
_MEMORY_REPEATS = 3


def production(bench: Bench) -> None:
    """Measure the settings beside the template and without the files, and what memory they take."""
    few = bench.sizes.records
    many = few * bench.sizes.growth
    mapped = {"stream_maps": {STREAM: RENAMING}}
    whole = {**mapped, **FILES}
    ours: list[Run] = []
    theirs: list[Run] = []
    bare: list[Run] = []
    grown: list[Run] = []

    def measured(program: Program, records: int, settings: dict[str, t.Any]) -> Run:
        source = bench.inputs.path("customers", records, bookmark="ascending")
        its = run(program, source, records, settings=settings)
        say(".")
        return its

    for repeat in range(bench.sizes.repeats):
        theirs.append(measured(TEMPLATE, few, mapped))
        for _ in range(_PAIRS):
            ours.append(measured(TARGET, few, whole))
            bare.append(measured(TARGET, few, mapped))
        if repeat < _MEMORY_REPEATS:
            grown.append(measured(TARGET, many, whole))

    ratios = [own.wall / other.wall for own, other in zip(ours, bare, strict=True)]
    what = f"{few:,} records, production settings"
    note = f"{spread(ratios)} the time without the four files"
    bench.versus(what, "production", {TARGET: ours[::_PAIRS], TEMPLATE: theirs}, note)
    bench.versus(f"{what} without the files", "no files", {TARGET: bare})
    peaks = [more.peak / less.peak for more, less in zip(grown, ours, strict=False)]
    note = f"{spread(peaks)} the peak of {few:,} records"
    bench.row(f"{many:,} records, production settings", TARGET, grown, note)
