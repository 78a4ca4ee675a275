"""The HTTP side: the three API calls, the faults that disturb them, and what tests look at."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec
from flask import Flask, Response, request

from target_altcraft.sandbox.connection import BodyLost, client_leaves, reset
from target_altcraft.sandbox.faults import (
    DEFAULT_CODE,
    DEFAULT_REDIRECT,
    DEFAULT_STATUS,
    EARLY_KINDS,
    FaultError,
    parse_fault,
)
from target_altcraft.sandbox.pages import OWN, add_pages
from target_altcraft.sandbox.submission import Refusal, parse, read_submission

if t.TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from target_altcraft.sandbox.connection import RequestBody
    from target_altcraft.sandbox.faults import Fault
    from target_altcraft.sandbox.requestlog import RequestSeen
    from target_altcraft.sandbox.shown import ShownWorld
    from target_altcraft.sandbox.submission import Json
    from target_altcraft.sandbox.world import World

BASE = "/api/v1.1"
STATE_PATH = f"{OWN}state"
FAULTS_PATH = f"{OWN}faults"

_DONE_TEXT = "Successful operation"
_JSON = "application/json"
_PART_OF_BODY = 64 * 1024
_PAGE = "<html><head><title>{0}</title></head><body><h1>{0}</h1><hr>proxy</body></html>\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back, and what the log says of it."""

    body: bytes
    status: int = HTTPStatus.OK
    error: int | None = None
    text: str = ""
    mimetype: str = _JSON
    headers: dict[str, str] = field(default_factory=dict)


class NoAnswerError(Exception):
    """The request ends without an answer; the message says why."""


def create_app(
    world: ShownWorld, host: str, on_done: Callable[[RequestSeen], None] | None = None
) -> Flask:
    """Return the WSGI application over a world. It must be served by `connection.Handler`.

    Args:
        world: The state.
        host: The name it listens under.
        on_done: Told of every request to an API endpoint when it is over.
    """
    app = Flask("altcraft-sandbox", static_folder=None)
    add_pages(app, world, host)
    calls = _Calls(world, on_done)

    @app.post(f"{BASE}/workflows/import_and_start_batch_task")
    def submit() -> Response:
        return calls.serve("submit", calls.submit)

    @app.post(f"{BASE}/tasks/status")
    def status() -> Response:
        return calls.serve("status", calls.status)

    @app.post(f"{BASE}/workflows/list")
    def list_workflows() -> Response:
        return calls.serve("list", calls.list_workflows)

    @app.get(STATE_PATH)
    def state() -> Response:
        return Response(world.view_json(), mimetype=_JSON)

    @app.post(FAULTS_PATH)
    def add_fault() -> Response:
        body = t.cast("RequestBody", request.environ["wsgi.input"])
        try:
            fault = parse(body.read(_PART_OF_BODY) or b"").get("fault")
            world.add_fault(parse_fault(fault if isinstance(fault, str) else ""))
        except (Refusal, FaultError) as error:
            answer = msgspec.json.encode({"error": getattr(error, "debug", str(error))})
            return Response(answer, HTTPStatus.BAD_REQUEST, mimetype=_JSON)
        return Response(world.faults_json(), mimetype=_JSON)

    @app.delete(FAULTS_PATH)
    def clear_faults() -> Response:
        world.clear_faults()
        return Response(world.faults_json(), mimetype=_JSON)

    return app


class _Calls:
    """The API's calls over a world: reading, checking, disturbing, answering."""

    def __init__(self, world: World, on_done: Callable[[RequestSeen], None] | None) -> None:
        self._world = world
        self._on_done = on_done

    def serve(
        self, endpoint: str, call: Callable[[Json, bytes, RequestSeen, Fault | None], Json]
    ) -> Response:
        """Answer the current request, or cut its connection."""
        connection = t.cast("socket.socket", request.environ["werkzeug.socket"])
        body = t.cast("RequestBody", request.environ["wsgi.input"])
        seen = self._world.request_begins(endpoint)
        answer: Answer | None = None
        text = ""
        try:
            answer = self._answer(connection, body, seen, call)
            text = answer.text
        except (NoAnswerError, BodyLost) as ending:
            text = str(ending)
        seen.bytes = body.received
        self._world.request_ends(
            seen,
            status=answer.status if answer else None,
            error=answer.error if answer else None,
            text=text,
        )
        if self._on_done is not None:
            self._on_done(seen)
        if answer is None:
            reset(connection)
            return Response()
        return Response(answer.body, answer.status, answer.headers, mimetype=answer.mimetype)

    def _answer(
        self,
        connection: socket.socket,
        body: RequestBody,
        seen: RequestSeen,
        call: Callable[[Json, bytes, RequestSeen, Fault | None], Json],
    ) -> Answer:
        fault = self._world.claim_fault(seen.endpoint)
        seen.fault = fault.kind if fault else None
        if fault and fault.kind in EARLY_KINDS:
            if fault.kind == "reset_mid_body":
                _read_some(body)
            raise NoAnswerError("connection reset")
        raw = body.read(self._world.body_limit)
        if raw is None:
            return self._too_large(body)
        seen.bytes = body.received
        if fault is None and (fault := self._world.claim_fault(seen.endpoint, raw)):
            seen.fault = fault.kind
        try:
            answer = _success(call(self._checked(raw), raw, seen, fault))
        except Refusal as refusal:
            answer = _error(refusal.code, refusal.text, refusal.debug)
        return _disturbed(answer, fault, connection) if fault else answer

    def _too_large(self, body: RequestBody) -> Answer:
        if self._world.close_on_too_large:
            _read_some(body)
            raise NoAnswerError("connection reset: body too large")
        body.discard()
        return _error(400, "Invalid request", "http: request body too large")

    def _checked(self, raw: bytes) -> Json:
        if request.mimetype != _JSON:
            raise Refusal(400, debug="Content-Type must be application/json")
        root = parse(raw)
        bearer = request.authorization
        token = root.get("token")
        if token is None and bearer is not None and bearer.type == "bearer":
            token = bearer.token
        self._world.check_token(token)
        return root

    def submit(self, root: Json, raw: bytes, seen: RequestSeen, fault: Fault | None) -> Json:
        """`workflows/import_and_start_batch_task`."""
        entries = root.get("data")
        seen.entries = len(entries) if isinstance(entries, list) else 0
        submission = read_submission(root)
        if self._world.remember:
            seen.profiles = [identity.key for identity in submission.identities]
        if fault and fault.kind != "slow" and not fault.accept:
            return {}  # the fault's answer takes the place of this one
        return {"task_id": self._world.submit(submission, raw, seen)}

    def status(self, root: Json, _raw: bytes, seen: RequestSeen, _fault: Fault | None) -> Json:
        """`tasks/status`."""
        task_id = root.get("task_id")
        seen.task_id = task_id if isinstance(task_id, str) else None
        return {"data": self._world.task_report(task_id)}

    def list_workflows(
        self, root: Json, _raw: bytes, _seen: RequestSeen, _fault: Fault | None
    ) -> Json:
        """`workflows/list`."""
        return {"data": self._world.list_workflows(root.get("from_id", 0), root.get("limit", 100))}


def _read_some(body: RequestBody) -> None:
    """Read a part, and never all, of a body: what is left unread is lost with the connection."""
    announced = _PART_OF_BODY if body.announced is None else body.announced // 2
    if announced:
        body.read_part(min(_PART_OF_BODY, announced))


def _success(answer: Json) -> Answer:
    return Answer(
        msgspec.json.encode({**answer, "error": 0, "error_text": _DONE_TEXT}), error=0, text=""
    )


def _error(code: int, text: str, debug: str, status: int = HTTPStatus.OK) -> Answer:
    body = msgspec.json.encode({"error": code, "error_text": text, "error_debug": debug})
    return Answer(body, status, code, text if text == debug else f"{text}: {debug}")


def _page(status: int, title: str) -> Answer:
    return Answer(_PAGE.format(title).encode(), status, text=title, mimetype="text/html")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _disturbed(answer: Answer, fault: Fault, connection: socket.socket) -> Answer:
    """Return what the fault makes of an answer.

    Raises:
        NoAnswerError: It makes nothing of it.
    """
    if fault.kind in ("reset_after", "timeout"):
        if fault.kind == "timeout":
            client_leaves(connection)
            raise NoAnswerError("no answer until the client left")
        raise NoAnswerError("connection reset after the body")
    if fault.kind == "slow":
        if client_leaves(connection, fault.seconds):
            raise NoAnswerError("the client left before the slow answer")
        return answer
    return _FALSE_ANSWERS[fault.kind](fault)


def _http(fault: Fault) -> Answer:
    status = fault.status or DEFAULT_STATUS
    text = fault.text or _phrase(status)
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    if fault.html:
        answer = _page(status, f"{status} {text}")
    else:
        answer = _error(status if fault.code is None else fault.code, text, text, status)
    return Answer(answer.body, answer.status, answer.error, answer.text, answer.mimetype, headers)


def _body_error(fault: Fault) -> Answer:
    text = fault.text or "Invalid request"
    return _error(DEFAULT_CODE if fault.code is None else fault.code, text, text)


def _redirect(fault: Fault) -> Answer:
    page = _page(fault.status or DEFAULT_REDIRECT, "Moved")
    return Answer(
        page.body, page.status, None, page.text, page.mimetype, {"Location": fault.location}
    )


_FALSE_ANSWERS: dict[str, Callable[[Fault], Answer]] = {
    "http": _http,
    "error": _body_error,
    "html": lambda _: _page(HTTPStatus.OK, "Sign in to continue"),
    "garbage": lambda _: Answer(b'{"error": 0, "error_text": "Successful op', text="truncated"),
    "no_task_id": lambda _: _success({}),
    "redirect": _redirect,
}
