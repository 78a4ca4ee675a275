"""What became of the records, counted per stream."""

from __future__ import annotations

import threading
from collections import Counter


class Summary:
    """Counts per output stream: read = delivered + rejected + skipped, unless the run fails.

    `read` belongs to the reader's thread. The lock guards the other counters, which the workers add
    to as well.
    """

    def __init__(self) -> None:
        self.read: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._others: dict[str, Counter[str]] = {}

    def deliver(self, stream: str, number: int) -> None:
        """Count profiles that were imported."""
        self._count(stream, "delivered", number)

    def skip(self, stream: str, reason: str) -> None:
        """Count a record that is not sent, by reason."""
        self._count(stream, f"skipped, {reason}", 1)

    def reject(self, stream: str, reason: str) -> None:
        """Count a record that cannot be delivered, by reason."""
        self._count(stream, f"rejected, {reason}", 1)

    def _count(self, stream: str, what: str, number: int) -> None:
        with self._lock:
            self._others.setdefault(stream, Counter())[what] += number

    def delivered(self) -> int:
        """Return the number of imported profiles of all streams."""
        with self._lock:
            return sum(counts["delivered"] for counts in self._others.values())

    def streams(self) -> dict[str, dict[str, int]]:
        """Return the counts of each stream, in the order in which the streams came."""
        with self._lock:
            return {
                stream: {"read": read, **self._others.get(stream, {})}
                for stream, read in self.read.items()
            }

    def lines(self) -> list[str]:
        """Return one line per stream."""
        return [
            f"stream '{stream}': " + "; ".join(f"{what}: {n}" for what, n in counts.items())
            for stream, counts in self.streams().items()
        ]
