"""Records that cannot be delivered, set aside so that they can be mended and replayed."""

from __future__ import annotations

import datetime as dt
import threading
import typing as t

import msgspec

from target_altcraft.codec import decode_json, encode_json
from target_altcraft.files import JsonLines

IN_DOUBT = "in_doubt"
"""Code of a reject that may have been accepted by an earlier attempt."""


class Reject(msgspec.Struct, frozen=True):
    """One record that is set aside.

    `message` is the RECORD message as the tap sent it, before stream maps; `stream` the output
    stream that rejects it; `reason` may quote the server, for this file alone.
    """

    message: bytes
    stream: str
    code: str
    reason: str
    task_id: str | None = None


class Rejects:
    """The rejects file: valid Singer messages, each stream's SCHEMA before its first record.

    Its lock guards the schemas already written, and keeps each before its records.

    Args:
        path: Setting `rejects_path`.
    """

    def __init__(self, path: str) -> None:
        self._file = JsonLines(path, "rejects_path")
        self._schemas: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def schema(self, tap_stream: str, message: bytes) -> None:
        """Remember a SCHEMA message as the tap sent it; it is written when a record needs it."""
        with self._lock:
            self._schemas[tap_stream] = message

    def add(self, rejects: list[Reject]) -> None:
        """Set records aside; they are on disk when this returns.

        Raises:
            OutputError: If they cannot be written.
        """
        now = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
        lines: list[bytes] = []
        with self._lock:
            for reject in rejects:
                message = decode_json(reject.message)
                if schema := self._schemas.pop(message["stream"], None):
                    lines.append(schema.strip())
                message["rejection"] = {
                    "reason": reject.reason,
                    "code": reject.code,
                    "stream": reject.stream,
                    "task_id": reject.task_id,
                    "at": now,
                }
                lines.append(encode_json(message))
            self._file.append(lines)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def rejection_of(message: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any] | None:
    """Return what a replayed record was rejected for; None for any other record."""
    rejection = message.get("rejection")
    return rejection if isinstance(rejection, dict) else None
