"""Records that cannot be delivered, set aside so that they can be mended and replayed."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import typing as t

import msgspec

from target_altcraft.codec import decode_json, encode_text, members, rfc3339
from target_altcraft.files import JsonLines

_BLANKS = b" \t\r\n\xef\xbb\xbf"
"""Around a line: JSON's own, and the byte order mark."""
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
        now = rfc3339(dt.datetime.now(dt.timezone.utc))
        lines: list[bytes] = []
        with self._lock:
            for reject in rejects:
                lines += self._schemas_before(reject.message)
                rejection = {
                    "reason": reject.reason,
                    "code": reject.code,
                    "stream": reject.stream,
                    "task_id": reject.task_id,
                    "at": now,
                }
                lines.append(_with_rejection(reject.message, encode_text(rejection)))
            self._file.append(lines)

    def _schemas_before(self, message: bytes) -> list[bytes]:
        """Return the SCHEMA messages that must stand before a RECORD, if they do not yet."""
        if not self._schemas:
            return []
        try:
            stream = decode_json(message)["stream"]
        except RecursionError:  # nested too deeply to be read again: any stream's may be its own
            schemas, self._schemas = self._schemas, {}
            return [schema.strip(_BLANKS) for schema in schemas.values()]
        schema = self._schemas.pop(stream, None)
        return [] if schema is None else [schema.strip(_BLANKS)]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _with_rejection(message: bytes, rejection: bytes) -> bytes:
    """Return a RECORD message, just as the tap wrote it, with its rejection at the end."""
    body = message.strip(_BLANKS)
    if b'"rejection"' in body:  # a reject that was replayed, most likely
        with contextlib.suppress(RecursionError):
            rest = [member.whole for member in members(body) if member.name != "rejection"]
            body = b"{" + b",".join(rest) + b"}"
    return body[:-1] + b',"rejection":' + rejection + b"}"


def rejection_of(message: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any] | None:
    """Return what a replayed record was rejected for; None for any other record."""
    rejection = message.get("rejection")
    return rejection if isinstance(rejection, dict) else None
