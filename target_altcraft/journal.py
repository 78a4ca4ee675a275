"""What a crash must not forget: which entries were sent and how far each request got.

A request is written down before it goes on the wire and again when it is answered, each time in a
transaction of its own that is on disk before the run goes on. What an earlier run left behind is
what it had sent without acknowledging. The file holds digests, never a profile's values: 16 bytes
an entry, so about 17 MB for a million unacknowledged records.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import struct
import threading
import typing as t
from collections import defaultdict
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from target_altcraft.errors import OutputError, SettingsError

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DIGEST_BYTES = 16
SETTLED = bytes(DIGEST_BYTES)
"""Stands where the digest of an entry stood that is settled; positions must not shift."""
_APPLICATION_ID = 0x416C7463  # "Altc"
_VERSION = 1
_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_TABLES = """
CREATE TABLE request (
    id INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    name TEXT NOT NULL,      -- the batch, as messages call it
    digests BLOB NOT NULL,   -- of the entries, in their order: outcomes are by position
    task_id TEXT,            -- NULL: on the wire, not answered
    rejected TEXT            -- positions the task refused, as JSON; NULL: outcome not known
);
CREATE TABLE boundary (
    stream TEXT PRIMARY KEY,
    bookmark TEXT NOT NULL,  -- the greatest acknowledged value, as JSON
    digests BLOB NOT NULL    -- of the delivered records that have it
);
"""


def digest(*parts: bytes) -> bytes:
    """Return a digest that tells entries (or records) apart."""
    digester = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        digester.update(struct.pack(">Q", len(part)))
        digester.update(part)
    return digester.digest()


def _split(blob: bytes) -> list[bytes]:
    return [blob[i : i + DIGEST_BYTES] for i in range(0, len(blob), DIGEST_BYTES)]


@dataclass(slots=True)
class Leftover:
    """A request of an earlier run whose records no STATE covers.

    `results` are the items of its task for single profiles, where they were asked for in this run.
    `faults` are the positions that were not imported.
    """

    id: int
    stream: str
    name: str
    digests: list[bytes]
    task_id: str | None
    known: bool
    faults: set[int] = field(default_factory=set)
    results: list[t.Any] | None = None


class Greatest(t.NamedTuple):
    """The greatest bookmark among some records, and the digests of those that have it."""

    order: t.Any
    """In a form that compares as the column's type does."""
    value: str
    """As JSON."""
    digests: set[bytes]


class Journal:
    """The journal of one pipeline, held by one run at a time.

    The lock guards the connection and what is known of this run's own requests.

    Args:
        path: Setting `journal_path`; created with mode 0600.

    Raises:
        SettingsError: If another run holds it, or it is of a format that this version cannot read;
            it is left untouched then.
        OutputError: If it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._batches: dict[int, list[int]] = defaultdict(list)  # batch number -> its requests
        self._covered = 0
        self._failed: list[int] = []
        self._delivered: list[tuple[int, str, Greatest]] = []
        self._greatest: dict[str, t.Any] = {}
        new = self._look_at_header()
        try:
            self._db = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=0
            )
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA journal_mode = TRUNCATE")
            self._db.execute("BEGIN EXCLUSIVE")
            if new:
                self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                self._db.execute(f"PRAGMA user_version = {_VERSION}")
                for statement in _TABLES.split(";\n"):
                    self._db.execute(statement)
            self._db.execute("COMMIT")
            sound = new or self._db.execute("PRAGMA quick_check").fetchone() == ("ok",)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise SettingsError(
                    f"journal_path: {path} is in use by another run; give each pipeline its own, "
                    "and let one run end before the next begins"
                ) from None
            raise self._cannot_write(error) from None
        except sqlite3.DatabaseError:
            sound = False
        if not sound:
            raise self._not_readable("is damaged")

    # What an earlier run left

    def leftovers(self) -> list[Leftover]:
        """Return the requests that an earlier run left."""
        with self._transaction() as db:
            rows = db.execute(
                "SELECT id, stream, name, digests, task_id, rejected FROM request ORDER BY id"
            ).fetchall()
        return [
            Leftover(
                id=row[0],
                stream=row[1],
                name=row[2],
                digests=_split(row[3]),
                task_id=row[4],
                known=row[5] is not None,
                faults=set(json.loads(row[5] or "[]")),
            )
            for row in rows
        ]

    def boundary(self, stream: str) -> tuple[str, set[bytes]] | None:
        """Return the greatest acknowledged bookmark (JSON) and the digests of its records."""
        with self._transaction() as db:
            row = db.execute(
                "SELECT bookmark, digests FROM boundary WHERE stream = ?", (stream,)
            ).fetchone()
        return (row[0], set(_split(row[1]))) if row else None

    def remember_greatest(self, stream: str, order: t.Any) -> None:  # noqa: ANN401
        """Say how the bookmark that `boundary` returned compares with those to come."""
        with self._lock:
            self._greatest[stream] = order

    # What this run does

    def sending(self, batch: int, stream: str, name: str, digests: Sequence[bytes]) -> int:
        """Note that a request goes on the wire; returns its id."""
        with self._transaction() as db:
            request = db.execute(
                "INSERT INTO request (stream, name, digests) VALUES (?, ?, ?)",
                (stream, name, b"".join(digests)),
            ).lastrowid
            self._batches[batch].append(t.cast("int", request))
        return t.cast("int", request)

    def accepted(self, request: int, task_id: str) -> None:
        """Note the task that a request became."""
        with self._transaction() as db:
            db.execute("UPDATE request SET task_id = ? WHERE id = ?", (task_id, request))

    def completed(self, request: int, faults: Sequence[int]) -> None:
        """Note that a task is done, and which positions it did not import."""
        with self._transaction() as db:
            db.execute(
                "UPDATE request SET rejected = ? WHERE id = ?", (json.dumps(list(faults)), request)
            )

    def forget(self, request: int) -> None:
        """Note that a request was not accepted, or that nothing more is to be known of it."""
        with self._transaction() as db:
            db.execute("DELETE FROM request WHERE id = ?", (request,))

    def failed(self, request: int) -> None:
        """Note a task that failed; it is forgotten when the run has said so and ends."""
        with self._lock:
            self._failed.append(request)

    def delivered(self, batch: int, stream: str, greatest: Greatest) -> None:
        """Note a batch's delivered records with its greatest bookmark, until a STATE covers it."""
        with self._lock:
            self._delivered.append((batch, stream, greatest))

    def cover(self, batch: int) -> None:
        """Note that a STATE was emitted that covers all batches up to this one.

        A STATE that is printed is not yet a STATE that is saved, so what it covers stays until the
        next one, or until the run has ended well.
        """
        with self._transaction() as db:
            self._drop(db, self._covered)
            self._covered = batch
            due = [item for item in self._delivered if item[0] <= batch]
            self._delivered = [item for item in self._delivered if item[0] > batch]
            for _, stream, greatest in due:
                self._acknowledge(db, stream, greatest)

    def finish(self, over: Sequence[Leftover], kept: Sequence[Leftover]) -> None:
        """End a run that went well: its own requests go.

        Args:
            over: Requests of earlier runs that go as well.
            kept: Those that stay, without the entries that were settled in this run.
        """
        with self._transaction() as db:
            for request in [r for requests in self._batches.values() for r in requests]:
                db.execute("DELETE FROM request WHERE id = ?", (request,))
            for leftover in over:
                db.execute("DELETE FROM request WHERE id = ?", (leftover.id,))
            for leftover in kept:
                db.execute(
                    "UPDATE request SET digests = ? WHERE id = ?",
                    (b"".join(leftover.digests), leftover.id),
                )

    def forget_failed(self) -> None:
        """Forget the tasks whose failure was reported: the next run sends their records."""
        with self._transaction() as db:
            for request in self._failed:
                db.execute("DELETE FROM request WHERE id = ?", (request,))

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _acknowledge(self, db: sqlite3.Connection, stream: str, new: Greatest) -> None:
        """Make a bookmark the stream's boundary, or add to it, unless it is less."""
        known = self._greatest.get(stream)
        digests = new.digests
        try:
            if known is not None and new.order < known:
                return
            if new.order == known:
                row = db.execute(
                    "SELECT digests FROM boundary WHERE stream = ?", (stream,)
                ).fetchone()
                digests = digests | set(_split(row[0])) if row else digests
        except TypeError:  # the column has changed its type: the new one counts
            pass
        self._greatest[stream] = new.order
        db.execute(
            "INSERT OR REPLACE INTO boundary VALUES (?, ?, ?)",
            (stream, new.value, b"".join(sorted(digests))),
        )

    def _drop(self, db: sqlite3.Connection, batch: int) -> None:
        for number in [n for n in self._batches if n <= batch]:
            for request in self._batches.pop(number):
                db.execute("DELETE FROM request WHERE id = ?", (request,))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the lock and one transaction that is on disk when the block has ended."""
        with self._lock:
            try:
                self._db.execute("BEGIN")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise self._cannot_write(error) from None

    def _look_at_header(self) -> bool:
        """Return whether the file is new; refuse one that is not ours, without touching it."""
        try:
            with closing(
                os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "rb")
            ) as file:
                header = file.read(_HEADER_BYTES)
        except OSError as error:
            raise OutputError(
                f"journal_path: {self._path} cannot be opened: {error.strerror}"
            ) from None
        if not header:
            return True
        if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
            raise self._not_readable("is not a journal")
        (version,) = struct.unpack(">I", header[60:64])
        (application,) = struct.unpack(">I", header[68:72])
        if application != _APPLICATION_ID:
            raise self._not_readable("is not a journal of this target")
        if version != _VERSION:
            raise self._not_readable(f"has format {version}, and this version reads {_VERSION}")
        return False

    def _not_readable(self, why: str) -> SettingsError:
        return SettingsError(
            f"journal_path: {self._path} {why}; it was left as it is. Set journal_path to a new "
            "file to go on without it: what an interrupted run had sent is then sent again"
        )

    def _cannot_write(self, error: sqlite3.Error) -> OutputError:
        return OutputError(f"journal_path: {self._path} cannot be written: {error}")
