"""The run report as a page for people: one file that needs nothing else."""

from __future__ import annotations

import html
import json
import re
import typing as t
from importlib import resources
from string import Template

from target_altcraft.report_timeline import axis, span, timeline

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Row = Mapping[str, t.Any]

TONES = {
    "failed": "bad",
    "unknown": "doubt",
    "in flight": "busy",
    "partly rejected": "warn",
    "not accepted": "idle",
    "delivered": "ok",
}
"""What may have become of a request, and the class of its colour; what needs a look comes first."""

_LEGEND = {
    "bad": "failed",
    "doubt": "in doubt",
    "busy": "in flight",
    "warn": "partly rejected",
    "idle": "not accepted",
    "ok": "delivered",
}
_ORDER = tuple(_LEGEND)

_WHY = {
    "on the wire": "the run ended before an answer came",
    "in doubt": "no answer came",
    "sent again": "the run ended before a second answer came",
    "accepted": "its task had not ended when the run did",
    "unfinished": "its task did not end in time",
    "vanished": "Altcraft no longer knows its task",
    "untraceable": "accepted without a task id",
    "failed": "its profiles may have been imported or not",
    "refused": "refused by Altcraft",
    "refused in doubt": "refused, but an earlier attempt was not answered",
    "too large": "too large for the host",
    "too large in doubt": "too large, but an earlier attempt was not answered",
}
"""What is to be said of a request that is not in order, by its state."""
_TWICE = "a first attempt was not answered: it may have entered the scenario twice"
_PARTS = "it went out again in parts"

_ALWAYS = ("read", "delivered", "rejected", "skipped", "in_doubt")
"""Counts that are shown even if they are nought in every stream."""
_HEADINGS = {
    "resent": "Sent again",
    "with_subscription": "Subscribed",
    "without_subscription": "Not subscribed",
}
_COUNT_TONES = {"rejected": "warn", "in_doubt": "doubt", "resent": "doubt", "not_sent": "bad"}
_TAKEN = "in doubt, taken as delivered"

_ENDS = 8
"""Characters that are left of each end of a name that is cut."""
_LONG = 20
"""Characters of an id that need not be cut."""
_LONG_STREAM = 32
_LONG_TEXT = 60
_ON_ONE_LINE = 40
"""Characters of a name that fits on a line of a phone; an id of Altcraft's has 36."""
_LONGEST = 200
"""Characters that are shown when the whole is asked for."""
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def as_html(content: Mapping[str, t.Any]) -> str:
    """Return the report as one self-contained page.

    Args:
        content: What the JSON of a report holds.
    """
    page = (resources.files(__package__) / "report_page.html").read_text(encoding="utf-8")
    tone, ended = headline(content)
    tasks = sorted(content["tasks"], key=lambda task: _ORDER.index(_tone(task)))
    return Template(page).substitute(
        tone=tone,
        ended=html.escape(ended),
        message=_UUID.sub(r"<b>\g<0></b>", html.escape(content["message"] or "")),
        host=_name(content["host"], _LONG_TEXT),
        scenarios=_scenarios(content["scenarios"]),
        when=_when(content),
        state=_state(content["state"]),
        streams=_streams(content["streams"]),
        timeline=timeline(tasks, content["seconds"], _tone),
        axis=axis(content["seconds"]),
        legend=_legend(tasks),
        number=f"{len(tasks):,}",
        tasks=_tasks(tasks),
        settings=_settings(content["settings"]),
        versions=html.escape(", ".join(f"{k} {v}" for k, v in content["versions"].items())),
    )


def headline(content: Mapping[str, t.Any]) -> tuple[str, str]:
    """Return how a run ended: the class of its colour, and the words.

    Args:
        content: What the JSON of a report holds.
    """
    status, streams = content["exit_status"], content["streams"].values()
    twice = [task for task in content["tasks"] if _may_be_twice(task)]
    counts = {
        "{} reject{s}": sum(_total(counts.get("rejected", 0)) for counts in streams),
        "{} in doubt": sum(
            _total(counts.get("in_doubt", 0)) + counts.get("skipped", {}).get(_TAKEN, 0)
            for counts in streams
        )
        + sum(task["profiles"] for task in twice),
        "{} not sent": sum(counts.get("not_sent", 0) for counts in streams),
    }
    parts = [
        words.format(f"{number:,}", s="" if number == 1 else "s")
        for words, number in counts.items()
        if number
    ]
    *first, last = parts or [""]
    listed = f", with {', '.join(first)} and {last}" if first else f", with {last}" if last else ""
    if status == 0:
        return ("warn", f"ended{listed}") if parts else ("ok", "ended well")
    how = f"stopped by signal {status - 128}" if status > 128 else "failed"  # noqa: PLR2004
    return "bad", how + listed


def _when(content: Mapping[str, t.Any]) -> str:
    start, end = (_moment(content[name]) for name in ("started_at", "ended_at"))
    if start[:10] == end[:10]:
        end = end[11:]
    return f"{html.escape(start)} to {html.escape(end)} UTC, {span(content['seconds'])}"


def _moment(text: str) -> str:
    return text[:19].replace("T", " ")


def _scenarios(scenarios: Mapping[str, Row]) -> str:
    """Return which stream went to which scenario."""
    items = []
    for stream, scenario in scenarios.items():
        number = f"{scenario['workflow_id']}"
        named = f"{_name(scenario['name'], _LONG_TEXT)} ({number})" if scenario["name"] else number
        items.append(f"<div>{named} <small>for {_name(stream, _LONG_STREAM)}</small></div>")
    return "".join(items) or "none: no profile came to be sent"


def _state(state: Row) -> str:
    """Return what a rerun starts from."""
    records = f"{state['records']:,}"
    if state["printed_at"] is None:
        return f"none printed <small>{records} records read</small>"
    covered = f"{state['covers']:,}"
    covers = f"the first {covered} of {records} records"
    if state["covers"] == state["records"]:
        covers = f"all records ({records})"
    return (
        f"last printed {html.escape(_moment(state['printed_at'])[11:])} UTC "
        f"<small>covers {covers}</small>"
    )


# The tables


def _streams(streams: Mapping[str, Row]) -> str:
    """Return the counts by stream; those with rejects or doubts first, the total last."""
    names = dict.fromkeys([*_ALWAYS, *(name for counts in streams.values() for name in counts)])
    totals = {n: sum(_total(c.get(n, 0)) for c in streams.values()) for n in names}
    shown = [name for name in names if name in _ALWAYS or totals[name]]
    head = "".join(f'<th class="n" scope="col">{_heading(name)}</th>' for name in shown)
    rows = sorted(streams.items(), key=lambda item: not _needs_a_look(item[1]))
    body = "".join(
        f'<tr><th scope="row">{_name(stream, _LONG_STREAM)}</th>'
        + "".join(_count(name, counts.get(name, 0)) for name in shown)
        + "</tr>"
        for stream, counts in rows
    )
    foot = "".join(_count(name, totals[name]) for name in shown)
    return (
        f'<table class="streams"><thead><tr><th scope="col">Stream</th>{head}</tr></thead>'
        f'<tbody>{body}</tbody><tfoot><tr><th scope="row">Total</th>{foot}</tr></tfoot></table>'
    )


def _needs_a_look(counts: Row) -> bool:
    return any(_total(counts.get(name, 0)) for name in _COUNT_TONES)


def _count(name: str, value: int | Mapping[str, int]) -> str:
    """Return a count's cell, with its reasons."""
    number = _total(value)
    tone = f" {_COUNT_TONES[name]}" if number and name in _COUNT_TONES else ""
    reasons = ""
    if isinstance(value, dict):
        reasons = "".join(
            f"<small>{_name(reason, _LONG_TEXT)}: {amount:,}</small>"
            for reason, amount in value.items()
        )
    label = _heading(name)
    return f'<td class="n{tone}" data-label="{label}"><b>{number:,}</b>{reasons}</td>'


def _total(value: int | Mapping[str, int]) -> int:
    return sum(value.values()) if isinstance(value, dict) else t.cast("int", value)


def _tasks(tasks: Sequence[Row]) -> str:
    """Return the table of tasks, in the order given, with totals."""
    columns = {
        "profiles": "Profiles",
        "rejected": "Rejected",
        "bytes": "Size",
        "submitted": "Began",
        "seconds": "Took",
        "polls": "Polls",
        "retries": "Retries",
    }
    head = "".join(f'<th class="n" scope="col">{label}</th>' for label in columns.values())
    totals: dict[str, t.Any] = {
        name: sum(task[name] for task in tasks)
        for name in ("rejected", "bytes", "polls", "retries")
    }
    totals["profiles"] = sum(task["profiles"] for task in tasks if task["state"] != "split")
    foot = _numbers(columns, totals)
    return (
        '<table class="tasks"><thead><tr><th scope="col">Outcome</th><th scope="col">Stream</th>'
        f'<th class="n" scope="col">Batch</th><th scope="col">Task</th>{head}</tr></thead>'
        f"<tbody>{''.join(_task(task, columns) for task in tasks)}</tbody>"
        f'<tfoot><tr><th colspan="4" scope="row">Total</th>{foot}</tr></tfoot></table>'
    )


def _task(task: Row, columns: Mapping[str, str]) -> str:
    tone, outcome = _tone(task), task["outcome"]
    if tone == "doubt" and outcome != "unknown":
        outcome += ", in doubt"
    why = f"<small>{_why(task)}</small>" if tone != "ok" and _why(task) else ""
    finished = task["finished"]
    took = None if finished is None else finished - task["submitted"]
    id_ = "" if task["task_id"] is None else _name(task["task_id"])
    return (
        f'<tr class="task {tone}"><td class="outcome"><span class="chip {tone}">{outcome}</span>'
        f'{why}</td><td class="stream">{_name(task["stream"], _LONG_STREAM)}</td>'
        f'<td class="n batch" data-label="Batch">{task["batch"]:,}</td>'
        f'<td class="id">{id_}</td>{_numbers(columns, {**task, "seconds": took})}</tr>'
    )


def _tone(task: Row) -> str:
    """Return the class of a task's colour; what may have arrived twice is in doubt."""
    return "doubt" if _may_be_twice(task) else TONES[task["outcome"]]


def _may_be_twice(task: Row) -> bool:
    """Tell whether a task was completed, and an attempt before it was not answered."""
    return task["state"] == "completed" and bool(task["was_in_doubt"])


def _why(task: Row) -> str:
    if task["state"] == "split":
        return f"no answer came; {_PARTS}" if task["was_in_doubt"] else _PARTS
    if _may_be_twice(task):
        return _TWICE
    return _WHY.get(task["state"], "")


def _numbers(columns: Mapping[str, str], row: Row) -> str:
    return "".join(
        f'<td class="n" data-label="{label}">{_number(name, row.get(name))}</td>'
        for name, label in columns.items()
    )


def _number(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name in {"submitted", "seconds"}:
        return f"{value:.1f} s" if value < 60 else span(value)  # noqa: PLR2004
    return _size(value) if name == "bytes" else f"{value:,}"


def _size(number: float) -> str:
    units = ((1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB"))
    return next(
        (f"{number / size:.1f} {unit}" for size, unit in units if number >= size), f"{number} B"
    )


def _legend(tasks: Sequence[Row]) -> str:
    tones = [_tone(task) for task in tasks]
    return "".join(
        f'<span><i class="{tone}"></i>{words} {tones.count(tone):,}</span>'
        for tone, words in _LEGEND.items()
        if tone in tones
    )


def _settings(settings: Row) -> str:
    rows = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{_setting(value)}</dd></div>"
        for name, value in settings.items()
    )
    return f"<dl>{rows}</dl>"


def _setting(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return html.escape(text).replace("/", "/<wbr>")


def _heading(name: str) -> str:
    return html.escape(_HEADINGS.get(name, name.replace("_", " ").capitalize()))


def _name(text: str, longest: int = _LONG) -> str:
    """Return a name or an id, cut in the middle if it is long; it opens to be the whole.

    The whole shows under a pointer, at a tap and at a key, and on paper.
    """
    if len(text) <= longest:
        return f'<bdi class="name">{html.escape(text)}</bdi>'
    whole = html.escape(text if len(text) <= _LONGEST else _cut(text, _LONGEST // 2 - 1))
    kind = "name" if len(text) <= _ON_ONE_LINE else "name long"
    return (
        f'<details class="{kind}"><summary title="{whole}">'
        f'<bdi class="cut">{html.escape(_cut(text, _ENDS))}</bdi>'
        f'<bdi class="whole">{whole}</bdi></summary></details>'
    )


def _cut(text: str, ends: int) -> str:
    return f"{text[:ends]}…{text[-ends:]}"
