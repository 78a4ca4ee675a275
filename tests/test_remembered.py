from __future__ import annotations

import os
import random
import typing as t
from contextlib import closing

import pytest

from target_altcraft.memory.journal import Journal
from target_altcraft.memory.remembered import Remembered

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(str(tmp_path / "journal.sqlite"))) as journal:
        yield journal


def version(bookmark: int) -> bytes:
    return bookmark.to_bytes(8, "big") + os.urandom(20)


@pytest.mark.parametrize("number", [1, 2, 99, 100, 101, 199, 200, 1000, 10_001])
@pytest.mark.parametrize("by_key", [False, True])
@pytest.mark.parametrize("order", ["ascending", "one", "any"])
def test_each_of_many_versions_is_remembered_and_found_at_its_place(
    journal: Journal, number: int, *, by_key: bool, order: str
) -> None:
    remembered = Remembered(journal)
    row = remembered.stream("customers", bytes(16), by_key=by_key)
    bookmarks = [1] * number if order == "one" else list(range(1, number + 1))
    if order == "any":
        random.Random(number).shuffle(bookmarks)
    versions = [version(bookmark) for bookmark in bookmarks]

    remembered.remember(row.id, row.mapping, b"".join(versions), b"", by_key=by_key)

    found = remembered.known(row.id, versions, by_key=by_key)
    assert sorted(found) == list(range(number))
    entries = {position: [known.entry for known in each] for position, each in found.items()}
    assert entries == {position: [each[20:]] for position, each in enumerate(versions)}
    assert by_key or remembered.are_delivered(row.id, row.mapping, versions)
    others = [*versions, version(number + 1)]
    assert not remembered.are_delivered(row.id, row.mapping, others)
    assert number not in remembered.known(row.id, others, by_key=by_key)
