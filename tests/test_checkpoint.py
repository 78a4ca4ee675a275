from __future__ import annotations

import random
import threading
import typing as t
import weakref

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from target_altcraft.checkpoint import Checkpoints

if t.TYPE_CHECKING:
    from collections.abc import Callable


def recorded() -> tuple[Checkpoints, list[t.Any]]:
    written: list[t.Any] = []
    return Checkpoints(lambda state, _: written.append(state)), written


def test_state_before_any_batch_is_written_at_once() -> None:
    checkpoints, written = recorded()
    checkpoints.add({"a": 1}, 0)
    assert written == [{"a": 1}]


def test_state_waits_for_the_batch_of_every_earlier_record() -> None:
    checkpoints, written = recorded()
    one, two = checkpoints.open_batch(), checkpoints.open_batch()
    checkpoints.add("state", 0)
    checkpoints.settle(two)
    assert written == []
    checkpoints.settle(one)
    assert written == ["state"]


def test_state_does_not_wait_for_batches_that_were_opened_after_it() -> None:
    checkpoints, written = recorded()
    one = checkpoints.open_batch()
    checkpoints.add("state", 0)
    checkpoints.open_batch()
    checkpoints.settle(one)
    assert written == ["state"]


def test_state_after_settled_batches_is_written_at_once() -> None:
    checkpoints, written = recorded()
    checkpoints.settle(checkpoints.open_batch())
    checkpoints.add("state", 0)
    assert written == ["state"]


def test_states_come_out_in_order_as_their_batches_settle() -> None:
    checkpoints, written = recorded()
    numbers = []
    for state in range(3):
        numbers.append(checkpoints.open_batch())
        checkpoints.add(state, 0)
    for number in numbers:
        checkpoints.settle(number)
    assert written == [0, 1, 2]


def test_states_that_become_safe_together_collapse_into_the_newest() -> None:
    checkpoints, written = recorded()
    numbers = []
    for state in range(5):
        numbers.append(checkpoints.open_batch())
        checkpoints.add(state, 0)
    for number in reversed(numbers):
        checkpoints.settle(number)
    assert written == [4]


def test_of_two_states_on_the_same_batch_the_newer_counts() -> None:
    checkpoints, written = recorded()
    number = checkpoints.open_batch()
    checkpoints.add("old", 0)
    checkpoints.add("new", 0)
    checkpoints.settle(number)
    assert written == ["new"]


def test_nothing_is_written_twice() -> None:
    checkpoints, written = recorded()
    for state in range(3):
        number = checkpoints.open_batch()
        checkpoints.add(state, 0)
        checkpoints.settle(number)
    checkpoints.settle(checkpoints.open_batch())
    assert written == [0, 1, 2]


def test_numbers_of_batches_rise_from_one() -> None:
    checkpoints, _ = recorded()
    assert [checkpoints.open_batch() for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("state", [None, {}, 0, "", []])
def test_state_of_any_value_is_written(state: t.Any) -> None:
    checkpoints, written = recorded()
    number = checkpoints.open_batch()
    checkpoints.add(state, 0)
    checkpoints.settle(number)
    assert written == [state]


def test_batch_that_never_settles_holds_every_later_state_back() -> None:
    checkpoints, written = recorded()
    checkpoints.open_batch()
    for state in range(20):
        number = checkpoints.open_batch()
        checkpoints.add(state, 0)
        checkpoints.settle(number)
    assert written == []


def test_state_is_written_with_the_place_in_the_input_that_it_covers() -> None:
    written: list[tuple[t.Any, int]] = []
    checkpoints = Checkpoints(lambda state, place: written.append((state, place)))
    checkpoints.add("before any", 0)
    one, two = checkpoints.open_batch(), checkpoints.open_batch()
    checkpoints.add("after two", 7)
    three = checkpoints.open_batch()
    for number in (three, one, two):
        checkpoints.settle(number)
    checkpoints.add("after three", 9)
    assert written == [("before any", 0), ("after two", 7), ("after three", 9)]


# What may go wrong while writing


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_failed_write_is_the_last_one_and_its_caller_learns_of_it(
    error: type[BaseException],
) -> None:
    attempts = []

    def write(state: t.Any, _: int) -> None:
        attempts.append(state)
        raise error

    checkpoints = Checkpoints(write)
    number = checkpoints.open_batch()
    checkpoints.add(1, 0)
    with pytest.raises(error):
        checkpoints.settle(number)
    checkpoints.add(2, 0)
    checkpoints.settle(checkpoints.open_batch())
    assert attempts == [1]


def test_state_that_becomes_safe_during_a_write_is_written_after_it() -> None:
    written: list[t.Any] = []
    checkpoints: Checkpoints

    def write(state: t.Any, _: int) -> None:
        written.append(state)
        if state == "first":
            checkpoints.settle(two)
            assert written == ["first"]  # one at a time

    checkpoints = Checkpoints(write)
    one = checkpoints.open_batch()
    checkpoints.add("first", 0)
    two = checkpoints.open_batch()
    checkpoints.add("second", 0)
    checkpoints.settle(one)
    assert written == ["first", "second"]


class Value:
    """A STATE whose being held can be observed."""


class Stalled:
    """Checkpoints whose first write stalls in another thread until the end of the block."""

    def __init__(self) -> None:
        self.written: list[t.Any] = []
        self._entered = threading.Event()
        self._go_on = threading.Event()
        self.checkpoints = Checkpoints(self._write)
        self._thread = threading.Thread(target=self.checkpoints.add, args=("stalls", 0))

    def _write(self, state: t.Any, _: int) -> None:
        self._entered.set()
        assert self._go_on.wait(30)
        self.written.append(state)

    def __enter__(self) -> Stalled:  # noqa: PYI034 - typing.Self is newer than our oldest Python
        self._thread.start()
        assert self._entered.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._go_on.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


def test_stalled_write_holds_nobody_else_up_and_the_newest_comes_after_it() -> None:
    with Stalled() as stalled:
        for state in range(5):
            number = stalled.checkpoints.open_batch()
            stalled.checkpoints.add(state, 0)
            stalled.checkpoints.settle(number)
        assert stalled.written == []
    assert stalled.written == ["stalls", 4]


def held(references: list[weakref.ref[Value]]) -> int:
    return sum(reference() is not None for reference in references)


def test_states_held_do_not_outnumber_the_unsettled_batches() -> None:
    checkpoints = Checkpoints(lambda *_: None)
    references: list[weakref.ref[Value]] = []

    def add(number: int) -> None:
        for _ in range(number):
            value = Value()
            references.append(weakref.ref(value))
            checkpoints.add(value, 0)

    unsettled = []
    for opened in range(1, 10):
        unsettled.append(checkpoints.open_batch())
        add(20)
        assert held(references) == opened
    while unsettled:
        checkpoints.settle(unsettled.pop())
        add(20)
    assert held(references) == 0


def test_states_held_stay_few_while_a_write_stalls() -> None:
    references = []
    with Stalled() as stalled:
        for _ in range(100):
            number = stalled.checkpoints.open_batch()
            value = Value()
            references.append(weakref.ref(value))
            stalled.checkpoints.add(value, 0)
            stalled.checkpoints.settle(number)
        del value
        number_held = held(references)
    assert number_held <= 2


# Any sequence


class CheckpointsMachine(RuleBasedStateMachine):
    """Opens, settles and adds in any order; a model says what must have been written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[int] = []
        self.expected: list[int] = []
        self.checkpoints = Checkpoints(self.write)
        self.unsettled: list[int] = []
        self.depends_on: dict[int, set[int]] = {}
        self.states = 0

    def write(self, state: int, place: int) -> None:
        assert place == 10 * state
        self.written.append(state)

    @initialize()
    def begin(self) -> None:
        assert self.written == []

    @rule()
    def open_batch(self) -> None:
        self.unsettled.append(self.checkpoints.open_batch())

    @precondition(lambda self: self.unsettled)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.unsettled))
        self.unsettled.remove(number)
        self.checkpoints.settle(number)
        self.expect()

    @rule()
    def add(self) -> None:
        self.states += 1
        self.depends_on[self.states] = set(self.unsettled)
        self.checkpoints.add(self.states, 10 * self.states)
        self.expect()

    def expect(self) -> None:
        safe = [
            state
            for state, numbers in self.depends_on.items()
            if numbers.isdisjoint(self.unsettled)
        ]
        newest = max(safe, default=0)
        if newest > max(self.expected, default=0):
            self.expected.append(newest)

    @invariant()
    def exactly_what_is_safe_was_written(self) -> None:
        assert self.written == self.expected


CheckpointsMachine.TestCase.settings = settings(deadline=None, stateful_step_count=60)
TestAnySequenceOfBatchesAndStates = CheckpointsMachine.TestCase


# Several threads


def in_threads(number: int, work: Callable[[int], None]) -> None:
    failures: list[BaseException] = []

    def run(place: int) -> None:
        try:
            work(place)
        except BaseException as error:  # noqa: BLE001 - the test raises it
            failures.append(error)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    if failures:
        raise failures[0]


@pytest.mark.parametrize("seed", range(3))
def test_from_many_threads_no_state_is_early_doubled_lost_or_out_of_order(seed: int) -> None:
    batches, workers, reader = 3000, 4, 4
    lock = threading.Lock()
    settled: set[int] = set()
    pending: list[int] = []
    written: list[int] = []
    busy = threading.Lock()
    done = threading.Event()

    def write(state: int, covered: int) -> None:
        assert covered == state
        assert busy.acquire(blocking=False)  # one call at a time
        try:
            with lock:
                assert settled.issuperset(range(1, state + 1))
            written.append(state)
        finally:
            busy.release()

    checkpoints = Checkpoints(write)

    def work(place: int) -> None:
        rng = random.Random(seed * 10 + place)
        if place == reader:
            for _ in range(batches):
                number = checkpoints.open_batch()
                with lock:
                    pending.append(number)
                if rng.random() < 0.5:
                    checkpoints.add(number, number)  # a STATE says up to which batch it is about
            checkpoints.add(batches, batches)
            done.set()
            return
        while True:
            with lock:
                if not pending and done.is_set():
                    return
                number = pending.pop(rng.randrange(min(len(pending), 8))) if pending else 0
                if number:
                    settled.add(number)
            if number:
                checkpoints.settle(number)

    in_threads(workers + 1, work)
    assert written == sorted(set(written))
    assert written[-1] == batches
