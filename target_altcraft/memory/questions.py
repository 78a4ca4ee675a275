"""Which records the journal must be asked about: few, for most are evidently new."""

from __future__ import annotations

import struct
import typing as t
from itertools import compress, count

from target_altcraft.memory.versions import BOOKMARK_BYTES, VERSION_BYTES, bookmark_of, id_of

if t.TYPE_CHECKING:
    from collections.abc import Sequence

_BITS = 21
_NUMBERS = struct.Struct(f">{BOOKMARK_BYTES}xI{VERSION_BYTES - BOOKMARK_BYTES - 4}x").iter_unpack
"""The first four bytes of a key's digest."""


class NotedKeys:
    """Marks for keys that a run has met: one that was noted is known, another seldom seems so.

    Two megabytes, whatever comes; of a run of millions of records most seem known in the end.
    """

    def __init__(self) -> None:
        self._marks = bytearray(1 << _BITS)

    def note(self, versions: Sequence[bytes]) -> bytes:
        """Note the keys of versions; return for each a 1 if it had been noted before, else a 0."""
        marks = self._marks
        places = [number >> (32 - _BITS) for (number,) in _NUMBERS(b"".join(versions))]
        were_noted = bytes(map(marks.__getitem__, places))
        for place in places:
            marks[place] = 1
        return were_noted


class Questions:
    """Chooses the records of one stream that the journal may know.

    It may know what earlier runs left, up to the greatest id, and what has come in this run: that
    is noted, save where it lies beyond all before it, as it does for a tap that reads in the
    bookmark's order.

    Used by the reader's thread alone.

    Args:
        greatest: The greatest id of the stream that the journal holds; None if it holds none.
        noted: The keys that were noted in this run, of all streams.
        by_key: Whether the key alone is compared.
    """

    def __init__(self, greatest: bytes | None, noted: NotedKeys, *, by_key: bool) -> None:
        self._greatest = greatest
        self._unnoted = greatest  # up to here an id may be known without having been noted
        self._noted = noted
        self._by_key = by_key

    def about(self, versions: Sequence[bytes]) -> list[int]:
        """Return the positions of those that the journal may know; take all as met."""
        least, most = min(versions), max(versions)
        is_beyond = self._greatest is None or id_of(least) > self._greatest
        if is_beyond and not self._by_key and bookmark_of(least) != bookmark_of(most):
            last = bookmark_of(most)
            self._noted.note([version for version in versions if version.startswith(last)])
            self._greatest, self._unnoted = id_of(most), last
            return []
        self._greatest = max(self._greatest or b"", id_of(most))
        were_noted = self._noted.note(versions)
        if self._unnoted is None:
            return list(compress(count(), were_noted))
        if self._by_key:
            return list(range(len(versions)))
        unnoted = self._unnoted
        return [
            position
            for position, version in enumerate(versions)
            if were_noted[position] or id_of(version) <= unnoted
        ]
