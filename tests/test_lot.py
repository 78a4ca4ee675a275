from __future__ import annotations

import typing as t
from contextlib import closing

import pytest

from target_altcraft.lot import Lot, State
from target_altcraft.pipeline import Pipeline
from target_altcraft.reader import LineReader
from target_altcraft.route import Output
from target_altcraft.settings import resolve

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from target_altcraft.batch import Batch
    from target_altcraft.lot import Waiting
    from target_altcraft.router import Router

CUSTOMERS = Output(
    name="customers",
    transform=None,
    check=lambda _: None,
    schema={"properties": {"id": {"type": "integer"}, "email": {"type": "string"}}},
    keys=["id"],
    source_keys=["id"],
    bookmarks=[],
    definition=None,
)


def test_states_without_records_between_them_fill_a_lot() -> None:
    lot = Lot()
    added = [lot.add_state(b"{}", 1) for _ in range(1000)]
    assert added == [False] * 999 + [True]
    assert Lot().add_state(b"x" * 4_000_000, 1)


@pytest.fixture
def batches() -> list[Batch]:
    return []


@pytest.fixture
def router(tmp_path: Path, batches: list[Batch]) -> Iterator[Router]:
    """A router that nobody tells that the input pauses."""
    settings = resolve(
        {
            "api_url": "https://altcraft.invalid",
            "token": "token",
            "workflow_id": 1,
            "check_workflow": False,
            "dry_run": True,
            "journal_path": str(tmp_path / "journal.sqlite"),
            "batch_size_rows": 1,
        }
    )
    pipeline = Pipeline(
        settings, LineReader(), handed_over=batches.append, delivered=lambda *_: None
    )
    with closing(pipeline.outcomes):
        pipeline.router.enter("customers", [CUSTOMERS])
        yield pipeline.router


def test_what_was_rejected_before_a_state_is_not_later() -> None:
    lot = Lot()
    lot.note_rejected("customers", 1)
    assert lot.rejected == []  # nothing waits that came before it
    lot.waiting.append(t.cast("Waiting", ()))
    lot.note_rejected("customers", 3)
    assert lot.later(State(1, b"{}", 2)).rejected == {"customers": 1}
    assert lot.later(State(1, b"{}", 3)).rejected == {}


def feed(router: Router, number: int, size: int = 0) -> None:
    record = {"id": number, "email": f"{number}@b.c"}
    router.record("customers", record, {"record": record}, lambda: bytes(size))


def test_a_lot_that_is_full_of_states_is_judged(router: Router, batches: list[Batch]) -> None:
    feed(router, 1)
    for _ in range(999):
        router.state({}, b"{}")
    assert not batches
    router.state({}, b"{}")
    assert len(batches) == 1


def test_a_lot_that_is_full_of_records_is_judged(router: Router, batches: list[Batch]) -> None:
    for number in range(999):
        feed(router, number)
    assert not batches
    feed(router, 999)
    assert len(batches) == 1000
    feed(router, 1000)
    assert len(batches) == 1000


def test_a_lot_of_much_is_judged(router: Router, batches: list[Batch]) -> None:
    for number in range(3):
        feed(router, number, 1_300_000)
    assert not batches
    feed(router, 3, 1_300_000)
    assert len(batches) == 4
