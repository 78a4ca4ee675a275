"""The HTTP side: the three API calls, the faults that disturb them, and what tests look at."""

from __future__ import annotations

import typing as t
from http import HTTPStatus

import msgspec
from flask import Flask, Response, request

from target_altcraft.sandbox.answers import JSON, NoAnswerError, disturbed, failure, success
from target_altcraft.sandbox.connection import BodyLost, reset
from target_altcraft.sandbox.faults import EARLY_KINDS, TRUE_KINDS, FaultError, parse_fault
from target_altcraft.sandbox.pages import OWN, add_pages
from target_altcraft.sandbox.submission import Refusal, parse, read_submission

if t.TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.datastructures import Headers

    from target_altcraft.sandbox.answers import Answer
    from target_altcraft.sandbox.connection import RequestBody
    from target_altcraft.sandbox.faults import Fault
    from target_altcraft.sandbox.requestlog import RequestSeen
    from target_altcraft.sandbox.shown import ShownWorld
    from target_altcraft.sandbox.submission import Json
    from target_altcraft.sandbox.world import World

BASE = "/api/v1.1"
STATE_PATH = f"{OWN}state"
FAULTS_PATH = f"{OWN}faults"
UNSUBSCRIBE_PATH = f"{OWN}unsubscribe"

_PART_OF_BODY = 64 * 1024


class AsIs(Response):
    """A response whose `Location` goes out as it is, be it no URL at all.

    Werkzeug's own response would mend it, or fail on it.
    """

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:
        """Return the headers that are sent."""
        location = self.headers.pop("Location", None)
        headers = super().get_wsgi_headers(environ)
        if location is not None:
            headers["Location"] = location
        return headers


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
        return Response(world.view_json(), mimetype=JSON)

    @app.post(FAULTS_PATH)
    def add_fault() -> Response:
        try:
            fault = _own_body().get("fault")
            world.add_fault(parse_fault(fault if isinstance(fault, str) else ""))
        except (Refusal, FaultError) as error:
            return _bad(getattr(error, "debug", str(error)))
        return Response(world.faults_json(), mimetype=JSON)

    @app.post(UNSUBSCRIBE_PATH)
    def unsubscribe() -> Response:
        return _unsubscribe(world)

    @app.delete(FAULTS_PATH)
    def clear_faults() -> Response:
        world.clear_faults()
        return Response(world.faults_json(), mimetype=JSON)

    return app


def _own_body() -> Json:
    """Return what a request to one of the sandbox's own endpoints holds.

    Raises:
        Refusal: It is no JSON object.
    """
    body = t.cast("RequestBody", request.environ["wsgi.input"])
    return parse(body.read(_PART_OF_BODY) or b"")


def _bad(reason: str) -> Response:
    return Response(msgspec.json.encode({"error": reason}), HTTPStatus.BAD_REQUEST, mimetype=JSON)


def _unsubscribe(world: World) -> Response:
    try:
        asked = _own_body()
    except Refusal as refusal:
        return _bad(refusal.debug)
    address, channel = asked.get("address"), asked.get("channel")
    resource_id = asked.get("resource_id")
    if not isinstance(address, str) or not address.strip():
        return _bad("address is missing: an e-mail, a phone, a push token or a chat id")
    if not isinstance(channel, str | None) or not isinstance(resource_id, int | None):
        return _bad("channel is a string and resource_id an integer")
    changed = world.unsubscribe(address, channel=channel, resource_id=resource_id)
    return Response(msgspec.json.encode({"unsubscribed": changed}), mimetype=JSON)


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
        return AsIs(answer.body, answer.status, answer.headers, mimetype=answer.mimetype)

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
            answer = success(call(self._checked(raw), raw, seen, fault))
        except Refusal as refusal:
            answer = failure(refusal.code, refusal.text, refusal.debug)
        return disturbed(answer, fault, connection) if fault else answer

    def _too_large(self, body: RequestBody) -> Answer:
        if self._world.close_on_too_large:
            _read_some(body)
            raise NoAnswerError("connection reset: body too large")
        body.discard()
        return failure(400, "Invalid request", "http: request body too large")

    def _checked(self, raw: bytes) -> Json:
        if request.mimetype != JSON:
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
        if fault and fault.kind not in TRUE_KINDS and not fault.accept:
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
