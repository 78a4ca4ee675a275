"""The ways to steer the memory: resend, baseline, other mappings, leftovers, what is forgotten."""

from __future__ import annotations

import json
import sqlite3
import typing as t
from contextlib import closing

import pytest
from harness import schema, state, wait_for
from nights import (
    EVENING,
    MISSING_TASK_SECONDS,
    MORNING,
    accepted,
    at,
    bookmarked,
    completed,
    twice,
    unbookmarked,
)

from target_altcraft.sandbox.task import Task

if t.TYPE_CHECKING:
    from nights import Nights

    from target_altcraft.sandbox import Sandbox

ROWS = [at(n, f"2024-05-06T12:00:{n:02d}Z") for n in range(4)]
TABLE = [bookmarked(), *ROWS, state("end")]


# resend


@pytest.mark.parametrize("how", [True, ["customers"]])
def test_a_resend_sends_everything_once_more_and_remembers_it(
    nights: Nights, how: t.Literal[True] | list[str]
) -> None:
    nights.good(TABLE)
    result = nights.good(TABLE, resend=how)
    assert result.bookmarks[-1] == "end"
    nights.good(TABLE)
    assert nights.sent() == sorted([0, 1, 2, 3] * 2)
    nights.good(TABLE, resend=how)
    assert nights.sent() == sorted([0, 1, 2, 3] * 3)


def test_a_resend_of_one_stream_leaves_the_others_alone(nights: Nights) -> None:
    heads = [bookmarked(stream="a"), bookmarked(stream="b")]
    messages = [*heads, at(1, stream="a"), at(2, stream="b"), state(1)]
    nights.good(messages)
    nights.good(messages, resend=["b"])
    assert nights.sent() == [1, 2, 2]


def test_a_resend_that_was_interrupted_is_continued_by_the_next(nights: Nights) -> None:
    nights.good(TABLE)
    nights.stopped(TABLE[:3], completed(2), resend=True)
    assert nights.sent() == [0, 0, 1, 1, 2, 3]
    result = nights.good(TABLE, resend=True)
    assert nights.sent() == sorted([0, 1, 2, 3] * 2)
    assert "an earlier resend did not end well; it goes on" in result.stderr
    nights.good(TABLE, resend=True)
    assert nights.sent() == sorted([0, 1, 2, 3] * 3)


def test_a_resend_interrupted_while_tasks_are_in_flight_sends_nothing_a_third_time(
    nights: Nights, sandbox: Sandbox
) -> None:
    nights.good(TABLE)
    sandbox.task_seconds = 0.5
    nights.stopped(TABLE[:3], accepted(2), resend=True)
    nights.good(TABLE, resend=True)
    assert nights.sent() == sorted([0, 1, 2, 3] * 2)


def test_a_resend_sends_also_what_an_earlier_run_left_in_flight(
    nights: Nights, sandbox: Sandbox
) -> None:
    sandbox.task_seconds = 0.5
    nights.stopped(TABLE[:3], accepted(2))
    result = nights.good(TABLE, resend=True)
    assert not twice(result)
    assert nights.sent() == [0, 0, 1, 1, 2, 3]


def test_a_run_without_resend_after_an_interrupted_one_sends_nothing(nights: Nights) -> None:
    nights.good(TABLE)
    nights.stopped(TABLE[:3], completed(2), resend=True)
    nights.good(TABLE)
    assert nights.sent() == [0, 0, 1, 1, 2, 3]


def test_a_resend_tries_anew_what_was_rejected(nights: Nights, sandbox: Sandbox) -> None:
    sandbox.fail_where = lambda entry: entry["data"]["id"] == 2
    messages = [bookmarked(), at(1), at(2), at(3, email=None), state("end")]
    path = nights.folder / "rejects"
    nights.good(messages, rejects_path=str(path))
    path.unlink()
    result = nights.good(messages, rejects_path=str(path), resend=True)
    assert "rejected before" not in result.stderr
    rejects = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {line["record"]["id"] for line in rejects if line["type"] == "RECORD"} == {2, 3}


@pytest.mark.parametrize("how", ["changed", "never"])
def test_a_resend_works_for_kinds_that_go_by_key(nights: Nights, how: str) -> None:
    for resend in (False, True, False):
        nights.good(TABLE, send_again=how, resend=resend)
    assert nights.sent() == sorted([0, 1, 2, 3] * 2)


def test_a_resend_counts_equal_rows_of_a_table_without_keys(nights: Nights) -> None:
    head = schema(
        properties={"id": {}, "email": {}, "updated_at": {}}, bookmark_properties=["updated_at"]
    )
    messages = [head, at(1), at(1), state(1)]
    nights.good(messages)
    nights.good(messages, resend=True)
    nights.good(messages)
    assert nights.sent() == [1, 1, 1, 1]


# baseline


def test_a_baseline_sends_nothing_remembers_all_and_emits_state(
    nights: Nights, sandbox: Sandbox
) -> None:
    first = nights.good(TABLE, baseline=True)
    assert (sandbox.tasks, first.bookmarks[-1]) == ([], "end")
    assert "baseline: 4" in first.stderr
    second = nights.good([*TABLE[:-1], at(9, EVENING), state("later")])
    assert nights.sent() == [9]
    assert "delivered before: 4" in second.stderr


@pytest.mark.parametrize("how", ["changed", "never"])
def test_a_baseline_of_kinds_that_go_by_key(nights: Nights, how: str) -> None:
    nights.good(TABLE, baseline=["customers"], send_again=how)
    changed = [*ROWS[:3], at(3, EVENING), at(9)]
    nights.good([bookmarked(), *changed, state(1)], send_again=how)
    assert nights.sent() == ([3, 9] if how == "changed" else [9])


def test_a_baseline_counts_equal_rows_of_a_table_without_keys(nights: Nights) -> None:
    head = schema(
        properties={"id": {}, "email": {}, "updated_at": {}}, bookmark_properties=["updated_at"]
    )
    nights.good([head, at(1), at(1), state(1)], baseline=True)
    nights.good([head, at(1), at(1), at(1), state(1)])
    assert nights.sent() == [1]


def test_a_baseline_of_one_stream_sends_the_others(nights: Nights) -> None:
    heads = [bookmarked(stream="a"), bookmarked(stream="b")]
    messages = [*heads, at(1, stream="a"), at(2, stream="b"), state(1)]
    nights.good(messages, baseline=["a"])
    assert nights.sent() == [2]


def test_a_baseline_is_refused_where_everything_is_sent_always(nights: Nights) -> None:
    result = nights.run([unbookmarked(), *ROWS, state(1)], baseline=True)
    assert (result.status, result.states) == (1, [])
    assert "baseline" in result.error
    assert "send_again" in result.error
    assert nights.sent() == []


def test_a_baseline_that_was_killed_is_run_again(nights: Nights, sandbox: Sandbox) -> None:
    nights.stopped(TABLE, lambda target: target.states(), baseline=True)
    nights.good(TABLE, baseline=True)
    nights.good(TABLE)
    assert sandbox.tasks == []


def test_what_a_baseline_took_is_remembered_before_the_state_that_covers_it(
    nights: Nights, sandbox: Sandbox
) -> None:
    nights.stopped(TABLE, lambda target: target.states(), baseline=True)
    nights.good(TABLE)
    assert sandbox.tasks == []


@pytest.mark.parametrize("name", ["resend", "baseline"])
def test_resend_and_baseline_need_the_journal(nights: Nights, name: str) -> None:
    result = nights.run(TABLE, journal_path=None, **{name: True})
    assert result.status == 1
    assert "needs journal_path" in result.error


# Another mapping


OTHER_MAPPINGS: dict[str, dict[str, t.Any]] = {
    "scenario": {"workflow_id": 2},
    "stream map": {"stream_maps": {"customers": {"city": "'Perm'"}}},
    "nulls": {"nulls": "send"},
    "subscriptions": {"subscriptions": [{"channel": "email", "resource_id": 7}]},
    "column": {"content_columns": ["note"]},
}


@pytest.mark.parametrize("kind", OTHER_MAPPINGS)
def test_under_another_mapping_key_and_bookmark_decide(nights: Nights, kind: str) -> None:
    other = OTHER_MAPPINGS[kind]
    nights.good(TABLE)
    nights.good([*TABLE[:-1], at(9, EVENING), state("end")], **other)
    assert nights.sent() == [0, 1, 2, 3, 9]
    nights.good([*TABLE[:-1], at(9, EVENING), at(0, EVENING), state("end")], **other)
    nights.good([*TABLE[:-1], at(9, EVENING), at(0, EVENING), state("end")])
    assert nights.sent() == [0, 0, 1, 2, 3, 9]


def test_a_row_of_many_versions_that_changes_under_another_mapping_is_sent(nights: Nights) -> None:
    head = bookmarked(updated_at={"type": "null"})
    nights.good([head, *(at(1, None, city=city) for city in "abc"), state("end")])
    other = OTHER_MAPPINGS["subscriptions"]  # which changes each entry
    for cities in ("d", "e", "ef"):
        nights.good([head, *(at(1, None, city=city) for city in cities), state("end")], **other)
    assert [entry["data"]["city"] for entry in nights.sandbox.entries] == [*"abc", *"ef"]
    for _ in range(2):  # and back
        nights.good([head, at(1, None, city="f"), state("end")])
    assert len(nights.sandbox.entries) == 5


def test_a_new_column_of_the_source_is_another_mapping_and_messages_nobody(nights: Nights) -> None:
    nights.good(TABLE)
    head = bookmarked(city={"type": "string"})
    rows = [{**row, "record": {**row["record"], "city": "Perm"}} for row in ROWS]
    for _ in range(2):
        nights.good([head, *rows, state("end")])
    assert nights.sent() == [0, 1, 2, 3]


def test_under_another_mapping_what_was_in_flight_is_matched_by_key_and_bookmark(
    nights: Nights, sandbox: Sandbox
) -> None:
    sandbox.task_seconds = 0.5
    nights.stopped(TABLE[:3], accepted(2))
    nights.good(TABLE, workflow_id=2)
    assert nights.sent() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["scenario", "stream map"])
def test_under_another_mapping_what_was_in_doubt_is_still_in_doubt(
    nights: Nights, sandbox: Sandbox, kind: str
) -> None:
    other = OTHER_MAPPINGS[kind]
    sandbox.add_fault("submit:timeout,accept")
    nights.stopped(TABLE[:2], lambda _: len(sandbox.tasks) == 1)
    stopped = nights.run(TABLE, on_ambiguous_submit="fail", **other)
    assert (stopped.status, stopped.states) == (1, [])
    assert nights.sent() == [0]
    result = nights.good(TABLE, **other)
    assert len(twice(result)) == 1
    assert nights.sent() == [0, 0, 1, 2, 3]


@pytest.mark.parametrize("way", ["baseline", "resend"])
@pytest.mark.parametrize("how", ["changed", "never"])
def test_kinds_that_go_by_key_stop_under_another_mapping_and_name_the_ways_on(
    nights: Nights, how: str, way: str
) -> None:
    settings: dict[str, t.Any] = {"send_again": how}
    nights.good(TABLE, **settings)
    settings["workflow_id"] = 2
    for _ in range(2):
        result = nights.run([*TABLE[:-1], at(9), state("end")], **settings)
        assert (result.status, result.states) == (1, [])
        assert "baseline" in result.error
        assert "resend" in result.error
    assert nights.sent() == [0, 1, 2, 3]
    nights.good(TABLE, **settings, **{way: True})
    nights.good(TABLE, **settings)
    assert nights.sent() == (sorted([0, 1, 2, 3] * 2) if way == "resend" else [0, 1, 2, 3])


# Leftovers in doubt


def leave_unanswered(nights: Nights, sandbox: Sandbox) -> None:
    sandbox.add_fault("submit:timeout,accept")
    nights.stopped(TABLE[:2], lambda _: len(sandbox.tasks) == 1)


def leave_failed(nights: Nights, sandbox: Sandbox) -> None:
    sandbox.add_fault("task:failed")
    assert nights.run(TABLE[:2]).status == 1


def leave_vanished(nights: Nights, sandbox: Sandbox) -> None:
    sandbox.add_fault("task:vanished")
    assert nights.run(TABLE[:2], {MISSING_TASK_SECONDS: 0.3}).status == 1


def leave_unfinished(nights: Nights, sandbox: Sandbox) -> None:
    sandbox.add_fault("task:stuck")
    assert nights.run(TABLE[:2], task_timeout_seconds=0.5).status == 1


LEAVINGS = {
    "unanswered": leave_unanswered,
    "failed": leave_failed,
    "vanished": leave_vanished,
    "unfinished": leave_unfinished,
}


@pytest.mark.parametrize("kind", LEAVINGS)
def test_what_is_in_doubt_is_sent_again_with_one_warning(
    nights: Nights, sandbox: Sandbox, kind: str
) -> None:
    LEAVINGS[kind](nights, sandbox)
    result = nights.good(TABLE, task_timeout_seconds=0.5)
    (warning,) = twice(result)
    assert "stream 'customers', batch 1 (1 profiles)" in warning
    assert "it is unknown whether its 1 profiles were accepted" in warning
    assert nights.sent() == [0, 0, 1, 2, 3]
    again = nights.good(TABLE)
    assert not twice(again)
    assert nights.sent() == [0, 0, 1, 2, 3]


IN_DOUBT = {
    "unanswered": "unanswered",
    "failed": "its task failed",
    "vanished": "its task vanished",
    "unfinished": "accepted, outcome unknown",
}


@pytest.mark.parametrize("kind", LEAVINGS)
def test_what_is_in_doubt_stops_the_run_that_wants_that_until_a_setting_gets_past_it(
    nights: Nights, sandbox: Sandbox, kind: str
) -> None:
    LEAVINGS[kind](nights, sandbox)
    settings = {"on_ambiguous_submit": "fail", "task_timeout_seconds": 0.5}
    for _ in range(2):
        stopped = nights.run(TABLE, **settings)
        assert (stopped.status, stopped.states) == (1, [])
        assert "set on_ambiguous_submit to resend" in stopped.error
        assert "skip" in stopped.error
    assert f"read: 4; in doubt, {IN_DOUBT[kind]}: 1; not sent: 3" in stopped.stderr
    assert nights.sent() == [0]
    result = nights.good(TABLE, on_ambiguous_submit="skip")
    assert not twice(result)
    assert "in doubt, taken as delivered: 1" in result.stderr
    for how in ("fail", "resend"):
        nights.good(TABLE, on_ambiguous_submit=how)
    assert nights.sent() == [0, 1, 2, 3]


@pytest.mark.parametrize("is_an_earlier_runs", [False, True])
def test_what_a_failed_task_did_not_import_is_no_doubt(
    nights: Nights,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_an_earlier_runs: bool,
) -> None:
    sandbox.add_fault("task:failed,code=422,text=Broken")
    report, runs_on = Task.report, is_an_earlier_runs

    def with_results(task: Task, now: float) -> dict[str, t.Any]:
        data = report(task, now)
        if runs_on:
            return {"status": "running", "progress": 0}
        if data["status"] == "failed":
            data["result"]["result"] = [{}, {"error": 422}, {"profile_id": "f" * 24}, {}]
        return data

    monkeypatch.setattr(Task, "report", with_results)
    if is_an_earlier_runs:
        nights.stopped(TABLE, accepted(1), batch_size_rows=4)
        runs_on = False
    found = nights.run(TABLE, batch_size_rows=4)
    assert (found.status, found.states) == (1, [])
    assert "failed" in found.error
    result = nights.good(TABLE, batch_size_rows=4)
    (warning,) = twice(result)
    assert "its 3 profiles" in warning
    assert nights.sent() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_stuck_task_of_an_earlier_run_is_asked_about_once_more_and_then_in_doubt(
    nights: Nights, sandbox: Sandbox
) -> None:
    sandbox.add_fault("task:stuck")
    settings = {"task_timeout_seconds": 0.5}
    assert nights.run(TABLE, **settings, on_ambiguous_submit="fail").status == 1
    assert nights.run(TABLE, **settings, on_ambiguous_submit="fail").status == 1
    calls = nights.calls("status")
    assert nights.run(TABLE, **settings, on_ambiguous_submit="fail").status == 1
    assert nights.calls("status") == calls, "what was found out is kept"


def test_tasks_of_an_earlier_run_are_awaited_within_max_in_flight(
    nights: Nights, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, runs_on = Task.report, True

    def held(task: Task, now: float) -> dict[str, t.Any]:
        return {"status": "running", "progress": 0} if runs_on else report(task, now)

    monkeypatch.setattr(Task, "report", held)
    nights.stopped(TABLE[:5], accepted(4))
    before = [len(task.polls) for task in sandbox.tasks]

    def asked() -> list[int]:
        return [len(task.polls) - n for task, n in zip(sandbox.tasks, before, strict=True)]

    with nights.start(max_in_flight=2) as target:
        target.feed(TABLE)
        wait_for(lambda: sum(asked()) >= 8, "the tasks are asked about again and again")
        assert sum(map(bool, asked())) == 2
        runs_on = False
        target.close_input()
        result = target.wait()
    assert (result.status, result.bookmarks[-1]) == (0, "end"), result.stderr
    assert nights.sent() == [0, 1, 2, 3]


def test_a_task_that_answers_otherwise_when_asked_again_costs_the_profiles_id(
    nights: Nights, sandbox: Sandbox
) -> None:
    path = nights.folder / "receipts"
    sandbox.task_seconds = 0.3
    nights.stopped(TABLE[:2], accepted(1))
    assert nights.run([bookmarked(), "no JSON"], receipts_path=str(path)).status == 1
    sandbox.tasks[0].failures[0] = {"error": 1, "error_text": "purged"}
    nights.good(TABLE, receipts_path=str(path))
    receipts = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {line["key"]["id"]: line["profile_id"] is None for line in receipts} == {
        0: True,
        1: False,
        2: False,
        3: False,
    }
    assert nights.sent() == [0, 1, 2, 3]


def test_a_run_that_stops_at_a_record_that_was_not_imported_counts_those_that_were(
    nights: Nights, sandbox: Sandbox
) -> None:
    sandbox.add_fault("task:partial,indexes=0+2")
    for counts in (
        "in doubt, accepted, outcome unknown: 4",
        "skipped, delivered before: 2; not sent: 2",
    ):
        stopped = nights.run(TABLE, batch_size_rows=4)
        assert (stopped.status, stopped.states) == (1, [])
        assert f"read: 4; {counts}" in stopped.stderr, stopped.stderr
    assert nights.sent() == [0, 1, 2, 3]


# A stream that is gone


@pytest.mark.parametrize("receipts", [False, True])
@pytest.mark.parametrize("kind", ["failed", "vanished", "unfinished", "completed", "unanswered"])
def test_a_stream_that_is_gone_costs_nothing_from_the_second_run_on(
    nights: Nights, sandbox: Sandbox, kind: str, *, receipts: bool
) -> None:
    if kind == "completed":
        sandbox.task_seconds = 0.3
        nights.stopped(TABLE[:2], accepted(1))
    else:
        LEAVINGS[kind](nights, sandbox)
    settings: dict[str, t.Any] = {"task_timeout_seconds": 0.5}
    if receipts:
        settings["receipts_path"] = str(nights.folder / "receipts")
    other = [bookmarked(stream="orders"), state(1)]
    nights.good(other, **settings)
    calls = len(sandbox.requests)
    for _ in range(2):
        nights.good(other, **settings)
    assert len(sandbox.requests) == calls
    nights.good(TABLE, **settings, on_ambiguous_submit="skip")
    assert nights.sent() == [0, 1, 2, 3], "but it is not forgotten"


# What is forgotten


def age(nights: Nights, days: int) -> None:
    with closing(sqlite3.connect(nights.journal)) as db, db:
        db.execute("UPDATE run SET started = started - ?", (days * 86_400,))


KEEP = {"journal_keep_days": 30}


def test_versions_not_seen_for_long_are_forgotten_and_it_is_said(nights: Nights) -> None:
    nights.good(TABLE, **KEEP)
    age(nights, 20)
    nights.good([bookmarked(), *ROWS[1:], at(9, EVENING), state("end")], **KEEP)
    age(nights, 20)
    result = nights.good([bookmarked(), at(9, EVENING), state("end")], **KEEP)
    assert "1 versions were last seen more than 30 days ago" in result.stderr
    nights.good([bookmarked(), *ROWS, at(9, EVENING), state("end")], **KEEP)
    assert nights.sent() == [0, 0, 1, 2, 3, 9], "only what was last seen 40 days ago"


def test_versions_at_the_greatest_bookmark_are_never_forgotten(nights: Nights) -> None:
    messages = [bookmarked(), at(1, MORNING), at(2), at(3), state("end")]
    nights.good(messages, **KEEP)
    age(nights, 400)
    nights.good([bookmarked(), state("end")], **KEEP)
    age(nights, 400)
    nights.good([bookmarked(), at(2), at(3), state("end")], **KEEP)
    assert nights.sent() == [1, 2, 3]


def test_versions_at_the_greatest_bookmark_outlast_later_runs_that_saw_older_ones(
    nights: Nights,
) -> None:
    newest = [bookmarked(), at(1, EVENING), state("end")]
    nights.good(newest, **KEEP)
    age(nights, 400)
    nights.good([bookmarked(), at(2, MORNING), state("late")], **KEEP)
    nights.good(newest, **KEEP)
    assert nights.sent() == [1, 2]


@pytest.mark.parametrize("how", ["changed", "never"])
def test_versions_of_kinds_that_go_by_key_are_never_forgotten(nights: Nights, how: str) -> None:
    nights.good(TABLE, send_again=how, **KEEP)
    for number in (8, 9):
        age(nights, 400)
        nights.good([bookmarked(), at(number, EVENING), state("end")], send_again=how, **KEEP)
    nights.good(TABLE, send_again=how, **KEEP)
    assert nights.sent() == [0, 1, 2, 3, 8, 9]


def test_without_the_setting_nothing_is_forgotten(nights: Nights) -> None:
    nights.good(TABLE)
    age(nights, 4000)
    nights.good([bookmarked(), at(9, EVENING), state("end")])
    nights.good(TABLE)
    assert nights.sent() == [0, 1, 2, 3, 9]


# A dry run


def test_a_dry_run_reads_the_journal_and_writes_nothing(nights: Nights, sandbox: Sandbox) -> None:
    nights.good(TABLE)
    before = nights.journal.read_bytes()
    files = sorted(path.name for path in nights.folder.iterdir())
    result = nights.good([*TABLE[:-1], at(9, EVENING), state("end")], dry_run=True)
    assert result.states == []
    (row,) = [line for line in result.log("INFO") if line.startswith("dry run: customers")]
    assert row.split()[2:5] == ["customers", "5", "1"]
    assert "delivered before: 4" in row
    assert nights.journal.read_bytes() == before
    assert sorted(path.name for path in nights.folder.iterdir()) == files
    assert len(sandbox.tasks) == 4


@pytest.mark.parametrize("keys", [["id"], []])
def test_a_dry_run_counts_what_a_run_that_broke_has_delivered(
    nights: Nights, keys: list[str]
) -> None:
    head, rows = {**unbookmarked(), "key_properties": keys}, [at(1), at(2)]
    broken = nights.run([head, *rows, state("middle"), "no JSON"], max_in_flight=1)
    assert (broken.status, nights.sent()) == (1, [1, 2])
    dry = nights.good([head, *rows, at(4), state("end")], dry_run=True)
    assert "delivered before: 2" in dry.stderr
    real = nights.good([head, *rows, at(4), state("end")])
    assert "delivered before: 2" in real.stderr
    assert nights.sent() == [1, 2, 4]


def test_a_dry_run_makes_no_journal(nights: Nights) -> None:
    nights.good(TABLE, dry_run=True)
    assert not nights.journal.exists()


@pytest.mark.parametrize(
    "more",
    [{"baseline": True}, {"resend": True}, {"send_again": "changed"}, {"workflow_id": 2}],
    ids=["baseline", "resend", "changed", "mapping"],
)
def test_a_dry_run_of_a_run_that_would_change_the_journal_writes_nothing(
    nights: Nights, more: dict[str, t.Any]
) -> None:
    nights.good(TABLE)
    before = nights.journal.read_bytes()
    result = nights.good(TABLE, dry_run=True, **more)
    assert sum(line.startswith("dry run: customers") for line in result.log("INFO")) == 1
    assert nights.journal.read_bytes() == before
    nights.good(TABLE)
    assert nights.sent() == [0, 1, 2, 3]


def test_a_dry_run_of_a_baseline_says_what_it_would_take_as_delivered(nights: Nights) -> None:
    nights.good([bookmarked(), at(9, MORNING), state(1)])
    result = nights.good([*TABLE, at(9, MORNING)], dry_run=True, baseline=True)
    (row,) = [line for line in result.log("INFO") if line.startswith("dry run: customers")]
    assert row.split()[2:5] == ["customers", "5", "0"]
    assert "baseline: 4" in row


def test_a_dry_run_of_a_resend_says_what_it_would_send(nights: Nights) -> None:
    nights.good(TABLE)
    result = nights.good(TABLE, dry_run=True, resend=True)
    (row,) = [line for line in result.log("INFO") if line.startswith("dry run: customers")]
    assert row.split()[2:5] == ["customers", "4", "4"]


def test_a_dry_run_with_something_in_flight_asks_for_nothing(
    nights: Nights, sandbox: Sandbox
) -> None:
    sandbox.task_seconds = 0.3
    nights.stopped(TABLE[:3], accepted(2))
    before, calls = nights.journal.read_bytes(), len(sandbox.requests)
    nights.good(TABLE, dry_run=True)
    assert len(sandbox.requests) == calls
    assert nights.journal.read_bytes() == before
