"""How long after a task was accepted it is worth asking for its status, learned from others."""

from __future__ import annotations

import threading
import typing as t

_LONGEST_SHARE = 0.75
"""Of `poll_interval_seconds`: the question after that still comes when it always did."""


class _Step(t.NamedTuple):
    """Factors that change the wait, and the tasks in time after which it is shortened."""

    shorten: float
    after: int
    lengthen: float


_STEPS = (_Step(0.5, 4, 2.0), _Step(0.8, 8, 1.25), _Step(0.98, 256, 1.25))
"""Each time that the wait was too short, the next of them; the last stays."""

_TOLERATED = 2
_TOLERATED_SHARE = 0.2
"""Tasks asked for too early that lengthen nothing: so many, and this share of those in time."""


class FirstWait:
    """The wait before a task's first question: long enough for most of the run's short tasks.

    A short task ends within `poll_interval_seconds`. Without this, each would be found running at
    once and ended after that interval, however short it was. Only short tasks are learned from:
    long ones say nothing about when a short one ends. The wait is at most three quarters of the
    interval, and it starts at zero.

    It is shortened while the tasks have ended in time, and lengthened when it was too short for
    more than a fifth of them; the steps become smaller each time. If small steps lead to the
    longest wait, the tasks have changed, and the steps are large again.

    One belongs to all workers of a run, because a stream may have a single batch. The lock guards
    the wait, what was seen of it, and the size of the steps.

    Args:
        interval: Seconds, setting `poll_interval_seconds`.
    """

    def __init__(self, interval: float) -> None:
        self._lock = threading.Lock()
        self._longest = _LONGEST_SHARE * interval
        self._seconds = 0.0
        self._in_time = 0
        self._too_early = 0
        self._step = 0

    @property
    def seconds(self) -> float:
        """Return the seconds to wait before the first question about a task."""
        with self._lock:
            return self._seconds

    def learn(self, waited: float, *, in_time: bool) -> None:
        """Note what the first question about a short task found.

        Args:
            waited: Seconds, as `seconds` was when the task was accepted.
            in_time: Whether the task had ended.
        """
        with self._lock:
            if in_time and waited <= self._seconds:
                self._in_time += 1
            elif not in_time and waited >= self._seconds:
                self._too_early += 1
            if self._too_early > _TOLERATED + _TOLERATED_SHARE * self._in_time:
                self._lengthen()
            elif self._in_time >= _STEPS[self._step].after:
                self._set(self._seconds * _STEPS[self._step].shorten)

    def _lengthen(self) -> None:
        longer = self._seconds * _STEPS[self._step].lengthen
        if self._seconds in {0.0, self._longest} or (self._step and longer >= self._longest):
            self._step = 0
            self._set(self._longest)
        else:
            self._step = min(self._step + 1, len(_STEPS) - 1)
            self._set(min(longer, self._longest))

    def _set(self, seconds: float) -> None:
        self._seconds = seconds
        self._in_time = self._too_early = 0
