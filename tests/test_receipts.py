from __future__ import annotations

import json
import sys
import typing as t
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from target_altcraft.codec import decode_json
from target_altcraft.receipts import KeyWriter, Receipts
from target_altcraft.settings import resolve

if t.TYPE_CHECKING:
    from pathlib import Path

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.text(st.characters(codec=None), max_size=4),
    st.lists(st.integers(0, 9), max_size=2),
    st.sampled_from([Decimal("12.10"), "\n", "a\nb", "\ud800", {"a": "\n"}]),
)


@given(
    names=st.lists(st.text(max_size=3), max_size=3, unique=True),
    rows=st.lists(st.lists(VALUES, min_size=4, max_size=4), max_size=5),
)
@example(names=["id"], rows=[["\ud800", 0, 0, 0], ["\n", 0, 0, 0], [1, 0, 0, 0]])
@example(names=['i"\n'], rows=[[1, 0, 0, 0]])
@example(names=[], rows=[[1, 0, 0, 0]])
@example(names=["a", "b"], rows=[["\ud800", Decimal("12.10"), 0, 0]])
@example(names=["a", "b"], rows=[["\ud800", {"\udfff": [Decimal("12.10"), None]}, 0, 0]])
def test_keys_written_together_are_those_written_alone(
    names: list[str], rows: list[list[t.Any]]
) -> None:
    writer = KeyWriter(names)
    records = [dict(zip([*names, "beside"], row, strict=False)) for row in rows]
    written = writer.write([writer.key(record) for record in records])
    assert written == [writer.write_one(record) for record in records]
    for line, record in zip(written, records, strict=True):
        assert b"\n" not in line
        assert decode_json(line) == {name: record[name] for name in names}


def test_numbers_of_a_key_stay_as_they_are_written() -> None:
    writer = KeyWriter(["id"])
    assert writer.write([Decimal("12.10"), 7]) == [b'{"id":12.10}', b'{"id":7}']


@pytest.mark.parametrize("names", [["id"], ["id", "other"]])
def test_a_key_that_is_nested_too_deeply_costs_the_others_nothing(names: list[str]) -> None:
    deep: list[t.Any] = []
    for _ in range(sys.getrecursionlimit() * 200):
        deep = [deep]
    writer = KeyWriter(names)
    keys = [writer.key({"id": value, "other": 0}) for value in (1, deep, 2)]
    first, middle, last = map(json.loads, writer.write(keys))
    assert (first["id"], last["id"]) == (1, 2)
    assert middle in ({"id": None}, None)


@pytest.mark.parametrize("number", [1, 499, 500, 501, 1201])
def test_each_profile_has_a_receipt_with_its_key_and_id(tmp_path: Path, number: int) -> None:
    receipts = Receipts(str(tmp_path / "receipts"))
    stream = resolve({"api_url": "https://a.invalid", "token": "t", "workflow_id": 7}).stream("x")
    keys = [b'{"id":%d}' % n for n in range(number)]
    ids = [None if n % 100 == 99 else f"p{n}" for n in range(number)]
    receipts.add(stream, "task", keys, ids)
    receipts.close()
    lines = [json.loads(line) for line in (tmp_path / "receipts").read_bytes().splitlines()]
    assert [line["key"]["id"] for line in lines] == list(range(number))
    assert [line["profile_id"] for line in lines] == ids
    assert {(line["stream"], line["workflow_id"], line["task_id"]) for line in lines} == {
        ("x", 7, "task")
    }
