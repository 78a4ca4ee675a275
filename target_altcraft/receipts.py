"""One line for each delivered profile."""

from __future__ import annotations

import datetime as dt
import typing as t

from target_altcraft.codec import encode_text, rfc3339
from target_altcraft.files import JsonLines

if t.TYPE_CHECKING:
    from collections.abc import Iterable

    from target_altcraft.settings import StreamSettings


class Receipts:
    """The receipts file.

    Args:
        path: Setting `receipts_path`.
    """

    def __init__(self, path: str) -> None:
        self._file = JsonLines(path, "receipts_path")

    def add(
        self,
        stream: StreamSettings,
        task_id: str | None,
        delivered: Iterable[tuple[dict[str, t.Any], str | None]],
    ) -> None:
        """Write a line for each profile; they are on disk when this returns.

        Args:
            stream: The stream's settings.
            task_id: The task that imported the profiles.
            delivered: Key properties and profile id of each; None if Altcraft does not tell it.

        Raises:
            OutputError: If they cannot be written.
        """
        now = rfc3339(dt.datetime.now(dt.timezone.utc), "milliseconds")
        self._file.append(
            encode_text(
                {
                    "stream": stream.name,
                    "key": key,
                    "workflow_id": stream.workflow_id,
                    "task_id": task_id,
                    "profile_id": profile_id,
                    "delivered_at": now,
                }
            )
            for key, profile_id in delivered
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()
