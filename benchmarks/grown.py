"""Write a journal that remembers millions: those of another one, and around them made-up ones.

The command line names the new file, the other one, the number of its first customer, and how many
the new one is to remember. They are added in the order of their bookmarks, as years of runs would
add them.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import typing as t
from contextlib import closing
from itertools import chain

from benchmarks.customers import updated_at
from target_altcraft.memory.journal import Journal
from target_altcraft.memory.remembered import Remembered
from target_altcraft.memory.versions import BOOKMARK_BYTES, VERSION_BYTES, bookmark_bytes

if t.TYPE_CHECKING:
    from collections.abc import Iterator

_LOT = 100_000
_MICROSECONDS = 1_000_000
_SEED = 21


def write(path: str, other: str, first: int, count: int) -> None:
    """Write the journal.

    Args:
        path: The new file.
        other: A journal of one stream, whose versions have bookmarks without a gap.
        first: Number of its first customer.
        count: How many the new one is to remember.
    """
    with closing(sqlite3.connect(other)) as db:
        ((name, mapping),) = db.execute(
            "SELECT name, digest FROM stream JOIN mapping ON mapping.stream = stream.id"
        ).fetchall()
        known = [id_ + entry for id_, entry in db.execute("SELECT id, entry FROM version")]
    dice = random.Random(_SEED)
    journal = Journal(path)
    remembered = Remembered(journal)
    row = remembered.stream(name, mapping, by_key=False)
    for versions in chain(
        _made_up(dice, range(1, first)),
        [b"".join(known)],
        _made_up(dice, range(first + len(known), count + 1)),
    ):
        remembered.remember(row.id, row.mapping, versions, b"", by_key=False)
        with journal.durable():  # what `remember` has begun
            pass
    journal.close()


def _made_up(dice: random.Random, numbers: range) -> Iterator[bytes]:
    """Yield lots of versions of customers, whose digests of key and entry are made up."""
    bookmark = int.from_bytes(bookmark_bytes(updated_at(0)), "big")
    size = VERSION_BYTES - BOOKMARK_BYTES
    for begin in range(0, len(numbers), _LOT):
        lot = numbers[begin : begin + _LOT]
        digests = dice.randbytes(size * len(lot))
        yield b"".join(
            (bookmark + number * _MICROSECONDS).to_bytes(BOOKMARK_BYTES, "big")
            + digests[position * size : (position + 1) * size]
            for position, number in enumerate(lot)
        )


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
