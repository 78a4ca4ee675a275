from __future__ import annotations

import copy
import logging
import re
import typing as t
from decimal import Decimal
from keyword import iskeyword

import pytest
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st
from singer_sdk.exceptions import MapExpressionError, StreamMapConfigError
from singer_sdk.mapper import CustomStreamMap, PluginMapper

from target_altcraft.compiled_maps import compiled

Record = dict[str, t.Any]
Rules = dict[str, t.Any]

COLUMNS = ("id", "email", "first_name", "first name", "tags", "Имя")
OTHERS = (
    "_",
    "record",
    "self",
    "config",
    "fake",
    "str",
    "md5",
    "int",
    "__stream_name__",
    "class",
    "",
)
"""Names that mean something else in an expression."""
SCHEMA: dict[str, t.Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        **{name: {"type": ["string", "null"]} for name in COLUMNS[1:-2]},
        "tags": {"type": ["object", "array", "null"], "properties": {"a": {"type": "integer"}}},
    },
}


def stream_map(rules: Rules, flattening: int = 0) -> CustomStreamMap:
    """The SDK's, for the stream customers with the key id."""
    config: dict[str, t.Any] = {
        "stream_maps": {"customers": rules},
        "stream_map_config": {"seed": "s"},
        "flattening_enabled": flattening > 0,
        "flattening_max_depth": flattening,
    }
    mapper = PluginMapper(config, logging.getLogger(__name__))
    mapper.register_raw_stream_schema("customers", copy.deepcopy(SCHEMA), ["id"])
    (found,) = mapper.stream_maps["customers"]
    return t.cast("CustomStreamMap", found)


def shown(value: object) -> str:
    """What tells values apart: also 1 from True and NaN from nothing, but no addresses."""
    return re.sub(r"0x[0-9a-f]+", "", repr(value))


def outcome(transform: t.Callable[[Record], Record | None], record: Record) -> object:
    """What becomes of a record, in the order of its columns, or the error; and the record then."""
    given_ = copy.deepcopy(record)
    try:
        mapped = transform(given_)
    except Exception as error:  # noqa: BLE001 - an expression can raise anything
        return type(error), shown(str(error)), shown(given_)
    return shown(mapped), shown(given_)


def both(rules: Rules, record: Record, flattening: int = 0) -> tuple[object, object]:
    by_sdk = stream_map(rules, flattening)
    return outcome(by_sdk.transform, record), outcome(compiled(by_sdk), record)


# Over anything that is written

constants = st.sampled_from(
    [
        "'a'",
        "''",
        "5",
        "-1",
        "+1",
        "1.5",
        "-0.0",
        "True",
        "None",
        "...",
        "b'a'",
        "(1, 'a', None)",
        "()",
    ]
)
names = st.sampled_from(
    [*(name for name in (*COLUMNS, *OTHERS) if name.isidentifier() and not iskeyword(name))]
)
columns = st.sampled_from([*COLUMNS, *OTHERS])
usual = st.one_of(
    constants,
    names,
    names,
    st.tuples(st.sampled_from(["record", "_"]), columns).map(
        lambda drawn: "{}[{!r}]".format(*drawn)
    ),
)
odd = st.sampled_from(
    [
        "unknown",
        "record.get('email')",
        "record.pop('email', None)",
        "record.update(email='x', id='7')",
        "record.clear()",
        "config['seed']",
        "1 / 0",
        "tags['a']",
        "tags.a",
        "[each for each in tags]",
        "f'{email}'",
    ]
)
FUNCTIONS = ("str", "int", "float", "bool", "md5", "sha256", "list", "len", "type")
METHODS = ("strip", "lower", "title", "upper", "split", "copy", "clear", "popitem", "format", "_x")
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", "in", "not in", "is", "is not")
OTHER_OPERATORS = ("and", "or", "and", "or", "+", "%")
OPERATORS = (*COMPARISONS, *OTHER_OPERATORS)


def larger(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def of(template: str, *choices: t.Sequence[str]) -> st.SearchStrategy[str]:
        chosen = st.tuples(*(st.sampled_from(each) for each in choices))
        return st.tuples(chosen, parts, parts, parts).map(
            lambda drawn: template.format(*drawn[1:], *drawn[0])
        )

    return st.one_of(
        of("{3}({0})", ("str", "int", "bool")),
        of("{3}({0})", FUNCTIONS),
        of("{3}(*({0}))", FUNCTIONS),
        of("str({0}, {1})"),
        of("({0}).{3}()", METHODS),
        of("({0}) {3} ({1})", COMPARISONS),
        of("({0}) {3} ({1}) {4} ({2})", OTHER_OPERATORS, OTHER_OPERATORS),
        of("({0}) {3} ({1}) {4} ({2})", OPERATORS, OPERATORS),
        of("not ({0})"),
        of("-({0})"),
        of("({0}) if ({1}) else ({2})"),
        of("({0})[{1}]"),
        of("({0},)"),
        of("[{0}, {1}]"),
    )


expressions = st.recursive(usual, larger, max_leaves=6)
any_expressions = st.recursive(st.one_of(usual, usual, odd), larger, max_leaves=6)
written = st.one_of(
    usual,
    any_expressions,
    expressions,
    expressions.map(lambda text: f"{text} # why"),
    expressions.map(lambda text: f"{text}  ; id"),
    st.sampled_from(["__NULL__", None, "id = email"]),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.decimals(places=2),
    st.sampled_from(
        [float("nan"), Decimal("1e30"), "1_0", " 12 ", "nan", "\ud800", "", "A@B.example"]
    ),
    st.text(max_size=3),
)
values = st.one_of(
    scalars,
    scalars,
    st.lists(scalars, max_size=2),
    st.dictionaries(st.sampled_from(["a", "strip", "id"]), scalars, max_size=2),
)
full = st.fixed_dictionaries(dict.fromkeys([*COLUMNS, *OTHERS], values))
records = st.one_of(
    full,
    st.dictionaries(st.sampled_from([*COLUMNS, *OTHERS]), values, max_size=4),
)


@st.composite
def maps(draw: st.DrawFn) -> Rules:
    of_columns = st.sampled_from([*COLUMNS, *OTHERS, "_fname", "CRM_ID", ""])
    rules: Rules = draw(st.dictionaries(of_columns, written, max_size=6))
    options = {
        "__filter__": any_expressions,
        "__else__": st.sampled_from(["__NULL__", None]),
        "__alias__": st.sampled_from(["people", "'people'", "__stream_name__ + '_2'"]),
        "__key_properties__": st.sampled_from([["id", "email"], ["email"], [], None]),
    }
    for name, option in options.items():
        if draw(st.booleans()):
            rules[name] = draw(option)
    return rules


@settings(deadline=None, max_examples=200)
@given(texts=st.lists(expressions, min_size=1, max_size=10), record=full)
def test_an_expression_gives_what_the_sdk_makes_of_it(texts: list[str], record: Record) -> None:
    for text in texts:
        for rules in ({"email": text}, {"new": text}, {"__filter__": text}):
            by_the_sdk, ours = both(rules, record)
            assert ours == by_the_sdk, text


@settings(deadline=None, max_examples=200)
@given(rules=maps(), its=st.lists(records, min_size=1, max_size=3), flattening=st.integers(0, 1))
@example({"a": "record.pop('email')", "b": "email"}, [{"email": "x", "id": 1}], 0)
@example({"email": "record.clear()", "id": "self", "b": "id"}, [{"email": "x", "id": 1}], 0)
@example({"a": "id", "b": "int(email)", "c": "record.pop('id')"}, [{"id": 1, "email": "x"}], 0)
@example({"": "self"}, [{"": 1, "self": 2, "id": 1}], 0)
@example({"__filter__": "tags['a']", "a": "tags"}, [{"tags": {"a": 1}}, {"tags": {}}, {}], 1)
def test_a_record_becomes_what_the_sdk_makes_of_it(
    rules: Rules, its: list[Record], flattening: int
) -> None:
    try:
        by_sdk = stream_map(rules, flattening)
    except Exception:  # noqa: BLE001 - it is refused before there is a map, in many ways
        reject()
    transform = compiled(by_sdk)
    for record in its:
        assert outcome(transform, record) == outcome(by_sdk.transform, record)


# What is mostly written

WRITTEN: dict[str, tuple[Rules, Record]] = {
    "a name": ({"_fname": "first_name", "first_name": None}, {"_fname": "Ada"}),
    "a name that is none in Python": ({"n": "record['first name']"}, {"n": None}),
    "the column itself": ({"first_name": "self", "id": "str(self)"}, {"first_name": "Ada"}),
    "a name of a function": ({"a": "str", "b": "str(str)"}, {"a": "s", "b": "s"}),
    "a text": ({"source": "'crm'", "blank": "''"}, {"source": "crm", "blank": ""}),
    "numbers": (
        {"a": "12", "b": "-1.50", "c": "True", "d": "None"},
        {"a": 12, "b": -1.5, "c": True},
    ),
    "str": ({"a": "str(id)", "b": "str(record['first name'])"}, {"a": "15", "b": "None"}),
    "int": ({"a": "int(number)", "b": "int(id)"}, {"a": 10, "b": 15}),
    "float": ({"a": "float(id)", "b": "float(price)"}, {"a": 15.0, "b": 12.1}),
    "bool": ({"a": "bool(first_name)", "b": "bool(empty)"}, {"a": True, "b": False}),
    "a digest": ({"a": "md5('')"}, {"a": "d41d8cd98f00b204e9800998ecf8427e"}),
    "a method of a text": ({"email": "email.strip().lower()"}, {"email": "ada@example.com"}),
    "a choice": ({"a": "'x' if first_name == 'Ada' else email"}, {"a": "x"}),
    "the stream's name": ({"a": "__stream_name__", "__alias__": "people"}, {"a": "people"}),
    "a filter by a name": ({"__filter__": "email"}, {"id": 15}),
    "a filter by two": ({"__filter__": "email and not empty and id >= 15"}, {"id": 15}),
    "a filter by a list": ({"__filter__": "first_name in ('Ada', 'Max')"}, {"id": 15}),
}


@pytest.mark.parametrize("what", WRITTEN)
def test_what_is_mostly_written_needs_no_evaluator(what: str) -> None:
    rules, expected = WRITTEN[what]
    record = {
        "id": 15,
        "email": " Ada@Example.com",
        "first_name": "Ada",
        "first name": None,
        "str": "s",
        "empty": "",
        "number": "1_0",
        "price": Decimal("12.1"),
    }
    by_sdk = stream_map(rules)
    by_the_sdk = outcome(by_sdk.transform, record)
    transform = compiled(by_sdk)
    del by_sdk.expr_evaluator
    assert outcome(transform, record) == by_the_sdk
    mapped = transform(record)
    assert mapped is not None
    assert {name: mapped.get(name) for name in expected} == expected


def test_key_properties_stay_first_and_other_columns_go() -> None:
    rules = {"_fname": "first_name", "CRM_ID": "str(id)", "email": "email", "__else__": None}
    keys = {"__key_properties__": ["CRM_ID", "email"]}
    record = {"first_name": "Ada", "tags": [], "email": "a@example.com", "id": 1}
    mapped = compiled(stream_map({**rules, **keys}))(record)
    assert list((mapped or {}).items()) == [
        ("email", "a@example.com"),
        ("_fname", "Ada"),
        ("CRM_ID", "1"),
    ]


def test_a_column_keeps_its_place_and_a_new_one_comes_last() -> None:
    mapped = compiled(stream_map({"email": "'x'", "new": "id", "first_name": None}))(
        {"first_name": "Ada", "email": "a@example.com", "id": 1}
    )
    assert list((mapped or {}).items()) == [("email", "x"), ("id", 1), ("new", 1)]


# What fails

FAILING: dict[str, tuple[Rules, type[Exception]]] = {
    "a name that the record lacks": ({"a": "'x'", "b": "first_name"}, MapExpressionError),
    "the same in brackets": ({"a": "record['first_name']"}, KeyError),
    "a number that is none": ({"a": "int(email)"}, ValueError),
    "a method of what is no text": ({"a": "id.strip()"}, MapExpressionError),
    "a name that the filter needs": ({"__filter__": "first_name"}, MapExpressionError),
    "kinds that cannot be compared": ({"__filter__": "id > 'a'"}, TypeError),
    "a text that is too long": ({"a": repr("x" * 100_001)}, MapExpressionError),
    "no expression": ({"a": "b = 1"}, StreamMapConfigError),
}


@pytest.mark.parametrize("what", FAILING)
def test_what_fails_fails_as_with_the_sdk(what: str) -> None:
    rules, error = FAILING[what]
    record = {"id": 1, "email": "ada@example.com"}
    by_the_sdk, ours = both(rules, record)
    assert ours == by_the_sdk
    with pytest.raises(error):
        compiled(stream_map(rules))(record)


def test_an_expression_of_the_sdk_that_fails_is_evaluated_once() -> None:
    rules = {"a": "[record.update(count=count + 1), int(email)]"}
    record = {"id": 1, "email": "x", "count": 0}
    with pytest.raises(ValueError, match="invalid literal"):
        compiled(stream_map(rules))(record)
    assert record["count"] == 1


def test_an_expression_that_is_nested_deeply_is_left_to_the_sdk() -> None:
    rules = {"a": "not " * 900 + "id"}
    by_the_sdk, ours = both(rules, {"id": 1})
    assert ours == by_the_sdk


def test_where_there_is_a_faker_it_hides_the_column_of_its_name() -> None:
    by_sdk = stream_map({"a": "fake"})
    by_sdk.fake = t.cast("t.Any", "the faker")
    assert compiled(by_sdk)({"id": 1, "fake": 2}) == {"id": 1, "fake": 2, "a": "the faker"}


def test_other_kinds_of_maps_are_left_alone() -> None:
    class Other(CustomStreamMap):
        pass

    by_sdk = stream_map({"a": "id"})
    by_sdk.__class__ = Other
    assert compiled(by_sdk) == by_sdk.transform
