"""In which parts a batch goes out: what fits, halves, and the bounds of the search."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_altcraft.batch import OpenBatches
from target_altcraft.delivery.limit import SizeLimit
from target_altcraft.delivery.split import (
    MAX_PER_REFUSED,
    MAX_REFUSED,
    MAX_REFUSED_AT_FIRST,
    Bisection,
    Part,
    fitting,
)
from target_altcraft.profile import Entry
from target_altcraft.settings import StreamSettings

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from target_altcraft.batch import Batch


def a_batch(sizes: Sequence[int]) -> Batch:
    handed: list[Batch] = []
    batches = OpenBatches(
        max_rows=lambda _stream: len(sizes),
        limit=SizeLimit(10_000_000),
        token="tok-secret",
        next_number=lambda: 1,
        opened=lambda _batch: None,
        hand_over=handed.append,
    )
    for number, size in enumerate(sizes):
        batches.add(StreamSettings("orders", 12), Entry(b"x" * size, f"c{number}"))
    (batch,) = handed
    return batch


# Halves


@given(st.integers(0, 1000), st.integers(2, 10_000))
def test_halves_are_the_whole_in_order_and_nearly_equal(first: int, count: int) -> None:
    part = Part(first, first + count, resends=2, doubted=5, offset=first)
    left, right = part.halves()
    assert (left.first, left.last, right.last) == (first, right.first, first + count)
    sizes = left.last - left.first, right.last - right.first
    assert sum(sizes) == count
    assert min(sizes) >= 1
    assert abs(sizes[0] - sizes[1]) <= 1
    for half in (left, right):
        assert (half.resends, half.doubted, half.offset) == (2, 5, first)


@given(st.integers(2, 10_000))
def test_halving_ends_at_single_entries(count: int) -> None:
    part = Part(0, count)
    halvings = 0
    while part.last - part.first > 1:
        part, halvings = part.halves()[1], halvings + 1
    assert halvings <= count.bit_length()


# What fits


def sized(batch: Batch, first: int, count: int) -> int:
    return batch.envelope.size + sum(map(len, batch.entries[first : first + count])) + count - 1


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30), st.data())
def test_as_many_entries_as_fit_go_into_one_body_and_at_least_one(
    sizes: list[int], data: st.DataObject
) -> None:
    batch = a_batch(sizes)
    first = data.draw(st.integers(0, len(sizes) - 1))
    last = data.draw(st.integers(first + 1, len(sizes)))
    limit = data.draw(st.integers(1, 6000))
    count = fitting(batch, Part(first, last), limit)
    assert 1 <= count <= last - first
    assert count == 1 or sized(batch, first, count) <= limit
    if first + count < last:
        assert sized(batch, first, count + 1) > limit


def test_whole_batch_fits_at_its_very_size_and_not_at_one_byte_less() -> None:
    batch = a_batch([100] * 5)
    assert fitting(batch, Part(0, 5), batch.size) == 5
    assert fitting(batch, Part(0, 5), batch.size - 1) == 4


# The search for refused entries


def search(*, refusals: int, of: int = 2, accepted: bool = False) -> list[bool]:
    bisection = Bisection()
    if accepted:
        bisection.accepted()
    answers = []
    for _ in range(refusals):
        bisection.counts()
        answers.append(bisection.refused(of))
    return answers


def test_while_nothing_was_accepted_the_search_ends_at_its_bound() -> None:
    answers = search(refusals=100)
    assert answers.index(False) == MAX_REFUSED_AT_FIRST - 1
    assert not any(answers[MAX_REFUSED_AT_FIRST - 1 :])


def test_each_refused_entry_that_is_found_allows_more_requests_once_some_were_accepted() -> None:
    bisection = Bisection()
    bisection.accepted()
    bisection.refused(1)
    requests = 1
    while bisection.refused(2):
        bisection.counts()
        requests += 1
    assert requests == MAX_REFUSED_AT_FIRST + MAX_PER_REFUSED


def test_found_entries_allow_nothing_more_while_nothing_was_accepted() -> None:
    assert search(refusals=100, of=1).index(False) == MAX_REFUSED_AT_FIRST - 1


def test_too_many_refused_entries_end_the_search_though_others_were_accepted() -> None:
    answers = search(refusals=200, of=1, accepted=True)
    assert answers.index(False) == MAX_REFUSED


def test_requests_before_the_first_refusal_do_not_count() -> None:
    bisection = Bisection()
    for _ in range(1000):
        bisection.counts()
    assert bisection.refused(2)


# The limit after a loss whose halves passed


def test_lost_body_whose_halves_passed_caps_the_size_at_the_largest_accepted() -> None:
    limit = SizeLimit(10_000)
    limit.accepted(500)
    assert limit.cap(1000)
    assert limit.bytes == 500
    limit.accepted(500)
    assert limit.bytes == 500


def test_cap_stays_for_the_rest_of_the_run() -> None:
    limit = SizeLimit(10_000)
    limit.accepted(400)
    limit.cap(1000)
    limit.refused(2000)
    assert limit.bytes == 400
    limit.accepted(450)  # a part that was cut before the cap
    assert limit.bytes == 450
    assert limit.bytes < 1000


def test_lost_body_no_larger_than_an_accepted_one_was_not_lost_by_its_size() -> None:
    limit = SizeLimit(10_000)
    limit.accepted(1000)
    assert not limit.cap(1000)
    assert not limit.cap(999)
    assert limit.bytes == 10_000


def test_second_cap_that_lowers_nothing_is_not_said_again() -> None:
    limit = SizeLimit(10_000)
    limit.accepted(500)
    assert limit.cap(1000)
    assert not limit.cap(1000)


@pytest.mark.parametrize("doubtful", [600, 5000])
def test_cap_below_a_refused_size_lowers_further(doubtful: int) -> None:
    limit = SizeLimit(10_000)
    limit.accepted(500)
    limit.refused(8000)
    assert limit.bytes == 4250
    assert limit.cap(doubtful)
    assert limit.bytes == 500
