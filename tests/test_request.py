"""One request as a state machine: every state, every event, and doubt that sticks."""

from __future__ import annotations

import itertools
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_altcraft.batch import OpenBatches
from target_altcraft.delivery.limit import SizeLimit
from target_altcraft.delivery.request import Event, Request, State
from target_altcraft.delivery.split import Part
from target_altcraft.errors import ImpossibleTransition
from target_altcraft.origin import Origin
from target_altcraft.profile import Entry
from target_altcraft.settings import StreamSettings

if t.TYPE_CHECKING:
    from target_altcraft.batch import Batch

UNSENT, WIRE, DOUBT, AGAIN = State.UNSENT, State.ON_THE_WIRE, State.IN_DOUBT, State.SENT_AGAIN
ACCEPTED, UNTRACEABLE = State.ACCEPTED, State.UNTRACEABLE
REFUSED, REFUSED_IN_DOUBT = State.REFUSED, State.REFUSED_IN_DOUBT
LARGE, LARGE_IN_DOUBT = State.TOO_LARGE, State.TOO_LARGE_IN_DOUBT
NO = None
EVENTS = (
    Event.BODY_BEGINS,
    Event.NOT_ACCEPTED,
    Event.OUTCOME_UNKNOWN,
    Event.ACCEPTED,
    Event.ACCEPTED_WITHOUT_ID,
    Event.REFUSED,
    Event.TOO_LARGE,
    Event.SPLIT,
)
# One column an event, in the order above.
SENDING: dict[State, tuple[State | None, ...]] = {
    UNSENT: (WIRE, UNSENT, NO, NO, NO, NO, NO, State.SPLIT),
    WIRE: (NO, UNSENT, DOUBT, ACCEPTED, UNTRACEABLE, REFUSED, LARGE, NO),
    DOUBT: (AGAIN, DOUBT, NO, NO, NO, NO, NO, State.SPLIT),
    AGAIN: (NO, DOUBT, DOUBT, ACCEPTED, UNTRACEABLE, REFUSED_IN_DOUBT, LARGE_IN_DOUBT, NO),
    REFUSED: (*[NO] * 7, State.SPLIT),
    REFUSED_IN_DOUBT: (*[NO] * 7, State.SPLIT),
    LARGE: (*[NO] * 7, State.SPLIT),
    LARGE_IN_DOUBT: (*[NO] * 7, State.SPLIT),
}
FOLLOWING = {
    Event.COMPLETED: State.COMPLETED,
    Event.FAILED: State.FAILED,
    Event.VANISHED: State.VANISHED,
    Event.NOT_FINISHED: State.UNFINISHED,
}
TABLE = {
    (state, event): after
    for state, row in SENDING.items()
    for event, after in zip(EVENTS, row, strict=True)
    if after is not None
} | {(State.ACCEPTED, event): after for event, after in FOLLOWING.items()}
IN_DOUBT = {DOUBT, AGAIN, REFUSED_IN_DOUBT, LARGE_IN_DOUBT}
WAYS: dict[State, tuple[Event, ...]] = {
    State.UNSENT: (),
    State.ON_THE_WIRE: (Event.BODY_BEGINS,),
    State.IN_DOUBT: (Event.BODY_BEGINS, Event.OUTCOME_UNKNOWN),
    State.SENT_AGAIN: (Event.BODY_BEGINS, Event.OUTCOME_UNKNOWN, Event.BODY_BEGINS),
    State.ACCEPTED: (Event.BODY_BEGINS, Event.ACCEPTED),
    State.UNTRACEABLE: (Event.BODY_BEGINS, Event.ACCEPTED_WITHOUT_ID),
    State.COMPLETED: (Event.BODY_BEGINS, Event.ACCEPTED, Event.COMPLETED),
    State.FAILED: (Event.BODY_BEGINS, Event.ACCEPTED, Event.FAILED),
    State.VANISHED: (Event.BODY_BEGINS, Event.ACCEPTED, Event.VANISHED),
    State.UNFINISHED: (Event.BODY_BEGINS, Event.ACCEPTED, Event.NOT_FINISHED),
    State.REFUSED: (Event.BODY_BEGINS, Event.REFUSED),
    State.TOO_LARGE: (Event.BODY_BEGINS, Event.TOO_LARGE),
    State.SPLIT: (Event.SPLIT,),
}
DOUBTED = (Event.BODY_BEGINS, Event.OUTCOME_UNKNOWN, Event.BODY_BEGINS)
WAYS[State.REFUSED_IN_DOUBT] = (*DOUBTED, Event.REFUSED)
WAYS[State.TOO_LARGE_IN_DOUBT] = (*DOUBTED, Event.TOO_LARGE)


def a_batch(entries: int = 4) -> Batch:
    handed: list[Batch] = []
    batches = OpenBatches(
        max_rows=lambda _stream: entries,
        limit=SizeLimit(10_000),
        token="tok-secret",
        next_number=lambda: 3,
        opened=lambda _batch: None,
        hand_over=handed.append,
    )
    for number in range(entries):
        body = b'{"data":{"id":%d}}' % number
        batches.add(StreamSettings("orders", 12), Entry(body, f"c{number}"), Origin(place=number))
    (batch,) = handed
    return batch


BATCH = a_batch()


def a_request(
    state: State = State.UNSENT, seen: list[tuple[State, State]] | None = None
) -> Request:
    """A request that came to a state in the shortest way."""

    def observe(request: Request, before: State) -> None:
        if seen is not None:
            seen.append((before, request.state))

    request = Request(7, BATCH, Part(0, 4), observe)
    for event in WAYS[state]:
        request.happened(event)
    assert request.state is state
    return request


# The table


@pytest.mark.parametrize(
    ("state", "event"),
    list(itertools.product(State, Event)),
    ids=lambda value: value.value,
)
def test_each_event_in_each_state_leads_where_the_table_says_or_is_impossible(
    state: State, event: Event
) -> None:
    request = a_request(state)
    after = TABLE.get((state, event))
    if after is not None:
        request.happened(event)
        assert request.state is after
        return
    with pytest.raises(ImpossibleTransition, match=f"{event.value} while {state.value}"):
        request.happened(event)
    assert request.state is state


@pytest.mark.parametrize("state", State, ids=lambda state: state.value)
def test_a_request_in_a_state_is_in_doubt_where_an_attempt_may_have_been_accepted(
    state: State,
) -> None:
    assert a_request(state).in_doubt is (state in IN_DOUBT)


def test_every_state_can_be_reached() -> None:
    assert set(WAYS) == set(State)


# Doubt sticks


@given(st.data())
def test_from_doubt_only_an_acceptance_or_its_parts_lead_on(data: st.DataObject) -> None:
    request = a_request(State.IN_DOUBT)
    for _ in range(data.draw(st.integers(min_value=1, max_value=30))):
        possible = [event for state, event in TABLE if state is request.state]
        if not possible:
            break
        event = data.draw(st.sampled_from(sorted(possible, key=lambda each: each.value)))
        if event in {Event.ACCEPTED, Event.ACCEPTED_WITHOUT_ID}:
            request.happened(event)
            assert not request.in_doubt
            return
        parts = request.parts()
        request.happened(event)
        if event is Event.SPLIT:
            assert {part.doubted for part in parts} == {7}
            assert all(Request(8, BATCH, part).in_doubt for part in parts)
            return
        assert request.in_doubt


def test_an_answer_that_it_was_not_accepted_does_not_end_an_earlier_doubt() -> None:
    request = a_request(State.IN_DOUBT)
    for _ in range(3):
        request.happened(Event.BODY_BEGINS)
        assert request.in_doubt
        request.happened(Event.NOT_ACCEPTED)
        assert request.state is State.IN_DOUBT


def test_what_failed_before_its_body_began_leaves_a_request_as_it_was() -> None:
    for state in (State.UNSENT, State.IN_DOUBT):
        request = a_request(state)
        attempts = request.attempts
        request.happened(Event.NOT_ACCEPTED)
        assert (request.state, request.attempts) == (state, attempts)


# Its parts


def test_halves_of_a_request_in_doubt_say_which_request_doubts_them() -> None:
    request = a_request(State.IN_DOUBT)
    request.sent_again()
    first, second = request.parts()
    assert first == Part(0, 2, resends=1, doubted=7, offset=0)
    assert second == Part(2, 4, resends=1, doubted=7, offset=0)
    half = Request(8, BATCH, second)
    assert (half.state, half.resends, half.in_doubt) == (State.IN_DOUBT, 1, True)
    half.sent_again()
    assert half.parts()[0] == Part(2, 3, resends=2, doubted=8, offset=2)


def test_halves_of_a_request_without_doubt_are_without() -> None:
    first, second = a_request(State.TOO_LARGE).parts()
    assert (first, second) == (Part(0, 2), Part(2, 4))
    assert Request(8, BATCH, first).state is State.UNSENT


@pytest.mark.parametrize("state", [REFUSED_IN_DOUBT, LARGE_IN_DOUBT, AGAIN])
def test_doubt_goes_with_the_halves_of_what_was_refused_or_too_large(state: State) -> None:
    assert {part.doubted for part in a_request(state).parts()} == {7}


# What is told of it


def test_each_change_is_observed_once_with_the_state_before() -> None:
    seen: list[tuple[State, State]] = []
    request = a_request(State.SENT_AGAIN, seen)
    request.accepted("30421978")
    request.asked(40.0)
    request.completed((2,))
    assert seen == [
        (State.UNSENT, State.ON_THE_WIRE),
        (State.ON_THE_WIRE, State.IN_DOUBT),
        (State.IN_DOUBT, State.SENT_AGAIN),
        (State.SENT_AGAIN, State.ACCEPTED),
        (State.ACCEPTED, State.COMPLETED),
    ]
    assert (request.attempts, request.polls, request.progress) == (2, 1, 40.0)
    assert request.not_imported == (2,)


def test_the_task_is_known_to_who_observes_the_acceptance() -> None:
    seen: list[str | None] = []
    request = Request(1, BATCH, Part(0, 4), lambda each, _: seen.append(each.task_id))
    request.happened(Event.BODY_BEGINS)
    request.accepted("30421978")
    assert seen == [None, "30421978"]


def test_what_was_not_imported_is_known_to_who_observes_the_failure() -> None:
    seen: list[tuple[int, ...]] = []
    request = Request(1, BATCH, Part(0, 4), lambda each, _: seen.append(each.not_imported))
    request.happened(Event.BODY_BEGINS)
    request.accepted("30421978")
    request.failed((0, 3))
    assert seen[-1] == (0, 3)


def test_impossible_event_is_not_observed_and_not_counted() -> None:
    seen: list[tuple[State, State]] = []
    request = a_request(State.ON_THE_WIRE, seen)
    with pytest.raises(ImpossibleTransition):
        request.happened(Event.BODY_BEGINS)
    assert len(seen) == 1
    assert request.attempts == 1


def test_observer_that_raises_stops_what_was_to_happen() -> None:
    def observe(request: Request, _: State) -> None:
        if request.state is State.ON_THE_WIRE:
            raise ConnectionAbortedError

    request = Request(1, BATCH, Part(0, 4), observe)
    with pytest.raises(ConnectionAbortedError):
        request.happened(Event.BODY_BEGINS)


def test_a_request_is_named_by_batch_size_and_task() -> None:
    request = a_request(State.ON_THE_WIRE)
    assert str(request) == "stream 'orders', batch 3 (4 profiles)"
    request.accepted("30421978")
    assert str(request) == "stream 'orders', batch 3 (4 profiles), task 30421978"


def test_size_and_entries_are_those_of_its_part() -> None:
    request = Request(1, BATCH, Part(1, 3))
    assert request.entries() == [b'{"data":{"id":1}}', b'{"data":{"id":2}}']
    assert list(request.origins().places) == [1, 2]
    body = BATCH.envelope.start + b",".join(request.entries()) + BATCH.envelope.end
    assert request.size == len(body)
