"""The wire: bodies that know how much of them arrived, connections that can be cut anywhere."""

from __future__ import annotations

import contextlib
import io
import os
import select
import socket
import struct
import threading
import typing as t

from werkzeug.serving import WSGIRequestHandler
from werkzeug.wrappers import Response

_PART = 256 * 1024
_LEAVES = select.POLLIN | select.POLLHUP | select.POLLERR


class BodyLost(ConnectionError):
    """The connection ended before the body did."""


class RequestBody:
    """The body of one request, read off the connection by whoever handles the request.

    Attributes:
        received: How many bytes have been read of it.
        announced: `Content-Length`; None for a chunked body.
    """

    def __init__(self, stream: io.BufferedIOBase, announced: int | None) -> None:
        self.received = 0
        self.announced = announced
        self._stream = stream
        self._ended = announced == 0

    def read_part(self, size: int = _PART) -> bytes:
        """Return what comes next, at most that many bytes; nothing at the end.

        Raises:
            BodyLost: The connection ended first.
        """
        if self._ended:
            return b""
        if self.announced is not None:
            size = min(size, self.announced - self.received)
        try:
            part = self._stream.read1(size)
        except (OSError, ValueError) as error:  # ValueError: a malformed chunk
            raise BodyLost("connection lost in mid-body") from error
        self.received += len(part)
        if self.announced is None:
            self._ended = not part
        elif not part:
            raise BodyLost("connection lost in mid-body")
        else:
            self._ended = self.received == self.announced
        return part

    def read(self, limit: int) -> bytes | None:
        """Return the whole body, or None once it turns out to be over the limit.

        Raises:
            BodyLost: The connection ended first.
        """
        if self.announced is not None and self.announced > limit:
            return None
        parts = []
        while part := self.read_part():
            if self.received > limit:
                return None
            parts.append(part)
        return b"".join(parts)

    def discard(self) -> None:
        """Read what is left, so that the next request starts where this one ends.

        Raises:
            BodyLost: The connection ended first.
        """
        while self.read_part():
            pass


def reset(connection: socket.socket) -> None:
    """End a connection with a TCP reset (RST), whatever is still on its way."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # Detached, because the handler's files share the socket and would keep it open.
    descriptor = connection.detach()
    if descriptor >= 0:
        os.close(descriptor)


def client_leaves(connection: socket.socket, seconds: float | None = None) -> bool:
    """Wait until the client closes the connection (or the sandbox stops).

    Args:
        connection: One whose request has been read completely.
        seconds: How long at most; None: as long as it takes.

    Returns:
        Whether it did; False means that the time is up.
    """
    poll = select.poll()
    poll.register(connection, _LEAVES)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


def send_interim(connection: socket.socket, status: int, phrase: str) -> None:
    """Send an answer of HTTP's 1xx class, after which the real one follows (RFC 9110, 15.2)."""
    with contextlib.suppress(OSError):  # the real one will notice that nobody listens
        connection.sendall(f"HTTP/1.1 {status} {phrase}\r\n\r\n".encode("ascii"))


class OpenConnections:
    """The connections being served, each with its thread. Its lock guards just that table."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._closing = False

    def add(self, connection: socket.socket) -> None:
        """Note the calling thread's connection; cut it at once if all are being closed."""
        with self._lock:
            self._open[threading.current_thread()] = connection
            closing = self._closing
        if closing:
            _shut(connection)

    def remove(self) -> None:
        """Forget the calling thread's connection."""
        with self._lock:
            self._open.pop(threading.current_thread(), None)

    def close_all(self, timeout: float) -> None:
        """Cut every connection, and wait for their threads."""
        with self._lock:
            self._closing = True
            left = dict(self._open)
        for connection in left.values():
            _shut(connection)
        for thread in left:
            thread.join(timeout)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class Handler(WSGIRequestHandler):
    """Serves WSGI over connections that stay open, which werkzeug's own handler never does.

    The application finds a `RequestBody` in `wsgi.input`, and may cut the connection in
    `werkzeug.socket` with `reset`; then nothing is answered.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    connections: t.ClassVar[OpenConnections]

    def setup(self) -> None:
        """Take note of the connection."""
        super().setup()
        self.connections.add(self.connection)

    def finish(self) -> None:
        """Forget the connection."""
        super().finish()
        self.connections.remove()

    def run_wsgi(self) -> None:
        """Answer one request."""
        environ = self.make_environ()
        body = environ["wsgi.input"] = self._body(environ)
        response = Response.from_app(self.server.app, environ, buffered=True)
        payload = response.get_data()
        if self.connection.fileno() < 0:
            self.close_connection = True
            return
        try:
            body.discard()
        except BodyLost:
            self.close_connection = True
            return
        head = [f"HTTP/1.1 {response.status}", f"Date: {self.date_time_string()}"]
        head += [f"{name}: {value}" for name, value in response.headers]
        if self.close_connection:
            head.append("Connection: close")
        if self.command == "HEAD":
            payload = b""
        # In one piece: a client that has the headers has the rest.
        self.wfile.write("\r\n".join([*head, "", ""]).encode() + payload)

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the sandbox keeps its own log of requests."""

    def _body(self, environ: dict[str, t.Any]) -> RequestBody:
        if environ.get("wsgi.input_terminated"):
            return RequestBody(io.BufferedReader(environ["wsgi.input"]), None)
        length = environ.get("CONTENT_LENGTH", "0")
        if not (length.isascii() and length.isdigit()):
            # Nobody knows where the next request starts.
            self.close_connection = True
            length = "0"
        return RequestBody(self.rfile, int(length))
