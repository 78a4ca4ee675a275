from __future__ import annotations

import contextlib
import email.utils
import json
import logging
import math
import queue
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
import traceback
import typing as t
from dataclasses import dataclass
from importlib.metadata import version

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from target_altcraft.batch import Envelope
from target_altcraft.client import (
    LIST,
    STATUS,
    SUBMIT,
    USER_AGENT,
    Body,
    Client,
    Halted,
    TaskStatus,
    meaning,
)
from target_altcraft.errors import (
    ApiError,
    Fatal,
    LostInBody,
    NotAccepted,
    OutcomeUnknown,
    Refused,
    TooLarge,
)
from target_altcraft.settings import resolve

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from target_altcraft.settings import Settings

TOKEN = "tok-3f9a-secret"
PROFILE = "ada.lovelace@b.example"
ENTRIES = [f'{{"data":{{"email":"{PROFILE}"}}}}'.encode(), b'{"data":{"email":"b@c"}}']
ACCEPTED = {"error": 0, "error_text": "Successful operation", "task_id": "30421978-7f6d"}
MEGABYTE = 1_000_000


def around(start: bytes, end: bytes) -> Envelope:
    return Envelope(start, end, len(start) + len(end))


AROUND = around(f'{{"token":"{TOKEN}","workflow_id":12,"data":['.encode(), b"]}")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)


# A server that does as it is told


class Exchange:
    """One request, as the server sees it."""

    def __init__(self, connection: socket.socket, head: bytes, rest: bytes) -> None:
        self.connection = connection
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = lines[0].split(" ", 2)
        pairs = (line.split(":", 1) for line in lines[1:] if line)
        self.headers = {name.lower(): value.strip() for name, value in pairs}
        self._received = bytearray(rest)

    @property
    def body(self) -> bytes:
        return bytes(self._received)

    def read_body(self, size: int | None = None) -> None:
        """Read the body, or its first bytes."""
        wanted = int(self.headers["content-length"]) if size is None else size
        while len(self._received) < wanted:
            received = self.connection.recv(1 << 20)
            if not received:
                return
            self._received += received

    def answer(
        self, body: object, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        """Answer with JSON, or with bytes as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"Content-Length": str(len(content)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.connection.sendall(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode("latin-1") + content)

    def reset(self) -> None:
        """Break the connection so that the other side notices at once."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()


Step = t.Callable[[Exchange], None]


def answers(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Step:
    """Read the request, then answer."""

    def step(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.answer(body, status, headers)

    return step


def resets_after(size: int | None) -> Step:
    """Read so much of the body, or all of it, then break the connection."""

    def step(exchange: Exchange) -> None:
        exchange.read_body(size)
        exchange.reset()

    return step


def never_answers(exchange: Exchange) -> None:
    """Read the request, then wait until the client has gone."""
    exchange.read_body()
    exchange.connection.settimeout(30)
    exchange.connection.recv(1)


class Server:
    """Serves one connection after the other, each request by the next step."""

    def __init__(self, *steps: Step, context: ssl.SSLContext | None = None) -> None:
        self.exchanges: list[Exchange] = []
        self.connections = 0
        self._steps = queue.SimpleQueue[Step]()
        for step in steps:
            self._steps.put(step)
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._current: socket.socket | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        return f"http{'s' if self._context else ''}://127.0.0.1:{self.port}"

    def __enter__(self) -> Server:  # noqa: PYI034 - typing.Self is newer than our oldest Python
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        if self._current is not None:
            with contextlib.suppress(OSError):
                self._current.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        self._listener.close()
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        while not self._stopping:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._current = connection
            with connection, contextlib.suppress(OSError, queue.Empty):
                self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True)
        while True:
            data = b""
            while b"\r\n\r\n" not in data:
                received = connection.recv(65536)
                if not received:
                    return
                data += received
            head, rest = data.split(b"\r\n\r\n", 1)
            exchange = Exchange(connection, head, rest)
            self.exchanges.append(exchange)
            self._steps.get_nowait()(exchange)


class Clock:
    """Stands in for the module `time` where the client uses it."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class Halt(threading.Event):
    """The event `halt`: each wait takes no time but the clock's."""

    def __init__(self, clock: Clock | None = None, *, halts_in: float = math.inf) -> None:
        super().__init__()
        self.clock = clock
        self.waits: list[float] = []
        self._halts_in = halts_in

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        if self.clock is not None:
            self.clock.now += timeout
        if sum(self.waits) >= self._halts_in:
            self.set()
        return self.is_set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stands_in = Clock()
    monkeypatch.setattr("target_altcraft.client.time", stands_in)
    return stands_in


def run_settings(url: str, **values: t.Any) -> Settings:
    return resolve({"api_url": url, "token": TOKEN, "request_timeout_seconds": 30, **values})


@contextlib.contextmanager
def client_of(url: str, halt: threading.Event | None = None, **values: t.Any) -> Iterator[Client]:
    client = Client(run_settings(url, **values), halt or Halt())
    try:
        yield client
    finally:
        client.close()


def submitted(
    server: Server,
    *,
    entries: Sequence[bytes] = ENTRIES,
    divisible: bool = True,
    halt: threading.Event | None = None,
    **values: t.Any,
) -> str:
    with client_of(server.url, halt, **values) as client:
        return client.submit(Body(AROUND, entries), divisible=divisible)


def failed(
    kind: type[Exception],
    *steps: Step,
    entries: Sequence[bytes] = ENTRIES,
    divisible: bool = True,
    halt: threading.Event | None = None,
    **values: t.Any,
) -> ApiError:
    """The error of a submit to a server of these steps; it shows neither token nor profile."""
    with Server(*steps) as server, pytest.raises(kind) as caught:
        submitted(server, entries=entries, divisible=divisible, halt=halt, **values)
    return shows_nothing(caught.value, kind)


def shows_nothing(error: Exception, kind: type[Exception]) -> ApiError:
    assert type(error) is kind
    assert isinstance(error, ApiError)
    for text in (str(error), repr(error), "".join(traceback.format_exception(error))):
        assert TOKEN not in text
        assert PROFILE not in text
    return error


def status_error(kind: type[Exception], step: Step, **values: t.Any) -> ApiError:
    with (
        Server(step) as server,
        client_of(server.url, **values) as client,
        pytest.raises(kind) as caught,
    ):
        client.status("30421978", 30)
    return shows_nothing(caught.value, kind)


def many(size: int) -> list[bytes]:
    """Entries of so many bytes in all."""
    entry = b'{"data":{"email":"b@c","pad":"' + b"x" * 9_970 + b'"}}'
    return [entry] * (size // len(entry))


# The body


def test_body_is_the_envelope_around_the_entries() -> None:
    body = Body(around(b"<", b">"), [b"one", b"two", b"three"])
    assert b"".join(body) == b"<one,two,three>"
    assert len(body) == 15


@settings(deadline=None)
@given(
    st.binary(max_size=30),
    st.binary(max_size=30),
    st.lists(st.binary(max_size=20), max_size=20),
    st.integers(min_value=1, max_value=60),
)
def test_any_body_has_the_length_it_says(
    start: bytes, end: bytes, entries: list[bytes], chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("target_altcraft.client._CHUNK_BYTES", chunk)
        body = Body(around(start, end), entries)
        for _ in range(2):
            body.rewind()
            joined = b"".join(body)
            assert joined == start + b",".join(entries) + end
            assert len(body) == len(joined)
            assert body.handed_over


def test_body_is_joined_in_chunks_while_it_is_sent() -> None:
    chunks = list(Body(AROUND, many(10 * MEGABYTE)))
    assert len(chunks) > 10
    assert max(map(len, chunks)) < MEGABYTE


def test_body_knows_how_far_it_got() -> None:
    body = Body(AROUND, many(MEGABYTE))

    def far() -> tuple[bool, bool]:
        return body.started, body.handed_over

    chunks = iter(body)
    assert far() == (False, False)
    taken = [next(chunks)]
    assert far() == (True, False)
    while sum(map(len, taken)) < len(body):
        taken.append(next(chunks))
    assert far() == (True, False)  # it is not known yet whether the last chunk was taken
    assert next(chunks, None) is None
    assert far() == (True, True)
    body.rewind()
    assert far() == (False, False)


# A request, as it stands on the wire


def test_submit_posts_the_body_and_returns_the_task_id() -> None:
    with Server(answers(ACCEPTED)) as server:
        assert submitted(server) == "30421978-7f6d"
    (exchange,) = server.exchanges
    assert (exchange.method, exchange.path) == ("POST", f"/api/v1.1/{SUBMIT}")
    assert exchange.body == b"".join(Body(AROUND, ENTRIES))
    assert exchange.headers["content-type"] == "application/json"
    assert exchange.headers["content-length"] == str(len(exchange.body))
    assert exchange.headers["user-agent"] == USER_AGENT
    assert "transfer-encoding" not in exchange.headers
    assert "authorization" not in exchange.headers


def test_user_agent_names_the_installed_version() -> None:
    assert f"target-altcraft/{version('target-altcraft')}" == USER_AGENT


def test_large_body_arrives_whole() -> None:
    entries = many(10 * MEGABYTE)
    with Server(answers(ACCEPTED)) as server:
        submitted(server, entries=entries)
    assert server.exchanges[0].body == b"".join(Body(AROUND, entries))


def test_status_posts_token_and_task_in_the_body() -> None:
    answer = {"error": 0, "data": {"status": "completed"}}
    with Server(answers(answer)) as server, client_of(server.url) as client:
        client.status("task_3042/ы", 5)
    (exchange,) = server.exchanges
    assert exchange.path == f"/api/v1.1/{STATUS}"
    assert json.loads(exchange.body) == {"token": TOKEN, "task_id": "task_3042/ы"}
    assert exchange.headers["content-type"] == "application/json"


def test_methods_of_the_api_are_those_of_the_guide() -> None:
    assert SUBMIT == "workflows/import_and_start_batch_task"
    assert STATUS == "tasks/status"
    assert LIST == "workflows/list"


def test_connection_that_was_just_used_is_kept(clock: Clock) -> None:
    with Server(*[answers(ACCEPTED)] * 3) as server, client_of(server.url) as client:
        for _ in range(3):
            client.submit(Body(AROUND, ENTRIES), divisible=True)
            clock.now += 0.5
    assert server.connections == 1


def test_idle_connection_is_not_reused_for_a_submit(clock: Clock) -> None:
    with Server(*[answers(ACCEPTED)] * 2) as server, client_of(server.url) as client:
        for _ in range(2):
            client.submit(Body(AROUND, ENTRIES), divisible=True)
            clock.now += 2
    assert server.connections == 2


# What the environment may and may not do


def test_netrc_is_never_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login ada password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    with Server(answers(ACCEPTED)) as server:
        submitted(server)
    assert "authorization" not in server.exchanges[0].headers


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_loopback_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with Server() as proxy, Server(answers(ACCEPTED)) as server:
        monkeypatch.setenv(name, proxy.url)
        assert submitted(server)
    assert proxy.connections == 0


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_another_host_is_reached_through_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(exchange: Exchange) -> None:
        exchange.answer(b"", 403)

    with Server(refuse) as proxy:
        monkeypatch.setenv(name, proxy.url)
        with (
            client_of("https://altcraft.invalid", retry_max_seconds=0) as client,
            pytest.raises(Fatal) as caught,
        ):
            client.submit(Body(AROUND, ENTRIES), divisible=True)
    shows_nothing(caught.value, Fatal)
    assert proxy.exchanges[0].method == "CONNECT"
    assert proxy.exchanges[0].path == "altcraft.invalid:443"
    assert "the proxy did not connect" in str(caught.value)


def test_no_proxy_of_the_environment_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object, **__: object) -> t.NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    with Server() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "altcraft.invalid")
        monkeypatch.setattr(socket, "getaddrinfo", nowhere)
        with (
            client_of("https://altcraft.invalid", retry_max_seconds=0) as client,
            pytest.raises(Fatal, match="the host's name was not found"),
        ):
            client.submit(Body(AROUND, ENTRIES), divisible=True)
    assert proxy.connections == 0


@dataclass
class Certificate:
    """A certificate for 127.0.0.1 that nobody but itself has signed."""

    path: Path
    context: ssl.SSLContext


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is needed to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = (
        f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -keyout"
    )
    subprocess.run([*command.split(), key, "-out", cert], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return Certificate(cert, context)


def test_certificate_that_nobody_vouches_for_is_fatal_at_once(certificate: Certificate) -> None:
    halt = Halt()
    with Server(context=certificate.context) as server, pytest.raises(Fatal) as caught:
        submitted(server, halt=halt)
    assert "the server's certificate was refused: self" in str(caught.value)
    shows_nothing(caught.value, Fatal)
    assert server.exchanges == []
    assert halt.waits == []


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_bundle_of_the_environment_vouches_for_a_certificate(
    monkeypatch: pytest.MonkeyPatch, certificate: Certificate, name: str
) -> None:
    monkeypatch.setenv(name, str(certificate.path))
    with Server(answers(ACCEPTED), context=certificate.context) as server:
        assert submitted(server) == "30421978-7f6d"


def test_missing_bundle_is_fatal_at_once_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: Clock
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nothing.pem"))
    halt = Halt(clock)
    with (
        Server() as server,
        client_of(f"https://127.0.0.1:{server.port}", halt) as client,
        pytest.raises(Fatal) as caught,
    ):
        client.submit(Body(AROUND, ENTRIES), divisible=True)
    assert halt.waits == []
    assert "CA" in str(caught.value)


# What an answer means


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (429, NotAccepted),
        (503, NotAccepted),
        (413, TooLarge),
        (400, Refused),
        (301, Fatal),
        (302, Fatal),
        (308, Fatal),
        (401, Fatal),
        (402, Fatal),
        (403, Fatal),
        (404, Fatal),
        (405, Fatal),
        (409, Fatal),
        (418, Fatal),
        (422, Fatal),
        (451, Fatal),
        (499, Fatal),
        (500, OutcomeUnknown),
        (501, OutcomeUnknown),
        (502, OutcomeUnknown),
        (504, OutcomeUnknown),
        (599, OutcomeUnknown),
        (1, OutcomeUnknown),
        (-1, OutcomeUnknown),
        (100, OutcomeUnknown),
        (299, OutcomeUnknown),
        (600, OutcomeUnknown),
        (10_001, OutcomeUnknown),
    ],
)
def test_code_means_one_kind_of_error(code: int, kind: type[ApiError]) -> None:
    assert meaning(code, redirects=True) is kind
    assert meaning(code, too_large=True) is TooLarge


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, NotAccepted),
        (503, NotAccepted),
        (413, TooLarge),
        (400, Refused),
        (304, Fatal),
        (401, Fatal),
        (403, Fatal),
        (404, Fatal),
        (500, OutcomeUnknown),
        (502, OutcomeUnknown),
        (504, OutcomeUnknown),
    ],
)
@pytest.mark.parametrize("body", [b"<html>busy</html>", b"", {"error": 0}, [1], {"error": "x"}])
def test_http_status_means_its_kind_whatever_the_body(
    status: int, kind: type[ApiError], body: object
) -> None:
    content = b"" if status == 304 else body
    error = status_error(kind, answers(content, status))
    assert error.code == status
    assert f"HTTP {status}" in error.text
    assert error.endpoint == STATUS


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (429, NotAccepted),
        (503, NotAccepted),
        (413, TooLarge),
        (400, Refused),
        (401, Fatal),
        (402, Fatal),
        (403, Fatal),
        (404, Fatal),
        (450, Fatal),
        (500, OutcomeUnknown),
        (502, OutcomeUnknown),
        (7, OutcomeUnknown),
        ("401", Fatal),
    ],
)
def test_error_in_a_200_means_its_kind(code: int | str, kind: type[ApiError]) -> None:
    error = status_error(kind, answers({"error": code, "error_text": "So it is"}))
    assert error.code == int(code)
    assert error.text == f"error {code}, So it is"


@pytest.mark.parametrize("status", [200, 400, 413, 500])
def test_too_large_a_body_is_known_by_its_words(status: int) -> None:
    answer = {
        "error": 400,
        "error_debug": "http: request body too large",
        "error_text": "Invalid request",
    }
    assert failed(TooLarge, answers(answer, status)).text.endswith("Invalid request")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, 401, Fatal),
        (400, 402, Fatal),
        (400, 403, Fatal),
        (400, 429, NotAccepted),
        (400, 503, NotAccepted),
        (500, 429, NotAccepted),
        (500, 401, Fatal),
    ],
)
def test_code_of_the_body_counts_beside_an_http_status_that_says_less(
    status: int, code: int, kind: type[ApiError]
) -> None:
    status_error(kind, answers({"error": code, "error_text": "So it is"}, status))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, NotAccepted),
        (503, NotAccepted),
        (307, Fatal),
        (401, Fatal),
        (403, Fatal),
        (404, Fatal),
        (413, TooLarge),
    ],
)
def test_http_status_counts_beside_a_code_of_the_body_that_says_less(
    status: int, kind: type[ApiError]
) -> None:
    status_error(kind, answers({"error": 400, "error_text": "Invalid request"}, status))


def test_code_of_the_body_in_the_three_hundreds_leaves_the_outcome_open() -> None:
    status_error(OutcomeUnknown, answers({"error": 350}))


UNREADABLE: list[object] = [
    b"",
    b"<html><body>Welcome</body></html>",
    b"garbage \xff\xfe",
    b'{"error": 0, "task_id": "3042',
    b"null",
    b"[]",
    b"[" * 50_000,
    b'"0"',
    {},
    {"task_id": "3042"},
    {"error": None, "task_id": "3042"},
    {"error": "", "task_id": "3042"},
    {"error": "oops", "task_id": "3042"},
    {"error": [0], "task_id": "3042"},
]


@pytest.mark.parametrize("body", UNREADABLE, ids=lambda body: repr(body)[:30])
def test_unreadable_200_leaves_the_outcome_open(body: object) -> None:
    error = failed(OutcomeUnknown, answers(body))
    assert "is not Altcraft's JSON" in error.text


@pytest.mark.parametrize("task_id", [None, "", 3042, ["3042"], {}])
def test_answer_without_a_task_id_leaves_the_outcome_open(task_id: object) -> None:
    error = failed(OutcomeUnknown, answers({"error": 0, "task_id": task_id}))
    assert error.text == "the answer names no task_id"


def test_answer_without_the_key_task_id_leaves_the_outcome_open() -> None:
    failed(OutcomeUnknown, answers({"error": 0}))


def test_success_may_be_told_by_a_text() -> None:
    with Server(answers({"error": "0", "task_id": "3042"}, 201)) as server:
        assert submitted(server) == "3042"


def test_server_may_say_what_it_likes_and_token_and_profile_are_masked() -> None:
    said = f"token {TOKEN} of {PROFILE}, +7 (900) 123-45-67, is wrong " + "x" * 500
    error = failed(Fatal, answers({"error": 401, "error_text": said, "error_debug": PROFILE}))
    assert error.text.startswith("error 401, token *** of *** ***, is wrong xxx")
    assert "900" not in str(error)
    assert len(error.text) < 230


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed(status: int) -> None:
    with Server() as elsewhere:
        halt = Halt()
        target = {"Location": f"{elsewhere.url}/{TOKEN}"}
        error = failed(Fatal, answers(b"", status, target), halt=halt)
    assert elsewhere.connections == 0
    assert halt.waits == []
    assert error.code == status
    assert "redirects are not followed; api_url must name the API itself" in str(error)


# Broken connections, by how far the body got


def test_nobody_listening_is_not_accepted(clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    halt = Halt(clock)
    with (
        client_of(f"http://127.0.0.1:{port}", halt, retry_max_seconds=20) as client,
        pytest.raises(Fatal) as caught,
    ):
        client.submit(Body(AROUND, ENTRIES), divisible=True)
    error = shows_nothing(caught.value, Fatal)
    assert error.text == ("the connection was refused; not accepted within retry_max_seconds (20)")
    assert error.code is None
    assert len(halt.waits) > 1


def test_unknown_host_is_not_accepted(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    def nowhere(*_: object, **__: object) -> t.NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    halt = Halt(clock)
    with (
        client_of("https://altcraft.invalid", halt, retry_max_seconds=20) as client,
        pytest.raises(Fatal, match="the host's name was not found; not accepted within"),
    ):
        client.submit(Body(AROUND, ENTRIES), divisible=True)
    assert len(halt.waits) > 1


def test_connection_that_takes_too_long_is_not_accepted(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    def slow(*_: object, **__: object) -> t.NoReturn:
        raise TimeoutError

    monkeypatch.setattr("urllib3.util.connection.create_connection", slow)
    halt = Halt(clock)
    with (
        client_of("https://altcraft.invalid", halt, retry_max_seconds=20) as client,
        pytest.raises(Fatal, match="no connection within 30 seconds; not accepted within"),
    ):
        client.submit(Body(AROUND, ENTRIES), divisible=True)
    assert len(halt.waits) > 1


@pytest.mark.parametrize("size", [0, 300_000])
def test_connection_lost_in_the_body_is_told_to_who_could_send_it_in_parts(size: int) -> None:
    halt = Halt()
    error = failed(LostInBody, resets_after(size), entries=many(20 * MEGABYTE), halt=halt)
    assert error.text == "the connection was lost while sending"
    assert halt.waits == []


def test_connection_lost_in_the_body_of_a_single_record_is_made_again() -> None:
    entries = [b"x" * 20 * MEGABYTE]
    with Server(resets_after(0), resets_after(100_000), answers(ACCEPTED)) as server:
        halt = Halt()
        assert submitted(server, entries=entries, divisible=False, halt=halt) == "30421978-7f6d"
    assert len(halt.waits) == 2
    assert server.exchanges[-1].body == b"".join(Body(AROUND, entries))


def test_server_that_stops_reading_the_body_has_not_accepted_it() -> None:
    gone = threading.Event()

    def stall(_: Exchange) -> None:
        assert gone.wait(30)

    with Server(stall) as server:
        try:
            with pytest.raises(LostInBody):
                submitted(server, entries=many(20 * MEGABYTE), request_timeout_seconds=0.2)
        finally:
            gone.set()


def test_connection_lost_after_the_body_leaves_the_outcome_open() -> None:
    error = failed(OutcomeUnknown, resets_after(None))
    assert error.text == "the connection was lost before the answer"
    assert error.code is None


def test_connection_closed_after_the_body_leaves_the_outcome_open() -> None:
    def close(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.connection.shutdown(socket.SHUT_RDWR)

    failed(OutcomeUnknown, close)


def test_answer_that_breaks_off_leaves_the_outcome_open() -> None:
    def break_off(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.answer(ACCEPTED, headers={"Content-Length": "5000"})
        exchange.connection.shutdown(socket.SHUT_RDWR)

    failed(OutcomeUnknown, break_off)


def test_answer_that_is_no_http_leaves_the_outcome_open() -> None:
    def babble(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.connection.sendall(b"\x15\x03\x03 hello\r\n\r\n")
        exchange.connection.shutdown(socket.SHUT_RDWR)

    failed(OutcomeUnknown, babble)


def test_odd_error_after_the_body_leaves_the_outcome_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def post(*_: object, data: Body, **__: object) -> t.NoReturn:
        list(data)
        raise OSError("out of the blue")

    monkeypatch.setattr("requests.Session.post", post)
    with client_of("https://altcraft.invalid") as client, pytest.raises(OutcomeUnknown):
        client.submit(Body(AROUND, ENTRIES), divisible=True)


def test_no_answer_in_time_leaves_the_outcome_open() -> None:
    error = failed(OutcomeUnknown, never_answers, request_timeout_seconds=0.1)
    assert error.text == "no answer within 0.1 seconds"


def test_refusal_before_the_whole_body_was_sent_is_heard_or_counts_as_lost() -> None:
    def refuse(exchange: Exchange) -> None:
        exchange.read_body(300_000)
        exchange.answer({"error": 400, "error_debug": "http: request body too large"}, 400)
        exchange.reset()

    with Server(refuse) as server, pytest.raises((TooLarge, LostInBody)):
        submitted(server, entries=many(20 * MEGABYTE))


def test_each_attempt_is_judged_by_its_own_body() -> None:
    # The first attempt hands the whole body over; the second loses it on the way.
    busy = answers(b"", 503, {"Retry-After": "0"})
    entries = many(20 * MEGABYTE)
    failed(LostInBody, busy, resets_after(100_000), entries=entries)


# Repeating


def test_not_accepted_is_made_again_with_the_same_body() -> None:
    halt = Halt()
    steps = [answers(b"", 503), answers({"error": 429}), answers(ACCEPTED)]
    with Server(*steps) as server:
        assert submitted(server, halt=halt) == "30421978-7f6d"
    assert len({exchange.body for exchange in server.exchanges}) == 1
    assert len(halt.waits) == 2


def test_waits_grow_at_random_up_to_their_longest(clock: Clock) -> None:
    halt = Halt(clock)
    with Server(*[answers(b"", 503)] * 400) as server, pytest.raises(Fatal):
        submitted(server, halt=halt, retry_max_seconds=2000)
    assert len(set(halt.waits)) > len(halt.waits) / 2  # full jitter
    assert all(wait <= 0.5 * 2**place for place, wait in enumerate(halt.waits))
    assert 15 < max(halt.waits) <= 30


@pytest.mark.parametrize("seconds", ["0", "7", " 7 ", "120"])
def test_retry_after_in_seconds_is_waited_for(seconds: str, clock: Clock) -> None:
    halt = Halt(clock)
    busy = answers(b"", 503, {"Retry-After": seconds})
    with Server(busy, answers(ACCEPTED)) as server:
        submitted(server, halt=halt)
    assert halt.waits == [float(seconds)]


@pytest.mark.parametrize(("offset", "waited"), [(7, 7), (0, 0), (-3600, 0)])
def test_retry_after_as_a_date_is_waited_for(offset: int, waited: int, clock: Clock) -> None:
    halt = Halt(clock)
    date = email.utils.formatdate(clock.now + offset, usegmt=True)
    with Server(answers(b"", 429, {"Retry-After": date}), answers(ACCEPTED)) as server:
        submitted(server, halt=halt)
    assert halt.waits == [waited]


@pytest.mark.parametrize(
    "value", ["", "soon", "-5", "1.5", "7 seconds", "Mon, 99 Jan 2024", "1, 2"]
)
def test_retry_after_that_says_nothing_is_ignored(value: str) -> None:
    error = status_error(NotAccepted, answers(b"", 503, {"Retry-After": value}))
    assert error.retry_after is None


def test_retry_after_comes_with_any_error() -> None:
    error = status_error(OutcomeUnknown, answers(b"", 500, {"Retry-After": "9"}))
    assert error.retry_after == 9


def test_retry_after_with_a_digit_that_is_no_number_is_ignored() -> None:
    error = status_error(NotAccepted, answers(b"", 503, {"Retry-After": "²"}))
    assert error.retry_after is None


@pytest.fixture
def far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Vladivostok")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_from_greenwich")
def test_retry_after_in_the_form_of_asctime_is_in_utc() -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = Clock()
        monkeypatch.setattr("target_altcraft.client.time", clock)
        date = time.asctime(time.gmtime(clock.now + 60))
        error = status_error(NotAccepted, answers(b"", 503, {"Retry-After": date}))
    assert error.retry_after == 60


def test_repeating_ends_within_retry_max_seconds(clock: Clock) -> None:
    halt = Halt(clock)
    steps = [answers({"error": 503, "error_text": "Maintenance"})] * 400
    error = failed(Fatal, *steps, halt=halt, retry_max_seconds=100)
    assert error.text == ("error 503, Maintenance; not accepted within retry_max_seconds (100)")
    assert error.code == 503
    assert 50 < sum(halt.waits) <= 100


def test_retry_after_beyond_retry_max_seconds_is_not_waited_for(clock: Clock) -> None:
    halt = Halt(clock)
    busy = answers(b"", 503, {"Retry-After": "101"})
    failed(Fatal, busy, halt=halt, retry_max_seconds=100)
    assert halt.waits == []


def test_nothing_is_repeated_where_retry_max_seconds_is_zero(clock: Clock) -> None:
    halt = Halt(clock)
    failed(Fatal, answers(b"", 503), halt=halt, retry_max_seconds=0)
    assert halt.waits == []


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (answers({"error": 400}), Refused),
        (answers({"error": 401}), Fatal),
        (answers(b"", 413), TooLarge),
        (answers(b"", 500), OutcomeUnknown),
        (answers(b"", 307), Fatal),
        (resets_after(None), OutcomeUnknown),
    ],
)
def test_nothing_else_is_repeated(step: Step, kind: type[ApiError]) -> None:
    halt = Halt()
    failed(kind, step, answers(ACCEPTED), halt=halt)
    assert halt.waits == []


def test_status_is_asked_once_only() -> None:
    halt = Halt()
    with (
        Server(answers(b"", 503), answers(ACCEPTED)) as server,
        client_of(server.url, halt) as client,
        pytest.raises(NotAccepted),
    ):
        client.status("3042", 30)
    assert len(server.exchanges) == 1
    assert halt.waits == []


def test_halt_before_the_submit_sends_nothing() -> None:
    halt = Halt()
    halt.set()
    with Server(answers(ACCEPTED)) as server, pytest.raises(Halted):
        submitted(server, halt=halt)
    assert server.connections == 0


def test_halt_ends_the_wait_and_nothing_is_repeated(clock: Clock) -> None:
    halt = Halt(clock, halts_in=0)
    busy = answers(b"", 503, {"Retry-After": "90"})
    with Server(busy, answers(ACCEPTED)) as server, pytest.raises(Halted):
        submitted(server, halt=halt)
    assert len(server.exchanges) == 1


def test_halt_from_another_thread_ends_the_wait() -> None:
    halt = threading.Event()

    def busy(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.answer(b"", 503, {"Retry-After": "200"})
        halt.set()

    with Server(busy, answers(ACCEPTED)) as server, pytest.raises(Halted):
        submitted(server, halt=halt)
    assert len(server.exchanges) == 1


# What is told to who keeps a journal


class Journal:
    """Notes when a request goes on the wire, and when it is known not to be accepted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def on(self) -> None:
        self.notes.append("on")

    def off(self) -> None:
        self.notes.append("off")


@pytest.mark.parametrize(
    ("steps", "kind", "notes"),
    [
        ([answers(ACCEPTED)], None, ["on"]),
        ([answers(b"", 503), answers(ACCEPTED)], None, ["on", "off", "on"]),
        ([answers({"error": 400})], Refused, ["on", "off"]),
        ([answers({"error": 401})], Fatal, ["on", "off"]),
        ([answers(b"", 413)], TooLarge, ["on", "off"]),
        ([answers(b"", 307)], Fatal, ["on", "off"]),
        ([resets_after(0)], LostInBody, ["on", "off"]),
        ([answers(b"", 500)], OutcomeUnknown, ["on"]),
        ([answers(b"oops")], OutcomeUnknown, ["on"]),
        ([answers({"error": 0})], OutcomeUnknown, ["on"]),
        ([resets_after(None)], OutcomeUnknown, ["on"]),
    ],
)
def test_journal_is_told_what_is_on_the_wire(
    steps: list[Step], kind: type[ApiError] | None, notes: list[str]
) -> None:
    journal = Journal()
    body = Body(AROUND, many(20 * MEGABYTE) if kind is LostInBody else ENTRIES, journal)
    with Server(*steps) as server, client_of(server.url) as client:
        if kind is None:
            client.submit(body, divisible=True)
        else:
            with pytest.raises(kind):
                client.submit(body, divisible=True)
    assert journal.notes == notes


def test_journal_is_told_before_the_first_byte_of_the_body_leaves() -> None:
    journal = Journal()
    chunks = iter(Body(AROUND, ENTRIES, journal))
    assert journal.notes == []
    next(chunks)
    assert journal.notes == ["on"]


def test_journal_is_not_told_of_a_body_that_never_went_on_the_wire(clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    journal = Journal()
    with (
        client_of(f"http://127.0.0.1:{port}", Halt(clock), retry_max_seconds=20) as client,
        pytest.raises(Fatal),
    ):
        client.submit(Body(AROUND, ENTRIES, journal), divisible=True)
    assert "on" not in journal.notes


# The list of scenarios


def test_scenario_is_found_in_the_list() -> None:
    scenarios = [{"id": 11, "is_active": True}, {"id": 12, "name": "Welcome", "is_active": False}]
    answer = {"error": 0, "data": scenarios}
    with Server(answers(answer)) as server, client_of(server.url) as client:
        assert client.workflow(12) == scenarios[1]
    (exchange,) = server.exchanges
    assert exchange.path == f"/api/v1.1/{LIST}"
    assert json.loads(exchange.body) == {"token": TOKEN, "from_id": 12, "limit": 1}


@pytest.mark.parametrize(
    "data", [None, [], {}, "x", [None, "x", 12], [{"id": 13}], [{"name": "no id"}], [{"id": None}]]
)
def test_scenario_that_is_not_in_the_list_is_none(data: object) -> None:
    with Server(answers({"error": 0, "data": data})) as server, client_of(server.url) as client:
        assert client.workflow(12) is None


def test_id_of_a_scenario_may_be_a_text() -> None:
    answer = {"error": 0, "data": [{"id": "12"}]}
    with Server(answers(answer)) as server, client_of(server.url) as client:
        assert client.workflow(12) == {"id": "12"}


@pytest.mark.parametrize(
    "step",
    [answers(b"", 503), answers(b"", 500), answers(b"<html>"), answers({"error": 429})],
)
def test_list_is_asked_again_since_that_changes_nothing(step: Step) -> None:
    halt = Halt()
    answer = {"error": 0, "data": [{"id": 12}]}
    with Server(step, answers(answer)) as server, client_of(server.url, halt) as client:
        assert client.workflow(12) == {"id": 12}
    assert len(halt.waits) == 1


@pytest.mark.parametrize(
    ("code", "kind"), [(400, Refused), (401, Fatal), (403, Fatal), (404, Fatal)]
)
def test_list_that_is_refused_is_not_asked_again(code: int, kind: type[ApiError]) -> None:
    halt = Halt()
    with (
        Server(answers({"error": code, "error_text": "No"})) as server,
        client_of(server.url, halt) as client,
        pytest.raises(kind) as caught,
    ):
        client.workflow(12)
    assert shows_nothing(caught.value, kind).endpoint == LIST
    assert caught.value.code == code
    assert halt.waits == []


def test_list_that_never_answers_is_given_up(clock: Clock) -> None:
    halt = Halt(clock)
    with (
        Server(*[answers(b"", 502)] * 400) as server,
        client_of(server.url, halt, retry_max_seconds=100) as client,
        pytest.raises(Fatal) as caught,
    ):
        client.workflow(12)
    assert "retry_max_seconds (100)" in str(caught.value)
    assert caught.value.code == 502


def test_halt_ends_the_asking_for_the_list() -> None:
    halt = Halt(halts_in=0)
    with (
        Server(answers(b"", 503), answers({"error": 0})) as server,
        client_of(server.url, halt) as client,
        pytest.raises(Halted),
    ):
        client.workflow(12)


# The status of a task


def status_of(answer: object) -> TaskStatus:
    with Server(answers(answer)) as server, client_of(server.url) as client:
        return client.status("3042", 30)


def test_status_of_a_completed_task() -> None:
    result = {"error": 0, "error_text": "", "result": [{"profile_id": "61"}, {"profile_id": "62"}]}
    status = status_of(
        {"error": 0, "data": {"status": "completed", "progress": 100, "result": result}}
    )
    assert status == TaskStatus("completed", 100, 0, "", result["result"])  # type: ignore[arg-type]
    assert status.completed
    assert not status.failed


@pytest.mark.parametrize("state", ["completed", "Completed", "COMPLETED"])
def test_case_of_a_state_does_not_matter(state: str) -> None:
    assert status_of({"error": 0, "data": {"status": state}}).completed


@pytest.mark.parametrize(
    "state", ["failed", "error", "canceled", "cancelled", "aborted", "Stopped"]
)
def test_failed_states(state: str) -> None:
    status = status_of({"error": 0, "data": {"status": state, "progress": 100}})
    assert status.failed
    assert not status.completed


@pytest.mark.parametrize("state", ["running", "queued", "", None, 5, "done"])
def test_any_other_state_has_not_ended(state: object) -> None:
    status = status_of({"error": 0, "data": {"status": state}})
    assert not status.failed
    assert not status.completed


@pytest.mark.parametrize(
    ("progress", "read"),
    [(0, 0), (55, 55), (55.5, 55.5), (100, 100), ("55", None), (None, None), ([], None)],
)
def test_progress_is_a_number_or_nothing(progress: object, read: float | None) -> None:
    assert status_of(
        {"error": 0, "data": {"status": "running", "progress": progress}}
    ).progress == (read)


def test_completed_task_with_an_error_has_failed_and_its_text_is_masked() -> None:
    result = {"error": 7, "error_text": f"bad {PROFILE} for {TOKEN}", "result": []}
    status = status_of({"error": 0, "data": {"status": "completed", "result": result}})
    assert status.failed
    assert status.error == 7
    assert status.text == "bad *** for ***"


@pytest.mark.parametrize("error", [0, "0", None])
def test_completed_task_without_an_error_has_not_failed(error: object) -> None:
    result = {"error": error, "result": []}
    status = status_of({"error": 0, "data": {"status": "completed", "result": result}})
    assert not status.failed


@pytest.mark.parametrize("error", ["E_LIMIT", {"code": 5}, [7], 0.5])
def test_completed_task_with_an_error_that_is_no_number_has_failed(error: object) -> None:
    result = {"error": error, "error_text": "Quota is used up", "result": []}
    status = status_of({"error": 0, "data": {"status": "completed", "result": result}})
    assert status.failed


@pytest.mark.parametrize("result", [None, [], "x", {}, {"result": None}, {"result": {"0": 1}}])
def test_status_without_a_list_of_results_has_none(result: object) -> None:
    status = status_of({"error": 0, "data": {"status": "completed", "result": result}})
    assert status.results is None
    assert status.completed


@pytest.mark.parametrize("data", [None, [], "completed", 5])
def test_status_without_data_leaves_the_question_open(data: object) -> None:
    error = status_error(OutcomeUnknown, answers({"error": 0, "data": data}))
    assert error.text == "the answer has no 'data' object"


def test_status_waits_no_longer_than_it_is_told() -> None:
    with (
        Server(never_answers) as server,
        client_of(server.url) as client,
        pytest.raises(ApiError),
    ):
        client.status("3042", 0.1)


def test_status_waits_no_longer_than_the_setting() -> None:
    with (
        Server(never_answers) as server,
        client_of(server.url, request_timeout_seconds=0.1) as client,
        pytest.raises(ApiError),
    ):
        client.status("3042", 3600)


# Nothing shows


def test_nothing_of_a_request_is_logged_at_any_level(caplog: pytest.LogCaptureFixture) -> None:
    steps = [
        answers(b"", 503, {"Retry-After": "0"}),
        answers({"error": 503, "error_text": f"{TOKEN} {PROFILE}"}),
        answers(ACCEPTED),
    ]
    with caplog.at_level(logging.DEBUG), Server(*steps) as server:
        submitted(server)
    assert TOKEN not in caplog.text
    assert PROFILE not in caplog.text


def test_token_is_never_in_the_url() -> None:
    with Server(answers(ACCEPTED)) as server:
        submitted(server)
    assert TOKEN not in server.exchanges[0].path
    assert TOKEN not in str(server.exchanges[0].headers)
