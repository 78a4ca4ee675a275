"""One line for each delivered profile."""

from __future__ import annotations

import datetime as dt
import typing as t
from operator import itemgetter

from target_altcraft.codec import encode_each, encode_lines, encode_text, rfc3339
from target_altcraft.files import JsonLines

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from target_altcraft.settings import StreamSettings

_LOT = 500
"""So many lines are put together at once: few enough to use the memory of the last ones again."""


class KeyWriter:
    """Writes the key properties of one stream's records as JSON.

    ::

        writer = KeyWriter(["id"])
        writer.write_one(record)
        writer.write([writer.key(record) for record in records])  # much faster for many

    `key` returns what stands for a mapped record's key until it is written.

    Args:
        names: The key properties.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._start = self._end = b""
        self.key: Callable[[Mapping[str, t.Any]], t.Any] = self._object
        if len(names) == 1:  # the usual case, without an object for each record
            self._start, self._end = b"{" + encode_text(names[0]) + b":", b"}"
            self.key = itemgetter(names[0])

    def _object(self, record: Mapping[str, t.Any]) -> dict[str, t.Any]:
        return {name: record[name] for name in self._names}

    def write_one(self, record: Mapping[str, t.Any]) -> bytes:
        """Return the key of a mapped record as a JSON object.

        Raises:
            RecursionError: If it is nested too deeply.
        """
        return self._start + encode_text(self.key(record)) + self._end

    def write(self, keys: Sequence[t.Any]) -> list[bytes]:
        """Return each of these as a JSON object, with null for what is nested too deeply."""
        between = self._end + b"\n" + self._start
        return (self._start + encode_lines(keys).replace(b"\n", between)).split(b"\n")[:-1]


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
        self._file.append(
            _lines(
                start,
                keys[first : first + _LOT],
                middle,
                encode_each(profile_ids[first : first + _LOT]),
                end,
            )
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
