"""Records that cannot be delivered, set aside so that they can be mended and replayed."""

from __future__ import annotations

import datetime as dt
import threading
import typing as t

import msgspec

from target_altcraft.codec import decode_json, encode_json
from target_altcraft.errors import TargetError
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

    Its lock guards the number of rejects and the schemas already written.

    Args:
        path: Setting `rejects_path`.
        most: Setting `max_rejects`; None if unlimited.
    """

    def __init__(self, path: str, most: int | None) -> None:
        self._file = JsonLines(path, "rejects_path")
        self._most = most
        self._number = 0
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
            self._number += len(rejects)
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

    def count_before(self) -> None:
        """Count a record that an earlier run rejected, just as it is."""
        with self._lock:
            self._number += 1

    def check(self) -> None:
        """Make sure that there are not too many.

        Raises:
            TargetError: If there are more than `max_rejects` in this run.
        """
        number = self._number
        if self._most is not None and number > self._most:
            raise TargetError(
                f"{number} records were rejected, more than max_rejects ({self._most}): "
                f"rather a wrong setting than bad records. They stand in {self._file.path}; "
                "STATE stays before those of the last batch"
            )

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def rejection_of(message: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any] | None:
    """Return what a replayed record was rejected for; None for any other record."""
    rejection = message.get("rejection")
    return rejection if isinstance(rejection, dict) else None
