"""In which parts a batch goes out: halves, and the search for refused entries.

Nothing here sends anything: it is told what came of a part, and says what comes next.
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from target_altcraft.batch import Batch

MAX_REFUSED_AT_FIRST = 40
"""Most requests of a bisection while nothing of the batch was accepted."""
MAX_PER_REFUSED = 30
"""Requests more for each refused entry that was found."""
MAX_REFUSED = 100
"""Most refused entries of a batch."""


class Part(t.NamedTuple):
    """Some entries of a batch that are still to be sent."""

    first: int
    last: int
    """Position behind the last one."""
    resends: int = 0
    """How often these entries were sent again already."""
    doubted: int | None = None
    """Number of the request by which they may have been accepted already; None if by none."""
    offset: int = 0
    """Position in the batch of that request's first entry."""

    def halves(self) -> tuple[Part, Part]:
        """Return its two halves, the first one first."""
        middle = (self.first + self.last) // 2
        return self._replace(last=middle), self._replace(first=middle)


def fitting(batch: Batch, part: Part, limit: int) -> int:
    """Return how many entries of a part one body may hold; at least one.

    Args:
        batch: The batch.
        part: The part.
        limit: Most bytes of a body.
    """
    if part.first == 0 and part.last == len(batch.entries) and batch.size <= limit:
        return part.last
    size = batch.envelope.size - 1
    for position in range(part.first, part.last):
        size += len(batch.entries[position]) + 1
        if size > limit and position > part.first:
            return position - part.first
    return part.last - part.first


class Bisection:
    """The search for the entries of one batch that Altcraft refuses, within bounds."""

    def __init__(self) -> None:
        self._requests = 0
        self._found = 0
        self._accepted = False

    def counts(self) -> None:
        """Note one more request of the batch."""
        if self._requests:
            self._requests += 1

    def accepted(self) -> None:
        """Note that something of the batch was accepted."""
        self._accepted = True

    def refused(self, count: int) -> bool:
        """Note that a part was refused.

        Args:
            count: How many entries it had.

        Returns:
            Whether the search may go on.
        """
        self._requests = self._requests or 1
        self._found += count == 1
        bound = MAX_REFUSED_AT_FIRST + (MAX_PER_REFUSED * self._found if self._accepted else 0)
        return self._requests < bound and self._found <= MAX_REFUSED
