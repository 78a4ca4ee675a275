from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_altcraft.errors import InputError
from target_altcraft.names import near, visible
from target_altcraft.schemas import date_kind, expanded, mended, open_to_metadata, prepared

Json = dict[str, t.Any]

TEXT = {"type": "string"}
DATE = {"type": "string", "format": "date"}
MOMENT = {"type": ["null", "string"], "format": "date-time"}


def ready(columns: Json, flattened_to: int = 0, **more: t.Any) -> Json:
    schema = {"type": "object", "properties": columns, **more}
    result: Json = prepared(schema, flattened_to=flattened_to)["properties"]
    return result


def named(definitions: Json) -> dict[str, t.Any]:
    return {"$defs": definitions}


# Which columns are dates


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        (DATE, "date"),
        (MOMENT, "date"),
        ({"format": "date"}, "date"),
        ({"anyOf": [{"type": "null"}, MOMENT]}, "date"),
        ({"anyOf": [DATE, MOMENT, {"type": "integer"}]}, "date"),
        ({"oneOf": [{"type": "null"}, {"anyOf": [{"format": "date"}]}]}, "date"),
        ({"allOf": [TEXT, DATE]}, "date"),
        ({"type": "string", "allOf": [{"anyOf": [DATE, TEXT]}, DATE]}, "date"),
        ({"anyOf": [MOMENT, TEXT]}, "date or text"),
        ({"anyOf": [MOMENT, {"type": ["null", "string"]}]}, "date or text"),
        ({"oneOf": [MOMENT, {"const": "never"}]}, "date or text"),
        ({"oneOf": [MOMENT, {"enum": [1, "never"]}]}, "date or text"),
        ({"oneOf": [MOMENT, {"enum": [1, None]}]}, "date"),
        ({"anyOf": [MOMENT, {}]}, "date or text"),
        ({"anyOf": [MOMENT, True]}, "date or text"),
        ({"anyOf": [MOMENT, False]}, "date"),
        ({"anyOf": [MOMENT, {"type": "string", "format": "time"}]}, "date or text"),
        ({"allOf": [{"anyOf": [DATE, TEXT]}]}, "date or text"),
        ({"anyOf": [True, TEXT]}, None),
        ({"type": "string", "format": "time"}, None),
        (TEXT, None),
        ({}, None),
        (True, None),
        (None, None),
        ({"anyOf": 5, "type": 7, "enum": 3}, None),
    ],
)
def test_schema_says_which_columns_are_dates(schema: t.Any, kind: str | None) -> None:
    assert date_kind(schema) == kind


# References


def test_reference_is_followed_from_column_to_column_and_deep_inside() -> None:
    columns = {
        "born": {"$ref": "#/definitions/day"},
        "also": {"$ref": "#/properties/born"},
        "either": {"anyOf": [{"$ref": "#/$defs/moment"}, {"type": "null"}]},
        "list": {"type": "array", "items": {"$ref": "#day"}},
    }
    definitions = {"day": {**DATE, "$anchor": "day"}}
    found = ready(columns, definitions=definitions, **named({"moment": MOMENT}))
    assert found["born"] == found["also"] == DATE
    assert found["either"] == {"anyOf": [MOMENT, {"type": "null"}]}
    assert found["list"] == {"type": "array", "items": DATE}


def test_schema_that_is_a_reference_itself_is_followed() -> None:
    schema = {"$ref": "#/definitions/row", "definitions": {"row": {"properties": {"id": TEXT}}}}
    assert prepared(schema, flattened_to=0) == {"properties": {"id": TEXT}}


def test_reference_into_a_part_with_its_own_id_is_followed() -> None:
    inner = {"$id": "https://a.example/day", "$ref": "#/$defs/x", "$defs": {"x": DATE}}
    found = ready({"born": {"$ref": "https://a.example/day"}}, **named({"day": inner}))
    assert found["born"] == DATE


def test_what_stands_beside_a_reference_counts_too() -> None:
    definitions = {"day": {**DATE, "description": "a day"}}
    columns = {
        "a": {"$ref": "#/definitions/day", "description": "born"},
        "b": {"$ref": "#/definitions/day", "type": ["null", "string"]},
    }
    found = ready(columns, definitions=definitions)
    assert found["a"] == {**DATE, "description": "born"}
    assert found["b"] == {"type": ["null", "string"], "allOf": [definitions["day"]]}
    assert date_kind(found["b"]) == "date"


def test_schema_that_is_part_of_itself_ends() -> None:
    node = {"type": "object", "properties": {"child": {"$ref": "#/definitions/node"}, "at": DATE}}
    found = ready({"tree": {"$ref": "#/definitions/node"}}, definitions={"node": node})
    assert found["tree"]["properties"] == {"child": {}, "at": DATE}
    assert ready({"tree": {"$ref": "#/properties/tree"}}) == {"tree": ready({"x": {}})["x"]}
    assert ready({"all": {"$ref": "#"}})["all"]["type"] == "object"


def test_references_that_multiply_are_refused() -> None:
    levels = {str(n): {"anyOf": [{"$ref": f"#/$defs/{n + 1}"}] * 10} for n in range(9)}
    with pytest.raises(InputError, match="has more than 10000 references in one another"):
        ready({"x": {"$ref": "#/$defs/0"}}, **named({**levels, "9": TEXT}))


@pytest.mark.parametrize(
    "reference",
    ["https://a.example/b.json", "file:///etc/passwd", "other.json", "#/definitions/none", "#none"],
)
def test_reference_to_what_is_not_there_is_named(reference: str) -> None:
    with pytest.raises(InputError) as caught:
        ready({"x": {"type": "array", "items": {"$ref": reference}}})
    assert f"refers to '{reference}', which does not stand in it" in str(caught.value)


def test_column_by_the_name_of_the_keyword_is_a_column() -> None:
    found = ready({"$ref": TEXT, "x": {"default": {"$ref": 5}, "type": "object"}})
    assert found == {"$ref": TEXT, "x": {"default": {"$ref": 5}, "type": "object"}}


def test_schema_is_left_as_it_is() -> None:
    schema = {"properties": {"x": {"$ref": "#/definitions/x"}}, "definitions": {"x": {}}}
    prepared(schema, flattened_to=2)
    assert schema == {"properties": {"x": {"$ref": "#/definitions/x"}}, "definitions": {"x": {}}}


# Columns without a type, and flattened ones

SCALARS = ["null", "boolean", "number", "string"]


def test_column_without_a_type_may_hold_anything() -> None:
    anything = ["null", "boolean", "integer", "number", "string", "array", "object"]
    found = ready({"a": {}, "b": True, "c": {"enum": [1]}, "d": False, "e": {"anyOf": [TEXT]}})
    assert found["a"] == found["b"] == {"type": anything}
    assert found["c"] == {"enum": [1], "type": anything}
    assert found["d"] == {"not": {}, "type": anything}
    assert found["e"] == {"anyOf": [TEXT]}


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ({}, {"type": SCALARS}),
        (True, {"type": SCALARS}),
        ({"enum": ["a", 1]}, {"enum": ["a", 1], "type": SCALARS}),
        ({"enum": [[1], 1]}, {"type": SCALARS}),
        ({"type": ["integer", "null"]}, {"type": ["integer", "null"]}),
        ({"type": ["array", "integer", "null"]}, {"type": ["integer", "null", "string"]}),
        ({"type": "array", "items": TEXT}, {"type": ["string"]}),
        ({"type": "object"}, {"type": ["string"]}),
        (
            {"oneOf": [MOMENT, {"type": "array"}]},
            {"type": SCALARS, "anyOf": [MOMENT, {"type": ["string"]}]},
        ),
        ({"allOf": [{"type": "object"}]}, {"type": SCALARS, "allOf": [{"type": ["string"]}]}),
    ],
)
def test_flattened_column_holds_what_its_value_becomes(column: t.Any, expected: Json) -> None:
    assert ready({"x": column}, flattened_to=1)["x"] == expected


def test_object_among_alternatives_is_flattened_like_any_other() -> None:
    inner = {"type": "object", "properties": {"city": {}}}
    flat = {"type": ["object", "null"], "properties": {"city": {"type": SCALARS}}}
    assert ready({"a": {"anyOf": [inner, {"type": "null"}]}}, flattened_to=1)["a"] == flat
    assert ready({"a": {"anyOf": [inner, TEXT]}}, flattened_to=1)["a"]["type"] == SCALARS
    deep = {"type": "object", "properties": {"b": inner}}
    assert ready({"a": deep}, flattened_to=1)["a"]["properties"]["b"] == {"type": ["string"]}


def test_objects_that_flattening_replaced_are_known_by_their_columns() -> None:
    assert expanded(["id", "a__b__c", "a__d", "__x"], "__") == {"a", "a__b"}
    assert expanded(["a", "a__b"], "__") == frozenset()


def test_alternatives_that_the_sdk_made_of_a_type_are_schemas_again() -> None:
    schema = {"properties": {"a": {"anyOf": [TEXT, "null"]}, "b": TEXT, "c": True}}
    assert mended(schema)["properties"]["a"] == {"anyOf": [TEXT, {"type": "null"}]}
    assert mended({"properties": {"b": TEXT}}) == {"properties": {"b": TEXT}}


def test_closed_schema_is_open_to_metadata() -> None:
    closed = {"additionalProperties": False, "patternProperties": {"^x": TEXT}}
    patterns = {"^_sdc_": True, "^x": TEXT}
    assert open_to_metadata(closed) == {**closed, "patternProperties": patterns}
    assert open_to_metadata({"type": "object"}) == {"type": "object"}


# Whatever the tap says

KEYWORDS = [
    "$ref",
    "$id",
    "$anchor",
    "$defs",
    "definitions",
    "properties",
    "type",
    "format",
    "anyOf",
    "oneOf",
    "allOf",
    "items",
    "enum",
    "const",
    "not",
    "patternProperties",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYWORDS),
            inner
            | st.sampled_from(["#", "#/properties/a", "string", "object", "date", "#/$defs/a"]),
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "$ref"]), VALUES), VALUES, st.integers(0, 2))
def test_any_schema_is_prepared_or_refused_in_words(columns: Json, root: t.Any, depth: int) -> None:
    more = root if isinstance(root, dict) else {}
    try:
        found = prepared({**more, "properties": columns}, flattened_to=depth)
    except InputError:
        return
    mended(open_to_metadata(found))
    for column in found["properties"].values():
        date_kind(column)


# Names


def test_what_cannot_be_seen_in_a_name_is_made_visible() -> None:
    assert visible("Имя 1") == "Имя 1"
    assert visible("\ufeffa\n\ud83d\x00") == r"\ufeffa\u000a\ud83d\u0000"
    assert visible("x" * 1000) == "x" * 99 + "…"
    assert visible({"a": "secret"}) == "?"


def test_name_that_is_nearly_another_is_found() -> None:
    assert near("email", ["id", "\ufeffEmail"]) == r"; there is a column '\ufeffEmail'"
    assert near("email", ["email", "emails", "mail"]) == ""
