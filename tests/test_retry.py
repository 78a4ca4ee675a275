from __future__ import annotations

import email.utils
import threading
import time
import typing as t

import pytest
from wire import (
    ACCEPTED,
    Clock,
    Halt,
    Server,
    answers,
    client_of,
    failed,
    resets_after,
    status_error,
    submitted,
)

from target_altcraft.delivery.retry import Notices, retry
from target_altcraft.errors import (
    Fatal,
    Halted,
    NotAccepted,
    OutcomeUnknown,
    Refused,
    TooLarge,
)

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from wire import (
        Exchange,
        Step,
    )

    from target_altcraft.errors import (
        ApiError,
    )


def test_not_accepted_is_made_again_with_the_same_body() -> None:
    halt = Halt()
    steps = [answers(b"", 503), answers({"error": 429}), answers(ACCEPTED)]
    with Server(*steps) as server:
        assert submitted(server, halt=halt) == "30421978-7f6d"
    assert len({exchange.body for exchange in server.exchanges}) == 1
    assert len(halt.waits) == 2


def test_waits_grow_at_random_up_to_their_longest(clock: Clock) -> None:
    halt = Halt(clock)
    with Server(*[answers(b"", 503)] * 400) as server, pytest.raises(Fatal):
        submitted(server, halt=halt, patience=2000)
    assert len(set(halt.waits)) > len(halt.waits) / 2  # full jitter
    assert all(wait <= 0.5 * 2**place for place, wait in enumerate(halt.waits))
    assert 15 < max(halt.waits) <= 30


@pytest.mark.parametrize("seconds", ["0", "7", " 7 ", "120"])
def test_retry_after_in_seconds_is_waited_for(seconds: str, clock: Clock) -> None:
    halt = Halt(clock)
    busy = answers(b"", 503, {"Retry-After": seconds})
    with Server(busy, answers(ACCEPTED)) as server:
        submitted(server, halt=halt)
    assert halt.waits == [float(seconds)]


@pytest.mark.parametrize(("offset", "waited"), [(7, 7), (0, 0), (-3600, 0)])
def test_retry_after_as_a_date_is_waited_for(offset: int, waited: int, clock: Clock) -> None:
    halt = Halt(clock)
    date = email.utils.formatdate(clock.now + offset, usegmt=True)
    with Server(answers(b"", 429, {"Retry-After": date}), answers(ACCEPTED)) as server:
        submitted(server, halt=halt)
    assert halt.waits == [waited]


@pytest.mark.parametrize(
    "value", ["", "soon", "-5", "1.5", "7 seconds", "Mon, 99 Jan 2024", "1, 2"]
)
def test_retry_after_that_says_nothing_is_ignored(value: str) -> None:
    error = status_error(NotAccepted, answers(b"", 503, {"Retry-After": value}))
    assert error.retry_after is None


def test_retry_after_comes_with_any_error() -> None:
    error = status_error(OutcomeUnknown, answers(b"", 500, {"Retry-After": "9"}))
    assert error.retry_after == 9


def test_retry_after_with_a_digit_that_is_no_number_is_ignored() -> None:
    error = status_error(NotAccepted, answers(b"", 503, {"Retry-After": "²"}))
    assert error.retry_after is None


@pytest.fixture
def far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Vladivostok")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_from_greenwich")
def test_retry_after_in_the_form_of_asctime_is_in_utc() -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = Clock()
        monkeypatch.setattr("target_altcraft.answers.time", clock)
        date = time.asctime(time.gmtime(clock.now + 60))
        error = status_error(NotAccepted, answers(b"", 503, {"Retry-After": date}))
    assert error.retry_after == 60


def test_repeating_ends_within_retry_max_seconds(clock: Clock) -> None:
    halt = Halt(clock)
    steps = [answers({"error": 503, "error_text": "Maintenance"})] * 400
    error = failed(Fatal, *steps, halt=halt, patience=100)
    assert error.text == ("error 503, Maintenance; not accepted within retry_max_seconds (100)")
    assert error.code == 503
    assert 50 < sum(halt.waits) <= 100


def test_retry_after_beyond_retry_max_seconds_is_not_waited_for(clock: Clock) -> None:
    halt = Halt(clock)
    busy = answers(b"", 503, {"Retry-After": "101"})
    failed(Fatal, busy, halt=halt, patience=100)
    assert halt.waits == []


def test_nothing_is_repeated_where_retry_max_seconds_is_zero(clock: Clock) -> None:
    halt = Halt(clock)
    failed(Fatal, answers(b"", 503), halt=halt, patience=0)
    assert halt.waits == []


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (answers({"error": 400}), Refused),
        (answers({"error": 401}), Fatal),
        (answers(b"", 413), TooLarge),
        (answers(b"", 500), OutcomeUnknown),
        (answers(b"", 307), Fatal),
        (resets_after(None), OutcomeUnknown),
    ],
)
def test_nothing_else_is_repeated(step: Step, kind: type[ApiError]) -> None:
    halt = Halt()
    failed(kind, step, answers(ACCEPTED), halt=halt)
    assert halt.waits == []


def test_status_is_asked_once_only() -> None:
    halt = Halt()
    with (
        Server(answers(b"", 503), answers(ACCEPTED)) as server,
        client_of(server.url, halt) as client,
        pytest.raises(NotAccepted),
    ):
        client.status("3042", 30)
    assert len(server.exchanges) == 1
    assert halt.waits == []


def test_halt_before_the_submit_sends_nothing() -> None:
    halt = Halt()
    halt.set()
    with Server(answers(ACCEPTED)) as server, pytest.raises(Halted):
        submitted(server, halt=halt)
    assert server.connections == 0


def test_halt_ends_the_wait_and_nothing_is_repeated(clock: Clock) -> None:
    halt = Halt(clock, halts_in=0)
    busy = answers(b"", 503, {"Retry-After": "90"})
    with Server(busy, answers(ACCEPTED)) as server, pytest.raises(Halted):
        submitted(server, halt=halt)
    assert len(server.exchanges) == 1


def test_halt_from_another_thread_ends_the_wait() -> None:
    halt = threading.Event()

    def busy(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.answer(b"", 503, {"Retry-After": "200"})
        halt.set()

    with Server(busy, answers(ACCEPTED)) as server, pytest.raises(Halted):
        submitted(server, halt=halt)
    assert len(server.exchanges) == 1


# Without a server: an attempt that fails as it is told


def failing(*errors: ApiError) -> t.Callable[[], str]:
    left = list(errors)

    def attempt() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return attempt


def busy(retry_after: float | None = None) -> NotAccepted:
    return NotAccepted("tasks/status", "HTTP 503", code=503, retry_after=retry_after)


def test_attempt_is_made_once_if_it_succeeds() -> None:
    halt = Halt()
    assert retry(failing(), (NotAccepted,), 100, halt) == "done"
    assert halt.waits == []


def test_other_errors_come_out_as_they_are() -> None:
    error = Refused("tasks/status", "no")
    with pytest.raises(Refused) as caught:
        retry(failing(error), (NotAccepted,), 100, Halt())
    assert caught.value is error


def test_kind_of_a_kind_is_repeated_too() -> None:
    halt = Halt()
    assert retry(failing(TooLarge("x", "y")), (Refused,), 100, halt) == "done"
    assert len(halt.waits) == 1


def test_end_of_the_patience_is_made_from_the_last_error(clock: Clock) -> None:
    last = NotAccepted("tasks/status", "error 429", code=429, retry_after=11)
    with pytest.raises(Fatal) as caught:
        retry(failing(busy(5), last), (NotAccepted,), 15, Halt(clock))
    assert caught.value.__cause__ is last
    assert caught.value.endpoint == "tasks/status"
    assert caught.value.code == 429
    assert caught.value.text == "error 429; not accepted within retry_max_seconds (15)"


def test_patience_counts_from_the_first_attempt(clock: Clock) -> None:
    halt = Halt(clock)

    def slow() -> t.NoReturn:
        clock.now += 60
        raise busy(0)

    with pytest.raises(Fatal):
        retry(slow, (NotAccepted,), 100, halt)
    assert len(halt.waits) == 1


def test_server_that_keeps_saying_at_once_is_not_asked_without_a_pause(clock: Clock) -> None:
    halt = Halt(clock)
    retry(failing(*[busy(0)] * 50), (NotAccepted,), 100, halt)
    assert halt.waits[0] == 0
    assert 5 < sum(halt.waits) < 25
    assert max(halt.waits) <= 0.5


def test_waiting_is_told_before_each_wait_with_what_is_left(clock: Clock) -> None:
    told: list[tuple[int | None, float]] = []
    errors = [busy(10), busy(20), busy(15)]
    retry(
        failing(*errors),
        (NotAccepted,),
        500,
        Halt(clock),
        lambda error, left: told.append((error.code, left)),
    )
    assert told == [(503, 500), (503, 490), (503, 470)]


def test_failures_are_warned_of_at_first_and_at_growing_intervals(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    started, notices, said = clock.now, Notices(), []

    def failed_(error: ApiError, left: float) -> None:
        before = len(caplog.messages)
        notices.failed("batch 1", error, left)
        notices.failed("batch 2", error, left)  # of another worker
        said.extend([clock.now - started] * (len(caplog.messages) - before))

    with pytest.raises(Fatal):
        retry(failing(*[busy(1)] * 1000), (NotAccepted,), 500, Halt(clock), failed_)
    assert said == [0, 30, 90, 210, 450]
    assert [caplog.messages[0], caplog.messages[-1]] == [
        "batch 1: tasks/status: HTTP 503. It is tried again for 8 minutes (retry_max_seconds)",
        "batch 1: tasks/status: HTTP 503. It is tried again for 50 s (retry_max_seconds)",
    ]

    clock.now += 30
    notices.failed("batch 3", busy(), 300)
    clock.now += 121  # it was well for a while
    notices.failed("batch 4", busy(), 300)
    assert len(caplog.messages) == 6
    assert caplog.messages[-1].startswith("batch 4: ")


def test_waiting_is_not_told_where_nothing_is_waited_for() -> None:
    told: list[float] = []
    with pytest.raises(Fatal):
        retry(failing(busy()), (NotAccepted,), 0, Halt(), lambda _, left: told.append(left))
    retry(failing(), (NotAccepted,), 0, Halt(), lambda _, left: told.append(left))
    assert told == []


def test_halt_ends_the_wait_after_the_failure(clock: Clock) -> None:
    halt = Halt(clock, halts_in=3)
    with pytest.raises(Halted):
        retry(failing(*[busy(1)] * 9), (NotAccepted,), 100, halt)
    assert halt.waits == [1, 1, 1]
