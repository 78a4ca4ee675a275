"""What a dry run would have sent."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from target_altcraft.errors import TargetError

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
    """Counts the batches that a dry run does not send.

    Args:
        most: Setting `max_rejects`; None if unlimited.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._streams: dict[str, _Stream] = {}
        self._rejects = 0

    def add(self, batch: Batch) -> None:
        """Count a batch that would go out now."""
        stream = self._streams.setdefault(batch.stream.name, _Stream())
        stream.profiles += len(batch.entries)
        stream.batches += 1
        stream.bytes += batch.size
        stream.largest = max(stream.largest, batch.size)

    def reject(self) -> None:
        """Count a record that would be set aside.

        Raises:
            TargetError: If there are more than `max_rejects`.
        """
        self._rejects += 1
        if self._most is not None and self._rejects > self._most:
            raise TargetError(f"more than max_rejects ({self._most}) records would be rejected")

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
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "dry run: "
            + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
