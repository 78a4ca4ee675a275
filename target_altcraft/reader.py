"""Singer messages from stdin, without ever blocking in a way that a signal cannot end."""

from __future__ import annotations

import io
import os
import sys
import typing as t
from collections import Counter
from decimal import InvalidOperation
from itertools import chain, islice

from singer_sdk.singerlib.encoding.base import GenericSingerReader
from singer_sdk.singerlib.exceptions import InvalidInputLine

from target_altcraft.codec import decode_json, decode_line, holds_no_number
from target_altcraft.wakeup import Wakeup

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHUNK_BYTES = 1 << 18
_TICK_SECONDS = 1.0
_TICK_LINES = 1000


class LineReader(GenericSingerReader[str]):
    """Reads lines as bytes and waits where signals, workers and timers can wake it.

    `tick` is called between reads, at least once a second; what it raises ends the reading.
    `has_more` tells it whether more of the input is there already. `line` is the line that is being
    handled, and `line_number` counts from 1. `was_empty` tells, at the end of an input, that it
    held no message. `wakeup` opens its pipe when it is first waited on; who waits on it last closes
    it.
    """

    default_input = sys.stdin

    def __init__(self) -> None:
        super().__init__()
        self.wakeup = Wakeup()
        self.tick: Callable[[], None] = lambda: None
        self.has_more = False
        self.line_number = 0
        self.line = b""
        self.was_empty = False

    def process_lines(
        self,
        file_input: t.IO[str] | None,
        callbacks: dict[str, Callable[[dict[str, t.Any]], None]],
    ) -> Counter[str]:
        """Hand every message to the callback of its type.

        Args:
            file_input: Where to read; stdin if None.
            callbacks: By message type.

        Returns:
            How many messages of each type there were.

        Raises:
            InvalidInputLine: If a line is not a Singer message.
        """
        counts = dict.fromkeys(callbacks, 0)  # a plain dictionary: it is touched for every line
        source = file_input or sys.stdin
        if source is None:
            raise InvalidInputLine("there is no input: stdin is closed")
        for line in chain.from_iterable(self._blocks(source)):
            self.line_number += 1
            self.line = line
            try:
                message = decode_line(line)
            except (ValueError, RecursionError, InvalidOperation):
                if not line.strip():
                    continue
                message = self._decode_slowly(line)
            try:
                kind = message["type"]
                callback = callbacks[kind]
            except (KeyError, TypeError):
                raise InvalidInputLine(
                    f"line {self.line_number} of the input is not a Singer message of a known type"
                ) from None
            callback(message)
            counts[kind] += 1
        self.was_empty = not any(counts.values())
        return Counter({kind: number for kind, number in counts.items() if number})

    def _decode_slowly(self, line: bytes) -> t.Any:  # noqa: ANN401 - whatever stands there
        """Return the JSON value of a line that needs the slow road.

        A RECORD may hold NaN: that costs this one record only, if it is to be sent.

        Raises:
            InvalidInputLine: If it is not JSON in UTF-8; the line is not quoted.
        """
        message = self.deserialize_json(line)
        is_record = isinstance(message, dict) and message.get("type") == "RECORD"
        if not is_record and holds_no_number(message):
            raise InvalidInputLine(
                f"line {self.line_number} of the input holds NaN, Infinity or a number beyond all "
                "bounds, which are no JSON"
            )
        return message

    def deserialize_json(self, line: str | bytes) -> t.Any:  # noqa: ANN401 - whatever stands there
        """Return the JSON value of a line.

        Raises:
            InvalidInputLine: If it is not JSON in UTF-8; the line is not quoted.
        """
        try:
            return decode_json(line.encode() if isinstance(line, str) else line)
        except RecursionError:
            raise InvalidInputLine(
                f"line {self.line_number} of the input is nested too deeply"
            ) from None
        except ValueError:
            raise InvalidInputLine(
                f"line {self.line_number} of the input is not valid JSON in UTF-8"
            ) from None

    @staticmethod
    def assert_line_requires(line_dict: dict[str, t.Any], requires: set[str]) -> None:
        """Check that a message has its keys.

        Raises:
            InvalidInputLine: If one is missing; the message is not quoted.
        """
        if not requires.issubset(line_dict):
            missing = ", ".join(sorted(requires.difference(line_dict)))
            kind = line_dict.get("type", "SCHEMA's schema")
            raise InvalidInputLine(f"a {kind} message has no {missing}")

    def _blocks(self, source: t.IO[str]) -> Iterator[list[bytes]]:
        """Yield the lines of the input, those of one read at a time."""
        try:
            fd = source.fileno()
        except (AttributeError, io.UnsupportedOperation):  # in memory: nothing to wait for
            while texts := list(islice(source, _TICK_LINES)):
                self.tick()
                yield [text.rstrip("\n").encode("utf-8", "surrogatepass") for text in texts]
            return
        begun: list[bytes] = []
        while chunk := self._read(fd):
            lines = chunk.split(b"\n")
            begun.append(lines[0])
            if len(lines) > 1:
                lines[0] = b"".join(begun)
                begun = [lines.pop()]
                yield lines
        yield [b"".join(begun)]

    def _read(self, fd: int) -> bytes:
        self.has_more = self.wakeup.wait(0, fd)
        self.tick()
        while not self.wakeup.wait(_TICK_SECONDS, fd):
            self.tick()
        return os.read(fd, _CHUNK_BYTES)
