"""What the pipeline's memory costs: a run with `journal_path` beside the same run without.

Once with a journal of this run alone, in each way in which records can meet it, and once with a
journal that remembers millions.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import typing as t
from statistics import median

from benchmarks.bench import TARGET, Row, say, spread
from benchmarks.measure import HERE, run

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.bench import Bench
    from benchmarks.measure import Run


class Case(t.NamedTuple):
    """A run that is measured beside others."""

    what: str
    source: Path
    records: int
    arrive: int
    """How many of them are sent."""
    has_journal: bool = True
    start: Path | None = None
    """The journal that it finds, of which it gets a copy; None: there is none yet."""
    against: str = ""
    """The case that it is compared with."""
    says: str = ""
    """What the ratio is of."""
    sizes_versions: bool = False
    """Whether the journal's bytes for each version are told."""


def journal(bench: Bench) -> None:
    """Measure runs with a journal: what it costs, and what it costs once it has grown."""
    small = _remember_by_a_run(bench)
    try:
        _measure(bench, _cost(bench, small), _ratio)
        grown = _write_grown(bench, small)
        _measure(bench, _starts(bench, grown), _difference)
        _measure(bench, _growth(bench, small, grown), _ratio)
    finally:
        for path in bench.inputs.folder.glob("*.sqlite*"):
            path.unlink()


def _cost(bench: Bench, small: Path) -> list[Case]:
    """Return runs with a journal that knows of them alone, and the run without one."""
    inputs, count = bench.inputs, bench.sizes.journal_records
    ascending = inputs.path("customers", count, bookmark="ascending")
    one = inputs.path("customers", count, bookmark="one")
    unmarked = inputs.path("customers", count)
    prefix, without = f"{count:,} records", f"{count:,} records, no journal"
    beside: dict[str, t.Any] = {"against": without, "says": "the time without a journal"}
    return [
        Case(without, ascending, count, count, has_journal=False),
        Case(f"{prefix}, new journal", ascending, count, count, sizes_versions=True, **beside),
        Case(f"{prefix} of one bookmark", one, count, count, sizes_versions=True, **beside),
        Case(f"{prefix} without a bookmark", unmarked, count, count, **beside),
        Case(f"{prefix}, delivered before", _known(bench), count, 0, start=small, **beside),
    ]


def _starts(bench: Bench, grown: Path) -> list[Case]:
    """Return runs of one record."""
    source = bench.inputs.path("customers", 1, bookmark="ascending", first=_new(bench))
    alone = "1 record, new journal"
    says = "than with a new journal"
    return [
        Case(alone, source, 1, 1),
        Case(f"1 record, {_grown(bench)}", source, 1, 1, start=grown, against=alone, says=says),
    ]


def _growth(bench: Bench, small: Path, grown: Path) -> list[Case]:
    """Return runs with a journal that remembers more than they bring, and those beside them."""
    count = bench.sizes.journal_records
    source = bench.inputs.path("customers", count, bookmark="ascending", first=_new(bench))
    known = _known(bench)
    cases = []
    for kind, path, arrive, start in (
        ("new records", source, count, None),
        ("records delivered before", known, 0, small),
    ):
        alone = f"{count:,} {kind}, journal of no others"
        says = "the time with a journal of no others"
        cases += [
            Case(alone, path, count, arrive, start=start),
            Case(
                f"{count:,} {kind}, {_grown(bench)}",
                path,
                count,
                arrive,
                start=grown,
                against=alone,
                says=says,
            ),
        ]
    return cases


def _grown(bench: Bench) -> str:
    return f"journal of {bench.sizes.remembered:,}"


def _new(bench: Bench) -> int:
    """Return the number of the first customer that no journal remembers."""
    return bench.sizes.remembered + 1


def _first_known(bench: Bench) -> int:
    return bench.sizes.remembered // 2 + 1


def _known(bench: Bench) -> Path:
    """Return the input that a journal remembers: from the middle of what the grown one does."""
    return bench.inputs.path(
        "customers",
        bench.sizes.journal_records,
        bookmark="ascending",
        first=_first_known(bench),
    )


# Runs


def _measure(
    bench: Bench, cases: Sequence[Case], compare: Callable[[list[Run], list[Run], str], str]
) -> None:
    """Run the cases in turn, and add their rows."""
    path = bench.inputs.folder / "journal.sqlite"
    runs: dict[str, list[Run]] = {case.what: [] for case in cases}
    bytes_each: dict[str, float] = {}
    for _ in range(bench.sizes.repeats):
        for case in cases:
            path.unlink(missing_ok=True)
            if case.start is not None:
                _copy(case.start, path)
            settings = {"journal_path": str(path)} if case.has_journal else None
            runs[case.what].append(run(TARGET, case.source, case.arrive, settings=settings))
            if case.sizes_versions:
                bytes_each[case.what] = path.stat().st_size / case.arrive
            say(".")
    for case in cases:
        its = runs[case.what]
        notes = [compare(its, runs[case.against], case.says)] if case.against else []
        if case.sizes_versions:
            notes.append(f"{bytes_each[case.what]:.1f} bytes on disk for each version")
        wall = median(run.wall for run in its)
        bench.results.rows.append(
            Row(
                what=case.what,
                program=TARGET,
                arrived=case.arrive,
                wall=wall,
                cpu=median(run.cpu for run in its),
                peak=round(median(run.peak for run in its)),
                rate=case.records / wall if case.records > 1 else None,
                compared="; ".join(notes),
            )
        )


def _ratio(its: list[Run], others: list[Run], says: str) -> str:
    ratios = [own.wall / other.wall for own, other in zip(its, others, strict=True)]
    return f"{spread(ratios)} {says}"


def _difference(its: list[Run], others: list[Run], says: str) -> str:
    more = [own.wall - other.wall for own, other in zip(its, others, strict=True)]
    return f"{median(more):.2f} s more ({min(more):.2f} to {max(more):.2f}) {says}"


def _copy(start: Path, path: Path) -> None:
    """Copy a journal, and have it on disk before the clock runs."""
    shutil.copyfile(start, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


# Journals


def _remember_by_a_run(bench: Bench) -> Path:
    """Return a journal that remembers the known input, as a run leaves it."""
    path = bench.inputs.folder / "small.sqlite"
    run(TARGET, _known(bench), bench.sizes.journal_records, settings={"journal_path": str(path)})
    return path


def _write_grown(bench: Bench, small: Path) -> Path:
    """Return a journal that remembers many versions, written by a process of its own.

    This one has to stay smaller than what it measures.
    """
    path = bench.inputs.folder / "grown.sqlite"
    numbers = [str(_first_known(bench)), str(bench.sizes.remembered)]
    command = [sys.executable, "-m", "benchmarks.grown", str(path), str(small), *numbers]
    subprocess.run(command, cwd=HERE.parent, check=True)
    say("+")
    return path
