"""What became of the records, counted per stream."""

from __future__ import annotations

import logging
import threading
import typing as t
from collections import Counter
from dataclasses import dataclass, field

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_UNHEARD = (
    "the scenario reaches only those whose profile has one already. To subscribe them, set "
    "subscriptions"
)


DELETED = "deleted at the source"
DROPPED = "dropped by the stream map"
NO_STREAM = "no such output stream"
REJECTED_BEFORE = "rejected before"
_NO_PROFILES = (DELETED, DROPPED, NO_STREAM)
"""Why a record is skipped that was never to become a profile."""


class Shares(t.NamedTuple):
    """What a stream is judged by: how many profiles came, and what is known of them.

    `rejected` counts those that an earlier run rejected as well; `good` are those that need not be
    sent, because they were delivered before, say. `reason` is the most frequent one of the
    rejected, empty if there is none.
    """

    profiles: int
    delivered: int
    rejected: int
    good: int
    reason: str


@dataclass(slots=True)
class StreamCounts:
    """The counts of one output stream; `rejected`, `skipped` and `in_doubt` are by reason.

    `in_doubt` and `not_sent` account for the rest of what a failed run read. `subscribed` and
    `unsubscribed` count the profiles that were batched, by whether they carried any subscription.
    """

    read: int = 0
    delivered: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    resent: int = 0
    subscribed: int = 0
    unsubscribed: int = 0
    in_doubt: Counter[str] = field(default_factory=Counter)
    not_sent: int = 0

    def parts(self) -> list[str]:
        """Return the counts as `what: number`, those that are nought left out."""
        counts = {"delivered": self.delivered}
        counts |= {f"rejected, {reason}": number for reason, number in self.rejected.items()}
        counts |= {f"skipped, {reason}": number for reason, number in self.skipped.items()}
        counts |= {f"in doubt, {reason}": number for reason, number in self.in_doubt.items()}
        counts["not sent"] = self.not_sent
        counts["sent again, outcome unknown"] = self.resent
        return [f"{what}: {number}" for what, number in counts.items() if number]

    def as_dict(self) -> dict[str, t.Any]:
        """Return the counts for JSON."""
        return {
            "read": self.read,
            "delivered": self.delivered,
            "rejected": dict(self.rejected),
            "skipped": dict(self.skipped),
            "in_doubt": dict(self.in_doubt),
            "not_sent": self.not_sent,
            "resent": self.resent,
            "with_subscription": self.subscribed,
            "without_subscription": self.unsubscribed,
        }


class Summary:
    """Counts per output stream: read = delivered + rejected + skipped, unless the run fails.

    Of a run that failed, read = delivered + rejected + skipped + in doubt + not sent.

    `read`, `subscribed` and `batched` belong to the reader's thread. The lock guards the other
    counts, which the workers add to as well.
    """

    def __init__(self) -> None:
        self.read: Counter[str] = Counter()
        self.subscribed: Counter[str] = Counter()
        self.batched: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._others: dict[str, StreamCounts] = {}
        self._has_failed = False

    def deliver(self, stream: str, number: int) -> None:
        """Count profiles that were imported."""
        with self._lock:
            self._counts(stream).delivered += number

    def skip(self, stream: str, reason: str, number: int = 1) -> None:
        """Count records that are not sent."""
        with self._lock:
            self._counts(stream).skipped[reason] += number

    def reject(self, stream: str, reason: str) -> None:
        """Count a record that cannot be delivered."""
        with self._lock:
            self._counts(stream).rejected[reason] += 1

    def resend(self, stream: str, number: int) -> None:
        """Count profiles that are sent again after an unknown outcome."""
        with self._lock:
            self._counts(stream).resent += number

    def doubt(self, stream: str, reason: str) -> None:
        """Count a record of which nobody knows whether it was imported."""
        with self._lock:
            self._counts(stream).in_doubt[reason] += 1

    def account(self, in_doubt: Mapping[str, Counter[str]]) -> None:
        """Account for what a failed run leaves: the rest of what was read was not sent.

        Args:
            in_doubt: By stream, the number of records of which nobody knows whether they were
                imported, by reason.
        """
        with self._lock:
            self._has_failed = True
            for stream, reasons in in_doubt.items():
                self._counts(stream).in_doubt.update(reasons)

    def rejected(self) -> Counter[str]:
        """Return the number of rejected records of all streams, by reason."""
        with self._lock:
            return sum((counts.rejected for counts in self._others.values()), Counter[str]())

    def rejected_now_or_before(self) -> int:
        """Return the number of records that this run rejected, or an earlier one did."""
        with self._lock:
            return sum(
                counts.rejected.total() + counts.skipped[REJECTED_BEFORE]
                for counts in self._others.values()
            )

    def _counts(self, stream: str) -> StreamCounts:
        return self._others.setdefault(stream, StreamCounts())

    def rejecting(self) -> list[str]:
        """Return the streams of which something was rejected, now or before."""
        with self._lock:
            return [
                stream
                for stream, counts in self._others.items()
                if counts.rejected or counts.skipped[REJECTED_BEFORE]
            ]

    def shares(self, stream: str) -> Shares:
        """Return what a stream is judged by."""
        with self._lock:
            counts = self._counts(stream)
            skipped = counts.skipped
            before = skipped[REJECTED_BEFORE]
            no_profiles = sum(skipped[reason] for reason in _NO_PROFILES)
            reasons = counts.rejected + Counter({REJECTED_BEFORE: before})
            return Shares(
                profiles=self.read[stream] - no_profiles,
                delivered=counts.delivered,
                rejected=reasons.total(),
                good=skipped.total() - no_profiles - before,
                reason=next((reason for reason, _ in reasons.most_common(1)), ""),
            )

    def delivered(self) -> int:
        """Return the number of imported profiles of all streams."""
        with self._lock:
            return sum(counts.delivered for counts in self._others.values())

    def streams(self) -> dict[str, StreamCounts]:
        """Return a copy of the counts, in the order in which the streams came."""
        with self._lock:
            return {stream: self._copy(stream, read) for stream, read in self.read.items()}

    def _copy(self, stream: str, read: int) -> StreamCounts:
        counts = self._others.get(stream, StreamCounts())
        by_reason = (counts.rejected, counts.skipped, counts.in_doubt)
        known = counts.delivered + sum(counter.total() for counter in by_reason)
        return StreamCounts(
            read,
            counts.delivered,
            counts.rejected.copy(),
            counts.skipped.copy(),
            counts.resent,
            self.subscribed[stream],
            self.batched[stream] - self.subscribed[stream],
            counts.in_doubt.copy(),
            max(0, read - known) if self._has_failed else 0,
        )

    def lines(self) -> list[str]:
        """Return one line per stream."""
        return [
            f"stream '{stream}': " + "; ".join([f"read: {counts.read}", *counts.parts()])
            for stream, counts in self.streams().items()
        ]

    def subscription_lines(self) -> Iterator[tuple[int, str]]:
        """Yield what is to be said of the subscriptions that each stream's profiles carried.

        Altcraft sends messages to subscriptions; a profile's e-mail and phones "are not used for
        communications" (user guide).

        Yields:
            The level of a log line and its text, for each stream of which profiles were batched: a
            warning if none of them carried any.
        """
        for stream, counts in self.streams().items():
            if counts.subscribed:
                text = f"profiles with a subscription: {counts.subscribed}"
                yield logging.INFO, f"stream '{stream}': {text}; without: {counts.unsubscribed}"
            elif counts.unsubscribed:
                text = f"none of its {counts.unsubscribed} profiles carried a subscription"
                yield logging.WARNING, f"stream '{stream}': {text}; {_UNHEARD}"
