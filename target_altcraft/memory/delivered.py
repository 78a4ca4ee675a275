"""Delivered versions in the journal's table: added a lot at a time, and arranged anew.

A lot is one blob, so that SQLite does its work in one statement.
"""

from __future__ import annotations

import sys
import typing as t
from array import array

from target_altcraft.memory.versions import (
    BOOKMARK_BYTES,
    ENTRY_BYTES,
    ID_BYTES,
    KEY_BYTES,
    NO_BOOKMARK,
    VERSION_BYTES,
    bookmark_of,
)

if t.TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_RUN_BYTES, _INPUT_BYTES = 3, 5
PLACE_BYTES = _RUN_BYTES + _INPUT_BYTES
"""Of a record's place: the run, and its place in that run's input."""
EACH = (  # much faster than one recursion
    "WITH RECURSIVE hundreds(i) AS "
    "(SELECT 0 UNION ALL SELECT i + 100 FROM hundreds WHERE i + 100 < :count), "
    "units(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM units WHERE i < 99 AND i + 1 < :count), "
    "n(i) AS (SELECT hundreds.i + units.i FROM hundreds CROSS JOIN units "
    "WHERE hundreds.i + units.i < :count) "
)
"""A table `n` of the positions from 0 up to `:count`."""
_V = VERSION_BYTES
ID = f"substr(:versions, n.i * {_V} + 1, {ID_BYTES})"
KEY = (  # SQLite makes a text of joined blobs
    f"CAST(x'{NO_BOOKMARK.hex()}' || "
    f"substr(:versions, n.i * {_V} + {BOOKMARK_BYTES + 1}, {KEY_BYTES}) AS BLOB)"
)
ENTRY = f"substr(:versions, n.i * {_V} + {ID_BYTES + 1}, {ENTRY_BYTES})"
_BOOKMARK = f"substr(:versions, n.i * {_V} + 1, {BOOKMARK_BYTES})"
_COPY = f"substr(:places, n.i * {PLACE_BYTES} + 1, {PLACE_BYTES})"
NO_COPY = "x''"


def place_bytes(run: int, place: int) -> bytes:
    """Return where a record stood: the run and its place in that run's input, sortable."""
    return run.to_bytes(_RUN_BYTES, "big") + place.to_bytes(_INPUT_BYTES, "big")


def places_bytes(run: int, places: Sequence[int]) -> bytes:
    """Return where records stood, one after the other; see `place_bytes`."""
    first = run << 8 * _INPUT_BYTES
    numbers = array("Q", [first + place for place in places])
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()


def run_of(copy: bytes) -> int:
    """Return the run that delivered a counted version."""
    return int.from_bytes(copy[:_RUN_BYTES], "big")


class Delivered(t.NamedTuple):
    """Versions that are to be remembered as delivered."""

    stream: int
    mapping: int
    run: int
    """That delivered them."""
    versions: bytes
    places: bytes
    """Run and place of each where versions are counted; else empty."""
    by_key: bool
    """Whether one version a key is kept."""


def insert(db: sqlite3.Connection, delivered: Delivered) -> None:
    """Add delivered versions to the tables."""
    if not delivered.versions:
        return
    given = delivered._asdict() | {"count": len(delivered.versions) // VERSION_BYTES}
    by_key, places = delivered.by_key, delivered.places
    first, last = delivered.versions[:VERSION_BYTES], delivered.versions[-VERSION_BYTES:]
    comes_in_order = not by_key and bookmark_of(first) < bookmark_of(last)  # as a tap reads
    if by_key:
        db.execute(
            f"{EACH} DELETE FROM version WHERE stream = :stream AND id IN (SELECT {KEY} FROM n)",
            given,
        )
    db.execute(
        f"{EACH} INSERT OR REPLACE INTO version SELECT :stream, {KEY if by_key else ID}, "
        f"{ENTRY}, {_COPY if places else NO_COPY}, :mapping, :run, "
        f"{_BOOKMARK if by_key else 'NULL'} FROM n {'' if comes_in_order else 'ORDER BY 2'}",
        given,
    )
    db.execute("UPDATE mapping SET last_run = max(last_run, :run) WHERE id = :mapping", given)


def arrange(db: sqlite3.Connection, stream: int, *, by_key: bool) -> None:
    """Keep a stream's versions by key alone, or by bookmark and key: `send_again` has changed."""
    key = f"substr(id, {BOOKMARK_BYTES + 1}, {KEY_BYTES})"
    if by_key:  # of several versions of a key the newest
        db.execute(
            "CREATE TEMP TABLE newest AS SELECT id, entry, copy FROM (SELECT id, entry, copy, "
            f"row_number() OVER (PARTITION BY {key} ORDER BY id DESC, run DESC) AS place "
            "FROM version WHERE stream = ?) WHERE place = 1",
            (stream,),
        )
        db.execute(
            "DELETE FROM version WHERE stream = ? "
            "AND (id, entry, copy) NOT IN (SELECT id, entry, copy FROM newest)",
            (stream,),
        )
        db.execute("DROP TABLE newest")
        db.execute(
            f"UPDATE OR REPLACE version SET bookmark = substr(id, 1, {BOOKMARK_BYTES}), "
            f"id = CAST(x'{NO_BOOKMARK.hex()}' || {key} AS BLOB), copy = x'' WHERE stream = ?",
            (stream,),
        )
    else:
        db.execute(
            f"UPDATE OR REPLACE version SET id = CAST(bookmark || {key} AS BLOB), bookmark = NULL "
            "WHERE stream = ? AND bookmark IS NOT NULL",
            (stream,),
        )
    db.execute("UPDATE stream SET by_key = ? WHERE id = ?", (by_key, stream))
