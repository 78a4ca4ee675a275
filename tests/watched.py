"""A task watched to its end on a clock of its own."""

from __future__ import annotations

import math
import threading
import typing as t

import pytest
from wire import Clock

from target_altcraft.answers import TaskStatus
from target_altcraft.delivery.polling import TaskWatch, UnknownStates
from target_altcraft.errors import ApiError, TaskError
from target_altcraft.settings import resolve

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from target_altcraft.client import Client
    from target_altcraft.delivery.first_wait import FirstWait
    from target_altcraft.settings import Settings

NAME = "stream 'orders', batch 3 (2 profiles), task 30421978"
Answer = TaskStatus | ApiError


def status(
    state: str = "running",
    progress: float | None = None,
    error: int | str = 0,
    text: str = "",
    results: list[t.Any] | None = None,
) -> TaskStatus:
    return TaskStatus(state, progress, error, text, results)


def run_settings(**values: t.Any) -> Settings:
    return resolve({"api_url": "https://altcraft.example", "token": "tok-secret", **values})


class Waits(threading.Event):
    """The event `abandon`: each wait takes no time but the clock's."""

    def __init__(self, clock: Clock, abandon_after: float = math.inf) -> None:
        super().__init__()
        self.clock = clock
        self.waits: list[float] = []
        self.abandon_at = clock.now + abandon_after

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        assert timeout >= 0
        self.waits.append(timeout)
        self.clock.now += timeout
        if self.clock.now >= self.abandon_at:
            self.set()
        return self.is_set()


class FakeClient:
    """Answers by what a function says of the seconds since the task was accepted."""

    def __init__(self, clock: Clock, answer: Callable[[float], Answer], seconds: float) -> None:
        self.clock = clock
        self.answer = answer
        self.accepted = clock.now
        self.asked: list[float] = []
        self.timeouts: list[float] = []
        self.seconds = seconds

    def status(self, task_id: str, timeout: float) -> TaskStatus:
        assert task_id == "30421978"
        self.timeouts.append(timeout)
        elapsed = self.clock.now - self.accepted
        self.asked.append(elapsed)
        self.clock.now += self.seconds
        answer = self.answer(elapsed)
        if isinstance(answer, ApiError):
            raise answer
        return answer


class Watched:
    """A task watched to its end on a clock of its own."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        answer: Callable[[float], Answer],
        *,
        abandon_after: float = math.inf,
        request_seconds: float = 0.0,
        first_wait: FirstWait | None = None,
        **values: t.Any,
    ) -> None:
        clock = Clock()
        monkeypatch.setattr("target_altcraft.delivery.polling.time", clock)
        self.clock = clock
        self.client = FakeClient(clock, answer, request_seconds)
        self.abandon = Waits(clock, abandon_after)
        self.progress: list[float | None] = []
        self.first_wait = first_wait
        self._watch = TaskWatch(run_settings(**values), "30421978", NAME, 2, UnknownStates())

    @property
    def elapsed(self) -> float:
        return self.clock.now - self.client.accepted

    def completed(self) -> TaskStatus:
        return self._watch.completed(
            t.cast("Client", self.client), self.abandon, self.progress.append, self.first_wait
        )

    def error(self, kind: type[TaskError] = TaskError) -> str:
        with pytest.raises(TaskError) as caught:
            self.completed()
        assert type(caught.value) is kind
        message = str(caught.value)
        assert message.startswith(NAME)
        return message
