"""From accepted to ended: one task, asked for its status with the right patience."""

from __future__ import annotations

import logging
import threading
import time
import typing as t

import backoff

from target_altcraft.answers import NO_SUCH_TASK, TOKEN_REFUSED
from target_altcraft.errors import (
    Abandoned,
    ApiError,
    Fatal,
    TaskError,
    TaskFailed,
    TaskTimedOut,
    TaskVanished,
    shown,
)

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from target_altcraft.answers import TaskStatus
    from target_altcraft.client import Client
    from target_altcraft.delivery.first_wait import FirstWait
    from target_altcraft.settings import Settings

logger = logging.getLogger(__name__)

MISSING_TASK_SECONDS = 30.0
"""How long Altcraft may not know a task that it has accepted."""

_QUESTIONS_OF_A_SHORT_TASK = 2
"""The second comes `poll_interval_seconds` after the task was accepted."""

_GROWTH = 1.5
_SHARE_OF_ELAPSED = 0.04


class PollPace:
    """Waits that grow from the shortest to the longest, cut short where `progress` tells the end.

    Progress that rises evenly says when the task will end, but it is rounded down: at elapsed time
    `e` and progress `p` the task cannot end before `100 e / (p + 1)`. Waiting until just then can
    never be late, and each question narrows the estimate.

    A first question that was put off changes nothing for the second: it comes at the shortest wait
    after the task was accepted, and all others after it, as if the first had come at once. So no
    task is asked for more often than without the delay.

    Args:
        shortest: Seconds, setting `poll_interval_seconds`.
        longest: Seconds, setting `poll_max_interval_seconds`.
        first: Seconds by which the first question was put off, less than `shortest`.
    """

    def __init__(self, shortest: float, longest: float, first: float = 0.0) -> None:
        self._shortest = shortest
        self._first = first
        self._longest = longest
        self._growing = backoff.expo(base=_GROWTH, factor=shortest, max_value=longest)
        next(self._growing)  # backoff's generators wait for a first `send`

    def wait(self, elapsed: float, progress: float | None) -> float:
        """Return the seconds to wait before the next question.

        Args:
            elapsed: Seconds since the task was accepted.
            progress: Percent, as the task's status said; None if it did not.
        """
        grown = next(self._growing)
        if self._first:
            rest, self._first = grown - self._first, 0.0
            return rest
        if progress is None or not 0 < progress <= 100:  # noqa: PLR2004 - percent
            return grown
        remaining = elapsed * (100 / (min(progress, 99) + 1) - 1)
        soon = max(self._shortest, elapsed * _SHARE_OF_ELAPSED)
        return min(max(remaining, soon), self._longest)


class UnknownStates:
    """What was said of states that this target does not know: each once a run.

    The lock guards what was said.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: set[str] = set()

    def is_new(self, message: str) -> bool:
        """Note a message; tell whether it was not said before."""
        with self._lock:
            is_new = message not in self._said
            self._said.add(message)
        return is_new


class TaskWatch:
    """Asks for a task's status until it has ended.

    A call that fails changes nothing on the server: whatever it says, save that the token is not
    good, the question is asked again until the task's own time-out.

    Args:
        settings: The run's settings.
        task_id: The task.
        name: What to call it in messages.
        count: How many profiles it has.
        unknown_states: What other tasks of the run have met.
    """

    def __init__(
        self,
        settings: Settings,
        task_id: str,
        name: str,
        count: int,
        unknown_states: UnknownStates,
    ) -> None:
        self._task_id = task_id
        self._name = name
        self._count = count
        self._unknown_states = unknown_states
        self._timeout = settings.task_timeout_seconds
        self._shortest = settings.poll_interval_seconds
        self._longest = settings.poll_max_interval_seconds
        self._accepted = time.monotonic()
        self._missing_since: float | None = None
        self._warned: set[str] = set()

    def completed(
        self,
        client: Client,
        abandon: threading.Event,
        asked: Callable[[float | None], None],
        first_wait: FirstWait | None = None,
    ) -> TaskStatus:
        """Return the status of the completed task.

        Args:
            client: The calling thread's.
            abandon: Set when the run no longer waits for tasks.
            asked: Called after each question, with the progress in percent if it was told.
            first_wait: When to ask first, for a task that was just accepted; else at once.

        Raises:
            TaskFailed: If the task failed.
            TaskVanished: If Altcraft does not know it any more.
            TaskError: If it did not end in time, or the token is refused.
            Abandoned: If `abandon` was set.
        """
        deadline = self._accepted + self._timeout
        first = first_wait.seconds if first_wait is not None else 0.0
        pace = PollPace(self._shortest, self._longest, first)
        if first:
            abandon.wait(min(first, self._timeout))  # abandoned or not, it is asked for once
        questions = 0
        while True:
            questions += 1
            progress, at_least = None, 0.0
            try:
                status = client.status(self._task_id, max(1.0, deadline - time.monotonic()))
            except ApiError as error:
                asked(None)
                first_wait = None  # nobody knows what a failed call would have found
                self._judge_failed_call(error)
                at_least = error.retry_after or 0.0
            else:
                asked(status.progress)
                if self._has_completed(status):
                    if first_wait is not None and questions <= _QUESTIONS_OF_A_SHORT_TASK:
                        first_wait.learn(first, in_time=questions == 1)
                    return status
                progress = status.progress
            now = time.monotonic()
            if now >= deadline:
                raise TaskTimedOut(
                    f"{self._name} has not ended within task_timeout_seconds ({self._timeout:g}); "
                    "it may still do so"
                )
            wait = max(pace.wait(now - self._accepted, progress), at_least)
            if abandon.wait(min(wait, deadline - now)):
                raise Abandoned

    def _has_completed(self, status: TaskStatus) -> bool:
        self._missing_since = None
        if status.failed:
            code = f", error {shown(status.error)}" if status.error else ""
            said = f", {status.text}" if status.text else ""
            raise TaskFailed(
                f"{self._name} ended as '{status.state}'{code}{said}. Its profiles may have been "
                "imported or not",
                status.results,
            )
        if not status.completed and status.evidently_done(self._count):
            self._say_unknown(
                f"status '{shown(status.state)}' is not known; with progress 100, no error and a "
                "result for each profile it counts as completed"
            )
            return True
        if not status.completed and status.state != "running":
            self._say_unknown(
                f"status '{shown(status.state)}' is not known and counts as still running"
            )
        return status.completed

    def _judge_failed_call(self, error: ApiError) -> None:
        if isinstance(error, Fatal) and error.code in TOKEN_REFUSED:
            raise TaskError(f"{self._name}: {error}") from error
        if error.code not in NO_SUCH_TASK:  # which mean "no such task"
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = time.monotonic()
        elif time.monotonic() - self._missing_since >= MISSING_TASK_SECONDS:
            raise TaskVanished(
                f"{self._name} has vanished: {error.text}. Its profiles may have been imported or "
                "not"
            ) from error
        self._warn_once(f"{error}; asking again")

    def _say_unknown(self, message: str) -> None:
        """Warn of a state that is not known, once for each name and what it counts as."""
        if self._unknown_states.is_new(message):
            self._warn_once(message)

    def _warn_once(self, message: str) -> None:
        level = logging.DEBUG if message in self._warned else logging.WARNING
        self._warned.add(message)
        logger.log(level, "%s: %s", self._name, message)
