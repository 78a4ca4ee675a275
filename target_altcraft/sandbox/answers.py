"""Answers: the true ones, and what faults make of them."""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec

from target_altcraft.sandbox.connection import client_leaves, send_interim
from target_altcraft.sandbox.faults import (
    DEFAULT_CODE,
    DEFAULT_INTERIM,
    DEFAULT_REDIRECT,
    DEFAULT_STATUS,
)

if t.TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from target_altcraft.sandbox.faults import Fault
    from target_altcraft.sandbox.submission import Json

JSON = "application/json"

_DONE_TEXT = "Successful operation"
_PAGE = "<html><head><title>{0}</title></head><body><h1>{0}</h1><hr>proxy</body></html>\n"
_TEXT_BEGINS = b'"error_text":"'


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back, and what the log says of it."""

    body: bytes
    status: int = HTTPStatus.OK
    error: int | None = None
    text: str = ""
    mimetype: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


class NoAnswerError(Exception):
    """The request ends without an answer; the message says why."""


def success(answer: Json) -> Answer:
    """Return the answer of a call that was done."""
    body = msgspec.json.encode({**answer, "error": 0, "error_text": _DONE_TEXT})
    return Answer(body, error=0)


def failure(code: int, text: str, debug: str, status: int = HTTPStatus.OK) -> Answer:
    """Return the answer of a call that was refused."""
    body = msgspec.json.encode({"error": code, "error_text": text, "error_debug": debug})
    return Answer(body, status, code, text if text == debug else f"{text}: {debug}")


def disturbed(answer: Answer, fault: Fault, connection: socket.socket) -> Answer:
    """Return what the fault makes of an answer.

    Args:
        answer: The true one; where the fault's takes its place, it may say anything.
        fault: Any of those that strike after the body was read.
        connection: Where the answer will go.

    Raises:
        NoAnswerError: It makes nothing of it.
    """
    if fault.kind == "timeout":
        client_leaves(connection)
        raise NoAnswerError("no answer until the client left")
    if fault.kind == "reset_after":
        raise NoAnswerError("connection reset after the body")
    if fault.kind == "slow":
        if client_leaves(connection, fault.seconds):
            raise NoAnswerError("the client left before the slow answer")
        return answer
    if fault.kind == "interim":
        status = fault.status or DEFAULT_INTERIM
        send_interim(connection, status, _phrase(status))
        return answer
    if fault.kind in _DRESSED:
        return _DRESSED[fault.kind](answer, fault)
    return _FALSE[fault.kind](fault)


def _page(status: int, title: str) -> Answer:
    return Answer(_PAGE.format(title).encode(), status, text=title, mimetype="text/html")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _http(fault: Fault) -> Answer:
    status = fault.status or DEFAULT_STATUS
    text = fault.text or _phrase(status)
    if fault.html:
        answer = _page(status, f"{status} {text}")
    else:
        answer = failure(status if fault.code is None else fault.code, text, text, status)
    return dataclasses.replace(answer, headers=_retry_after(fault))


def _retry_after(fault: Fault) -> dict[str, str]:
    return {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}


def _body_error(fault: Fault) -> Answer:
    text = fault.text or "Invalid request"
    return failure(DEFAULT_CODE if fault.code is None else fault.code, text, text)


def _redirect(fault: Fault) -> Answer:
    page = _page(fault.status or DEFAULT_REDIRECT, "Moved")
    return dataclasses.replace(page, headers={"Location": fault.location})


_FALSE: dict[str, Callable[[Fault], Answer]] = {
    "http": _http,
    "error": _body_error,
    "html": lambda _: _page(HTTPStatus.OK, "Sign in to continue"),
    "garbage": lambda _: Answer(b'{"error": 0, "error_text": "Successful op', text="truncated"),
    "no_task_id": lambda _: success({}),
    "redirect": _redirect,
}
"""What takes the place of the true answer."""


def _with_body(answer: Answer, body: bytes) -> Answer:
    return dataclasses.replace(answer, body=body)


def _answered_as(answer: Answer, fault: Fault) -> Answer:
    return dataclasses.replace(
        answer, status=fault.status or DEFAULT_STATUS, headers=_retry_after(fault)
    )


def _nested_id(answer: Answer, _: Fault) -> Answer:
    root = msgspec.json.decode(answer.body)
    if "task_id" not in root:  # the submit was refused
        return answer
    data = {"task_id": root.pop("task_id")}
    return _with_body(answer, msgspec.json.encode({"data": data, **root}))


def _broken_text(answer: Answer, _: Fault) -> Answer:
    # Half of a Cyrillic letter, and a byte that no UTF-8 text has.
    before, mark, after = answer.body.rpartition(_TEXT_BEGINS)
    return _with_body(answer, before + mark + b"\xd0\xff " + after)


_DRESSED: dict[str, Callable[[Answer, Fault], Answer]] = {
    "answered_as": _answered_as,
    "nested_id": _nested_id,
    "bom": lambda answer, _: _with_body(answer, b"\xef\xbb\xbf" + answer.body),
    "broken_text": _broken_text,
    # Valid JSON, and more than a double holds.
    "odd_number": lambda answer, _: _with_body(answer, answer.body[:-1] + b',"took":1e999}'),
}
"""What is done to the true answer."""
