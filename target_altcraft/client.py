"""The Altcraft API over HTTP: one call, one answer or one kind of error.

Nothing else in the package knows HTTP. Facts about the server are from Altcraft's public developer
guide (v74); where it is silent, the code says so and takes the side on which nobody is messaged
twice.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import math
import os
import socket
import ssl
import time
import typing as t
from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import urlsplit

import backoff
import msgspec
import requests
from requests.utils import get_environ_proxies

from target_altcraft.codec import encode_json
from target_altcraft.errors import (
    ApiError,
    Fatal,
    LostInBody,
    NotAccepted,
    OutcomeUnknown,
    Refused,
    TooLarge,
    shown,
)
from target_altcraft.settings import is_loopback

if t.TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from target_altcraft.batch import Envelope
    from target_altcraft.settings import Settings

_T = t.TypeVar("_T")

SUBMIT = "workflows/import_and_start_batch_task"
STATUS = "tasks/status"
LIST = "workflows/list"

USER_AGENT = f"target-altcraft/{version('target-altcraft')}"

_CHUNK_BYTES = 256 * 1024
"""About as much of a body is joined at a time."""
_FRESH_SECONDS = 1.0
"""An idle connection older than this is not reused for a submit: a server that drops it just then
would make the outcome look unknown. Usual keep-alive time-outs are 2 seconds and more."""
_RETRY_FIRST_SECONDS = 0.5
_RETRY_LONGEST_SECONDS = 30.0
_TOO_LARGE = "request body too large"  # Go's MaxBytesReader, in `error_debug`

_FAILED_STATES = {"failed", "error", "canceled", "cancelled", "aborted", "stopped"}


class Halted(Exception):
    """A wait was cut short because the run is ending; nothing was accepted."""


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """What `tasks/status` says of a task.

    `progress` is in percent, None where it was not given. `results` are the items for single
    profiles, in the order of the entries (developer guide), None where there is no list.
    """

    state: str
    progress: float | None
    error: object
    text: str
    results: list[t.Any] | None

    @property
    def completed(self) -> bool:
        """Whether the task is done; the only state that the guide names."""
        return self.state == "completed"

    @property
    def failed(self) -> bool:
        """Whether the task ended without doing its work; the names are guesses."""
        return self.state in _FAILED_STATES or (self.completed and self.error not in (0, "0"))


class Wire(t.Protocol):
    """Wants to know when a request goes on the wire, and when it is known not to be accepted."""

    def on(self) -> None:
        """The body begins to be sent."""

    def off(self) -> None:
        """It was not accepted."""


class Body:
    """A request's body that is joined while it is sent, and knows how far it got.

    A connection that breaks does not tell how much of the body went out. These do: `started` is set
    once the body is asked for, `handed_over` once the operating system has taken its last byte.

    Args:
        envelope: What stands around the entries.
        entries: The entries, as JSON.
        wire: Told of each attempt.
    """

    def __init__(
        self, envelope: Envelope, entries: Sequence[bytes], wire: Wire | None = None
    ) -> None:
        self.wire = wire
        self._envelope = envelope
        self._entries = entries
        self._size = envelope.size + sum(map(len, entries)) + max(len(entries) - 1, 0)
        self.attempts = 0
        self.started = False
        self.handed_over = False

    def rewind(self) -> None:
        """Get ready for another attempt."""
        self.attempts += 1
        self.started = self.handed_over = False

    def __len__(self) -> int:
        """Bytes of the whole body; becomes `Content-Length`."""
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        """Yield the body in chunks; anew for every attempt."""
        if self.wire is not None:
            self.wire.on()
        self.started = True
        step = max(1, _CHUNK_BYTES * len(self._entries) // max(1, self._size))
        before = self._envelope.start
        for first in range(0, max(1, len(self._entries)), step):
            yield before + b",".join(self._entries[first : first + step])
            before = b","
        yield self._envelope.end
        self.handed_over = True


class Client:
    """One connection to Altcraft, for one thread.

    Args:
        settings: The run's settings.
        halt: Set when the run is ending; no request is repeated after that.
    """

    def __init__(self, settings: Settings, halt: threading.Event) -> None:
        self._settings = settings
        self._halt = halt
        self._last_used = -math.inf
        self._session = requests.Session()
        self._session.trust_env = False  # it would read .netrc; what is wanted of it follows
        self._session.headers.update({"User-Agent": USER_AGENT, "Content-Type": "application/json"})
        if not is_loopback(urlsplit(settings.api_url).hostname or ""):
            self._session.proxies = get_environ_proxies(settings.api_url)
        self._session.verify = (
            os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
        )

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def submit(self, body: Body, *, divisible: bool) -> str:
        """Send a batch; repeat it while it is certain that it was not accepted.

        Source: developer guide, "Task for batch import and engaging profiles in the scenario".

        Args:
            body: The request's body.
            divisible: Whether the caller could send it in parts, and so wants to know of a loss in
                mid-body, which is how some hosts refuse what is too large.

        Returns:
            The task's id.

        Raises:
            LostInBody: If `divisible` and the connection broke while the body was being sent.
            TooLarge: If the host does not take a body of this size.
            Refused: If Altcraft refuses this body.
            OutcomeUnknown: If it may have been accepted.
            Fatal: If no request would be accepted, or `retry_max_seconds` are over.
            Halted: If the run ended while it was not accepted.
        """
        kinds = (NotAccepted,) if divisible else (NotAccepted, LostInBody)
        return self._repeat(lambda: self._submit_once(body), kinds)

    def _repeat(self, attempt: Callable[[], _T], kinds: tuple[type[ApiError], ...]) -> _T:
        """Make a call again and again while it fails in one of these ways.

        Raises:
            Fatal: If `retry_max_seconds` are over.
            Halted: If the run ended meanwhile.
        """
        waits = backoff.expo(factor=_RETRY_FIRST_SECONDS, max_value=_RETRY_LONGEST_SECONDS)
        next(waits)  # backoff's generators wait for a first `send`
        patience = self._settings.retry_max_seconds
        deadline = time.monotonic() + patience
        while not self._halt.is_set():
            try:
                return attempt()
            except kinds as error:
                wait = error.retry_after
                if wait is None:
                    wait = backoff.full_jitter(next(waits))
                if time.monotonic() + wait > deadline:
                    raise Fatal(
                        error.endpoint,
                        f"{error.text}; not accepted within retry_max_seconds ({patience:g})",
                        code=error.code,
                    ) from error
            self._halt.wait(wait)
        raise Halted

    def _submit_once(self, body: Body) -> str:
        if time.monotonic() - self._last_used > _FRESH_SECONDS:
            self._session.close()  # only drops its connections
        body.rewind()
        try:
            answer = self._post(SUBMIT, body, self._settings.request_timeout_seconds)
        except ApiError as error:
            if body.wire is not None and not isinstance(error, OutcomeUnknown):
                body.wire.off()
            raise
        task_id = answer.get("task_id")
        if not isinstance(task_id, str) or not task_id:
            raise OutcomeUnknown(SUBMIT, "the answer names no task_id")
        return task_id

    def status(self, task_id: str, timeout: float) -> TaskStatus:
        """Ask once how a task is doing.

        Source: developer guide, page of the batch task; only `completed` is documented as a state.

        Args:
            task_id: As `submit` returned it.
            timeout: Seconds for connecting, and again for the answer; at most the setting's.

        Raises:
            ApiError: If there is no usable answer; asking again changes nothing on the server.
        """
        payload = encode_json({"token": self._settings.token, "task_id": task_id})
        limit = min(timeout, self._settings.request_timeout_seconds)
        data = self._post(STATUS, payload, limit).get("data")
        if not isinstance(data, dict):
            raise OutcomeUnknown(STATUS, "the answer has no 'data' object")
        result = data.get("result")
        result = result if isinstance(result, dict) else {}
        progress, results = data.get("progress"), result.get("result")
        return TaskStatus(
            state=str(data.get("status", "")).lower(),
            progress=progress if isinstance(progress, (int, float)) else None,
            error=result.get("error") or 0,
            text=shown(result.get("error_text", ""), self._settings.token),
            results=results if isinstance(results, list) else None,
        )

    def workflow(self, workflow_id: int) -> dict[str, t.Any] | None:
        """Return what `workflows/list` says of a scenario, None if there is no such one.

        Source: developer guide, `workflows/list`; asking changes nothing on the server, so it is
        repeated like a submit.

        Raises:
            ApiError: If there is no usable answer within `retry_max_seconds`.
            Halted: If the run ended meanwhile.
        """
        payload = encode_json({"token": self._settings.token, "from_id": workflow_id, "limit": 1})
        answer = self._repeat(
            lambda: self._post(LIST, payload, self._settings.request_timeout_seconds),
            (NotAccepted, LostInBody, OutcomeUnknown),
        )
        found = answer.get("data")
        scenarios = (
            [item for item in found if isinstance(item, dict)] if (isinstance(found, list)) else []
        )
        return next((item for item in scenarios if _code(item.get("id")) == workflow_id), None)

    def _post(self, endpoint: str, body: Body | bytes, timeout: float) -> dict[str, t.Any]:
        """Send one request and return its answer if that says success.

        Raises:
            ApiError: Of the kind that promise 3's table gives to what happened.
        """
        url = f"{self._settings.api_url}/{endpoint}"
        try:
            response = self._session.post(
                url,
                data=body,
                timeout=(timeout, timeout),
                allow_redirects=False,
            )
        except (requests.RequestException, OSError) as error:
            raise _no_answer(endpoint, error, body, timeout) from None
        finally:
            self._last_used = time.monotonic()
        return _answer(endpoint, response, self._settings.token)


def _no_answer(  # noqa: PLR0911 - a table, row by row
    endpoint: str, error: Exception, body: Body | bytes, timeout: float
) -> ApiError:
    """Return what a broken exchange means, by how far the body got."""
    causes = list(_causes(error))
    refused = next((c for c in causes if isinstance(c, ssl.SSLCertVerificationError)), None)
    if refused is not None:
        return Fatal(endpoint, f"the server's certificate was refused: {refused.verify_message}")
    if isinstance(body, Body) and body.handed_over:
        if isinstance(error, requests.ReadTimeout):
            return OutcomeUnknown(endpoint, f"no answer within {timeout:g} seconds")
        return OutcomeUnknown(endpoint, "the connection was lost before the answer")
    if not isinstance(error, requests.RequestException) and not _has_started(body):
        return Fatal(  # the plain OSError by which requests says it
            endpoint, "the CA bundle of REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE cannot be read"
        )
    if any(isinstance(c, socket.gaierror) for c in causes):
        return NotAccepted(endpoint, "the host's name was not found")
    if any(isinstance(c, ConnectionRefusedError) for c in causes):
        return NotAccepted(endpoint, "the connection was refused")
    if isinstance(error, requests.ConnectTimeout):
        return NotAccepted(endpoint, f"no connection within {timeout:g} seconds")
    if isinstance(error, requests.exceptions.ProxyError):
        return NotAccepted(endpoint, "the proxy did not connect")
    if _has_started(body):
        return LostInBody(endpoint, "the connection was lost while sending")
    return NotAccepted(endpoint, f"the request failed ({type(error).__name__})")


def _has_started(body: Body | bytes) -> bool:
    return isinstance(body, Body) and body.started


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and everything it was made from, as requests and urllib3 nest them."""
    seen: set[int] = set()
    waiting: list[t.Any] = [error]
    while waiting:
        cause = waiting.pop()
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]


def _answer(endpoint: str, response: requests.Response, token: str) -> dict[str, t.Any]:
    """Return the answer's JSON object if both HTTP and its `error` say success.

    HTTP 200 does not mean success (developer guide): the body's `error` must be 0.
    """
    status = response.status_code
    try:
        answer = msgspec.json.decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        answer = {}
    code = _code(answer.get("error"))
    too_large = _TOO_LARGE in str(answer.get("error_debug", ""))
    if 200 <= status < 300:  # noqa: PLR2004 - success, as HTTP says it
        if code == 0:
            return answer
        if code is None:
            raise OutcomeUnknown(endpoint, f"the answer (HTTP {status}) is not Altcraft's JSON")
        said, kind = f"error {code}", meaning(code, too_large=too_large)
    else:
        said, kind = f"HTTP {status}", meaning(status, too_large=too_large, redirects=True)
        if code:  # of two codes, the one that says more
            said = f"{said}, error {code}"
            kind = min(kind, meaning(code, too_large=too_large), key=_TELLING.index)
        else:
            code = status
    if text := shown(answer.get("error_text", ""), token):
        said = f"{said}, {text}"
    if 300 <= status < 400:  # noqa: PLR2004
        said += ": redirects are not followed; api_url must name the API itself"
    raise kind(endpoint, said, code=code, retry_after=_retry_after(response))


_MEANINGS: tuple[tuple[range, type[ApiError]], ...] = (
    (range(429, 430), NotAccepted),
    (range(503, 504), NotAccepted),
    (range(413, 414), TooLarge),
    (range(400, 401), Refused),
    (range(400, 500), Fatal),
)
"""What a code says of a request, first match first; any other leaves the outcome unknown."""
_REDIRECTS = range(300, 400)
_TELLING = (NotAccepted, TooLarge, Fatal, Refused, OutcomeUnknown)


def meaning(code: int, *, too_large: bool = False, redirects: bool = False) -> type[ApiError]:
    """Return the kind of error that an HTTP status or a body's `error` stands for.

    Args:
        code: As it came; 0 is no error and not asked for.
        too_large: Whether the answer says that the body was too large, which Altcraft does with
            error 400.
        redirects: Whether 3xx is a redirect, as it is in HTTP.
    """
    if too_large:
        return TooLarge
    if redirects and code in _REDIRECTS:
        return Fatal
    return next((kind for codes, kind in _MEANINGS if code in codes), OutcomeUnknown)


def _code(value: object) -> int | None:
    """Return an error code as a number, or None if it is none."""
    try:
        return int(value)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError):
        return None


def _retry_after(response: requests.Response) -> float | None:
    """Return the seconds to wait that `Retry-After` asks for, as a number or as a date."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:  # RFC 9110: a date without a zone is in UTC
        moment = moment.replace(tzinfo=dt.timezone.utc)
    return max(0.0, moment.timestamp() - time.time())
