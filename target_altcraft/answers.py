"""What an answer of Altcraft means: success, or one kind of error. No network here.

Facts about the server are from Altcraft's public developer guide (v74). Where it is silent, the
code says so and takes the side on which nobody is messaged twice: an answer is read as leniently as
possible before its outcome is called unknown.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import json
import re
import time
import typing as t
import zlib
from dataclasses import dataclass

import msgspec

from target_altcraft.errors import Fatal, NotAccepted, OutcomeUnknown, Refused, TooLarge, shown

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from target_altcraft.errors import ApiError

SUBMIT = "workflows/import_and_start_batch_task"
STATUS = "tasks/status"
LIST = "workflows/list"

MAX_ANSWER_BYTES = 256_000_000
"""No more of an answer is read; 25 kB for each result of the largest batch."""
TOKEN_REFUSED = frozenset({401, 403, 440})
"""Codes by which a call says that asking again is of no use. 440 stands on no page of the guide; a
user of `profiles/import` saw it for a token that was not good."""
MAY_NOT_LIST = frozenset({403, 404})
"""Codes by which `workflows/list` says that the token may not call it."""
NO_SUCH_TASK = frozenset({400, 404})
"""Codes by which `tasks/status` says that it does not know the task; inferred, not documented."""

_LONGEST_RETRY_AFTER = 86_400.0
_NAME_CHARACTERS = 60
"""Of the name of a scenario or mode."""
_MAX_NESTING = 100
_TOO_LARGE = "request body too large"  # Go's MaxBytesReader, in `error_debug`
_LOOKED_AT = 2_000
"""Bytes of an answer that is no JSON in which Go's words are looked for."""

_COMPLETED_STATES = {"completed", "success"}  # the guide's page of today, and its older sister's
_FAILED_STATES = {"failed", "error", "canceled", "cancelled", "aborted", "stopped"}
_RUNNING_STATE = "running"

_SUCCESS = range(200, 300)
_REDIRECTS = range(300, 400)
_MEANINGS: tuple[tuple[range, type[ApiError]], ...] = (
    (range(429, 430), NotAccepted),
    (range(503, 504), NotAccepted),
    (range(413, 414), TooLarge),
    (range(400, 401), Refused),
    (range(400, 500), Fatal),
)
"""What a code says of a request, first match first; any other leaves the outcome unknown."""
_TELLING = (NotAccepted, TooLarge, Fatal, Refused, OutcomeUnknown)
"""Of two codes that say different things, the one whose kind stands first here counts."""

_HALVES = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
    r"|\\."
)
"""Escapes in JSON; the group is half of a surrogate pair without its other half."""


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """What `tasks/status` says of a task.

    Args:
        state: Name of the state, in lower case, ready to be shown.
        progress: Percent from 0 to 100, None where it was not given.
        error: The task's error; 0 if there is none, a text ready to be shown if it is no number.
        text: The task's `error_text`, ready to be shown.
        results: The items for single profiles, in the order of the entries (developer guide), None
            where there is no list.
    """

    state: str
    progress: float | None
    error: int | str
    text: str
    results: list[t.Any] | None

    @property
    def completed(self) -> bool:
        """Whether the task says that it is done, by one of the two names that the guide knows."""
        return self.state in _COMPLETED_STATES

    @property
    def failed(self) -> bool:
        """Whether the task ended without doing its work; the names are guesses."""
        return self.state in _FAILED_STATES or (self.completed and self.error != 0)

    def evidently_done(self, number_of_entries: int) -> bool:
        """Tell whether a task in a state of an unknown name has done all of its work.

        Args:
            number_of_entries: How many entries the task was given.
        """
        return (
            not self.completed
            and not self.failed
            and self.state != _RUNNING_STATE
            and self.progress == 100  # noqa: PLR2004 - percent
            and self.error == 0
            and self.results is not None
            and len(self.results) == number_of_entries
        )


def read(
    endpoint: str, status: int, headers: Mapping[str, str], content: bytes, token: str
) -> dict[str, t.Any]:
    """Return an answer's JSON object if it says success.

    HTTP 200 does not mean success (developer guide): the body's `error` must be 0. A submit that is
    answered by `error` 0 and a task's id was accepted, whatever the HTTP status.

    Args:
        endpoint: Method of the API that was called.
        status: HTTP status.
        headers: Of the answer.
        content: The answer's body as it came, still compressed if it came so.
        token: The API token, masked in what the server says.

    Raises:
        NotAccepted: If nothing was taken, but the same request may be later.
        TooLarge: If the host does not take a body of this size.
        Refused: If Altcraft refuses this body.
        Fatal: If no request like this one will be taken.
        OutcomeUnknown: If the answer does not say whether the request was taken.
    """
    if status in _SUCCESS and (answer := _plain_success(endpoint, content)) is not None:
        return answer
    fields = {name.lower(): value for name, value in headers.items()}
    answer = _read_object(content, fields.get("content-encoding", ""))
    code = whole_number(answer.get("error"))
    accepted = code == 0 and endpoint == SUBMIT and task_id(answer) is not None
    if accepted or (code == 0 and status in _SUCCESS):
        return answer
    too_large = _says_too_large(answer, content)
    if status not in _SUCCESS:
        kind, said, told = meaning(status, too_large=too_large, http=True), f"HTTP {status}", status
        if code:
            said = f"{said}, error {shown(code)}"
            other = meaning(code, too_large=too_large)
            if _TELLING.index(other) <= _TELLING.index(kind):
                kind, told = other, code
    elif code is not None:
        kind, said, told = meaning(code, too_large=too_large), f"error {shown(code)}", code
    else:
        kind = TooLarge if too_large else OutcomeUnknown
        said, told = f"the answer (HTTP {status}) is not Altcraft's JSON", status
    if text := _error_text(answer, token):
        said = f"{said}, {text}"
    if status in _REDIRECTS:
        said += ": redirects are not followed; api_url must name the API itself"
    raise kind(endpoint, said, code=told, retry_after=_retry_after(fields.get("retry-after", "")))


def _plain_success(endpoint: str, content: bytes) -> dict[str, t.Any] | None:
    """Return the object of an answer that nothing ails and that says success, else None.

    Results for ten thousand profiles take the lenient reading ten times as long.
    """
    try:
        answer = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(answer, dict) or whole_number(answer.get("error")) != 0:
        return None
    return answer if endpoint != SUBMIT or task_id(answer) is not None else None


def meaning(code: int, *, too_large: bool = False, http: bool = False) -> type[ApiError]:
    """Return the kind of error that an HTTP status or a body's `error` stands for.

    Args:
        code: As it came; 0 is no error and not asked for.
        too_large: Whether the answer says that the body was too large, which Altcraft does with
            error 400.
        http: Whether it is an HTTP status, in which 3xx is a redirect.
    """
    if too_large:
        return TooLarge
    if http and code in _REDIRECTS:
        return Fatal
    return next((kind for codes, kind in _MEANINGS if code in codes), OutcomeUnknown)


def task_id(answer: Mapping[str, t.Any]) -> str | None:
    """Return the id of the task that an answer names, None if it names none.

    An id is an opaque text. It stands at the root (page of the batch task) or in `data` (page of
    the sister call `profiles/get_all`).
    """
    data = answer.get("data")
    for place in (answer, data if isinstance(data, dict) else {}):
        found = place.get("task_id")
        if isinstance(found, int) and not isinstance(found, bool):
            found = str(found)
        if isinstance(found, str) and found.strip():
            return found
    return None


def task_status(answer: Mapping[str, t.Any], token: str) -> TaskStatus:
    """Return what an answer of `tasks/status` says of the task.

    Args:
        answer: As `read` returned it.
        token: The API token, masked in what the server says.

    Raises:
        OutcomeUnknown: If the answer says nothing of a task.
    """
    data = answer.get("data")
    if not isinstance(data, dict):
        raise OutcomeUnknown(STATUS, "the answer has no 'data' object")
    result = data.get("result")
    result = result if isinstance(result, dict) else {}
    error, results = result.get("error"), result.get("result")
    code = whole_number(error)
    return TaskStatus(
        state=shown(data.get("status", ""), token).lower(),
        progress=_percent(data.get("progress")),
        error=code if code is not None else shown(error, token) if error else 0,
        text=_error_text(result, token),
        results=results if isinstance(results, list) else None,
    )


def shown_name(value: object, token: str) -> str:
    """Return the server's name of a scenario or mode as it may be shown: on one line.

    Args:
        value: Of whatever type the server sent; what is no text has no name.
        token: The API token, masked wherever it stands.
    """
    text = value if isinstance(value, str) else ""
    if token:
        text = text.replace(token, "***")
    text = "".join(c if c.isprintable() else " " for c in text[: 2 * _NAME_CHARACTERS]).strip()
    return text if len(text) <= _NAME_CHARACTERS else f"{text[: _NAME_CHARACTERS - 1]}…"


def whole_number(value: object) -> int | None:
    """Return a number that came as 400, 400.0 or "400"; None if it is none or not whole."""
    if isinstance(value, int):
        return int(value)
    if not isinstance(value, (float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _percent(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if 0 <= value <= 100 else None  # noqa: PLR2004


def _error_text(answer: Mapping[str, t.Any], token: str) -> str:
    """Return `error_text`, which some pages of the guide spell with a blank, as it may be shown."""
    return shown(answer.get("error_text") or answer.get("error text") or "", token)


def _says_too_large(answer: Mapping[str, t.Any], content: bytes) -> bool:
    if not answer:
        return _TOO_LARGE.encode() in content[:_LOOKED_AT]
    said = (answer.get(name) for name in ("error_debug", "error_text", "error text"))
    return any(isinstance(text, str) and _TOO_LARGE in text for text in said)


def _read_object(content: bytes, encoding: str) -> dict[str, t.Any]:
    """Return the JSON object of an answer, an empty one if there is none."""
    for text in _versions(content, encoding):
        try:
            value = _parse(text)
        except (ValueError, RecursionError, MemoryError):
            continue
        if isinstance(value, dict) and _is_shallow(value):
            return value
    return {}


def _versions(content: bytes, encoding: str) -> Iterator[bytes]:
    """Yield a body as it came, then unpacked: a proxy may have unpacked it and not said so."""
    yield content
    sizes = {"gzip": (47,), "x-gzip": (47,), "deflate": (47, -15)}  # zlib's names for formats
    for bits in sizes.get(encoding.strip().lower(), ()):
        with contextlib.suppress(zlib.error):
            yield zlib.decompressobj(bits).decompress(content, MAX_ANSWER_BYTES)


def _parse(content: bytes) -> object:
    """Return the JSON value that a body begins with, whatever ails its text.

    Broken UTF-8, halves of surrogate pairs, control characters in texts, numbers beyond all bounds,
    NaN, and what follows the value: none of them makes it unknown whether a task was accepted.

    Raises:
        ValueError: If it is no JSON.
        RecursionError: If it is nested too deeply.
    """
    text = content.decode(json.detect_encoding(content), "replace").lstrip("\ufeff \t\r\n")
    if "\\u" in text:
        text = _HALVES.sub(lambda found: r"\ufffd" if found[1] else found[0], text)
    decoder = json.JSONDecoder(strict=False, parse_int=_parse_int, object_pairs_hook=_parse_pairs)
    return decoder.raw_decode(text)[0]


def _parse_int(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:  # more digits than Python converts
        return digits


def _parse_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object in which the last value of a key counts, save that null counts least."""
    return {**{name: None for name, _ in pairs}, **dict(p for p in pairs if p[1] is not None)}


def _is_shallow(value: dict[str, t.Any]) -> bool:
    """Tell whether a JSON value is nested so little that anything may be done with it."""
    level: list[t.Any] = [value]
    for _ in range(_MAX_NESTING):
        inner = [list(v.values()) if isinstance(v, dict) else v for v in level]
        level = [v for values in inner for v in values if isinstance(v, (dict, list))]
    return not level


def _retry_after(value: str) -> float | None:
    """Return the seconds to wait that `Retry-After` asks for, as a number or as a date."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value), _LONGEST_RETRY_AFTER)
    try:
        moment = email.utils.parsedate_to_datetime(value)
        if moment.tzinfo is None:  # RFC 9110: a date without a zone is in UTC
            moment = moment.replace(tzinfo=dt.timezone.utc)
        seconds = moment.timestamp() - time.time()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(0.0, seconds), _LONGEST_RETRY_AFTER)
