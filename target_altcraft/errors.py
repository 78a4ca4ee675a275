"""Everything that can end or disturb a run, by what the caller should do about it.

::

    TargetError                     one message for the user, exit status 1, no traceback
    ├── SettingsError               mend the configuration
    ├── InputError                  mend the tap or its output
    │   └── UndeliverableRecord     ... of one record, and there is no rejects file for it
    ├── OutputError                 stdout (or a file of ours) cannot be written
    ├── Braked                      too much was rejected: nothing more is sent
    ├── Stopped                     a signal ended the run: exit status 128 + signal
    ├── TaskError                   a task did not deliver its batch
    │   ├── TaskFailed              ... and said so
    │   ├── TaskVanished            ... and Altcraft does not know it any more
    │   ├── TaskTimedOut            ... within task_timeout_seconds
    │   └── Unattributable          ... or part of it, and nobody can say which
    └── ApiError                    Altcraft (or the way to it) said no; has endpoint, code, text
        ├── NotAccepted             nothing was taken: the same request may be repeated
        ├── LostInBody              nor here: the connection broke while the body was being sent
        ├── OutcomeUnknown          may have been taken: repeating it may message customers twice
        ├── AcceptedWithoutId       was taken, but nobody can say what became of it
        ├── Refused                 this body was not taken and never will be
        │   └── TooLarge            ... because of its size: smaller ones may be
        └── Fatal                   nothing was taken, and no request like it will be

    Halted                          a wait was cut short because the run is ending
    Abandoned                       the run no longer waits for this task
    Rejection                       one record cannot be delivered; the others can
    ImpossibleTransition            a fault of this code: what cannot happen to a request did

No message ever holds a profile value or the token: a message names the stream, the field, the
kind of fault, the batch, the task. What Altcraft says goes through `shown` first.
"""

from __future__ import annotations

import re
import typing as t

_SHOWN_CHARACTERS = 200
_EMAIL = re.compile(r"[^\s@<>\"']+@[^\s@<>\"']+")
_DIGITS = re.compile(r"\+?\d[\d\s().-]{5,}\d")


def shown(text: object, token: str = "") -> str:
    """Return the server's words as they may be shown: masked, on one line, 200 characters.

    Args:
        text: `error_text` of a call or task, of whatever type the server sent.
        token: The API token, masked wherever it stands.
    """
    try:
        words = str(text)
    except (RecursionError, ValueError):  # nested too deeply, or too many digits
        words = ""
    if token:
        words = words.replace(token, "***")
    words = " ".join(words[: 10 * _SHOWN_CHARACTERS].split())  # no more is looked at than shown
    words = _DIGITS.sub("***", _EMAIL.sub("***", words))
    words = "".join(c if c.isprintable() else "?" for c in words)
    return words if len(words) <= _SHOWN_CHARACTERS else words[: _SHOWN_CHARACTERS - 1] + "…"


class TargetError(Exception):
    """Ends the run with one message for the user."""


class SettingsError(TargetError):
    """A setting is missing or wrong."""


class InputError(TargetError):
    """The input is not what a Singer tap should send."""


class UndeliverableRecord(InputError):
    """A record cannot be delivered, and there is no rejects file for it.

    Args:
        code: Kind of fault, as in the rejects file.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class OutputError(TargetError):
    """Something this target must write cannot be written.

    Args:
        is_full: Whether the disk has no space left.
    """

    def __init__(self, message: str, *, is_full: bool = False) -> None:
        super().__init__(message)
        self.is_full = is_full


class Braked(TargetError):
    """Too many records were rejected; what is not on the wire yet is not sent."""


class Stopped(TargetError):
    """A signal asked the run to end.

    Args:
        signum: Number of the signal.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


class TaskError(TargetError):
    """A task failed, vanished or did not end in time."""


class TaskFailed(TaskError):
    """A task ended without importing its profiles, or some of them.

    Args:
        results: What it said of single profiles, None if nothing.
    """

    def __init__(self, message: str, results: list[t.Any] | None = None) -> None:
        super().__init__(message)
        self.results = results


class TaskVanished(TaskError):
    """Altcraft does not know a task that it had accepted."""


class TaskTimedOut(TaskError):
    """A task has not ended in time."""


class Unattributable(TaskError):
    """The results of a task cannot be attributed to its profiles."""


class ApiError(TargetError):
    """A call that did not succeed.

    Args:
        endpoint: Method of the API, such as `tasks/status`.
        text: What happened, ready to be shown.
        code: HTTP status or the body's `error`, where there was an answer.
        retry_after: Seconds the server asked to wait, where it did.
    """

    def __init__(
        self,
        endpoint: str,
        text: str,
        *,
        code: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{endpoint}: {text}")
        self.endpoint = endpoint
        self.text = text
        self.code = code
        self.retry_after = retry_after


class NotAccepted(ApiError):
    """Nothing was taken; the same request may be repeated."""


class LostInBody(ApiError):
    """Nothing was taken; the connection broke before the last byte of the body was handed over."""


class OutcomeUnknown(ApiError):
    """The request may have been taken."""


REPEATABLE = (NotAccepted, LostInBody, OutcomeUnknown)
"""Failures after which a call that changes nothing on the server may be made again."""


class AcceptedWithoutId(ApiError):
    """The request was taken (`error` 0), but the answer names no task that could be followed."""


class Refused(ApiError):
    """This body was not taken, and will not be when repeated unchanged."""


class TooLarge(Refused):
    """The body is larger than the host takes."""


class Fatal(ApiError):
    """Nothing was taken, and no request of this run will be."""


class Halted(Exception):
    """A wait was cut short because the run is ending."""


class Abandoned(Exception):
    """The run no longer waits for this task; it may still end well."""


class Rejection(Exception):
    """One record cannot be delivered.

    Args:
        code: Kind of fault, a fixed word for counting, such as `no_match_value`.
        reason: What is wrong, naming the column, never its value.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class ImpossibleTransition(AssertionError):
    """Something happened to a request that cannot happen in its state."""
