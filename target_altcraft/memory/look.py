"""A look at the journal that changes nothing: what it remembers, and what an earlier run left."""

from __future__ import annotations

import os
import sqlite3
import time
import typing as t
from contextlib import closing

from target_altcraft.errors import OutputError
from target_altcraft.memory.journal import FORMAT, Journal
from target_altcraft.memory.sent import SentRequests

if t.TYPE_CHECKING:
    from target_altcraft.memory.sent import Leftover

_INSTRUCTIONS = 100_000
"""So many of SQLite's instructions pass between two looks at the clock; a few milliseconds."""


class JournalSeen(t.NamedTuple):
    """What a journal holds."""

    format: int
    """Of the file; 0 if nothing was ever written to it."""
    was_cut_short: bool = False
    """Whether a run was killed while it wrote; only a run that may write can take that back."""
    last_run: int | None = None
    """When the newest run began, in seconds since 1970; None if there was none."""
    ended_well: bool = False
    """Whether the newest run did."""
    versions: dict[str, int] | None = None
    """How many versions it remembers of each stream; None if they were not counted in time."""
    leftovers: tuple[Leftover, ...] = ()
    """What earlier runs left."""


def look(path: str, seconds: float) -> JournalSeen | None:
    """Return what a journal holds; None if there is no file. Nothing is written or created.

    Args:
        path: Setting `journal_path`.
        seconds: Time for counting.

    Raises:
        SettingsError: If another run holds it, or it cannot be used.
        OutputError: If it cannot be read.
    """
    try:
        size = os.stat(path).st_size  # noqa: PTH116 - a path as the user gave it
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds a null byte"
        raise OutputError(f"journal_path: {path} cannot be read: {why}") from None
    if size == 0:
        return JournalSeen(format=0)
    try:
        journal = Journal(path, read_only=True)
    except OutputError:
        if _is_cut_short(path):
            return JournalSeen(format=FORMAT, was_cut_short=True)
        raise
    with closing(journal):
        if not journal.read_only:  # an older format, which is carried over when a run begins
            return JournalSeen(format=1)
        with journal.reading() as db:
            run = db.execute("SELECT started, ended_well FROM run ORDER BY id DESC").fetchone()
            versions = _versions(db, seconds)
        leftovers = tuple(SentRequests(journal).leftovers())
    began, ended_well = run or (None, 0)
    return JournalSeen(
        format=FORMAT,
        last_run=began,
        ended_well=bool(ended_well),
        versions=versions,
        leftovers=leftovers,
    )


def _versions(db: sqlite3.Connection, seconds: float) -> dict[str, int] | None:
    """Return how many versions there are of each stream, None if that takes too long."""
    deadline = time.monotonic() + seconds
    db.set_progress_handler(lambda: time.monotonic() > deadline, _INSTRUCTIONS)
    try:
        rows = db.execute(
            "SELECT stream.name, count(*) FROM version JOIN stream ON stream.id = version.stream "
            "GROUP BY version.stream ORDER BY version.stream"
        ).fetchall()
    except sqlite3.OperationalError:
        if time.monotonic() <= deadline:
            raise
        return None
    finally:
        db.set_progress_handler(None, 0)
    return dict(rows)


def _is_cut_short(path: str) -> bool:
    """Tell whether SQLite left its own rollback journal beside the file."""
    try:
        return os.stat(f"{path}-journal").st_size > 0  # noqa: PTH116 - as above
    except OSError:
        return False
