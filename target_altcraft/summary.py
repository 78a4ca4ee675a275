"""What became of the records, counted per stream."""

from __future__ import annotations

import threading
import typing as t
from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class StreamCounts:
    """The counts of one output stream; `rejected` and `skipped` are by reason."""

    read: int = 0
    delivered: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    resent: int = 0

    def parts(self) -> list[str]:
        """Return the counts as `what: number`, those that are nought left out."""
        counts = {"delivered": self.delivered}
        counts |= {f"rejected, {reason}": number for reason, number in self.rejected.items()}
        counts |= {f"skipped, {reason}": number for reason, number in self.skipped.items()}
        counts["sent again, outcome unknown"] = self.resent
        return [f"{what}: {number}" for what, number in counts.items() if number]

    def as_dict(self) -> dict[str, t.Any]:
        """Return the counts for JSON."""
        return {
            "read": self.read,
            "delivered": self.delivered,
            "rejected": dict(self.rejected),
            "skipped": dict(self.skipped),
            "resent": self.resent,
        }


class Summary:
    """Counts per output stream: read = delivered + rejected + skipped, unless the run fails.

    `read` belongs to the reader's thread. The lock guards the other counts, which the workers add
    to as well.
    """

    def __init__(self) -> None:
        self.read: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._others: dict[str, StreamCounts] = {}

    def deliver(self, stream: str, number: int) -> None:
        """Count profiles that were imported."""
        with self._lock:
            self._counts(stream).delivered += number

    def skip(self, stream: str, reason: str) -> None:
        """Count a record that is not sent."""
        with self._lock:
            self._counts(stream).skipped[reason] += 1

    def reject(self, stream: str, reason: str) -> None:
        """Count a record that cannot be delivered."""
        with self._lock:
            self._counts(stream).rejected[reason] += 1

    def resend(self, stream: str, number: int) -> None:
        """Count profiles that are sent again after an unknown outcome."""
        with self._lock:
            self._counts(stream).resent += number

    def _counts(self, stream: str) -> StreamCounts:
        return self._others.setdefault(stream, StreamCounts())

    def delivered(self) -> int:
        """Return the number of imported profiles of all streams."""
        with self._lock:
            return sum(counts.delivered for counts in self._others.values())

    def streams(self) -> dict[str, StreamCounts]:
        """Return a copy of the counts, in the order in which the streams came."""
        with self._lock:
            return {
                stream: StreamCounts(
                    read,
                    counts.delivered,
                    counts.rejected.copy(),
                    counts.skipped.copy(),
                    counts.resent,
                )
                for stream, read in self.read.items()
                for counts in [self._others.get(stream, StreamCounts())]
            }

    def lines(self) -> list[str]:
        """Return one line per stream."""
        return [
            f"stream '{stream}': " + "; ".join([f"read: {counts.read}", *counts.parts()])
            for stream, counts in self.streams().items()
        ]
