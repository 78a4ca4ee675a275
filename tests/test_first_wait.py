from __future__ import annotations

import heapq
import math
import typing as t

import pytest
from harness import customer, run, schema
from hypothesis import given, settings
from hypothesis import strategies as st
from watched import Watched, status

from target_altcraft.answers import STATUS
from target_altcraft.delivery.first_wait import FirstWait
from target_altcraft.delivery.polling import PollPace
from target_altcraft.errors import Abandoned, NotAccepted, TaskTimedOut

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from watched import Answer

    from target_altcraft.answers import TaskStatus
    from target_altcraft.sandbox import Sandbox

INTERVAL = 0.5
LONGEST = 15.0


def moments(duration: float, rounded: Callable[[float], float], first: float = 0.0) -> list[float]:
    """When a task of this duration is asked for, up to the question that sees its end."""
    pace = PollPace(INTERVAL, LONGEST, first)
    asked = [first]
    while asked[-1] < duration:
        now = asked[-1]
        asked.append(now + pace.wait(now, rounded(100 * now / duration)))
    return asked


def learned(answers: list[tuple[bool, bool]]) -> FirstWait:
    """A wait that was learned from answers; some were given to who had asked before the last."""
    wait = FirstWait(INTERVAL)
    before = wait.seconds
    for in_time, is_outdated in answers:
        current = wait.seconds
        wait.learn(before if is_outdated else current, in_time=in_time)
        before = current
    return wait


ANSWERS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=400)


class Run:
    """Tasks of one run, so many in flight, each followed by the next, on a clock of its own.

    Args:
        durations: Seconds, in the tasks' order.
        in_flight: How many at once.
    """

    def __init__(self, durations: Sequence[float], in_flight: int) -> None:
        wait = FirstWait(INTERVAL)
        self.late: list[float] = []
        self.questions: list[int] = []
        self.seconds = 0.0
        ends: list[tuple[float, int, float, list[float]]] = []  # of the tasks that are in flight
        for number, duration in enumerate(durations):
            if len(ends) == in_flight:
                self._end(wait, heapq.heappop(ends))
            asked = moments(duration, lambda _: 0, wait.seconds)
            heapq.heappush(ends, (self.seconds + asked[-1], number, duration, asked))
        while ends:
            self._end(wait, heapq.heappop(ends))

    def _end(self, wait: FirstWait, task: tuple[float, int, float, list[float]]) -> None:
        self.seconds, _, duration, asked = task
        self.late.append(asked[-1] - duration)
        self.questions.append(len(asked))
        if len(asked) <= 2:
            wait.learn(asked[0], in_time=len(asked) == 1)


# What the host sees


@settings(deadline=None, max_examples=300)
@given(ANSWERS, st.integers(1, 60_000), st.sampled_from([math.floor, round, float, lambda _: 0]))
def test_no_task_is_asked_for_more_often_than_without_learning(
    answers: list[tuple[bool, bool]], thousandths: int, rounded: Callable[[float], float]
) -> None:
    duration = thousandths / 1000 + 0.00037  # at no moment of a question, where a float's last
    asked = moments(duration, rounded, learned(answers).seconds)  # digit would decide
    without = moments(duration, rounded)
    assert len(asked) <= len(without)
    if len(asked) > 1:
        assert asked[1:] == pytest.approx(without[1:])


@settings(deadline=None, max_examples=200)
@given(ANSWERS, st.floats(min_value=0.0005, max_value=60))
def test_end_is_still_noticed_soon(answers: list[tuple[bool, bool]], duration: float) -> None:
    asked = moments(duration, math.floor, learned(answers).seconds)
    assert asked[-1] - duration <= max(INTERVAL, 0.08 * duration)


@pytest.mark.parametrize(("duration", "most"), [(2, 4), (20, 5), (60, 8)])
@pytest.mark.parametrize("in_time", [0, 4, 8, 12, 16])
def test_long_task_is_asked_for_as_often_as_ever(duration: float, most: int, in_time: int) -> None:
    wait = learned([(False, False)] * 3 + [(True, False)] * in_time)
    assert wait.seconds > 0
    assert len(moments(duration, math.floor, wait.seconds)) <= most


@given(ANSWERS, st.floats(min_value=0.01, max_value=60))
def test_wait_is_at_most_three_quarters_of_the_interval(
    answers: list[tuple[bool, bool]], interval: float
) -> None:
    wait = FirstWait(interval)
    for in_time, _ in answers:
        wait.learn(wait.seconds, in_time=in_time)
        assert 0 <= wait.seconds <= 0.75 * interval


# What is learned


@pytest.mark.parametrize("in_flight", [1, 4, 32])
@pytest.mark.parametrize("duration", [0.005, 0.05, 0.12, 0.3])
def test_short_tasks_are_soon_noticed_a_little_after_their_end(
    duration: float, in_flight: int
) -> None:
    run = Run([duration] * (200 + 40 * in_flight), in_flight)
    settled = len(run.late) // 2
    late = run.late[settled:]
    assert sum(late) / len(late) < 0.03 + 0.25 * duration
    assert sum(run.questions[settled:]) < 1.1 * len(late)


def test_three_thousand_tasks_of_50_ms_take_less_than_twice_the_ideal() -> None:
    run = Run([0.05] * 3000, 32)
    assert run.seconds < 2 * 3000 / 32 * 0.05
    assert sum(run.questions) < 1.1 * 3000


def test_tasks_that_have_ended_at_once_are_asked_for_at_once() -> None:
    assert Run([0.0] * 100, 4).late == [0.0] * 100


@pytest.mark.parametrize("in_flight", [1, 4, 32])
def test_long_tasks_among_them_teach_nothing(in_flight: int) -> None:
    durations = [60.0 if number % 4 == 1 else 0.05 for number in range(200 + 60 * in_flight)]
    run = Run(durations, in_flight)
    short = [late for late in run.late[len(run.late) // 2 :] if late < INTERVAL]
    assert sum(short) / len(short) < 0.05


@pytest.mark.parametrize("in_flight", [1, 4, 32])
def test_a_few_slower_tasks_do_not_put_off_the_others(in_flight: int) -> None:
    durations = [0.4 if number % 20 == 7 else 0.05 for number in range(200 + 60 * in_flight)]
    late = Run(durations, in_flight).late
    assert sorted(late[len(late) // 2 :])[len(late) // 4] < 0.1


@pytest.mark.parametrize("in_flight", [1, 4, 32])
@pytest.mark.parametrize("durations", [(0.05, 0.2), (0.2, 0.05)])
def test_wait_follows_the_tasks(durations: tuple[float, float], in_flight: int) -> None:
    run = Run([duration for duration in durations for _ in range(80 * in_flight)], in_flight)
    late = run.late[-20 * in_flight :]
    assert sum(late) / len(late) < 0.2


def test_outdated_answers_change_nothing() -> None:
    wait = learned([(False, False)] * 3)
    longest = wait.seconds
    for _ in range(4):
        wait.learn(longest, in_time=True)
    halved = wait.seconds
    assert halved == longest / 2
    for _ in range(50):
        wait.learn(longest, in_time=True)  # says nothing of less
        wait.learn(0.0, in_time=False)  # says nothing of more
    assert wait.seconds == halved


# A task that is watched


def ends_after(seconds: float) -> Callable[[float], TaskStatus]:
    return lambda elapsed: status("completed" if elapsed >= seconds else "running")


def fails_until(seconds: float) -> Callable[[float], Answer]:
    error = NotAccepted(STATUS, "HTTP 503", code=503)
    return lambda elapsed: status("completed") if elapsed >= seconds else error


def test_first_question_waits_for_what_was_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = learned([(False, False)] * 3)
    watched = Watched(monkeypatch, ends_after(2), first_wait=wait)
    watched.completed()
    assert watched.client.asked[:2] == pytest.approx([0.375, 0.5], abs=1e-5)
    assert len(watched.client.asked) == len(moments(2, lambda _: 0))


def test_watched_tasks_teach_when_to_ask_first(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = FirstWait(INTERVAL)
    for _ in range(40):
        watched = Watched(monkeypatch, ends_after(0.05), first_wait=wait)
        watched.completed()
    assert len(watched.client.asked) == 1
    assert watched.elapsed < 0.1


@pytest.mark.parametrize("seconds", [0.6, 5.0])
def test_watched_long_tasks_teach_nothing(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    wait = FirstWait(INTERVAL)
    for _ in range(10):
        Watched(monkeypatch, ends_after(seconds), first_wait=wait).completed()
    assert wait.seconds == 0


def test_call_that_fails_teaches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = FirstWait(INTERVAL)
    for _ in range(10):
        Watched(monkeypatch, fails_until(0.3), first_wait=wait).completed()
    assert wait.seconds == 0


def test_first_wait_ends_at_the_time_out_of_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = learned([(False, False)] * 3)
    watched = Watched(monkeypatch, ends_after(1), first_wait=wait, task_timeout_seconds=0.1)
    watched.error(TaskTimedOut)
    assert watched.client.asked == pytest.approx([0.1], abs=1e-5)


def test_abandoned_in_its_first_wait_it_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = learned([(False, False)] * 3)
    watched = Watched(monkeypatch, ends_after(1), first_wait=wait, abandon_after=0.1)
    with pytest.raises(Abandoned):
        watched.completed()
    assert len(watched.client.asked) == 1


# A run


def test_batches_of_a_run_learn_from_each_other(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    sandbox.task_seconds = 0.02
    messages: list[t.Any] = []
    for number in range(150):
        stream = f"customers_{number}"
        messages += [schema(stream), customer(number, stream)]
    waits = {"poll_interval_seconds": 1, "max_in_flight": 16}
    assert run(messages, {**config, **waits}, tmp_path).status == 0
    asked = [len(task.polls) for task in sandbox.tasks]
    assert len(asked) == 150
    assert max(asked) <= 2
    assert sum(asked) < 1.5 * len(asked)
