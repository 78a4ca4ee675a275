"""What is on disk when: killed, or out of space, at any write of the files that a run keeps."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import typing as t
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from fork_server import ForkServer
from harness import TargetProcess, run, schema, state
from nights import EVENING, MORNING, NOON, at, bookmarked, twice, unbookmarked
from test_memory_format1 import source_digest
from test_memory_format1 import write as write_format_1

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Message, Result
    from nights import Nights

    from target_altcraft.sandbox import Sandbox

BROKEN_WRITES = Path(__file__).with_name("broken_writes.c")
SYNCED = Path(__file__).with_name("synced.c")
COMPILER = shutil.which("gcc") or shutil.which("cc")
POINTS = os.environ.get("SOAK_WRITES", "5")
"""How many writes of a run are broken, spread evenly over it; "all" for each."""

pytestmark = pytest.mark.skipif(
    COMPILER is None or not Path("/proc/self/fd").exists(), reason="no compiler, or no /proc"
)


def compiled(source: Path, folder: Path) -> Path:
    """Return a library to be preloaded."""
    library = folder / f"{source.stem}.so"
    assert COMPILER
    command = [COMPILER, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


@pytest.fixture(scope="module")
def breaking_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """A fork server whose children count their writes."""
    library = compiled(BROKEN_WRITES, tmp_path_factory.mktemp("library"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(library))
        server = ForkServer()
    with server:
        yield server


def is_whole(line: bytes) -> bool:
    """Tell a line from what a kill left of one."""
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


@dataclass
class Breakable:
    """A pipeline whose files break at a chosen write."""

    nights: Nights
    server: ForkServer

    def __post_init__(self) -> None:
        self.files = self.nights.folder / "files"
        self.files.mkdir()
        self.nights.journal = self.files / "journal.sqlite"
        self.settings = {
            **self.nights.settings,
            "journal_path": str(self.nights.journal),
            "rejects_path": str(self.files / "rejects"),
            "receipts_path": str(self.files / "receipts"),
            "max_in_flight": 1,
        }

    def run(self, messages: list[Message], how: str | None = None, number: int = 0) -> Result:
        log = self.nights.folder / "writes"
        log.unlink(missing_ok=True)
        env = {"WRITES_UNDER": str(self.files), "WRITES_LOG": str(log)}
        if how is not None:
            env |= {"WRITES_HOW": how, "WRITES_AT": str(number)}
        with TargetProcess(
            self.settings, self.nights.folder, server=self.server, env=env
        ) as process:
            process.feed_in_background(messages)
            return process.wait()

    def writes(self) -> int:
        return len((self.nights.folder / "writes").read_bytes())

    def ended_well(self) -> bool:
        """Whether the journal holds that its last run ended well; it is left as it is."""
        copy = self.nights.folder / "copy"
        shutil.copytree(self.files, copy)
        with closing(sqlite3.connect(copy / self.nights.journal.name)) as db:
            row = db.execute("SELECT ended_well FROM run ORDER BY id DESC LIMIT 1").fetchone()
        shutil.rmtree(copy)
        return row is not None and bool(row[0])

    def clear(self) -> None:
        for path in self.files.iterdir():
            path.unlink()

    def lines(self, name: str) -> list[dict[str, t.Any]]:
        path = self.files / name
        if not path.exists():
            return []
        whole = [line for line in path.read_bytes().splitlines() if is_whole(line)]
        return [json.loads(line) for line in whole]


@pytest.fixture
def breakable(nights: Nights, breaking_server: ForkServer) -> Breakable:
    return Breakable(nights, breaking_server)


def points(total: int, offset: int) -> list[int]:
    """The writes to break, other ones for another offset."""
    if POINTS == "all":
        return list(range(1, total + 1))
    step = max(1, total // int(POINTS))
    return list(range(1 + offset % step, total + 1, step))


ROWS = [at(1, MORNING), at(2), at(3, email=None), at(4), state(NOON), at(5, EVENING)]
BAD, UNSENT = 2, 3
GOOD = {1, 4, 5}
COVERED = {NOON: {1, 4}, "end": GOOD}
NO_KEY = schema(
    properties={"id": {}, "email": {}, "updated_at": {"format": "date-time"}},
    bookmark_properties=["updated_at"],
)
KINDS: dict[str, tuple[Message, str | None]] = {
    "new_version": (bookmarked(), None),
    "counted": (NO_KEY, None),
    "always": (unbookmarked(), None),
    "changed": (unbookmarked(), "changed"),
    "never": (bookmarked(), "never"),
}


def check_after_break(breakable: Breakable, messages: list[Message], first: Result) -> None:
    """A rerun gets through, nothing is lost, and nothing came twice without a warning."""
    nights = breakable.nights
    assert nights.sandbox.fail_where is not None
    again = breakable.run(messages)
    story = f"{first.stderr}\n{first.stdout}\n-- rerun\n{again.stderr}"
    assert again.status == 0, story
    assert again.bookmarks[-1] == "end"
    sent = nights.sent()
    assert set(sent) == {*GOOD, BAD}, story
    repeated = [n for n in GOOD if sent.count(n) > 1]  # what is not imported messages nobody
    assert len(repeated) <= len(twice(again)), story
    assert all(sent.count(n) <= 2 for n in GOOD), story
    keys = {line["profile_id"] for line in breakable.lines("receipts")}
    arrived = {p["id"] for p in nights.sandbox.profiles}
    assert keys == arrived, f"a receipt for each profile\n{story}"
    rejected = {r["record"]["id"] for r in breakable.lines("rejects") if r["type"] == "RECORD"}
    assert rejected == {BAD, UNSENT}, story


def begin(breakable: Breakable, sandbox: Sandbox, kind: str) -> list[Message]:
    """Choose the stream's kind; return the input."""
    sandbox.fail_where = lambda entry: entry["data"]["id"] == BAD
    head, send_again = KINDS[kind]
    if send_again is not None:
        breakable.settings["send_again"] = send_again
    return [head, *ROWS, state("end")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["kill", "torn"])
def test_a_kill_at_any_write_loses_nothing_and_repeats_nothing_unsaid(
    breakable: Breakable, sandbox: Sandbox, kind: str, how: str
) -> None:
    messages = begin(breakable, sandbox, kind)
    assert breakable.run(messages).status == 0
    total = breakable.writes()
    assert total > 40, "the making of the journal, and its transactions"
    for number in points(total, sum(map(ord, kind + how))):
        breakable.clear()
        forget_all(sandbox)
        first = breakable.run(messages, how, number)
        if first.status == 0:  # fewer writes than the first time
            continue
        if kind == "always" and "end" in first.bookmarks and breakable.ended_well():
            continue  # a STATE that is lost after a good end is not covered
        check_after_break(breakable, messages, first)
        if kind != "always":
            before = breakable.nights.sent()
            third = breakable.run(messages)
            assert third.status == 0, third.stderr
            after = breakable.nights.sent()
            assert [n for n in after if n != BAD] == [n for n in before if n != BAD]


def forget_all(sandbox: Sandbox) -> None:
    """Make the sandbox as it was at its start."""
    sandbox.stop()
    sandbox.__post_init__()
    sandbox.start()


@pytest.mark.parametrize("how", ["kill", "torn"])
def test_a_kill_at_any_write_while_an_old_format_is_carried_over_forgets_nothing(
    breakable: Breakable, how: str
) -> None:
    nights = breakable.nights
    messages = [bookmarked(), at(1), at(2), state("end")]

    def make() -> None:
        breakable.clear()
        write_format_1(nights, boundary=(NOON, [source_digest(at(1)), source_digest(at(2))]))

    make()
    assert breakable.run(messages).status == 0
    assert nights.sent() == []
    for number in points(breakable.writes(), len(how)):
        make()
        assert breakable.run(messages, how, number).status != 0
        again = breakable.run(messages)
        assert again.status == 0, again.stderr
        assert nights.sent() == []


@pytest.mark.parametrize("kind", ["new_version", "always"])
def test_no_space_at_any_write_ends_the_run_with_one_message_and_the_next_goes_on(
    breakable: Breakable, sandbox: Sandbox, kind: str
) -> None:
    messages = begin(breakable, sandbox, kind)
    assert breakable.run(messages).status == 0
    total = breakable.writes()
    for number in points(total, len(kind)):
        breakable.clear()
        forget_all(sandbox)
        first = breakable.run(messages, "full", number)
        if first.status == 0:
            continue
        assert first.status == 1, first.stderr
        assert "cannot be written" in first.error
        assert "_path: " in first.error
        if "customers': read" in first.stderr:  # else nothing could have been sent
            assert "a rerun sends again only what is not known to be delivered" in first.error
        assert "Traceback" not in first.stderr
        for bookmark in first.bookmarks:
            assert COVERED[bookmark] <= set(breakable.nights.sent())
        check_after_break(breakable, messages, first)


def test_a_full_disk_that_stops_two_files_at_once_is_one_message(
    breakable: Breakable, sandbox: Sandbox
) -> None:
    messages = begin(breakable, sandbox, "new_version")
    assert breakable.run([bookmarked()]).status == 0
    made = breakable.writes()
    for number in range(made - 20, made - 10):  # the reader rejects while a worker writes
        breakable.clear()
        forget_all(sandbox)
        result = breakable.run(messages, "full", number)
        assert (result.status, result.states) == (1, [])
        assert "cannot be written" in result.error


def test_what_could_not_be_remembered_was_not_sent(breakable: Breakable, sandbox: Sandbox) -> None:
    messages = [bookmarked(), at(1), state(1)]
    assert breakable.run([bookmarked()]).status == 0
    made = breakable.writes()
    breakable.clear()
    assert breakable.run(messages, "full", made - 3).status == 1
    assert sandbox.entries == []


def test_what_is_in_doubt_is_counted_as_such_where_the_journal_cannot_be_written(
    breakable: Breakable, sandbox: Sandbox
) -> None:
    breakable.settings["batch_size_rows"] = 4
    assert breakable.run([bookmarked()]).status == 0
    made, counted = breakable.writes(), set()
    for number in range(made - 3, made + 37, 4):
        breakable.clear()
        forget_all(sandbox)
        sandbox.add_fault("submit:reset_after,accept")
        result = breakable.run([bookmarked(), *map(at, range(4)), state("end")], "full", number)
        assert result.status == 1, result.stderr
        accepted = len(sandbox.entries)
        if accepted <= 4:  # else a half was accepted as well
            counted.add(accepted)
            assert ("in doubt" in result.stderr) is (accepted > 0), result.stderr
            assert f"in doubt, unanswered: {accepted}" in result.stderr or not accepted
    assert counted == {0, 4}


def test_a_limit_on_the_size_of_files_ends_the_run_with_one_message(
    nights: Nights, tmp_path: Path
) -> None:
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))\n"
        "from target_altcraft.__main__ import main; main()"
    )
    rows = [at(n, f"2024-05-06T12:{n // 60:02d}:{n % 60:02d}Z") for n in range(900)]
    messages = [bookmarked(), *rows, state("end")]
    settings = {**nights.settings, "batch_size_rows": 100, "max_in_flight": 1}
    first = run(messages, settings, tmp_path, command=(sys.executable, "-c", code))
    assert (first.status, first.states) == (1, [])
    assert "cannot be written" in first.error
    nights.good(messages, batch_size_rows=100)
    assert set(nights.sent()) == set(range(900))
    assert len(nights.sent()) <= 900 + 100


@pytest.mark.parametrize("head", [bookmarked(), unbookmarked()], ids=["new_version", "always"])
def test_nothing_goes_out_before_what_it_rests_on_is_on_disk(
    breakable: Breakable, sandbox: Sandbox, tmp_path: Path, head: Message
) -> None:
    library, log = compiled(SYNCED, tmp_path), tmp_path / "events"
    sandbox.fail_where = lambda entry: entry["data"]["id"] == 2
    env = {
        "LD_PRELOAD": str(library),
        "EVENTS_UNDER": str(breakable.files),
        "EVENTS_LOG": str(log),
    }
    messages = [head, at(1), at(2), state(1)]
    result = run(messages, breakable.settings, tmp_path, env=env)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    events = [line.split(" ") for line in log.read_text(encoding="ascii").splitlines()]
    written = {name for event, name in events if event == "w"}
    assert written == {"journal.sqlite", "rejects", "receipts"}
    assert {"n", "o"} <= {event for event, _ in events}
    unsynced = set[str]()
    for event, name in events:
        if event == "w":
            unsynced.add(name)
        elif event == "s":
            unsynced.discard(name)
        else:
            assert not unsynced, events
