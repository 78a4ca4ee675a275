"""Settings that are each allowed and contradict each other, and where their files may be."""

from __future__ import annotations

import os
import typing as t

import pytest

from target_altcraft.errors import SettingsError
from target_altcraft.settings import check, check_report_folder, coerce, resolve
from target_altcraft.settings_schema import SCHEMA
from target_altcraft.subscriptions import compiled

if t.TYPE_CHECKING:
    from pathlib import Path

    from target_altcraft.settings import Settings

NEEDED = {"api_url": "https://altcraft.example", "token": "tok-secret"}


def complaints(config: dict[str, t.Any]) -> list[str]:
    return check(coerce({**NEEDED, **config}, SCHEMA), SCHEMA)


def resolved(config: dict[str, t.Any]) -> Settings:
    coerced = coerce({**NEEDED, **config}, SCHEMA)
    assert check(coerced, SCHEMA) == []
    return resolve(coerced)


# Columns


@pytest.mark.parametrize(
    "config",
    [
        {"content_columns": ["a", "b"], "custom_data_columns": ["b", "b"]},
        {"content_columns": ["b"], "streams": {"orders": {"custom_data_columns": ["b"]}}},
        {"content_columns": ["b", "b"], "attach_column": "b"},
        {"custom_data_columns": ["b"], "custom_request_column": "b"},
    ],
)
def test_a_column_has_one_place_only(config: dict[str, t.Any]) -> None:
    (complaint,) = complaints(config)
    assert "must not both name the column 'b'" in complaint


def test_a_setting_may_name_a_column_twice() -> None:
    assert complaints({"content_columns": ["b", "b"], "attach_column": "a"}) == []


# The journal

NEEDS = "needs journal_path, the file that remembers what was delivered"


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"resend": True}, f"resend {NEEDS}"),
        ({"resend": ["a"]}, f"resend {NEEDS}"),
        ({"baseline": "true"}, f"baseline {NEEDS}"),
        ({"journal_keep_days": 1}, f"journal_keep_days {NEEDS}"),
        ({"send_again": "new_version"}, f"send_again 'new_version' {NEEDS}"),
        ({"send_again": "changed"}, f"send_again 'changed' {NEEDS}"),
        (
            {"streams": {"orders": {"send_again": "never"}}},
            f"streams.orders.send_again 'never' {NEEDS}",
        ),
    ],
)
def test_setting_that_needs_the_journal_is_refused_without_it(
    config: dict[str, t.Any], line: str
) -> None:
    assert complaints(config) == [line]
    assert complaints({**config, "journal_path": "j"}) == []


@pytest.mark.parametrize(
    "config",
    [
        {"resend": False, "baseline": False},
        {"resend": [], "baseline": "[]"},
        {"send_again": "always"},
        {"streams": {"orders": {"send_again": "always", "bookmark_column": "at"}}},
        {"bookmark_column": "updated_at"},
        {"on_ambiguous_submit": "skip"},
    ],
)
def test_setting_that_does_without_the_journal_is_taken(config: dict[str, t.Any]) -> None:
    assert complaints(config) == []


@pytest.mark.parametrize(
    ("resend", "baseline", "line"),
    [
        (True, True, "resend and baseline must not both be true"),
        (True, ["a"], "resend and baseline must not both name a stream ('a')"),
        (["a"], True, "resend and baseline must not both name a stream ('a')"),
        (["b", "a"], ["a", "c"], "resend and baseline must not both name a stream ('a')"),
    ],
)
def test_stream_in_both_resend_and_baseline_is_refused(
    resend: t.Any, baseline: t.Any, line: str
) -> None:
    config = {"resend": resend, "baseline": baseline, "journal_path": "j"}
    assert complaints(config) == [line]


@pytest.mark.parametrize(
    ("resend", "baseline"), [(["a"], ["b"]), (True, []), (True, False), (False, ["a"])]
)
def test_resend_and_baseline_of_different_streams_are_taken(resend: t.Any, baseline: t.Any) -> None:
    assert complaints({"resend": resend, "baseline": baseline, "journal_path": "j"}) == []


def test_send_again_is_not_given_by_default_and_a_stream_replaces_the_top_level() -> None:
    assert resolved({"workflow_id": 1}).stream("orders").send_again is None
    run = resolved(
        {
            "workflow_id": 1,
            "journal_path": "j",
            "send_again": "changed",
            "bookmark_column": "updated_at",
            "streams": {"log": {"send_again": "always", "bookmark_column": "at"}},
        }
    )
    orders, log = run.stream("orders"), run.stream("log")
    assert (orders.send_again, orders.bookmark_column) == ("changed", "updated_at")
    assert (log.send_again, log.bookmark_column) == ("always", "at")


def test_all_contradictions_are_said_at_once() -> None:
    lines = complaints(
        {
            "api_url": "ftp://x",
            "resend": True,
            "rejects_path": "same",
            "receipts_path": "same",
            "streams": {"a": {"matching": "custom"}, "b": {"matching": "custom_request"}},
        }
    )
    assert len(lines) == 5


# Subscriptions: the element and the key are named


@pytest.mark.parametrize(
    ("element", "fault"),
    [
        ({}, ": 'channel' is required; 'resource_id' is required"),
        ({"channel": "email"}, ": 'resource_id' is required"),
        ({"channel": "email", "resource_id": None}, ": 'resource_id' is required"),
        ({"channel": "", "resource_id": 7}, ".channel must not be empty"),
        ({"channel": 5, "resource_id": 7}, ".channel must be of type string"),
        ({"channel": "email", "resource_id": "x"}, ".resource_id must be of type integer"),
        ({"channel": "email", "resource_id": 7, "column": 1}, ".column must be of type string"),
        ({"channel": "email", "resource_id": 7, "field": ""}, ".field must not be empty"),
        ("email", " must be of type object"),
        ({"channel": "push", "resource_id": 9}, ": 'column' is required for channel 'push'"),
    ],
)
def test_wrong_subscription_is_named_by_its_number_and_key(element: t.Any, fault: str) -> None:
    good = {"channel": "email", "resource_id": 1}
    elements = [good, good, element]
    assert complaints({"subscriptions": elements}) == [f"subscriptions[2]{fault}"]
    assert complaints({"streams": {"orders": {"subscriptions": elements}}}) == [
        f"streams.orders.subscriptions[2]{fault}"
    ]


def test_subscriptions_of_a_stream_replace_those_of_the_top_level() -> None:
    top, own = {"channel": "email", "resource_id": 1}, {"channel": "sms", "resource_id": 2}
    streams = {"orders": {"subscriptions": [own]}, "log": {"subscriptions": []}}
    run = resolved({"workflow_id": 1, "subscriptions": [top], "streams": streams})
    assert run.stream("customers").subscriptions == compiled([top])
    assert run.stream("orders").subscriptions == compiled([own])
    assert run.stream("log").subscriptions == ()


# Files

FILES = ("rejects_path", "receipts_path", "journal_path", "report_path")
PAIRS = [(a, b) for i, a in enumerate(FILES) for b in FILES[i + 1 :]]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_two_settings_that_name_one_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: str, other: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "to-it.json").symlink_to(tmp_path / "x.json")  # which does not exist yet
    line = f"{one} and {other} must not name the same file"
    same = ["x.json", "./x.json", "folder/../x.json", str(tmp_path / "x.json"), "to-it.json"]
    for path in same:
        assert complaints({one: "x.json", other: path}) == [line]
    assert complaints({one: "folder/x.json", other: "link/x.json"}) == [line]
    assert complaints({one: "x.json", other: "folder/x.json"}) == []
    (tmp_path / "a.json").touch()
    os.link(tmp_path / "a.json", tmp_path / "b.json")
    assert complaints({one: "a.json", other: "b.json"}) == [line]


@pytest.mark.parametrize("ending", ["-journal", "-wal", "-shm"])
@pytest.mark.parametrize("name", ["rejects_path", "receipts_path"])
def test_file_of_sqlite_beside_the_journal_is_refused(
    tmp_path: Path, name: str, ending: str
) -> None:
    journal = tmp_path / "journal.db"
    line = f"{name} must not be journal_path with '{ending}': SQLite writes that file"
    config = {"journal_path": str(journal), name: f"{journal}{ending}"}
    assert complaints(config) == [line]
    journal.symlink_to(tmp_path / "real.db")
    assert complaints(config) == []
    assert complaints({**config, name: str(tmp_path / f"real.db{ending}")}) == [line]


def test_files_may_all_be_nowhere() -> None:
    assert complaints({"rejects_path": os.devnull, "receipts_path": os.devnull}) == []


def test_path_with_a_null_byte_is_no_crash_of_the_check() -> None:
    assert complaints({"rejects_path": "a\0b", "receipts_path": "c"}) == []


def test_report_goes_to_a_folder_that_exists(tmp_path: Path) -> None:
    check_report_folder(resolved({}))
    check_report_folder(resolved({"report_path": "report.json"}))
    check_report_folder(resolved({"report_path": str(tmp_path / "report.html")}))
    missing = tmp_path / "missing"
    with pytest.raises(SettingsError, match=r"report_path must be in a folder that exists; .*miss"):
        check_report_folder(resolved({"report_path": str(missing / "report.html")}))
    missing.touch()
    with pytest.raises(SettingsError, match="report_path must be in a folder that exists"):
        check_report_folder(resolved({"report_path": str(missing / "report.html")}))
    assert [path.name for path in tmp_path.iterdir()] == ["missing"]


def test_report_path_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "report.html"
    folder.mkdir()
    with pytest.raises(SettingsError, match="report_path must name a file"):
        check_report_folder(resolved({"report_path": str(folder)}))


def test_report_goes_to_a_writable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = resolved({"report_path": str(tmp_path / "report.html")})
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(SettingsError, match="report_path must be in a writable folder"):
        check_report_folder(run)
