"""When a key that was delivered goes out again: each kind of `send_again`."""

from __future__ import annotations

import itertools
import json
import typing as t

import pytest
from harness import record, schema, state, wait_for
from nights import (
    EVENING,
    MORNING,
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

    from target_altcraft.sandbox import Sandbox


def cities(nights: Nights) -> list[str]:
    """What arrived, in the order in which it did."""
    return [entry["data"].get("city", "") for entry in nights.sandbox.entries]


def said(*rows: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    """Rows with the STATE that says they were read."""
    return [*rows, state("end")]


# new_version


def test_a_version_goes_out_once_within_a_run_and_over_runs(nights: Nights) -> None:
    for _ in range(2):
        nights.good([bookmarked(), *said(at(1), at(1), at(2))])
        assert nights.sent() == [1, 2]


def test_another_entry_at_the_same_bookmark_is_a_new_version(nights: Nights) -> None:
    for city in ("Perm", "Omsk"):
        nights.good([bookmarked(), *said(at(1, city=city))])
    assert cities(nights) == ["Perm", "Omsk"]


def test_versions_that_come_late_behind_a_greater_bookmark_are_sent(nights: Nights) -> None:
    nights.good([bookmarked(), *said(at(1, EVENING))])
    nights.good([bookmarked(), *said(at(2, MORNING), at(3, NOON), at(1, EVENING))])
    assert nights.sent() == [1, 2, 3]


def test_rows_without_a_bookmark_value_are_told_by_key_and_entry(nights: Nights) -> None:
    head = bookmarked(updated_at={"type": ["string", "null"], "format": "date-time"})
    for city in ("Perm", "Perm", "Omsk"):
        nights.good([head, *said(at(1, None, city=city))])
    assert cities(nights) == ["Perm", "Omsk"]


def test_keys_are_told_apart_in_each_stream(nights: Nights) -> None:
    heads = [bookmarked(stream="a"), bookmarked(stream="b")]
    for _ in range(2):
        nights.good([*heads, *said(at(1, stream="a"), at(1, stream="b"))])
    assert nights.sent() == [1, 1]


def test_a_key_of_two_columns_is_compared_whole(nights: Nights) -> None:
    head = schema(
        properties={"id": {}, "shop": {}, "email": {}, "updated_at": {}},
        bookmark_properties=["updated_at"],
        key_properties=["id", "shop"],
    )
    for _ in range(2):
        nights.good([head, *said(at(1, shop=1), at(1, shop=2), at(1, shop=1))])
    assert nights.sent() == [1, 1]


def test_a_stream_with_a_bookmark_may_be_sent_always(nights: Nights) -> None:
    for _ in range(2):
        nights.good([bookmarked(), *said(at(1))], send_again="always")
    assert nights.sent() == [1, 1]


@pytest.mark.parametrize("kind", ["integer", "number", "string"])
def test_a_bookmark_of_any_type_tells_versions(nights: Nights, kind: str) -> None:
    values: tuple[t.Any, ...] = {
        "integer": (9, 10, 11),
        "number": (9.5, 10.25, 11.5),
        "string": ("b", "a", "c"),
    }[kind]
    low, middle, high = values
    head = bookmarked("seq", seq={"type": kind})
    nights.good([head, *said(at(1, seq=low), at(2, seq=middle))])
    nights.good([head, *said(at(2, seq=middle), at(3, seq=high))])
    nights.good([head, *said(at(1, seq=low), at(2, seq=middle), at(3, seq=high))])
    assert nights.sent() == [1, 2, 3]


# Versions are counted where nothing is a key


def keyless(*columns: str) -> dict[str, t.Any]:
    return schema(
        properties={"id": {}, "email": {}, "updated_at": {}, **{name: {} for name in columns}},
        bookmark_properties=["updated_at"],
        key_properties=[],
    )


def test_a_row_that_a_table_without_keys_holds_three_times_is_delivered_three_times(
    nights: Nights,
) -> None:
    first = nights.good([keyless(), *said(at(1), at(1), at(1), at(2))])
    assert "delivered before" not in first.stderr
    for _ in range(2):
        result = nights.good([keyless(), *said(at(1), at(1), at(1))])
        assert "delivered before: 3" in result.stderr
    nights.good([keyless(), *said(*[at(1)] * 4)])
    assert nights.sent() == [1, 1, 1, 1, 2]
    nights.good([keyless(), *said(*[at(1)] * 4)])
    assert nights.sent() == [1, 1, 1, 1, 2]


def test_a_run_skips_equal_rows_at_most_as_often_as_they_were_delivered(nights: Nights) -> None:
    nights.good([keyless(), *said(at(1), at(1))])
    nights.good([keyless(), *said(at(1))])
    nights.good([keyless(), *said(at(1), at(1), at(1))])
    assert nights.sent() == [1, 1, 1]


def test_columns_that_the_tap_adds_itself_are_no_part_of_a_row_without_keys(
    nights: Nights,
) -> None:
    for number in range(2):
        nights.good([keyless(), *said(at(1, _sdc_sequence=number))])
    assert nights.sent() == [1]


def test_equal_rows_without_keys_are_counted_through_a_crash(nights: Nights) -> None:
    nights.stopped([keyless(), at(1), at(1)], completed(2), max_in_flight=1)
    nights.good([keyless(), *said(*[at(1)] * 3)])
    assert nights.sent() == [1, 1, 1]


# always


def test_the_same_input_is_sent_again_every_night(nights: Nights) -> None:
    for runs in (1, 2, 3):
        nights.good([unbookmarked(), *said(at(1), at(1), at(2))])
        assert len(nights.sent()) == 3 * runs


def test_equal_records_are_counted_through_a_crash(nights: Nights) -> None:
    nights.stopped([unbookmarked(), at(1), at(1)], completed(2))
    nights.good([unbookmarked(), *said(at(1), at(1), at(1))])
    assert nights.sent() == [1, 1, 1]
    nights.good([unbookmarked(), *said(at(1))])
    assert nights.sent() == [1, 1, 1, 1]


def test_two_crashes_and_a_failure_send_nothing_again(nights: Nights, sandbox: Sandbox) -> None:
    nights.stopped([unbookmarked(), at(1)], completed(1))
    nights.stopped([unbookmarked(), at(1), at(2)], completed(1))
    sandbox.add_fault("submit:error,code=403,where=c3@example.com")
    assert nights.run([unbookmarked(), at(1), at(2), at(3)]).status == 1
    result = nights.good([unbookmarked(), *said(at(1), at(2), at(3), at(4))])
    assert "delivered before: 2" in result.stderr
    assert nights.sent() == [1, 2, 3, 4]
    assert len(sandbox.tasks) == 4


def test_another_stream_does_not_wipe_what_protects_the_resume(nights: Nights) -> None:
    nights.stopped([unbookmarked(), at(1)], completed(1))
    orders = unbookmarked(stream="orders")
    nights.good([orders, *said(at(7, stream="orders"))])
    nights.good([unbookmarked(), *said(at(1))])
    assert nights.sent() == [1, 7]
    nights.good([unbookmarked(), *said(at(1))])
    assert nights.sent() == [1, 1, 7]


def test_a_replay_of_rejects_does_not_end_what_protects_the_resume(nights: Nights) -> None:
    nights.stopped([unbookmarked(), at(1)], completed(1))
    replayed = {**at(9), "rejection": {"reason": "x", "code": "schema", "stream": "customers"}}
    nights.good([unbookmarked(), replayed])
    nights.good([unbookmarked(), *said(at(1))])
    assert nights.sent() == [1, 9]


def test_what_was_settled_without_a_state_is_forgotten_by_a_run_that_ended_well(
    nights: Nights,
) -> None:
    nights.stopped([unbookmarked(), at(1), at(2)], completed(2))
    nights.good([unbookmarked(), at(1)])
    nights.good([unbookmarked(), at(1), at(2)])
    assert nights.sent() == [1, 1, 2, 2]


def test_what_never_came_again_is_dropped_with_one_line(nights: Nights, sandbox: Sandbox) -> None:
    sandbox.task_seconds = 0.3
    nights.stopped([unbookmarked(), at(1), at(2)], accepted(2))
    result = nights.good([unbookmarked(), state(1)])
    assert "2 profiles that an earlier run had sent did not come again" in result.stderr
    again = nights.good([unbookmarked(), *said(at(1))])
    assert "did not come again" not in again.stderr
    assert nights.sent() == [1, 1, 2]


def test_a_receipt_that_a_broken_run_owed_is_written_by_the_next_one(
    nights: Nights, sandbox: Sandbox, tmp_path: Path
) -> None:
    settings: dict[str, t.Any] = {"receipts_path": str(tmp_path / "receipts"), "batch_size_rows": 2}
    sandbox.task_seconds = 0.5
    nights.stopped([unbookmarked(), at(1), at(2)], accepted(1), **settings)
    sandbox.add_fault("submit:timeout,accept")
    in_doubt = [unbookmarked(), at(3), at(4)]
    nights.stopped(in_doubt, lambda _: len(sandbox.tasks) == 2, **settings)
    all_rows = [unbookmarked(), at(1), state(1), at(3), at(2), at(4), state(4)]
    broken = nights.run(all_rows, on_ambiguous_submit="fail", **settings)
    assert (broken.status, broken.bookmarks) == (1, [1]), broken.stderr
    nights.good(all_rows, **settings)
    lines = (tmp_path / "receipts").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["key"]["id"] for line in lines} == {1, 2, 3, 4}, "twice, if need be"


def test_a_replayed_reject_is_not_sent_twice_also_on_a_stream_that_is_always_sent(
    nights: Nights, sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.fail_where = lambda entry: entry["data"]["id"] == 2
    path = tmp_path / "rejects"
    nights.good([unbookmarked(), *said(at(1), at(2))], rejects_path=str(path))
    sandbox.fail_where = None
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for _ in range(2):
        nights.good(lines)
    assert nights.sent() == [1, 2, 2], "rejected once, replayed once"


def test_a_reject_that_stands_twice_in_the_file_is_sent_once_however_often_it_is_replayed(
    nights: Nights, sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.fail_where = lambda entry: entry["data"]["id"] == 2
    path = tmp_path / "rejects"
    for _ in range(2):  # an `always` stream rejects it anew every night
        nights.good([unbookmarked(), *said(at(1), at(2))], rejects_path=str(path))
    sandbox.fail_where = None
    assert path.read_text(encoding="utf-8").count('"RECORD"') == 2
    for _ in range(3):
        nights.good(rejects_of(path))
    assert nights.sent() == [1, 1, 2, 2, 2], "rejected twice, replayed once"


# changed


CHANGED = {"send_again": "changed"}


def test_only_what_changed_goes_out_whatever_the_bookmark_says(nights: Nights) -> None:
    maps = {"customers": {"updated_at": None}}
    for moment, city in ((MORNING, "Perm"), (NOON, "Perm"), (NOON, "Omsk"), (EVENING, "Perm")):
        result = nights.good(
            [bookmarked(), *said(at(1, moment, city=city))], stream_maps=maps, **CHANGED
        )
    assert cities(nights) == ["Perm", "Omsk", "Perm"]
    result = nights.good([bookmarked(), *said(at(1, city="Perm"))], stream_maps=maps, **CHANGED)
    assert "not changed: 1" in result.stderr


def test_a_full_table_every_night_sends_what_is_new_or_changed(nights: Nights) -> None:
    table = {n: at(n, city="Perm") for n in range(8)}
    nights.good([unbookmarked(), *said(*table.values())], **CHANGED)
    table[3] = at(3, city="Omsk")
    table[8] = at(8)
    nights.good([unbookmarked(), *said(*table.values())], **CHANGED)
    assert nights.sent() == sorted([*range(8), 3, 8])
    result = nights.good([unbookmarked(), *said(*table.values())], **CHANGED)
    assert "not changed: 9" in result.stderr
    assert len(nights.sent()) == 10


def test_a_record_waits_for_its_key_that_is_in_flight(nights: Nights, sandbox: Sandbox) -> None:
    sandbox.task_seconds = 0.3
    rows = [at(1, city=city) for city in ("Perm", "Perm", "Omsk", "Omsk", "Perm")]
    nights.good([unbookmarked(), *said(*rows, at(2))], batch_size_rows=10, **CHANGED)
    assert [city for city in cities(nights) if city] == ["Perm", "Omsk", "Perm"]


def test_a_key_whose_newest_version_was_rejected_goes_by_its_last_delivered_one(
    nights: Nights, sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.fail_where = lambda entry: entry["data"]["city"] == "bad"
    settings = {**CHANGED, "rejects_path": str(tmp_path / "rejects")}
    for city in ("Perm", "bad", "Perm"):
        nights.good([unbookmarked(), *said(at(1, city=city))], **settings)
    assert cities(nights) == ["Perm", "bad"]


def test_what_was_in_flight_is_matched_by_key(nights: Nights, sandbox: Sandbox) -> None:
    sandbox.task_seconds = 0.5
    nights.stopped([unbookmarked(), at(1, city="Perm")], accepted(1), **CHANGED)
    nights.good([unbookmarked(), *said(at(1, city="Perm"))], **CHANGED)
    assert cities(nights) == ["Perm"]
    nights.good([unbookmarked(), *said(at(1, city="Omsk"))], **CHANGED)
    assert cities(nights) == ["Perm", "Omsk"]


def test_what_changed_while_its_key_was_in_flight_at_a_crash_is_not_lost(
    nights: Nights, sandbox: Sandbox
) -> None:
    sandbox.task_seconds = 0.5
    nights.stopped([unbookmarked(), at(1, city="Perm")], accepted(1), **CHANGED)
    for _ in range(2):
        nights.good([unbookmarked(), *said(at(1, city="Omsk"))], **CHANGED)
    assert cities(nights) == ["Perm", "Omsk"]


def test_an_earlier_version_that_a_crash_left_is_not_taken_for_the_last_one(
    nights: Nights, sandbox: Sandbox
) -> None:
    both = [unbookmarked(), at(1, city="Perm"), at(1, city="Omsk")]
    sandbox.task_seconds = 0.5
    nights.stopped(both[:2], accepted(1), **CHANGED)
    sandbox.task_seconds = 0
    nights.stopped(both, completed(1), **CHANGED)
    for messages in (both, [both[0], both[2]]):
        nights.good([*messages, state(1)], **CHANGED)
    assert cities(nights) == ["Perm", "Omsk"]


def test_what_changed_back_while_its_change_is_in_doubt_goes_out_again(
    nights: Nights, sandbox: Sandbox
) -> None:
    nights.good([unbookmarked(), *said(at(1, city="Perm"))], **CHANGED)
    sandbox.add_fault("submit:timeout,accept")
    change = [unbookmarked(), at(1, city="Omsk")]
    nights.stopped(change, lambda _: len(sandbox.tasks) == 2, **CHANGED)
    for _ in range(2):
        nights.good([unbookmarked(), *said(at(1, city="Perm"))], **CHANGED)
    assert cities(nights) == ["Perm", "Omsk", "Perm"]


def test_a_change_in_doubt_stays_so_though_its_run_has_delivered_its_key(
    nights: Nights, sandbox: Sandbox
) -> None:
    both = [unbookmarked(), at(1, city="Perm"), at(1, city="Omsk")]
    sandbox.add_fault("submit:timeout,accept,after=1")
    nights.stopped(both, lambda _: len(sandbox.tasks) == 2, **CHANGED)
    careful = nights.run([both[0], both[2]], on_ambiguous_submit="fail", **CHANGED)
    assert careful.status == 1
    assert "it is unknown whether its 1 profiles were accepted" in careful.error
    assert len(twice(nights.good([both[0], *said(both[2])], **CHANGED))) == 1
    assert cities(nights) == ["Perm", "Omsk", "Omsk"]


# never


NEVER = {"send_again": "never"}


def test_a_key_goes_out_once_for_ever(nights: Nights) -> None:
    for moment, city in ((MORNING, "Perm"), (NOON, "Omsk"), (EVENING, "Tver")):
        nights.good([bookmarked(), *said(at(1, moment, city=city), at(1, moment))], **NEVER)
    assert cities(nights) == ["Perm"]


def test_a_key_that_was_rejected_may_still_go_out_once(
    nights: Nights, sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.fail_where = lambda entry: entry["data"].get("city") == "bad"
    settings = {**NEVER, "rejects_path": str(tmp_path / "rejects")}
    nights.good([unbookmarked(), *said(at(1, city="bad"), at(1, city="Perm"))], **settings)
    nights.good([unbookmarked(), *said(at(1, city="Omsk"))], **settings)
    assert cities(nights) == ["bad", "Perm"]


def test_a_key_in_doubt_is_matched_by_key_and_warned_of(nights: Nights, sandbox: Sandbox) -> None:
    sandbox.add_fault("submit:timeout,accept")
    nights.stopped([unbookmarked(), at(1, city="Perm")], lambda _: len(sandbox.tasks) == 1, **NEVER)
    result = nights.good([unbookmarked(), *said(at(1, city="Omsk"))], **NEVER)
    assert len(twice(result)) == 1
    assert cities(nights) == ["Perm", "Omsk"]
    nights.good([unbookmarked(), *said(at(1, city="Tver"))], **NEVER)
    assert cities(nights) == ["Perm", "Omsk"]


# What the kinds need


@pytest.mark.parametrize("how", ["changed", "never", "new_version"])
def test_kinds_that_compare_need_the_journal(nights: Nights, how: str) -> None:
    result = nights.run([unbookmarked(), *said(at(1))], send_again=how, journal_path=None)
    assert (result.status, result.states) == (1, [])
    assert "needs journal_path" in result.error
    assert nights.sent() == []


@pytest.mark.parametrize("how", ["changed", "never"])
def test_kinds_that_compare_by_key_need_one(nights: Nights, how: str) -> None:
    head = schema(properties={"id": {}, "email": {}})
    result = nights.run([head, *said(at(1))], send_again=how)
    assert (result.status, result.states) == (1, [])
    assert "needs key properties" in result.error
    assert nights.sent() == []


@pytest.mark.parametrize(
    ("first", "second"),
    list(itertools.permutations(("new_version", "changed", "never"), 2)),
)
def test_another_kind_knows_what_the_first_delivered(
    nights: Nights, first: str, second: str
) -> None:
    messages = [bookmarked(), *said(at(1, MORNING), at(2, NOON))]
    nights.good(messages, send_again=first)
    nights.good(messages, send_again=second)
    assert nights.sent() == [1, 2]
    nights.good(messages, send_again=first)
    assert nights.sent() == [1, 2]


@pytest.mark.parametrize("settings", [{}, CHANGED, NEVER], ids=["default", "changed", "never"])
@pytest.mark.parametrize("in_flight", [1, 6])
def test_several_streams_in_one_input_keep_to_their_own_kind(
    nights: Nights, settings: dict[str, t.Any], in_flight: int
) -> None:
    heads = [bookmarked(stream="a"), unbookmarked(stream="b")]
    rows = [at(n, f"2024-05-06T12:00:{n:02d}Z", stream=s) for n in range(5) for s in ("a", "b")]
    for _ in range(2):
        nights.good(
            [*heads, *said(*rows)], streams={"a": settings, "b": {}}, max_in_flight=in_flight
        )
    assert nights.sent() == sorted([*range(5), *range(5), *range(5)])


def test_a_row_of_a_batch_file_is_a_record_like_any_other(nights: Nights, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(record(id=1, email="c1@example.com", updated_at=NOON)["record"]))
    batch = {
        "type": "BATCH",
        "stream": "customers",
        "encoding": {"format": "jsonl"},
        "manifest": [rows.as_uri()],
    }
    nights.good([bookmarked(), batch, state(1)])
    nights.good([bookmarked(), at(1), state(1)])
    assert nights.sent() == [1]


# Replayed rejects


def rejects_of(path: Path) -> list[dict[str, t.Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("how", ["new_version", "changed", "never"])
def test_a_mended_reject_is_delivered_once_and_the_bad_row_is_not_rejected_anew(
    nights: Nights, tmp_path: Path, how: str
) -> None:
    path = tmp_path / "rejects"
    settings = {"send_again": how, "rejects_path": str(path)}
    table = [bookmarked(), *said(at(1), at(2, email=None))]
    nights.good(table, **settings)
    replay = rejects_of(path)
    replay[-1]["record"]["email"] = "c2@example.com"
    for _ in range(2):
        nights.good(replay, send_again=how)
    assert nights.sent() == [1, 2]
    result = nights.good(table, **settings)
    assert nights.sent() == [1, 2]
    if how == "new_version":
        assert "rejected before: 1" in result.stderr
        assert path.read_text(encoding="utf-8").count('"RECORD"') == 1


def test_a_reject_replayed_as_it_was_is_judged_anew(nights: Nights, tmp_path: Path) -> None:
    path = tmp_path / "rejects"
    nights.good([bookmarked(), *said(at(2, email=None))], rejects_path=str(path))
    other = tmp_path / "other"
    nights.good(rejects_of(path), rejects_path=str(other))
    assert other.read_text(encoding="utf-8").count('"RECORD"') == 1


# One input, several mappings or outputs


def test_a_schema_that_changes_in_mid_stream_makes_no_new_versions(
    nights: Nights, sandbox: Sandbox
) -> None:
    sandbox.task_seconds = 0.2
    wider = bookmarked(city={"type": "string"})
    for _ in range(2):
        nights.good([bookmarked(), at(1), at(2), wider, *said(at(1), at(3))], batch_size_rows=2)
        assert nights.sent() == [1, 2, 3]


@pytest.mark.parametrize("size", [1, 9])
def test_a_row_that_changes_behind_a_schema_in_mid_stream_is_sent(
    nights: Nights, sandbox: Sandbox, size: int
) -> None:
    sandbox.task_seconds = 0.2
    moment = {"type": "null"}
    old, new = bookmarked(updated_at=moment), bookmarked(updated_at=moment, city={})
    perm, omsk, tver = (at(1, None, city=city) for city in ("Perm", "Omsk", "Tver"))
    nights.good([old, perm, new, *said(omsk, omsk, tver)], batch_size_rows=size)
    assert cities(nights) == ["Perm", "Tver"]
    nights.good([new, *said(omsk, tver)])
    assert cities(nights) == ["Perm", "Tver"]


def test_a_version_that_was_in_flight_when_the_schema_changed_is_known_once_it_is_settled(
    nights: Nights, sandbox: Sandbox
) -> None:
    sandbox.task_seconds = 0.5
    with nights.start() as target:
        target.feed([bookmarked(), at(1, MORNING), at(2, NOON), bookmarked(city={})])
        wait_for(lambda: completed(2)(target), "both tasks")
        target.feed(said(at(1, MORNING)))
        target.close_input()
        result = target.wait()
    assert (result.status, nights.sent()) == (0, [1, 2]), result.stderr


def test_a_version_in_flight_is_not_sent_again_by_a_later_lot(
    nights: Nights, sandbox: Sandbox
) -> None:
    sandbox.task_seconds = 0.2
    rows = [at(1, None), at(2, None), at(1, None), at(2, None)]
    head = bookmarked(updated_at={"type": "null"})
    lot = {"target_altcraft.lot:_MOST_RECORDS": 2}
    result = nights.run([head, *said(*rows)], lot)
    assert (result.status, nights.sent()) == (0, [1, 2])


def test_rows_are_counted_from_the_schema_on_that_names_no_key(nights: Nights) -> None:
    without_key = {**bookmarked(), "key_properties": []}
    rows = [at(1), at(1)]
    nights.good([bookmarked(), *rows, without_key, *rows, bookmarked(), *said(*rows)])
    assert nights.sent() == [1, 1, 1]
    nights.good([bookmarked(), *rows, without_key, *said(*rows)])
    assert nights.sent() == [1, 1, 1]


def test_rows_that_came_before_the_key_stay_counted(nights: Nights) -> None:
    without_key = {**bookmarked(), "key_properties": []}
    for _ in range(3):
        nights.good([without_key, at(1), at(1), bookmarked(), *said(at(2))], batch_size_rows=9)
        assert nights.sent() == [1, 1, 2]


@pytest.mark.parametrize("goes", [True, False])
def test_rows_that_came_before_the_bookmark_comes_or_goes_are_what_they_were(
    nights: Nights, *, goes: bool
) -> None:
    first, second = (bookmarked, unbookmarked) if goes else (unbookmarked, bookmarked)
    sent = []
    for _ in range(3):
        nights.good([first(), at(1), at(2), second(), *said(at(3))], batch_size_rows=9)
        sent.append(nights.sent().count(2 if goes else 3))
    assert sent == [1, 1, 1]


def test_a_reject_that_came_before_the_bookmark_went_is_rejected_once(
    nights: Nights, sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.fail_where = lambda entry: entry["data"]["id"] == 2
    path = tmp_path / "rejects"
    for _ in range(3):
        nights.good(
            [bookmarked(), at(1), at(2), unbookmarked(), *said(at(3))],
            rejects_path=str(path),
            batch_size_rows=9,
        )
        assert path.read_text(encoding="utf-8").count('"RECORD"') == 1


def test_each_output_of_one_tap_stream_has_a_memory_of_its_own(nights: Nights) -> None:
    maps = {"customers": {}, "vip": {"__source__": "customers", "__filter__": "id > 1"}}
    for _ in range(2):
        nights.good([bookmarked(), *said(at(1), at(2))], stream_maps=maps)
        assert nights.sent() == [1, 2, 2]
    nights.good([bookmarked(), *said(at(1), at(2))], stream_maps=maps, resend=["vip"])
    assert nights.sent() == [1, 2, 2, 2]


def test_a_key_that_the_stream_map_changes_is_still_the_taps_key(nights: Nights) -> None:
    for number in range(2):
        maps = {"customers": {"shop": f"'{number}'", "__key_properties__": ["shop"]}}
        nights.good([bookmarked(), *said(at(1), at(2))], stream_maps=maps)
    assert nights.sent() == [1, 2]
