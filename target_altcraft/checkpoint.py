"""Which STATE may go out, and when."""

from __future__ import annotations

import threading
import typing as t
from collections import deque

if t.TYPE_CHECKING:
    from collections.abc import Callable


class Checkpoints:
    """Holds every STATE back until all records read before it are settled.

    A STATE depends on the batches that were opened before it, all of which hold a record that was
    read before it. So it is enough to remember the number of the newest one: the STATE is safe once
    no batch up to that number is unsettled. Of two STATEs that wait for the same batch the older
    can never be the newest safe one, so at most one waits per unsettled batch.

    The lock guards the unsettled numbers, the waiting STATEs and who is writing; it is not held
    while writing, so that a reader of stdout that stalls holds up only the thread that writes.

    Args:
        write: Called with the newest safe STATE and the place in the input that it covers, from
            whichever thread made it safe; one call at a time.
    """

    def __init__(self, write: Callable[[t.Any, int], None]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._newest = 0
        self._unsettled: dict[int, None] = {}  # in ascending order: numbers are added as they grow
        self._waiting: deque[tuple[int, t.Any, int]] = deque()  # batch, STATE, place
        self._safe: tuple[t.Any, int] | None = None  # the newest that may be written
        self._writing = False

    def open_batch(self) -> int:
        """Return the number of a new, unsettled batch."""
        with self._lock:
            self._newest += 1
            self._unsettled[self._newest] = None
            return self._newest

    def settle(self, number: int) -> None:
        """Note that every record of a batch is settled; write what has become safe."""
        with self._lock:
            del self._unsettled[number]
        self.emit()

    def add(self, state: t.Any, place: int) -> None:  # noqa: ANN401 - whatever the tap says
        """Take a STATE from the input; write it now or once it is safe.

        Args:
            state: Its value.
            place: How many records of the input came before it.
        """
        self.note(state, place)
        self.emit()

    def note(self, state: t.Any, place: int) -> None:  # noqa: ANN401 - whatever the tap says
        """Take a STATE as `add` does; others may follow that are safe at once, so write it later.

        It is written by `emit`, or when a batch is settled.
        """
        with self._lock:
            if self._waiting and self._waiting[-1][0] == self._newest:
                self._waiting.pop()
            self._waiting.append((self._newest, state, place))

    def emit(self) -> None:
        """Write what is safe, the newest of it."""
        while True:
            with self._lock:
                oldest = next(iter(self._unsettled), self._newest + 1)
                while self._waiting and self._waiting[0][0] < oldest:
                    _, *safe = self._waiting.popleft()
                    self._safe = t.cast("tuple[t.Any, int]", tuple(safe))
                if self._writing or self._safe is None:
                    return  # a thread that is writing looks again before it leaves
                (state, place), self._safe = self._safe, None
                self._writing = True
            self._write(state, place)  # should it fail, nothing is ever written again
            with self._lock:
                self._writing = False
