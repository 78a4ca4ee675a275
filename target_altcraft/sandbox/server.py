"""The sandbox as a running server."""

from __future__ import annotations

import ipaddress
import socket
import threading
import typing as t
from dataclasses import dataclass

from werkzeug.serving import make_server

from target_altcraft.sandbox.api import create_app
from target_altcraft.sandbox.connection import Handler, OpenConnections
from target_altcraft.sandbox.shown import ShownWorld

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self
    from werkzeug.serving import BaseWSGIServer

    from target_altcraft.sandbox.requestlog import RequestSeen

_BACKLOG = 128
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.02
# Without a bound, the kernel would take in several MB on behalf of a server that reads nothing,
# and a client would not notice a connection cut in mid-body.
_RECEIVE_BUFFER = 256 * 1024


class HostError(ValueError):
    """The host is not loopback: the sandbox has no business on a network."""


def loopback_address(host: str) -> tuple[socket.AddressFamily, str]:
    """Return the address a host name stands for.

    Raises:
        HostError: It is not loopback, or does not resolve.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise HostError(f"{host!r} does not resolve: {error}") from None
    found.sort(key=lambda info: info[0] == socket.AF_INET6)  # localhost: IPv4, as clients expect
    for *_, address in found:
        if not ipaddress.ip_address(address[0]).is_loopback:
            raise HostError(f"{host!r} is not a loopback address (127.0.0.1, ::1, localhost)")
    family, *_, address = found[0]
    return family, str(address[0])


@dataclass(kw_only=True, eq=False)
class Sandbox(ShownWorld):
    """A world served over HTTP on loopback, as a context manager or by `start` and `stop`.

    Attributes:
        host: A loopback address or name.
        port: 0: any free one, the same one after every later start.
        on_done: Told of every request to an API endpoint when it is over.
    """

    host: str = "127.0.0.1"
    port: int = 0
    on_done: Callable[[RequestSeen], None] | None = None

    def __post_init__(self) -> None:
        """Find the address, so that a wrong host is told at once.

        Raises:
            HostError: The host is not loopback.
        """
        super().__post_init__()
        self._family, self._address = loopback_address(self.host)
        self._app = create_app(self, self.host, self.on_done)
        self._running: _Running | None = None

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        host = f"[{self._address}]" if ":" in self._address else self._address
        return f"http://{host}:{self.port}"

    def start(self) -> Self:
        """Listen and serve in a thread.

        Raises:
            OSError: The port is in use.
        """
        if self._running is None:
            with socket.socket(self._family, socket.SOCK_STREAM) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
                listener.bind((self._address, self.port))
                listener.listen(_BACKLOG)
                self.port = listener.getsockname()[1]
                connections = OpenConnections()
                server = make_server(
                    self._address,
                    self.port,
                    self._app,
                    threaded=True,
                    request_handler=type("Handler", (Handler,), {"connections": connections}),
                    fd=listener.fileno(),
                )
            self._running = _Running(server, connections)
        return self

    def stop(self) -> None:
        """Refuse new connections, cut the open ones, and wait for the threads. State is kept."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()


class _Running:
    """One server from its start to its stop."""

    def __init__(self, server: BaseWSGIServer, connections: OpenConnections) -> None:
        self._server = server
        self._connections = connections
        self._thread = threading.Thread(
            target=server.serve_forever, args=(_POLL_SECONDS,), name="altcraft-sandbox", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join(_STOP_SECONDS)
        self._connections.close_all(_STOP_SECONDS)
