"""Promise 3's table, row by row: what was sent how often, which STATE came out, what was said."""

from __future__ import annotations

import sys
import typing as t

import pytest
from harness import TargetProcess, customer, schema, state, wait_for
from nights import at, bookmarked, warnings

if t.TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from nights import Nights

    from target_altcraft.sandbox import Sandbox

    Deliver = Callable[..., Result]


def two_batches() -> list[dict[str, t.Any]]:
    return [schema(), customer(1), state(1), customer(2), state(2)]


ONE_AT_A_TIME = {"batch_size_rows": 1, "max_in_flight": 1}


def submits(sandbox: Sandbox) -> list[t.Any]:
    return [seen for seen in sandbox.requests if seen.endpoint == "submit"]


NOT_ACCEPTED = [
    "submit:http,status=503,retry_after=0,times=2",
    "submit:http,status=429,times=2",
    "submit:error,code=503,times=2",
    "submit:error,code=429,times=2",
    "submit:http,status=503,html,times=2",
]


@pytest.mark.parametrize("fault", NOT_ACCEPTED)
def test_what_was_not_accepted_is_repeated_and_arrives_once(
    sandbox: Sandbox, deliver: Deliver, fault: str
) -> None:
    sandbox.add_fault(fault)
    result = deliver(two_batches(), ONE_AT_A_TIME)
    assert (result.status, result.bookmarks) == (0, [1, 2]), result.stderr
    assert len(submits(sandbox)) == 4
    assert [entry["data"]["id"] for entry in sandbox.entries] == [1, 2]
    assert "twice" not in result.stderr


def test_retry_after_is_honoured(sandbox: Sandbox, deliver: Deliver) -> None:
    sandbox.add_fault("submit", "http", status=503, retry_after="2")
    result = deliver(two_batches(), ONE_AT_A_TIME)
    assert result.status == 0, result.stderr
    first, second, *_ = submits(sandbox)
    assert second.at - first.at >= 2.0


def test_retrying_ends_with_retry_max_seconds(sandbox: Sandbox, deliver: Deliver) -> None:
    sandbox.add_fault("submit", "http", status=503, times=None)
    result = deliver(two_batches(), {**ONE_AT_A_TIME, "retry_max_seconds": 1})
    assert (result.status, result.states) == (1, [])
    assert "not accepted within retry_max_seconds (1)" in result.error
    assert sandbox.entries == []


def test_a_refused_connection_is_repeated(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    sandbox.stop()
    with TargetProcess({**config, "retry_max_seconds": 30}, tmp_path) as target:
        target.feed(two_batches())
        target.close_input()
        wait_for(lambda: "target-altcraft v" in target.log(), "the run has begun")
        sandbox.start()
        result = target.wait()
    assert (result.status, result.bookmarks) == (0, [2]), result.stderr
    assert [entry["data"]["id"] for entry in sandbox.entries] == [1, 2]


FATAL = {
    "submit:redirect": "redirects are not followed",
    "submit:http,status=401": "HTTP 401",
    "submit:error,code=401,text=Token required": "error 401, Token required",
    "submit:error,code=402,text=Tariff limit reached": "error 402, Tariff limit reached",
    "submit:http,status=403,html": "HTTP 403",
    "submit:error,code=404": "error 404",
    "submit:http,status=418": "HTTP 418",
    "submit:error,code=400,text=Invalid request": "error 400, Invalid request",
    "submit:http,status=400": "HTTP 400",
}


@pytest.mark.parametrize("fault", FATAL)
def test_what_altcraft_refuses_is_fatal_and_not_repeated(
    sandbox: Sandbox, deliver: Deliver, fault: str
) -> None:
    sandbox.add_fault(f"{fault},after=1")
    result = deliver(two_batches(), ONE_AT_A_TIME)
    assert (result.status, result.bookmarks) == (1, [1])
    assert FATAL[fault] in result.error
    assert "stream 'customers', batch 2 (1 profiles)" in result.error
    assert "a rerun sends it" in result.error
    assert ("Set rejects_path to have the records" in result.error) == ("400" in fault)
    assert len(submits(sandbox)) == 2
    assert [entry["data"]["id"] for entry in sandbox.entries] == [1]


UNKNOWN = [
    "submit:timeout",
    "submit:reset_after",
    "submit:http,status=500",
    "submit:http,status=502,html",
    "submit:http,status=504",
    "submit:http,status=507",
    "submit:error,code=999",
    "submit:html",
    "submit:garbage",
]


@pytest.mark.parametrize("fault", UNKNOWN)
def test_an_unknown_outcome_is_sent_again_with_a_warning(
    sandbox: Sandbox, deliver: Deliver, fault: str
) -> None:
    sandbox.add_fault(f"{fault},accept")
    result = deliver(two_batches(), {**ONE_AT_A_TIME, "request_timeout_seconds": 1})
    assert (result.status, result.bookmarks) == (0, [1, 2]), result.stderr
    assert [entry["data"]["id"] for entry in sandbox.entries] == [1, 1, 2]
    warnings = [line for line in result.log("WARNING") if "twice" in line]
    assert len(warnings) == 1
    assert "stream 'customers', batch 1" in warnings[0]
    assert "1 profiles" in warnings[0]
    assert "may enter the scenario twice" in warnings[0]


@pytest.mark.parametrize("fault", UNKNOWN)
def test_an_unknown_outcome_fails_the_run_where_the_user_wants_that(
    sandbox: Sandbox, deliver: Deliver, fault: str
) -> None:
    sandbox.add_fault(f"{fault},accept,after=1")
    settings = {**ONE_AT_A_TIME, "request_timeout_seconds": 1, "on_ambiguous_submit": "fail"}
    result = deliver(two_batches(), settings)
    assert (result.status, result.bookmarks) == (1, [1])
    assert "it is unknown whether its 1 profiles were accepted" in result.error
    assert [entry["data"]["id"] for entry in sandbox.entries] == [1, 2]


@pytest.mark.parametrize("journal", [None, "journal.sqlite"])
def test_skip_within_a_run_acts_as_fail(
    sandbox: Sandbox, deliver: Deliver, tmp_path: Path, journal: str | None
) -> None:
    sandbox.add_fault("submit:reset_after,accept,after=1")
    settings = {**ONE_AT_A_TIME, "on_ambiguous_submit": "skip"} | (
        {"journal_path": str(tmp_path / journal)} if journal else {}
    )
    result = deliver(two_batches(), settings)
    assert (result.status, result.bookmarks) == (1, [1])
    assert "it is unknown whether its 1 profiles were accepted" in result.error
    assert "on_ambiguous_submit is 'skip'" in result.error
    assert [entry["data"]["id"] for entry in sandbox.entries] == [1, 2]


WITHOUT_ID = "submit:no_task_id,accept"


@pytest.mark.parametrize("how", ["resend", "fail", "skip"])
def test_an_acceptance_without_a_task_id_is_not_sent_again_and_fails_the_run(
    sandbox: Sandbox, deliver: Deliver, how: str
) -> None:
    sandbox.add_fault(f"{WITHOUT_ID},after=1")
    result = deliver(two_batches(), {**ONE_AT_A_TIME, "on_ambiguous_submit": how})
    assert (result.status, result.bookmarks) == (1, [1])
    assert "stream 'customers', batch 2 (1 profiles)" in result.error
    assert "it was accepted, but nobody can see whether its task completes" in result.error
    assert "a rerun sends it again" in result.error
    assert "unknown" not in result.error
    assert [entry["data"]["id"] for entry in sandbox.entries] == [1, 2]


def test_a_journal_takes_an_acceptance_without_a_task_id_as_delivered_and_says_so_once(
    sandbox: Sandbox, deliver: Deliver, tmp_path: Path
) -> None:
    sandbox.add_fault(f"{WITHOUT_ID},after=1")
    settings = {**ONE_AT_A_TIME, "journal_path": str(tmp_path / "journal")}
    first = deliver(two_batches(), settings)
    assert (first.status, first.bookmarks) == (1, [1])
    assert "by the journal, a rerun takes it as delivered" in first.error
    second = deliver(two_batches(), settings)
    assert (second.status, second.bookmarks[-1]) == (0, 2), second.stderr
    (warning,) = warnings(second)
    assert "stream 'customers', batch 2 (1 profiles)" in warning
    assert "nobody saw its task complete" in warning
    assert "delivered before: 2" in second.stderr
    assert [entry["data"]["id"] for entry in sandbox.entries] == [1, 2]
    third = deliver(two_batches(), settings)
    assert third.status == 0
    assert "nobody saw" not in third.stderr


def test_an_unknown_outcome_is_sent_again_three_times_at_most(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.add_fault("submit", "http", status=500, times=None)
    result = deliver(two_batches(), ONE_AT_A_TIME)
    assert (result.status, result.states) == (1, [])
    assert len(submits(sandbox)) == 4
    assert sum("twice" in line for line in result.log("WARNING")) == 3
    assert "sent again 3 times" in result.error


def test_a_body_that_is_too_large_for_the_host_is_split(sandbox: Sandbox, deliver: Deliver) -> None:
    sandbox.body_limit = 60_000
    messages = [schema(), *(customer(n, note="x" * 500) for n in range(2000)), state(1)]
    result = deliver(messages)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert sorted(entry["data"]["id"] for entry in sandbox.entries) == list(range(2000))
    total = sum(task.body_bytes for task in sandbox.tasks)
    assert total >= 20 * 55_000
    assert len(submits(sandbox)) <= 1.5 * (total / 60_000 + 1)
    assert sum("Set batch_size_bytes" in line for line in result.log("WARNING")) == 1


def test_a_batch_that_is_open_when_the_host_refuses_another_is_split_too(
    sandbox: Sandbox, nights: Nights
) -> None:
    sandbox.body_limit = 60_000
    rows = [at(number, f"2024-05-06T12:00:{number:06}Z", note="x" * 300) for number in range(900)]
    head = bookmarked(updated_at={"type": "string"}, note={"type": "string"})
    with nights.start(batch_size_rows=300) as target:
        target.feed([head, *rows[:550]])
        wait_for(lambda: "batches are split from here on" in target.log(), "a refused body")
        target.feed([*rows[550:], state(1)])
        target.close_input()
        result = target.wait()
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert nights.sent() == list(range(900))


def test_a_host_that_closes_in_mid_body_is_split_for_too(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.body_limit = 3_000_000
    sandbox.close_on_too_large = True
    messages = [schema(), *(customer(n, note="x" * 1000) for n in range(16_000)), state(1)]
    result = deliver(messages)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert sorted(entry["data"]["id"] for entry in sandbox.entries) == list(range(16_000))


def test_one_loss_in_mid_body_is_repeated_whole(sandbox: Sandbox, deliver: Deliver) -> None:
    sandbox.add_fault("submit", "reset_mid_body")
    messages = [schema(), *(customer(n, note="x" * 1000) for n in range(8_000)), state(1)]
    result = deliver(messages)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert [task.size for task in sandbox.tasks] == [8_000]
    assert "twice" not in result.stderr


def test_a_second_loss_in_mid_body_is_split_without_a_third_try(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.add_fault("submit", "reset_mid_body", times=2)
    messages = [schema(), *(customer(n, note="x" * 1000) for n in range(8_000)), state(1)]
    result = deliver(messages)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert [seen.accepted for seen in submits(sandbox)][:3] == [False, False, True]
    assert max(task.size for task in sandbox.tasks) <= 4_000
    assert sorted(entry["data"]["id"] for entry in sandbox.entries) == list(range(8_000))
    assert "twice" not in result.stderr


TASK_FAULTS = {
    "task:failed,code=500,text=Out of memory": "ended as 'failed', error 500, Out of memory",
    "task:failed,name=cancelled": "ended as 'cancelled'",
    "task:result_error,code=422,text=Broken": "ended as 'completed', error 422, Broken",
    "task:partial,indexes=0": "1 profiles were not imported (error 422: 1)",
    "task:no_profile_id,indexes=0": "1 profiles were not imported (no profile_id: 1)",
}


@pytest.mark.parametrize("fault", TASK_FAULTS)
def test_a_failing_second_batch_leaves_exactly_the_first_ones_state(
    sandbox: Sandbox, deliver: Deliver, fault: str
) -> None:
    sandbox.add_fault(f"{fault},where=c2@example.com")
    result = deliver(two_batches(), {**ONE_AT_A_TIME, "max_in_flight": 4})
    assert (result.status, result.bookmarks) == (1, [1])
    assert TASK_FAULTS[fault] in result.error
    task = next(task for task in sandbox.tasks if task.keys == ["c2@example.com"])
    assert f"task {task.id}" in result.error
    assert "example.com" not in result.stderr


def test_a_vanished_task_fails_the_run_after_its_patience(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    sandbox.add_fault("task", "vanished", after=1)
    code = (
        "import target_altcraft.delivery.polling as p; p.MISSING_TASK_SECONDS = 0.5\n"
        "from target_altcraft.__main__ import main; main()"
    )
    settings = {**config, **ONE_AT_A_TIME}
    with TargetProcess(settings, tmp_path, command=(sys.executable, "-c", code)) as target:
        target.feed_in_background(two_batches())
        result = target.wait()
    assert (result.status, result.bookmarks) == (1, [1])
    assert "has vanished" in result.error
    assert "may enter the scenario twice" in result.error


@pytest.mark.parametrize(
    "fault",
    [
        "http,status=500",
        "http,status=429,retry_after=0",
        "reset_after",
        "html",
        "garbage",
        "error,code=999",
        "error,code=400",
        "http,status=404",
    ],
)
def test_a_status_call_that_fails_never_fails_the_task(
    sandbox: Sandbox, deliver: Deliver, fault: str
) -> None:
    sandbox.add_fault(f"status:{fault},times=3")
    result = deliver(two_batches())
    assert (result.status, result.bookmarks) == (0, [2]), result.stderr
    assert [entry["data"]["id"] for entry in sandbox.entries] == [1, 2]


def test_a_status_call_without_an_answer_does_not_outlast_the_tasks_time_out(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.add_fault("status", "timeout", times=None)
    settings = {"request_timeout_seconds": 600, "task_timeout_seconds": 1}
    result = deliver(two_batches(), settings)
    assert (result.status, result.states) == (1, [])
    assert "has not ended within task_timeout_seconds (1)" in result.error


@pytest.mark.parametrize("code", [401, 403])
def test_a_refused_token_ends_the_polling(sandbox: Sandbox, deliver: Deliver, code: int) -> None:
    sandbox.add_fault("status", "error", code=code, times=None)
    result = deliver(two_batches())
    assert (result.status, result.states) == (1, [])
    assert f"error {code}" in result.error


def test_an_unknown_status_name_counts_as_running_and_is_said_once(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.task_seconds = 0.5
    sandbox.add_fault("task", "unknown_status")
    result = deliver(two_batches())
    assert (result.status, result.bookmarks) == (0, [2])
    assert sum("'pondering' is not known" in line for line in result.log("WARNING")) == 1


@pytest.mark.parametrize("fault", ["short", "long"])
def test_results_that_cannot_be_attributed_warn_with_both_numbers(
    sandbox: Sandbox, deliver: Deliver, fault: str
) -> None:
    sandbox.add_fault("task", fault)
    result = deliver([schema(), customer(1), customer(2), state(1)])
    assert (result.status, result.bookmarks) == (0, [1])
    number = 1 if fault == "short" else 3
    assert any(f"{number} results for 2 profiles" in line for line in result.log("WARNING"))


@pytest.mark.parametrize("journal", [None, "journal.sqlite"])
def test_a_broken_line_after_three_batches_still_acknowledges_these_three(
    sandbox: Sandbox, deliver: Deliver, tmp_path: Path, journal: str | None
) -> None:
    sandbox.task_seconds = 0.5
    messages: list[t.Any] = [schema()]
    for n in range(3):
        messages += [customer(n), state(n)]
    settings = {"batch_size_rows": 1} | (
        {"journal_path": str(tmp_path / journal)} if journal else {}
    )
    result = deliver([*messages, "RECORD{"], settings)
    assert (result.status, result.bookmarks[-1]) == (1, 2)
    assert len(sandbox.entries) == 3
    assert "line 8 of the input" in result.error


def test_a_second_failure_is_logged_not_lost(sandbox: Sandbox, deliver: Deliver) -> None:
    sandbox.task_seconds = 0.5
    sandbox.add_fault("task", "failed", times=2, text="No room")
    result = deliver(two_batches(), {"batch_size_rows": 1, "max_in_flight": 2})
    assert (result.status, result.states) == (1, [])
    assert len(result.errors) == 2
    assert all("No room" in error for error in result.errors)
