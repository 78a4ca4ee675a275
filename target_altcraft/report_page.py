"""The run report as a page for people: one file that needs nothing else."""

from __future__ import annotations

import html
import json
import typing as t
from string import Template

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_WIDTH = 1000
_LANE_HEIGHT = 16
COLOURS = {
    "delivered": "#2e7d32",
    "partly rejected": "#b26a00",
    "in flight": "#5c6bc0",
    "not accepted": "#78909c",
    "unknown": "#8e24aa",
    "failed": "#c62828",
}
"""The legend: what may have become of a request."""

_HEADINGS = {
    "resent": "Sent again",
    "task_id": "Task",
    "submitted": "At, s",
    "seconds": "Took, s",
}
_TASK_COLUMNS = (
    "batch",
    "stream",
    "task_id",
    "outcome",
    "profiles",
    "rejected",
    "bytes",
    "polls",
    "retries",
    "submitted",
    "seconds",
)


def as_html(content: Mapping[str, t.Any]) -> str:
    """Return the report as one self-contained page.

    Args:
        content: What the JSON of a report holds.
    """
    ended = "ended well" if content["exit_status"] == 0 else f"exit {content['exit_status']}"
    tasks = [
        {**task, "submitted": f"{task['submitted']:.1f}", "seconds": _seconds(task)}
        for task in content["tasks"]
    ]
    streams = [{"stream": name, **counts} for name, counts in content["streams"].items()]
    columns = dict.fromkeys(["stream", "read", "delivered", *(name for s in streams for name in s)])
    return _PAGE.substitute(
        state="good" if content["exit_status"] == 0 else "bad",
        ended=ended,
        message=html.escape(content["message"] or ""),
        when=f"{content['started_at']} to {content['ended_at']}, {content['seconds']:.1f} s",
        streams=_table(columns, streams),
        timeline=timeline(content["tasks"], content["seconds"]),
        legend=_legend(),
        number=len(tasks),
        tasks=_table(_TASK_COLUMNS, tasks),
        settings=html.escape(
            json.dumps(content["settings"], ensure_ascii=False, indent=1, default=str)
        ),
        versions=html.escape(", ".join(f"{k} {v}" for k, v in content["versions"].items())),
    )


def timeline(tasks: Sequence[Mapping[str, t.Any]], seconds: float) -> str:
    """Return an SVG with a bar per task, in as many lanes as tasks were in flight at once.

    Args:
        tasks: Tasks of the report.
        seconds: Length of the run.
    """
    scale = _WIDTH / max(seconds, 0.001)
    lanes: list[float] = []
    bars = []
    for task in sorted(tasks, key=lambda task: t.cast("float", task["submitted"])):
        end = task["finished"] if task["finished"] is not None else seconds
        lane = next((n for n, free in enumerate(lanes) if free <= task["submitted"]), len(lanes))
        lanes[lane:] = [end, *lanes[lane + 1 :]]
        bars.append(_bar(task, end, lane, scale))
    height = max(len(lanes), 1) * _LANE_HEIGHT
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" preserveAspectRatio="none" '
        f'style="height:{height}px" aria-label="Timeline of tasks">{"".join(bars)}</svg>'
    )


def _bar(task: Mapping[str, t.Any], end: float, lane: int, scale: float) -> str:
    """Return a task's bar; `scale` is the width of a second."""
    start = task["submitted"]
    accepted = task["accepted"] if task["accepted"] is not None else end
    title = html.escape(
        f"{task['stream']}, batch {task['batch']}: {task['profiles']} profiles, "
        f"{task['outcome']}, {end - start:.1f} s"
    )
    place = f'x="{start * scale:.2f}" y="{lane * _LANE_HEIGHT + 1}" height="{_LANE_HEIGHT - 2}"'
    return (
        f"<g><title>{title}</title>"
        f'<rect {place} width="{max((end - start) * scale, 0.5):.2f}" '
        f'fill="{COLOURS[task["outcome"]]}"/>'
        f'<rect {place} width="{max((accepted - start) * scale, 0):.2f}" fill="#0005"/></g>'
    )


def _seconds(task: Mapping[str, t.Any]) -> str:
    finished = task["finished"]
    return "" if finished is None else f"{finished - task['submitted']:.1f}"


def _legend() -> str:
    return "".join(
        f'<span><i style="background:{colour}"></i>{name}</span>'
        for name, colour in COLOURS.items()
    )


def _table(columns: Iterable[str], rows: Sequence[Mapping[str, object]]) -> str:
    columns = list(columns)
    head = "".join(f"<th>{html.escape(_heading(column))}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(row.get(column))}</td>" for column in columns) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _heading(column: str) -> str:
    return _HEADINGS.get(column, column.replace("_", " ").capitalize())


def _cell(value: object) -> str:
    """Return a value for a cell; counts by reason become one line."""
    if isinstance(value, dict):
        value = "; ".join(f"{reason}: {number}" for reason, number in value.items()) or "0"
    return html.escape("" if value is None else str(value))


_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'">
<title>target-altcraft: $ended</title>
<style>
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .2rem }
h2 { font-size: 1.1rem; margin-top: 2rem }
.badge { border-radius: .4rem; color: #fff; font-size: 1rem; padding: .15rem .6rem }
.good { background: #2e7d32 } .bad { background: #c62828 }
.message { border-left: .3rem solid #c62828; padding-left: .8rem; overflow-wrap: anywhere }
.message:empty { display: none }
.scroll { max-height: 34rem; overflow: auto; border: 1px solid #8884 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { border-bottom: 1px solid #8883; padding: .25rem .6rem; text-align: left }
td { overflow-wrap: anywhere }
th { position: sticky; top: 0; background: Canvas }
svg { width: 100%; background: #8881; display: block }
.legend span { margin-right: 1.2rem } .legend i { display: inline-block; width: .8rem;
 height: .8rem; margin-right: .35rem; border-radius: .15rem }
.faint { opacity: .7 } pre { overflow: auto }
</style>
<h1>target-altcraft <span class="badge $state">$ended</span></h1>
<p class="faint">$when</p>
<p class="message">$message</p>
<h2>Streams</h2>
$streams
<h2>Tasks over time</h2>
$timeline
<p class="legend">$legend</p>
<p class="faint">The darker beginning of a bar is the time until Altcraft accepted the request.</p>
<h2>Tasks: $number</h2>
<div class="scroll">$tasks</div>
<details><summary>Settings</summary><pre>$settings</pre></details>
<p class="faint">$versions</p>
</html>
""")
