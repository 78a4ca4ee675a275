"""Which records the journal must be asked about: few, for most are evidently new."""

from __future__ import annotations

import struct
import typing as t
from itertools import compress, count

from target_altcraft.memory.versions import BOOKMARK_BYTES, VERSION_BYTES, bookmark_of, id_of

if t.TYPE_CHECKING:
    from collections.abc import Sequence

_SLOT_BITS = 21
_MOST_DISPLACED = 1 << 16
_NUMBERS = struct.Struct(f">{BOOKMARK_BYTES}xQ{VERSION_BYTES - BOOKMARK_BYTES - 8}x").iter_unpack
"""The first eight bytes of a key's digest."""


class NotedKeys:
    """The keys that a run has met, in at most nine megabytes whatever comes.

    One that was noted is known; another seems so once in 65,536 times. Of some half a million keys
    on there is no room for more: then all seem to be known.

    A key has a slot, and leaves sixteen bits there; where the slot is taken, elsewhere.
    """

    def __init__(self) -> None:
        self._prints = memoryview(bytearray(2 << _SLOT_BITS)).cast("H")
        self._displaced: set[int] = set()

    def note(self, versions: Sequence[bytes]) -> list[bool]:
        """Note the keys of versions; return for each whether it is known to have been noted."""
        if len(self._displaced) > _MOST_DISPLACED:
            return [True] * len(versions)
        prints, displaced = self._prints, self._displaced
        known = []
        for (number,) in _NUMBERS(b"".join(versions)):
            slot, print_ = number >> (64 - _SLOT_BITS), number & 0xFFFF or 1
            found = prints[slot]
            if not found:
                prints[slot] = print_
                known.append(False)
            elif found == print_:
                known.append(True)
            else:
                name = slot << 16 | print_
                known.append(name in displaced)
                displaced.add(name)
        return known


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

    def go_on_from(self, before: Questions) -> None:
        """Take over what has come in this run under an earlier SCHEMA of the stream."""
        self._greatest = max(filter(None, (self._greatest, before._greatest)), default=None)
        self._unnoted = self._greatest

    def about(self, versions: Sequence[bytes]) -> list[int]:
        """Return the positions of those that the journal may know; take all as met."""
        least, most = min(versions), max(versions)
        is_beyond = self._greatest is None or id_of(least) > self._greatest
        if is_beyond and not self._by_key and bookmark_of(least) != bookmark_of(most):
            last = bookmark_of(most)
            self._noted.note([version for version in versions if version >= last])
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
