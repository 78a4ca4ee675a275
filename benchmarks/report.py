"""The table, the machine it was measured on, and the chart."""

from __future__ import annotations

import datetime as dt
import os
import platform
import typing as t
from html import escape
from pathlib import Path

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.bench import Bar, Results, Row, Sizes

_HEADERS = (
    "Measurement",
    "Program",
    "Records arrived",
    "Records/s",
    "Wall, s",
    "CPU, s",
    "Peak memory, MB",
    "Compared",
)
_TEXT_COLUMNS = ("Measurement", "Program", "Compared")
_MEGABYTE = 1_000_000

VARY = (
    "Absolute times vary from machine to machine and from day to day; the ratios, taken between "
    "runs that followed each other, are what counts."
)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.what,
        row.program,
        f"{row.arrived:,}",
        f"{row.rate:,.0f}" if row.rate else "",
        f"{row.wall:.2f}",
        f"{row.cpu:.2f}",
        f"{row.peak / _MEGABYTE:.0f}",
        row.compared,
    )


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, padded to be read as it stands."""
    cells = [_HEADERS, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    aligns = ["<" if header in _TEXT_COLUMNS else ">" for header in _HEADERS]
    ends = ["-" if align == "<" else ":" for align in aligns]
    rule = tuple("-" * (width - 1) + end for width, end in zip(widths, ends, strict=True))
    cells.insert(1, rule)
    return "\n".join(
        f"| {' | '.join(f'{c:{a}{w}}' for c, a, w in zip(line, aligns, widths, strict=True))} |"
        for line in cells
    )


def machine() -> str:
    """Describe this machine, and say when."""
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        system = f"{platform.system()} {platform.release()}"
    today = dt.datetime.now(tz=dt.timezone.utc).date().isoformat()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{_cpu_model()}, {os.cpu_count()} cores, {system}, {python}, {today}"


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def page(results: Results, sizes: Sizes) -> str:
    """Return `results.md`."""
    return f"""\
# Benchmark results

Written by `make bench`; do not edit. Measured on: {machine()}.
{VARY}

{table(results.rows)}

Every figure is of a whole process, start-up included, over the same input and against the same
stand-in for Altcraft, whose own count is "Records arrived". Medians of {sizes.repeats} runs
(of three times as many without the four files, of three at most where memory is compared), the
programs taking turns; in brackets the least and the greatest ratio. Of tasks that take their time,
the best of three runs, or the only one with one in flight. MB is 10^6 bytes; CPU is the process's
user and system time.

- **target-altcraft**: the installed command, default settings.
- **template**: [`template_target.py`](template_target.py), what someone gets who fills the API's
  calls into the SDK's template: stock reader, stock validator, one batch after the other.
- **bare loop**: [`bare_loop.py`](bare_loop.py), what reading, decoding, encoding and posting cost
  alone: no SDK, no schema, no STATE, no retry.

With `journal_path`, records have ten columns and the bookmark `updated_at`, which grows unless
a row says otherwise. A new journal is no file at all before the run. Of records that were delivered
before, an earlier run left the journal, and nothing arrives. The journal of {sizes.remembered:,}
versions has in their midst those of the records delivered before; the new ones come after all of
them. Each run gets a copy of it. Bytes on disk are the file's after the run.

Production settings are the stream map that renames five columns, and the four files of README's
production file, each of them new: `journal_path`, `rejects_path`, `receipts_path`, `report_path`.
Records have ten columns and a bookmark. The template has the same stream map. The rows of
PostgreSQL are such records too, in these settings; the CPU time is that of the processes of tap and
target, without the database's.

Records of 60 columns go in batches of 5,000, for the template too: 10,000 would be more bytes than
Altcraft takes.

![Records per second, and wall time by window](results.svg)
"""


# The chart: horizontal bars in two panels, by hand.

_WIDTH = 760
_LEFT = 110
_LONGEST = 430
_BAR = 18
_GAP = 4
_GROUP_GAP = 14
_COLOURS = {"target-altcraft": "#2563eb", "template": "#9ca3af", "bare loop": "#d97706"}


def chart(results: Results) -> str:
    """Return the chart as SVG; panels without bars are left out."""
    parts: list[str] = []
    y = 20
    for title, bars in (
        ("Records per second (more is better)", results.rates),
        ("Seconds for ten slow tasks, by max_in_flight (less is better)", results.windows),
    ):
        if bars:
            y = _panel(parts, y, title, bars)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" '
        f'viewBox="0 0 {_WIDTH} {y}" font-family="sans-serif" font-size="13" fill="#111827">\n'
        f'<rect width="{_WIDTH}" height="{y}" rx="8" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _panel(parts: list[str], y: int, title: str, bars: Sequence[Bar]) -> int:
    """Add a panel below `y`; return where it ends."""
    y += 8
    parts.append(f'<text x="16" y="{y}" font-size="15" font-weight="bold">{escape(title)}</text>')
    y += 14
    scale = _LONGEST / max(bar.value for bar in bars)
    group = ""
    for bar in bars:
        if bar.group != group:
            y += _GROUP_GAP if group else 0
            group = bar.group
            parts.append(_text(_LEFT - 8, y, group, anchor="end"))
        length = max(1, round(bar.value * scale))
        colour = _COLOURS[bar.program]
        parts.append(
            f'<rect x="{_LEFT}" y="{y}" width="{length}" height="{_BAR}" fill="{colour}"/>'
        )
        parts.append(_text(_LEFT + length + 6, y, bar.label))
        y += _BAR + _GAP
    return y + 20


def _text(x: int, y: int, text: str, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y + _BAR - 5}" text-anchor="{anchor}">{escape(text)}</text>'
