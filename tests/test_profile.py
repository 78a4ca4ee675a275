from __future__ import annotations

import copy
import datetime as dt
import json
import typing as t
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from target_altcraft import codec
from target_altcraft.codec import decode_json, encode_json, to_text, to_utc
from target_altcraft.errors import Rejection
from target_altcraft.origin import NO_KIND, NO_ORIGIN, Origin
from target_altcraft.profile import EntryPlan
from target_altcraft.settings import StreamSettings
from target_altcraft.subscriptions import compiled

if t.TYPE_CHECKING:
    from target_altcraft.profile import Entry

DATE_TIME = {"type": ["null", "string"], "format": "date-time"}
DATE = {"type": ["string", "null"], "format": "date"}


def entry_of(
    record: dict[str, t.Any], schema: dict[str, t.Any] | None = None, **stream: t.Any
) -> Entry:
    plan = EntryPlan(StreamSettings("orders", 12, **stream), {"properties": schema or {}})
    return plan.entry(record)


def sent(
    record: dict[str, t.Any], schema: dict[str, t.Any] | None = None, **stream: t.Any
) -> dict[str, t.Any]:
    """The entry of a record as Altcraft reads it."""
    entry = json.loads(entry_of(record, schema, **stream).body, parse_float=Decimal)
    assert isinstance(entry, dict)
    return entry


def rejection(
    record: dict[str, t.Any], schema: dict[str, t.Any] | None = None, **stream: t.Any
) -> Rejection:
    with pytest.raises(Rejection) as caught:
        entry_of(record, schema, **stream)
    assert caught.value.reason == str(caught.value)
    return caught.value


# The form of an entry


def test_entry_is_compact_json_with_data_first() -> None:
    record = {"login": "a@b.example", "email": "c@d.example", "cart": 1, "shop": 2}
    entry = entry_of(
        record,
        match_column="login",
        content_columns=("cart",),
        custom_data_columns=("shop",),
    )
    assert entry.body == (
        b'{"data":{"email":"c@d.example"},"content":{"cart":1},"custom_data":{"shop":2},'
        b'"email":"a@b.example"}'
    )


def test_text_stays_utf_8() -> None:
    entry = entry_of({"email": "ада@пример.рф", "_fname": "Ада 😀", "tab": "\t\u2028"})
    assert '"_fname":"Ада 😀"'.encode() in entry.body
    assert b"\\u0410" not in entry.body
    assert json.loads(entry.body)["data"]["tab"] == "\t\u2028"


def test_nested_arrays_and_objects_stay_json() -> None:
    subscriptions = [{"channel": "email", "custom": {"deep": [1, [None, {"x": []}]]}}]
    record = {"email": "a@b.example", "subscriptions": subscriptions, "empty": {}}
    data = sent(record)["data"]
    assert data["subscriptions"] == subscriptions
    assert data["empty"] == {}


def test_record_is_left_as_it_is() -> None:
    record = {
        "email": "c@d.example",
        "login": "a@b.example",
        "day": "2020-01-02",
        "cart": {"x": 1},
        "files": [{"name": "a"}],
        "nothing": None,
        "_sdc_batched_at": "x",
    }
    before = copy.deepcopy(record)
    entry_of(
        record,
        {"day": DATE},
        match_column="login",
        content_columns=("cart",),
        attach_column="files",
    )
    assert record == before


def test_sdc_columns_never_become_profile_fields() -> None:
    record = {
        "email": "a@b.example",
        "_sdc_extracted_at": "2020-01-01",
        "_sdc_sequence": 5,
        "_sdc_deleted_at": None,
        "not_sdc_": "kept",
    }
    for nulls in ("omit", "send"):
        assert sent(record, nulls=nulls)["data"] == {"email": "a@b.example", "not_sdc_": "kept"}


def test_null_columns_are_omitted_by_default() -> None:
    record = {"email": "a@b.example", "_city": None, "deep": {"x": None}, "list": [None]}
    assert sent(record)["data"] == {
        "email": "a@b.example",
        "deep": {"x": None},
        "list": [None],
    }


def test_null_columns_are_omitted_whichever_record_brings_the_first() -> None:
    plan = EntryPlan(StreamSettings("orders", 12), {"properties": {"email": {}, "_city": {}}})
    records = [{"email": "a@b.example", "_city": city} for city in ("Köln", "null", None, "", None)]
    profiles = [json.loads(plan.entry(record).body)["data"] for record in records]
    assert [profile.get("_city", "omitted") for profile in profiles] == [
        *("Köln", "null", "omitted", "", "omitted")
    ]


def test_null_columns_are_sent_on_demand() -> None:
    record = {"email": "a@b.example", "_city": None}
    assert sent(record, nulls="send")["data"] == {"email": "a@b.example", "_city": None}


# Numbers


@pytest.mark.parametrize(
    "number",
    [
        "0",
        "-7",
        "12.10",
        "0.10",
        "1.0",
        "100.00",
        "-0.0",
        "0.000001",
        "3.141592653589793238462643383",
        "9007199254740993",
        "18446744073709551616",
        "-123456789012345678901234567890",
    ],
)
def test_number_arrives_as_written(number: str) -> None:
    record = decode_json(
        f'{{"email":"a@b.example","n":{number},"deep":[{{"n":{number}}}]}}'.encode()
    )
    body = entry_of(record).body.decode()
    assert f'"n":{number},"deep":[{{"n":{number}}}]' in body


@pytest.mark.parametrize(
    ("number", "written"), [("1e400", "1E+400"), ("1.50E-400", "1.50E-400"), ("2e2", "2E+2")]
)
def test_number_with_an_exponent_keeps_its_digits_and_its_exponent(
    number: str, written: str
) -> None:
    record = decode_json(f'{{"email":"a@b.example","n":{number}}}'.encode())
    assert f'"n":{written}}}' in entry_of(record).body.decode()


@pytest.mark.parametrize(
    ("number", "written"), [("0.0000001", "1E-7"), ("0.00000000", "0E-8"), ("-0", "0")]
)
def test_number_may_change_its_notation_but_not_its_value_or_precision(
    number: str, written: str
) -> None:
    record = decode_json(f'{{"email":"a@b.example","n":{number}}}'.encode())
    assert f'"n":{written}}}' in entry_of(record).body.decode()
    assert Decimal(written) == Decimal(number)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_number_that_json_does_not_have_is_a_rejection(number: float) -> None:
    assert rejection({"email": "a@b.example", "n": number}).code == "not_json"


# Dates


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2020-02-29", "2020-02-29T00:00:00Z"),
        ("2020-02-29T21:30:15Z", "2020-02-29T21:30:15Z"),
        ("2020-02-29t21:30:15z", "2020-02-29T21:30:15Z"),
        ("2020-02-29 21:30:15", "2020-02-29T21:30:15Z"),
        ("2020-02-29T21:30", "2020-02-29T21:30:00Z"),
        ("2020-02-29T21:30:15", "2020-02-29T21:30:15Z"),
        ("2020-02-29T21:30:15+00:00", "2020-02-29T21:30:15Z"),
        ("2020-02-29T21:30:15-00:00", "2020-02-29T21:30:15Z"),
        ("2020-02-29T21:30:15+03:00", "2020-02-29T18:30:15Z"),
        ("2020-02-29T21:30:15-0530", "2020-03-01T03:00:15Z"),
        ("2020-02-29T21:30:15+14", "2020-02-29T07:30:15Z"),
        ("2020-02-29 21:30:15 +05:45", "2020-02-29T15:45:15Z"),
        ("2019-12-31T23:59:59-12:00", "2020-01-01T11:59:59Z"),
        ("2020-02-29T21:30:15.5Z", "2020-02-29T21:30:15.5Z"),
        ("2020-02-29T21:30:15.500Z", "2020-02-29T21:30:15.500Z"),
        ("2020-02-29T21:30:15,25+01:00", "2020-02-29T20:30:15.25Z"),
        ("2020-02-29T21:30:15.123456", "2020-02-29T21:30:15.123456Z"),
        ("2020-02-29T21:30:15.123456789-01:00", "2020-02-29T22:30:15.123456789Z"),
        ("0001-01-01", "0001-01-01T00:00:00Z"),
        ("0001-01-01T05:00:00+05:00", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        ("9999-12-31T18:59:59-05:00", "9999-12-31T23:59:59Z"),
        ("1883-11-18T12:00:00", "1883-11-18T12:00:00Z"),
    ],
)
def test_date_becomes_rfc_3339_in_utc(value: str, expected: str) -> None:
    assert to_utc(value) == expected
    for schema in (DATE, DATE_TIME):
        record = {"email": "a@b.example", "_regdate": value}
        assert sent(record, {"_regdate": schema})["data"]["_regdate"] == expected


@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "2020",
        "2020-01",
        "2020-13-01",
        "2021-02-29",
        "20200101",
        "01.02.2020",
        "2020-1-2",
        " 2020-01-02",
        "2020-01-02Z",
        "2020-01-02T25:00:00",
        "2020-01-02T10:60:00",
        "2020-01-02T10",
        "2020-01-02T10:00:00 UTC",
        "2020-01-02T10:00:00+1",
        "2020-01-02T10:00:00.Z",
        "0000-01-01",
        "10000-01-01",
        "-0001-01-01",
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:59:59-05:00",
        "1577836800",
        "infinity",
        "٢٠٢٠-01-02",
    ],
)
def test_bad_date_is_rejected_by_column_without_its_value(value: str) -> None:
    fault = rejection({"email": "a@b.example", "born": value}, {"born": DATE})
    assert fault.code == "bad_date"
    assert str(fault) == "column 'born' is not a date"
    assert fault.__cause__ is None
    assert fault.__suppress_context__


EITHER = {"anyOf": [{"type": ["null", "string"], "format": "date-time"}, {"type": "string"}]}


@pytest.mark.parametrize("blank", ["", "  ", "\t"])
def test_blank_text_in_a_date_column_counts_as_null(blank: str) -> None:
    record = {"email": "a@b.example", "born": blank, "seen": "2020-01-02"}
    schema = {"born": DATE, "seen": DATE_TIME}
    data = {"email": "a@b.example", "seen": "2020-01-02T00:00:00Z"}
    assert sent(record, schema) == {"data": data}
    assert sent(record, schema, nulls="send") == {"data": {**data, "born": None}}


@pytest.mark.parametrize("text", ["call me in May", "05.03.2025", "", "2025", "2025-13-01"])
def test_text_that_is_no_date_is_kept_where_another_text_may_stand(text: str) -> None:
    record = {"email": "a@b.example", "next": text}
    assert sent(record, {"next": EITHER})["data"]["next"] == text


def test_text_that_is_a_date_becomes_utc_where_another_text_may_stand() -> None:
    record = {"email": "a@b.example", "next": "2025-03-05 01:00:00+03:00"}
    assert sent(record, {"next": EITHER})["data"]["next"] == "2025-03-04T22:00:00Z"


@pytest.mark.parametrize(
    "value",
    [
        "2020-01-02T10:00:00+25:00",
        "2020-01-02T10:00:00+99:99",
        "2020-01-02T10:00.5Z",
        "2020-01-02T10:00:00.٣Z",
    ],
)
def test_date_with_an_impossible_part_is_rejected(value: str) -> None:
    assert rejection({"email": "a@b.example", "born": value}, {"born": DATE}).code == "bad_date"


@given(
    st.from_regex(
        r"20\d\d-[01]\d-[0-3]\d[Tt ][0-2]\d:[0-6]\d(:[0-6]\d)?"
        r"([.,](\d{0,8}|\d,\d))?( ?(Z|z|[+-][0-2]\d:?[0-6]?\d?|-| |\.1|1))?",
        fullmatch=True,
    )
)
@example("2024-05-06T12:00:15,25+01:00")
@example("2024-05-06T12:00:15.25,3+01:00")
@example("2024-05-06T12:00:15.+01:00")
@example("0001-01-01T00:30:15+01:00")
def test_a_date_time_put_together_is_the_one_read_as_a_whole(text: str) -> None:
    def result(of: t.Callable[[str], str]) -> str | type[Exception]:
        try:
            return of(text)
        except (ValueError, OverflowError) as error:
            return type(error)

    assert result(to_utc) == result(codec._read_to_utc)  # noqa: SLF001 - what it must agree with


@settings(deadline=None)
@given(
    st.datetimes(min_value=dt.datetime(1, 1, 2), max_value=dt.datetime(9999, 12, 30)),  # noqa: DTZ001
    st.integers(min_value=-14 * 60, max_value=14 * 60),
    st.integers(min_value=1, max_value=12),
)
def test_any_date_time_is_the_same_instant_afterwards(
    moment: dt.datetime, minutes: int, digits: int
) -> None:
    zone = dt.timezone(dt.timedelta(minutes=minutes))
    moment = moment.replace(tzinfo=zone)
    fraction = f"{moment.microsecond:06}000000"[:digits]
    text = f"{moment.replace(microsecond=0).isoformat()}"
    result = to_utc(f"{text[:19]}.{fraction}{text[19:]}")
    expected = moment.astimezone(dt.timezone.utc).replace(tzinfo=None, microsecond=0)
    assert result == f"{expected.isoformat()}.{fraction}Z"
    assert to_utc(result) == result


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (dt.date(2020, 1, 2), "2020-01-02T00:00:00Z"),
        (dt.datetime(2020, 1, 2, 3, 4, 5), "2020-01-02T03:04:05Z"),  # noqa: DTZ001 - by a stream map
        (
            dt.datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=dt.timezone(dt.timedelta(hours=3))),
            "2020-01-02T00:04:05.000006Z",
        ),
    ],
)
def test_date_that_a_stream_map_made_is_written_alike(value: dt.date, expected: str) -> None:
    record = {"email": "a@b.example", "born": value}
    assert sent(record, {"born": DATE_TIME})["data"]["born"] == expected


@pytest.mark.parametrize("value", [1577836800, Decimal("1577836800.5"), 1.5, True, [1], {"a": 1}])
def test_date_column_that_holds_no_text_is_left_alone(value: t.Any) -> None:
    assert sent({"email": "a@b.example", "at": value}, {"at": DATE_TIME})["data"]["at"] == value


def test_text_that_looks_like_a_date_is_left_alone_without_a_format() -> None:
    record = {"email": "a@b.example", "code": "2020-01-02", "at": "10:00"}
    schema: dict[str, t.Any] = {
        "code": {"type": "string"},
        "at": {"type": "string", "format": "time"},
    }
    assert sent(record, schema)["data"] == record


def test_null_date_is_a_null() -> None:
    record = {"email": "a@b.example", "born": None}
    assert sent(record, {"born": DATE})["data"] == {"email": "a@b.example"}
    assert sent(record, {"born": DATE}, nulls="send")["data"]["born"] is None


def test_date_is_written_alike_wherever_its_column_is_moved() -> None:
    record = {"born": "2020-01-02", "seen": "2020-01-03", "id": "2020-01-04"}
    schema = dict.fromkeys(record, DATE)
    entry = sent(
        record,
        schema,
        matching="custom",
        field_name="key",
        match_column="id",
        content_columns=("born",),
        custom_data_columns=("seen",),
    )
    assert entry["content"] == {"born": "2020-01-02T00:00:00Z"}
    assert entry["custom_data"] == {"seen": "2020-01-03T00:00:00Z"}
    assert entry["data"] == {"key": "2020-01-04T00:00:00Z"}


def test_plan_names_the_columns_of_its_schema_and_which_are_dates() -> None:
    properties = {"b": DATE, "a": {"type": "string"}, "_sdc_extracted_at": DATE_TIME, "c": True}
    plan = EntryPlan(StreamSettings("orders", 12), {"properties": properties})
    assert plan.columns() == [("a", False), ("b", True), ("c", False)]
    assert EntryPlan(StreamSettings("orders", 12), {}).columns() == []


def test_column_schema_that_is_true_or_false_is_no_date() -> None:
    record = {"email": "a@b.example", "any": "2020-01-02"}
    assert sent(record, {"any": True})["data"]["any"] == "2020-01-02"


# The match value, whatever the matching

IN_EVERY_MATCHING = [
    ({"matching": "email"}, "email"),
    ({"matching": "email_profile"}, "email"),
    ({"matching": "email", "match_column": "login"}, "login"),
    ({"matching": "phone"}, "phone"),
    ({"matching": "phone", "match_column": "phones"}, "phones"),
    ({"matching": "phone", "match_column": "mobile"}, "mobile"),
    ({"matching": "profile_id"}, "profile_id"),
    ({"matching": "profile_id", "match_column": "id"}, "id"),
    ({"matching": "custom", "field_name": "CRM_ID"}, "CRM_ID"),
    ({"matching": "custom", "field_name": "CRM_ID", "match_column": "id"}, "id"),
    ({"matching": "custom_request", "custom_request_column": "query"}, "query"),
]


@pytest.mark.parametrize("nulls", ["omit", "send"])
@pytest.mark.parametrize(("stream", "column"), IN_EVERY_MATCHING)
def test_missing_or_null_match_value_is_rejected_by_column(
    stream: dict[str, t.Any], column: str, nulls: str
) -> None:
    for record in ({"_city": "Tver"}, {"_city": "Tver", column: None}):
        fault = rejection(record, **stream, nulls=nulls)
        assert fault.code == "no_match_value"
        assert str(fault) == f"no match value in column '{column}'"


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u00a0"])
@pytest.mark.parametrize(("stream", "column"), IN_EVERY_MATCHING[:-1])
def test_blank_match_value_is_rejected_by_column(
    stream: dict[str, t.Any], column: str, blank: str
) -> None:
    fault = rejection({column: blank}, **stream)
    assert fault.code == "no_match_value"
    assert f"'{column}'" in str(fault)


@pytest.mark.parametrize("value", [True, False, {"a": "v4lue"}, [["v4lue"]], [1], ["v4lue", None]])
@pytest.mark.parametrize(("stream", "column"), IN_EVERY_MATCHING[:-1])
def test_match_value_of_another_type_is_rejected_by_column(
    stream: dict[str, t.Any], column: str, value: t.Any
) -> None:
    if column == "phones" and value in ([1], ["v4lue", None]):
        return  # an array of phones: its first counts
    fault = rejection({column: value}, **stream)
    assert fault.code == "bad_match_value"
    assert f"'{column}'" in str(fault)
    assert "v4lue" not in str(fault)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (79001234567, "79001234567"),
        (0, "0"),
        (-5, "-5"),
        (Decimal(79001234567), "79001234567"),
        (Decimal("7.9E+10"), "79000000000"),
        (Decimal("12.10"), "12.10"),
        (10**25, "1" + "0" * 25),
    ],
)
@pytest.mark.parametrize(
    ("stream", "column", "place"),
    [
        ({"matching": "email"}, "email", ("data", "email")),
        ({"matching": "phone"}, "phone", ("phone",)),
        ({"matching": "profile_id"}, "profile_id", ("profile_id",)),
    ],
)
def test_number_as_match_value_becomes_text(
    stream: dict[str, t.Any],
    column: str,
    place: tuple[str, ...],
    number: float | Decimal,
    text: str,
) -> None:
    entry: t.Any = sent({column: number}, **stream)
    for step in place:
        entry = entry[step]
    assert entry == text
    assert entry_of({column: number}, **stream).identity == text


@pytest.mark.parametrize(
    "number",
    [float("nan"), float("inf"), Decimal("NaN"), Decimal("1E+41"), pytest.param(10**5000, id="x")],
)
@pytest.mark.parametrize(("stream", "column"), IN_EVERY_MATCHING[:-1])
def test_number_that_is_none_or_too_long_is_no_match_value(
    stream: dict[str, t.Any], column: str, number: t.Any
) -> None:
    fault = rejection({column: number}, **stream)
    assert str(fault) == f"the match value in column '{column}' is a number beyond all bounds"
    assert fault.__suppress_context__


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a b ", "a b "),
        ("", None),
        (" \t\u00a0", None),
        (None, None),
        (0, "0"),
        (1.5, "1.5"),
        (Decimal("12.10"), "12.10"),
        (Decimal("1E+3"), "1000"),
    ],
)
def test_text_of_a_value(value: t.Any, text: str | None) -> None:
    assert to_text(value) == text


@pytest.mark.parametrize("value", [True, False, [], ["a"], {}, b"a", dt.date(2020, 1, 2)])
def test_value_that_is_neither_text_nor_number_has_no_text(value: t.Any) -> None:
    with pytest.raises(TypeError):
        to_text(value)


# email, email_profile


@pytest.mark.parametrize("matching", ["email", "email_profile"])
def test_email_is_the_profiles_own(matching: str) -> None:
    record = {"email": "Ada@B.example", "_city": "Tver"}
    entry = entry_of(record, matching=matching)
    assert json.loads(entry.body) == {"data": record}


@pytest.mark.parametrize("matching", ["email", "email_profile"])
@pytest.mark.parametrize("own", [{}, {"email": None}, {"email": ""}, {"email": "ada@b.example"}])
def test_email_of_another_column_is_moved_into_a_profile_without_one(
    matching: str, own: dict[str, t.Any]
) -> None:
    record = {"login": "ada@b.example", "_city": "Tver", **own}
    for nulls in ("omit", "send"):
        assert sent(record, matching=matching, match_column="login", nulls=nulls) == {
            "data": {"_city": "Tver", "email": "ada@b.example"}
        }


@pytest.mark.parametrize("matching", ["email", "email_profile"])
def test_email_of_another_column_stands_at_the_entry_to_change_the_address(matching: str) -> None:
    record = {"old": "Ada@old.example", "email": "ada@new.example"}
    entry = entry_of(record, matching=matching, match_column="old")
    assert json.loads(entry.body) == {
        "data": {"email": "ada@new.example"},
        "email": "Ada@old.example",
    }
    assert entry.identity == "ada@old.example"


def test_emails_are_compared_case_folded() -> None:
    one, other = entry_of({"email": "STRASSE@B.example"}), entry_of({"email": "straße@b.EXAMPLE"})
    assert one.identity == other.identity


def test_field_name_of_the_top_level_does_not_reach_a_stream_matched_by_email() -> None:
    # The top level is `custom` by CRM_ID; one stream says `matching: email`.
    record = {"email": "ada@b.example", "CRM_ID": "00015"}
    assert sent(record, matching="email", field_name="CRM_ID") == {"data": record}


def test_blank_email_is_no_new_address() -> None:
    record = {"login": "ada@b.example", "email": "  "}
    assert sent(record, match_column="login") == {"data": {"email": "ada@b.example"}}


@pytest.mark.parametrize("matching", ["email_profile", "phone", "profile_id"])
def test_field_name_is_for_custom_only(matching: str) -> None:
    record = {"email": "a@b.example", "phone": "+7900", "profile_id": "61e9", "CRM_ID": "00015"}
    alone = sent(record, matching=matching)
    assert sent(record, matching=matching, field_name="CRM_ID") == alone


# phone


def test_phone_stands_at_the_entry_and_sets_phones() -> None:
    entry = entry_of({"phone": "+79001234567", "_city": "Tver"}, matching="phone")
    assert json.loads(entry.body) == {
        "data": {"_city": "Tver", "phones": ["+79001234567"]},
        "phone": "+79001234567",
    }
    assert entry.identity == "+79001234567"


@pytest.mark.parametrize("phones", [["+7900", "+7901"], "+7900", ["+7901"]])
def test_phone_leaves_the_phones_of_the_record(phones: t.Any) -> None:
    entry = sent({"phone": "+7900", "phones": phones}, matching="phone")
    assert entry == {"data": {"phones": phones}, "phone": "+7900"}


@pytest.mark.parametrize("phones", [None, [], ""])
def test_phone_fills_empty_phones(phones: t.Any) -> None:
    for nulls in ("omit", "send"):
        entry = sent({"phone": "+7900", "phones": phones}, matching="phone", nulls=nulls)
        assert entry == {"data": {"phones": ["+7900"]}, "phone": "+7900"}


@pytest.mark.parametrize(
    ("phones", "phone"), [(["+7900", "+7901"], "+7900"), ("+7900", "+7900"), ([7900], "7900")]
)
@pytest.mark.parametrize("stream", [{}, {"match_column": "phones"}])
def test_first_of_phones_is_the_match_value_where_there_is_no_phone(
    phones: t.Any, phone: str, stream: dict[str, t.Any]
) -> None:
    entry = sent({"phones": phones}, matching="phone", **stream)
    assert entry == {"data": {"phones": phones}, "phone": phone}


def test_phones_are_not_asked_when_another_column_is_named() -> None:
    fault = rejection({"phones": ["+7900"]}, matching="phone", match_column="mobile")
    assert fault.code == "no_match_value"


def test_phone_of_another_column_is_moved() -> None:
    record = {"mobile": "+7900", "phone": "kept"}
    assert sent(record, matching="phone", match_column="mobile") == {
        "data": {"phone": "kept", "phones": ["+7900"]},
        "phone": "+7900",
    }


@pytest.mark.parametrize("phones", [[None, "+7900"], ["", " ", "+7900", "+7901"]])
def test_blanks_before_the_first_phone_do_not_matter(phones: t.Any) -> None:
    entry = sent({"phones": phones}, matching="phone")
    assert (entry["phone"], entry["data"]["phones"]) == ("+7900", phones)


@pytest.mark.parametrize("phones", [[], [""], "", " ", None, [None]])
def test_blank_phones_are_set_from_the_phone(phones: t.Any) -> None:
    entry = sent({"phone": "+7900", "phones": phones}, matching="phone")
    assert entry["data"]["phones"] == ["+7900"]


@pytest.mark.parametrize("phones", [[], [""], [None, " "], None])
def test_phones_without_a_first_are_no_match_value(phones: t.Any) -> None:
    assert rejection({"phones": phones}, matching="phone").code == "no_match_value"


def test_null_phone_is_not_sent_as_a_field_where_phones_is_used() -> None:
    record = {"phone": None, "phones": ["+7900"]}
    entry = sent(record, matching="phone", nulls="send")
    assert entry == {"data": {"phones": ["+7900"]}, "phone": "+7900"}


def test_blank_phone_gives_way_to_phones() -> None:
    assert sent({"phone": "", "phones": ["+7900"]}, matching="phone")["phone"] == "+7900"


# profile_id


def test_profile_id_stands_at_the_entry() -> None:
    entry = entry_of({"profile_id": "61e9", "_city": "Tver"}, matching="profile_id")
    assert json.loads(entry.body) == {"data": {"_city": "Tver"}, "profile_id": "61e9"}
    assert entry.identity == "61e9"


def test_profile_id_of_another_column_is_moved() -> None:
    record = {"id": 15, "email": "a@b.example"}
    assert sent(record, matching="profile_id", match_column="id") == {
        "data": {"email": "a@b.example"},
        "profile_id": "15",
    }


# custom


@pytest.mark.parametrize("value", ["00015", 15, Decimal("15.10")])
def test_custom_value_stays_in_the_profile_under_its_field(value: t.Any) -> None:
    entry = entry_of(
        {"CRM_ID": value, "email": "a@b.example"}, matching="custom", field_name="CRM_ID"
    )
    assert json.loads(entry.body, parse_float=Decimal) == {
        "data": {"CRM_ID": value, "email": "a@b.example"}
    }
    assert entry.identity == str(value)


def test_custom_value_of_another_column_is_moved_to_its_field() -> None:
    record = {"id": "00015", "CRM_ID": "overwritten", "email": "a@b.example"}
    entry = sent(record, matching="custom", field_name="CRM_ID", match_column="id")
    assert entry == {"data": {"CRM_ID": "00015", "email": "a@b.example"}}


@pytest.mark.parametrize(
    ("tags", "field_value"), [(["a"], "a"), (["a", "b c"], "a, b c"), (["x", "y", "z"], "x, y, z")]
)
def test_custom_array_is_joined_for_the_entry_and_kept_in_the_profile(
    tags: list[str], field_value: str
) -> None:
    entry = entry_of({"tags": tags}, matching="custom", field_name="tags")
    assert json.loads(entry.body) == {"data": {"tags": tags}, "field_value": field_value}
    assert entry.identity == field_value


@pytest.mark.parametrize("tags", [[], ["a", ""], [" "], ["a", 1], [None], [["a"]]])
def test_custom_array_of_anything_but_texts_is_rejected(tags: list[t.Any]) -> None:
    fault = rejection({"tags": tags}, matching="custom", field_name="tags")
    assert str(fault) == "the match value in column 'tags' is not an array of texts"


# custom_request


def test_custom_request_stands_at_the_entry() -> None:
    query = {"$or": [{"email": "a@b.example"}, {"CRM_ID": {"$gt": Decimal("1.50")}}]}
    entry = entry_of(
        {"query": query, "_city": "Tver"},
        matching="custom_request",
        custom_request_column="query",
    )
    assert json.loads(entry.body, parse_float=Decimal) == {
        "data": {"_city": "Tver"},
        "custom_request": query,
    }
    assert entry.identity == ""


@pytest.mark.parametrize("query", ["{}", 5, [{}], True])
def test_custom_request_that_is_no_object_is_rejected(query: t.Any) -> None:
    fault = rejection({"q": query}, matching="custom_request", custom_request_column="q")
    assert fault.code == "bad_custom_request"
    assert str(fault) == "column 'q' is not an object"


def test_empty_custom_request_is_rejected() -> None:
    fault = rejection({"q": {}}, matching="custom_request", custom_request_column="q")
    assert fault.code == "no_match_value"


# Columns that move


def test_content_and_custom_data_columns_are_moved_to_the_entry() -> None:
    record = {"email": "a@b.example", "cart": [1], "discount": Decimal("12.10"), "shop": "x"}
    entry = sent(
        record,
        content_columns=("cart", "discount", "absent"),
        custom_data_columns=("shop",),
    )
    assert entry == {
        "data": {"email": "a@b.example"},
        "content": {"cart": [1], "discount": Decimal("12.10")},
        "custom_data": {"shop": "x"},
    }
    assert str(entry["content"]["discount"]) == "12.10"


def test_entry_has_no_content_where_no_column_is_there() -> None:
    record = {"email": "a@b.example", "cart": None}
    assert sent(record, content_columns=("cart",), custom_data_columns=("shop",)) == {
        "data": {"email": "a@b.example"}
    }


def test_content_of_the_stream_does_not_enter_the_entry() -> None:
    record = {"email": "a@b.example", "cart": 1}
    entry = sent(record, content={"all": 1}, custom_data={"all": 2}, content_columns=("cart",))
    assert entry == {"data": {"email": "a@b.example"}, "content": {"cart": 1}}


def test_attach_column_is_moved_to_the_entry_unchanged() -> None:
    files = [{"name": "a.pdf", "flie_key": "k"}, {"name": "b", "data": "QQ==", "mimetype": "x/y"}]
    record = {"email": "a@b.example", "files": files}
    assert sent(record, attach_column="files") == {
        "data": {"email": "a@b.example"},
        "attach": files,
    }


@pytest.mark.parametrize("nulls", ["omit", "send"])
def test_null_attach_is_no_attach(nulls: str) -> None:
    record = {"email": "a@b.example", "files": None}
    assert sent(record, attach_column="files", nulls=nulls) == {"data": {"email": "a@b.example"}}


@pytest.mark.parametrize("files", ["a.pdf", {"name": "a.pdf"}, 5])
def test_attach_that_is_no_array_is_rejected(files: t.Any) -> None:
    fault = rejection({"email": "a@b.example", "files": files}, attach_column="files")
    assert fault.code == "bad_attach"
    assert str(fault) == "column 'files' is not an array of objects"


@pytest.mark.parametrize("files", [["a.pdf"], [{"name": "a.pdf"}, None]])
def test_attach_of_anything_but_objects_is_rejected(files: t.Any) -> None:
    fault = rejection({"email": "a@b.example", "files": files}, attach_column="files")
    assert fault.code == "bad_attach"


def test_match_column_can_be_moved_to_the_content_and_still_match() -> None:
    entry = sent({"login": "a@b.example"}, match_column="login", content_columns=("login",))
    assert entry == {"data": {"email": "a@b.example"}, "content": {"login": "a@b.example"}}


# A column that is nearly the one looked for


@pytest.mark.parametrize(
    ("column", "shown"),
    [("\ufeffemail", "\\ufeffemail"), ("E-mail", "E-mail"), (" EMAIL\n", " EMAIL\\u000a")],
)
def test_no_match_value_names_the_column_that_is_nearly_the_one(column: str, shown: str) -> None:
    fault = rejection({column: "a@b.example"})
    assert str(fault) == f"no match value in column 'email'; there is a column '{shown}'"


@pytest.mark.parametrize(
    ("matching", "column"),
    [
        ({"matching": "phone"}, "\ufeffphones"),
        ({"matching": "profile_id"}, "Profile ID"),
        ({"matching": "custom", "field_name": "crm_id"}, "crmId"),
        ({"matching": "custom_request", "custom_request_column": "q"}, "Q"),
        ({"match_column": "contact"}, "Contact"),
    ],
)
def test_every_kind_of_matching_names_the_column_that_is_nearly_the_one(
    matching: dict[str, t.Any], column: str
) -> None:
    fault = rejection({column: "x", "email": None}, **matching)
    assert str(fault).endswith("there is a column '" + column.replace("\ufeff", "\\ufeff") + "'")


def test_column_that_is_there_but_blank_has_no_other_named() -> None:
    assert str(rejection({"email": "", "E-mail": "x"})) == "no match value in column 'email'"


# What cannot be sent


@pytest.mark.parametrize(
    "value",
    ["h4lf \ud800 pair", ["\udfff"], {"\ud800": 1}, object(), pytest.param(10**5000, id="big")],
)
def test_value_that_cannot_be_written_is_rejected_without_it(value: t.Any) -> None:
    fault = rejection({"email": "a@b.example", "x": value})
    assert fault.code == "not_json"
    assert "h4lf" not in str(fault)
    assert "column 'x'" in str(fault)
    assert fault.__suppress_context__


def test_too_deep_a_value_is_rejected() -> None:
    value: list[t.Any] = []
    for _ in range(100_000):
        value = [value]
    assert rejection({"email": "a@b.example", "x": value}).code == "not_json"


@pytest.mark.parametrize("leaf", [None, "null"])
def test_deep_value_that_can_be_written_is_sent_with_a_null_in_it(leaf: str | None) -> None:
    value: list[t.Any] = [leaf]
    for _ in range(600):
        value = [value]
    assert sent({"email": "a@b.example", "x": value})["data"]["x"] == value


def test_encode_json_says_which_error_a_half_pair_is() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode_json("\ud800")


# Where an entry came from


def test_origin_keeps_nothing_unless_it_is_asked_for() -> None:
    assert Origin() == NO_ORIGIN == Origin(b"", b"", b"", 0, NO_KIND)


# Any record

NUMBERS = st.one_of(
    st.integers().map(str),
    st.integers(min_value=2**63).map(str),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(
        ["12.10", "1e400", "-0.0", "1E-400", "0.0", "-1.50e+3", "0.1234567890123456789"]
    ),
)


def texts_of_json() -> st.SearchStrategy[str]:
    """Any JSON value, as text."""
    leaves = st.one_of(
        NUMBERS,
        st.sampled_from(["null", "true", "false"]),
        st.text().map(json.dumps),
        st.text().map(lambda text: json.dumps(text, ensure_ascii=False)),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
            st.dictionaries(st.text(), inner, max_size=3).map(_object),
        ),
        max_leaves=8,
    )


def _object(members: dict[str, str]) -> str:
    return "{" + ",".join(f"{json.dumps(name)} : {text}" for name, text in members.items()) + "}"


def _exactly(text: str | bytes) -> t.Any:
    """JSON in which 12.10 differs from 12.1, and 1 from 1.0 and from true."""
    return json.loads(
        text,
        parse_int=lambda number: Decimal(int(number)).as_tuple(),
        parse_float=lambda number: Decimal(number).as_tuple(),
    )


COLUMNS = st.text().filter(lambda name: name != "email" and not name.startswith("_sdc_"))


@settings(deadline=None)
@given(st.dictionaries(COLUMNS, texts_of_json(), max_size=4))
@example({"x": "12.10", "y": "[1e400, -0.0]", "z": '{"deep": [0.10, 10000000000000000000000]}'})
def test_any_record_arrives_as_it_was_written(columns: dict[str, str]) -> None:
    line = _object({"email": '"ada@b.example"', **columns})
    body = entry_of(decode_json(line.encode()), nulls="send").body
    assert _exactly(body) == {"data": _exactly(line)}


@settings(deadline=None)
@given(st.dictionaries(COLUMNS, texts_of_json(), max_size=4))
def test_any_record_arrives_without_its_null_columns(columns: dict[str, str]) -> None:
    line = _object({"email": '"ada@b.example"', **columns})
    expected = {name: value for name, value in _exactly(line).items() if value is not None}
    assert _exactly(entry_of(decode_json(line.encode())).body) == {"data": expected}


SECRET = "v4lue"
NUMBER = 987654321
VALUES = st.recursive(
    st.one_of(
        st.sampled_from(
            [SECRET, f" {SECRET}@b.example", f"2020-01-02T{SECRET}", f"\ud800{SECRET}"]
        ),
        st.sampled_from(
            [NUMBER, float(NUMBER), Decimal(NUMBER), Decimal(f"{NUMBER}E+90"), -NUMBER]
        ),
        st.sampled_from([f"{NUMBER}-01-01", "0001-01-01T00:00:00+05:00", "", None, True]),
        st.datetimes(timezones=st.sampled_from([None, dt.timezone.utc])),
        st.binary(max_size=2),
    ),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["a", SECRET]), inner, max_size=2)
    ),
    max_leaves=3,
)
PHONES = {"channel": "sms", "resource_id": 1, "column": "mobile"}
STREAMS = st.sampled_from(
    [
        {**stream, **extra}
        for stream, _ in IN_EVERY_MATCHING
        for extra in (
            {},
            {"nulls": "send"},
            {"content_columns": ("_city", "email"), "custom_data_columns": ("id",)},
            {"attach_column": "files", "custom_request_column": "query"},
            {"subscriptions": compiled([{"channel": "email", "resource_id": 1}, PHONES])},
        )
    ]
)
NAMES = [
    "subscriptions",
    "email",
    "login",
    "phone",
    "phones",
    "mobile",
    "profile_id",
    "id",
    "CRM_ID",
    "query",
    "files",
]


@settings(deadline=None, max_examples=300)
@given(
    STREAMS,
    st.dictionaries(st.sampled_from([*NAMES, "_city"]), VALUES),
    st.sets(st.sampled_from(NAMES)),
)
def test_a_record_becomes_an_entry_or_a_rejection_that_holds_no_value(
    stream: dict[str, t.Any], record: dict[str, t.Any], dates: set[str]
) -> None:
    fault = None
    try:
        entry = entry_of(record, dict.fromkeys(dates, DATE_TIME), **stream)
    except Rejection as error:
        fault = error
    if fault:
        for text in (str(fault), repr(fault), fault.reason, fault.code):
            assert SECRET not in text
            assert str(NUMBER) not in text
        assert fault.__cause__ is None
    else:
        assert entry.body.startswith(b'{"data":')
        assert json.loads(entry.body).keys() <= {
            *("data", "email", "phone", "profile_id", "field_value"),
            *("content", "custom_data", "attach", "custom_request"),
        }
