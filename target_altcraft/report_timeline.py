"""The picture of a run's tasks over time: bars, and an axis below them."""

from __future__ import annotations

import html
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_WIDTH = 1000
_LANE_HEIGHT = 18
_LEAST_WIDTH = 3
"""Of a bar that is to be seen however long the run was."""
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
_MOST_STEPS = 6


def timeline(
    tasks: Sequence[Mapping[str, t.Any]],
    seconds: float,
    tone: Callable[[Mapping[str, t.Any]], str],
) -> str:
    """Return an SVG with a bar per task, in as many lanes as tasks were in flight at once.

    Args:
        tasks: Tasks of the report.
        seconds: Length of the run.
        tone: The class of a task's bar; those that are not "ok" are drawn last, so that they are
            seen among thousands.
    """
    scale = _WIDTH / max(seconds, 0.001)
    lanes: list[float] = []
    bars: dict[bool, list[str]] = {False: [], True: []}
    for task in sorted(tasks, key=lambda task: t.cast("float", task["submitted"])):
        end = task["finished"] if task["finished"] is not None else seconds
        lane = next((n for n, free in enumerate(lanes) if free <= task["submitted"]), len(lanes))
        lanes[lane:] = [end, *lanes[lane + 1 :]]
        kind = tone(task)
        bars[kind != "ok"].append(_bar(task, end, lane, scale, kind))
    height = max(len(lanes), 1) * _LANE_HEIGHT
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" preserveAspectRatio="none" '
        f'style="height:{height}px" aria-label="Tasks over time">'
        f"{_grid(seconds, scale, height)}{''.join(bars[False] + bars[True])}</svg>"
    )


def axis(seconds: float) -> str:
    """Return the labels below the timeline: time since the run began."""
    marks = []
    for mark in _marks(seconds):
        share = mark / max(seconds, 0.001)
        side = ' class="last"' if share > 0.93 else ""  # noqa: PLR2004 - it would stand out
        marks.append(f'<span{side} style="left:{100 * share:.2f}%">{span(mark)}</span>')
    return f'<div class="axis">{"".join(marks)}</div>'


def span(seconds: float) -> str:
    """Return a length of time in two units at most, such as "1 min 5 s"."""
    if seconds < 60:  # noqa: PLR2004
        return f"{round(seconds, 1):g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (0 if hours else rest, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def _marks(seconds: float) -> list[float]:
    """Return the moments that the axis names, in seconds."""
    step = next((step for step in _STEPS if seconds <= step * _MOST_STEPS), None)
    if step is None:
        step = _STEPS[-1] * -(-seconds // (_STEPS[-1] * _MOST_STEPS))
    return [number * step for number in range(int(seconds / step) + 1)]


def _grid(seconds: float, scale: float, height: int) -> str:
    return "".join(
        f'<path class="grid" d="M{mark * scale:.2f} 0V{height}"/>' for mark in _marks(seconds)
    )


def _bar(task: Mapping[str, t.Any], end: float, lane: int, scale: float, kind: str) -> str:
    """Return a task's bar; `scale` is the width of a second."""
    start = task["submitted"]
    accepted = task["accepted"] if task["accepted"] is not None else end
    title = html.escape(
        f"{task['stream']}, batch {task['batch']}: {task['profiles']} profiles, "
        f"{task['outcome']}, {span(end - start)}"
    )
    place = f'x="{start * scale:.2f}" y="{lane * _LANE_HEIGHT + 1}" height="{_LANE_HEIGHT - 2}"'
    least = 0.5 if kind == "ok" else _LEAST_WIDTH
    return (
        f"<g><title>{title}</title>"
        f'<rect {place} width="{max((end - start) * scale, least):.2f}" class="{kind}"/>'
        f'<rect {place} width="{max((accepted - start) * scale, 0):.2f}" class="before"/></g>'
    )
