"""Answers that other hosts may give, through the command line: one task a batch, a quick end."""

from __future__ import annotations

import time
import typing as t

import pytest
from harness import customer, schema, state

if t.TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result

    from target_altcraft.sandbox import Sandbox

    Deliver = Callable[..., Result]

# Two batches of two.
MESSAGES = [schema(), *(customer(n) for n in range(4)), state(1)]
TWO_BATCHES = {"batch_size_rows": 2, "max_in_flight": 1}
QUICK_SECONDS = 10.0


def two_batches(deliver: Deliver, **settings: t.Any) -> Result:
    began = time.monotonic()
    result = deliver(MESSAGES, {**TWO_BATCHES, **settings})
    assert time.monotonic() - began < QUICK_SECONDS
    assert "Traceback" not in result.stderr
    return result


def ids_of(sandbox: Sandbox) -> list[int]:
    return [entry["data"]["id"] for entry in sandbox.entries]


@pytest.mark.parametrize(
    "fault",
    [
        "task:done_as,name=success,times=9",
        "submit:nested_id,times=9",
        "submit:answered_as,status=503,times=9",
        "submit:answered_as,status=503,retry_after=60,times=9",
        "submit:answered_as,status=500,times=9",
        "submit:answered_as,status=400,times=9",
        "submit:bom,times=9",
        "submit:broken_text,times=9",
        "submit:odd_number,times=9",
        "submit:interim,times=9",
        "status:bom,times=9",
        "status:broken_text,times=9",
        "status:odd_number,times=9",
        "status:interim,times=9",
        "list:bom,times=9",
        "list:broken_text,times=9",
        "list:odd_number,times=9",
        "list:interim,times=9",
    ],
)
def test_an_answer_that_says_success_in_its_own_way_is_success(
    sandbox: Sandbox, deliver: Deliver, fault: str
) -> None:
    sandbox.add_fault(fault)
    result = two_batches(deliver)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert ids_of(sandbox) == [0, 1, 2, 3]
    assert [task.size for task in sandbox.tasks] == [2, 2]
    assert sum(seen.endpoint == "submit" for seen in sandbox.requests) == 2
    assert "twice" not in result.stderr


def test_a_task_that_is_done_by_an_unknown_name_is_taken_as_done_and_warned_about(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.add_fault("task:done_as,name=finished,times=9")
    result = two_batches(deliver)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert ids_of(sandbox) == [0, 1, 2, 3]
    assert sum("'finished'" in line for line in result.log("WARNING")) == 1  # one a run


# Success without a task id


def test_success_without_an_id_ends_the_run_and_is_never_sent_again(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.add_fault("submit:no_task_id,accept,times=9")
    result = two_batches(deliver, on_ambiguous_submit="resend")
    assert (result.status, result.states) == (1, [])
    assert "batch 1" in result.error
    assert "(2 profiles)" in result.error
    assert "accepted, but the answer names no task" in result.error
    assert "nobody can see whether its task completes" in result.error
    assert ids_of(sandbox) == [0, 1]


def test_with_a_journal_the_next_run_takes_it_as_delivered_and_warns_once(
    sandbox: Sandbox, deliver: Deliver, tmp_path: Path
) -> None:
    settings = {"journal_path": str(tmp_path / "journal"), "bookmark_column": "id"}
    sandbox.add_fault("submit:no_task_id,accept,times=1")
    first = two_batches(deliver, **settings)
    assert (first.status, first.states) == (1, [])
    assert "by the journal, a rerun takes it as delivered" in first.error

    second = two_batches(deliver, **settings)
    assert (second.status, second.bookmarks) == (0, [1]), second.stderr
    assert ids_of(sandbox) == [0, 1, 2, 3]
    (warning,) = (line for line in second.log("WARNING") if "(2 profiles)" in line)
    assert "delivered" in warning

    third = two_batches(deliver, **settings)
    assert (third.status, third.bookmarks) == (0, [1]), third.stderr
    assert ids_of(sandbox) == [0, 1, 2, 3]
    assert not any("(2 profiles)" in line for line in third.log("WARNING"))


# Error 440


@pytest.mark.parametrize("endpoint", ["list", "submit"])
def test_error_440_ends_the_run_at_once(sandbox: Sandbox, deliver: Deliver, endpoint: str) -> None:
    sandbox.add_fault(f"{endpoint}:error,code=440,text=Invalid token,times=99")
    result = two_batches(deliver)
    assert (result.status, result.states) == (1, [])
    assert "error 440, Invalid token" in result.error
    assert sandbox.tasks == []
    assert sum(seen.endpoint == endpoint for seen in sandbox.requests) == 1


def test_error_440_of_a_status_ends_the_run_and_is_not_asked_again(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.add_fault("status:error,code=440,text=Invalid token,times=99")
    result = two_batches(deliver)
    assert (result.status, result.states) == (1, [])
    assert "error 440, Invalid token" in result.errors[0]
    assert ids_of(sandbox) == [0, 1]
    assert sum(seen.endpoint == "status" for seen in sandbox.requests) == 1


# What carried a subscription


def subscribed(number: int, **fields: t.Any) -> dict[str, t.Any]:
    own = [{"channel": "email", "resource_id": 7, "email": f"c{number}@example.com"}]
    return customer(number, subscriptions=own, **fields)


SUBSCRIPTIONS = {
    "id": {"type": "integer"},
    "email": {"type": ["string", "null"]},
    "_fname": {"type": "string"},
    "subscriptions": {"type": ["array", "null"]},
}
NONE_CARRIED = "none of its 2 profiles carried a subscription"


@pytest.mark.parametrize("dry_run", [False, True])
def test_profiles_with_and_without_a_subscription_are_counted(
    sandbox: Sandbox, deliver: Deliver, *, dry_run: bool
) -> None:
    messages = [
        schema(properties=SUBSCRIPTIONS),
        schema("orders"),
        schema("none"),
        *(subscribed(1), subscribed(2), customer(3)),
        *(customer(4, "orders"), customer(5, "orders")),
        customer(6, email=None, _sdc_deleted_at="x"),
        customer(7, "none", _sdc_deleted_at="x"),
    ]
    result = deliver(messages, {"dry_run": dry_run})
    assert result.status == 0, result.stderr
    line = "stream 'customers': profiles with a subscription: 2; without: 1"
    assert line in result.log("INFO")
    (warning,) = (line for line in result.log("WARNING") if "carried a subscription" in line)
    assert warning.startswith(f"stream 'orders': {NONE_CARRIED}; the scenario reaches only those")
    assert len(sandbox.messages) == (0 if dry_run else 2)


@pytest.mark.parametrize("rows", [3, 10])
def test_subscriptions_are_counted_where_records_are_sent_together(
    deliver: Deliver, tmp_path: Path, rows: int
) -> None:
    messages = [schema(properties=SUBSCRIPTIONS), *map(subscribed, range(5)), customer(6)]
    settings = {"journal_path": str(tmp_path / "journal"), "batch_size_rows": rows}
    result = deliver(messages, settings)
    assert result.status == 0, result.stderr
    assert "stream 'customers': profiles with a subscription: 5; without: 1" in result.log("INFO")


def test_the_warning_comes_also_after_a_failure_and_for_what_was_sent_only(
    deliver: Deliver,
) -> None:
    messages = [schema(), schema("orders"), customer(1), customer(2), "broken"]
    result = deliver(messages, {"batch_size_rows": 2})
    assert result.status == 1
    lines = [line for line in result.log("WARNING") if "carried a subscription" in line]
    assert [line.split(";")[0] for line in lines] == [f"stream 'customers': {NONE_CARRIED}"]
