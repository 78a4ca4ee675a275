"""What requests, urllib3 and http.client do otherwise than is wanted of a connection here."""

from __future__ import annotations

import http.client
import io
import time
import typing as t

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import wait_for_read

if t.TYPE_CHECKING:
    import socket

_TIMEOUTS_OF_AN_ANSWER = 10
"""An answer that comes by drops must be there within so many time-outs."""


def new_session() -> requests.Session:
    """Return a session that makes connections of the classes below."""
    session = _Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Adapter())
    return session


class _Session(requests.Session):
    """Looks at no `Location`: requests does, also where redirects are not followed."""

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        return None


class _Bounded(io.RawIOBase):
    """A socket's bytes, until a deadline."""

    def __init__(self, raw: io.RawIOBase, deadline: float) -> None:
        self._raw = raw
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int | None:  # noqa: ANN401 - a buffer, without a type
        if time.monotonic() > self._deadline:
            raise TimeoutError
        return t.cast("int | None", self._raw.readinto(buffer))

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer that has an end, and is none of the interim ones (1xx) before it."""

    def __init__(self, sock: socket.socket, *args: t.Any, **options: t.Any) -> None:  # noqa: ANN401
        super().__init__(sock, *args, **options)
        if timeout := sock.gettimeout():
            deadline = time.monotonic() + _TIMEOUTS_OF_AN_ANSWER * timeout
            self.fp = io.BufferedReader(_Bounded(self.fp.detach(), deadline))

    def begin(self, **options: t.Any) -> None:  # noqa: ANN401 - newer Pythons have some
        super().begin(**options)
        while self.status in _INTERIM:  # http.client knows 100 only
            self.headers = self.msg = None  # type: ignore[assignment]
            super().begin(**options)
        self.headers.defects.clear()  # urllib3 would log them, the server's words and all
        self.headers.set_payload("")


class _Connection(HTTPConnection):
    """Listens to a host that answers before it has read the whole body."""

    response_class = _Answer

    def request(self, *args: t.Any, **options: t.Any) -> None:  # noqa: ANN401
        try:
            super().request(*args, **options)
        except OSError:
            if self.sock is None or not wait_for_read(self.sock, timeout=0):
                raise


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    """Makes connections of the classes above, all to one host: their pool is looked for once."""

    _pool: t.Any = None

    def get_connection_with_tls_context(self, *args: t.Any, **options: t.Any) -> t.Any:  # noqa: ANN401
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(*args, **options)
        return self._pool

    def close(self) -> None:
        self._pool = None
        super().close()

    def init_poolmanager(self, *args: t.Any, **options: t.Any) -> None:  # noqa: ANN401
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: t.Any, **options: t.Any) -> t.Any:  # noqa: ANN401
        manager = super().proxy_manager_for(*args, **options)
        if isinstance(manager, ProxyManager):  # the one for SOCKS has classes of its own
            manager.pool_classes_by_scheme = _POOLS
        return manager


_INTERIM = frozenset(range(100, 200)) - {http.client.SWITCHING_PROTOCOLS}
_POOLS = {"http": _Pool, "https": _TlsPool}
