"""The journal of version 0.1 (format 1) is read and carried over."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import struct
import typing as t
from contextlib import closing

import pytest
from harness import state
from nights import MORNING, NOON, accepted, at, bookmarked, twice, unbookmarked

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from nights import Nights

    from target_altcraft.sandbox import Sandbox

TABLES = """
CREATE TABLE request (
    id INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    name TEXT NOT NULL,
    digests BLOB NOT NULL,
    task_id TEXT,
    rejected TEXT
);
CREATE TABLE boundary (
    stream TEXT PRIMARY KEY,
    bookmark TEXT NOT NULL,
    digests BLOB NOT NULL
);
"""
SCOPE = b'["customers",1,"email",null]'
SETTLED = bytes(16)


def digest(*parts: bytes) -> bytes:
    digester = hashlib.blake2b(digest_size=16)
    for part in parts:
        digester.update(struct.pack(">Q", len(part)))
        digester.update(part)
    return digester.digest()


def compact(value: t.Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def entry_digest(row: dict[str, t.Any]) -> bytes:
    """Of a record that is sent as it is."""
    return digest(SCOPE, compact({"data": row["record"]}))


def source_digest(row: dict[str, t.Any]) -> bytes:
    return digest(SCOPE, compact(dict(sorted(row["record"].items()))))


class Leftover(t.NamedTuple):
    digests: Sequence[bytes]
    task_id: str | None = None
    rejected: str | None = None


def write(
    nights: Nights,
    leftovers: Sequence[Leftover] = (),
    boundary: tuple[str, Sequence[bytes]] | None = None,
) -> None:
    """Make a journal as version 0.1 left it."""
    with closing(sqlite3.connect(nights.journal)) as db, db:
        db.execute(f"PRAGMA application_id = {0x416C7463}")
        db.execute("PRAGMA user_version = 1")
        db.executescript(TABLES)
        for number, left in enumerate(leftovers, 1):
            name = f"stream 'customers', batch {number} ({len(left.digests)} profiles)"
            db.execute(
                "INSERT INTO request VALUES (?, 'customers', ?, ?, ?, ?)",
                (number, name, b"".join(left.digests), left.task_id, left.rejected),
            )
        if boundary is not None:
            bookmark, digests = boundary
            db.execute(
                "INSERT INTO boundary VALUES ('customers', ?, ?)",
                (json.dumps(bookmark), b"".join(digests)),
            )


def format_of(nights: Nights) -> int:
    with closing(sqlite3.connect(nights.journal)) as db:
        (number,) = db.execute("PRAGMA user_version").fetchone()
    return int(number)


def deliver_without_journal(nights: Nights, rows: Sequence[dict[str, t.Any]]) -> str:
    """Have rows accepted as one task; return its id."""
    nights.good([unbookmarked(), *rows], journal_path=None, batch_size_rows=len(rows))
    return str(nights.sandbox.tasks[-1].id)


@pytest.mark.parametrize("head", [bookmarked(), unbookmarked()], ids=["bookmark", "none"])
def test_what_was_accepted_is_asked_about_and_not_sent_again(
    nights: Nights, head: dict[str, t.Any]
) -> None:
    rows = [at(1), at(2)]
    task = deliver_without_journal(nights, rows)
    write(nights, [Leftover([entry_digest(row) for row in rows], task)])
    receipts = nights.folder / "receipts"
    result = nights.good([head, *rows, at(3), state(1)], receipts_path=str(receipts))
    assert nights.sent() == [1, 2, 3]
    assert "delivered before: 2" in result.stderr
    assert format_of(nights) == 2
    keys = [json.loads(line)["key"]["id"] for line in receipts.read_text().splitlines()]
    assert sorted(keys) == [1, 2, 3]


def test_what_was_carried_over_is_a_version_from_then_on(nights: Nights) -> None:
    rows = [at(1), at(2)]
    task = deliver_without_journal(nights, rows)
    write(nights, [Leftover([entry_digest(row) for row in rows], task, "[]")])
    for _ in range(3):
        nights.good([bookmarked(), *rows, state(1)])
    assert nights.sent() == [1, 2]


def test_what_a_task_did_not_import_is_rejected_and_what_was_settled_stays_so(
    nights: Nights,
) -> None:
    rows = [at(0), at(1), at(2)]
    task = deliver_without_journal(nights, rows)
    digests = [SETTLED, entry_digest(rows[1]), entry_digest(rows[2])]
    write(nights, [Leftover(digests, task, "[1]")])
    rejects = nights.folder / "rejects"
    nights.good([bookmarked(), *rows, state(1)], rejects_path=str(rejects))
    assert nights.sent() == [0, 0, 1, 2]
    records = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [r["record"]["id"] for r in records if r["type"] == "RECORD"] == [1]


def test_what_was_unanswered_is_in_doubt(nights: Nights) -> None:
    write(nights, [Leftover([entry_digest(at(1))])])
    messages = [bookmarked(), at(1), state(1)]
    for _ in range(2):
        stopped = nights.run(messages, on_ambiguous_submit="fail")
        assert (stopped.status, stopped.states) == (1, [])
    result = nights.good(messages)
    assert len(twice(result)) == 1
    assert not twice(nights.good(messages))
    assert nights.sent() == [1]


def test_what_was_delivered_at_the_boundary_is_not_sent_again(nights: Nights) -> None:
    write(nights, boundary=(NOON, [source_digest(at(1)), source_digest(at(2))]))
    for _ in range(3):
        nights.good([bookmarked(), at(1), at(2), at(3), state(1)])
    assert nights.sent() == [3]


def test_another_row_at_the_boundary_is_sent(nights: Nights) -> None:
    write(nights, boundary=(NOON, [source_digest(at(1))]))
    nights.good([bookmarked(), at(0, MORNING), at(1, city="Perm"), state(1)])
    assert nights.sent() == [0, 1]


def test_the_boundary_outlasts_a_run_that_fails(nights: Nights) -> None:
    write(nights, boundary=(NOON, [source_digest(at(1)), source_digest(at(2))]))
    assert nights.run([bookmarked(), at(1), "RECORD{"]).status == 1
    nights.good([bookmarked(), at(1), at(2), state(1)])
    assert nights.sent() == []


def test_the_boundary_of_a_stream_that_does_not_come_is_kept(nights: Nights) -> None:
    write(nights, boundary=(NOON, [source_digest(at(1))]))
    nights.good([bookmarked(stream="orders"), state(1)])
    nights.good([bookmarked(), at(1), state(1)])
    assert nights.sent() == []


def test_a_crash_after_the_file_was_carried_over_forgets_nothing(
    nights: Nights, sandbox: Sandbox
) -> None:
    rows = [at(1), at(2)]
    task = deliver_without_journal(nights, rows)
    write(nights, [Leftover([entry_digest(row) for row in rows], task)])
    sandbox.task_seconds = 0.5
    nights.stopped([bookmarked(), *rows, at(3)], accepted(1))
    nights.good([bookmarked(), *rows, at(3), state(1)])
    assert nights.sent() == [1, 2, 3]


def test_a_dry_run_reads_the_old_format_and_leaves_it(nights: Nights) -> None:
    write(nights, boundary=(NOON, [source_digest(at(1))]))
    before = nights.journal.read_bytes()
    result = nights.good([bookmarked(), at(1), state(1)], dry_run=True)
    assert "delivered before: 1" in result.stderr
    assert nights.journal.read_bytes() == before


def test_a_newer_format_is_refused_untouched(nights: Nights) -> None:
    nights.good([bookmarked(), at(1), state(1)])
    with closing(sqlite3.connect(nights.journal)) as db:
        db.execute("PRAGMA user_version = 3")
    before = nights.journal.read_bytes()
    for more in ({}, {"dry_run": True}):
        result = nights.run([bookmarked(), at(2), state(1)], **more)
        assert (result.status, result.states) == (1, [])
        assert "has format 3, which is newer than this version of the target reads" in result.error
        assert nights.journal.read_bytes() == before
    assert nights.sent() == [1]
