"""The run report: what went out, what did not, and where the time went.

A report holds counts, task ids and settings, and no profile's values.
"""

from __future__ import annotations

import datetime as dt
import html
import json
import os
import platform
import tempfile
import threading
import time
import typing as t
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from string import Template

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from target_altcraft.summary import Summary

_PACKAGES = ("target-altcraft", "singer-sdk", "requests", "msgspec", "jsonschema-rs")
_SECRET = {"token", "stream_map_config"}  # the second may hold the salt of a hash
_WIDTH = 1000
_LANE_HEIGHT = 16
_COLOURS = {
    "delivered": "#2e7d32",
    "partly rejected": "#b26a00",
    "in flight": "#5c6bc0",
    "not accepted": "#78909c",
    "unknown": "#8e24aa",
    "failed": "#c62828",
}


@dataclass(slots=True)
class TaskReport:
    """One request and the task it became; times are seconds since the run began.

    `outcome` is one of the names in the report's legend. `retries` counts the requests beyond the
    first.
    """

    batch: int
    stream: str
    profiles: int
    bytes: int
    submitted: float
    accepted: float | None = None
    finished: float | None = None
    task_id: str | None = None
    polls: int = 0
    retries: int = 0
    outcome: str = "in flight"


class Report:
    """Collects what a report says; tasks only if there will be one.

    The lock guards the list of tasks.

    Args:
        path: Setting `report_path`; None if no report is wanted.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.tasks: list[TaskReport] = []
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._started_at = dt.datetime.now(dt.timezone.utc)

    def now(self) -> float:
        """Return the seconds since the run began."""
        return round(time.monotonic() - self._began, 3)

    def task(self, batch: int, stream: str, profiles: int, size: int) -> TaskReport:
        """Return the report of a request that is about to be sent."""
        task = TaskReport(batch, stream, profiles, size, self.now())
        if self.path is not None:
            with self._lock:
                self.tasks.append(task)
        return task

    def write(
        self, summary: Summary, settings: Mapping[str, t.Any], status: int, message: str | None
    ) -> None:
        """Write the report, whole or not at all, readable by its owner alone.

        Args:
            summary: The counts.
            settings: The settings as they were given; the token is left out.
            status: The run's exit status.
            message: What ended the run, None if nothing did.

        Raises:
            OSError: If it cannot be written.
        """
        if self.path is None:
            return
        with self._lock:
            tasks = [asdict(task) for task in self.tasks]
        ended = dt.datetime.now(dt.timezone.utc)
        content = {
            "exit_status": status,
            "message": message,
            "started_at": _rfc3339(self._started_at),
            "ended_at": _rfc3339(ended),
            "seconds": self.now(),
            "streams": {name: c.as_dict() for name, c in summary.streams().items()},
            "tasks": tasks,
            "settings": {k: "***" if k in _SECRET else v for k, v in settings.items()},
            "versions": {
                "python": platform.python_version(),
                **{package: version(package) for package in _PACKAGES},
            },
        }
        path = Path(self.path)
        text = (
            as_html(content)
            if path.suffix == ".html"
            else json.dumps(content, ensure_ascii=False, indent=1, default=str)
        )
        _replace(path, text)


def _rfc3339(moment: dt.datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _replace(path: Path, text: str) -> None:
    """Put a file in its place in one step; `mkstemp` makes it with mode 0600."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def timeline(tasks: Sequence[Mapping[str, t.Any]], seconds: float) -> str:
    """Return an SVG with a bar per task, in as many lanes as tasks were in flight at once.

    Args:
        tasks: Tasks of the report, in the order of their submission.
        seconds: Length of the run.
    """
    scale = _WIDTH / max(seconds, 0.001)
    lanes: list[float] = []
    bars = []
    for task in sorted(tasks, key=lambda task: t.cast("float", task["submitted"])):
        start = task["submitted"]
        end = task["finished"] if task["finished"] is not None else seconds
        lane = next((n for n, free in enumerate(lanes) if free <= start), len(lanes))
        lanes[lane:] = [end, *lanes[lane + 1 :]]
        accepted = task["accepted"] if task["accepted"] is not None else end
        title = html.escape(
            f"{task['stream']}, batch {task['batch']}: {task['profiles']} profiles, "
            f"{task['outcome']}, {end - start:.1f} s"
        )
        top = lane * _LANE_HEIGHT + 1
        bars.append(
            f"<g><title>{title}</title>"
            f'<rect x="{start * scale:.2f}" y="{top}" height="{_LANE_HEIGHT - 2}" '
            f'width="{max((end - start) * scale, 0.5):.2f}" fill="{_COLOURS[task["outcome"]]}"/>'
            f'<rect x="{start * scale:.2f}" y="{top}" height="{_LANE_HEIGHT - 2}" '
            f'width="{max((accepted - start) * scale, 0):.2f}" fill="#0005"/></g>'
        )
    height = max(len(lanes), 1) * _LANE_HEIGHT
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" preserveAspectRatio="none" '
        f'style="height:{height}px" aria-label="Timeline of tasks">{"".join(bars)}</svg>'
    )


def as_html(content: Mapping[str, t.Any]) -> str:
    """Return the report as one self-contained page."""
    columns = ("batch", "stream", "task_id", "outcome", "profiles", "bytes", "polls", "retries")
    streams = [
        [
            name,
            counts["read"],
            counts["delivered"],
            _by_reason(counts["rejected"]),
            _by_reason(counts["skipped"]),
            counts["resent"],
        ]
        for name, counts in content["streams"].items()
    ]
    tasks = [
        [
            *(task[column] for column in columns),
            f"{task['submitted']:.1f}",
            "" if task["finished"] is None else f"{task['finished'] - task['submitted']:.1f}",
        ]
        for task in content["tasks"]
    ]
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{name}</span>'
        for name, colour in _COLOURS.items()
    )
    ended = "ended well" if content["exit_status"] == 0 else f"exit {content['exit_status']}"
    return _PAGE.substitute(
        state="good" if content["exit_status"] == 0 else "bad",
        ended=ended,
        message=html.escape(content["message"] or ""),
        when=f"{content['started_at']} to {content['ended_at']}, {content['seconds']:.1f} s",
        streams=_table(
            ["Stream", "Read", "Delivered", "Rejected", "Skipped", "Sent again"], streams
        ),
        timeline=timeline(content["tasks"], content["seconds"]),
        legend=legend,
        number=len(tasks),
        tasks=_table(
            [
                "Batch",
                "Stream",
                "Task",
                "Outcome",
                "Profiles",
                "Bytes",
                "Polls",
                "Retries",
                "At, s",
                "Took, s",
            ],
            tasks,
        ),
        settings=html.escape(
            json.dumps(content["settings"], ensure_ascii=False, indent=1, default=str)
        ),
        versions=html.escape(", ".join(f"{k} {v}" for k, v in content["versions"].items())),
    )


def _by_reason(counts: Mapping[str, int]) -> str:
    return "; ".join(f"{reason}: {number}" for reason, number in counts.items()) or "0"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


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
