"""A crash, and an inclusive bookmark, must not message anybody twice."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import stat
import sys
import time
import typing as t
from contextlib import closing
from pathlib import Path

import pytest
from harness import TargetProcess, customer, record, run, schema, state, wait_for, wait_until

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result

    from target_altcraft.sandbox import Sandbox

    Deliver = Callable[..., Result]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def settings(journal: Path) -> dict[str, t.Any]:
    return {"journal_path": str(journal), "batch_size_rows": 1, "check_workflow": False}


def requests_left(journal: Path) -> int:
    with closing(sqlite3.connect(journal)) as db:
        (number,) = db.execute("SELECT count(*) FROM request").fetchone()
    return int(number)


def test_a_killed_run_does_not_send_again_what_was_accepted(
    sandbox: Sandbox,
    deliver: Deliver,
    config: dict[str, t.Any],
    settings: dict[str, t.Any],
    journal: Path,
    tmp_path: Path,
) -> None:
    sandbox.task_seconds = 1.0
    messages = [schema(key_properties=["id"]), *(customer(n) for n in range(4)), state(1)]
    receipts = {"receipts_path": str(tmp_path / "receipts")}
    with TargetProcess({**config, **settings, **receipts}, tmp_path) as target:
        target.feed(messages)
        wait_for(lambda: target.log().count("accepted as task") == 4, "four tasks in flight")
        target.terminate(signal.SIGKILL)
        target.wait()
    assert requests_left(journal) == 4
    result = deliver(messages, {**settings, **receipts})
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert len(sandbox.tasks) == 4
    assert "delivered before: 4" in result.stderr
    assert "twice" not in result.stderr
    assert requests_left(journal) == 0
    written = Path(receipts["receipts_path"]).read_text(encoding="utf-8").splitlines()
    assert sorted(json.loads(line)["key"]["id"] for line in written) == [0, 1, 2, 3]
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600
    assert b"example" not in journal.read_bytes()


@pytest.mark.parametrize("accept", [",accept", ""])
def test_a_request_unanswered_at_the_kill_is_an_unknown_outcome(
    sandbox: Sandbox,
    deliver: Deliver,
    config: dict[str, t.Any],
    settings: dict[str, t.Any],
    tmp_path: Path,
    accept: str,
) -> None:
    sandbox.add_fault(f"submit:timeout{accept}")
    messages = [schema(), customer(1), state(1)]
    with TargetProcess({**config, **settings}, tmp_path) as target:
        target.feed(messages)
        wait_for(
            lambda: [r for r in sandbox.requests if r.endpoint == "submit" and r.bytes], "a body"
        )
        target.terminate(signal.SIGKILL)
        target.wait()
    careful = deliver(messages, {**settings, "on_ambiguous_submit": "fail"})
    assert (careful.status, careful.states) == (1, [])
    assert "set on_ambiguous_submit to resend" in careful.error
    result = deliver(messages, settings)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    warnings = [line for line in result.log("WARNING") if "twice" in line]
    assert len(warnings) == 1
    assert "stream 'customers', batch 1 (1 profiles)" in warnings[0]
    assert "may enter the scenario twice" in warnings[0]
    assert len(sandbox.entries) == (2 if accept else 1)


def test_the_same_input_is_sent_again_after_a_clean_run(
    sandbox: Sandbox, deliver: Deliver, settings: dict[str, t.Any], journal: Path
) -> None:
    messages = [schema(), customer(1), customer(1), customer(2), state(1)]
    for runs in (1, 2):
        result = deliver(messages, settings)
        assert (result.status, result.bookmarks[-1]) == (0, 1)
        assert len(sandbox.entries) == 3 * runs
        assert requests_left(journal) == 0


def test_outcomes_of_an_earlier_run_are_by_position(
    sandbox: Sandbox,
    deliver: Deliver,
    config: dict[str, t.Any],
    settings: dict[str, t.Any],
    tmp_path: Path,
) -> None:
    sandbox.task_seconds = 1.0
    sandbox.fail_where = lambda entry: entry["data"]["id"] == 1
    rejects = tmp_path / "rejects"
    more = {**settings, "batch_size_rows": 3, "rejects_path": str(rejects)}
    messages = [schema(), *(customer(n) for n in range(3)), state(1)]
    with TargetProcess({**config, **more}, tmp_path) as target:
        target.feed(messages)
        wait_for(lambda: "accepted as task" in target.log(), "a task in flight")
        target.terminate(signal.SIGKILL)
        target.wait()
    result = deliver(messages, more)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert len(sandbox.tasks) == 1
    lines = [json.loads(line) for line in rejects.read_text(encoding="utf-8").splitlines()]
    assert [line["record"]["id"] for line in lines if line["type"] == "RECORD"] == [1]
    assert "delivered before: 2" in result.stderr


@pytest.mark.parametrize("fault", ["task:failed", "task:vanished"])
def test_after_a_task_that_failed_or_vanished_the_next_run_gets_through(
    sandbox: Sandbox,
    config: dict[str, t.Any],
    settings: dict[str, t.Any],
    journal: Path,
    tmp_path: Path,
    fault: str,
) -> None:
    code = (
        "import target_altcraft.delivery.polling as p; p.MISSING_TASK_SECONDS = 0.5\n"
        "from target_altcraft.__main__ import main; main()"
    )
    command = (sys.executable, "-c", code)
    sandbox.add_fault(fault)
    messages = [schema(), customer(1), state(1)]
    first = run(messages, {**config, **settings}, tmp_path, command=command)
    assert (first.status, first.states) == (1, [])
    second = run(messages, {**config, **settings}, tmp_path, command=command)
    assert (second.status, second.bookmarks) == (0, [1]), second.stderr
    assert len(sandbox.tasks) == 2
    assert requests_left(journal) == 0
    (warning,) = [line for line in second.log("WARNING") if "twice" in line]
    assert "may enter the scenario twice" in warning


def test_a_task_that_never_ends_does_not_hold_the_journal_for_ever(
    sandbox: Sandbox, deliver: Deliver, settings: dict[str, t.Any]
) -> None:
    sandbox.add_fault("task", "stuck")
    messages = [schema(), customer(1), state(1)]
    impatient = {**settings, "task_timeout_seconds": 1}
    assert deliver(messages, impatient).status == 1
    careful = deliver(messages, {**impatient, "on_ambiguous_submit": "fail"})
    assert (careful.status, careful.states) == (1, [])
    assert "set on_ambiguous_submit to resend to send it again" in careful.error
    second = deliver(messages, impatient)
    assert (second.status, second.bookmarks) == (0, [1])
    assert sum("may enter the scenario twice" in line for line in second.log("WARNING")) == 1
    assert len(sandbox.tasks) == 2


def test_a_refresh_whose_first_records_the_stream_map_drops_messages_nobody(
    sandbox: Sandbox, deliver: Deliver, settings: dict[str, t.Any]
) -> None:
    head = bookmarked()
    more = {**settings, "stream_maps": {"customers": {"__filter__": "id > 1"}}}
    messages = [head, at(1, "2024-05-06T09:00:00Z"), at(2, NOON), state(1)]
    for _ in range(2):
        assert deliver(messages, more).status == 0
        assert sent(sandbox) == [2]


def test_a_second_run_on_the_same_journal_stops(
    sandbox: Sandbox, config: dict[str, t.Any], settings: dict[str, t.Any], tmp_path: Path
) -> None:
    sandbox.add_fault("task", "stuck")
    with TargetProcess({**config, **settings}, tmp_path) as target:
        target.feed([schema(), customer(1)])
        wait_for(lambda: sandbox.tasks, "a task")
        other = tmp_path / "other"
        other.mkdir()
        result = run([schema()], {**config, **settings}, other)
        assert result.status == 1
        assert "is in use by another run" in result.error


@pytest.mark.parametrize("kind", ["text", "newer", "foreign", "damaged"])
def test_a_journal_that_cannot_be_read_is_left_as_it_is(
    deliver: Deliver, settings: dict[str, t.Any], journal: Path, kind: str
) -> None:
    if kind == "text":
        journal.write_text("no journal", encoding="utf-8")
    else:
        assert deliver([schema(), customer(1), state(1)], settings).status == 0
        if kind == "damaged":
            content = bytearray(journal.read_bytes())
            content[200:] = b"\xff" * len(content[200:])
            journal.write_bytes(content)
        else:
            pragma = "user_version = 99" if kind == "newer" else "application_id = 7"
            with closing(sqlite3.connect(journal)) as db:
                db.execute(f"PRAGMA {pragma}")
    before = journal.read_bytes()
    result = deliver([schema(), customer(1), state(1)], settings)
    assert (result.status, result.states) == (1, [])
    assert "journal_path: " in result.error
    assert "Set journal_path to a new file" in result.error
    assert journal.read_bytes() == before


PROPERTIES = {
    "id": {"type": "integer"},
    "email": {"type": "string"},
    "updated_at": {"type": "string", "format": "date-time"},
}


def bookmarked(column: str = "updated_at", **more: t.Any) -> dict[str, t.Any]:
    return schema(
        properties={**PROPERTIES, **more}, bookmark_properties=[column], key_properties=["id"]
    )


def at(number: int, moment: t.Any, **fields: t.Any) -> dict[str, t.Any]:
    return record(id=number, email=f"c{number}@example.com", updated_at=moment, **fields)


NOON = "2024-05-06T12:00:00Z"


def sent(sandbox: Sandbox) -> list[int]:
    return [int(entry["data"]["id"]) for entry in sandbox.entries]


def test_what_a_tap_repeats_at_its_bookmark_is_not_sent_again(
    sandbox: Sandbox, deliver: Deliver, settings: dict[str, t.Any]
) -> None:
    morning = at(1, "2024-05-06T09:00:00Z")
    first = [bookmarked(), morning, at(2, NOON), at(3, NOON), state(NOON)]
    assert deliver(first, settings).status == 0
    for _ in range(2):  # also across a run that sends nothing
        again = deliver([bookmarked(), at(2, NOON), at(3, NOON), state(NOON)], settings)
        assert (again.status, again.bookmarks) == (0, [NOON])
        assert "delivered before: 2" in again.stderr
    assert sorted(sent(sandbox)) == [1, 2, 3]
    later = [
        bookmarked(),
        at(2, "2024-05-06T14:00:00+02:00"),
        at(3, NOON, city="Perm"),
        at(4, NOON),
        at(5, "2024-05-06T12:00:00.5Z"),
        state("later"),
    ]
    assert deliver(later, settings).status == 0
    assert sorted(sent(sandbox)) == [1, 2, 3, 3, 4, 5]


def test_a_full_refresh_messages_nobody(
    sandbox: Sandbox, deliver: Deliver, settings: dict[str, t.Any]
) -> None:
    messages = [bookmarked(), at(1, "2024-05-06T09:00:00Z"), at(2, NOON), state(NOON)]
    for _ in range(2):
        assert deliver(messages, settings).status == 0
        assert sorted(sent(sandbox)) == [1, 2]


@pytest.mark.parametrize(
    "head",
    [
        schema(properties=PROPERTIES),
        schema(properties=PROPERTIES, bookmark_properties=["updated_at", "id"]),
    ],
)
def test_without_one_bookmark_everything_is_sent(
    sandbox: Sandbox, deliver: Deliver, settings: dict[str, t.Any], head: dict[str, t.Any]
) -> None:
    for runs in (1, 2):
        assert deliver([head, at(1, NOON), state(1)], settings).status == 0
        assert len(sandbox.entries) == runs


def test_what_no_state_covered_is_not_sent_again_either(
    sandbox: Sandbox, deliver: Deliver, settings: dict[str, t.Any]
) -> None:
    assert deliver([bookmarked(), at(1, NOON)], settings).status == 0  # no STATE
    assert deliver([bookmarked(), at(1, NOON), state(1)], settings).status == 0
    assert sent(sandbox) == [1]


ROUNDS = int(os.environ.get("SOAK_KILLS", "4"))


@pytest.mark.parametrize("seed", range(int(os.environ.get("SOAK_KILL_SEEDS", "2"))))
@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_killed_at_any_moment_and_replayed_nobody_is_messaged_twice(
    sandbox: Sandbox, config: dict[str, t.Any], journal: Path, tmp_path: Path, seed: int, how: str
) -> None:
    rng = random.Random(f"{how} {seed}")
    sandbox.task_seconds = lambda _number, _entries: rng.choice([0.0, 0.05, 0.2])
    settings = {
        **config,
        "journal_path": str(journal),
        "batch_size_rows": rng.choice([1, 7]),
        "shutdown_seconds": 0,
        "check_workflow": False,
    }
    total, bookmark, log = 150, -1, ""
    unanswered: set[int] = set()

    def tap(start: int) -> t.Iterator[dict[str, t.Any]]:
        yield schema()
        for n in range(start, total):
            yield customer(n)
            if n % 5 == 4:
                yield state(n)
        yield state(total - 1)

    for number in range(ROUNDS + 1):
        with TargetProcess(settings, tmp_path) as target:
            target.feed_in_background(tap(bookmark + 1))
            if number < ROUNDS:
                wait_until(time.monotonic() + rng.uniform(0.4, 1.6))
                target.terminate(signal.SIGKILL if how == "kill" else signal.SIGTERM)
            result = target.wait()
        bookmark = result.bookmarks[-1] if result.bookmarks else bookmark
        log += result.stderr
        for seen in sandbox.requests:
            if seen.accepted and str(seen.task_id) not in result.stderr:
                unanswered |= {int(p[1:].split("@")[0]) for p in seen.profiles}
    assert result.status == 0, result.stderr
    arrived = sent(sandbox)
    assert set(arrived) == set(range(total))
    twice = {n for n in arrived if arrived.count(n) > 1}
    if twice:
        assert "may enter the scenario twice" in log
    assert twice <= unanswered
    assert len(twice) <= ROUNDS * 4 * settings["batch_size_rows"]
    assert requests_left(journal) == 0
