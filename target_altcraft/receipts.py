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
        delivered: Iterable[tuple[bytes, str | None]],
    ) -> None:
        """Write a line for each profile; they are on disk when this returns.

        Args:
            stream: The stream's settings.
            task_id: The task that imported the profiles.
            delivered: Key properties of each as JSON, and its profile id; None if Altcraft does
                not tell it.

        Raises:
            OutputError: If they cannot be written.
        """
        now = rfc3339(dt.datetime.now(dt.timezone.utc), "milliseconds")
        start = b'{"stream":' + encode_text(stream.name) + b',"key":'
        where = encode_text({"workflow_id": stream.workflow_id, "task_id": task_id})
        middle = b"," + where[1:-1] + b',"profile_id":'
        end = b',"delivered_at":' + encode_text(now) + b"}"
        self._file.append(
            start + key + middle + encode_text(profile_id) + end for key, profile_id in delivered
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()
