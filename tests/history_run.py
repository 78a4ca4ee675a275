"""Plays a history: the orchestrator, with a real target and a real sandbox."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import threading
import time
import typing as t
from dataclasses import dataclass, field

from harness import DEADLINE_SECONDS, TOKEN, TargetProcess, wait_for, wait_until
from histories import REFUSED
from history_tap import Tap, moment_of, source_of

from target_altcraft.sandbox import Sandbox, Workflow

if t.TYPE_CHECKING:
    from pathlib import Path

    from fork_server import ForkServer
    from histories import Change, History, Run, Stream
    from history_tap import Form, Input, Message, Version

    from target_altcraft.sandbox import Task

MISSING_TASK_SECONDS = "target_altcraft.delivery.polling:MISSING_TASK_SECONDS"
"""The target's patience with a task that Altcraft does not know."""
EVENT_SECONDS = 1.0
"""A signal waits no longer than this for its event."""


@dataclass(frozen=True)
class Copy:
    """An entry that the server accepted.

    Attributes:
        stream: By its scenario.
        id: The key.
        form: What it said.
        customer: Its e-mail, case-folded.
        run: Number of the run that sent it.
        task: The task's id.
        place: Number of the task, and the entry's place in it.
        at: When it was accepted; `time.monotonic()` seconds.
        ends_at: When its task ended; None: never.
        outcome: "arrived"; "refused": its task said that it was not imported; "lost": its task
            failed, vanished or is stuck. What was accepted without a task id has arrived at once.
        certain: The target cannot have had a doubt about its task: it read the answer, and the
            task completed.
    """

    stream: str
    id: int
    form: Form
    customer: str
    run: int
    task: str
    place: tuple[int, int]
    at: float
    ends_at: float | None
    outcome: str = "arrived"
    certain: bool = True

    @property
    def version(self) -> Version:
        return (self.stream, self.id, self.form)


class Reject(t.NamedTuple):
    """A RECORD of the rejects file."""

    stream: str
    id: int
    form: Form
    source: Form

    @property
    def version(self) -> Version:
        return (self.stream, self.id, self.form)


class Receipt(t.NamedTuple):
    """A line of the receipts file; without a key it has no `id`."""

    stream: str
    id: int | None
    task: str


@dataclass
class RunSeen:
    """A run as it was seen from outside.

    Attributes:
        run: Its plan.
        input: What the tap wrote.
        status: The target's exit status; negative: the signal that killed it.
        log: Its stderr.
        printed: Each printed STATE: when it was read, and its `position` in the input.
        rejects: What this run added to the rejects file.
        receipts: What this run added to the receipts file.
        struck: The server's faults that struck.
        began: When it began; `time.monotonic()` seconds.
        ended: When it had ended.
        changes: What had changed in the table before it.
        saved: The `position` of the STATE that the orchestrator saved; None: none of this run.
        start: The STATE that the tap started from.
    """

    run: Run
    input: Input
    status: int
    log: str = ""
    printed: list[tuple[float, int]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    struck: list[str] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0
    changes: tuple[Change, ...] = ()
    saved: int | None = None
    start: Message | None = None

    @property
    def number(self) -> int:
        return self.run.number

    @property
    def good(self) -> bool:
        return self.status == 0


@dataclass
class Found:
    """A history as it was seen from outside."""

    history: History
    runs: list[RunSeen]
    copies: list[Copy]

    def of(self, stream: Stream) -> list[Copy]:
        return [copy for copy in self.copies if copy.stream == stream.name]

    def arrived(self, stream: Stream) -> list[Copy]:
        return [copy for copy in self.of(stream) if copy.outcome == "arrived"]


def play(history: History, folder: Path, server: ForkServer) -> Found:
    """Play a history to its end."""
    workflows = [Workflow(stream.workflow_id, stream.name) for stream in history.streams]
    with Sandbox(port=0, token=TOKEN, workflows=workflows) as sandbox:
        sandbox.fail_where = lambda entry: bool(entry["data"]["city"] == REFUSED)
        pipeline = _Pipeline(history, sandbox, folder, server)
        for step in history.steps:
            pipeline.step(step.changes, step.run)
        ends = [task.ends_at for task in sandbox.tasks if task.ends_at is not None]
        wait_until(max([time.monotonic(), *ends]))
        return pipeline.found()


class _Pipeline:
    def __init__(
        self, history: History, sandbox: Sandbox, folder: Path, server: ForkServer
    ) -> None:
        self._history = history
        self._sandbox = sandbox
        self._folder = folder
        self._server = server
        self._tap = Tap(history)
        self._state: Message | None = None
        self._runs: list[RunSeen] = []
        self._nameless: set[str | None] = set()
        self._rejects = _Lines(folder / "rejects.jsonl")
        self._receipts = _Lines(folder / "receipts.jsonl")

    def step(self, changes: tuple[Change, ...], run: Run) -> None:
        self._tap.apply(changes)
        if run.refresh:
            self._state = None
        seen = RunSeen(run, self._tap.read(run, self._state), 0, changes=changes)
        seen.start = self._state
        rng = random.Random(f"{run.seed}, tasks")
        seconds = [rng.choice(run.durations) for _ in range(997)]
        self._sandbox.task_seconds = lambda number, _entries: seconds[number % len(seconds)]
        for fault in run.faults:
            self._sandbox.add_fault(fault)
        seen.began = time.monotonic()
        requests = len(self._sandbox.requests)
        tasks = len(self._sandbox.tasks)
        values = self._run(seen)
        wait_for(
            lambda: all(each.done_at is not None for each in self._sandbox.requests),
            "the server has done with every request",
        )
        self._sandbox.clear_faults()
        seen.struck = [each.fault for each in self._sandbox.requests[requests:] if each.fault]
        seen.struck += [kind for task in self._sandbox.tasks[tasks:] if (kind := task.fault_kind)]
        seen.rejects = [
            self._reject(line) for line in self._rejects.new() if line["type"] == "RECORD"
        ]
        seen.receipts = [
            Receipt(line["stream"], line["key"].get("id"), line["task_id"])
            for line in self._receipts.new()
        ]
        self._runs.append(seen)
        if values and run.save != "none":
            place = int(run.position * len(values)) if run.save == "older" else -1
            self._state = values[place]
            seen.saved = values[place]["position"]

    def _run(self, seen: RunSeen) -> list[Message]:
        """Run the target; return the STATE values it printed."""
        run, ending = seen.run, seen.run.ending
        released = threading.Event()
        with TargetProcess(
            self._config(run),
            self._folder,
            server=self._server,
            patches={MISSING_TASK_SECONDS: 0.3},
        ) as target:
            threading.Thread(
                target=_feed, args=(target, seen.input.messages, ending.hold, released), daemon=True
            ).start()
            if ending.signal:
                self._await_event(target, run)
                target.terminate(signal.Signals[ending.signal])
            if ending.signal == "SIGKILL":
                released.set()
            try:
                result = target.wait(DEADLINE_SECONDS)
            finally:
                released.set()
        seen.ended = time.monotonic()
        seen.status, seen.log = result.status, result.stderr
        mine = [value for value in result.states if value["run"] == run.number]
        assert mine == result.states, "a STATE that is not of this run"
        seen.printed = [
            (at, value["position"])
            for at, value in zip(result.state_times, result.states, strict=True)
        ]
        return result.states

    def _config(self, run: Run) -> dict[str, t.Any]:
        streams: dict[str, dict[str, t.Any]] = {}
        maps: dict[str, dict[str, str]] = {}
        for stream in self._history.streams:
            settings = streams[stream.name] = {"workflow_id": stream.workflow_id}
            if stream.send_again:
                settings["send_again"] = stream.send_again
            if stream.has_bookmark and stream.bookmark_by == "setting":
                settings["bookmark_column"] = "updated_at"
            maps[stream.name] = {"note": "__NULL__"}
            if stream.has_bookmark and not stream.keeps_bookmark:
                maps[stream.name]["updated_at"] = "__NULL__"
        return {
            "api_url": self._sandbox.url,
            "token": TOKEN,
            "streams": streams,
            "stream_maps": maps,
            "poll_interval_seconds": 0.02,
            "poll_max_interval_seconds": 0.1,
            "request_timeout_seconds": 10,
            "retry_max_seconds": 10,
            "journal_path": str(self._folder / "journal.sqlite"),
            "rejects_path": str(self._rejects.path),
            "receipts_path": str(self._receipts.path),
            **dict(run.settings),
        }

    def _await_event(self, target: TargetProcess, run: Run) -> None:
        """Wait for what a signal waits for, but not for ever."""
        ending = run.ending
        before = len(self._sandbox.requests)
        receipts = self._receipts.count()

        def happened() -> int:
            if ending.event == "STATE printed":
                return len(target.stdout)
            if ending.event == "task completed":
                return target.log().count("completed after")
            if ending.event == "receipt written":
                return self._receipts.count() - receipts
            kind, _, word = ending.event.partition(" ")
            return sum(
                each.endpoint == kind and (word == "begun" or each.done_at is not None)
                for each in self._sandbox.requests[before:]
            )

        if ending.event != "start":
            deadline = time.monotonic() + EVENT_SECONDS
            wait_for(
                lambda: (
                    happened() >= ending.count
                    or target.process.poll() is not None
                    or time.monotonic() > deadline
                ),
                "the event or its deadline",
            )
        wait_until(time.monotonic() + ending.delay)

    # What was found

    def found(self) -> Found:
        streams = {stream.workflow_id: stream for stream in self._history.streams}
        requests = self._sandbox.requests
        self._nameless = {each.task_id for each in requests if each.fault == "no_task_id"}
        copies = [
            copy
            for task in self._sandbox.tasks
            for copy in self._copies(streams[task.workflow_id], task)
        ]
        return Found(self._history, self._runs, copies)

    def _copies(self, stream: Stream, task: Task) -> t.Iterator[Copy]:
        seen = [each for each in self._runs if each.began <= task.accepted_at][-1]
        completed = task.outcome == "completed"
        # Of a success without a task id nobody learns more: it counts as delivered.
        nameless = task.id in self._nameless
        for index, entry in enumerate(task.entries):
            outcome = "refused" if index in task.failures else "arrived"
            yield Copy(
                stream.name,
                int(entry["data"]["id"]),
                _form(stream, entry["data"]),
                task.keys[index],
                seen.number,
                task.id,
                (task.number, index),
                task.accepted_at,
                task.accepted_at if nameless else task.ends_at,
                "arrived" if nameless else outcome if completed else "lost",
                certain=completed and task.id in seen.log and not self._forgotten(task),
            )

    def _forgotten(self, task: Task) -> bool:
        """Whether the server may have said that it does not know the task, or a run timed out."""
        if task.fault_kind == "vanished":
            return True
        return any(
            task.id in line and "task_timeout_seconds" in line
            for seen in self._runs
            for line in seen.log.splitlines()
        )

    def _reject(self, line: Message) -> Reject:
        stream = self._history.stream(line["rejection"]["stream"])
        values = line["record"]
        return Reject(stream.name, values["id"], _form(stream, values), source_of(values))


def _form(stream: Stream, values: Message) -> Form:
    """Return the form of a record or of the profile in an entry."""
    kept = stream.has_bookmark and stream.keeps_bookmark
    return (values["email"], values["city"], *([moment_of(values["updated_at"])] if kept else ()))


def _feed(
    target: TargetProcess, messages: list[Message], hold: float | None, released: threading.Event
) -> None:
    """Write the tap's output; fall silent in the middle if it is to, until released."""
    before = messages if hold is None else messages[: int(hold * len(messages))]
    with contextlib.suppress(OSError, ValueError):  # the target has gone
        target.feed(before)
        if hold is not None:
            released.wait(DEADLINE_SECONDS)
        assert target.process.stdin
        target.process.stdin.close()


class _Lines:
    """A file of JSON lines, read as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def _all(self) -> list[bytes]:
        """Return the complete lines: a kill may leave a torn one at the end."""
        return self.path.read_bytes().split(b"\n")[:-1] if self.path.exists() else []

    def count(self) -> int:
        return len(self._all())

    def new(self) -> t.Iterator[Message]:
        """Yield the lines since the last call; one that a kill tore and a run ended is no JSON."""
        lines = self._all()[self._read :]
        self._read += len(lines)
        for line in lines:
            with contextlib.suppress(ValueError):
                yield json.loads(line)
