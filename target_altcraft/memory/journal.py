"""The file of the pipeline's memory: its format, its lock, its transactions.

SQLite, digests only. What must not be forgotten is on disk before the run goes on (`durable`); what
only saves work may wait for the next such moment (`soon`).
"""

from __future__ import annotations

import os
import sqlite3
import struct
import threading
import time
import typing as t
from contextlib import closing, contextmanager

from target_altcraft.errors import OutputError, SettingsError
from target_altcraft.files import sync_directory
from target_altcraft.memory import format1

if t.TYPE_CHECKING:
    from collections.abc import Iterator

_APPLICATION_ID = 0x416C7463  # "Altc"
FORMAT = 2
_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_CACHE_KIBIBYTES = 8000
TABLES = """
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    started INTEGER NOT NULL,      -- seconds since 1970
    ended_well INTEGER NOT NULL DEFAULT 0,
    covered INTEGER NOT NULL DEFAULT 0  -- place in the input that the last printed STATE covers
);
CREATE TABLE stream (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,     -- after stream maps
    by_key INTEGER NOT NULL,       -- 1: one version a key, without its bookmark in front
    resend_since INTEGER           -- run in which a resend began that has not ended well
);
CREATE TABLE mapping (
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    digest BLOB NOT NULL,
    accepted INTEGER NOT NULL DEFAULT 0,  -- 1: something was accepted with it
    last_run INTEGER NOT NULL DEFAULT 0,  -- in which a version was delivered under it; 0: none
    UNIQUE (stream, digest)
);
CREATE TABLE version (             -- what was delivered
    stream INTEGER NOT NULL,
    id BLOB NOT NULL,              -- bookmark and digest of the key
    entry BLOB NOT NULL,           -- digest of the mapped entry
    copy BLOB NOT NULL,            -- where versions are counted: run and place; else empty
    mapping INTEGER NOT NULL,
    run INTEGER NOT NULL,          -- that delivered it or, where that matters, met it last
    bookmark BLOB,                 -- where `id` is without it
    PRIMARY KEY (stream, id, entry, copy)
) WITHOUT ROWID;
CREATE TABLE rejected (            -- what cannot be delivered as it is
    stream INTEGER NOT NULL,
    id BLOB NOT NULL,
    source BLOB NOT NULL,          -- digest of the source row
    mapping INTEGER NOT NULL,
    run INTEGER NOT NULL,
    place INTEGER NOT NULL,        -- in that run's input
    PRIMARY KEY (stream, id, source, mapping)
) WITHOUT ROWID;
CREATE TABLE request (             -- what was sent and is not settled
    run INTEGER NOT NULL,
    number INTEGER NOT NULL,
    stream INTEGER NOT NULL,
    name TEXT NOT NULL,            -- batch and size, as messages call it
    mapping INTEGER NOT NULL,
    state TEXT NOT NULL,
    task_id TEXT,
    faults TEXT,                   -- positions that were not imported, as JSON
    PRIMARY KEY (run, number)
);
CREATE TABLE carried (             -- what requests carry; apart, for their state changes often
    run INTEGER NOT NULL,
    number INTEGER NOT NULL,
    versions BLOB NOT NULL,        -- of the entries in their order: outcomes are by position
    places BLOB NOT NULL,          -- where versions are counted: run and place of each
    PRIMARY KEY (run, number)
)
"""


class Journal:
    """The journal of one pipeline, held by one run at a time.

    The lock guards the connection, what a STATE must wait for, and the first failure: after it
    nothing more is written, so that nothing can go out that could not be remembered. `run` is the
    number of this run.

    Args:
        path: Setting `journal_path`; created with mode 0600.
        read_only: Whether nothing may be written, as in a dry run.

    Raises:
        SettingsError: If another run holds it, or it is of a format that this version cannot read;
            it is left untouched then.
        OutputError: If it cannot be opened.
    """

    def __init__(self, path: str, *, read_only: bool = False) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.read_only = read_only
        self.run = 0
        self._is_file = not read_only
        self._failure: OutputError | SettingsError | None = None
        self._owes_a_commit = False
        if read_only and not os.path.exists(path):  # noqa: PTH110 - a path as the user gave it
            path, self.read_only, self._is_file = ":memory:", False, False
        else:
            self._refuse_foreign()
        try:
            self._db = self._connect(path)
            self._begin_run()
        except sqlite3.Error as error:
            raise self._judged(error) from None

    def _connect(self, path: str) -> sqlite3.Connection:
        db = sqlite3.connect(
            f"file:{_uri_path(path)}?mode=ro" if self.read_only else path,
            uri=self.read_only,
            isolation_level=None,
            check_same_thread=False,
            timeout=0,
        )
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIBIBYTES}")
        if not self.read_only:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA journal_mode = TRUNCATE")
        return db

    def _begin_run(self) -> None:
        """Take the lock; bring the tables to this format; give the run its number."""
        db = self._db
        if self.read_only:
            (found,) = db.execute("PRAGMA user_version").fetchone()
            if found != FORMAT:  # a copy in memory is brought to this format
                self.read_only = False
                self._db = self._connect(":memory:")
                db.backup(self._db)
                db.close()
                self._begin_run()
            else:
                (self.run,) = db.execute("SELECT coalesce(max(id), 0) + 1 FROM run").fetchone()
            return
        db.execute("BEGIN EXCLUSIVE")
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (found,) = db.execute("PRAGMA user_version").fetchone()
        if tables and application != _APPLICATION_ID:
            raise self._not_readable("is not a journal of this target")
        if tables == 0 or found == 1:
            old = format1.read(db) if tables else None
            for statement in TABLES.split(";\n"):
                db.execute(statement)
            if old is not None:
                format1.carry_over(db, old)
            db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {FORMAT}")
        self.run = t.cast(
            "int",
            db.execute("INSERT INTO run (started) VALUES (?)", (int(time.time()),)).lastrowid,
        )
        db.execute("COMMIT")
        if tables == 0 and self._is_file:
            sync_directory(os.path.dirname(os.path.abspath(self._path)))  # noqa: PTH100, PTH120

    @contextmanager
    def durable(self) -> Iterator[sqlite3.Connection]:
        """Hold the lock and a transaction that is on disk when the block has ended.

        Raises:
            TargetError: If it cannot be written; nothing of it was.
        """
        with self.soon() as db:
            yield db
            db.execute("COMMIT")

    @contextmanager
    def soon(self, *, before_state: bool = False) -> Iterator[sqlite3.Connection]:
        """Hold the lock and a transaction that is written with the next durable one.

        Args:
            before_state: Whether it must be on disk before the next STATE is printed.

        Raises:
            TargetError: If it cannot be written.
        """
        with self._guarded() as db:
            if not db.in_transaction:
                db.execute("BEGIN")
            self._owes_a_commit |= before_state
            yield db

    def commit_before_state(self) -> None:
        """Bring to disk what must be there before the next STATE is printed.

        Raises:
            TargetError: If it cannot be written.
        """
        with self._guarded() as db:
            if self._owes_a_commit and db.in_transaction:
                db.execute("COMMIT")
            self._owes_a_commit = False

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Hold the lock, to ask only.

        Raises:
            TargetError: If it cannot be read.
        """
        with self._guarded() as db:
            yield db

    @contextmanager
    def _guarded(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._failure is not None:
                raise self._failure
            try:
                yield self._db
            except sqlite3.Error as error:
                self._failure = self._judged(error)
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise self._failure from None
            except BaseException:  # half of a transaction must not go out with the next one
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Let go of the file, with what was to be written soon.

        Raises:
            TargetError: If that cannot be written.
        """
        try:
            if self._failure is None and self._db.in_transaction:
                with self.durable():
                    pass
        finally:
            self._db.close()

    def _refuse_foreign(self) -> None:
        """Refuse a file that is not ours, without touching it; make an empty one if there is none.

        Only what the header says for certain counts: a run that was killed while it made or changed
        the file leaves a header that SQLite takes back when it is opened.
        """
        flags = os.O_RDONLY if self.read_only else os.O_RDWR | os.O_CREAT
        try:
            with closing(os.fdopen(os.open(self._path, flags, 0o600), "rb")) as file:
                header = file.read(_HEADER_BYTES)
        except OSError as error:
            raise OutputError(
                f"journal_path: {self._path} cannot be opened: {error.strerror}"
            ) from None
        except ValueError:  # a null byte, or half a character
            raise OutputError(
                f"journal_path: {self._path!r} is no path that the system takes"
            ) from None
        if not header:
            return
        if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
            raise self._not_readable("is not a journal")
        (found,) = struct.unpack(">I", header[60:64])
        (application,) = struct.unpack(">I", header[68:72])
        if application not in {_APPLICATION_ID, 0}:
            raise self._not_readable("is not a journal of this target")
        if application and found > FORMAT:
            raise self._not_readable(
                f"has format {found}, which is newer than this version of the target reads "
                f"({FORMAT})"
            )

    def _judged(self, error: sqlite3.Error) -> OutputError | SettingsError:
        """Return the one message for what SQLite says."""
        text = str(error)
        if "locked" in text:
            return SettingsError(
                f"journal_path: {self._path} is in use by another run; give each pipeline its own, "
                "and let one run end before the next begins"
            )
        if isinstance(error, sqlite3.OperationalError):
            what = "read" if self.read_only else "written"
            return OutputError(
                f"journal_path: {self._path} cannot be {what}: {text}", is_full="full" in text
            )
        return self._not_readable("is damaged")

    def _not_readable(self, why: str) -> SettingsError:
        return SettingsError(
            f"journal_path: {self._path} {why}; it was left as it is. Set journal_path to a new "
            "file to go on without it: what was delivered before is not known then, and sent again "
            "if the tap reads it again"
        )


def _uri_path(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
