"""What an earlier run left unfinished, and which records of this run's input it is about."""

from __future__ import annotations

import logging
import typing as t
from collections import defaultdict, deque

from target_altcraft.memory import format1
from target_altcraft.memory.delivered import PLACE_BYTES
from target_altcraft.memory.versions import SETTLED, id_of, key_of

if t.TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from target_altcraft.memory.sent import Leftover, SentRequests

logger = logging.getLogger(__name__)


class Leftovers:
    """The requests that earlier runs left, by what is found out about them in this run.

    Used by the main thread, save for what workers find out before the input is read.

    Args:
        sent: Where they are written down.
        may_write: Whether what is found out may be written down.
    """

    def __init__(self, sent: SentRequests, *, may_write: bool) -> None:
        self._sent = sent
        self._may_write = may_write
        self.all = sent.leftovers(with_delivered=not may_write)

    def unknown(self, *, wants_results: bool) -> list[Leftover]:
        """Return those whose task must be asked about.

        Args:
            wants_results: Whether also those that are done are asked for their profiles' ids.
        """
        return [
            leftover
            for leftover in self.all
            if leftover.task_id is not None
            and (
                leftover.state == "accepted"
                or (leftover.state == "completed" and (wants_results or leftover.faults))
            )
        ]

    def completed(
        self, leftover: Leftover, results: list[t.Any] | None, faults: Collection[int]
    ) -> None:
        """Note that a leftover's task is done.

        Args:
            leftover: The leftover.
            results: Its items for single profiles, by position; None if there are none.
            faults: Positions that were not imported.
        """
        leftover.results = results
        if leftover.state == "completed":
            return
        leftover.state = "completed"
        leftover.faults = set(faults)
        self._note(leftover, delivered=True)

    def doubtful(self, leftover: Leftover, state: str, not_imported: Collection[int] = ()) -> None:
        """Note that nobody knows what a leftover's task did.

        Args:
            leftover: The leftover.
            state: What happened, one of `sent.DOUBTS`.
            not_imported: Positions of which it is known that they were not imported.
        """
        leftover.state = state
        for position in not_imported:
            leftover.versions[position] = SETTLED
        self._note(leftover)

    def take_untraceable(self) -> None:
        """Take as delivered what was accepted without a task id, and say so."""
        for leftover in self.all:
            if leftover.state == "untraceable":
                logger.warning(
                    "%s: an earlier run saw it accepted without a task id; it is taken as "
                    "delivered, though nobody saw its task complete",
                    leftover.name,
                )
                leftover.state = "completed"
                self._note(leftover, delivered=True)

    def _note(self, leftover: Leftover, *, delivered: bool = False) -> None:
        if self._may_write:
            self._sent.update(leftover, delivered=delivered)

    def close(self, leftover: Leftover) -> None:
        """Note that a task that is done need not be asked for its profiles' ids any more."""
        leftover.state = "closed"
        self._note(leftover)

    def save(self, streams: Collection[int]) -> None:
        """Note which entries were settled in this run, with the next transaction.

        Args:
            streams: Those that this run met; what is done of others is not asked about again.
        """
        for leftover in self.all:
            if leftover.state == "completed" and leftover.stream not in streams:
                leftover.state = "closed"
        if self._may_write:
            self._sent.save(self.all)


class StreamLeftovers:
    """The leftovers of one stream, found by the versions of the records that come.

    Where versions are counted, a record that an earlier run delivered is found by the place of its
    copy instead: of several equal rows each is settled by its own outcome.

    Args:
        leftovers: Those of the stream.
        mapping: This run's mapping of it.
        by_key: Whether the key alone is compared.
        is_counted: Whether versions are counted.
    """

    def __init__(
        self, leftovers: Sequence[Leftover], mapping: int, *, by_key: bool, is_counted: bool
    ) -> None:
        self._mapping = mapping
        self._by_key = by_key
        self._index: defaultdict[bytes, deque[tuple[Leftover, int]]] = defaultdict(deque)
        self._copies: dict[bytes, tuple[Leftover, int]] = {}
        self.has_old = any(leftover.mapping == format1.MAPPING for leftover in leftovers)
        for leftover in leftovers:
            is_delivered = leftover.state in {"completed", "closed"}  # and a version of this run's
            has_copies = is_counted and is_delivered and bool(leftover.places)
            for position, version in enumerate(leftover.versions):
                if version == SETTLED:
                    continue
                if has_copies and position not in leftover.faults:
                    start = position * PLACE_BYTES
                    copy = leftover.places[start : start + PLACE_BYTES]
                    self._copies[copy] = leftover, position
                else:
                    name = self._name(version, leftover.mapping)
                    self._index[name].append((leftover, position))

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._index or self._copies)

    def _name(self, version: bytes, mapping: int) -> bytes:
        if mapping == format1.MAPPING:
            return version
        if self._by_key:
            return key_of(version)
        return version if mapping == self._mapping else id_of(version)

    def _waiting(self, version: bytes, old_version: bytes) -> Iterator[deque[tuple[Leftover, int]]]:
        names = (key_of(version),) if self._by_key else (version, id_of(version))
        for name in (*names, old_version):
            if name in self._index:
                yield self._index[name]

    def take(self, version: bytes, old_version: bytes) -> tuple[Leftover, int] | None:
        """Return the leftover and the position that a record is about; each is returned once.

        Args:
            version: The record's.
            old_version: The same as format 1 knew it; empty if nothing was carried over.
        """
        for waiting in self._waiting(version, old_version):
            while waiting:
                leftover, position = waiting.popleft()
                if leftover.versions[position] != SETTLED:
                    return leftover, position
        return None

    def take_copy(self, copy: bytes) -> tuple[Leftover, int] | None:
        """Return the leftover and the position that delivered a counted version, once."""
        return self._copies.pop(copy, None)

    def settle_doubt(self, version: bytes, old_version: bytes, before: int) -> None:
        """Settle one doubt of earlier runs about a record that a later run has delivered.

        Args:
            version: The record's.
            old_version: The same as format 1 knew it.
            before: The run that delivered it.
        """
        for waiting in self._waiting(version, old_version):
            for leftover, position in waiting:
                is_open = leftover.versions[position] != SETTLED
                if is_open and leftover.is_doubtful and leftover.run < before:
                    leftover.versions[position] = SETTLED
                    return
