"""Where entries came from: kept until their outcome is known, and only what a setting needs."""

from __future__ import annotations

import typing as t
from array import array
from bisect import bisect_right
from dataclasses import dataclass, field

import msgspec

from target_altcraft.memory.versions import VERSION_BYTES

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from target_altcraft.settings import SendAgain


class Kind(t.NamedTuple):
    """By what the journal tells records of a stream from each other.

    It is fixed when a record comes, whatever a later SCHEMA says. Records of one route share one.
    """

    mapping: int
    """Number by which the journal knows how the stream's records become entries."""
    send_again: SendAgain
    """When a key that was delivered goes out again."""
    has_key: bool
    """Whether the stream's records have key properties."""
    bookmark: str | None
    """Their one bookmark column; None if there is none, or several."""

    @property
    def is_counted(self) -> bool:
        """Whether equal records are told apart by their places."""
        return self.send_again == "always" or not self.has_key


NO_KIND = Kind(0, "always", has_key=False, bookmark=None)
"""Of a run without a journal."""


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where one entry came from."""

    message: bytes = b""
    """The RECORD message as the tap sent it, for the rejects file."""
    key: bytes = b""
    """The key properties as JSON, for the receipts file."""
    version: bytes = b""
    """Digest of the record's version, for the journal."""
    place: int = 0
    """The record's place in the input; the first record has place 1."""
    kind: Kind = NO_KIND


NO_ORIGIN = Origin()
"""Of every entry of a run that needs none."""


class Lines:
    """Many lines in a few blocks: objects that wait push others out of the processor's cache."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._ends: list[int] = []  # so many lines stand in the blocks up to each

    def append(self, line: bytes) -> None:
        """Add a line, without its end."""
        self._ends.append(len(self) + 1)
        self._blocks.append(line)

    def extend(self, lines: Sequence[bytes]) -> None:
        """Add lines, without their ends."""
        if lines:
            self._ends.append(len(self) + len(lines))
            self._blocks.append(b"\n".join(lines))

    def __len__(self) -> int:
        """Return how many they are."""
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, position: int) -> bytes:
        """Return the line at a position."""
        block = bisect_right(self._ends, position)
        lines = self._blocks[block].split(b"\n")
        return lines[position - self._ends[block]]

    def part(self, first: int, last: int) -> Lines:
        """Return those from one position up to another."""
        part = Lines()
        part.extend(b"\n".join(self._blocks).split(b"\n")[first:last])
        return part


@dataclass(slots=True)
class Origins:
    """Where the entries of a batch came from, in columns: far cheaper than an object for each.

    All are of one kind. A run that needs no origins leaves the columns empty.
    """

    kind: Kind = NO_KIND
    messages: Lines = field(default_factory=Lines)
    keys: list[bytes] = field(default_factory=list)
    versions: bytearray = field(default_factory=bytearray)
    places: array[int] = field(default_factory=lambda: array("Q"))

    def __getitem__(self, position: int) -> Origin:
        """Return where the entry at a position came from."""
        if not self.places:
            return NO_ORIGIN
        version = position * VERSION_BYTES
        return Origin(
            self.messages[position],
            self.keys[position],
            bytes(self.versions[version : version + VERSION_BYTES]),
            self.places[position],
            self.kind,
        )

    def append(self, origin: Origin) -> None:
        """Add the origin of an entry."""
        if origin is not NO_ORIGIN:
            self.messages.append(origin.message)
            self.keys.append(origin.key)
            self.versions += origin.version
            self.places.append(origin.place)

    def extend(
        self,
        messages: Sequence[bytes],
        keys: Sequence[bytes],
        versions: Sequence[bytes],
        places: Sequence[int],
    ) -> None:
        """Add the origins of entries: the columns of `Origin`."""
        self.messages.extend(messages)
        self.keys.extend(keys)
        self.versions += b"".join(versions)
        self.places.extend(places)

    def part(self, first: int, last: int) -> Origins:
        """Return those from one position up to another."""
        return Origins(
            self.kind,
            self.messages.part(first, last),
            self.keys[first:last],
            self.versions[first * VERSION_BYTES : last * VERSION_BYTES],
            self.places[first:last],
        )
