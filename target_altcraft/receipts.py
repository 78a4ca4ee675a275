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
        ids = encode_each(profile_ids)
        self._file.append(
            _lines(start, keys[first : first + _LOT], middle, ids[first : first + _LOT], end)
            for first in range(0, len(keys), _LOT)
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _lines(
    start: bytes, keys: Sequence[bytes], middle: bytes, ids: Sequence[bytes], end: bytes
) -> bytes:
    """Return a line for each key and id, without the end of the last."""
    # Much faster than line by line.
    pieces = [middle] * (4 * len(keys))
    pieces[0::4] = keys
    pieces[2::4] = ids
    pieces[3::4] = [end + b"\n" + start] * len(keys)
    pieces[-1] = end
    return start + b"".join(pieces)
