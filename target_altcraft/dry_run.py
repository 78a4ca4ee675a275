"""What a dry run would have sent."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from target_altcraft.messages import columns

if t.TYPE_CHECKING:
    from target_altcraft.batch import Batch
    from target_altcraft.summary import Summary


@dataclass(slots=True)
class _Stream:
    profiles: int = 0
    batches: int = 0
    bytes: int = 0
    largest: int = 0


class DryRun:
    """Counts the batches that a dry run does not send."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}

    def add(self, batch: Batch) -> None:
        """Count a batch that would go out now."""
        stream = self._streams.setdefault(batch.stream.name, _Stream())
        stream.profiles += len(batch.entries)
        stream.batches += 1
        stream.bytes += batch.size
        stream.largest = max(stream.largest, batch.size)

    def table(self, summary: Summary) -> list[str]:
        """Return the lines of a table with one row per stream."""
        rows: list[tuple[str, ...]] = [
            (
                "stream",
                "read",
                "profiles",
                "subscribed",
                "batches",
                "bytes",
                "largest batch",
                "not sent",
            )
        ]
        for name, counts in summary.streams().items():
            stream = self._streams.get(name, _Stream())
            numbers = (
                counts.read,
                stream.profiles,
                counts.subscribed,
                stream.batches,
                stream.bytes,
                stream.largest,
            )
            others = "; ".join(counts.parts())
            rows.append((name, *map(str, numbers), others or "-"))
        return [f"dry run: {line}" for line in columns(rows)]
