"""Where entries came from: kept until their outcome is known, and only what a setting needs."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

import msgspec

if t.TYPE_CHECKING:
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


@dataclass(slots=True)
class Origins:
    """Where the entries of a batch came from, in columns: far cheaper than an object for each.

    All are of one kind. A run that needs no origins leaves the columns empty.
    """

    kind: Kind = NO_KIND
    messages: list[bytes] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    versions: list[bytes] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def __getitem__(self, position: int) -> Origin:
        """Return where the entry at a position came from."""
        if not self.places:
            return NO_ORIGIN
        return Origin(
            self.messages[position],
            self.keys[position],
            self.versions[position],
            self.places[position],
            self.kind,
        )

    def append(self, origin: Origin) -> None:
        """Add the origin of an entry."""
        if origin is not NO_ORIGIN:
            self.messages.append(origin.message)
            self.keys.append(origin.key)
            self.versions.append(origin.version)
            self.places.append(origin.place)

    def part(self, first: int, last: int) -> Origins:
        """Return those from one position up to another."""
        return Origins(
            self.kind,
            self.messages[first:last],
            self.keys[first:last],
            self.versions[first:last],
            self.places[first:last],
        )
