"""The handler that writes the log of a run, for which few threads wait."""

from __future__ import annotations

import logging
import threading
import typing as t
from collections import deque

if t.TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[t.TextIO]
else:
    _StreamHandler = logging.StreamHandler  # in Python 3.10 it takes no type

_MOST_LINES = 1_000
"""If more wait for the stream, all threads wait with their lines."""


def write_together() -> None:
    """Put `LineHandler`s in the place of the plain `StreamHandler`s of all loggers."""
    root = logging.getLogger()
    loggers = [
        each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger)
    ]
    instead: dict[logging.Handler, logging.Handler] = {}
    for logger in [root, *loggers]:
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler and handler not in instead:
                instead[handler] = LineHandler(handler)
        logger.handlers[:] = [instead.get(handler, handler) for handler in logger.handlers]


class LineHandler(_StreamHandler):
    """Writes lines to a stream; of the threads that have one, only one waits for who is writing.

    Python lets other threads run during a write, and the writer waits for its turn afterwards. All
    that have a line meanwhile would wait for the writer, by the lock of `logging`: with many
    workers, most of their time. Here the first of them waits to be the next, and the others leave
    their lines to it. The next one writes the lines that there are when its turn comes, and no
    more; so all lines are written, in their order, and no thread is kept writing. Only where too
    many lines wait, all threads do. A thread formats its own line, with others at the same time.

    The handler's lock guards the stream. `_next` is held by the thread that waits to be the next;
    it lets go before it looks which lines there are, so that a line whose thread found `_next` held
    is among them. `flush` writes all lines that were said before it.

    Args:
        like: The handler whose stream, level, formatter and filters it has.
    """

    def __init__(self, like: _StreamHandler) -> None:
        super().__init__(like.stream)
        self.setLevel(like.level)
        self.setFormatter(like.formatter)
        self.filters = like.filters
        self._lines: deque[tuple[logging.LogRecord, str]] = deque()
        self._next = threading.Lock()

    def handle(self, record: logging.LogRecord) -> t.Any:  # noqa: ANN401 - newer Pythons: a record
        """Write a record's line, or leave it to the thread that is the next to write."""
        taken: t.Any = self.filter(record)
        if isinstance(taken, logging.LogRecord):  # a filter's own
            record = taken
        if taken:
            try:
                self._say(record)
            except Exception:  # noqa: BLE001 - a log that cannot be written ends no run
                self.handleError(record)
        return taken

    def _say(self, record: logging.LogRecord) -> None:
        self._lines.append((record, self.format(record) + self.terminator))
        if self._next.acquire(blocking=False):
            try:
                self.acquire()
            finally:
                self._next.release()
            try:
                self.flush()
            finally:
                self.release()
        elif len(self._lines) > _MOST_LINES:
            self.flush()

    def flush(self) -> None:
        """Write the lines that wait, and flush the stream."""
        self.acquire()
        try:
            for _ in range(len(self._lines)):
                if not self._lines:  # a write has logged something, which took them along
                    break
                record, line = self._lines.popleft()
                try:
                    self.stream.write(line)
                except Exception:  # noqa: BLE001 - as above
                    self.handleError(record)
            super().flush()
        finally:
            self.release()
