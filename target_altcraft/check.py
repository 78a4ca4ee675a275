"""`--check`: what stands between these settings and a run that goes well, found without a run.

It reads no input, sends no profile, and writes and creates no file. Findings are gathered as data,
all of them and not the first fault only, and then shown to people or to machines.

::

    findings = look(settings)
    print(as_table(findings), end="")
    status = exit_status(findings)
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import stat
import typing as t
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from target_altcraft.answers import shown_name
from target_altcraft.check_api import ALL_SECONDS, ask
from target_altcraft.errors import ApiError, SettingsError, TargetError
from target_altcraft.memory.look import look as look_at_journal
from target_altcraft.messages import columns
from target_altcraft.settings_schema import FILES

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from target_altcraft.check_api import Answers, Workflow
    from target_altcraft.memory.look import JournalSeen
    from target_altcraft.settings import Settings, StreamSettings
    from target_altcraft.subscriptions import Subscription

_MODES_THAT_IGNORE = frozenset({"skip", "skip_in_any_case"})
_COUNT_SECONDS = 3.0
_LITTLE_BYTES = 100_000_000
"""Less free space than this is worth a warning."""
_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))

Verdict = t.Literal["ok", "warning", "fault", "not checked"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    about: str
    """Kind of thing, such as `scenario`."""
    subject: str
    """Which one."""
    verdict: Verdict
    """`fault`: a run fails or reaches nobody; `warning`: it may not do what is wanted."""
    found: str
    """What was found, in words."""
    facts: Mapping[str, t.Any] = field(default_factory=dict)
    """The same for machines."""


def look(settings: Settings) -> list[Finding]:
    """Look at all that a run with these settings needs; takes seconds, also with a dead host.

    Args:
        settings: The run's settings.
    """
    streams, findings = _streams(settings)
    used: dict[int, list[str]] = {}
    for name, stream in streams.items():
        used.setdefault(stream.workflow_id, []).append(name)
    answers = ask(settings, list(used))
    return [
        *findings,
        _api(settings, answers),
        *(_scenario(number, names, answers, settings) for number, names in used.items()),
        *(_subscriptions(name, stream.subscriptions) for name, stream in streams.items()),
        *_files(settings),
        *_journal(settings),
    ]


def settings_findings(lines: Iterable[str]) -> list[Finding]:
    """Return the findings of settings that are wrong in themselves; nothing else can be looked at.

    Args:
        lines: What is wrong, a line each.
    """
    return [Finding("settings", "", "fault", line) for line in lines]


def exit_status(findings: Iterable[Finding]) -> int:
    """Return 1 if there is a fault, else 0."""
    return int(any(finding.verdict == "fault" for finding in findings))


# What is looked at


def _streams(settings: Settings) -> tuple[dict[str, StreamSettings], list[Finding]]:
    """Return the streams that the settings name, and what is wrong with them.

    The top level stands for all streams that are not named.
    """
    names, faults = list(settings.streams), []
    if "workflow_id" in settings.top_level:
        names.append("every other stream" if settings.streams else "every stream")
    elif not names:
        faults.append("no stream has a workflow_id: set it under streams.<name>, or at the top")
    resolved = {name: _resolved(settings, name) for name in names}
    faults += [fault for fault in resolved.values() if isinstance(fault, str)]
    streams = {name: each for name, each in resolved.items() if not isinstance(each, str)}
    return streams, settings_findings(faults)


def _resolved(settings: Settings, name: str) -> StreamSettings | str:
    """Return a stream's settings, or what is wrong with them."""
    try:
        return settings.stream(name)
    except SettingsError as error:
        return str(error)


def _api(settings: Settings, answers: Answers) -> Finding:
    facts = {"token_accepted": answers.token, "may_list": answers.may_list}
    verdict: Verdict = "ok"
    found = "accepted"
    if answers.token is False:
        verdict, found = "fault", f"refused: {answers.first}"
    elif not answers.may_list:
        verdict = "warning"
        found = "accepted" if answers.token else "may be wrong"
        found += f"; scenarios cannot be looked at: {answers.first}"
    elif answers.first is not None:
        verdict, found = "fault", str(answers.first)
    elif answers.token is None:
        verdict, found = "fault", "it cannot be told whether it is accepted"
        if not answers.in_time:
            found = f"no answer within {ALL_SECONDS:g} seconds"
    return Finding("token", settings.api_url, verdict, found, facts)


def _scenario(number: int, streams: Sequence[str], answers: Answers, settings: Settings) -> Finding:
    answer = answers.workflows.get(number)
    facts: dict[str, t.Any] = {"workflow_id": number, "streams": list(streams)}
    used = f"for {', '.join(streams)}"
    if isinstance(answer, dict):
        return _known_scenario(number, answer, used, facts, settings)
    if answers.token is not True or not answers.may_list:
        return Finding("scenario", str(number), "not checked", used, facts)
    if number not in answers.workflows:
        found = f"no answer within {ALL_SECONDS:g} seconds; {used}"
        return Finding("scenario", str(number), "fault", found, facts)
    if isinstance(answer, ApiError):
        return Finding("scenario", str(number), "fault", f"{answer}; {used}", facts)
    return Finding("scenario", str(number), "fault", f"there is no such scenario; {used}", facts)


def _known_scenario(
    number: int, workflow: Workflow, used: str, facts: dict[str, t.Any], settings: Settings
) -> Finding:
    name, mode = (shown_name(workflow.get(key), settings.token) for key in ("name", "mode"))
    is_active = bool(workflow.get("is_active", True))
    ignores = mode in _MODES_THAT_IGNORE
    facts |= {"name": name, "is_active": is_active, "mode": mode, "ignores_those_in_it": ignores}
    words = ["active" if is_active else "not active"]
    if ignores:
        words.append(f"its mode '{mode}' ignores those who are in it already")
    verdict: Verdict = "ok" if is_active and not ignores else "warning"
    if not is_active and settings.check_workflow:  # without it, a run does not stop at that
        verdict = "fault"
    return Finding(
        "scenario",
        f"{number} '{name}'" if name else str(number),
        verdict,
        "; ".join([*words, used]),
        facts,
    )


def _subscriptions(stream: str, subscriptions: Sequence[Subscription]) -> Finding:
    facts = {
        "stream": stream,
        "subscriptions": [
            {"channel": each.channel, "resource_id": each.resource_id, "columns": each.columns}
            for each in subscriptions
        ],
    }
    if not subscriptions:
        found = "none set: only those are messaged who have one already, or bring their own"
        return Finding("subscriptions", stream, "warning", found, facts)
    words = [
        f"{each.channel} to resource {each.resource_id}, address in {' or '.join(each.columns)}"
        for each in subscriptions
    ]
    if any("status" in each.rest for each in subscriptions):
        words.append("status is sent, also for those who unsubscribed")
        return Finding("subscriptions", stream, "warning", "; ".join(words), facts)
    return Finding("subscriptions", stream, "ok", "; ".join(words), facts)


def _files(settings: Settings) -> Iterator[Finding]:
    for name in FILES:
        path = getattr(settings, name)
        if path is not None:
            yield _file(name, path)


def _file(name: str, path: str) -> Finding:
    """Look at a file that a run would write, and at its folder."""
    try:
        there = os.stat(path)  # noqa: PTH116 - a path as the user gave it
    except FileNotFoundError:
        there = None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds a null byte"
        return Finding("file", name, "fault", f"{path}: {why}", {"path": path})
    folder = Path(path).resolve().parent
    facts: dict[str, t.Any] = {"path": path}
    fault = ""
    if there is not None and not os.access(path, os.W_OK):
        fault = f"{path} cannot be written"
    elif there is not None and stat.S_ISDIR(there.st_mode):
        fault = f"{path} is a folder"
    elif there is not None and not stat.S_ISREG(there.st_mode):
        return Finding("file", name, "ok", f"{path} is no regular file, and can be written", facts)
    elif not folder.is_dir():
        fault = f"its folder {folder} does not exist"
    elif not os.access(folder, os.W_OK | os.X_OK):
        fault = f"its folder {folder} cannot be written"
    if fault:
        return Finding("file", name, "fault", fault, facts)
    free = facts["free_bytes"] = shutil.disk_usage(folder).free
    return Finding(
        "file",
        name,
        "ok" if free >= _LITTLE_BYTES else "warning",
        f"{folder} can be written; {_size(free)} free",
        facts,
    )


def _size(number: int) -> str:
    return next(
        (f"{number / unit:.1f} {name}" for unit, name in _UNITS if number >= unit),
        f"{number} bytes",
    )


def _journal(settings: Settings) -> Iterator[Finding]:
    path = settings.journal_path
    if path is None:
        return
    try:
        seen = look_at_journal(path, _COUNT_SECONDS)
    except TargetError as error:
        yield Finding("journal", path, "fault", str(error).removeprefix("journal_path: "))
        return
    if seen is None or seen.format == 0:
        yield Finding("journal", path, "ok", "new: it remembers nothing", {"versions": {}})
    elif seen.was_cut_short:
        yield Finding(
            "journal", path, "ok", "a run was killed while it wrote; the next run takes that back"
        )
    elif seen.versions is None and seen.last_run is None:
        yield Finding(
            "journal", path, "ok", f"of format {seen.format}; the next run carries it over"
        )
    else:
        yield _readable_journal(path, seen, settings)


def _readable_journal(path: str, seen: JournalSeen, settings: Settings) -> Finding:
    facts: dict[str, t.Any] = {"versions": seen.versions}
    if seen.versions is None:
        words = ["readable; too many versions to count quickly"]
    else:
        each = ", ".join(f"{name} {count}" for name, count in seen.versions.items())
        total = _count(sum(seen.versions.values()), "version")
        words = [f"readable; {total} ({each})" if each else f"readable; {total}"]
    if seen.last_run is not None:
        began = dt.datetime.fromtimestamp(seen.last_run, dt.timezone.utc)
        facts["last_run"] = f"{began:%Y-%m-%dT%H:%M:%SZ}"
        facts["last_run_ended_well"] = seen.ended_well
        how = "ended well" if seen.ended_well else "did not end well"
        words.append(f"the last run began {facts['last_run']} and {how}")
    doubtful = [left for left in seen.leftovers if left.is_doubtful]
    known = [left for left in seen.leftovers if not left.is_doubtful]
    facts["leftovers"] = len(known)
    facts["leftovers_in_doubt"] = len(doubtful)
    if known:
        words.append(f"{_requests(known)} left, to be settled by the next run")
    if doubtful:
        words.append(f"{_requests(doubtful)} in doubt: {_LATER[settings.on_ambiguous_submit]}")
    return Finding("journal", path, "warning" if doubtful else "ok", "; ".join(words), facts)


def _requests(leftovers: Sequence[t.Any]) -> str:
    profiles = sum(left.open() for left in leftovers)
    return f"{_count(len(leftovers), 'request')} ({_count(profiles, 'profile')})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_LATER = {
    "resend": "the next run sends them again (on_ambiguous_submit 'resend')",
    "fail": "the next run stops at them (on_ambiguous_submit 'fail')",
    "skip": "the next run takes them as delivered (on_ambiguous_submit 'skip')",
}


# How it is shown


def as_table(findings: Sequence[Finding]) -> str:
    """Return the findings as a table for people, and a last line that sums them up."""
    rows = [("", "about", "which", "found")]
    for finding in findings:
        verdict = finding.verdict.upper() if finding.verdict == "fault" else finding.verdict
        rows.append((verdict, finding.about, finding.subject, finding.found))
    return "\n".join([*columns(rows), "", _sum(findings), ""])


def _sum(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.verdict for finding in findings)
    words = [_count(counts[each], each) for each in ("fault", "warning") if counts[each]]
    return ", ".join(words) or "all right"


def as_json(findings: Sequence[Finding]) -> str:
    """Return the findings as one JSON object, indented."""
    content = {
        "exit_status": exit_status(findings),
        "findings": [
            {
                "about": finding.about,
                "subject": finding.subject,
                "verdict": finding.verdict,
                "found": finding.found,
                **finding.facts,
            }
            for finding in findings
        ],
    }
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"
