from __future__ import annotations

import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from target_altcraft.delivery.limit import SizeLimit

MAXIMUM = 10_000_000


def test_limit_is_the_setting_until_the_host_refuses() -> None:
    limit = SizeLimit(MAXIMUM)
    limit.accepted(5_000_000)
    limit.accepted(MAXIMUM)
    assert limit.bytes == limit.maximum == MAXIMUM


def test_first_refusal_brings_the_limit_down_to_a_quarter() -> None:
    limit = SizeLimit(MAXIMUM)
    assert limit.refused(8_000_000)
    assert limit.bytes == 2_000_000
    assert limit.maximum == MAXIMUM


def test_only_the_first_refusal_is_called_the_first() -> None:
    limit = SizeLimit(MAXIMUM)
    assert limit.refused(8_000_000)
    assert not limit.refused(2_000_000)
    assert not limit.refused(9_000_000)


def test_refusals_without_an_acceptance_keep_bringing_it_down() -> None:
    limit = SizeLimit(MAXIMUM)
    sizes = []
    while limit.bytes > 1:
        limit.refused(limit.bytes)
        sizes.append(limit.bytes)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1


def test_limit_goes_between_the_largest_accepted_and_the_smallest_refused() -> None:
    limit = SizeLimit(MAXIMUM)
    limit.refused(8_000_000)
    limit.accepted(2_000_000)
    assert limit.bytes == 5_000_000
    limit.refused(5_000_000)
    assert limit.bytes == 3_500_000
    limit.accepted(3_500_000)
    assert limit.bytes == 4_250_000


def test_larger_refusal_and_smaller_acceptance_say_nothing_new() -> None:
    limit = SizeLimit(MAXIMUM)
    limit.refused(4_000_000)
    limit.accepted(2_000_000)
    before = limit.bytes
    limit.refused(9_000_000)
    limit.accepted(10)
    assert limit.bytes == before


@settings(deadline=None)
@given(st.integers(min_value=2000, max_value=MAXIMUM - 1))
def test_limit_finds_the_hosts_own_within_few_refusals(host: int) -> None:
    limit = SizeLimit(MAXIMUM)
    refusals = 0
    for _ in range(60):
        size = limit.bytes
        if size > host:
            refusals += 1
            limit.refused(size)
        else:
            limit.accepted(size)
    assert host * 0.94 <= limit.bytes <= host
    assert refusals <= 12
    settled = limit.bytes
    limit.accepted(settled)
    assert limit.bytes == settled


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(min_value=1, max_value=MAXIMUM)), max_size=50))
def test_limit_stays_between_one_and_the_setting_whatever_the_answers(
    answers: list[tuple[bool, int]],
) -> None:
    limit = SizeLimit(MAXIMUM)
    for taken, size in answers:
        if taken:
            limit.accepted(size)
        else:
            limit.refused(size)
        assert 1 <= limit.bytes <= MAXIMUM


@settings(deadline=None)
@given(
    st.integers(min_value=1000, max_value=MAXIMUM),
    st.lists(st.integers(min_value=1, max_value=MAXIMUM), max_size=50),
)
def test_limit_never_returns_to_what_a_steady_host_refused(host: int, sizes: list[int]) -> None:
    limit = SizeLimit(MAXIMUM)
    refused = MAXIMUM + 1
    for size in sizes:
        if size > host:
            limit.refused(size)
            refused = min(refused, size)
        else:
            limit.accepted(size)
        assert limit.bytes < refused


def test_only_one_of_many_threads_is_told_that_its_refusal_is_the_first() -> None:
    limit = SizeLimit(MAXIMUM)
    barrier = threading.Barrier(8)
    first: list[bool] = []

    def refuse(size: int) -> None:
        barrier.wait(10)
        first.append(limit.refused(size))

    threads = [threading.Thread(target=refuse, args=(size,)) for size in range(1000, 9000, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(first) == [False] * 7 + [True]
    assert limit.bytes == 250
