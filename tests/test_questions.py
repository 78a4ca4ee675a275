from __future__ import annotations

import hashlib
import typing as t

from hypothesis import example, given
from hypothesis import strategies as st

from target_altcraft.memory.questions import NotedKeys, Questions

if t.TYPE_CHECKING:
    import pytest


def version(bookmark: int, key: int, entry: int = 0) -> bytes:
    digest = hashlib.blake2b(str(key).encode(), digest_size=12).digest()
    return bookmark.to_bytes(8, "big") + digest + entry.to_bytes(8, "big")


def asked(about: Questions, *lot: bytes) -> list[int]:
    return about.about(lot)


LOTS = st.lists(
    st.lists(
        st.builds(version, st.integers(1, 4), st.integers(1, 3), st.integers(0, 1)), min_size=1
    ),
    max_size=6,
)


@given(lots=LOTS, left=st.none() | st.builds(version, st.integers(1, 4), st.integers(1, 3)))
@example(lots=[[version(2, 1)], [version(2, 1), version(3, 1)]], left=None)
@example(lots=[[version(1, 1)], [version(2, 1), version(3, 1)]], left=version(3, 1))
@example(lots=[[version(1, 3), version(2, 1), version(2, 2)]] * 2, left=None)
@example(lots=[[version(1, 3), version(2, 1), version(2, 2)], [version(2, 1)]], left=None)
@example(lots=[[version(1, 3), version(2, 1), version(2, 2)], [version(2, 2)]], left=None)
def test_whatever_the_journal_may_know_is_asked_about(
    lots: list[list[bytes]], left: bytes | None
) -> None:
    greatest = left[:20] if left else None
    about = Questions(greatest, NotedKeys(), by_key=False)
    ids: set[bytes] = set()
    for lot in lots:
        positions = set(about.about(lot))
        for position, each in enumerate(lot):
            may_be_known = each[:20] in ids or (greatest is not None and each[:20] <= greatest)
            assert position in positions or not may_be_known
        ids |= {each[:20] for each in lot}


@given(lots=LOTS, left=st.none() | st.just(bytes(20)))
def test_by_key_whatever_the_journal_may_know_is_asked_about(
    lots: list[list[bytes]], left: bytes | None
) -> None:
    about = Questions(left, NotedKeys(), by_key=True)
    keys: set[bytes] = set()
    for lot in lots:
        positions = set(about.about(lot))
        for position, each in enumerate(lot):
            assert position in positions or not (left or each[8:20] in keys)
        keys |= {each[8:20] for each in lot}


def test_nothing_is_asked_of_what_comes_in_the_bookmarks_order() -> None:
    about = Questions(version(1, 1)[:20], NotedKeys(), by_key=False)
    for first in range(2, 2_000, 100):
        lot = [version(first + n, first + n) for n in range(100)]
        assert about.about(lot) == []
    assert asked(about, version(1_500, 1_500), version(3_000, 3_000)) == [0]


def test_next_to_nothing_is_asked_of_new_rows_that_share_one_bookmark() -> None:
    about = Questions(None, NotedKeys(), by_key=False)
    number = 0
    for first in range(0, 50_000, 500):
        number += len(about.about([version(7, key) for key in range(first, first + 500)]))
    assert number <= 5
    assert len(asked(about, *(version(7, key) for key in range(500)))) == 500


def keyed(slot: bytes, print_: int) -> bytes:
    return bytes(8) + slot + bytes(3) + print_.to_bytes(2, "big") + bytes(12)


OF_ONE_SLOT = [keyed(b"\xff\xff\xff", print_) for print_ in range(1, 4)]


def test_a_key_whose_slot_is_taken_is_noted_all_the_same() -> None:
    noted = NotedKeys()
    assert noted.note(OF_ONE_SLOT[:2] * 2) == [False, False, True, True]
    of_another_slot = [keyed(b"\xee\xee\xee", print_) for print_ in (1, 2)]
    assert noted.note(of_another_slot) == [False, False]


def test_a_key_whose_digest_has_nought_for_a_print_is_noted_all_the_same() -> None:
    noted = NotedKeys()
    assert noted.note([keyed(b"\xff\xff\xff", 0)] * 2) == [False, True]


def test_when_there_is_no_room_left_all_seem_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("target_altcraft.memory.questions._MOST_DISPLACED", 1)
    noted = NotedKeys()
    assert noted.note(OF_ONE_SLOT) == [False, False, False]
    assert noted.note([version(7, 4)]) == [True]
