"""One line for each delivered profile."""

from __future__ import annotations

import datetime as dt
import typing as t

from target_altcraft.codec import encode_each, encode_text, rfc3339
from target_altcraft.files import JsonLines

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from target_altcraft.settings import StreamSettings

_LOT = 1000
"""So many lines are put together at once."""


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
        keys: Sequence[bytes],
        profile_ids: Sequence[str | None],
    ) -> None:
        """Write a line for each profile; they are on disk when this returns.

        Args:
            stream: The stream's settings.
            task_id: The task that imported the profiles.
            keys: The key properties of each as JSON.
            profile_ids: Of each; None if Altcraft does not tell it.

        Raises:
            OutputError: If they cannot be written.
        """
        now = rfc3339(dt.datetime.now(dt.timezone.utc), "milliseconds")
        start = b'{"stream":' + encode_text(stream.name) + b',"key":'
        where = encode_text({"workflow_id": stream.workflow_id, "task_id": task_id})
        middle = b"," + where[1:-1] + b',"profile_id":'
        end = b',"delivered_at":' + encode_text(now) + b"}"
        told = [key + middle + id_ for key, id_ in zip(keys, encode_each(profile_ids), strict=True)]
        self._file.append(
            start + (end + b"\n" + start).join(told[first : first + _LOT]) + end
            for first in range(0, len(told), _LOT)
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()
