"""The requests that are written down: this run's as they go, and those that an earlier run left."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass

from target_altcraft.memory import format1
from target_altcraft.memory.delivered import PLACE_BYTES, Delivered, insert, place_bytes
from target_altcraft.memory.versions import SETTLED, VERSION_BYTES, parted

if t.TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

    from target_altcraft.memory.journal import Journal

_WHERE = "WHERE run = ? AND number = ?"
DOUBTS = {
    "unanswered": "an earlier run ended before its answer",
    "failed": "its task {task}, of an earlier run, failed",
    "vanished": "Altcraft does not know task {task} of an earlier run any more",
    "unfinished": "task {task} of an earlier run did not end in time, or its results cannot be "
    "attributed",
}
"""States of a leftover whose outcome is unknown, and what a message says of each."""


class Sent(t.NamedTuple):
    """What is written down of a request when it goes on the wire."""

    number: int
    stream: int
    name: str
    """Batch and size, as messages call it."""
    mapping: int
    versions: bytes
    places: bytes
    """Run and place of each entry where versions are counted; else empty."""


@dataclass(slots=True)
class Leftover:
    """A request of an earlier run that is not settled.

    `versions` are those of its entries by position, `SETTLED` where nothing is open. `results` are
    the items of its task for single profiles, where they were asked for in this run. `faults` are
    the positions that were not imported.
    """

    run: int
    number: int
    stream: int
    name: str
    mapping: int
    state: str
    task_id: str | None
    versions: list[bytes]
    places: bytes
    faults: set[int]
    by_key: bool
    results: list[t.Any] | None = None
    is_said: bool = False

    @property
    def is_doubtful(self) -> bool:
        """Whether nobody knows if it was accepted, or what became of it."""
        return self.state in DOUBTS

    @property
    def doubt(self) -> str:
        """What makes its outcome unknown, and of how many profiles, for a message."""
        why = DOUBTS[self.state].format(task=self.task_id)
        return f"{self.name}: {why}; it is unknown whether its {self.open()} profiles were accepted"

    def move(self, position: int, copy: bytes) -> None:
        """Note where what one of its entries delivered counts as delivered now."""
        begin, end = position * PLACE_BYTES, (position + 1) * PLACE_BYTES
        self.places = self.places[:begin] + copy + self.places[end:]

    def open(self) -> int:
        """Return the number of entries that are not settled."""
        return sum(version != SETTLED for version in self.versions)


class SentRequests:
    """Writes requests down: each change is on disk when the method returns.

    Args:
        journal: The journal.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._accepted: set[int] = set()  # mappings

    # Of this run

    def on_the_wire(self, sent: Sent, *, of: int | None = None, offset: int = 0) -> None:
        """Note that a request goes on the wire, or that its entries may have been accepted.

        Args:
            sent: The request.
            of: An earlier request of this run in doubt that carried its entries, whose doubt it
                takes over.
            offset: Position of its first entry in that one.
        """
        where = (self._journal.run, sent.number)
        with self._journal.durable() as db:
            db.execute(
                "INSERT INTO request VALUES (?, ?, ?, ?, ?, 'unanswered', NULL, NULL)",
                (*where, sent.stream, sent.name, sent.mapping),
            )
            db.execute("INSERT INTO carried VALUES (?, ?, ?, ?)", (*where, *sent[-2:]))
            if of is not None:
                count = len(sent.versions) // VERSION_BYTES
                self._take_out(db, of, range(offset, offset + count))

    def _take_out(self, db: sqlite3.Connection, number: int, positions: Collection[int]) -> None:
        """Settle some positions of a request; it goes with the last one."""
        where = (self._journal.run, number)
        (versions,) = db.execute(f"SELECT versions FROM carried {_WHERE}", where).fetchone()
        left = bytearray(versions)
        for position in positions:
            left[position * VERSION_BYTES : (position + 1) * VERSION_BYTES] = SETTLED
        if any(left):
            db.execute(f"UPDATE carried SET versions = ? {_WHERE}", (bytes(left), *where))
        else:
            _drop(db, *where)

    def accepted(self, number: int, mapping: int, task_id: str | None) -> None:
        """Note the task that a request became; None if the answer named none."""
        state = "untraceable" if task_id is None else "accepted"
        with self._journal.durable() as db:
            db.execute(
                f"UPDATE request SET state = ?, task_id = ? {_WHERE}",
                (state, task_id, self._journal.run, number),
            )
            if mapping not in self._accepted:
                db.execute("UPDATE mapping SET accepted = 1 WHERE id = ?", (mapping,))
                self._accepted.add(mapping)

    def forget(self, number: int) -> None:
        """Note that a request was not accepted, or that its entries are settled otherwise."""
        with self._journal.durable() as db:
            _drop(db, self._journal.run, number)

    def delivered(
        self, sent: Sent, faults: Collection[int], *, by_key: bool, for_ever: bool
    ) -> None:
        """Note that a task is done: its entries are delivered, save those not imported.

        Args:
            sent: The request.
            faults: Positions that were not imported.
            by_key: Whether one version a key is kept.
            for_ever: Whether its versions are remembered; else the request stays as it is until
                the run has ended, and becomes versions only if that was not well.
        """
        run = self._journal.run
        where = (run, sent.number)
        with self._journal.durable() as db:
            if for_ever:
                versions, places = without(sent.versions, sent.places, faults)
                insert(db, Delivered(sent.stream, sent.mapping, run, versions, places, by_key))
                _drop(db, *where)
            else:
                db.execute(
                    f"UPDATE request SET state = 'delivered', faults = ? {_WHERE}",
                    (json.dumps(sorted(faults)), *where),
                )

    def remember_delivered(self) -> None:
        """Make versions of what runs delivered of `always` streams that did not end well."""
        with self._journal.soon() as db:
            rows = db.execute(
                "SELECT run, number, faults FROM request WHERE state = 'delivered' AND run < ?",
                (self._journal.run,),
            ).fetchall()
            for run, number, faults in rows:
                _remember(db, run, number, json.loads(faults))
                _drop(db, run, number)

    def forget_delivered(self, streams: Collection[int], covered: int | None) -> None:
        """Forget what runs sent of `always` streams, at the end of one that went well.

        Args:
            streams: The streams.
            covered: The place that the last STATE covers: what lies behind it stays; None if there
                was no STATE.
        """
        last = place_bytes(self._journal.run, covered or 0)
        with self._journal.soon() as db:
            rows = [
                row
                for stream in streams
                for row in db.execute(
                    "SELECT request.run, request.number, state, "
                    f"substr(places, -{PLACE_BYTES}), faults "
                    "FROM request JOIN carried USING (run, number) WHERE stream = ?",
                    (stream,),
                ).fetchall()
            ]
            for run, number, state, place, faults in rows:
                if state == "delivered" and covered is not None and place > last:
                    _remember(db, run, number, json.loads(faults), behind=last)
                _drop(db, run, number)

    def doubtful(self, number: int, state: str, not_imported: Collection[int]) -> None:
        """Note that nobody knows what a task did.

        Args:
            number: The request.
            state: One of `DOUBTS`.
            not_imported: Positions of which it is known that they were not imported.
        """
        with self._journal.durable() as db:
            db.execute(f"UPDATE request SET state = ? {_WHERE}", (state, self._journal.run, number))
            if not_imported:
                self._take_out(db, number, not_imported)

    # Of earlier runs

    def leftovers(self, *, with_delivered: bool = False) -> list[Leftover]:
        """Return what earlier runs left.

        Args:
            with_delivered: Whether also what runs delivered of `always` streams that did not end
                well, for a run that may not make versions of it: see `remember_delivered`.
        """
        with self._journal.reading() as db:
            rows = db.execute(
                "SELECT request.run, number, request.stream, request.name, request.mapping, state, "
                "task_id, versions, places, faults, by_key FROM request "
                "JOIN carried USING (run, number) JOIN stream ON stream.id = request.stream "
                "WHERE state != 'delivered' "
                "OR (? AND request.run IN (SELECT id FROM run WHERE ended_well = 0)) "
                "ORDER BY request.run, number",
                (with_delivered,),
            ).fetchall()
        return [_leftover(*row) for row in rows]

    def update(self, leftover: Leftover, *, delivered: bool = False) -> None:
        """Note what was found out about a leftover.

        Args:
            leftover: The leftover.
            delivered: Whether its entries are delivered now, save its faults.
        """
        with self._journal.durable() as db:
            if delivered and leftover.mapping != format1.MAPPING:
                not_open = {n for n, v in enumerate(leftover.versions) if v == SETTLED}
                versions, places = without(
                    b"".join(leftover.versions), leftover.places, leftover.faults | not_open
                )
                insert(
                    db,
                    Delivered(
                        leftover.stream,
                        leftover.mapping,
                        leftover.run,
                        versions,
                        places,
                        leftover.by_key,
                    ),
                )
            self._write(db, leftover)

    def save(self, leftovers: Collection[Leftover]) -> None:
        """Note which entries of leftovers were settled in this run, with the next transaction."""
        with self._journal.soon() as db:
            for leftover in leftovers:
                self._write(db, leftover)

    @staticmethod
    def _write(db: sqlite3.Connection, leftover: Leftover) -> None:
        where = (leftover.run, leftover.number)
        if leftover.open():
            faults = json.dumps(sorted(leftover.faults))
            db.execute(
                f"UPDATE request SET state = ?, faults = ? {_WHERE}",
                (leftover.state, faults, *where),
            )
            db.execute(
                f"UPDATE carried SET versions = ? {_WHERE}", (b"".join(leftover.versions), *where)
            )
        else:
            _drop(db, *where)


def _drop(db: sqlite3.Connection, run: int, number: int) -> None:
    """Forget a request."""
    db.execute(f"DELETE FROM request {_WHERE}", (run, number))
    db.execute(f"DELETE FROM carried {_WHERE}", (run, number))


def _remember(
    db: sqlite3.Connection,
    run: int,
    number: int,
    faults: Collection[int],
    behind: bytes = b"",
) -> None:
    """Make versions of what a request delivered.

    Args:
        db: The connection.
        run: The request's run.
        number: Its number in it.
        faults: Positions that were not imported.
        behind: Only what stood behind this place, if it is given.
    """
    stream, mapping, by_key, versions, places = db.execute(
        "SELECT stream, request.mapping, by_key, versions, places FROM request "
        "JOIN carried USING (run, number) JOIN stream ON stream.id = stream "
        "WHERE run = ? AND number = ?",
        (run, number),
    ).fetchone()
    left_out = set(faults) | {
        position
        for position in range(len(places) // PLACE_BYTES)
        if places[position * PLACE_BYTES : (position + 1) * PLACE_BYTES] <= behind
    }
    versions, places = without(versions, places, left_out)
    insert(db, Delivered(stream, mapping, run, versions, places, bool(by_key)))


def _leftover(  # noqa: PLR0913, PLR0917 - a row of the table
    run: int,
    number: int,
    stream: int,
    name: str,
    mapping: int,
    state: str,
    task_id: str | None,
    versions: bytes,
    places: bytes,
    faults: str | None,
    by_key: int,
) -> Leftover:
    left = parted(versions)
    not_imported = set(json.loads(faults or "[]"))
    if state == "delivered":  # what was not imported of it is in the rejects file
        for position in not_imported:
            left[position] = SETTLED
        not_imported = set()
    return Leftover(
        run=run,
        number=number,
        stream=stream,
        name=name,
        mapping=mapping,
        state=state,
        task_id=task_id,
        versions=left,
        places=places,
        faults=not_imported,
        by_key=bool(by_key),
    )


def without(versions: bytes, places: bytes, positions: Collection[int]) -> tuple[bytes, bytes]:
    """Return versions and their places without those at some positions."""
    if not positions:
        return versions, places
    count = len(versions) // VERSION_BYTES
    each = len(places) // count if count else 0
    kept = [n for n in range(count) if n not in positions]
    return (
        b"".join(versions[n * VERSION_BYTES : (n + 1) * VERSION_BYTES] for n in kept),
        b"".join(places[n * each : (n + 1) * each] for n in kept),
    )
