"""A stand-in for Altcraft that costs next to nothing: what is measured is who talks to it.

It answers the three calls that an import makes, counts the profiles of a body without reading its
JSON, and keeps none. Its connections have TCP_NODELAY, so nobody waits for a delayed
acknowledgement. It is a process of its own: it prints its port, ends when its standard input does,
and prints what it counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
import time
import typing as t
from dataclasses import dataclass, field

_PROFILE = b'{"data":'
_RESULT = b'{"profile_id":"61e9c1f2a5b3d40001a7e92c"}'
_DONE = (
    b'{"data":{"status":"completed","progress":100,"result":{"error":0,"error_text":"","result":['
)
_END = b']}},"error":0,"error_text":"Successful operation"}'


@dataclass(slots=True)
class Task:
    """An accepted import: how many profiles, when, and who asked for it since."""

    profiles: int
    accepted: float = field(default_factory=time.monotonic)
    polls: int = 0
    noticed: float = 0.0


class Altcraft:
    """The tasks, and an answer to each call.

    Args:
        task_seconds: How long a task takes; its progress rises evenly.
    """

    def __init__(self, task_seconds: float) -> None:
        self._task_seconds = task_seconds
        self._tasks: list[Task] = []

    def answer(self, path: str, body: bytes) -> bytes:
        """Return the answer to a call, as JSON.

        Args:
            path: The call's path.
            body: The call's body.
        """
        if path.endswith("/workflows/import_and_start_batch_task"):
            self._tasks.append(Task(body.count(_PROFILE)))
            return b'{"error":0,"error_text":"","task_id":"%d"}' % (len(self._tasks) - 1)
        call = json.loads(body)
        if path.endswith("/tasks/status"):
            return self._status(self._tasks[int(call["task_id"])])
        if path.endswith("/workflows/list"):
            workflow = {"id": call.get("from_id", 1), "name": "benchmark", "is_active": True}
            return json.dumps({"data": [workflow], "error": 0, "error_text": ""}).encode()
        return b'{"error":400,"error_text":"no such method"}'

    def _status(self, task: Task) -> bytes:
        task.polls += 1
        elapsed = time.monotonic() - task.accepted
        if elapsed < self._task_seconds:
            progress = int(100 * elapsed / self._task_seconds)
            return b'{"data":{"status":"running","progress":%d},"error":0}' % progress
        task.noticed = task.noticed or elapsed - self._task_seconds
        return _DONE + b",".join([_RESULT] * task.profiles) + _END

    def counts(self) -> dict[str, t.Any]:
        """Return the number of profiles, and per task its polls and how late its end was seen."""
        return {
            "profiles": sum(task.profiles for task in self._tasks),
            "polls": [task.polls for task in self._tasks],
            "late": [task.noticed for task in self._tasks],
        }


class Connection(asyncio.Protocol):
    """One client's requests, one after the other.

    Args:
        altcraft: Who answers.
    """

    def __init__(self, altcraft: Altcraft) -> None:
        self._altcraft = altcraft
        self._chunks: list[bytes] = []
        self._missing = 0
        self._path = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Switch off Nagle's algorithm."""
        self._transport = t.cast("asyncio.Transport", transport)
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Gather a request; answer it once it is whole."""
        self._chunks.append(data)
        if self._path:
            self._missing -= len(data)
        else:
            self._begin(b"".join(self._chunks))
        if self._path and self._missing == 0:
            answer = self._altcraft.answer(self._path, b"".join(self._chunks))
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(answer), answer)
            )
            self._chunks, self._path = [], ""

    def _begin(self, start: bytes) -> None:
        """Read a request's head, if it is whole; what is left is the body's beginning."""
        head, end, body = start.partition(b"\r\n\r\n")
        if not end:
            self._chunks = [start]
            return
        request, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(":") for line in lines)
        }
        self._path = request.split(" ")[1]
        self._chunks = [body]
        self._missing = int(headers["content-length"]) - len(body)


async def serve(task_seconds: float) -> None:
    """Serve until standard input ends, then print the counts.

    Args:
        task_seconds: How long a task takes.
    """
    altcraft = Altcraft(task_seconds)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(altcraft), "127.0.0.1", 0)
    over = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), over.set)
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()
    server.close()
    print(json.dumps(altcraft.counts()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task-seconds", type=float, default=0.0)
    asyncio.run(serve(parser.parse_args().task_seconds))
