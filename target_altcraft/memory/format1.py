"""The journal of version 0.1 (format 1), carried over into this format.

It knew two things: requests that no STATE covered, by digests of their exact entries, and per
stream the records at the greatest acknowledged bookmark. Both stay known until a record matches
them, and become versions then.
"""

from __future__ import annotations

import hashlib
import struct
import typing as t

from target_altcraft.codec import decode_json, encode_json
from target_altcraft.memory.versions import (
    VERSION_BYTES,
    bookmark_bytes,
    bookmark_of,
    source_row,
    stable_json,
)

if t.TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from target_altcraft.settings import StreamSettings

MAPPING = 0
"""Stands for the mapping of what was carried over, which is not known."""
_DIGEST_BYTES = 16
_SETTLED = bytes(_DIGEST_BYTES)
_PREFIX = bytes(VERSION_BYTES - _DIGEST_BYTES)


class Old(t.NamedTuple):
    """What a journal of format 1 holds: the rows of its two tables."""

    requests: list[tuple[t.Any, ...]]
    boundaries: list[tuple[str, str, bytes]]


def read(db: sqlite3.Connection) -> Old:
    """Return what a journal of format 1 holds, and drop its tables."""
    requests = db.execute(
        "SELECT id, stream, name, digests, task_id, rejected FROM request ORDER BY id"
    ).fetchall()
    boundaries = db.execute("SELECT stream, bookmark, digests FROM boundary").fetchall()
    db.execute("DROP TABLE request")
    db.execute("DROP TABLE boundary")
    return Old(requests, boundaries)


def carry_over(db: sqlite3.Connection, old: Old) -> None:
    """Write down in this format what was known in format 1."""
    db.execute(
        "CREATE TABLE boundary (stream INTEGER PRIMARY KEY, bookmark BLOB NOT NULL, "
        "digests BLOB NOT NULL)"
    )
    for _, name, *_ in [*old.requests, *((None, stream) for stream, *_ in old.boundaries)]:
        db.execute("INSERT OR IGNORE INTO stream (name, by_key) VALUES (?, 0)", (name,))
    for number, stream, name, digests, task_id, rejected in old.requests:
        state = "unanswered" if task_id is None else "accepted" if rejected is None else "completed"
        versions = b"".join(
            bytes(VERSION_BYTES) if digest == _SETTLED else _PREFIX + digest
            for digest in _split(digests)
        )
        db.execute(
            "INSERT INTO request (run, number, stream, name, mapping, state, task_id, faults) "
            "SELECT 0, ?, id, ?, ?, ?, ?, ? FROM stream WHERE name = ?",
            (number, name, MAPPING, state, task_id, rejected, stream),
        )
        db.execute("INSERT INTO carried VALUES (0, ?, ?, x'')", (number, versions))
    for stream, bookmark, digests in old.boundaries:
        db.execute(
            "INSERT INTO boundary SELECT id, ?, ? FROM stream WHERE name = ?",
            (bookmark_bytes(decode_json(bookmark.encode())), digests, stream),
        )


class Boundary:
    """What was delivered at a stream's greatest bookmark, as format 1 knew it."""

    def __init__(self, stream: StreamSettings, bookmark: bytes, digests: bytes) -> None:
        self._stream = stream
        self._bookmark = bookmark
        self._digests = set(_split(digests))
        self._matched: set[bytes] = set()

    def knows(self, record: Mapping[str, t.Any], version: bytes) -> bool:
        """Tell whether a record was delivered, just as it is."""
        if bookmark_of(version) != self._bookmark:
            return False
        try:
            digest = _digest(_scope(self._stream), stable_json(source_row(record)))
        except RecursionError:  # nested too deeply to have been remembered
            return False
        if digest not in self._digests:
            return False
        self._matched.add(digest)
        return True

    def is_done(self, greatest: bytes | None) -> bool:
        """Tell whether it can be forgotten.

        Args:
            greatest: The greatest id that was delivered since.
        """
        is_passed = greatest is not None and bookmark_of(greatest) > self._bookmark
        return is_passed or self._matched == self._digests


def boundary(db: sqlite3.Connection, stream_id: int, stream: StreamSettings) -> Boundary | None:
    """Return what was carried over of a stream's boundary, None if nothing was."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'boundary'").fetchone():
        return None
    row = db.execute(
        "SELECT bookmark, digests FROM boundary WHERE stream = ?", (stream_id,)
    ).fetchone()
    return Boundary(stream, *row) if row else None


def forget_boundary(db: sqlite3.Connection, stream_id: int) -> None:
    """Forget a stream's boundary: its records have become versions."""
    db.execute("DELETE FROM boundary WHERE stream = ?", (stream_id,))


def version(stream: StreamSettings, body: bytes) -> bytes:
    """Return what stands for an entry in a request that was carried over."""
    return _PREFIX + _digest(_scope(stream), body)


def _scope(stream: StreamSettings) -> bytes:
    return encode_json([stream.name, stream.workflow_id, stream.matching, stream.field_name])


def _digest(*parts: bytes) -> bytes:
    digester = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        digester.update(struct.pack(">Q", len(part)))
        digester.update(part)
    return digester.digest()


def _split(blob: bytes) -> list[bytes]:
    return [blob[i : i + _DIGEST_BYTES] for i in range(0, len(blob), _DIGEST_BYTES)]
