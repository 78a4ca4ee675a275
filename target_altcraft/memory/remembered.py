"""What the journal remembers of streams: versions delivered, records rejected, requests sent.

Versions are asked for and added in lots, as one blob, so that SQLite does the work of a lot in one
statement.
"""

from __future__ import annotations

import logging
import time
import typing as t
from dataclasses import dataclass

from target_altcraft.memory import format1
from target_altcraft.memory.delivered import (
    EACH,
    ENTRY,
    ID,
    KEY,
    NO_COPY,
    Delivered,
    arrange,
    insert,
    place_bytes,
)
from target_altcraft.memory.versions import (
    BOOKMARK_BYTES,
)

if t.TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Sequence

    from target_altcraft.memory.journal import Journal
    from target_altcraft.memory.sent import Leftover
    from target_altcraft.settings import StreamSettings

logger = logging.getLogger(__name__)

_SECONDS_PER_DAY = 86_400

_COVERED = (  # a rejection counts once a STATE was printed that covers it
    "r.place <= (SELECT covered FROM run WHERE id = r.run) AND r.run < :run"
)
_FORGET_COPIES_BEFORE_RESEND = """
DELETE FROM version AS old WHERE stream = :stream AND copy != x''
AND run < (SELECT resend_since FROM stream WHERE id = :stream)
AND EXISTS (SELECT 1 FROM version AS new WHERE new.stream = :stream AND new.id = old.id
    AND new.entry = old.entry AND new.run >= (SELECT resend_since FROM stream WHERE id = :stream))
"""


@dataclass(slots=True)
class StreamRow:
    """What is known of a stream when a run first meets it."""

    id: int
    mapping: int
    """Of this run."""
    mapping_accepted: bool = False
    """Whether something had been accepted with the same settings when the SCHEMA came."""
    mapping_changed: bool = False
    """Whether the newest versions were delivered under others."""
    greatest: bytes | None = None
    """The greatest id that is remembered; None if nothing is."""
    has_rejected: bool = False
    resend_since: int | None = None


class Known(t.NamedTuple):
    """A version that was delivered."""

    entry: bytes
    copy: bytes
    mapping: int
    run: int


def is_newest(mapping: int, known: Collection[Known]) -> bool:
    """Tell whether the newest of some versions was delivered under a mapping."""
    newest = max((each.run for each in known), default=0)
    return any(each.run == newest and each.mapping == mapping for each in known)


class Remembered:
    """Asks the journal about versions and adds to it.

    Args:
        journal: The journal.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._ended: dict[int, int] = {}  # how earlier runs ended

    @property
    def run(self) -> int:
        """The number of this run."""
        return self._journal.run

    @property
    def may_write(self) -> bool:
        """Whether this run may add anything; a dry run may not."""
        return not self._journal.read_only

    # Streams

    def stream(self, name: str, mapping: bytes, *, by_key: bool) -> StreamRow:
        """Return what is known of a stream; make it known.

        Args:
            name: Its name after stream maps.
            mapping: Digest of its mapping.
            by_key: Whether it keeps one version a key.
        """
        with self._journal.soon() if self.may_write else self._journal.reading() as db:
            row = db.execute(
                "SELECT id, by_key, resend_since FROM stream WHERE name = ?", (name,)
            ).fetchone()
            if row is None:
                if not self.may_write:
                    return StreamRow(id=0, mapping=0)
                cursor = db.execute(
                    "INSERT INTO stream (name, by_key) VALUES (?, ?)", (name, by_key)
                )
                row = (t.cast("int", cursor.lastrowid), by_key, None)
            stream, was_by_key, resend_since = row
            if bool(was_by_key) != by_key:
                if self.may_write:
                    arrange(db, stream, by_key=by_key)
                else:
                    logger.warning(
                        "stream '%s': send_again has changed; a dry run cannot compare with what "
                        "was delivered before, and counts too many",
                        name,
                    )
            number, accepted = self._mapping(db, stream, mapping)
            newer = db.execute(
                "SELECT 1 FROM mapping WHERE stream = ? AND last_run > "
                "coalesce((SELECT last_run FROM mapping WHERE id = ?), 0)",
                (stream, number),
            ).fetchone()
            (greatest,) = db.execute(
                "SELECT max(id) FROM version WHERE stream = ?", (stream,)
            ).fetchone()
            rejected = db.execute(
                f"SELECT 1 FROM rejected r WHERE r.stream = :stream AND {_COVERED} LIMIT 1",
                {"stream": stream, "run": self.run},
            ).fetchone()
        return StreamRow(
            id=stream,
            mapping=number,
            mapping_accepted=accepted,
            mapping_changed=newer is not None,
            greatest=greatest,
            has_rejected=rejected is not None,
            resend_since=resend_since,
        )

    def _mapping(self, db: sqlite3.Connection, stream: int, digest: bytes) -> tuple[int, bool]:
        row = db.execute(
            "SELECT id, accepted FROM mapping WHERE stream = ? AND digest = ?", (stream, digest)
        ).fetchone()
        if row is not None:
            return row[0], bool(row[1])
        if not self.may_write:
            return -1, False
        cursor = db.execute("INSERT INTO mapping (stream, digest) VALUES (?, ?)", (stream, digest))
        return t.cast("int", cursor.lastrowid), False

    def has_ended_well_since(self, stream: int, id_: bytes) -> bool:
        """Tell whether a run has ended well since a version was delivered or last seen."""
        with self._journal.reading() as db:
            row = db.execute(
                "SELECT 1 FROM run WHERE ended_well = 1 AND id < :run AND id >= "
                "(SELECT max(run) FROM version WHERE stream = :stream AND id = :id) LIMIT 1",
                {"run": self.run, "stream": stream, "id": id_},
            ).fetchone()
        return row is not None

    def begin_resend(self, stream: int) -> None:
        """Note that a resend of a stream begins with this run."""
        with self._journal.soon() as db:
            db.execute("UPDATE stream SET resend_since = ? WHERE id = ?", (self.run, stream))

    # Versions

    def known(
        self, stream: int, versions: Sequence[bytes], *, by_key: bool
    ) -> dict[int, list[Known]]:
        """Return the delivered versions that have the key and bookmark of those asked for.

        Args:
            stream: The stream.
            versions: What is asked for.
            by_key: Whether the key alone is compared.

        Returns:
            By position in `versions`.
        """
        sql = (
            f"{EACH} SELECT n.i, v.entry, v.copy, v.mapping, v.run FROM n CROSS JOIN version v "
            f"ON v.stream = :stream AND v.id = {KEY if by_key else ID}"
        )
        given = {"count": len(versions), "stream": stream, "versions": b"".join(versions)}
        found: dict[int, list[Known]] = {}
        with self._journal.reading() as db:
            for position, *row in db.execute(sql, given):
                found.setdefault(position, []).append(Known(*row))
        return found

    def are_delivered(self, stream: int, mapping: int, versions: Sequence[bytes]) -> bool:
        """Tell whether all of these were delivered just as they are, where none are counted.

        Args:
            stream: The stream.
            mapping: Under which.
            versions: What is asked for.
        """
        sql = (
            f"{EACH} SELECT count(*) FROM n CROSS JOIN version v ON v.stream = :stream "
            f"AND v.id = {ID} AND v.entry = {ENTRY} AND v.copy = {NO_COPY} "
            "WHERE v.mapping = :mapping"
        )
        given = {"count": len(versions), "stream": stream, "versions": b"".join(versions)}
        with self._journal.reading() as db:
            (number,) = db.execute(sql, given | {"mapping": mapping}).fetchone()
        return bool(number == len(versions))

    def remember(
        self, stream: int, mapping: int, versions: bytes, places: bytes, *, by_key: bool
    ) -> None:
        """Note that versions were delivered: on disk before the next STATE is printed.

        Args:
            stream: The stream.
            mapping: Under which.
            versions: Of the records.
            places: Run and place of each where versions are counted; else empty.
            by_key: Whether one version a key is kept.
        """
        with self._journal.soon(before_state=True) as db:
            insert(db, Delivered(stream, mapping, self.run, versions, places, by_key))

    def meet(
        self,
        stream: int,
        met: Iterable[tuple[bytes, Known, bytes]],
        moved: Iterable[Leftover],
    ) -> None:
        """Note that this run met versions again, with the next durable transaction.

        Args:
            stream: The stream.
            met: Of each the id, what was known of it, and where it counts as delivered.
            moved: Leftovers of which some places have changed by that.
        """
        with self._journal.soon() as db:
            db.executemany(
                "UPDATE version SET run = ?, copy = ? "
                "WHERE stream = ? AND id = ? AND entry = ? AND copy = ?",
                (
                    (self.run, copy, stream, id_, known.entry, known.copy)
                    for id_, known, copy in met
                ),
            )
            db.executemany(
                "UPDATE carried SET places = ? WHERE run = ? AND number = ?",
                ((leftover.places, leftover.run, leftover.number) for leftover in moved),
            )

    def adopt(self, stream: int, mapping: int, met: Iterable[tuple[bytes, Known, bytes]]) -> None:
        """Note what delivered versions look like under another mapping.

        Args:
            stream: The stream.
            mapping: The new one.
            met: Of each the id, what was known of it, and its entry under the new mapping.
        """
        with self._journal.soon() as db:
            db.executemany(
                "UPDATE OR REPLACE version SET entry = ?, mapping = ?, run = ? "
                "WHERE stream = ? AND id = ? AND entry = ? AND copy = ?",
                (
                    (entry, mapping, self.run, stream, id_, known.entry, known.copy)
                    for id_, known, entry in met
                ),
            )
            db.execute("UPDATE mapping SET last_run = ? WHERE id = ?", (self.run, mapping))

    def boundary(self, stream: int, settings: StreamSettings) -> format1.Boundary | None:
        """Return what was carried over of a stream's boundary, None if nothing was."""
        with self._journal.reading() as db:
            return format1.boundary(db, stream, settings)

    def forget_boundary(self, stream: int) -> None:
        """Forget a stream's boundary: its records have become versions."""
        with self._journal.soon() as db:
            format1.forget_boundary(db, stream)

    # Rejected records

    def rejected(self, stream: int, versions: Sequence[bytes]) -> dict[int, set[tuple[bytes, int]]]:
        """Return what was rejected before of the rows that versions are of.

        Returns:
            By position in `versions`: digests of source rows, each with its mapping.
        """
        sql = (
            f"{EACH} SELECT n.i, r.source, r.mapping FROM n CROSS JOIN rejected r "
            f"ON r.stream = :stream AND r.id = {ID} WHERE {_COVERED}"
        )
        given = {
            "count": len(versions),
            "stream": stream,
            "versions": b"".join(versions),
            "run": self.run,
        }
        found: dict[int, set[tuple[bytes, int]]] = {}
        with self._journal.reading() as db:
            for position, source, mapping in db.execute(sql, given):
                found.setdefault(position, set()).add((source, mapping))
        return found

    def reject(self, stream: int, mapping: int, id_: bytes, source: bytes, place: int) -> None:
        """Note a rejected record unless it is known; it counts once a STATE covers its place."""
        with self._journal.soon() as db:
            db.execute(
                "INSERT OR IGNORE INTO rejected VALUES (?, ?, ?, ?, ?, ?)",
                (stream, id_, source, mapping, self.run, place),
            )

    def cover(self, place: int) -> None:
        """Note that a STATE was printed that covers the input up to a place."""
        with self._journal.soon() as db:
            db.execute("UPDATE run SET covered = ? WHERE id = ?", (place, self.run))
        self._journal.commit_before_state()

    # The end of a run

    def tidy(self) -> None:
        """Forget the rejections of earlier runs that no printed STATE covered."""
        with self._journal.soon() as db:
            db.execute(
                "DELETE FROM rejected WHERE place > (SELECT covered FROM run WHERE id = run) "
                "AND run < ?",
                (self.run,),
            )

    def ended(self, run: int) -> int:
        """Return how an earlier run ended: 0 not well, 1 well, 2 well, replaying rejects."""
        if run not in self._ended:
            with self._journal.reading() as db:
                row = db.execute("SELECT ended_well FROM run WHERE id = ?", (run,)).fetchone()
            self._ended[run] = int(row[0]) if row else 0
        return self._ended[run]

    def end_well(
        self,
        how: int,
        always: Collection[int],
        resent: Collection[int],
        mappings: Collection[int],
        covered: int | None,
    ) -> None:
        """End a run that went well.

        Args:
            how: 1, or 2 where it replayed rejects.
            always: Streams of the kind `always` that it read from the tap: what was delivered of
                them is forgotten, save what lies behind the last printed STATE.
            resent: Streams whose resend is over.
            mappings: Those that count as used from now on, whatever came.
            covered: The place that the last STATE covers; None if there was no STATE.
        """
        with self._journal.durable() as db:
            for stream in always:
                last = place_bytes(self.run if covered is not None else self.run + 1, covered or 0)
                db.execute(
                    "DELETE FROM version WHERE stream = ? AND copy != x'' AND copy <= ?",
                    (stream, last),
                )
            for stream in resent:
                db.execute(_FORGET_COPIES_BEFORE_RESEND, {"stream": stream})
                db.execute("UPDATE stream SET resend_since = NULL WHERE id = ?", (stream,))
            for mapping in mappings:
                db.execute("UPDATE mapping SET last_run = ? WHERE id = ?", (self.run, mapping))
            db.execute("UPDATE run SET ended_well = ? WHERE id = ?", (how, self.run))

    def expire(self, stream: int, days: int) -> int:
        """Forget versions of a stream that were last seen longer ago; return how many.

        The greatest bookmark's versions stay, and so do those of the run that saw it last.
        """
        before = int(time.time()) - days * _SECONDS_PER_DAY
        with self._journal.soon() as db:
            return db.execute(
                "DELETE FROM version WHERE stream = :stream AND run IN "
                "(SELECT id FROM run WHERE started < :before) "
                "AND run < (SELECT max(run) FROM version WHERE stream = :stream) "
                f"AND substr(id, 1, {BOOKMARK_BYTES}) < (SELECT substr(max(id), 1, "
                f"{BOOKMARK_BYTES}) FROM version WHERE stream = :stream)",
                {"stream": stream, "before": before},
            ).rowcount
