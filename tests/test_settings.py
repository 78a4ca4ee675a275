from __future__ import annotations

import copy
import dataclasses
import json
import typing as t
from decimal import Decimal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from target_altcraft.errors import SettingsError
from target_altcraft.misspelt import nearest, unknown_names
from target_altcraft.settings import (
    ENV_PREFIX,
    Settings,
    StreamSettings,
    check,
    coerce,
    from_environment,
    is_loopback,
    reportable,
    resolve,
)
from target_altcraft.settings_schema import (
    RUN_SETTINGS,
    SCHEMA,
    STREAM_SETTINGS,
    may_be_shown,
    types_of,
)
from target_altcraft.target import TargetAltcraft

if t.TYPE_CHECKING:
    from pathlib import Path

NEEDED = {"api_url": "https://altcraft.example", "token": "tok-secret"}
ALL_SETTINGS = {**RUN_SETTINGS, **STREAM_SETTINGS}
SENTINEL = "s3nt1nel"


def full_schema() -> dict[str, t.Any]:
    """The schema that is checked in a run: ours and the SDK's own settings."""
    schema = copy.deepcopy(SCHEMA)
    TargetAltcraft.append_builtin_config(schema)
    return schema


def complaints(config: dict[str, t.Any]) -> list[str]:
    return check(coerce({**NEEDED, **config}, SCHEMA), SCHEMA)


def resolved(config: dict[str, t.Any]) -> Settings:
    coerced = coerce({**NEEDED, **config}, SCHEMA)
    assert check(coerced, SCHEMA) == []
    return resolve(coerced)


def from_env(config: dict[str, str]) -> Settings:
    environment = {ENV_PREFIX + name.upper(): text for name, text in {**NEEDED, **config}.items()}
    coerced = coerce(from_environment(environment, SCHEMA), SCHEMA)
    assert check(coerced, SCHEMA) == []
    return resolve(coerced)


# What the settings are

UNION = ["boolean", "array"]
STREAM_TABLE: dict[str, tuple[str, t.Any]] = {
    "workflow_id": ("integer", None),
    "matching": ("string", "email"),
    "field_name": ("string", None),
    "match_column": ("string", None),
    "skip_triggers": ("boolean", None),
    "skip_invalid_subscriptions": ("boolean", None),
    "detect_geo": ("boolean", None),
    "content": ("object", None),
    "custom_data": ("object", None),
    "attach": ("array", None),
    "content_columns": ("array", []),
    "custom_data_columns": ("array", []),
    "attach_column": ("string", None),
    "custom_request_column": ("string", None),
    "nulls": ("string", "omit"),
    "subscriptions": ("array", None),
    "send_again": ("string", None),
    "bookmark_column": ("string", None),
    "deleted_column": ("string", None),
}
RUN_TABLE: dict[str, tuple[t.Any, t.Any]] = {
    "api_url": ("string", None),
    "token": ("string", None),
    "batch_size_rows": ("integer", 10_000),
    "batch_size_bytes": ("integer", 10_000_000),
    "max_in_flight": ("integer", 4),
    "poll_interval_seconds": ("number", 0.5),
    "poll_max_interval_seconds": ("number", 15),
    "task_timeout_seconds": ("number", 3600),
    "request_timeout_seconds": ("number", 60),
    "retry_max_seconds": ("number", 300),
    "on_ambiguous_submit": ("string", "resend"),
    "rejects_path": ("string", None),
    "max_rejects": ("integer", None),
    "max_reject_percent": ("number", None),
    "canary_rows": ("integer", None),
    "receipts_path": ("string", None),
    "journal_path": ("string", None),
    "journal_keep_days": ("integer", None),
    "resend": (UNION, False),
    "baseline": (UNION, False),
    "report_path": ("string", None),
    "max_profiles": ("integer", None),
    "shutdown_seconds": ("number", 20),
    "check_workflow": ("boolean", True),
    "dry_run": ("boolean", False),
}


@pytest.mark.parametrize("name", STREAM_TABLE)
def test_stream_setting_has_the_promised_type_and_default(name: str) -> None:
    kind, default = STREAM_TABLE[name]
    assert STREAM_SETTINGS[name]["type"] == kind
    assert STREAM_SETTINGS[name].get("default") == default


@pytest.mark.parametrize("name", RUN_TABLE)
def test_run_setting_has_the_promised_type_and_default(name: str) -> None:
    kind, default = RUN_TABLE[name]
    assert RUN_SETTINGS[name]["type"] == kind
    assert RUN_SETTINGS[name].get("default") == default


@pytest.mark.parametrize("name", ALL_SETTINGS)
def test_setting_is_documented_and_can_be_parsed_from_the_environment(name: str) -> None:
    schema = ALL_SETTINGS[name]
    assert schema["title"]
    assert schema["description"].endswith(".")
    assert types_of(schema)  # one without a type crashes the SDK's parser
    if "array" in types_of(schema):
        assert types_of(schema["items"])  # and so does this one


def test_no_name_is_both_a_run_and_a_stream_setting() -> None:
    assert not RUN_SETTINGS.keys() & STREAM_SETTINGS.keys()


def test_every_stream_setting_has_a_field_and_every_field_a_setting() -> None:
    names = {field.name for field in dataclasses.fields(StreamSettings)}
    assert names - {"name"} == STREAM_SETTINGS.keys()


def test_every_run_setting_has_a_field_and_every_field_a_setting() -> None:
    names = {field.name for field in dataclasses.fields(Settings)}
    assert names - {"top_level", "streams"} == RUN_SETTINGS.keys()


def test_choices_of_the_schema_are_those_of_the_dataclass() -> None:
    names = {"Subscription": object, "Mapping": dict}  # not imported at run time
    hints = t.get_type_hints(StreamSettings, localns=names)
    assert list(t.get_args(hints["matching"])) == STREAM_SETTINGS["matching"]["enum"]
    assert list(t.get_args(hints["nulls"])) == STREAM_SETTINGS["nulls"]["enum"]
    (send_again,) = (kind for kind in t.get_args(hints["send_again"]) if t.get_args(kind))
    assert list(t.get_args(send_again)) == STREAM_SETTINGS["send_again"]["enum"]
    hints = t.get_type_hints(Settings, localns=names)
    submit = RUN_SETTINGS["on_ambiguous_submit"]["enum"]
    assert list(t.get_args(hints["on_ambiguous_submit"])) == submit


def test_stream_overrides_take_every_stream_setting_and_carry_no_default() -> None:
    overrides = SCHEMA["properties"]["streams"]["additionalProperties"]
    assert overrides["properties"].keys() == STREAM_SETTINGS.keys()
    assert not any("default" in schema for schema in overrides["properties"].values())


def test_token_is_marked_secret() -> None:
    assert RUN_SETTINGS["token"]["secret"] is True


def test_only_api_url_and_token_are_required() -> None:
    assert sorted(SCHEMA["required"]) == ["api_url", "token"]


# Defaults


def test_run_settings_take_their_defaults() -> None:
    run = resolved({})
    for name, (_, default) in RUN_TABLE.items():
        if name not in NEEDED:
            assert getattr(run, name) == default


def test_stream_settings_take_their_defaults() -> None:
    stream = resolved({"workflow_id": 12}).stream("orders")
    assert stream.name == "orders"
    assert stream.workflow_id == 12
    for name, (_, default) in STREAM_TABLE.items():
        if name == "subscriptions":
            assert stream.subscriptions == ()
        elif name != "workflow_id":
            expected = tuple(default) if isinstance(default, list) else default
            assert getattr(stream, name) == expected


# Where they come from

FROM_FILE: dict[str, t.Any] = {
    "batch_size_rows": Decimal(500),
    "batch_size_bytes": Decimal("2e6"),
    "max_in_flight": 2,
    "poll_interval_seconds": Decimal("0.25"),
    "poll_max_interval_seconds": Decimal("2.50"),
    "task_timeout_seconds": Decimal(10),
    "request_timeout_seconds": 1.5,
    "retry_max_seconds": 0,
    "on_ambiguous_submit": "fail",
    "rejects_path": "out/rejects.singer",
    "max_rejects": Decimal(0),
    "max_reject_percent": Decimal("2.5"),
    "canary_rows": Decimal(10),
    "receipts_path": "out/receipts.jsonl",
    "journal_path": "out/journal.db",
    "journal_keep_days": Decimal(30),
    "resend": ["orders", "customers"],
    "baseline": False,
    "report_path": "out/report.html",
    "max_profiles": Decimal(1000),
    "shutdown_seconds": Decimal("0.0"),
    "check_workflow": False,
    "dry_run": True,
    "workflow_id": Decimal("12.0"),
    "matching": "custom",
    "field_name": "CRM_ID",
    "match_column": "id",
    "skip_triggers": True,
    "skip_invalid_subscriptions": False,
    "detect_geo": True,
    "content": {"discount": Decimal("12.10"), "names": ["Ада", None]},
    "custom_data": {"source": {"deep": True}},
    "attach": [{"name": "a.pdf", "flie_key": "k"}],
    "content_columns": ["discount"],
    "custom_data_columns": ["order", "shop"],
    "attach_column": "files",
    "custom_request_column": "query",
    "nulls": "send",
    "subscriptions": [
        {"channel": "email", "resource_id": Decimal(7), "priority": Decimal("1.50"), "x": None},
        {"channel": "max_bot", "resource_id": 3, "column": "max_id", "field": "cc_data.id"},
    ],
    "send_again": "changed",
    "bookmark_column": "updated_at",
    "deleted_column": "is_deleted",
    "streams": {"orders": {"workflow_id": Decimal(13), "detect_geo": False}},
}
FROM_ENVIRONMENT = {
    "batch_size_rows": "500",
    "batch_size_bytes": "2000000",
    "max_in_flight": " 2 ",
    "poll_interval_seconds": "0.25",
    "poll_max_interval_seconds": "2.50",
    "task_timeout_seconds": "1e1",
    "request_timeout_seconds": "1.5",
    "retry_max_seconds": "0",
    "on_ambiguous_submit": "fail",
    "rejects_path": "out/rejects.singer",
    "max_rejects": "0",
    "max_reject_percent": "2.50",
    "canary_rows": "10",
    "receipts_path": "out/receipts.jsonl",
    "journal_path": "out/journal.db",
    "journal_keep_days": "30",
    "resend": '["orders", "customers"]',
    "baseline": "False",
    "report_path": "out/report.html",
    "max_profiles": "1000",
    "shutdown_seconds": "0.0",
    "check_workflow": "off",
    "dry_run": "YES",
    "workflow_id": "12",
    "matching": "custom",
    "field_name": "CRM_ID",
    "match_column": "id",
    "skip_triggers": "true",
    "skip_invalid_subscriptions": "False",
    "detect_geo": "1",
    "content": '{"discount": 12.10, "names": ["Ада", null]}',
    "custom_data": '{"source": {"deep": true}}',
    "attach": '[{"name": "a.pdf", "flie_key": "k"}]',
    "content_columns": '["discount"]',
    "custom_data_columns": '["order", "shop"]',
    "attach_column": "files",
    "custom_request_column": "query",
    "nulls": "send",
    "subscriptions": '[{"channel": "email", "resource_id": "7", "priority": 1.50, "x": null},'
    ' {"channel": "max_bot", "resource_id": 3, "column": "max_id", "field": "cc_data.id"}]',
    "send_again": "changed",
    "bookmark_column": "updated_at",
    "deleted_column": "is_deleted",
    "streams": '{"orders": {"workflow_id": "13", "detect_geo": "no"}}',
}


KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def test_tables_cover_every_setting() -> None:
    assert STREAM_TABLE.keys() == STREAM_SETTINGS.keys()
    assert RUN_TABLE.keys() == RUN_SETTINGS.keys()


def test_examples_cover_every_setting() -> None:
    names = {*ALL_SETTINGS, "streams"} - NEEDED.keys()
    assert names <= FROM_FILE.keys()
    assert names <= FROM_ENVIRONMENT.keys()


def test_every_setting_arrives_in_its_type_from_the_environment_as_from_a_file() -> None:
    by_file, by_env = resolved(FROM_FILE), from_env(FROM_ENVIRONMENT)
    assert by_file == by_env
    assert by_file.stream("orders") == by_env.stream("orders")
    for run in (by_file, by_env):
        assert run.batch_size_bytes == 2_000_000
        assert run.poll_interval_seconds == 0.25
        assert run.shutdown_seconds == 0
        for name, (kind, _) in RUN_TABLE.items():
            kinds = (bool, tuple) if kind == UNION else KINDS[kind]
            assert isinstance(getattr(run, name), kinds), name
        assert run.resend == ("orders", "customers")
        assert run.baseline is False
        assert run.check_workflow is False
        assert run.dry_run is True
        stream = run.stream("anything")
        assert stream.workflow_id == 12
        assert isinstance(stream.workflow_id, int)
        assert stream.skip_triggers is True
        assert stream.skip_invalid_subscriptions is False
        assert stream.custom_data_columns == ("order", "shop")
        assert str(t.cast("dict[str, t.Any]", stream.content)["discount"]) == "12.10"
        assert [each.resource_id for each in stream.subscriptions] == [7, 3]
        assert str(stream.subscriptions[0].rest["priority"]) == "1.50"
        assert stream.subscriptions[0].rest["x"] is None
        assert run.stream("orders").workflow_id == 13
        assert run.stream("orders").detect_geo is False


@pytest.mark.parametrize("text", ["true", "TRUE", "1", "yes", "On"])
def test_words_for_true_in_the_environment(text: str) -> None:
    assert from_env({"workflow_id": "1", "detect_geo": text}).stream("s").detect_geo is True


@pytest.mark.parametrize("text", ["false", "False", "0", "no", "OFF"])
def test_words_for_false_in_the_environment(text: str) -> None:
    assert from_env({"workflow_id": "1", "detect_geo": text}).stream("s").detect_geo is False


def test_environment_is_read_by_prefix_and_known_name_only() -> None:
    environment = {
        "TARGET_ALTCRAFT_TOKEN": "abc",
        "TARGET_ALTCRAFT_STREAMS": "{}",
        "TARGET_ALTCRAFT_NOBODY_KNOWS": "1",
        "API_URL": "https://elsewhere.example",
    }
    assert from_environment(environment, SCHEMA) == {"token": "abc", "streams": "{}"}


@settings(deadline=None)
@given(st.integers(min_value=1, max_value=10_000))
def test_whole_number_is_read_from_any_notation(number: int) -> None:
    for form in (number, str(number), Decimal(number), float(number), f"{number}.0"):
        coerced = coerce({"batch_size_rows": form}, SCHEMA)
        assert coerced == {"batch_size_rows": number}
        assert isinstance(coerced["batch_size_rows"], int)


def test_coerce_leaves_its_argument_alone() -> None:
    config: dict[str, t.Any] = {"workflow_id": "1", "streams": {"orders": {"workflow_id": "2"}}}
    before = copy.deepcopy(config)
    coerce(config, SCHEMA)
    assert config == before


def test_null_counts_as_not_given() -> None:
    run = resolved(
        {
            "max_in_flight": None,
            "max_profiles": None,
            "workflow_id": 12,
            "nulls": "send",
            "streams": {"orders": {"workflow_id": None, "nulls": None}},
        }
    )
    assert run.max_in_flight == 4
    assert run.max_profiles is None
    assert run.stream("orders").workflow_id == 12
    assert run.stream("orders").nulls == "send"


def test_null_token_is_a_missing_token() -> None:
    assert complaints({"token": None}) == ["token must be set"]


@pytest.mark.parametrize("form", [json.dumps, lambda value: value])
def test_stream_maps_keep_their_nulls(form: t.Callable[[t.Any], t.Any]) -> None:
    stream_maps = {
        "customers": {"secret": None, "_fname": "first", "__else__": None},
        "orders": None,
        "__else__": None,
    }
    schema = full_schema()
    coerced = coerce({**NEEDED, "stream_maps": form(stream_maps)}, schema)
    assert coerced["stream_maps"] == stream_maps
    assert check(coerced, schema) == []


def test_settings_of_the_sdk_are_coerced_too() -> None:
    config = {**NEEDED, "validate_records": "false", "flattening_max_depth": "2"}
    coerced = coerce(config, full_schema())
    assert coerced["validate_records"] is False
    assert coerced["flattening_max_depth"] == 2


@pytest.mark.parametrize("stream_maps", [{"__else__": "x"}, {"customers": {"__else__": "x"}}])
def test_wrong_else_of_a_stream_map_names_the_setting(stream_maps: dict[str, t.Any]) -> None:
    schema = full_schema()
    lines = check(coerce({**NEEDED, "stream_maps": stream_maps}, schema), schema)
    assert len(lines) == 1
    assert lines[0].startswith("stream_maps")


# What is wrong with them

BAD: list[tuple[str, t.Any, str]] = [
    ("batch_size_rows", 0, "must be at least 1"),
    ("batch_size_rows", 10_001, "must be at most 10000"),
    ("batch_size_rows", "12.5", "must be of type integer"),
    ("batch_size_rows", Decimal("12.5"), "must be of type integer"),
    ("batch_size_rows", 12.5, "must be of type integer"),
    ("batch_size_rows", True, "must be of type integer"),
    ("batch_size_bytes", 1023, "must be at least 1024"),
    ("max_in_flight", 0, "must be at least 1"),
    ("max_in_flight", "33", "must be at most 32"),
    ("max_in_flight", "many", "must be of type integer"),
    ("max_in_flight", "", "must be of type integer"),
    ("poll_interval_seconds", 0, "must be greater than 0"),
    ("poll_interval_seconds", "soon", "must be of type number"),
    ("poll_interval_seconds", "NaN", "must be of type number"),
    ("poll_interval_seconds", "inf", "must be of type number"),
    ("poll_interval_seconds", float("inf"), "must be of type number"),
    ("poll_interval_seconds", Decimal("NaN"), "must be of type number"),
    ("poll_max_interval_seconds", -1, "must be greater than 0"),
    ("task_timeout_seconds", "0", "must be greater than 0"),
    ("task_timeout_seconds", "1e-400", "must be greater than 0"),
    ("request_timeout_seconds", 0.0, "must be greater than 0"),
    ("retry_max_seconds", "-0.5", "must be at least 0"),
    ("on_ambiguous_submit", "retry", "must be one of resend, fail, skip"),
    ("rejects_path", "", "must not be empty"),
    ("rejects_path", 5, "must be of type string"),
    ("max_rejects", -1, "must be at least 0"),
    ("max_rejects", "few", "must be of type integer"),
    ("max_reject_percent", -0.5, "must be at least 0"),
    ("max_reject_percent", "100.5", "must be at most 100"),
    ("max_reject_percent", "5 %", "must be of type number"),
    ("canary_rows", 0, "must be at least 1"),
    ("canary_rows", "2.5", "must be of type integer"),
    ("receipts_path", "", "must not be empty"),
    ("journal_path", "", "must not be empty"),
    ("journal_path", ["x"], "must be of type string"),
    ("report_path", "out/report.pdf", "must end in .html or .json"),
    ("check_workflow", "perhaps", "must be of type boolean"),
    ("dry_run", 1, "must be of type boolean"),
    ("max_profiles", 0, "must be at least 1"),
    ("shutdown_seconds", -3, "must be at least 0"),
    ("workflow_id", "twelve", "must be of type integer"),
    ("workflow_id", [12], "must be of type integer"),
    (
        "matching",
        "e-mail",
        "must be one of email, email_profile, phone, profile_id, custom, custom_request",
    ),
    ("field_name", "", "must not be empty"),
    ("match_column", 5, "must be of type string"),
    ("skip_triggers", "maybe", "must be of type boolean"),
    ("detect_geo", 2, "must be of type boolean"),
    ("content", "[1]", "must be of type object"),
    ("content", "{broken", "must be of type object"),
    ("custom_data", "text", "must be of type object"),
    ("attach", "{}", "must be of type array"),
    ("content_columns", "a,b", "must be of type array"),
    ("attach_column", "", "must not be empty"),
    ("custom_request_column", 1, "must be of type string"),
    ("nulls", "keep", "must be one of omit, send"),
    ("subscriptions", {"channel": "email"}, "must be of type array"),
    ("subscriptions", "email", "must be of type array"),
    ("send_again", "sometimes", "must be one of new_version, always, changed, never"),
    ("bookmark_column", "", "must not be empty"),
    ("deleted_column", "", "must not be empty"),
    ("bookmark_column", ["updated_at"], "must be of type string"),
    ("journal_keep_days", 0, "must be at least 1"),
    ("journal_keep_days", "1.5", "must be of type integer"),
    ("resend", "orders", "must be of type boolean or array"),
    ("resend", "orders,customers", "must be of type boolean or array"),
    ("resend", '["orders"', "must be of type boolean or array"),
    ("resend", {"orders": True}, "must be of type boolean or array"),
    ("resend", 1, "must be of type boolean or array"),
    ("baseline", "", "must be of type boolean or array"),
    ("token", "", "must not be empty"),
    *(
        (name, 31_536_001, "must be at most 31536000")
        for name in RUN_SETTINGS
        if "_seconds" in name
    ),
]


@pytest.mark.parametrize(("name", "value", "allowed"), BAD)
def test_wrong_setting_is_named_with_what_is_allowed(name: str, value: t.Any, allowed: str) -> None:
    assert complaints({name: value}) == [f"{name} {allowed}"]


@pytest.mark.parametrize(
    ("name", "value", "allowed"), [row for row in BAD if row[0] in STREAM_SETTINGS]
)
def test_wrong_setting_of_a_stream_is_named_with_its_stream(
    name: str, value: t.Any, allowed: str
) -> None:
    assert complaints({"streams": {"orders": {name: value}}}) == [
        f"streams.orders.{name} {allowed}"
    ]


def test_wrong_item_of_a_list_is_named_by_its_place() -> None:
    assert complaints({"content_columns": ["ok", 7]}) == [
        "content_columns[1] must be of type string"
    ]


@pytest.mark.parametrize("value", ["5", "[]", 5, ["orders"]])
def test_streams_must_be_an_object(value: t.Any) -> None:
    assert complaints({"streams": value}) == ["streams must be of type object"]


def test_settings_of_a_stream_must_be_an_object() -> None:
    assert complaints({"streams": {"orders": 12}}) == ["streams.orders must be of type object"]


def test_all_that_is_wrong_is_said_at_once() -> None:
    streams = {"orders": {"workflow_id": "x"}}
    lines = complaints({"max_in_flight": 0, "nulls": "x", "streams": streams})
    assert len(lines) == 3


def test_missing_settings_are_named_once() -> None:
    assert check({}, SCHEMA) == ["api_url, token must be set"]


@pytest.mark.parametrize("number", [8812345678, 8812345678.5, True])
def test_token_given_as_something_else_is_not_quoted(number: float) -> None:
    lines = complaints({"token": number})
    assert lines == ["token must be of type string"]
    assert "8812345678" not in str(lines)


def sentinels() -> st.SearchStrategy[t.Any]:
    """Any JSON value that holds the sentinel somewhere in its texts."""
    texts = st.sampled_from([SENTINEL, f"x{SENTINEL}", f'{{"a": "{SENTINEL}"}}', f'["{SENTINEL}"'])
    return st.recursive(
        texts,
        lambda inner: (
            st.lists(inner, min_size=1, max_size=2)
            | st.dictionaries(st.sampled_from(["a", "b"]), inner, min_size=1)
        ),
        max_leaves=4,
    )


@settings(deadline=None)
@given(st.sampled_from([*ALL_SETTINGS, "streams"]), sentinels(), st.booleans())
def test_no_complaint_ever_quotes_a_value(name: str, value: t.Any, nested: bool) -> None:  # noqa: FBT001
    config = {"streams": {"orders": {name: value}}} if nested else {name: value}
    assume(not (nested and name == "streams"))  # a test of its own
    coerced = coerce({**NEEDED, **config}, SCHEMA)
    assert SENTINEL not in "".join(check(coerced, SCHEMA))


@settings(deadline=None)
@given(st.integers(min_value=10**12), st.sampled_from([*ALL_SETTINGS, "streams"]))
def test_no_complaint_ever_quotes_a_number(number: int, name: str) -> None:
    coerced = coerce({**NEEDED, name: number}, SCHEMA)
    assert str(number) not in "".join(check(coerced, SCHEMA))


def test_too_deep_json_in_the_environment_is_named() -> None:
    assert complaints({"content": "[" * 100_000}) == ["content must be of type object"]


def test_nan_in_an_object_from_the_environment_is_refused() -> None:
    assert complaints({"content": '{"discount": NaN}'}) == ["content must be of type object"]


@pytest.mark.parametrize("seconds", ["1e400", 10_000_000_000])
@pytest.mark.parametrize(
    "name",
    [
        "poll_max_interval_seconds",
        "task_timeout_seconds",
        "request_timeout_seconds",
        "retry_max_seconds",
        "shutdown_seconds",
    ],
)
def test_seconds_that_no_clock_can_hold_are_refused(name: str, seconds: t.Any) -> None:
    assert complaints({name: seconds})


def test_streams_inside_a_stream_is_an_unknown_setting() -> None:
    (line,) = complaints({"streams": {"orders": {"streams": {"orders": {}}}}})
    assert line.startswith("streams.orders: unknown setting 'streams'")


# Unknown names


def test_unknown_setting_of_a_stream_is_an_error_with_a_hint() -> None:
    (line,) = complaints({"streams": {"orders": {"workflowid": 1, "colour": 2}}})
    assert line == (
        "streams.orders: unknown setting 'workflowid' (did you mean 'workflow_id'?); "
        "unknown setting 'colour'"
    )


def test_run_setting_under_a_stream_is_an_error() -> None:
    (line,) = complaints({"streams": {"orders": {"batch_size_rows": 10}}})
    assert line.startswith("streams.orders: unknown setting 'batch_size_rows'")


def test_unknown_top_level_setting_is_a_warning_with_a_hint() -> None:
    config = {**NEEDED, "worklow_id": 12, "zzz": 1, "workflow_id": 13}
    assert complaints(config) == []
    assert list(unknown_names(config, SCHEMA)) == [
        "unknown setting 'worklow_id' is ignored (did you mean 'workflow_id'?)",
        "unknown setting 'zzz' is ignored",
    ]


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("max_profile", "max_profiles"),
        ("dryRun", "dry_run"),
        ("dry-run", "dry_run"),
        ("DRY_RUN", "dry_run"),
        ("base_line", "baseline"),
        ("max_reject", "max_rejects"),
        ("reject_percent", "max_reject_percent"),
        ("canary", "canary_rows"),
        ("batch_size", "batch_size_rows"),
        ("batch_bytes", "batch_size_bytes"),
        ("in_flight", "max_in_flight"),
    ],
)
def test_unknown_setting_that_looks_like_a_brake_or_a_size_is_an_error(
    wrong: str, meant: str
) -> None:
    why = "a brake or a size must not be ignored"
    assert complaints({wrong: 1}) == [f"unknown setting '{wrong}' (did you mean '{meant}'?): {why}"]
    assert list(unknown_names({**NEEDED, wrong: 1}, SCHEMA)) == []


@pytest.mark.parametrize(
    "name", ["load_method", "hard_delete", "default_target_schema", "user_agent", "journal"]
)
def test_unknown_setting_that_is_no_brake_is_a_warning(name: str) -> None:
    assert complaints({name: 1}) == []
    assert len(list(unknown_names({**NEEDED, name: 1}, SCHEMA))) == 1


def test_known_settings_are_not_warned_of() -> None:
    assert not list(unknown_names({**NEEDED, **FROM_FILE}, SCHEMA))


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [("orderz", " (did you mean 'orders'?)"), ("ordrs", " (did you mean 'orders'?)"), ("x", "")],
)
def test_nearest_name_is_hinted_at_if_there_is_one(wrong: str, hint: str) -> None:
    assert nearest(wrong, ["orders", "customers"]) == hint


# Cross-checks


@pytest.mark.parametrize(
    "url",
    [
        "https://ru.altkraft.com",
        "https://ru.altkraft.com/",
        "https://ru.altkraft.com/api/v1.1",
        "https://ru.altkraft.com/api/v1.1/",
        "HTTPS://ru.altkraft.com",
    ],
)
def test_api_url_may_end_in_nothing_a_slash_or_the_api_path(url: str) -> None:
    assert resolved({"api_url": url}).api_url == "https://ru.altkraft.com/api/v1.1"


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://10.0.0.7:8443", "https://10.0.0.7:8443"),
        ("https://[2001:db8::7]:8443/", "https://[2001:db8::7]:8443"),
        ("http://localhost:8765", "http://localhost:8765"),
        ("http://127.0.0.1:8765/api/v1.1", "http://127.0.0.1:8765"),
        ("http://127.8.8.8", "http://127.8.8.8"),
        ("http://[::1]:8765/", "http://[::1]:8765"),
    ],
)
def test_api_url_may_name_a_port_and_plain_http_on_loopback(url: str, base: str) -> None:
    assert resolved({"api_url": url}).api_url == f"{base}/api/v1.1"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ru.altkraft.com",
        "//ru.altkraft.com",
        "https://",
        "https:///api/v1.1",
        "https:ru.altkraft.com",
        "ftp://ru.altkraft.com",
        "file:///etc/passwd",
        "https://ru.altkraft.com/api",
        "https://ru.altkraft.com/api/v1",
        "https://ru.altkraft.com/api/v1.1/tasks/status",
        "https://ru.altkraft.com/api/v1.1/../..",
        "https://ru.altkraft.com?token=x",
        "https://ru.altkraft.com/#x",
        "https://user@ru.altkraft.com",
        "https://user:word@ru.altkraft.com",
        "https://:word@ru.altkraft.com",
        "https://ru.altkraft.com:port",
        "https://ru.altkraft.com:99999",
        "https://[::1",
    ],
)
def test_api_url_of_any_other_form_is_refused(url: str) -> None:
    assert complaints({"api_url": url}) == [
        "api_url must be https://host, with or without / or /api/v1.1"
    ]


@pytest.mark.parametrize(
    "url",
    [
        "http://ru.altkraft.com",
        "http://10.0.0.7",
        "http://0.0.0.0:8765",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://[2001:db8::1]",
    ],
)
def test_plain_http_to_another_machine_is_refused(url: str) -> None:
    (line,) = complaints({"api_url": url})
    assert line.startswith("api_url must be https://host")
    assert "http:// only for a loopback host" in line


@pytest.mark.parametrize(
    "url",
    [
        "https://ru.altkraft.com ",
        "https://ru altkraft.com",
        "https://ru.altkraft.com,other.example",
        "https://ru..altkraft.com",
        "https://ru.altkraft.com;x",
    ],
)
def test_api_url_with_an_impossible_host_is_refused(url: str) -> None:
    assert complaints({"api_url": url})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_loopback_hosts(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "example.com", "10.0.0.1", "::", "0.0.0.0", "localhost.com"])  # noqa: S104
def test_hosts_that_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_longest_poll_interval_is_not_below_the_shortest() -> None:
    config = {"poll_interval_seconds": 5, "poll_max_interval_seconds": 4}
    assert complaints(config) == [
        "poll_max_interval_seconds must not be less than poll_interval_seconds"
    ]
    assert complaints({**config, "poll_max_interval_seconds": 5}) == []


@pytest.mark.parametrize(
    ("config", "needed"),
    [
        ({"matching": "custom"}, "field_name"),
        ({"matching": "custom_request"}, "custom_request_column"),
    ],
)
def test_matching_needs_its_companion_setting(config: dict[str, t.Any], needed: str) -> None:
    (top,) = complaints(config)
    assert needed in top
    (own,) = complaints({"streams": {"orders": config}})
    assert needed in own
    assert "'orders'" in own
    assert complaints({**config, needed: "x"}) == []
    assert complaints({**config, "streams": {"orders": {needed: "x"}}}) == []


def test_matching_is_checked_again_when_a_stream_without_settings_arrives() -> None:
    run = resolved({"workflow_id": 1, "matching": "custom", "streams": {"a": {"field_name": "x"}}})
    assert run.stream("a").field_name == "x"
    with pytest.raises(SettingsError, match=r"field_name.*stream 'b'"):
        run.stream("b")


def test_stream_without_workflow_id_is_refused_by_name() -> None:
    run = resolved({"streams": {"orders": {"workflow_id": 12}}})
    assert run.stream("orders").workflow_id == 12
    with pytest.raises(SettingsError, match=r"'customers' has no workflow_id.*streams\.customers"):
        run.stream("customers")


# Streams and the top level


def test_stream_replaces_the_top_level_and_never_merges_with_it() -> None:
    run = resolved(
        {
            "workflow_id": 1,
            "content": {"a": 1, "b": {"c": 2}},
            "custom_data": {"x": 1},
            "attach": [{"name": "top"}],
            "content_columns": ["one", "two"],
            "nulls": "send",
            "streams": {
                "orders": {
                    "workflow_id": 2,
                    "content": {"b": {"d": 3}},
                    "custom_data": {},
                    "attach": [],
                    "content_columns": [],
                    "nulls": "omit",
                }
            },
        }
    )
    orders, others = run.stream("orders"), run.stream("others")
    assert orders.workflow_id == 2
    assert orders.content == {"b": {"d": 3}}
    assert orders.custom_data == {}
    assert orders.attach == []
    assert orders.content_columns == ()
    assert orders.nulls == "omit"
    assert others.workflow_id == 1
    assert others.content == {"a": 1, "b": {"c": 2}}
    assert others.content_columns == ("one", "two")
    assert others.nulls == "send"


def test_stream_that_says_nothing_of_a_setting_takes_the_top_level() -> None:
    run = resolved({"nulls": "send", "streams": {"orders": {"workflow_id": 2}}})
    assert run.stream("orders").nulls == "send"


def test_stream_can_set_the_default_against_the_top_level() -> None:
    run = resolved({"workflow_id": 1, "matching": "phone", "streams": {"a": {"matching": "email"}}})
    assert run.stream("a").matching == "email"
    assert run.stream("b").matching == "phone"


def test_settings_are_frozen() -> None:
    run = resolved({"workflow_id": 1})
    name = "token"  # by a variable, so that the type checker does not see it coming
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(run, name, "other")
    name = "workflow_id"
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(run.stream("orders"), name, 2)


def test_token_does_not_show_in_the_representation() -> None:
    run = resolved({"workflow_id": 1, "streams": {"orders": {}}})
    assert NEEDED["token"] not in repr(run)
    assert NEEDED["token"] not in repr(run.stream("orders"))


# Settings for one run, and what the pipeline remembers


@pytest.mark.parametrize("name", ["resend", "baseline"])
@pytest.mark.parametrize(
    ("given", "value"),
    [
        (True, True),
        (False, False),
        ("true", True),
        ("FALSE", False),
        ("1", True),
        ("0", False),
        ("yes", True),
        ("off", False),
        (["customers"], ("customers",)),
        ([], ()),
        ('["customers"]', ("customers",)),
        (' ["customers", "orders"] ', ("customers", "orders")),
        ("[]", ()),
    ],
)
def test_streams_are_given_as_a_boolean_or_an_array(name: str, given: t.Any, value: t.Any) -> None:
    run = resolved({name: given, "journal_path": "j"})
    assert getattr(run, name) == value
    assert type(getattr(run, name)) is type(value)
    asks = {"resend": run.resends, "baseline": run.baselines}
    for stream in ("customers", "orders"):
        expected = value if isinstance(value, bool) else stream in value
        assert {key: ask(stream) for key, ask in asks.items()} == {
            **dict.fromkeys(asks, False),
            name: expected,
        }


@pytest.mark.parametrize("name", ["resend", "baseline"])
@pytest.mark.parametrize("text", ["true", '["customers"]', "false"])
def test_streams_can_be_given_by_the_environment_of_the_target(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, text: str
) -> None:
    for key, value in {**NEEDED, "journal_path": str(tmp_path / "j"), name: text}.items():
        monkeypatch.setenv(ENV_PREFIX + key.upper(), value)
    target = TargetAltcraft(parse_env_config=True)
    expected: t.Any = json.loads(text)
    assert target.config[name] == expected
    assert getattr(target.settings, name) == (
        tuple(expected) if isinstance(expected, list) else expected
    )


# What a report may show


@pytest.mark.parametrize(
    "name",
    [
        *("token", "content", "custom_data", "attach", "streams", "subscriptions"),
        *("stream_maps", "stream_map_config", "batch_config", "faker_config"),
    ],
)
def test_setting_that_can_hold_a_secret_or_an_address_is_not_shown(name: str) -> None:
    properties = full_schema()["properties"]
    if name in properties:
        assert not may_be_shown(properties[name])


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        ({"type": "string"}, True),
        ({"type": ["integer", "null"]}, True),
        ({"type": ["boolean", "array"], "items": {"type": "string"}}, True),
        ({"type": "array", "items": {"type": ["string", "number"]}}, True),
        ({"type": "array", "items": {"type": "object"}}, False),
        ({"type": "array", "items": {"type": ["string", "object"]}}, False),
        ({"type": "array"}, False),
        ({"type": ["string", "object"]}, False),
        ({"type": "null"}, False),
        ({"anyOf": [{"type": "string"}]}, False),
        ({}, False),
        ({"type": "string", "secret": True}, False),
        ({"type": "string", "writeOnly": True}, False),
    ],
)
def test_only_scalars_that_are_not_secret_are_shown(
    schema: dict[str, t.Any],
    shown: bool,  # noqa: FBT001
) -> None:
    assert may_be_shown(schema) is shown


def test_report_shows_the_settings_of_an_allow_list() -> None:
    element = {"channel": "email", "resource_id": 7, "column": "email", "note": SENTINEL}
    stream = {
        "workflow_id": 12,
        "content_columns": ["cart"],
        "subscriptions": [element],
        "content": {"to": SENTINEL},
        "nobody_knows": SENTINEL,
    }
    config = {
        **NEEDED,
        **stream,
        "api_token": SENTINEL,
        "resend": ["orders"],
        "baseline": False,
        "custom_data": {"x": SENTINEL},
        "attach": [{"name": SENTINEL}],
        "stream_maps": {"orders": {"x": SENTINEL}},
        "stream_map_config": {"hash_seed": SENTINEL},
        "batch_config": {"storage": {"root": SENTINEL}},
        "validate_records": True,
        "streams": {"orders": stream},
    }
    shown = reportable(config, full_schema())
    own = {
        "workflow_id": 12,
        "content_columns": ["cart"],
        "subscriptions": [{"channel": "email", "resource_id": 7}],
    }
    assert shown == {
        "api_url": NEEDED["api_url"],
        **own,
        "resend": ["orders"],
        "baseline": False,
        "validate_records": True,
        "streams": {"orders": own},
    }


@settings(deadline=None)
@given(
    st.sampled_from(["content", "custom_data", "stream_maps", "batch_config", "api_token", "x"]),
    st.dictionaries(st.sampled_from(["a", "b"]), sentinels()) | sentinels(),
    st.booleans(),
)
def test_report_never_shows_what_an_object_or_an_unknown_setting_holds(
    name: str,
    value: t.Any,
    nested: bool,  # noqa: FBT001
) -> None:
    config = {"streams": {"orders": {name: value}}} if nested else {name: value}
    schema = full_schema()
    assert SENTINEL not in json.dumps(reportable(coerce({**NEEDED, **config}, schema), schema))
