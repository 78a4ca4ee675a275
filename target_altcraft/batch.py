"""Batches: entries gathered per stream until the next one would pass a budget.

Only the reader's thread fills batches. A batch that is handed over is never touched here again.
"""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass, field

from target_altcraft.codec import encode_json
from target_altcraft.errors import Rejection
from target_altcraft.origin import NO_ORIGIN, Origins

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from target_altcraft.delivery.limit import SizeLimit
    from target_altcraft.memory.judgement import Arrivals
    from target_altcraft.origin import Kind, Origin
    from target_altcraft.profile import Entry
    from target_altcraft.settings import StreamSettings

MAX_AGE_SECONDS = 60.0
"""A batch that has been open for longer is sent, full or not, so that STATE can move on."""

_ROOT_SETTINGS = (
    "skip_triggers",
    "skip_invalid_subscriptions",
    "detect_geo",
    "content",
    "custom_data",
    "attach",
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What stands around the entries in a request's body, as bytes."""

    start: bytes = field(repr=False)  # the token is in it
    end: bytes
    size: int
    """Bytes of a body without entries."""


def envelope(stream: StreamSettings, token: str) -> Envelope:
    """Return the envelope of a stream's requests (API: `import_and_start_batch_task`).

    With `custom_request`, `matching` is not sent: the guide allows the query only without it.
    """
    root: dict[str, t.Any] = {"token": token, "workflow_id": stream.workflow_id}
    if stream.matching != "custom_request":
        root["matching"] = stream.matching
    if stream.matching == "custom":
        root["field_name"] = stream.field_name
    for name in _ROOT_SETTINGS:
        value = getattr(stream, name)
        if value is not None:
            root[name] = value
    start, end = encode_json(root)[:-1] + b',"data":[', b"]}"
    return Envelope(start, end, len(start) + len(end))


@dataclass(slots=True)
class Batch:
    """Entries of one stream that go out together.

    `number` counts the batches of the run in the order in which they were opened. `identities`
    are the match values in it, of the kind that `space` names; two batches of one space that share
    a value hold records of one customer. `after` are the numbers of batches that hold an earlier
    record of one of its customers. `held` are the bytes that it keeps in memory: its body, and the
    tap's lines where the rejects file needs them. All its origins are of one kind. It is full with
    `most_rows` entries.
    """

    number: int
    stream: StreamSettings
    envelope: Envelope = field(repr=False)
    opened_at: float
    size: int
    held: int
    space: str = field(repr=False)
    entries: list[bytes] = field(default_factory=list, repr=False)
    origins: Origins = field(default_factory=Origins, repr=False)
    identities: set[str] = field(default_factory=set, repr=False)
    after: set[int] = field(default_factory=set)
    most_rows: int = 0

    def __str__(self) -> str:
        """Name the batch for a message."""
        return f"stream '{self.stream.name}', batch {self.number}"

    def shares_customer_with(self, other: Batch) -> bool:
        """Tell whether the two must not be in flight together."""
        return self.space == other.space and not self.identities.isdisjoint(other.identities)


def identity_space(stream: StreamSettings) -> str:
    """Return a name for the kind of identity that a stream's match values are.

    `email` and `email_profile` find the same profiles. A `custom_request` has no identity that
    could be compared, so all batches of such a stream are held to be of one customer.
    """
    if stream.matching in {"email", "email_profile"}:
        return "email"
    if stream.matching == "custom":
        return f"custom {stream.field_name}"
    if stream.matching == "custom_request":
        return f"custom_request {stream.name}"
    return stream.matching


class OpenBatches:
    """The batch that each stream is filling, within the budgets of rows and bytes.

    All open batches together hold at most one batch's bytes. Order per customer is kept by what is
    closed first: before a batch, those that hold an earlier record of one of its customers.

    Args:
        max_rows: Returns how many entries the next batch of a stream may have.
        limit: Most bytes of a body.
        token: API token, part of every body.
        next_number: Called when a batch is opened; returns its number.
        opened: Called with each batch before its first entry.
        hand_over: Called with each closed batch; may block.
    """

    def __init__(
        self,
        *,
        max_rows: Callable[[str], int],
        limit: SizeLimit,
        token: str,
        next_number: Callable[[], int],
        opened: Callable[[Batch], None],
        hand_over: Callable[[Batch], None],
    ) -> None:
        self._max_rows = max_rows
        self._limit = limit
        self._token = token
        self._next_number = next_number
        self._opened = opened
        self._hand_over = hand_over
        self._open: dict[str, Batch] = {}
        self._envelopes: dict[str, tuple[Envelope, str]] = {}
        self._held = 0

    def add(self, stream: StreamSettings, entry: Entry, origin: Origin = NO_ORIGIN) -> None:
        """Add an entry to its stream's batch; close first what it would overfill.

        Raises:
            Rejection: If no request could hold the entry.
        """
        body, identity = entry.body, entry.identity
        size = len(body) + 1  # with its comma
        held = size + len(origin.message)
        batch = self._open.get(stream.name)
        if batch is not None and batch.origins.kind is not origin.kind:
            self._close(batch)
            batch = None
        if (
            batch is None
            or len(self._open) > 1
            or batch.size + size > self._limit.bytes
            or batch.held + held > self._limit.maximum
        ):
            batch = self._with_room(stream, size, held, identity, origin.kind)
        batch.entries.append(body)
        batch.origins.append(origin)
        batch.identities.add(identity)
        batch.size += size
        batch.held += held
        self._held += held
        if len(batch.entries) == batch.most_rows:
            self._close(batch)

    def add_all(
        self,
        stream: StreamSettings,
        kind: Kind,
        arrivals: Arrivals,
        first: int,
        last: int,
    ) -> int:
        """Add records to their stream's batch at once, while that needs no decision.

        Args:
            stream: The stream's settings.
            kind: That of all the records.
            arrivals: Records that follow each other.
            first: Position of the first one to be added.
            last: Position behind the last one.

        Returns:
            How many, from the first one on, were added; `add` is for the one that comes next.
        """
        batch = self._open.get(stream.name)
        if batch is None or batch.origins.kind is not kind:
            return 0
        last = min(last, first + batch.most_rows - len(batch.entries) - 1)  # a full one is closed
        last = self._before_shared_customer(batch, arrivals, first, last)
        if first >= last:
            return 0
        bodies, messages = arrivals.bodies[first:last], arrivals.messages[first:last]
        size = sum(map(len, bodies)) + len(bodies)  # with their commas
        held = size + sum(map(len, messages))
        if batch.size + size > self._limit.bytes or self._held + held > self._limit.maximum:
            fitting = self._fitting(batch, bodies, messages)
            return self.add_all(stream, kind, arrivals, first, first + fitting)
        batch.entries += bodies
        batch.origins.extend(
            messages,
            arrivals.keys[first:last],
            arrivals.versions[first:last],
            arrivals.places[first:last],
        )
        batch.identities.update([entry.identity for entry in arrivals.entries[first:last]])
        batch.size += size
        batch.held += held
        self._held += held
        return len(bodies)

    def _fitting(self, batch: Batch, bodies: Sequence[bytes], messages: Sequence[bytes]) -> int:
        """Return how many of these records, from the first one on, pass no budget of bytes."""
        size, held = batch.size, self._held
        for number, (body, message) in enumerate(zip(bodies, messages, strict=True)):
            size += len(body) + 1
            held += len(body) + 1 + len(message)
            if size > self._limit.bytes or held > self._limit.maximum:
                return number
        return len(bodies)

    def _before_shared_customer(
        self, batch: Batch, arrivals: Arrivals, first: int, last: int
    ) -> int:
        """Return the position of the first record of which another open batch holds an earlier one.

        Returns:
            `last` if there is none.
        """
        others = [o for o in self._open.values() if o is not batch and o.space == batch.space]
        for position in range(first, last) if others else ():
            identity = arrivals.entries[position].identity
            if any(identity in other.identities for other in others):
                return position
        return last

    def _with_room(
        self, stream: StreamSettings, size: int, held: int, identity: str, kind: Kind
    ) -> Batch:
        """Return the batch that an entry goes to, after closing what must go out before it.

        Raises:
            Rejection: If no request could hold the entry.
        """
        known = self._envelopes.get(stream.name)
        if known is None:
            known = envelope(stream, self._token), identity_space(stream)
            self._envelopes[stream.name] = known
        alone = known[0].size + size - 1
        if alone > self._limit.maximum:
            raise Rejection(
                "too_large",
                f"a request with this record alone would have {alone} bytes, more than "
                f"batch_size_bytes ({self._limit.maximum})",
            )
        batch = self._open.get(stream.name)
        if batch and (
            batch.size + size > self._limit.bytes or batch.held + held > self._limit.maximum
        ):
            self._close(batch)
        while self._open and self._held + self._added(stream, held) > self._limit.maximum:
            self._close(max(self._open.values(), key=lambda batch: batch.held))
        batch = self._open.get(stream.name) or self._new(stream, kind, *known)
        while len(self._open) > 1 and self._must_close_first(batch, identity):
            batch = self._new(stream, kind, *known)
        return batch

    def close_aged(self) -> None:
        """Close the batches that have been open for longer than `MAX_AGE_SECONDS`."""
        oldest_allowed = time.monotonic() - MAX_AGE_SECONDS
        for batch in list(self._open.values()):
            if batch.opened_at <= oldest_allowed and self._open.get(batch.stream.name) is batch:
                self._close(batch)

    def close_all(self) -> None:
        """Close every batch, the oldest first."""
        while self._open:
            self._close(next(iter(self._open.values())))

    def close(self, name: str) -> None:
        """Close a stream's batch, if one is open."""
        if batch := self._open.get(name):
            self._close(batch)

    def _added(self, stream: StreamSettings, held: int) -> int:
        """Return the bytes that an entry adds to all open batches."""
        around, _ = self._envelopes[stream.name]
        return held if stream.name in self._open else around.size + held - 1

    def _new(self, stream: StreamSettings, kind: Kind, around: Envelope, space: str) -> Batch:
        batch = Batch(
            number=self._next_number(),
            stream=stream,
            envelope=around,
            opened_at=time.monotonic(),
            size=around.size - 1,  # the first entry has no comma
            held=around.size - 1,
            space=space,
            origins=Origins(kind),
            most_rows=self._max_rows(stream.name),
        )
        self._held += batch.held
        self._open[stream.name] = batch
        self._opened(batch)
        return batch

    def _must_close_first(self, batch: Batch, identity: str) -> bool:
        """Note which open batches hold earlier records of this customer.

        Returns:
            True if one of them must itself come after `batch`: both have been closed then, and the
            record belongs to a new batch.
        """
        for other in list(self._open.values()):
            if other is batch or other.space != batch.space or identity not in other.identities:
                continue
            if self._comes_after(other, batch):
                self._close(other)  # which closes `batch` before it
                return True
            batch.after.add(other.number)
        return False

    def _comes_after(self, later: Batch, earlier: Batch) -> bool:
        by_number = self._numbers()
        seen: set[int] = set()
        waiting = {later.number}
        while waiting:
            if earlier.number in waiting:
                return True
            seen |= waiting  # by as many ways as there are, each batch is looked at once
            followed = (by_number[number].after for number in waiting if number in by_number)
            waiting = set[int]().union(*followed) - seen
        return False

    def _numbers(self) -> dict[int, Batch]:
        return {batch.number: batch for batch in self._open.values()}

    def _close(self, batch: Batch) -> None:
        for number in sorted(batch.after):
            if earlier := self._numbers().get(number):
                self._close(earlier)
        del self._open[batch.stream.name]
        self._held -= batch.held
        self._hand_over(batch)
