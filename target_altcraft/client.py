"""The Altcraft API over HTTP: one call, one answer or one kind of error.

Nothing else in the package knows HTTP; what an answer means stands in `answers.py`. Facts about the
server are from Altcraft's public developer guide (v74).
"""

from __future__ import annotations

import math
import os
import socket
import ssl
import time
import typing as t
from importlib.metadata import version
from urllib.parse import urlsplit

import requests
from requests.utils import get_environ_proxies

from target_altcraft import answers
from target_altcraft.answers import LIST, MAX_ANSWER_BYTES, STATUS, SUBMIT
from target_altcraft.codec import encode_json
from target_altcraft.connection import new_session
from target_altcraft.errors import (
    AcceptedWithoutId,
    ApiError,
    Fatal,
    Halted,
    LostInBody,
    NotAccepted,
    OutcomeUnknown,
)
from target_altcraft.settings import is_loopback

if t.TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from target_altcraft.answers import TaskStatus
    from target_altcraft.settings import Settings

USER_AGENT = f"target-altcraft/{version('target-altcraft')}"

_CHUNK_BYTES = 256 * 1024
"""About as much of a body is joined at a time, and of an answer read."""
_FRESH_SECONDS = 1.0
"""An idle connection older than this is not reused for a submit: a server that drops it just then
would make the outcome look unknown. Usual keep-alive time-outs are 2 seconds and more."""


class Body:
    """A request's body that is joined while it is sent, and knows how far it got.

    A connection that breaks does not tell how much of the body went out. These do: `begun` is set
    once the body is asked for, `handed_over` once the operating system has taken its last byte.

    Example::

        body = Body(b'{"token": "…", "data": [', b"]}", entries, started=lambda: None)
        task_id = client.submit(body)

    Args:
        envelope_start: What stands before the entries.
        envelope_end: What stands behind them.
        entries: The entries, as JSON.
        started: Called whenever the body begins to be sent, before its first byte leaves. What it
            raises comes out of the client's call as it is; nothing of the body was sent then.
    """

    def __init__(
        self,
        envelope_start: bytes,
        envelope_end: bytes,
        entries: Sequence[bytes],
        started: Callable[[], None],
    ) -> None:
        self._start = envelope_start
        self._end = envelope_end
        self._entries = entries
        self._started = started
        commas = max(len(entries) - 1, 0)
        self._size = len(envelope_start) + len(envelope_end) + sum(map(len, entries)) + commas
        self.begun = False
        self.handed_over = False

    def rewind(self) -> None:
        """Get ready for another attempt."""
        self.begun = self.handed_over = False

    def __len__(self) -> int:
        """Bytes of the whole body; becomes `Content-Length`."""
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        """Yield the body in chunks; anew for every attempt."""
        try:
            self._started()
        except Exception as error:
            raise _StartFailed(error) from error
        self.begun = True
        step = max(1, _CHUNK_BYTES * len(self._entries) // max(1, self._size))
        before = self._start
        for first in range(0, max(1, len(self._entries)), step):
            yield before + b",".join(self._entries[first : first + step])
            before = b","
        yield self._end
        self.handed_over = True


class _StartFailed(Exception):
    """The callback of a body raised an error, which is none of the network's."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class Client:
    """One connection to Altcraft, for one thread.

    Each call is made once: it returns what Altcraft said, or raises the kind of error that promise
    3's table gives to what happened. No other exception comes of the network or of an answer.

    Args:
        settings: The run's settings.
        halt: Set when the run is ending; nothing but the status of tasks is asked after that.
    """

    def __init__(self, settings: Settings, halt: threading.Event) -> None:
        self._settings = settings
        self._halt = halt
        self._last_used = -math.inf
        self._prepared: dict[str, requests.PreparedRequest] = {}  # by endpoint
        self._session = new_session()
        self._session.trust_env = False  # it would read .netrc; what is wanted of it follows
        self._session.headers.update(
            {
                "User-Agent": USER_AGENT,
                "Content-Type": "application/json",
                "Accept-Encoding": "gzip",
            }
        )
        if not is_loopback(urlsplit(settings.api_url).hostname or ""):
            self._session.proxies = get_environ_proxies(settings.api_url)
        self._session.verify = (
            os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
        )

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def submit(self, body: Body) -> str:
        """Send a batch, once.

        Source: developer guide, "Task for batch import and engaging profiles in the scenario".

        Args:
            body: The request's body; it is rewound first.

        Returns:
            The task's id.

        Raises:
            NotAccepted: If nothing was taken, but the same request may be later.
            LostInBody: If the connection broke, or Altcraft answered without a clear word, before
                the whole body was sent, which is how some hosts refuse what is too large.
            TooLarge: If the host does not take a body of this size.
            Refused: If Altcraft refuses this body.
            Fatal: If no request would be accepted.
            OutcomeUnknown: If it may have been accepted.
            AcceptedWithoutId: If it was accepted, but the answer names no task.
            Halted: If the run is ending; nothing was sent.
            Exception: What the body's `started` raised, as it is.
        """
        if self._halt.is_set():
            raise Halted
        if time.monotonic() - self._last_used > _FRESH_SECONDS:
            self._session.close()  # only drops its connections
        body.rewind()
        answer = self._post(SUBMIT, body, self._settings.request_timeout_seconds)
        task_id = answers.task_id(answer)
        if task_id is None:
            raise AcceptedWithoutId(SUBMIT, "accepted, but the answer names no task", code=0)
        return task_id

    def status(self, task_id: str, timeout: float) -> TaskStatus:
        """Ask once how a task is doing, also when the run is ending.

        Source: developer guide, page of the batch task.

        Args:
            task_id: As `submit` returned it.
            timeout: Seconds for connecting, and again for the answer; at most the setting's.

        Raises:
            ApiError: If there is no usable answer; asking again changes nothing on the server.
        """
        payload = encode_json({"token": self._settings.token, "task_id": task_id})
        limit = min(timeout, self._settings.request_timeout_seconds)
        return answers.task_status(self._ask(STATUS, payload, limit), self._settings.token)

    def workflow(self, workflow_id: int) -> dict[str, t.Any] | None:
        """Return what `workflows/list` says of a scenario, None if there is no such one.

        Source: developer guide, `workflows/list`; asked once.

        Raises:
            ApiError: If there is no usable answer; asking again changes nothing on the server.
            Halted: If the run is ending.
        """
        if self._halt.is_set():
            raise Halted
        payload = encode_json({"token": self._settings.token, "from_id": workflow_id, "limit": 1})
        found = self._ask(LIST, payload, self._settings.request_timeout_seconds).get("data")
        for item in found if isinstance(found, list) else ():
            if isinstance(item, dict) and answers.whole_number(item.get("id")) == workflow_id:
                return item
        return None

    def _ask(self, endpoint: str, payload: bytes, timeout: float) -> dict[str, t.Any]:
        return self._post(endpoint, Body(payload, b"", (), lambda: None), timeout)

    def _post(self, endpoint: str, body: Body, timeout: float) -> dict[str, t.Any]:
        """Send one request and return its answer if that says success.

        Raises:
            ApiError: Of the kind that promise 3's table gives to what happened.
            Exception: What the body's `started` raised, as it is.
        """
        flaw = ""
        try:
            status, headers, content, flaw = self._exchange(endpoint, body, timeout)
            return answers.read(endpoint, status, headers, content, self._settings.token)
        except _StartFailed as failure:
            failed = failure.error
        except ApiError as error:
            self._session.close()  # what else may come on this connection is not wanted
            if not isinstance(error, OutcomeUnknown):
                raise
            kind: type[ApiError] = OutcomeUnknown
            text = error.text + flaw
            if not body.handed_over:
                kind, text = LostInBody, f"{text}, before the whole body was sent"
            raise kind(endpoint, text, code=error.code, retry_after=error.retry_after) from None
        finally:
            self._last_used = time.monotonic()
        raise failed  # here, so that nothing is added to it

    def _request(self, endpoint: str, body: Body) -> requests.PreparedRequest:
        """Return a request: a copy of the endpoint's, with a body and the cookies of now.

        For requests, to prepare each one anew is a quarter of a call's work.
        """
        if endpoint not in self._prepared:
            url = f"{self._settings.api_url}/{endpoint}"
            request = requests.Request("POST", url, headers=self._session.headers)
            self._prepared[endpoint] = request.prepare()
        prepared = self._prepared[endpoint].copy()
        prepared.prepare_body(body, None)
        prepared.prepare_cookies(self._session.cookies)
        return prepared

    def _exchange(
        self, endpoint: str, body: Body, timeout: float
    ) -> tuple[int, Mapping[str, str], bytes, str]:
        """Send one request; return status, headers, body of its answer, and the latter's flaw.

        Raises:
            ApiError: If there is no answer.
        """
        try:
            response = self._session.send(
                self._request(endpoint, body),
                timeout=(timeout, timeout),
                allow_redirects=False,
                stream=True,
            )
        except _StartFailed:
            raise
        except Exception as error:  # noqa: BLE001 - requests lets urllib3's and others' through
            failure = _no_answer(endpoint, error, body, timeout)
        else:
            with response:
                content, flaw = _content(response)
            return response.status_code, response.headers, content, flaw
        raise failure  # here, so that it does not keep the request, which its context would


def _content(response: requests.Response) -> tuple[bytes, str]:
    """Return an answer's body as far as it came, and what was wrong with its coming."""
    received = bytearray()
    try:
        while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=False):
            received += chunk
            if len(received) > MAX_ANSWER_BYTES:
                return bytes(received), f"; the answer is longer than {MAX_ANSWER_BYTES} bytes"
    except Exception:  # noqa: BLE001 - what came may still say that a task was accepted
        return bytes(received), "; the answer broke off"
    return bytes(received), ""


def _no_answer(endpoint: str, error: Exception, body: Body, timeout: float) -> ApiError:
    """Return what a broken exchange means, by how far the body got."""
    causes = list(_causes(error))
    refused = next((c for c in causes if isinstance(c, ssl.SSLCertVerificationError)), None)
    if refused is not None:
        return Fatal(endpoint, f"the server's certificate was refused: {refused.verify_message}")
    if body.handed_over:
        in_time = not isinstance(error, requests.ReadTimeout)
        lost = "the connection was lost before the answer"
        return OutcomeUnknown(
            endpoint, lost if in_time else f"no answer within {timeout:g} seconds"
        )
    if body.begun:
        return LostInBody(endpoint, "the connection was lost while sending")
    no_bundle = isinstance(error, OSError) and not isinstance(error, requests.RequestException)
    if no_bundle or any(getattr(c, "library", None) == "X509" for c in causes):
        return Fatal(
            endpoint, "the CA bundle of REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE cannot be read"
        )
    if isinstance(error, ValueError):
        return Fatal(endpoint, "api_url, or the proxy of the environment, is no usable address")
    return NotAccepted(endpoint, _why_not_connected(error, causes, timeout))


def _why_not_connected(error: Exception, causes: list[BaseException], timeout: float) -> str:
    if any(isinstance(c, socket.gaierror) for c in causes):
        return "the host's name was not found"
    if any(isinstance(c, ConnectionRefusedError) for c in causes):
        return "the connection was refused"
    if isinstance(error, requests.Timeout):
        return f"no connection within {timeout:g} seconds"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy did not connect"
    return f"the request failed ({type(error).__name__})"


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
