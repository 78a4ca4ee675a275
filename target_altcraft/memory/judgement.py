"""What is asked of a stream's memory, and what it answers: plain data."""

from __future__ import annotations

import enum
import typing as t

import msgspec

from target_altcraft.origin import Origin

if t.TYPE_CHECKING:
    from collections.abc import Mapping

    from target_altcraft.memory.sent import Leftover
    from target_altcraft.origin import Kind
    from target_altcraft.profile import Entry


class Arrival(msgspec.Struct, gc=False):
    """A record that could be sent now."""

    source_key: t.Any
    """What stands for the key of the tap's record."""
    bookmark: t.Any
    """Of the tap's record; None if there is none."""
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
    version: bytes = b""
    """Made when the record's lot is judged: much faster for many at once."""

    def origin(self, kind: Kind) -> Origin:
        """Return what is kept of it until its outcome is known.

        Args:
            kind: That of its stream's records.
        """
        return Origin(self.message, self.key, self.version, self.place, kind)


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
