"""What a bookmark, a crash or an orchestrator does in ordinary nights messages nobody twice."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import typing as t

import pytest
from harness import TargetProcess, lines, record, schema, state, wait_for
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
    warnings,
)

if t.TYPE_CHECKING:
    from pathlib import Path

    from nights import Nights

    from target_altcraft.sandbox import Sandbox


# STATE


def test_of_the_states_that_a_lot_of_known_records_makes_safe_only_the_newest_comes_out(
    nights: Nights, tmp_path: Path
) -> None:
    rows = [message for n in range(500) for message in (at(n), state(n))]
    nights.good([bookmarked(), *rows], batch_size_rows=500)
    path = tmp_path / "input"
    path.write_text("".join(lines([bookmarked(), *rows])), encoding="utf-8")
    with (
        path.open("rb") as source,  # never pauses, so all of them are one lot
        TargetProcess(nights.settings, tmp_path, stdin=source.fileno()) as target,
    ):
        result = target.wait()
    assert (result.status, result.bookmarks) == (0, [499]), result.stderr
    assert nights.sent() == list(range(500))


def test_a_state_among_known_records_is_out_while_what_comes_after_it_waits(
    nights: Nights, sandbox: Sandbox, tmp_path: Path
) -> None:
    nights.good([bookmarked(), at(1), state(NOON)])
    sandbox.task_seconds = 3600.0
    nights.settings["max_in_flight"] = 1
    path = tmp_path / "input"
    rows = [at(1), state("known"), at(2, EVENING), at(3, EVENING), state("new")]
    path.write_text("".join(lines([bookmarked(), *rows])), encoding="utf-8")
    with (
        path.open("rb") as source,
        TargetProcess(nights.settings, tmp_path, stdin=source.fileno()) as target,
    ):
        wait_for(target.states, "the STATE before the record that waits")
        target.terminate(signal.SIGKILL)
        assert target.wait().bookmarks == ["known"]


# What earlier nights say of a stream's settings


def test_a_lone_record_that_is_refused_is_a_reject_where_others_were_accepted_before(
    nights: Nights, sandbox: Sandbox, tmp_path: Path
) -> None:
    rejects = tmp_path / "rejects"
    nights.settings["rejects_path"] = str(rejects)
    sandbox.refuse_where = lambda entry: entry["data"]["id"] > 1
    alone = nights.run([bookmarked(), at(2), state(NOON)])
    assert (alone.status, alone.states) == (1, [])
    assert "a setting is wrong" in alone.error
    nights.good([bookmarked(), at(1), state(NOON)])

    nights.good([bookmarked(), at(3, EVENING), state(EVENING)])
    lines = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [line["record"]["id"] for line in lines if line["type"] == "RECORD"] == [3]

    maps = {"customers": {"greeting": "'Dear'"}}
    other = nights.run([bookmarked(), at(4, EVENING), state(EVENING)], stream_maps=maps)
    assert (other.status, other.states) == (1, [])
    assert "a setting is wrong" in other.error
    assert nights.sent() == [1]


# The bookmark does not move


def test_a_bookmark_that_does_not_move_with_state_before_the_records_messages_nobody_twice(
    nights: Nights,
) -> None:
    rows = [at(1, MORNING), at(2)]
    for night in range(4):
        result = nights.good([bookmarked(), state(NOON), *rows])
        assert result.bookmarks == [NOON]
        rows = [*rows[1:], at(10 + night)] if night == 0 else [*rows, at(10 + night)]
    assert nights.sent() == [1, 2, 10, 11, 12]


def test_a_bookmark_whose_row_has_changed_still_protects_the_others_at_it(nights: Nights) -> None:
    nights.good([bookmarked(), at(1), at(2), at(3), state(NOON)])
    nights.good([bookmarked(), at(1), at(2), at(3, EVENING), state(EVENING)])
    nights.good([bookmarked(), at(1), at(2), at(3, EVENING), state(EVENING)])
    assert nights.sent() == [1, 2, 3, 3]


def test_an_unsaved_bookmark_of_a_fuller_night_messages_nobody_twice(nights: Nights) -> None:
    rows = [at(n, f"2024-05-06T12:00:{n:02d}Z") for n in range(10)]
    nights.good([bookmarked(), *rows, state("never saved")])
    result = nights.good([bookmarked(), *rows, at(99, EVENING), state("saved")])
    assert nights.sent() == [*range(10), 99]
    assert "delivered before: 10" in result.stderr


# A crash, a good rerun, the next night


@pytest.mark.parametrize("head", [bookmarked(), unbookmarked()], ids=["bookmark", "none"])
def test_a_crash_a_good_rerun_and_the_next_night_message_nobody_twice(
    nights: Nights, head: dict[str, t.Any]
) -> None:
    nights.stopped([head, at(1), at(2)], completed(2))
    nights.good([head, at(1), at(2), state(NOON)])
    assert nights.sent() == [1, 2]
    has_bookmark = "bookmark_properties" in head
    nights.good([head, *([at(2)] if has_bookmark else []), at(3, EVENING), state(EVENING)])
    assert nights.sent() == [1, 2, 3]


def test_what_was_in_flight_at_the_crash_is_at_the_boundary_in_the_third_night(
    nights: Nights, sandbox: Sandbox
) -> None:
    sandbox.task_seconds = 0.5
    nights.stopped([bookmarked(), at(1), at(2)], accepted(2))
    nights.good([bookmarked(), at(1), at(2), state(NOON)])
    for _ in range(2):
        result = nights.good([bookmarked(), at(1), at(2), state(NOON)])
        assert "delivered before: 2" in result.stderr
    assert nights.sent() == [1, 2]


# STATE printed, not saved


@pytest.mark.parametrize("head", [bookmarked(), unbookmarked()], ids=["bookmark", "none"])
def test_states_printed_while_winding_down_and_never_saved_message_nobody_twice(
    nights: Nights, sandbox: Sandbox, head: dict[str, t.Any]
) -> None:
    sandbox.task_seconds = lambda number, _: 0.2 * number
    messages: list[t.Any] = [head]
    for n in range(6):
        messages += [at(n, f"2024-05-06T12:00:{n:02d}Z"), state(n)]
    stopped = nights.stopped(messages, accepted(6), signal.SIGTERM, max_in_flight=6)
    assert stopped.status == 128 + signal.SIGTERM
    assert stopped.states, "the STATEs that nobody saves"
    result = nights.good([*messages, state("end")])
    assert result.bookmarks[-1] == "end"
    assert nights.sent() == list(range(6))
    assert not twice(result)


# A STATE that covers a batch only in part


@pytest.mark.parametrize("head", [bookmarked, unbookmarked])
def test_states_that_cover_batches_in_part_forget_nothing_behind_them(
    nights: Nights, sandbox: Sandbox, head: t.Callable[..., dict[str, t.Any]]
) -> None:
    def row(stream: str, n: int) -> dict[str, t.Any]:
        return at(n, f"2024-05-06T12:00:{n:02d}Z", stream=stream)

    sandbox.task_seconds = lambda _, entries: 0.6 if entries[0]["data"]["id"] > 20 else 0.0
    heads = [head(stream=stream) for stream in ("a", "b", "c")]
    before = [row("a", 1), row("b", 11), state("first"), row("c", 21), state("second")]
    after = [row("a", 2), row("a", 3), row("b", 12), row("b", 13), row("c", 22), row("c", 23)]
    stopped = nights.stopped(
        [*heads, *before, *after], lambda target: len(target.states()) == 2, batch_size_rows=3
    )
    assert stopped.bookmarks == ["first", "second"]
    nights.good([*heads, *after, state("end")], batch_size_rows=3)
    assert nights.sent() == [1, 2, 3, 11, 12, 13, 21, 22, 23]


def test_a_state_of_one_stream_covers_nothing_that_comes_behind_it_in_another_order(
    nights: Nights, sandbox: Sandbox
) -> None:
    sandbox.task_seconds = lambda _, entries: 0.0 if entries[0]["data"]["id"] < 10 else 1.0
    heads = [unbookmarked(stream="a"), unbookmarked(stream="b")]
    slow = [at(n, stream="b") for n in (11, 12)]
    stopped = nights.stopped(
        [*heads, at(1, stream="a"), state("first"), at(2, stream="a"), *slow],
        lambda target: target.states() and accepted(4)(target),
    )
    assert stopped.bookmarks == ["first"]
    nights.good([*heads, at(2, stream="a"), *slow, state("end")])
    assert nights.sent() == [1, 2, 11, 12]


# The tap dies after its last STATE


def test_rows_behind_the_last_state_of_a_tap_that_died_are_not_sent_again(nights: Nights) -> None:
    nights.good([unbookmarked(), at(1), state("covers 1"), at(2), at(3)])
    result = nights.good([unbookmarked(), at(2), at(3), at(4), state("end")])
    assert nights.sent() == [1, 2, 3, 4]
    (warning,) = warnings(result)
    assert "behind the last STATE of the last run, which ended well" in warning
    nights.good([unbookmarked(), at(2), at(3), state("end")])
    assert nights.sent() == [1, 2, 2, 3, 3, 4], "skipped in the next run only"


def test_of_one_batch_what_lies_before_the_last_state_is_sent_again_and_the_rest_is_not(
    nights: Nights,
) -> None:
    table = [unbookmarked(), at(1), at(2), state("covers 2"), at(3), at(4)]
    first = nights.good(table, batch_size_rows=4)
    assert (first.bookmarks, len(nights.sandbox.tasks)) == (["covers 2"], 1)
    nights.good([*table, state("end")], batch_size_rows=4)
    assert nights.sent() == [1, 1, 2, 2, 3, 4]


def test_an_input_without_any_state_is_sent_again(nights: Nights) -> None:
    for _ in range(2):
        nights.good([unbookmarked(), at(1), at(2)])
    assert nights.sent() == [1, 1, 2, 2]


def test_rows_behind_the_last_state_of_a_tap_with_a_bookmark_are_not_sent_again(
    nights: Nights,
) -> None:
    nights.good([bookmarked(), at(1, MORNING), state(MORNING), at(2), at(3, EVENING)])
    for _ in range(2):
        nights.good([bookmarked(), at(1, MORNING), at(2), at(3, EVENING), state(EVENING)])
    assert nights.sent() == [1, 2, 3]


# What is not sent, and how it is spelt


def test_a_column_that_the_stream_map_drops_makes_no_new_version(nights: Nights) -> None:
    maps = {"customers": {"password_hash": None}}
    head = bookmarked(password_hash={"type": "string"})
    for secret in ("one", "two", "three"):
        messages = [head, at(1, password_hash=secret), state(NOON)]
        nights.good(messages, stream_maps=maps)
    assert nights.sent() == [1]


def test_a_row_that_moves_its_bookmark_is_a_new_version_though_its_entry_is_the_same(
    nights: Nights,
) -> None:
    maps = {"customers": {"updated_at": None}}
    for moment in (MORNING, NOON):
        nights.good([bookmarked(), at(1, moment), state(moment)], stream_maps=maps)
    assert nights.sent() == [1, 1]


SPELLINGS = [
    "2024-05-06T12:00:00Z",
    "2024-05-06T12:00:00+00:00",
    "2024-05-06T14:00:00+02:00",
    "2024-05-06T12:00:00.000000Z",
    "2024-05-06 12:00:00",
]


@pytest.mark.parametrize("drops", [False, True])
def test_another_spelling_of_the_same_moment_is_the_same_version(
    nights: Nights, *, drops: bool
) -> None:
    maps = {"customers": {"updated_at": None}} if drops else {}
    for spelling in SPELLINGS[: None if drops else 3]:
        nights.good([bookmarked(), at(1, spelling), state(spelling)], stream_maps=maps)
    assert nights.sent() == [1]


@pytest.mark.parametrize("values", [("2024-05-06", "2024-05-06T00:00:00Z"), (5, "5.0"), (7, 7.0)])
def test_an_equal_bookmark_in_another_form_is_the_same_version(
    nights: Nights, values: tuple[t.Any, t.Any]
) -> None:
    kind = {"type": ["string", "number"]}
    maps = {"customers": {"seq": None}}
    head = bookmarked("seq", seq=kind)
    nights.good([head, at(1, seq=values[0]), state(1)], stream_maps=maps)
    other = values[1] if not isinstance(values[0], int) else float(values[1])
    nights.good([head, at(1, seq=other), state(1)], stream_maps=maps)
    assert nights.sent() == [1]


def test_a_fraction_of_a_second_is_another_bookmark(nights: Nights) -> None:
    moments = ["2024-05-06T12:00:00Z", "2024-05-06T12:00:00.5Z", "2024-05-06T12:00:00.5000001Z"]
    maps = {"customers": {"updated_at": None}}
    for moment in moments:
        nights.good([bookmarked(), at(1, moment), state(moment)], stream_maps=maps)
    assert nights.sent() == [1, 1, 1]


# A reject at the bookmark


@pytest.mark.parametrize("kind", ["no match value", "not imported", "schema"])
def test_a_record_at_the_bookmark_that_cannot_be_delivered_is_rejected_once(
    nights: Nights, sandbox: Sandbox, tmp_path: Path, kind: str
) -> None:
    sandbox.fail_where = lambda entry: entry["data"].get("city") == "bad"
    head = bookmarked(city={"type": "string"})
    bad = {
        "no match value": at(2, email=None),
        "not imported": at(2, city="bad"),
        "schema": at(2, city=5),
    }[kind]
    path = tmp_path / "rejects"
    for night in range(3):
        messages = [head, at(1), bad, state(NOON)]
        result = nights.good(messages, rejects_path=str(path), receipts_path=None)
        assert ("rejected before: 1" in result.stderr) is (night > 0)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["record"]["id"] for line in lines if line["type"] == "RECORD"] == [2]
    changed = {**bad, "record": {**bad["record"], "note": "mended in part"}}
    nights.good([head, at(1), changed, state(NOON)], rejects_path=str(path))
    text = path.read_text(encoding="utf-8")
    assert text.count('"RECORD"') == 2, "a changed row is judged anew"


def test_a_reject_whose_bookmark_is_spelled_otherwise_is_the_same(
    nights: Nights, tmp_path: Path
) -> None:
    path = tmp_path / "rejects"
    for moment in (NOON, NOON.replace("Z", "+00:00"), NOON.replace("Z", ".000Z")):
        nights.good([bookmarked(), at(2, moment, email=None), state(NOON)], rejects_path=str(path))
    assert path.read_text(encoding="utf-8").count('"RECORD"') == 1


def test_a_reject_that_no_state_covered_is_rejected_anew(nights: Nights, tmp_path: Path) -> None:
    path = tmp_path / "rejects"
    for _ in range(2):
        nights.good([bookmarked(), at(2, email=None)], rejects_path=str(path))
    assert path.read_text(encoding="utf-8").count('"RECORD"') == 2


def test_a_reject_behind_the_last_state_is_rejected_anew(nights: Nights, tmp_path: Path) -> None:
    path = tmp_path / "rejects"
    messages = [bookmarked(), at(1, MORNING), state(MORNING), at(2, email=None)]
    for _ in range(2):
        result = nights.good(messages, rejects_path=str(path))
        assert "rejected before" not in result.stderr
    assert path.read_text(encoding="utf-8").count('"RECORD"') == 2


def test_a_reject_is_judged_anew_under_other_settings(
    nights: Nights, sandbox: Sandbox, tmp_path: Path
) -> None:
    path = tmp_path / "rejects"
    sandbox.fail_where = lambda entry: entry["data"]["id"] == 2 and "city" not in entry["data"]
    messages = [bookmarked(), at(1), at(2), at(3, email=None), state(NOON)]
    for _ in range(2):
        same = nights.good(messages, rejects_path=str(path))
    assert "rejected before: 2" in same.stderr
    assert path.read_text(encoding="utf-8").count('"RECORD"') == 2
    maps = {"customers": {"city": "'Perm'"}}
    other = nights.good(messages, rejects_path=str(path), stream_maps=maps)
    assert "rejected before" not in other.stderr
    again = nights.good(messages, rejects_path=str(path), stream_maps=maps)
    assert "rejected before: 1" in again.stderr
    assert path.read_text(encoding="utf-8").count('"RECORD"') == 3
    assert [profile["fields"]["id"] for profile in sandbox.profiles] == [1, 2]


def test_what_was_rejected_before_counts_as_rejected(nights: Nights, tmp_path: Path) -> None:
    settings = {"rejects_path": str(tmp_path / "rejects")}
    messages = [bookmarked(), *(at(n, email=None) for n in range(3)), at(9), state(NOON)]
    nights.good(messages, **settings)
    result = nights.run(messages, max_rejects=2, **settings)
    assert (result.status, result.states) == (1, [])
    assert "max_rejects (2)" in result.error


# A record that no request can hold


@pytest.mark.parametrize("journal", [True, False])
def test_a_record_that_is_too_large_is_named_by_its_own_line(
    nights: Nights, *, journal: bool
) -> None:
    settings = {} if journal else {"journal_path": None}
    rows = [at(1, city="x" * 3000), *(at(n) for n in range(2, 9))]
    result = nights.run([bookmarked(), *rows], batch_size_bytes=2000, **settings)
    assert result.status == 1
    assert "the record in line 2 of the input cannot be delivered" in result.error


# A lost bookmark, a full refresh


def test_a_lost_bookmark_messages_nobody_and_one_warning_names_resend(nights: Nights) -> None:
    rows = [at(n, f"2024-05-06T12:00:{n:02d}Z") for n in range(30)]
    nights.good([bookmarked(), *rows, state("end")], batch_size_rows=10)
    result = nights.good([bookmarked(), *rows, at(99, EVENING), state("end")], batch_size_rows=10)
    assert nights.sent() == [*range(30), 99]
    (warning,) = warnings(result)
    assert "stream 'customers': the tap reads from before the newest bookmark" in warning
    assert "resend" in warning
    assert "delivered before: 30" in result.stderr
    again = nights.good([bookmarked(), *rows, state("end")], batch_size_rows=10, resend=True)
    assert len(nights.sent()) == 31 + 30
    assert "delivered before" not in again.stderr


def test_the_few_rows_that_every_night_repeats_are_not_worth_a_warning(nights: Nights) -> None:
    for _ in range(2):
        result = nights.good([bookmarked(), *(at(n) for n in range(5)), state(NOON)])
        assert warnings(result) == []


# Taps that name no bookmark


def test_a_tap_without_bookmark_properties_is_warned_of_once_and_the_setting_mends_it(
    nights: Nights,
) -> None:
    bookmarks = {
        "type": "STATE",
        "value": {"bookmarks": {"customers": {"replication_key_value": NOON}}, "bookmark": 1},
    }
    messages = [unbookmarked(), bookmarks, at(1), bookmarks, at(2), bookmarks]
    result = nights.good(messages)
    (warning,) = warnings(result)
    assert "bookmark_column" in warning
    assert "'customers'" in warning
    mended = {"bookmark_column": "updated_at"}
    for _ in range(3):
        result = nights.good(messages, **mended)
        assert warnings(result) == []
    assert len(nights.sent()) == 4
    streams = {"customers": {"bookmark_column": "updated_at"}}
    nights.good(messages, streams=streams)
    assert len(nights.sent()) == 4


def test_a_stream_whose_state_holds_no_bookmark_is_not_warned_of(nights: Nights) -> None:
    empty = {"type": "STATE", "value": {"bookmarks": {"customers": {}}}}
    assert warnings(nights.good([unbookmarked(), at(1), empty, state(1)])) == []


def test_of_two_bookmark_properties_none_is_taken(nights: Nights) -> None:
    head = schema(
        properties={"id": {}, "email": {}, "updated_at": {}},
        bookmark_properties=["updated_at", "id"],
        key_properties=["id"],
    )
    for runs in (1, 2):
        nights.good([head, at(1), state(1)])
        assert len(nights.sent()) == runs


# Killed while the journal is made


@pytest.mark.parametrize("left", ["empty", "header", "half a page"])
def test_a_journal_that_was_left_half_made_is_made_anew(nights: Nights, left: str) -> None:
    content = {"empty": b"", "header": b"SQLite format 3\0", "half a page": b""}[left]
    nights.good([bookmarked(), at(1), state(1)])
    if left == "half a page":
        content = nights.journal.read_bytes()[:2048]
    nights.journal.write_bytes(content)
    result = nights.run([bookmarked(), at(1), at(2), state(1)])
    if left == "empty":
        assert result.status == 0, result.stderr
    else:
        assert result.status == 1
        assert "Set journal_path to a new file" in result.error
        assert nights.journal.read_bytes() == content


# Receipts


ROUNDS = int(os.environ.get("SOAK_RECEIPTS", "6"))


@pytest.mark.parametrize("seed", range(ROUNDS))
@pytest.mark.parametrize("head", [bookmarked(), unbookmarked()], ids=["bookmark", "none"])
def test_no_receipt_is_missing_after_kills_at_any_moment(
    nights: Nights, sandbox: Sandbox, tmp_path: Path, seed: int, head: dict[str, t.Any]
) -> None:
    rng = random.Random(f"receipts {seed}")
    sandbox.task_seconds = lambda _number, _entries: rng.choice([0.0, 0.02, 0.1])
    settings = {
        "receipts_path": str(tmp_path / "receipts"),
        "batch_size_rows": rng.choice([1, 4]),
        "max_in_flight": rng.choice([1, 6]),
    }
    rows = [at(n, f"2024-05-06T12:{n // 60:02d}:{n % 60:02d}Z") for n in range(90)]
    messages = list(itertools.chain([head], *([row, state(n)] for n, row in enumerate(rows))))
    log = ""
    for _ in range(4):
        with nights.start(**settings) as target:
            target.feed(messages)
            done = completed(rng.randrange(1, 12))
            wait_for(
                lambda: done(target) or len(set(nights.sent())) >= 88,  # noqa: B023 - at once
                "some tasks are completed",
            )
            target.terminate(signal.SIGKILL)
            log += target.wait().stderr
    result = nights.good([*messages, state("end")], **settings)
    log += result.stderr
    assert set(nights.sent()) == set(range(90))
    if "may enter the scenario twice" not in log:
        assert nights.sent() == list(range(90))
    lines = (tmp_path / "receipts").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["key"]["id"] for line in lines} == set(range(90))


# What stands in the file


def test_the_journal_holds_no_value_and_is_the_users_own(nights: Nights) -> None:
    head = schema(
        properties={"id": {"type": "string"}, "email": {}, "updated_at": {}},
        bookmark_properties=["updated_at"],
        key_properties=["id"],
    )
    row = record(id="KEY-4711", email="ada@example.com", updated_at=NOON, city="Perm")
    bad = record(id="KEY-4712", email=None, updated_at=NOON, city="Omsk")
    nights.good([head, row, bad, state(1)], rejects_path=str(nights.folder / "rejects"))
    content = nights.journal.read_bytes()
    for value in (b"4711", b"4712", b"ada", b"example", b"Perm", b"Omsk", b"2024"):
        assert value not in content
    assert nights.journal.stat().st_mode & 0o777 == 0o600


def test_a_silent_tap_after_a_crash_loses_nothing(nights: Nights, sandbox: Sandbox) -> None:
    sandbox.task_seconds = 0.3
    nights.stopped([bookmarked(), at(1), state(1), at(2)], accepted(2))
    with nights.start() as target:
        target.feed([bookmarked(), at(1), state(1), at(2), state(2)])
        wait_for(target.states, "a STATE while the tap is silent")
        target.close_input()
        result = target.wait()
    assert (result.status, result.bookmarks[-1]) == (0, 2)
    assert nights.sent() == [1, 2]
