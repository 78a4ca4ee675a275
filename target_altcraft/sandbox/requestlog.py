"""What was requested: one row per request to an API endpoint, and how many there were."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus

from target_altcraft.sandbox.faults import TRUE_KINDS


@dataclass(slots=True)
class RequestSeen:
    """One request to an API endpoint, from its arrival on. Times are `time.monotonic()` seconds.

    Attributes:
        at: When its headers had been read.
        endpoint: "submit", "status" or "list".
        done_at: When it was answered or given up; None: neither yet.
        bytes: How many bytes of the body were received.
        entries: How many entries the body held.
        error: `error` of the answer; None: the answer had none, or there was no answer.
        status: HTTP status of the answer; None: no answer.
        fault: The kind of fault that struck it.
        task_id: The task it made, or asked after.
        accepted: A task was made, whether or not an answer told of it.
        profiles: The match value of each entry, e-mail case-folded.
        text: `error_text` and `error_debug` of the answer, or why there was none.
    """

    at: float
    endpoint: str
    done_at: float | None = None
    bytes: int = 0
    entries: int = 0
    error: int | None = None
    status: int | None = None
    fault: str | None = None
    task_id: str | None = None
    accepted: bool = False
    profiles: list[str] = field(default_factory=list)
    text: str = ""


class RequestLog:
    """The requests of one world. Guarded by its owner's lock.

    Attributes:
        rows: Every request, in order of arrival; empty when the sandbox only counts.
        troubles: Those that were refused, disturbed or never answered; likewise.
        totals: How many there were, how many were refused, how many were never answered.
    """

    def __init__(self) -> None:
        self.rows: list[RequestSeen] = []
        self.troubles: list[RequestSeen] = []
        self.totals = Counter(requests=0, refused_requests=0, unanswered_requests=0)

    def begins(self, endpoint: str, *, remember: bool) -> RequestSeen:
        """Log a request whose headers have arrived."""
        seen = RequestSeen(time.monotonic(), endpoint)
        self.totals["requests"] += 1
        if remember:
            self.rows.append(seen)
        return seen

    def ends(
        self, seen: RequestSeen, *, status: int | None, error: int | None, text: str, remember: bool
    ) -> None:
        """Log how a request was answered; a status of None stands for no answer."""
        seen.done_at = time.monotonic()
        seen.status, seen.error, seen.text = status, error, text
        if status is None:
            self.totals["unanswered_requests"] += 1
        elif error or status != HTTPStatus.OK:
            self.totals["refused_requests"] += 1
        elif seen.fault is None or seen.fault in TRUE_KINDS:
            return
        if remember:
            self.troubles.append(seen)
