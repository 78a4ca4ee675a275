"""A server that does as it is told, and calls of it by the client under test."""

from __future__ import annotations

import contextlib
import json
import math
import queue
import socket
import struct
import threading
import traceback
import typing as t

import pytest

from target_altcraft.client import Body, Client
from target_altcraft.delivery.retry import retry
from target_altcraft.errors import ApiError, LostInBody, NotAccepted
from target_altcraft.settings import resolve

if t.TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Sequence

    from target_altcraft.settings import Settings

TOKEN = "tok-3f9a-secret"
PROFILE = "ada.lovelace@b.example"
ENTRIES = [f'{{"data":{{"email":"{PROFILE}"}}}}'.encode(), b'{"data":{"email":"b@c"}}']
ACCEPTED = {"error": 0, "error_text": "Successful operation", "task_id": "30421978-7f6d"}
MEGABYTE = 1_000_000
START = f'{{"token":"{TOKEN}","workflow_id":12,"data":['.encode()
END = b"]}"


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
                self.converse(connection)

    def converse(self, connection: socket.socket) -> None:
        """Serve the requests of one connection, to its end."""
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


def run_settings(url: str, **values: t.Any) -> Settings:
    return resolve({"api_url": url, "token": TOKEN, "request_timeout_seconds": 30, **values})


@contextlib.contextmanager
def client_of(url: str, halt: threading.Event | None = None, **values: t.Any) -> Iterator[Client]:
    client = Client(run_settings(url, **values), halt or Halt())
    try:
        yield client
    finally:
        client.close()


def body_of(entries: Sequence[bytes] = ENTRIES, started: Callable[[], None] = lambda: None) -> Body:
    return Body(START, END, entries, started)


def repeated(
    client: Client,
    body: Body,
    halt: threading.Event,
    *,
    patience: float = 300,
    divisible: bool = True,
) -> str:
    """Submit a body as the delivery does: again and again while it is not accepted."""
    kinds = (NotAccepted,) if divisible else (NotAccepted, LostInBody)
    return retry(lambda: client.submit(body), kinds, patience, halt)


def submitted(
    server: Server,
    *,
    entries: Sequence[bytes] = ENTRIES,
    divisible: bool = True,
    halt: threading.Event | None = None,
    patience: float = 300,
    **values: t.Any,
) -> str:
    halt = halt or Halt()
    with client_of(server.url, halt, **values) as client:
        return repeated(client, body_of(entries), halt, patience=patience, divisible=divisible)


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
