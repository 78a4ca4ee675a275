"""What a run says, when, and how it accounts for every record."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import textwrap
import time
import typing as t

import pytest
from harness import COMMAND, TargetProcess, customer, record, schema, state, wait_for
from terminal import at_a_terminal

if t.TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result

    from target_altcraft.sandbox import Sandbox

    Deliver = Callable[..., Result]


def three() -> list[dict[str, t.Any]]:
    return [schema(), customer(1), customer(2), customer(3), state(1)]


# A host that is away


AWAY = {
    "submit:http,status=503": "import_and_start_batch_task: HTTP 503",
    "submit:http,status=429,retry_after=1": "import_and_start_batch_task: HTTP 429",
    "submit:error,code=503": "import_and_start_batch_task: error 503",
}


@pytest.mark.parametrize("fault", AWAY)
def test_a_busy_host_is_warned_of_at_once_and_not_at_each_repeat(
    sandbox: Sandbox, deliver: Deliver, fault: str
) -> None:
    sandbox.add_fault(f"{fault},times=3")
    result = deliver(three(), {"retry_max_seconds": 300, "batch_size_rows": 1})
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    (warning,) = (line for line in result.log("WARNING") if "tried again" in line)
    assert re.fullmatch(
        rf"stream 'customers', batch \d \(1 profiles\): .*{AWAY[fault]}.* "
        r"It is tried again for 5 minutes \(retry_max_seconds\)",
        warning,
    )


def test_a_host_that_cannot_be_reached_is_warned_of_by_the_check_of_the_scenario(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    sandbox.stop()
    with TargetProcess({**config, "retry_max_seconds": 60}, tmp_path) as target:
        target.feed(three())
        target.close_input()
        wait_for(lambda: "tried again" in target.log(), "a word", 10)
        sandbox.start()
        result = target.wait()
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    (warning,) = (line for line in result.log("WARNING") if "tried again" in line)
    assert warning == (
        "stream 'customers': workflows/list: the connection was refused. It is tried again for "
        "60 s (retry_max_seconds)"
    )


# Rejects


def test_rejected_records_are_warned_of_at_the_end(
    sandbox: Sandbox, deliver: Deliver, tmp_path: Path
) -> None:
    path = str(tmp_path / "rejects.jsonl")
    sandbox.add_fault("task:partial,indexes=0,code=422")
    messages = [schema(), *(customer(n) for n in (1, 2, 3)), customer(4, email=None)]
    messages += [customer(5, email=" "), state(1)]
    result = deliver(messages, {"rejects_path": path})
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    (warning,) = (line for line in result.log("WARNING") if "rejected" in line)
    assert warning == (
        f"records rejected: 3, most often for 'no_match_value' (2). They stand in {path}, each "
        "with its reason; mend and replay them"
    )


def test_a_run_without_rejects_says_nothing_of_them(deliver: Deliver, tmp_path: Path) -> None:
    result = deliver(three(), {"rejects_path": str(tmp_path / "rejects.jsonl")})
    assert result.status == 0
    assert "rejected" not in result.stderr


# An input without a message


@pytest.mark.parametrize("text", ["", "\n", "\n \n\n"])
def test_an_input_without_a_message_is_warned_of(deliver: Deliver, text: str) -> None:
    result = deliver([text] if text else [])
    assert (result.status, result.states) == (0, [])
    assert [line for line in result.log("WARNING") if "input" in line] == [
        "the input held no message: the tap wrote nothing, not even a SCHEMA. Look at the tap's log"
    ]


@pytest.mark.parametrize("messages", [[state(1)], [schema()]], ids=["state", "schema"])
def test_an_input_with_a_message_is_none_of_these(deliver: Deliver, messages: list[t.Any]) -> None:
    result = deliver(messages)
    assert result.status == 0
    assert "the input held no message" not in result.stderr


# A tap that reads from before what was delivered


def row(number: int, **fields: t.Any) -> dict[str, t.Any]:
    moment = f"2025-03-{1 + number // 24:02}T{number % 24:02}:00:00Z"
    values = {"id": number, "email": f"c{number}@example.com", "at": moment}
    return record("customers", **{**values, **fields})


def marked(*rows: dict[str, t.Any], **more: t.Any) -> list[dict[str, t.Any]]:
    types = {"id": {"type": "integer"}, "email": {"type": "string"}}
    at = {"type": ["string", "integer", "null"]}
    head = schema(properties={**types, "at": at}, key_properties=["id"], **more)
    return [{**head, "bookmark_properties": ["at"]}, *rows, state(len(rows))]


BEFORE = (
    "stream 'customers': the tap reads from before the newest bookmark that was delivered: was its "
    "bookmark lost, or is it a full refresh? What was delivered before is not sent; what the "
    "journal does not know is sent. To send all of it again, run once with resend set to this "
    "stream"
)


@pytest.fixture
def journal(tmp_path: Path) -> dict[str, str]:
    return {"journal_path": str(tmp_path / "journal.sqlite")}


def known(result: Result) -> list[str]:
    """What is said of a tap that brings what was delivered."""
    return [line for line in result.log("WARNING") if "delivered" in line]


@pytest.mark.parametrize("number", [3, 60])
def test_a_lost_bookmark_is_said_once(
    deliver: Deliver, journal: dict[str, str], number: int
) -> None:
    rows = [row(n) for n in range(number)]
    assert known(deliver(marked(*rows), journal)) == []
    again = deliver(marked(*rows, *rows, row(number)), journal)
    assert (again.status, known(again)) == (0, [BEFORE])


def test_a_lost_bookmark_is_said_before_anything_is_sent(
    sandbox: Sandbox, config: dict[str, t.Any], journal: dict[str, str], tmp_path: Path
) -> None:
    settings = {**config, **journal}
    with TargetProcess(settings, tmp_path) as first:
        first.feed(marked(row(5)))
        first.close_input()
        assert first.wait().status == 0
    with TargetProcess(settings, tmp_path) as second:
        second.feed(marked(row(1), row(5)))
        wait_for(lambda: BEFORE in second.log(), "the warning")
        assert len(sandbox.tasks) == 1
        second.close_input()
        result = second.wait()
    assert known(result) == [BEFORE]
    assert [entry["data"]["id"] for entry in sandbox.entries] == [5, 1]


def test_a_tap_at_its_bookmark_is_not_warned_of(deliver: Deliver, journal: dict[str, str]) -> None:
    rows = [row(n, at="2025-03-01T00:00:00Z") for n in range(30)]
    deliver(marked(*rows), journal)
    again = deliver(marked(*rows, row(31), row(32, at=None)), journal)
    assert (again.status, known(again)) == (0, [])
    assert "skipped, delivered before: 30" in again.stderr


def test_a_rerun_after_a_failure_is_not_warned_of(
    sandbox: Sandbox, deliver: Deliver, journal: dict[str, str]
) -> None:
    sandbox.add_fault("submit:http,status=401,after=2")
    settings = {**journal, "batch_size_rows": 1, "max_in_flight": 1}
    failed = deliver(marked(row(1), row(2), row(3)), settings)
    assert failed.status == 1
    sandbox.clear_faults()
    rerun = deliver(marked(row(1), row(2), row(3)), settings)
    assert (rerun.status, known(rerun)) == (0, []), rerun.stderr
    assert any("as it should after a run that did not end well" in x for x in rerun.log("INFO"))
    lost = deliver(marked(row(1), row(2), row(3)), settings)
    assert known(lost) == [BEFORE]


@pytest.mark.parametrize("name", ["resend", "baseline"])
def test_a_resend_or_baseline_is_not_warned_of(
    deliver: Deliver, journal: dict[str, str], name: str
) -> None:
    deliver(marked(row(1), row(2)), journal)
    again = deliver(marked(row(1), row(2)), {**journal, name: True})
    assert (again.status, known(again)) == (0, [])


def test_where_bookmarks_do_not_sort_the_number_of_known_records_tells(
    deliver: Deliver, journal: dict[str, str]
) -> None:
    rows = [row(n, at=f"page {n}") for n in range(30)]
    deliver(marked(*rows), journal)
    again = deliver(marked(*rows), journal)
    (warning,) = known(again)
    assert warning.startswith("30 of 30 records of 'customers' were delivered before and not sent")


# Every record is accounted for


def account(result: Result, stream: str = "customers") -> dict[str, int]:
    """The counts of a stream; fails unless they add up to what was read."""
    (line,) = (x for x in result.log("INFO") if x.startswith(f"stream '{stream}': read: "))
    counts = {what: int(n) for what, n in re.findall(r"(?:: |; )([^:;]+): (\d+)", line)}
    counts.pop("sent again, outcome unknown", None)
    read = counts.pop("read")
    assert read == sum(counts.values()), line
    return {"read": read, **counts}


ENDS = {
    "submit:http,status=401": {"not sent": 2},
    "submit:reset_after": {"in doubt, unanswered": 1, "not sent": 1},
    "submit:no_task_id": {"in doubt, accepted without a task id": 1, "not sent": 1},
    "task:failed": {"in doubt, its task failed": 1, "not sent": 1},
    "task:stuck": {"in doubt, accepted, outcome unknown": 1, "not sent": 1},
    "task:partial,indexes=0": {"in doubt, accepted, outcome unknown": 1, "not sent": 1},
    "submit:error,code=400": {"not sent": 2},
}


@pytest.mark.parametrize("fault", ENDS)
def test_a_failed_run_accounts_for_every_record(
    sandbox: Sandbox, deliver: Deliver, fault: str
) -> None:
    sandbox.add_fault(f"{fault},after=1")
    messages = [schema(), customer(0, _sdc_deleted_at="2025-01-01T00:00:00Z")]
    messages += [customer(1), customer(2), customer(3), state(1)]
    settings = {
        "batch_size_rows": 1,
        "max_in_flight": 1,
        "on_ambiguous_submit": "fail",
        "task_timeout_seconds": 2,
    }
    result = deliver(messages, settings)
    assert (result.status, result.states) == (1, []), result.stderr
    others = {"delivered": 1, "skipped, deleted at the source": 1}
    assert account(result) == {"read": 4, **others, **ENDS[fault]}


def test_halves_in_doubt_are_accounted_for(sandbox: Sandbox, deliver: Deliver) -> None:
    sandbox.add_fault("submit:reset_after,times=1")
    sandbox.add_fault("submit:http,status=401,after=1")
    result = deliver([schema(), *(customer(n) for n in range(8)), state(1)])
    assert result.status == 1, result.stderr
    assert account(result) == {"read": 8, "in doubt, unanswered": 8}


def test_a_brake_on_rejects_accounts_for_every_record(
    sandbox: Sandbox, deliver: Deliver, tmp_path: Path
) -> None:
    sandbox.add_fault("task:partial,indexes=0+1,code=422")
    result = deliver(
        [schema(), *(customer(n) for n in range(5)), state(1)],
        {"rejects_path": str(tmp_path / "rejects.jsonl"), "max_rejects": 1},
    )
    assert (result.status, result.states) == (1, [])
    counts = account(result)
    assert counts == {"read": 5, "delivered": 3, "rejected, error 422": 2}
    assert any(x.startswith("records rejected: 2, ") for x in result.log("WARNING"))


def test_records_that_were_never_batched_are_not_sent(
    deliver: Deliver, journal: dict[str, str]
) -> None:
    result = deliver([*marked(row(1), row(2))[:-1], "no message"], journal)
    assert result.status == 1
    assert account(result) == {"read": 2, "not sent": 2}


def test_a_record_that_ends_the_run_is_not_sent(deliver: Deliver) -> None:
    result = deliver([schema(), customer(1), customer(2, email=None), state(1)])
    assert result.status == 1
    assert account(result) == {"read": 2, "not sent": 2}


def test_a_stopped_run_accounts_for_every_record(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    sandbox.task_seconds = 60
    settings = {**config, "batch_size_rows": 1, "max_in_flight": 2, "shutdown_seconds": 1}
    with TargetProcess(settings, tmp_path) as target:
        target.feed([schema(), *(customer(n) for n in range(5)), state(1)])
        wait_for(lambda: target.log().count("accepted as task") == 2, "two tasks in flight")
        target.terminate(signal.SIGTERM)
        result = target.wait()
    assert result.status == 128 + signal.SIGTERM
    counts = account(result)
    assert counts == {"read": 3, "in doubt, accepted, outcome unknown": 2, "not sent": 1}


def test_the_report_accounts_for_every_record(
    sandbox: Sandbox, deliver: Deliver, tmp_path: Path
) -> None:
    sandbox.add_fault("task:failed")
    path = tmp_path / "report.json"
    assert deliver(three(), {"report_path": str(path)}).status == 1
    counts = json.loads(path.read_text("utf-8"))["streams"]["customers"]
    assert (counts["in_doubt"], counts["not_sent"]) == ({"its task failed": 3}, 0)


# A state that is not known


def test_a_status_that_is_not_known_is_warned_of_once_a_run(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.task_seconds = 0.3
    sandbox.add_fault("task:unknown_status,name=pending,times=3")
    result = deliver(three(), {"batch_size_rows": 1})
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    warnings = [line for line in result.log("WARNING") if "is not known" in line]
    assert len(warnings) == 1, result.stderr
    assert "status 'pending' is not known and counts as still running" in warnings[0]


# The last words

TAP = """
import json, sys, time
print(json.dumps({head}), flush=True)
for number in range({number}):
    print(json.dumps({{"type": "RECORD", "stream": "customers", "record":
        {{"id": number, "email": "c%d@example.com" % number}}}}), flush=True)
"""

SCROLL = (
    "the tap had not ended yet. What it, or Meltano, says of a broken pipe only follows from that: "
    "scroll past it. The cause is the next line"
)


def piped(config: dict[str, t.Any], folder: Path, number: int) -> tuple[list[str], float]:
    """Run `tap | target-altcraft`; return what both said in one log, and the seconds it took."""
    tap = folder / "tap.py"
    tap.write_text(textwrap.dedent(TAP).format(head=schema(), number=number), encoding="utf-8")
    path = folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    started = time.monotonic()
    with (folder / "log").open("wb") as log:
        command = [sys.executable, str(tap)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as writing:
            target = subprocess.Popen(
                [COMMAND, "--config", str(path)],
                stdin=writing.stdout,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
            assert writing.stdout
            writing.stdout.close()
            assert target.wait(60) == 1
    return (folder / "log").read_text("utf-8").splitlines(), time.monotonic() - started


@pytest.mark.parametrize("wrong", [{"workflow_id": 99}, {"max_in_flight": 0}])
def test_the_last_words_are_ours_though_the_tap_still_writes(
    config: dict[str, t.Any], tmp_path: Path, wrong: dict[str, t.Any]
) -> None:
    log, seconds = piped({**config, **wrong}, tmp_path, 10**9)
    assert any("BrokenPipeError" in line for line in log)
    assert [line.split(" | ")[1].strip() for line in log[-2:]] == ["WARNING", "ERROR"]
    assert log[-2].endswith(SCROLL)
    assert "workflow_id 99" in log[-1] or "max_in_flight" in log[-1]
    assert seconds < 30


def test_a_tap_that_soon_ends_has_no_pipe_broken(config: dict[str, t.Any], tmp_path: Path) -> None:
    log, _ = piped({**config, "workflow_id": 99}, tmp_path, 50_000)
    assert not any("BrokenPipeError" in line or "scroll past" in line for line in log)
    assert "workflow_id 99" in log[-1]


# At a terminal


def test_the_live_line_never_shares_a_line_with_state(
    config: dict[str, t.Any], tmp_path: Path
) -> None:
    messages = [schema(), customer(1), state(1), customer(2), state(2)]
    shown = at_a_terminal({**config, "batch_size_rows": 1}, tmp_path, messages)
    states = [line for line in shown if '"bookmark"' in line]
    # What was shown before it on the line was wiped, and the cursor put back.
    assert [line.rpartition("\r")[2] for line in states] == ['{"bookmark":1}', '{"bookmark":2}']
    for line in states:
        wiped = line.rpartition("\r")[0].rpartition("\r")[2]
        assert wiped.strip() == "", line
    assert any("2 read, 0 in flight" in line for line in shown)


@pytest.mark.parametrize(("level", "expected"), [("info", False), ("debug", True)])
def test_metrics_do_not_crowd_out_the_summary_at_a_terminal(
    config: dict[str, t.Any], tmp_path: Path, level: str, *, expected: bool
) -> None:
    shown = at_a_terminal(config, tmp_path, three(), TARGET_ALTCRAFT_LOGLEVEL=level)
    assert any("METRIC" in line for line in shown) == expected
    assert any("stream 'customers': read: 3; delivered: 3" in line for line in shown)


def test_the_summary_comes_after_the_metrics(deliver: Deliver) -> None:
    result = deliver(three())
    log = result.log("INFO")
    (summary,) = (n for n, x in enumerate(log) if x.startswith("stream 'customers': read"))
    metrics = [n for n, line in enumerate(log) if line.startswith("METRIC")]
    assert metrics
    assert max(metrics) < summary
