"""Each outcome settles its own record: equal rows, other entries of a key, replays, dead taps."""

from __future__ import annotations

import typing as t

import pytest
from harness import record, schema, state
from nights import (
    EVENING,
    MISSING_TASK_SECONDS,
    NOON,
    accepted,
    at,
    bookmarked,
    completed,
    twice,
    unbookmarked,
)

if t.TYPE_CHECKING:
    from pathlib import Path

    from nights import Nights

ROW = record(id=1, email="a@example.com")
LOST = "submit:reset_after,accept"


def rejects(tmp_path: Path) -> dict[str, t.Any]:
    return {"rejects_path": str(tmp_path / "rejects.jsonl")}


def replay(nights: Nights, tmp_path: Path, **settings: t.Any) -> t.Any:
    path = tmp_path / "mended.jsonl"
    (tmp_path / "rejects.jsonl").rename(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    return nights.good(lines, **rejects(tmp_path), **settings)


def test_what_a_task_did_not_import_behind_the_last_state_goes_out_when_it_is_replayed(
    nights: Nights, tmp_path: Path
) -> None:
    nights.sandbox.add_fault("task:partial,indexes=1")
    head = unbookmarked()
    nights.good([head, state(1), at(2), at(3)], batch_size_rows=2, **rejects(tmp_path))
    result = replay(nights, tmp_path)
    assert "delivered: 1" in result.stderr
    assert nights.sent() == [2, 3, 3]  # the first copy of 3 was not imported


@pytest.mark.parametrize("how", ["fail", "skip", "resend"])
def test_the_delivery_of_an_equal_row_does_not_settle_another_ones_doubt(
    nights: Nights, how: str
) -> None:
    nights.sandbox.add_fault(f"{LOST},after=1")
    messages = [schema(), ROW, ROW, state(1)]
    settings = {"on_ambiguous_submit": how, "max_in_flight": 1}
    assert nights.run(messages, on_ambiguous_submit="fail", max_in_flight=1).status == 1
    result = nights.run(messages, **settings)
    assert len(nights.sandbox.entries) == (3 if how == "resend" else 2)
    assert bool(twice(result)) == (how == "resend")
    assert result.status == (1 if how == "fail" else 0), result.stderr


def test_of_equal_rows_each_is_settled_by_its_own_result(nights: Nights, tmp_path: Path) -> None:
    nights.sandbox.task_seconds = 0.5
    nights.sandbox.add_fault("task:partial,indexes=1")
    messages = [schema(), ROW, ROW, ROW, state(1)]
    settings = {"batch_size_rows": 3, **rejects(tmp_path)}
    nights.stopped(messages, accepted(1), **settings)
    result = nights.good(messages, **settings)
    assert len(nights.sandbox.entries) == 3
    assert "read: 3; rejected, error 422: 1; skipped, delivered before: 2" in result.stderr


def test_a_row_rejected_in_several_nights_is_replayed_once(nights: Nights, tmp_path: Path) -> None:
    for night in range(3):
        nights.sandbox.add_fault("task", "partial", indexes=(0,))
        nights.good([unbookmarked(), at(2), state(night)], **rejects(tmp_path))
    before = len(nights.sandbox.entries)
    result = replay(nights, tmp_path)
    assert len(nights.sandbox.entries) == before + 1
    assert "read: 3; delivered: 1; skipped, delivered before: 2" in result.stderr


def test_with_skip_an_earlier_entry_in_doubt_does_not_stand_for_a_newer_one(
    nights: Nights,
) -> None:
    settings = {"send_again": "changed"}
    head = bookmarked(city={"type": "string"})
    nights.good([head, at(1, city="Perm"), state(1)], **settings)
    nights.sandbox.add_fault(LOST)
    messages = [head, at(1, EVENING, city="Omsk"), state(2)]
    assert nights.run(messages, **settings, on_ambiguous_submit="fail").status == 1
    last = [head, at(1, EVENING, city="Kazan"), state(3)]
    nights.good(last, **settings, on_ambiguous_submit="skip")
    cities = [entry["data"]["city"] for entry in nights.sandbox.entries]
    assert cities == ["Perm", "Omsk", "Kazan"]
    nights.good(last, **settings)
    assert len(nights.sandbox.entries) == 3


def test_a_tap_that_dies_right_after_its_schema_forgets_nothing(nights: Nights) -> None:
    messages = [unbookmarked(), at(1), at(2)]
    nights.stopped(messages, completed(2))
    nights.good([unbookmarked()])
    nights.good([*messages, state(1)])
    assert nights.sent() == [1, 2]


def test_a_schema_without_its_bookmark_does_not_erase_the_memory(nights: Nights) -> None:
    nights.good([bookmarked(), at(1), state(1)])
    nights.good([unbookmarked(), state(1)])
    nights.good([bookmarked(), at(1), state(1)])
    assert nights.sent() == [1]


def test_key_and_bookmark_decide_also_while_the_earlier_mapping_is_in_flight(
    nights: Nights,
) -> None:
    nights.sandbox.task_seconds = 0.5
    more = bookmarked(city={"type": "string"})
    nights.good([bookmarked(), at(1), more, at(1, city="Perm"), at(2), state(1)])
    assert nights.sent() == [1, 2]


def test_all_tasks_that_failed_are_found_in_one_run(nights: Nights) -> None:
    nights.sandbox.task_seconds = 1.0
    nights.sandbox.add_fault("task", "failed", times=6)
    messages = [bookmarked(), *map(at, range(6)), state(1)]
    nights.stopped(messages, accepted(6), max_in_flight=6)
    statuses = [nights.run(messages, max_in_flight=1).status for _ in range(2)]
    assert statuses == [1, 0]


@pytest.mark.parametrize("way_on", ["baseline", "resend"])
@pytest.mark.parametrize("kind", ["changed", "never"])
def test_a_quiet_night_with_a_way_on_gets_past_a_changed_mapping(
    nights: Nights, kind: str, way_on: str
) -> None:
    head = bookmarked()
    nights.good([head, at(1), state(1)], send_again=kind)
    settings = {"send_again": kind, "nulls": "send"}
    assert nights.run([head, at(1), state(2)], **settings).status == 1
    nights.good([head, state(2)], **settings, **{way_on: True})
    nights.good([head, at(1), state(3)], **settings)
    assert nights.sent() == [1]


def test_two_streams_of_the_tap_in_one_output_stream_are_refused_with_a_journal(
    nights: Nights,
) -> None:
    maps = {"a": {"__alias__": "customers"}, "b": {"__alias__": "customers"}}
    messages = [
        bookmarked(stream="a"),
        at(1, stream="a"),
        bookmarked(stream="b"),
        at(1, stream="b", email="other@example.com"),
        state(1),
    ]
    result = nights.run(messages, stream_maps=maps)
    assert result.status == 1
    assert "'a' and 'b' are both mapped to stream 'customers'" in result.error
    nights.good(messages, stream_maps=maps, journal_path=None)


def test_a_row_without_a_key_is_the_same_however_its_bookmark_is_spelled(nights: Nights) -> None:
    head = {**bookmarked(), "key_properties": []}
    maps = {"customers": {"updated_at": "__NULL__"}}
    for moment in (NOON, NOON.replace("Z", "+00:00"), "2024-05-06T15:00:00+03:00"):
        nights.good([head, at(1, moment), state(1)], stream_maps=maps)
    assert nights.sent() == [1]


def test_a_resend_sends_what_was_rejected_before(nights: Nights, tmp_path: Path) -> None:
    nights.sandbox.fail_where = lambda entry: entry["data"]["id"] == 1
    messages = [bookmarked(), at(1), at(2), state(1)]
    nights.good(messages, **rejects(tmp_path))
    nights.good(messages, **rejects(tmp_path))
    assert nights.sent() == [1, 2]
    nights.sandbox.fail_where = None
    nights.good(messages, **rejects(tmp_path), resend=True)
    assert nights.sent() == [1, 1, 2, 2]


def test_a_resend_that_was_stopped_is_told_by_a_run_without_it_and_goes_on_by_the_next(
    nights: Nights,
) -> None:
    messages = [bookmarked(), *map(at, range(4)), state(1)]
    nights.good(messages)
    nights.sandbox.add_fault("submit", "http", status=401, after=2, times=None)
    assert nights.run(messages, resend=True, max_in_flight=1).status == 1
    nights.sandbox.clear_faults()
    between = nights.good(messages)
    assert "a resend did not end well" in between.stderr
    nights.good(messages, resend=True)
    assert nights.sent() == sorted([*range(4)] * 2)


def test_a_vanished_task_of_a_dry_run_is_not_asked_about(nights: Nights) -> None:
    nights.sandbox.add_fault("task", "vanished", seconds=0)
    messages = [bookmarked(), at(1), state(1)]
    assert nights.run(messages, {MISSING_TASK_SECONDS: 0.3}).status == 1
    asked = nights.calls("status")
    nights.good(messages, dry_run=True)
    assert nights.calls("status") == asked
