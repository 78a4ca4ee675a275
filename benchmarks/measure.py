"""One program over one input: how long, how much, and did everything arrive."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

HERE = Path(__file__).resolve().parent

Program = t.Literal["target-altcraft", "template", "bare loop"]

COMMANDS: dict[Program, list[str]] = {
    "target-altcraft": [str(Path(sys.executable).with_name("target-altcraft"))],
    "template": [sys.executable, str(HERE / "template_target.py")],
    "bare loop": [sys.executable, str(HERE / "bare_loop.py")],
}

_LONGEST_SECONDS = 900.0
_STOP_SECONDS = 10.0
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
_FOREIGN = ("PYTHON", "TARGET_")
"""What the caller's environment might say otherwise, such as not to keep compiled byte code."""


class BenchmarkError(Exception):
    """A run that counts for nothing: the program failed, or not everything arrived."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took, start-up included, and what the server saw of it.

    `wall` and `cpu` (user and system) are in seconds, `peak` is the resident set in bytes. Per
    task there are its status calls, and the seconds from its end to the call that noticed.
    `tap_cpu` is that of the command whose output was piped into it.
    """

    wall: float
    cpu: float
    peak: int
    arrived: int
    polls: list[int]
    late: list[float]
    tap_cpu: float = 0.0


class Server:
    """`server.py` as a process; use it as a context manager.

    Args:
        task_seconds: How long a task takes.
    """

    def __init__(self, task_seconds: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "server.py"), "--task-seconds", str(task_seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        port = t.cast("t.IO[bytes]", self._process.stdout).readline().decode().strip()
        self.url = f"http://127.0.0.1:{port}"

    def counts(self) -> dict[str, t.Any]:
        """End the server and return what it counted."""
        output, _ = self._process.communicate(timeout=_STOP_SECONDS)
        return t.cast("dict[str, t.Any]", json.loads(output))

    def __enter__(self) -> Self:
        """Return the running server."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, whatever happened."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()


def run(
    program: Program,
    source: Path | list[str],
    records: int,
    *,
    task_seconds: float = 0.0,
    settings: dict[str, t.Any] | None = None,
) -> Run:
    """Run a program once, against a server of its own.

    Args:
        program: Which.
        source: Its standard input: a file, or a command whose output is piped into it.
        records: How many of them must arrive.
        task_seconds: How long a task takes.
        settings: Its settings, save those that every program needs. A path that is not absolute
            is of a file that is new in each run.

    Raises:
        BenchmarkError: If it, or the command, failed or not everything arrived.
    """
    with Server(task_seconds) as server, tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.json")
        required = {"api_url": server.url, "token": "benchmark", "workflow_id": 1}
        config.write_text(json.dumps({**required, **(settings or {})}), encoding="utf-8")
        log, tap_log = Path(folder, "log"), Path(folder, "tap.log")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
        with _opened(source, tap_log, environment) as (stdin, tap), log.open("wb") as stderr:
            wall, status, usage = _timed(
                [*COMMANDS[program], "--config", str(config)],
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=folder,
                env=environment,
            )
        _check(program, status, log)
        tap_cpu = _ended(tap, tap_log) if tap else 0.0
        counts = server.counts()
    if counts["profiles"] != records:
        raise BenchmarkError(f"{program}: {counts['profiles']} of {records} records arrived")
    return Run(
        wall=wall,
        cpu=usage.ru_utime + usage.ru_stime,
        peak=usage.ru_maxrss * _RSS_UNIT,
        arrived=counts["profiles"],
        polls=counts["polls"],
        late=counts["late"],
        tap_cpu=tap_cpu,
    )


@contextlib.contextmanager
def _opened(
    source: Path | list[str], log: Path, environment: dict[str, str]
) -> Iterator[tuple[t.IO[bytes], subprocess.Popen[bytes] | None]]:
    """Open an input; the process is that of the command that writes it, if one does."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file, None
        return
    with log.open("wb") as stderr:
        tap = subprocess.Popen(source, stdout=subprocess.PIPE, stderr=stderr, env=environment)
    with t.cast("t.IO[bytes]", tap.stdout) as pipe:
        yield pipe, tap


def _ended(tap: subprocess.Popen[bytes], log: Path) -> float:
    """Wait for the end of the command that wrote the input; return its user and system time."""
    _, status, usage = os.wait4(tap.pid, 0)
    tap.returncode = os.waitstatus_to_exitcode(status)
    _check(t.cast("list[str]", tap.args)[0], tap.returncode, log)
    return usage.ru_utime + usage.ru_stime


def _check(program: str, status: int, log: Path) -> None:
    if status != 0:
        last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
        raise BenchmarkError(f"{program} ended with status {status}:\n" + "\n".join(last))


def _timed(command: list[str], **how: t.Any) -> tuple[float, int, t.Any]:  # noqa: ANN401 - as Popen
    """Run a command to its end; return seconds, exit status and resource usage.

    Linux starts a child's peak memory at that of the process that starts it, so this process has to
    stay smaller than what it measures.
    """
    begin = time.perf_counter()
    child = subprocess.Popen(command, **how)
    guard = threading.Timer(_LONGEST_SECONDS, child.kill)
    guard.daemon = True
    guard.start()
    try:
        _, status, usage = os.wait4(child.pid, 0)
    except BaseException:
        child.kill()
        raise
    finally:
        guard.cancel()
    wall = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    return wall, child.returncode, usage
