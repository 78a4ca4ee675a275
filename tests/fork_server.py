"""Starts the target many times, and imports it once.

The server is one process that has imported the target and called nothing of it. For each run it
forks: the child gets its own session, the run's stdin, stdout, stderr, folder, environment and
arguments, and calls `main()`. To a test that child is as real as a started command: it has real
pipes, can be killed, and has an exit status.

    with ForkServer() as server:
        process = server.start(["--config", "config.json"], folder)
        process.kill()
        assert process.wait() == -9
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import typing as t
from dataclasses import dataclass

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from typing_extensions import Self

_MESSAGE_BYTES = 256 * 1024
_ANSWER_SECONDS = 60.0


class ForkedProcess:
    """A child of the server, with what a test uses of `subprocess.Popen`."""

    def __init__(self, server: ForkServer, pid: int, pipes: tuple[int, int, int]) -> None:
        self._server = server
        self.pid = pid
        self.returncode: int | None = None
        self.stdin: t.IO[bytes] | None = open(pipes[0], "wb")  # noqa: PTH123, SIM115
        self.stdout: t.IO[bytes] | None = open(pipes[1], "rb")  # noqa: PTH123, SIM115
        self.stderr: t.IO[bytes] | None = open(pipes[2], "rb")  # noqa: PTH123, SIM115

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        status = self._server.ended(self, timeout)
        if status is None:
            raise subprocess.TimeoutExpired("a forked target", timeout or 0.0)
        return status

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless the process has ended: nobody else can get it."""
        self._server.send({"pid": self.pid, "signal": int(signum)})

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The client's side: one server, started at once, with any number of children at a time."""

    def __init__(self) -> None:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            self._server = subprocess.Popen(
                [sys.executable, __file__, str(its.fileno())],
                stdin=subprocess.PIPE,  # buffered as a run's are
                stdout=subprocess.PIPE,
                pass_fds=[its.fileno()],
                start_new_session=True,
            )
        self._socket = ours
        self._changed = threading.Condition()
        self._started: list[int] = []
        self._running: dict[int, ForkedProcess] = {}
        self._early: dict[int, int] = {}  # ended before `start` had its pid
        self._gone = False
        self._starting = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            while data := self._socket.recv(_MESSAGE_BYTES):
                answer = json.loads(data)
                with self._changed:
                    if "status" not in answer:
                        self._started.append(answer["pid"])
                    elif process := self._running.pop(answer["pid"], None):
                        process.returncode = answer["status"]
                    else:
                        self._early[answer["pid"]] = answer["status"]
                    self._changed.notify_all()
        except OSError:
            pass
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def start(
        self,
        args: Sequence[str],
        folder: Path,
        env: Mapping[str, str],
        patches: Mapping[str, t.Any] | None = None,
    ) -> ForkedProcess:
        """Run the target.

        Args:
            args: After the command's name.
            folder: Its working folder.
            env: Its whole environment.
            patches: Values of module attributes, by `module:name`, set before it begins.
        """
        order = {
            "args": list(args),
            "folder": str(folder),
            "env": dict(env),
            "patches": dict(patches or {}),
        }
        stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()
        its = [stdin[0], stdout[1], stderr[1]]
        with self._starting:
            try:
                socket.send_fds(self._socket, [json.dumps(order).encode()], its)
            finally:
                for fd in its:
                    os.close(fd)
            with self._changed:
                known = self._changed.wait_for(lambda: self._started or self._gone, _ANSWER_SECONDS)
                if not known or not self._started:
                    raise AssertionError("the fork server does not answer")
                pid = self._started.pop()
                process = ForkedProcess(self, pid, (stdin[1], stdout[0], stderr[0]))
                if pid in self._early:
                    process.returncode = self._early.pop(pid)
                else:
                    self._running[pid] = process
        return process

    def ended(self, process: ForkedProcess, timeout: float | None) -> int | None:
        """Wait for a process; return its exit status, negative for a signal, None if it runs on."""
        with self._changed:
            self._changed.wait_for(lambda: process.returncode is not None or self._gone, timeout)
            if process.returncode is None and self._gone:
                raise AssertionError("the fork server has gone")
            return process.returncode

    def send(self, order: Mapping[str, t.Any]) -> None:
        self._socket.send(json.dumps(order).encode())

    def close(self) -> None:
        """End the server, and with it all its children."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for pipe in (self._server.stdin, self._server.stdout):
            assert pipe
            pipe.close()
        self._server.wait(_ANSWER_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class _Order:
    """What a child is to run."""

    args: list[str]
    folder: str
    env: dict[str, str]
    patches: dict[str, t.Any]
    pipes: list[int]

    def become(self) -> None:
        """Turn this process into a run, up to the call of `main`."""
        os.setsid()
        for number, fd in enumerate(self.pipes):
            os.dup2(fd, number)
            os.close(fd)
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.env)
        sys.argv = ["target-altcraft", *self.args]
        for name, value in self.patches.items():
            module, _, attribute = name.partition(":")
            home = importlib.import_module(module)
            if not hasattr(home, attribute):
                raise AttributeError(name)
            setattr(home, attribute, value)


def _serve(control: socket.socket) -> _Order | None:
    """Fork for each order. Returns in a child, with its order, and at the end, with None."""
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    children: set[int] = set()
    while True:
        ready, _, _ = select.select([control.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _reap(control, children)
        if control.fileno() not in ready:
            continue
        data, fds, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, 3)
        if not data:
            break
        order = json.loads(data)
        if "signal" in order:
            if order["pid"] in children:
                os.kill(order["pid"], order["signal"])
            continue
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            control.close()
            os.close(woken)
            os.close(wake)
            return _Order(**order, pipes=fds)
        for fd in fds:
            os.close(fd)
        children.add(pid)
        control.send(json.dumps({"pid": pid}).encode())
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return None


def _reap(control: socket.socket, children: set[int]) -> None:
    """Tell of the children that have ended."""
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        children.discard(pid)
        told = {"pid": pid, "status": os.waitstatus_to_exitcode(status)}
        with contextlib.suppress(OSError):  # nobody listens any more
            control.send(json.dumps(told).encode())


def _main() -> None:
    target = importlib.import_module("target_altcraft.__main__")
    importlib.import_module("target_altcraft.target")
    order = _serve(socket.socket(fileno=int(sys.argv[1])))
    if order is not None:
        order.become()
        target.main()


if __name__ == "__main__":
    _main()
