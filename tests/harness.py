"""Runs the installed command as a process, the way a Meltano pipeline does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from fork_server import ForkedProcess, ForkServer
    from typing_extensions import Self

COMMAND = str(Path(sys.executable).with_name("target-altcraft"))
TOKEN = "demo-token"
DEADLINE_SECONDS = 60.0

Message = dict[str, t.Any]


def wait_for(condition: Callable[[], t.Any], what: str, seconds: float = DEADLINE_SECONDS) -> t.Any:
    """Return the condition's first true value; fail at the deadline."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.005)
    return value


def wait_until(moment: float) -> None:
    """Let the time pass at which something is to happen, whatever else goes on."""
    wait_for(lambda: time.monotonic() >= moment, "the moment", moment - time.monotonic() + 5)


def schema(
    stream: str = "customers",
    properties: dict[str, t.Any] | None = None,
    **more: t.Any,
) -> Message:
    properties = properties or {
        "id": {"type": "integer"},
        "email": {"type": ["string", "null"]},
        "_fname": {"type": ["string", "null"]},
    }
    return {
        "type": "SCHEMA",
        "stream": stream,
        "schema": {"type": "object", "properties": properties},
        "key_properties": [],
        **more,
    }


def record(stream: str = "customers", **fields: t.Any) -> Message:
    return {"type": "RECORD", "stream": stream, "record": fields}


def customer(number: int, stream: str = "customers", **fields: t.Any) -> Message:
    values = {"id": number, "email": f"c{number}@example.com", "_fname": f"Ann {number}"}
    return record(stream, **{**values, **fields})


def state(value: t.Any) -> Message:
    return {"type": "STATE", "value": {"bookmark": value}}


def lines(messages: Iterable[Message | str]) -> Iterator[str]:
    for message in messages:
        text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
        yield text + "\n"


@dataclass(frozen=True)
class Result:
    status: int
    states: list[t.Any]
    state_times: list[float]
    stdout: str
    stderr: str

    @property
    def bookmarks(self) -> list[t.Any]:
        return [value["bookmark"] for value in self.states]

    @property
    def errors(self) -> list[str]:
        """The lines of the log at level ERROR, without their time and logger."""
        return [line.split(" | ", 3)[3] for line in self.stderr.splitlines() if "| ERROR" in line]

    @property
    def error(self) -> str:
        """The only error message; fails if there is none or more than one."""
        assert len(self.errors) == 1, self.stderr
        assert "Traceback" not in self.stderr
        return self.errors[0]

    def log(self, level: str) -> list[str]:
        """What was logged at a level, save what the SDK says of a Python past its last day."""
        return [
            line.split(" | ", 3)[3]
            for line in self.stderr.splitlines()
            if f"| {level:8s} |" in line and "SingerSDKPythonEOLWarning" not in line
        ]


class TargetProcess:
    """A running target whose input is fed and whose output is read as it comes.

    With a fork server the target is a fork of it, which starts sooner than the command; `patches`
    are values of the target's module attributes, by `module:name`.
    """

    def __init__(
        self,
        config: dict[str, t.Any],
        folder: Path,
        *,
        args: t.Sequence[str] = (),
        env: dict[str, str] | None = None,
        command: t.Sequence[str] = (COMMAND,),
        stdin: int = subprocess.PIPE,
        server: ForkServer | None = None,
        patches: Mapping[str, t.Any] | None = None,
    ) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TARGET_ALTCRAFT_")}
        environment |= env or {}
        arguments = ["--config", str(path), *args]
        self.process: subprocess.Popen[bytes] | ForkedProcess
        if server is not None:
            self.process = server.start(arguments, Path.cwd(), environment, patches)
        else:
            self.process = subprocess.Popen(
                [*command, *arguments],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
            )
        self.stdout: list[tuple[float, bytes]] = []
        self.stderr: list[bytes] = []
        self._threads = [
            threading.Thread(target=self._read_stdout, daemon=True),
            threading.Thread(target=self._read_stderr, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read_stdout(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.stdout.append((time.monotonic(), line))

    def _read_stderr(self) -> None:
        assert self.process.stderr
        self.stderr.extend(self.process.stderr)

    def feed(self, messages: Iterable[Message | str]) -> None:
        assert self.process.stdin
        for line in lines(messages):
            self.process.stdin.write(line.encode("utf-8", "surrogatepass"))
        self.process.stdin.flush()

    def feed_in_background(self, messages: Iterable[Message | str]) -> Callable[[], int]:
        """Feed as fast as the target reads, then close; returns a count of what was taken."""
        taken = 0

        def work() -> None:
            nonlocal taken
            assert self.process.stdin
            try:
                for line in lines(messages):
                    self.process.stdin.write(line.encode("utf-8", "surrogatepass"))
                    taken += 1
                self.process.stdin.close()
            except (OSError, ValueError):
                return  # the target has gone

        if self.process.stdin is None:
            return lambda: taken
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()
        return lambda: taken

    def close_input(self) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            self.process.stdin = None

    def log(self) -> str:
        return b"".join(self.stderr).decode("utf-8")

    def states(self) -> list[t.Any]:
        return [json.loads(line) for _, line in self.stdout]

    def terminate(self, signum: int = signal.SIGTERM) -> None:
        self.process.send_signal(signum)

    def wait(self, seconds: float = DEADLINE_SECONDS) -> Result:
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still running after {seconds:g} s:\n{self.log()}") from None
        for thread in self._threads:
            thread.join(5)
        output = b"".join(line for _, line in self.stdout)
        return Result(
            status,
            [json.loads(line) for _, line in self.stdout],
            [at for at, _ in self.stdout],
            output.decode(),
            self.log(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe:
                try:
                    pipe.close()
                except OSError:
                    continue  # what was not fed cannot be flushed


def run(
    messages: Iterable[Message | str],
    config: dict[str, t.Any],
    folder: Path,
    **how: t.Any,
) -> Result:
    """Run the target over an input to its end."""
    seconds = how.pop("seconds", DEADLINE_SECONDS)
    with TargetProcess(config, folder, **how) as process:
        process.feed_in_background(messages)
        return process.wait(seconds)
