"""What became of the records, counted per stream."""

from __future__ import annotations

import threading
import typing as t
from collections import Counter


class Summary:
    """Counts per output stream: read = delivered + rejected + skipped, unless the run fails.

    The lock guards the counters, which the reader and the workers add to.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: dict[str, Counter[str]] = {}

    def add(self, stream: str, what: t.Literal["read", "delivered"], number: int = 1) -> None:
        """Count records of a stream as read or delivered."""
        with self._lock:
            self._streams.setdefault(stream, Counter())[what] += number

    def skip(self, stream: str, reason: str, number: int = 1) -> None:
        """Count records of a stream that are not sent, by reason."""
        with self._lock:
            self._streams.setdefault(stream, Counter())[f"skipped, {reason}"] += number

    def reject(self, stream: str, reason: str, number: int = 1) -> None:
        """Count records of a stream that cannot be delivered, by reason."""
        with self._lock:
            self._streams.setdefault(stream, Counter())[f"rejected, {reason}"] += number

    def total(self, what: t.Literal["read", "delivered"]) -> int:
        """Return a count over all streams."""
        with self._lock:
            return sum(counts[what] for counts in self._streams.values())

    def streams(self) -> dict[str, Counter[str]]:
        """Return the counts of each stream, in the order in which the streams came."""
        with self._lock:
            return {stream: counts.copy() for stream, counts in self._streams.items()}

    def lines(self) -> list[str]:
        """Return one line per stream, in the order in which the streams came."""
        return [
            f"stream '{stream}': "
            + ", ".join(f"{number} {what}" for what, number in counts.items())
            for stream, counts in self.streams().items()
        ]
