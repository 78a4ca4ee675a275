"""A column that the settings name and no SCHEMA does is said."""

from __future__ import annotations

import typing as t

import pytest
from harness import customer, schema, state

from target_altcraft.named_columns import NamedColumns, columns_of

if t.TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result

    Deliver = Callable[..., Result]

NO_SCHEMA = "which no SCHEMA names after stream maps"
ITS_SCHEMA = "which its SCHEMA does not name after stream maps"
NAMING: dict[str, dict[str, t.Any]] = {
    "content_columns": {"content_columns": ["e_mail"]},
    "custom_data_columns": {"custom_data_columns": ["e_mail"]},
    "attach_column": {"attach_column": "e_mail"},
    "subscriptions[1].column": {
        "subscriptions": [
            {"channel": "email", "resource_id": 1},
            {"channel": "email", "resource_id": 2, "column": "e_mail"},
        ]
    },
}


@pytest.mark.parametrize("setting", NAMING)
@pytest.mark.parametrize("level", ["the stream's", "the top level's"])
def test_a_column_that_no_schema_names_is_said_once(
    deliver: Deliver, setting: str, level: str
) -> None:
    given = NAMING[setting]
    its_own = level == "the stream's"
    config = {"streams": {"customers": given}} if its_own else given
    result = deliver([schema(), customer(1), schema(), customer(2)], {**config, "dry_run": True})
    assert result.status == 0
    (said,) = (line for line in result.stderr.splitlines() if "names the column" in line)
    which = ITS_SCHEMA if its_own else NO_SCHEMA
    where = "stream 'customers': " if its_own else ""
    hint = " (did you mean 'email'?)"
    assert said.endswith(f"| {where}{setting} names the column 'e_mail', {which}{hint}")
    assert "| WARNING" in said


def test_a_column_that_a_stream_map_makes_or_another_stream_has_is_right(deliver: Deliver) -> None:
    result = deliver(
        [schema(), customer(1), schema("orders"), customer(2, stream="orders"), state(2)],
        {
            "stream_maps": {"orders": {"total": "id", "place": "id"}},
            "streams": {"orders": {"content_columns": ["total"]}},
            "custom_data_columns": ["place"],
        },
    )
    assert result.status == 0
    assert "names the column" not in result.stderr


def test_a_replay_says_nothing_of_the_streams_that_are_not_in_it(
    deliver: Deliver, tmp_path: Path
) -> None:
    rejects = tmp_path / "rejects"
    settings = {"content_columns": ["total"], "rejects_path": str(rejects)}
    total = {"id": {"type": "integer"}, "email": {"type": "string"}, "total": {"type": "integer"}}
    both = [schema("orders", total), schema(), customer(1, email=None), customer(2), state(1)]
    assert "names the column" not in deliver(both, settings).stderr
    replayed = rejects.read_text(encoding="utf-8").splitlines()
    settings["rejects_path"] = str(tmp_path / "again")
    result = deliver(replayed, {**settings, "max_reject_percent": 100})
    assert "rejected, no_match_value: 1" in result.stderr
    assert "names the column" not in result.stderr


@pytest.mark.parametrize(
    "schema_",
    [
        {},
        {"properties": {"id": {}}, "allOf": [{"properties": {"b": {}}}]},
        {"properties": {"id": {}}, "patternProperties": {"^x_": {}}},
    ],
)
def test_a_schema_that_need_not_name_all_columns_says_nothing_of_them(
    caplog: pytest.LogCaptureFixture, schema_: dict[str, t.Any]
) -> None:
    named = NamedColumns({"attach_column": "a"}, {"customers": {"attach_column": "b"}})
    named.look("customers", columns_of(schema_))
    named.end()
    assert caplog.text == ""
