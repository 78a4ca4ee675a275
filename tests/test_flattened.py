"""Objects that come with their keys joined by dots."""

from __future__ import annotations

import typing as t

import pytest

from target_altcraft.flattened import nested_maps, nested_streams
from target_altcraft.settings import coerce
from target_altcraft.settings_schema import SCHEMA


@pytest.mark.parametrize(
    ("flat", "whole"),
    [
        ({}, {}),
        ({"a": {"workflow_id": 1}}, {"a": {"workflow_id": 1}}),
        (
            {"a.workflow_id": 1, "a.matching": "phone", "b.workflow_id": 2},
            {"a": {"workflow_id": 1, "matching": "phone"}, "b": {"workflow_id": 2}},
        ),
        ({"a.content_columns": ["x", "y"]}, {"a": {"content_columns": ["x", "y"]}}),
        (
            {"a.content.shop": "north", "a.content.discount": 20},
            {"a": {"content": {"shop": "north", "discount": 20}}},
        ),
        ({"crm.public.a.workflow_id": 1}, {"crm.public.a": {"workflow_id": 1}}),
        ({"a.b": {"workflow_id": 1}}, {"a.b": {"workflow_id": 1}}),
        # What is none of that is left for the check of the settings to name.
        ({"a.workflow": 1, "b": 2}, {"a.workflow": 1, "b": 2}),
        ({"a.content": 1, "a.content.x": 2}, {"a": {"content": 1}, "a.content.x": 2}),
    ],
)
def test_objects_are_put_together_again(flat: dict[str, t.Any], whole: dict[str, t.Any]) -> None:
    assert nested_streams(flat) == whole


@pytest.mark.parametrize(
    ("flat", "whole"),
    [
        ({"a": {"b": "c"}, "x.y": "__NULL__"}, {"a": {"b": "c"}, "x.y": "__NULL__"}),
        (
            {"a.b": "c", "a.d": "__NULL__", "a.e": None, "__else__": None, "x": "__NULL__"},
            {"a": {"b": "c", "d": "__NULL__", "e": None}, "__else__": None, "x": "__NULL__"},
        ),
        (
            {"p.a.__else__": "__NULL__", "p.a.__key_properties__": ["id"]},
            {"p.a": {"__else__": "__NULL__", "__key_properties__": ["id"]}},
        ),
    ],
)
def test_stream_maps_are_put_together_again(
    flat: dict[str, t.Any], whole: dict[str, t.Any]
) -> None:
    assert nested_maps(flat) == whole


def test_the_environment_may_hold_flattened_streams() -> None:
    given = {"streams": '{"customers.workflow_id": 12, "customers.nulls": "send"}'}
    assert coerce(given, SCHEMA) == {"streams": {"customers": {"workflow_id": 12, "nulls": "send"}}}
    of_a_file = {"streams": {"customers.workflow_id": 12}}
    assert coerce(of_a_file, SCHEMA) == of_a_file  # a mistake, which the check names
