from __future__ import annotations

import itertools
import logging
import math
import typing as t

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from watched import NAME, Watched, status

from target_altcraft.answers import STATUS
from target_altcraft.delivery.polling import (
    MISSING_TASK_SECONDS,
    PollPace,
)
from target_altcraft.errors import (
    Abandoned,
    Fatal,
    NotAccepted,
    OutcomeUnknown,
    Refused,
    TaskFailed,
    TaskTimedOut,
    TaskVanished,
)

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from watched import Answer

    from target_altcraft.answers import TaskStatus
    from target_altcraft.errors import (
        ApiError,
    )


def in_turn(*answers: Answer) -> Callable[[float], Answer]:
    """Each answer once, then `completed`."""
    waiting = list(answers)
    return lambda _: waiting.pop(0) if waiting else status("completed")


def until(seconds: float, answer: Answer) -> Callable[[float], Answer]:
    return lambda elapsed: status("completed") if elapsed >= seconds else answer


# The pace


def polls_of(
    duration: float,
    progress: Callable[[float], float | None],
    shortest: float = 0.5,
    longest: float = 15,
) -> list[float]:
    """When a task of this duration is asked for its status, up to the poll that sees its end."""
    pace = PollPace(shortest, longest)
    moments = [0.0]
    while moments[-1] < duration:
        now = moments[-1]
        moments.append(now + pace.wait(now, progress(100 * now / duration)))
    return moments


DURATIONS = st.floats(min_value=0.05, max_value=60)
ROUNDED = [math.floor, round, float]


@settings(deadline=None, max_examples=300)
@given(DURATIONS, st.sampled_from(ROUNDED))
@example(0.05, math.floor)
@example(60, math.floor)
def test_end_of_a_task_is_noticed_soon_and_with_few_polls(
    duration: float, rounded: Callable[[float], float]
) -> None:
    moments = polls_of(duration, rounded)
    assert moments[-1] - duration <= max(0.5, 0.08 * duration)
    assert len(moments) <= 4 + duration / 2


def test_bound_holds_over_the_whole_range_of_durations() -> None:
    for hundredths in range(5, 6001, 5):
        duration = hundredths / 100
        moments = polls_of(duration, math.floor)
        assert moments[-1] - duration <= max(0.5, 0.08 * duration), duration
        assert len(moments) <= 4 + duration / 2, duration


def test_waits_grow_without_progress_up_to_the_longest() -> None:
    pace = PollPace(0.5, 15)
    waits = [pace.wait(0, None) for _ in range(20)]
    assert waits[0] == 0.5
    assert waits == sorted(waits)
    assert waits[5] > waits[0]
    assert waits[-1] == 15
    assert all(later <= earlier * 2 for earlier, later in itertools.pairwise(waits))


@pytest.mark.parametrize("progress", [0, -1, 101, 1e9, None])
def test_progress_that_tells_nothing_grows_the_wait(progress: float | None) -> None:
    pace = PollPace(0.5, 15)
    waits = [pace.wait(elapsed, progress) for elapsed in range(10)]
    assert waits == sorted(waits)
    assert waits[-1] > 5 * waits[0]


def test_progress_that_stands_still_is_asked_with_a_share_of_the_time() -> None:
    moments = polls_of(600, lambda _: 99)
    assert 20 < len(moments) < 200


@settings(deadline=None)
@given(
    st.floats(min_value=0.01, max_value=5),
    st.floats(min_value=1, max_value=10),
    st.lists(
        st.tuples(
            st.floats(min_value=0, max_value=1e5),
            st.one_of(st.none(), st.floats(min_value=-10, max_value=200), st.integers(-10, 200)),
        ),
        max_size=30,
    ),
)
def test_every_wait_stays_between_the_shortest_and_the_longest(
    shortest: float, factor: float, answers: list[tuple[float, float | None]]
) -> None:
    longest = shortest * factor
    pace = PollPace(shortest, longest)
    for elapsed, progress in answers:
        assert shortest <= pace.wait(elapsed, progress) <= longest


# Completed


def test_completed_task_is_seen_at_the_first_question(monkeypatch: pytest.MonkeyPatch) -> None:
    done = status("completed", 100, results=[{"profile_id": "61e9"}])
    watched = Watched(monkeypatch, lambda _: done)
    assert watched.completed() is done
    assert watched.client.asked == [0.0]
    assert watched.abandon.waits == []


@settings(deadline=None, max_examples=50)
@given(DURATIONS)
def test_watched_task_keeps_the_bound(duration: float) -> None:
    def answer(elapsed: float) -> TaskStatus:
        if elapsed >= duration:
            return status("completed", 100)
        return status("running", math.floor(100 * elapsed / duration))

    with pytest.MonkeyPatch.context() as monkeypatch:
        watched = Watched(monkeypatch, answer)
        watched.completed()
    assert watched.elapsed - duration <= max(0.5, 0.08 * duration)
    assert len(watched.client.asked) <= 4 + duration / 2


def test_progress_is_passed_on_after_each_question(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = (status(progress=0), status(), OutcomeUnknown(STATUS, "lost"), status(progress=50.5))
    watched = Watched(monkeypatch, in_turn(*answers))
    watched.completed()
    assert watched.progress == [0, None, None, 50.5, None]


def test_wait_keeps_to_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(
        monkeypatch,
        until(100, status()),
        poll_interval_seconds=2,
        poll_max_interval_seconds=7,
    )
    watched.completed()
    assert watched.abandon.waits[0] == 2
    assert max(watched.abandon.waits) == 7


# Failed


@pytest.mark.parametrize(
    "state", ["failed", "error", "canceled", "cancelled", "aborted", "stopped"]
)
@pytest.mark.parametrize("progress", [None, 0, 55, 100])
def test_failed_state_fails_the_task_whatever_its_progress(
    monkeypatch: pytest.MonkeyPatch, state: str, progress: float | None
) -> None:
    watched = Watched(monkeypatch, lambda _: status(state, progress))
    assert f"ended as '{state}'" in watched.error(TaskFailed)


def test_failed_task_is_reported_with_what_altcraft_said(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, lambda _: status("failed", error=7, text="Quota is used up"))
    assert "ended as 'failed', error 7, Quota is used up. Its profiles may" in watched.error(
        TaskFailed
    )


def test_completed_task_with_an_error_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, lambda _: status("completed", 100, error=400, text="No"))
    assert "ended as 'completed', error 400, No" in watched.error(TaskFailed)


# Unknown states


def test_unknown_state_counts_as_running_and_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [status(state) for state in ("queued", "queued", "busy", "queued", "running", "busy")]
    watched = Watched(monkeypatch, in_turn(*answers))
    with caplog.at_level(logging.WARNING):
        assert watched.completed().completed
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2
    assert f"{NAME}: status 'queued' is not known and counts as still running" in warnings
    assert len(watched.client.asked) == 7


def test_running_state_is_not_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Watched(monkeypatch, in_turn(status("running"))).completed()
    assert not caplog.records


def test_state_that_holds_an_address_is_masked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Watched(monkeypatch, in_turn(status("waiting for ada@b.example, +79001234567"))).completed()
    assert "ada@b.example" not in caplog.text
    assert "79001234567" not in caplog.text


# Time-out


@pytest.mark.parametrize(
    "answer",
    [
        status(),
        status("queued"),
        status(progress=99),
        NotAccepted(STATUS, "HTTP 503", code=503),
        OutcomeUnknown(STATUS, "the answer is not Altcraft's JSON"),
    ],
)
def test_task_that_does_not_end_fails_at_its_time_out(
    monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    watched = Watched(monkeypatch, lambda _: answer, task_timeout_seconds=100)
    message = watched.error(TaskTimedOut)
    assert "task_timeout_seconds (100)" in message
    assert "it may still do so" in message
    assert watched.elapsed == pytest.approx(100)
    assert watched.client.asked[-1] == pytest.approx(100)  # asked once more at the very end


def test_task_that_ends_at_the_last_moment_is_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, until(100, status()), task_timeout_seconds=100)
    assert watched.completed().completed


def test_question_takes_no_longer_than_the_task_has_left_or_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(monkeypatch, lambda _: status(), task_timeout_seconds=100)
    watched.error(TaskTimedOut)
    for asked, timeout in zip(watched.client.asked, watched.client.timeouts, strict=True):
        assert timeout == pytest.approx(max(1.0, 100 - asked))


def test_slow_answers_end_at_the_time_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(
        monkeypatch,
        lambda _: OutcomeUnknown(STATUS, "no answer"),
        request_seconds=9,
        task_timeout_seconds=100,
    )
    watched.error(TaskTimedOut)
    assert watched.elapsed < 100 + 9 + 1


# Calls that fail

TRANSIENT = [
    NotAccepted(STATUS, "the connection was refused"),
    NotAccepted(STATUS, "HTTP 429", code=429),
    NotAccepted(STATUS, "HTTP 503", code=503),
    OutcomeUnknown(STATUS, "HTTP 500", code=500),
    OutcomeUnknown(STATUS, "the answer is not Altcraft's JSON"),
    Fatal(STATUS, "error 402, tariff limit reached", code=402),
    Fatal(STATUS, "the server's certificate was refused"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=str)
def test_call_that_fails_is_made_again_and_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: ApiError
) -> None:
    watched = Watched(monkeypatch, until(600, error))
    with caplog.at_level(logging.WARNING):
        assert watched.completed().completed
    assert [record.getMessage() for record in caplog.records] == [f"{NAME}: {error}; asking again"]


@pytest.mark.parametrize("code", [401, 403])
def test_refused_token_ends_the_task_at_once(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    error = Fatal(STATUS, f"error {code}, Token is required", code=code)
    watched = Watched(monkeypatch, in_turn(status(progress=5), error))
    assert f"tasks/status: error {code}, Token is required" in watched.error()
    assert len(watched.client.asked) == 2


@pytest.mark.parametrize("code", [400, 404])
def test_unknown_task_is_asked_for_again_and_counts_as_vanished_after_a_while(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    kind = Refused if code == 400 else Fatal
    watched = Watched(
        monkeypatch,
        lambda _: kind(STATUS, f"error {code}, No such task", code=code),
        poll_max_interval_seconds=2,
    )
    message = watched.error(TaskVanished)
    assert f"has vanished: error {code}, No such task" in message
    assert "may have been imported or not" in message
    assert MISSING_TASK_SECONDS <= watched.elapsed <= MISSING_TASK_SECONDS + 2
    assert MISSING_TASK_SECONDS == 30


def test_task_that_turns_up_again_has_not_vanished(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Refused(STATUS, "error 400, No such task", code=400)

    def answer(elapsed: float) -> Answer:
        if elapsed > 200:
            return status("completed")
        return status() if int(elapsed / 20) % 2 else missing

    watched = Watched(monkeypatch, answer, poll_max_interval_seconds=2)
    assert watched.completed().completed


def test_task_that_is_unknown_just_after_it_was_accepted_completes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = Fatal(STATUS, "HTTP 404", code=404)
    watched = Watched(monkeypatch, until(20, missing))
    assert watched.completed().completed


@pytest.mark.parametrize("seconds", [0.0, 0.1, 7.0, 40.0])
def test_retry_after_is_the_least_wait(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    error = NotAccepted(STATUS, "HTTP 429", code=429, retry_after=seconds)
    watched = Watched(monkeypatch, in_turn(error))
    watched.completed()
    assert watched.abandon.waits == [max(seconds, 0.5)]


@pytest.mark.parametrize("seconds", [1e6, math.inf])
def test_retry_after_does_not_outlast_the_time_out(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    error = NotAccepted(STATUS, "HTTP 429", code=429, retry_after=seconds)
    watched = Watched(monkeypatch, lambda _: error, task_timeout_seconds=100)
    watched.error(TaskTimedOut)
    assert watched.elapsed == pytest.approx(100)


# The run ends


def test_wait_ends_when_the_run_no_longer_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, lambda _: status(), abandon_after=10)
    with pytest.raises(Abandoned):
        watched.completed()
    assert watched.elapsed < 30


def test_abandoned_before_the_first_answer_is_still_asked_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(monkeypatch, lambda _: status("completed"))
    watched.abandon.set()
    assert watched.completed().completed
