from __future__ import annotations

import datetime as dt
import json
import typing as t
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from singer_sdk.exceptions import InvalidJSONSchema, InvalidRecord
from singer_sdk.sinks.core import JSONSchemaValidator

from target_altcraft.validation import RecordValidator

if t.TYPE_CHECKING:
    from pathlib import Path

    from singer_sdk.sinks.core import BaseJSONSchemaValidator

SECRET = "v4lue"
HALF = "\ud800"
Schema = dict[str, t.Any]
Record = dict[str, t.Any]


def column(**keywords: t.Any) -> Schema:
    return {"type": "object", "properties": {"x": keywords}}


def accepts(validator: BaseJSONSchemaValidator, record: Record) -> bool:
    try:
        validator.validate(record)
    except InvalidRecord:
        return False
    return True


def fault(schema: Schema, record: Record) -> str:
    with pytest.raises(InvalidRecord) as caught:
        RecordValidator(schema).validate(record)
    return caught.value.error_message


# The same verdict as the SDK's own validator

NULLABLE = {"type": ["null", "string"]}
AGREED: list[tuple[Schema, list[Record], list[Record]]] = [
    ({}, [{}, {"x": 1}], []),
    (column(), [{"x": 1}, {"x": None}, {"x": [{}]}], []),
    (column(type="string"), [{"x": ""}, {"x": "ы"}, {}, {"y": 1}], [{"x": None}, {"x": 1}]),
    (column(**NULLABLE), [{"x": None}, {"x": "a"}], [{"x": 1}, {"x": []}, {"x": True}]),
    (column(type="integer"), [{"x": 1}, {"x": -(10**30)}], [{"x": "1"}, {"x": True}, {"x": None}]),
    (column(type="integer"), [{"x": 5.0}], [{"x": Decimal("5.5")}, {"x": 5.5}]),
    (column(type="number"), [{"x": 1}, {"x": Decimal("12.10")}, {"x": 10**400}], [{"x": "1"}]),
    (column(type="number"), [{"x": Decimal("1e400")}, {"x": Decimal("-0.0")}], [{"x": False}]),
    (column(type="boolean"), [{"x": True}, {"x": False}], [{"x": 0}, {"x": "true"}]),
    (column(type="null"), [{"x": None}], [{"x": 0}, {"x": ""}]),
    (column(type="object"), [{"x": {}}, {"x": {"deep": [{}]}}], [{"x": []}, {"x": "{}"}]),
    (column(type="array"), [{"x": []}, {"x": [1, "a", None]}], [{"x": {}}, {"x": "[]"}]),
    (column(minimum=5), [{"x": 5}, {"x": Decimal("5.0")}, {"x": "a"}], [{"x": Decimal("4.99")}]),
    (column(maximum=5), [{"x": 5}], [{"x": Decimal("5.01")}, {"x": 10**30}]),
    (column(exclusiveMinimum=5), [{"x": Decimal("5.01")}], [{"x": 5}]),
    (column(exclusiveMaximum=5), [{"x": 4}], [{"x": 5}]),
    (column(minimum=Decimal("0.5")), [{"x": Decimal("0.5")}, {"x": 1}], [{"x": Decimal("0.49")}]),
    (column(multipleOf=3), [{"x": 9}, {"x": 0}], [{"x": 10}]),
    (
        column(multipleOf=Decimal("0.01")),
        [{"x": Decimal("12.10")}, {"x": 5}, {"x": Decimal("19.99")}],
        [{"x": Decimal("19.995")}],
    ),
    (
        column(minLength=2, maxLength=3),
        [{"x": "ab"}, {"x": "😀😀😀"}],
        [{"x": "a"}, {"x": "😀" * 4}],
    ),
    (column(pattern="^[a-z]+$"), [{"x": "ab"}, {"x": 5}], [{"x": "a1"}, {"x": ""}]),
    (column(pattern="b"), [{"x": "abc"}], [{"x": "ac"}]),
    (column(pattern="^(?=a)a+(?!b)"), [{"x": "aa"}], [{"x": "b"}]),
    (column(enum=["a", 1, None]), [{"x": "a"}, {"x": 1}, {"x": None}], [{"x": "b"}, {"x": True}]),
    (column(enum=[Decimal("1.50")]), [{"x": Decimal("1.5")}], [{"x": Decimal("1.51")}]),
    (column(const={"a": [1]}), [{"x": {"a": [1]}}], [{"x": {"a": [2]}}]),
    (column(items={"type": "string"}), [{"x": ["a"]}, {"x": []}], [{"x": ["a", 1]}]),
    (column(minItems=1, maxItems=2), [{"x": [1]}], [{"x": []}, {"x": [1, 2, 3]}]),
    (column(uniqueItems=True), [{"x": [1, "1", True]}], [{"x": [1, 1]}, {"x": [{}, {}]}]),
    (column(prefixItems=[{"type": "string"}]), [{"x": ["a", 1]}], [{"x": [1]}]),
    (column(contains={"const": 1}), [{"x": [0, 1]}], [{"x": [0]}, {"x": []}]),
    (
        column(type="object", properties={"y": {"type": "integer"}}, required=["y"]),
        [{"x": {"y": 1}}],
        [{"x": {}}, {"x": {"y": "1"}}],
    ),
    ({"required": ["id", "x"]}, [{"id": None, "x": 1}], [{"id": 1}, {}]),
    ({"properties": {"x": {}}, "additionalProperties": False}, [{"x": 1}, {}], [{"y": 1}]),
    ({"additionalProperties": {"type": "string"}}, [{"y": "a"}], [{"y": 1}]),
    ({"patternProperties": {"^n_": {"type": "integer"}}}, [{"n_a": 1, "a": "b"}], [{"n_a": "b"}]),
    ({"propertyNames": {"maxLength": 3}}, [{"abc": 1}], [{"abcd": 1}]),
    ({"minProperties": 1, "maxProperties": 1}, [{"a": 1}], [{}, {"a": 1, "b": 2}]),
    ({"dependentRequired": {"a": ["b"]}}, [{"b": 1}, {"a": 1, "b": 1}], [{"a": 1}]),
    (
        column(anyOf=[{"type": "null"}, {"type": "string", "maxLength": 2}]),
        [{"x": None}, {"x": "ab"}],
        [{"x": "abc"}, {"x": 1}],
    ),
    (column(oneOf=[{"type": "integer"}, {"minimum": 5}]), [{"x": 4}], [{"x": 6}]),
    (column(allOf=[{"minimum": 1}, {"maximum": 2}]), [{"x": 2}], [{"x": 3}]),
    (column(**{"not": {"type": "string"}}), [{"x": 1}], [{"x": "a"}]),
    (
        {"if": {"required": ["a"]}, "then": {"required": ["b"]}, "else": {"required": ["c"]}},
        [{"a": 1, "b": 1}, {"c": 1}],
        [{"a": 1}, {}],
    ),
    ({"properties": {"x": False, "y": True}}, [{"y": 1}, {}], [{"x": 1}]),
    (
        {"properties": {"x": {"$ref": "#/$defs/int"}}, "$defs": {"int": {"type": "integer"}}},
        [{"x": 1}],
        [{"x": "a"}],
    ),
    (
        {
            "properties": {"x": {"$ref": "#/definitions/tree"}},
            "definitions": {
                "tree": {
                    "type": "object",
                    "properties": {
                        "next": {"$ref": "#/definitions/tree"},
                        "n": {"type": "integer"},
                    },
                }
            },
        },
        [{"x": {"next": {"next": {"n": 1}}}}],
        [{"x": {"next": {"next": {"n": "1"}}}}],
    ),
    # Formats are not checked, as in the SDK.
    (column(type="string", format="date-time"), [{"x": "yesterday"}, {"x": ""}], [{"x": 5}]),
    (column(type="string", format="email"), [{"x": "nobody"}], []),
    # Keywords that say nothing of validity.
    (column(type="number", default=Decimal("0.1"), title="x"), [{"x": 1}], []),
    (
        {"$schema": "http://json-schema.org/draft-07/schema#", **column(type="string")},
        [{}],
        [{"x": 1}],
    ),
    ({"$schema": "urn:nobody:knows", **column(type="string")}, [{"x": "a"}], [{"x": 1}]),
    # Half a surrogate pair is a text of one character.
    (column(type="string", maxLength=1), [{"x": HALF}], []),
]


@pytest.mark.parametrize(("schema", "valid", "invalid"), AGREED)
def test_verdict_is_that_of_the_stock_validator(
    schema: Schema, valid: list[Record], invalid: list[Record]
) -> None:
    ours, stock = RecordValidator(schema), JSONSchemaValidator(schema)
    for records, verdict in ((valid, True), (invalid, False)):
        for record in records:
            assert accepts(stock, record) is verdict, record
            assert accepts(ours, record) is verdict, record


# Deliberate differences: the specification's verdict where the stock validator has another


def test_decimal_without_a_fraction_is_an_integer() -> None:
    # JSON Schema 2020-12, 6.1.1: "any number with a zero fractional part" is an integer.
    for number in (Decimal("5.0"), Decimal("1e400"), Decimal("-0.0")):
        assert accepts(RecordValidator(column(type="integer")), {"x": number})
        assert not accepts(JSONSchemaValidator(column(type="integer")), {"x": number})


@pytest.mark.parametrize("number", [0.07, 19.99, Decimal("19.99")])
def test_multiple_of_is_exact(number: float | Decimal) -> None:
    schema = column(multipleOf=0.01)
    assert accepts(RecordValidator(schema), {"x": number})
    with pytest.raises((InvalidRecord, TypeError)):  # binary fractions, or none with Decimal
        JSONSchemaValidator(schema).validate({"x": number})


@pytest.mark.parametrize("text", ["٣", "12\n"])
def test_patterns_are_read_as_ecma_262_reads_them(text: str) -> None:
    schema = column(pattern="^\\d+$")
    assert not accepts(RecordValidator(schema), {"x": text})
    assert accepts(JSONSchemaValidator(schema), {"x": text})


def test_pattern_of_ecma_262_that_python_does_not_know_is_taken() -> None:
    schema = column(pattern="^\\p{Lu}")
    ours = RecordValidator(schema)
    assert accepts(ours, {"x": "Ада"})
    assert not accepts(ours, {"x": "ада"})
    with pytest.raises(InvalidJSONSchema):
        JSONSchemaValidator(schema)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), Decimal("NaN")])
def test_what_json_does_not_have_is_no_number(number: float | Decimal) -> None:
    assert not accepts(RecordValidator(column(type="number")), {"x": number})
    assert accepts(JSONSchemaValidator(column(type="number")), {"x": number})


# Schemas


@pytest.mark.parametrize(
    "keywords",
    [
        {"pattern": "^(?P<a>a)(?P=a)$"},
        {"pattern": "^aa\\Z"},
        {"pattern": "^a{,2}(?#comment)$"},
    ],
)
def test_schema_that_cannot_be_compiled_is_left_to_the_stock_validator(keywords: Schema) -> None:
    schema = column(**keywords)
    validator = RecordValidator(schema)
    assert accepts(validator, {"x": "aa"})
    assert accepts(JSONSchemaValidator(schema), {"x": "aa"})
    assert not accepts(validator, {"x": "ab"})
    assert fault(schema, {"x": SECRET}) == "column 'x' breaks 'pattern'"


def test_left_to_the_stock_validator_a_missing_column_is_named() -> None:
    schema = {**column(pattern="a\\Z"), "required": ["id", "x"]}
    assert fault(schema, {"id": 1}) == "column 'x' breaks 'required'"
    assert fault({**schema, "maxProperties": 0}, {"id": 1, "x": "a"}) == (
        "the record breaks 'maxProperties'"
    )


@pytest.mark.parametrize(
    "schema",
    [
        column(type="strng"),
        column(type=[]),
        column(minLength="3"),
        column(pattern="[unclosed"),
        column(properties=[]),
        {"properties": {"x": None}},
        {"properties": {"x": "string"}},
        {"required": "id"},
        {"required": ["a", "a"]},
        {"type": 5},
    ],
)
def test_what_is_no_schema_is_refused(schema: Schema) -> None:
    with pytest.raises(InvalidJSONSchema):
        RecordValidator(schema)


@pytest.mark.parametrize("reference", ["#/$defs/nobody", "#nobody"])
def test_reference_to_nowhere_is_refused_with_the_schema_or_the_record(reference: str) -> None:
    try:
        validator = RecordValidator(column(**{"$ref": reference}))
    except InvalidJSONSchema:
        return
    with pytest.raises((InvalidRecord, InvalidJSONSchema)):
        validator.validate({"x": 1})


def test_schema_as_the_reader_decodes_it_is_compiled_with_exact_bounds() -> None:
    schema = column(minimum=Decimal("0.10"), multipleOf=Decimal("0.01"))
    assert accepts(RecordValidator(schema), {"x": Decimal("0.10")})
    assert not accepts(RecordValidator(schema), {"x": Decimal("0.095")})


def test_schema_is_left_as_it_is() -> None:
    schema = column(type="string")
    before = json.dumps(schema)
    RecordValidator(schema).validate({"x": "a"})
    assert json.dumps(schema) == before
    assert RecordValidator(schema).schema is schema


# Records that no verdict fits


@pytest.mark.parametrize("value", [dt.datetime(2020, 1, 2), dt.date(2020, 1, 2), b"x", {1}])  # noqa: DTZ001
def test_value_of_a_stream_map_that_json_does_not_have_is_valid_or_not(value: t.Any) -> None:
    accepts(RecordValidator(column(type=["string", "null"], format="date-time")), {"x": value})


def test_column_named_by_half_a_pair_is_valid_or_not() -> None:
    accepts(RecordValidator(column(type="string")), {HALF: 1})


@pytest.mark.parametrize("keywords", [{"enum": [1]}, {"type": "string"}, {"uniqueItems": True}])
def test_deeply_nested_value_is_valid_or_not(keywords: Schema) -> None:
    value: list[t.Any] = []
    for _ in range(600):
        value = [value]
    accepts(RecordValidator(column(**keywords)), {"x": [value, value]})


@pytest.mark.parametrize("odd", [{"x": dt.date(2020, 1, 2)}, {HALF: 1}])
def test_odd_record_does_not_change_the_verdict_on_others(odd: Record) -> None:
    validator = RecordValidator(column(type="integer"))
    record = {"x": Decimal("5.0")}
    assert accepts(validator, record)
    accepts(validator, odd)
    assert accepts(validator, record)


# Messages


@pytest.mark.parametrize(
    ("schema", "record", "message"),
    [
        (column(type="string"), {"x": 5}, "column 'x' breaks 'type'"),
        (column(items={"maxLength": 1}), {"x": ["a", SECRET]}, "column 'x' breaks 'maxLength'"),
        (
            column(properties={"deep": {"enum": [1]}}),
            {"x": {"deep": SECRET}},
            "column 'x' breaks 'enum'",
        ),
        ({"required": ["id"]}, {"x": SECRET}, "column 'id' breaks 'required'"),
        (column(required=["id"]), {"x": {"y": SECRET}}, "column 'x' breaks 'required'"),
        (
            {"properties": {"x": {}}, "additionalProperties": False},
            {"x": 1, "y": SECRET},
            "column 'y' breaks 'additionalProperties'",
        ),
        ({"minProperties": 5}, {"x": SECRET}, "the record breaks 'minProperties'"),
        ({"anyOf": [{"required": ["a"]}]}, {"x": SECRET}, "the record breaks 'anyOf'"),
    ],
)
def test_message_names_the_column_and_the_keyword(
    schema: Schema, record: Record, message: str
) -> None:
    assert fault(schema, record) == message


@pytest.mark.parametrize(("schema", "invalid"), [(one[0], one[2]) for one in AGREED])
def test_message_names_a_keyword_that_stands_in_the_schema(
    schema: Schema, invalid: list[Record]
) -> None:
    schema_text = json.dumps(schema, default=str).lower()
    for record in invalid:
        keyword = fault(schema, record).split(" breaks ")[1].strip("'")
        # The validator calls dependentRequired "required", and a schema `false` "falseSchema".
        assert f'{keyword.lower()}": ' in schema_text or keyword == "falseSchema"


def test_message_about_a_forbidden_column_does_not_call_it_a_keyword() -> None:
    assert fault({"properties": {"x": False}}, {"x": 1}) != "column 'x' breaks 'x'"


# Any schema and record

NAMES = ["x", "y", "z"]
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(min_value=-3, max_value=3),
        st.integers().map(lambda number: Decimal(2 * number + 1) / 2),
        st.sampled_from(["", "a", "ab", "ы", "😀", SECRET, f"{SECRET}@b.example"]),
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    ),
    max_leaves=6,
)
TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])


def schemas() -> st.SearchStrategy[Schema]:
    small = st.integers(min_value=0, max_value=3)
    plain: dict[str, st.SearchStrategy[t.Any]] = {
        "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
        "enum": st.lists(VALUES, min_size=1, max_size=3, unique_by=repr),
        "const": VALUES,
        "minimum": st.integers(min_value=-2, max_value=2),
        "exclusiveMaximum": st.integers(min_value=-2, max_value=2),
        "minLength": small,
        "maxLength": small,
        "pattern": st.sampled_from(["^a", "b$", "^$", "[ы]"]),
        "maxItems": small,
        "uniqueItems": st.booleans(),
        "required": st.lists(st.sampled_from(NAMES), unique=True),
        "minProperties": small,
        "format": st.sampled_from(["date", "email", "date-time"]),
    }

    def nested(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
        several = st.lists(inner, min_size=1, max_size=3)
        return st.fixed_dictionaries(
            {},
            optional={
                **plain,
                "properties": st.dictionaries(st.sampled_from(NAMES), inner | st.booleans()),
                "additionalProperties": inner | st.booleans(),
                "items": inner,
                "anyOf": several,
                "oneOf": several,
                "allOf": several,
                "not": inner,
            },
        )

    return st.recursive(st.fixed_dictionaries({}, optional=plain), nested, max_leaves=4)


@settings(deadline=None)
@given(schemas(), st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_any_record_gets_the_stock_verdict_and_a_message_without_values(
    schema: Schema, record: Record
) -> None:
    stock = JSONSchemaValidator(schema)
    ours = RecordValidator(schema)
    verdict = accepts(stock, record)
    assert accepts(ours, record) is verdict
    if not verdict:
        assert SECRET not in fault(schema, record)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("address", ["file://{}", "http://127.0.0.1:9/x.json", "x.json"])
def test_no_other_document_is_read(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: object) -> t.NoReturn:
        raise AssertionError(address)

    monkeypatch.setattr("socket.socket.connect", connect)
    other = tmp_path / "other.json"
    other.write_text('{"type": "integer"}', encoding="ascii")
    schema = {"properties": {"x": {"$ref": address.format(other)}}}
    validator = RecordValidator(schema)
    with pytest.raises(InvalidJSONSchema):
        validator.validate({"x": 1})
