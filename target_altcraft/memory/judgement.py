"""What is asked of a stream's memory, and what it answers: plain data."""

from __future__ import annotations

import enum
import typing as t
from dataclasses import dataclass

from target_altcraft.origin import Origin

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from target_altcraft.memory.sent import Leftover
    from target_altcraft.origin import Kind
    from target_altcraft.profile import Entry


class Arrival(t.NamedTuple):
    """A record that could be sent now."""

    version: bytes
    record: Mapping[str, t.Any] | None
    """As the tap sent it, where its stream's memory needs it."""
    entry: Entry
    message: bytes
    """The RECORD message as the tap sent it, where the rejects file wants it."""
    key: bytes
    """The key properties as JSON, where the receipts file wants them."""
    place: int
    """The record's place in the input."""
    line_number: int
    """Where its message stands in the input."""
    rejection: Mapping[str, t.Any] | None
    """What a replayed reject was rejected for; None for any other record."""

    def origin(self, kind: Kind) -> Origin:
        """Return what is kept of it until its outcome is known.

        Args:
            kind: That of its stream's records.
        """
        return Origin(self.message, self.key, self.version, self.place, kind)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Records of one stream that could be sent now, in columns; `bodies` are of the entries."""

    versions: Sequence[bytes]
    bodies: Sequence[bytes]
    records: Sequence[Mapping[str, t.Any] | None]
    entries: Sequence[Entry]
    messages: Sequence[bytes]
    keys: Sequence[bytes]
    places: Sequence[int]
    line_numbers: Sequence[int]
    rejections: Sequence[Mapping[str, t.Any] | None]

    def __len__(self) -> int:
        """Return how many they are."""
        return len(self.versions)

    def __getitem__(self, position: int) -> Arrival:
        """Return the one at a position."""
        return Arrival(
            self.versions[position],
            self.records[position],
            self.entries[position],
            self.messages[position],
            self.keys[position],
            self.places[position],
            self.line_numbers[position],
            self.rejections[position],
        )

    def each(self) -> list[Arrival]:
        """Return all of them one by one."""
        return [self[position] for position in range(len(self))]


class Verdict(enum.Enum):
    """What is to become of a record."""

    SEND = "send"
    DELIVERED_BEFORE = "delivered before"
    NOT_CHANGED = "not changed"
    REJECTED_BEFORE = "rejected before"
    BASELINE = "baseline"
    FAULT = "fault"  # an earlier run's task did not import it
    DOUBT = "doubt"  # an earlier run may have sent it
    WAIT = "wait"  # its key is in flight: that outcome decides


class Judgement(t.NamedTuple):
    """A verdict, and the leftover that it is about, if it is about one."""

    verdict: Verdict
    leftover: Leftover | None = None
    position: int = 0
    received: tuple[tuple[Leftover, int], ...] = ()
    """What earlier runs delivered of its key without a receipt: leftover and position."""


SEND = Judgement(Verdict.SEND)
DELIVERED_BEFORE = Judgement(Verdict.DELIVERED_BEFORE)
