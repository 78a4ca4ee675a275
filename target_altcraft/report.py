"""The run report: what went out, what did not, and where the time went.

A report holds counts, task ids, names of scenarios and settings, and no profile's values.
"""

from __future__ import annotations

import datetime as dt
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
from urllib.parse import urlsplit

from target_altcraft.codec import rfc3339
from target_altcraft.report_page import as_html

if t.TYPE_CHECKING:
    from collections.abc import Mapping

    from target_altcraft.summary import Summary

_PACKAGES = ("target-altcraft", "singer-sdk", "requests", "msgspec", "jsonschema-rs")


class Meaning(t.NamedTuple):
    """What a request's state means to a reader of the report; `outcome` is the legend's word."""

    outcome: str
    is_working: bool = False
    """Whether a call or a task is under way; otherwise the state ends the bar of the timeline."""
    is_doubt: bool = False
    """Whether an attempt may have been accepted, unknown to this run."""


STATES = {
    "unsent": Meaning("not accepted"),
    "on the wire": Meaning("unknown", is_working=True),
    "in doubt": Meaning("unknown", is_doubt=True),
    "sent again": Meaning("unknown", is_working=True, is_doubt=True),
    "accepted": Meaning("in flight", is_working=True),
    "completed": Meaning("delivered"),
    "failed": Meaning("failed"),
    "vanished": Meaning("unknown"),
    "refused": Meaning("not accepted"),
    "refused in doubt": Meaning("unknown", is_doubt=True),
    "too large": Meaning("not accepted"),
    "too large in doubt": Meaning("unknown", is_doubt=True),
    "split": Meaning("not accepted"),
    "untraceable": Meaning("unknown"),
    "unfinished": Meaning("in flight", is_working=True),
}
"""The states of a request, by the names that its owner gives them."""

_ON_THE_WIRE = {"on the wire", "sent again"}
_ACCEPTED = {"accepted", "untraceable"}


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One request and the task it became; times are seconds since the run began.

    `state` is a key of `STATES`, `outcome` the legend's word for it. `accepted` is None if the
    request was not accepted, `finished` as long as a call or a task is under way. `retries` counts
    the attempts beyond the first. `was_in_doubt` says that an attempt was not answered and may have
    been accepted.
    """

    batch: int
    stream: str
    profiles: int
    bytes: int
    state: str
    outcome: str
    submitted: float | None
    accepted: float | None
    finished: float | None
    task_id: str | None
    polls: int
    retries: int
    rejected: int
    was_in_doubt: bool


class Report:
    """Observes requests, and writes a report when the run has ended.

    The lock guards what workers report: requests, scenarios and STATE.

    Args:
        path: Setting `report_path`; None if no report is wanted, and then nothing is kept.

    Example::

        report = Report("report.html")
        about = {"batch": 1, "stream": "customers", "profiles": 500, "size": 60_000}
        report.request(1, **about, state="on the wire", attempts=1)
        report.request(1, **about, state="accepted", task_id="7f3a", attempts=1)
        report.request(1, **about, state="completed", task_id="7f3a", attempts=1, polls=4)
        report.state_printed(500)
        report.write(summary, settings, status=0, message=None, records=500)
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._tasks: dict[int, TaskReport] = {}
        self._scenarios: dict[str, dict[str, t.Any]] = {}  # by stream
        self._state: dict[str, t.Any] = {"printed_at": None, "covers": 0}
        self._began = time.monotonic()
        self._started_at = _now()

    def request(  # noqa: PLR0913 - a snapshot, by name
        self,
        number: int,
        *,
        batch: int,
        stream: str,
        profiles: int,
        size: int,
        state: str,
        task_id: str | None = None,
        attempts: int = 0,
        polls: int = 0,
        rejected: int = 0,
    ) -> None:
        """Note what a request is now; to be called whenever its state changes.

        A request that was never on the wire does not stand in the report.

        Args:
            number: What tells the request from any other of the run.
            batch: Number of its batch.
            stream: Output stream of its batch.
            profiles: How many profiles it holds.
            size: Bytes of its body.
            state: Its state; a key of `STATES`.
            task_id: The task that it became, None before that.
            attempts: How often it was sent.
            polls: How often its task was asked about.
            rejected: How many of its profiles the task did not import.
        """
        if self.path is None:
            return
        now, meaning = self._seconds(), STATES[state]
        with self._lock:
            before = self._tasks.get(number)
            was_in_doubt = meaning.is_doubt or (before is not None and before.was_in_doubt)
            submitted, accepted, finished = _times(before, state, now)
            self._tasks[number] = TaskReport(
                batch=batch,
                stream=stream,
                profiles=profiles,
                bytes=size,
                state=state,
                outcome=_outcome(state, rejected, was_in_doubt=was_in_doubt),
                submitted=submitted,
                accepted=accepted,
                finished=finished,
                task_id=task_id,
                polls=polls,
                retries=max(attempts - 1, 0),
                rejected=rejected,
                was_in_doubt=was_in_doubt,
            )

    def scenario(self, stream: str, workflow_id: int, name: str = "") -> None:
        """Note the scenario of a stream; `name` is empty as long as nobody asked for it."""
        with self._lock:
            self._scenarios[stream] = {"workflow_id": workflow_id, "name": name}

    def state_printed(self, place: int) -> None:
        """Note that a STATE was printed; `place` is how many records of the input it covers."""
        with self._lock:
            self._state = {"printed_at": _now(), "covers": place}

    def write(
        self,
        summary: Summary,
        settings: Mapping[str, t.Any],
        status: int,
        message: str | None,
        *,
        records: int,
    ) -> None:
        """Write the report, whole or not at all, readable by its owner alone.

        Args:
            summary: The counts.
            settings: Those settings that may be shown, as they were given.
            status: The run's exit status.
            message: What ended the run, None if nothing did.
            records: How many records of the input were read.

        Raises:
            OSError: If it cannot be written.
        """
        if self.path is None:
            return
        path = Path(self.path)
        content = self._content(summary, settings)
        content |= {"exit_status": status, "message": message}
        content["state"]["records"] = records
        text = (
            as_html(content)
            if path.suffix == ".html"
            else json.dumps(content, ensure_ascii=False, indent=1, default=str)
        )
        _replace_file(path, text)

    def _content(self, summary: Summary, settings: Mapping[str, t.Any]) -> dict[str, t.Any]:
        with self._lock:
            sent = [task for task in self._tasks.values() if task.submitted is not None]
            scenarios, state = self._scenarios.copy(), self._state.copy()
        return {
            "host": urlsplit(settings.get("api_url", "")).netloc,
            "started_at": self._started_at,
            "ended_at": _now(),
            "seconds": self._seconds(),
            "scenarios": scenarios,
            "state": state,
            "streams": {name: c.as_dict() for name, c in summary.streams().items()},
            "tasks": [asdict(task) for task in sent],
            "settings": dict(settings),
            "versions": {
                "python": platform.python_version(),
                **{package: version(package) for package in _PACKAGES},
            },
        }

    def _seconds(self) -> float:
        """Return the seconds since the run began."""
        return round(time.monotonic() - self._began, 3)


def _now() -> str:
    return rfc3339(dt.datetime.now(dt.timezone.utc))


def _times(
    before: TaskReport | None, state: str, now: float
) -> tuple[float | None, float | None, float | None]:
    """Return when a request was first on the wire, when accepted, and when its state ended it."""
    submitted, accepted, finished = None, None, None
    if before is not None:
        submitted, accepted, finished = before.submitted, before.accepted, before.finished
    if submitted is None and state in _ON_THE_WIRE:
        submitted = now
    if accepted is None and state in _ACCEPTED:
        accepted = now
    if before is None or before.state != state:
        finished = None if STATES[state].is_working else now
    return submitted, accepted, finished


def _outcome(state: str, rejected: int, *, was_in_doubt: bool) -> str:
    """Return the legend's word; a request that is split after a doubt stays unknown."""
    if state == "completed" and rejected:
        return "partly rejected"
    if state == "split" and was_in_doubt:
        return "unknown"
    return STATES[state].outcome


def _replace_file(path: Path, text: str) -> None:
    """Put a file in its place in one step; `mkstemp` makes it with mode 0600.

    Half a surrogate pair, which no UTF-8 can hold, is written as JSON escapes it.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
