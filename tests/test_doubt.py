"""What may have been accepted stays in doubt, whatever comes after it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import threading
import typing as t
from pathlib import Path

import pytest
from harness import COMMAND, customer, lines, schema, state, wait_for
from nights import NOON, at, bookmarked, twice, warnings

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result, TargetProcess
    from nights import Nights

    from target_altcraft.sandbox import Sandbox

    Deliver = Callable[..., Result]

MESSAGES = [bookmarked(), at(1), state(NOON)]
LOST = ["submit:timeout,accept", "submit:reset_after,accept", "submit:http,status=500,accept"]
NOT_ACCEPTED = "submit:http,status=503,retry_after=0,after=1,times=always"
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
QUICK = {"request_timeout_seconds": 0.5, "retry_max_seconds": 1}


def in_doubt(nights: Nights, result: Result) -> None:
    """A rerun with `fail` stops, one with the default warns and sends again."""
    assert (result.status, result.states) == (1, [])
    assert "it is unknown whether its 1 profiles were accepted" in result.error
    assert "a rerun sends again only what was not accepted" not in result.stderr
    nights.sandbox.clear_faults()
    careful = nights.run(MESSAGES, on_ambiguous_submit="fail")
    assert (careful.status, careful.states) == (1, [])
    assert "it is unknown whether its 1 profiles were accepted" in careful.error
    assert nights.sent() == [1]
    again = nights.good(MESSAGES)
    assert len(twice(again)) == 1
    assert nights.sent() == [1, 1]


# A doubt, and then nothing but refusals to take it


@pytest.mark.parametrize("fault", LOST)
def test_a_doubt_survives_answers_that_the_repeat_was_not_accepted(
    nights: Nights, sandbox: Sandbox, fault: str
) -> None:
    sandbox.add_fault(fault)
    sandbox.add_fault(NOT_ACCEPTED)
    in_doubt(nights, nights.run(MESSAGES, **QUICK))


@pytest.mark.parametrize("code", [401, 402, 403, 404])
def test_a_doubt_survives_an_answer_that_ends_the_run(
    nights: Nights, sandbox: Sandbox, code: int
) -> None:
    sandbox.add_fault("submit:reset_after,accept")
    sandbox.add_fault(f"submit:error,code={code},after=1")
    in_doubt(nights, nights.run(MESSAGES, **QUICK))


def test_a_doubt_survives_a_server_that_is_gone(nights: Nights, sandbox: Sandbox) -> None:
    sandbox.add_fault("submit:reset_after,accept")
    sandbox.add_fault("submit:reset_before,times=always")
    in_doubt(nights, nights.run(MESSAGES, **QUICK))


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_doubt_survives_a_kill_in_the_wait_for_another_attempt(
    nights: Nights, sandbox: Sandbox, signum: int
) -> None:
    sandbox.add_fault("submit:reset_after,accept")
    sandbox.add_fault("submit:http,status=503,retry_after=60,after=1,times=always")
    nights.stopped(MESSAGES, lambda _: nights.calls("submit") == 2, signum, retry_max_seconds=100)
    sandbox.clear_faults()
    careful = nights.run(MESSAGES, on_ambiguous_submit="fail")
    assert (careful.status, careful.states) == (1, [])
    again = nights.good(MESSAGES)
    assert len(twice(again)) == 1
    assert nights.sent() == [1, 1]


def test_an_acceptance_ends_the_doubt(nights: Nights, sandbox: Sandbox) -> None:
    sandbox.add_fault("submit:reset_after")
    sandbox.add_fault("submit:http,status=503,retry_after=0,after=1")
    result = nights.good(MESSAGES)
    assert len(twice(result)) == 1
    for _ in range(2):
        assert not twice(nights.good(MESSAGES, on_ambiguous_submit="fail"))
    assert nights.sent() == [1]


def test_a_doubt_survives_the_delivery_of_another_entry_with_its_key_and_bookmark(
    nights: Nights, sandbox: Sandbox
) -> None:
    columns = bookmarked(city={"type": "string"})
    sandbox.add_fault("submit:timeout,accept")
    nights.stopped([columns, at(1, city="Perm")], lambda _: len(sandbox.tasks) == 1)
    nights.good([columns, at(1, city="Omsk"), state(NOON)])
    careful = nights.run([columns, at(1, city="Perm")], on_ambiguous_submit="fail")
    assert careful.status == 1
    assert "it is unknown whether its 1 profiles were accepted" in careful.error


def test_the_doubt_of_one_half_is_that_halfs_alone(nights: Nights, sandbox: Sandbox) -> None:
    rows = [at(n) for n in range(4)]
    sandbox.add_fault("submit:reset_after,accept")
    sandbox.add_fault("submit:error,code=403,after=2,times=always")
    messages = [bookmarked(), *rows, state(NOON)]
    first = nights.run(messages, batch_size_rows=4, on_ambiguous_submit="resend")
    assert (first.status, first.states) == (1, [])
    assert "it is unknown whether its 2 profiles were accepted" in first.error
    assert nights.sent() == [0, 0, 1, 1, 2, 3]
    sandbox.clear_faults()
    careful = nights.run(messages, batch_size_rows=4, on_ambiguous_submit="fail")
    assert "its 2 profiles" in careful.error
    again = nights.good(messages, batch_size_rows=4)
    assert len(twice(again)) == 1
    assert nights.sent() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_halves_that_were_accepted_leave_no_doubt_behind(nights: Nights, sandbox: Sandbox) -> None:
    messages = [bookmarked(), *(at(n) for n in range(4)), state(NOON)]
    sandbox.add_fault("submit:reset_after")
    first = nights.good(messages, batch_size_rows=4)
    assert len(twice(first)) == 1
    assert [task.size for task in sandbox.tasks] == [2, 2]
    nights.good(messages, batch_size_rows=4, resend=True, on_ambiguous_submit="fail")
    assert nights.sent() == [0, 0, 1, 1, 2, 2, 3, 3]


# A doubt, and then a refusal


@pytest.mark.parametrize(
    "fault", ["submit:error,code=400,text=Invalid request", "submit:http,status=413"]
)
def test_what_was_lost_and_then_refused_is_a_reject_that_says_so_and_a_doubt_when_replayed(
    nights: Nights, sandbox: Sandbox, tmp_path: Path, fault: str
) -> None:
    path = tmp_path / "rejects"
    settings = {"rejects_path": str(path), "max_in_flight": 1}
    sandbox.add_fault("submit:reset_after,accept,where=c1@example.com")
    sandbox.add_fault(f"{fault},where=c1@example.com,after=1")
    nights.good([bookmarked(), at(9), at(1), state(NOON)], **settings)
    rejects = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    (reject,) = [line for line in rejects if line["type"] == "RECORD"]
    assert "an earlier attempt may have been accepted" in reject["rejection"]["reason"]
    sandbox.clear_faults()
    careful = nights.run(rejects, on_ambiguous_submit="fail")
    assert careful.status == 1
    assert "may have been accepted before it was refused" in careful.error
    skipped = nights.good(rejects, on_ambiguous_submit="skip")
    assert not twice(skipped)
    assert nights.sent() == [1, 9]
    without = nights.run(rejects, journal_path=None, on_ambiguous_submit="fail")
    assert without.status == 1
    path.unlink()
    warned = nights.good(rejects, journal_path=None)
    assert len(twice(warned)) == 1
    assert nights.sent() == [1, 1, 9]


def test_the_end_of_a_run_counts_what_was_lost_and_then_refused_as_in_doubt(
    nights: Nights, sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.add_fault("submit:reset_after,accept")
    sandbox.add_fault("submit:error,code=400,where=c1@example.com")
    sandbox.add_fault("submit:error,code=403,where=c2@example.com")
    settings = {"rejects_path": str(tmp_path / "rejects"), "batch_size_rows": 2}
    result = nights.run([bookmarked(), at(1), at(2), state(NOON)], **settings)
    assert (result.status, result.states) == (1, [])
    assert "it is unknown whether its 2 profiles were accepted" in result.error
    assert "in doubt, unanswered: 2" in result.stderr


@pytest.mark.parametrize("rows", [1, 10])
@pytest.mark.parametrize("journal", [True, False])
def test_a_warning_of_a_replayed_reject_names_its_own_line(
    nights: Nights, *, journal: bool, rows: int
) -> None:
    rejection = {"code": "in_doubt", "stream": "customers"}
    rejects = [{**at(n), "rejection": rejection} for n in (1, 2, 3)]
    settings: dict[str, t.Any] = {"batch_size_rows": rows}
    if not journal:
        settings["journal_path"] = None
    result = nights.good([bookmarked(), *rejects], **settings)
    said = [line for line in result.log("WARNING") if "the rejected record in line" in line]
    assert [line.partition("in line ")[2][0] for line in said] == ["2", "3", "4"]


def test_without_a_rejects_file_what_was_lost_and_then_refused_is_still_in_doubt(
    nights: Nights, sandbox: Sandbox
) -> None:
    sandbox.add_fault("submit:reset_after,accept")
    sandbox.add_fault("submit:error,code=400,text=Invalid request,after=1")
    in_doubt(nights, nights.run(MESSAGES, **QUICK))


def test_a_refused_lone_record_is_a_reject_where_an_earlier_run_had_something_accepted(
    nights: Nights, sandbox: Sandbox, tmp_path: Path
) -> None:
    settings = {"rejects_path": str(tmp_path / "rejects")}
    sandbox.refuse_where = lambda entry: entry["data"]["id"] == 2
    lonely = [bookmarked(), at(2), state("two")]
    first = nights.run(lonely, **settings)
    assert (first.status, first.states) == (1, [])
    assert "a setting is wrong" in first.error
    nights.good([bookmarked(), at(1), state("one")], **settings)
    assert nights.good(lonely, **settings).bookmarks == ["two"]
    other = nights.run([bookmarked(), at(2, "2024-05-06T13:00:00Z")], **settings, workflow_id=2)
    assert other.status == 1, "with other settings nothing was accepted"


# A replayed reject whose stream is gone


def test_a_replayed_reject_whose_stream_is_gone_is_counted_and_named(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    rejection = {"reason": "x", "code": "schema", "stream": "vip"}
    messages = [schema(), *({**customer(n), "rejection": rejection} for n in (1, 2)), state(1)]
    result = deliver(messages)
    assert result.status == 0, result.stderr
    assert "stream 'vip': read: 2; skipped, no such output stream: 2" in result.stderr
    (warning,) = warnings(result)
    assert "stream 'vip'" in warning
    assert sandbox.entries == []


# A host that takes smaller bodies and hangs up


@pytest.mark.parametrize("rows", [None, 10_000, 300])
def test_a_host_that_hangs_up_on_bodies_that_fit_its_buffers_is_found_out(
    sandbox: Sandbox, deliver: Deliver, rows: int | None
) -> None:
    sandbox.body_limit = 60_000
    sandbox.close_on_too_large = True
    messages = (EXAMPLES / "customers.singer").read_text(encoding="utf-8").splitlines()
    settings = json.loads((EXAMPLES / "config.json").read_text(encoding="utf-8"))
    del settings["api_url"], settings["batch_size_rows"]
    result = deliver(messages, {**settings, **({"batch_size_rows": rows} if rows else {})})
    assert result.status == 0, result.stderr
    assert 1 <= len(twice(result)) <= 3
    arrived = [json.dumps(entry, default=str) for entry in sandbox.entries]
    assert len(arrived) == len(set(arrived)) == sum('"RECORD"' in line for line in messages)


def test_what_such_a_host_took_holds_for_the_rest_of_the_run(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.body_limit = 60_000
    sandbox.close_on_too_large = True
    messages = [schema(), *(customer(n) for n in range(6000)), state(1)]
    result = deliver(messages, {"batch_size_bytes": 75_000, "max_in_flight": 1})
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert sorted(int(e["data"]["id"]) for e in sandbox.entries) == list(range(6000))
    assert len(twice(result)) <= 3
    assert any("set batch_size_bytes" in line for line in result.log("WARNING"))


def test_after_a_doubt_whose_halves_passed_no_larger_body_is_tried(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.add_fault("submit:reset_after")
    messages = [schema(), *(customer(n) for n in range(6000)), state(1)]
    result = deliver(messages, {"batch_size_bytes": 75_000, "max_in_flight": 1})
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    sizes = [task.body_bytes for task in sandbox.tasks]
    assert max(sizes) == max(sizes[:2])
    assert len(twice(result)) == 1


def test_giving_up_on_such_a_host_names_batch_size_bytes(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.add_fault("submit:reset_after,times=always")
    result = deliver([schema(), *(customer(n) for n in range(40)), state(1)])
    assert (result.status, result.states) == (1, [])
    assert "lower batch_size_bytes" in result.error
    assert len(twice(result)) <= 3


# Doubts about one row


def has_sent(nights: Nights, number: int) -> Callable[[TargetProcess], bool]:
    return lambda _: len(nights.sent()) == number


@pytest.mark.parametrize("send_again", ["new_version", "changed", "never"])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_row_that_comes_twice_goes_out_once_however_many_doubts_there_are_about_it(
    nights: Nights, sandbox: Sandbox, send_again: str, rows: int
) -> None:
    nights.settings["send_again"] = send_again
    for night in range(1, 4):  # each dies with the row on the wire
        sandbox.add_fault("submit:timeout,accept")
        nights.stopped(MESSAGES, has_sent(nights, night))
    messages = [bookmarked(), at(1), at(1), state(1), at(1), at(2), state(2)]
    again = nights.good(messages, batch_size_rows=rows)
    assert nights.sent() == [1, 1, 1, 1, 2]
    assert again.bookmarks[-1] == 2
    assert len(twice(again)) == 1
    quiet = nights.good(messages)
    assert (nights.sent(), twice(quiet)) == ([1, 1, 1, 1, 2], [])


# stdout that stalls


def test_a_delivered_batch_whose_state_cannot_be_printed_is_not_called_abandoned(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**config, "batch_size_rows": 1, "shutdown_seconds": 1}))
    big = {"type": "STATE", "value": {"bookmark": "x" * 200_000}}
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [COMMAND, "--config", str(path)],
        stdin=subprocess.PIPE,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    said: list[str] = []
    assert process.stdin
    assert process.stderr
    reader = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
    reader.start()
    try:
        for line in lines(itertools.chain([schema()], *([customer(n), big] for n in range(2)))):
            process.stdin.write(line)
        process.stdin.flush()
        wait_for(lambda: sum("completed after" in line for line in said) == 2, "both delivered")
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        reader.join(10)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stderr.close()
        os.close(reading)
    assert len(sandbox.tasks) == 2
    log = "".join(said)
    assert "abandoned" not in log
    assert "was delivered, but its STATE could not be written to stdout" in log
