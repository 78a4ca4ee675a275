"""How large a request body may be: the setting, narrowed by what the host refuses."""

from __future__ import annotations

import threading


class SizeLimit:
    """The largest body worth sending, learned from the host's answers for the rest of the run.

    A host may be configured lower than `batch_size_bytes`, and does not say how low. After a
    refusal the limit falls to a quarter, then it is narrowed between the largest accepted and the
    smallest refused size until the two are within 5 %. After a body that was lost without an answer
    while its halves passed, the limit stays at the largest accepted size: to try more would risk
    one more unknown outcome.

    The lock guards the sizes; `bytes` is a plain read.

    Args:
        maximum: The setting `batch_size_bytes`.
    """

    _CLOSE_ENOUGH = 0.95

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.bytes = maximum
        self._lock = threading.Lock()
        self._accepted = 0
        self._refused: int | None = None
        self._is_capped = False

    def accepted(self, size: int) -> None:
        """Note that the host took a body of this size."""
        with self._lock:
            self._accepted = max(self._accepted, size)
            self._narrow()

    def refused(self, size: int) -> bool:
        """Note that the host found a body of this size too large.

        Returns:
            True at the first refusal of the run.
        """
        with self._lock:
            first = self._refused is None
            self._refused = min(size, self._refused or size)
            self._accepted = min(self._accepted, self._refused - 1)
            self._narrow()
            return first

    def cap(self, doubtful: int) -> bool:
        """Note that a body was lost without an answer, and that its halves passed.

        Args:
            doubtful: Size of the body that was lost.

        Returns:
            True if that lowers the limit.
        """
        with self._lock:
            if doubtful <= self._accepted:
                return False  # as large a body has passed: it was not the size
            before = self.bytes
            self._refused = min(doubtful, self._refused or doubtful)
            self._is_capped = True
            self._narrow()
            return self.bytes < before

    def _narrow(self) -> None:
        if self._refused is None:
            return
        if not self._accepted:
            self.bytes = max(1, self._refused // 4)
        elif self._is_capped or self._accepted >= self._refused * self._CLOSE_ENOUGH:
            self.bytes = self._accepted
        else:
            self.bytes = (self._accepted + self._refused) // 2
