"""Inputs as taps really write them, each through the command line.

`field/` holds them, small; each stands for its whole kind.
"""

from __future__ import annotations

import gzip
import json
import typing as t
from pathlib import Path

import pytest
from fork_server import ForkServer
from harness import customer, run, schema, state

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness import Message, Result

    from target_altcraft.sandbox import Sandbox

    Play = Callable[..., Result]
    Json = dict[str, t.Any]

FIELD = Path(__file__).with_name("field")


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer() as running:
        yield running


@pytest.fixture
def play(config: Json, tmp_path: Path, server: ForkServer) -> Play:
    """Run the command over an input of `field/`, or over messages, with a rejects file."""

    def _play(what: str | list[Message | str], **more: t.Any) -> Result:
        messages: list[Message | str] = [] if isinstance(what, str) else what
        if isinstance(what, str):
            messages += (FIELD / f"{what}.singer").read_text(encoding="utf-8").splitlines()
        settings = {**config, "rejects_path": str(tmp_path / "rejects.jsonl"), **more}
        settings = {name: value for name, value in settings.items() if value is not None}
        result = run(messages, settings, tmp_path, server=server)
        assert "internal error" not in result.stderr
        assert "Traceback" not in result.stderr
        return result

    return _play


@pytest.fixture
def rejected(tmp_path: Path) -> Callable[[], list[bytes]]:
    """Return the RECORD lines of the rejects file."""

    def _rejected() -> list[bytes]:
        lines = (tmp_path / "rejects.jsonl").read_bytes().splitlines()
        return [line for line in lines if b'"SCHEMA"' not in line]

    return _rejected


def reason(line: bytes) -> str:
    return t.cast("str", json.loads(line)["rejection"]["reason"])


def profiles(sandbox: Sandbox) -> dict[str, Json]:
    found = (entry["data"] for entry in sandbox.entries)
    return {data["email"].partition("@")[0]: data for data in found}


def written(name: str, number: int) -> bytes:
    """Return a line of an input, as it is written."""
    return (FIELD / f"{name}.singer").read_bytes().splitlines()[number - 1]


def with_rejection(line: bytes) -> bytes:
    """Return how a line begins in the rejects file: the tap's own bytes, and the rejection."""
    return line.rstrip()[:-1] + b',"rejection":{'


# The rows of the list


def test_a_column_without_a_type_is_flattened_and_delivered(sandbox: Sandbox, play: Play) -> None:
    result = play("flattening-typeless", flattening_enabled=True, flattening_max_depth=1)
    assert (result.status, result.states) == (0, [{"at": 9}])
    ann, bob = profiles(sandbox)["ann"], profiles(sandbox)["bob"]
    del ann["email"], bob["email"]
    assert ann == {
        "id": 1,
        "after": "gold",
        "kind": "a",
        "mixed": "[1]",
        "either": '["x"]',
        "place__city": "Omsk",
        "place__born": "1990-02-03T00:00:00Z",
        "place__geo": '{"lat":1}',
        "home__city": 5,
    }
    assert bob == {
        "id": 2,
        "before": 7,
        "after": 1.5,
        "kind": 1,
        "mixed": 3,
        "either": "2025-01-01T23:00:00Z",
    }


def test_a_schema_without_properties_is_named(sandbox: Sandbox, play: Play) -> None:
    result = play("schema-without-properties")
    assert result.status == 1
    assert "stream 'forms': its SCHEMA (line 2 of the input) has no properties" in result.error
    assert "__NULL__" in result.error
    assert not sandbox.entries
    result = play("schema-without-properties", stream_maps={"forms": "__NULL__"})
    assert (result.status, result.states) == (0, [{"at": 9}])
    assert profiles(sandbox).keys() == {"ann"}


def test_a_schema_without_properties_does_not_lose_what_was_read_before_it(
    sandbox: Sandbox, play: Play
) -> None:
    result = play("schema-without-properties-later")
    assert (result.status, result.states) == (1, [{"at": 9}])
    assert "has no properties" in result.error
    assert profiles(sandbox).keys() == {"ann"}


def test_a_text_that_is_no_date_is_kept_where_other_texts_may_stand(
    sandbox: Sandbox, play: Play, rejected: Callable[[], list[bytes]]
) -> None:
    assert play("date-column-with-string-fallback").status == 0
    visits = {name: data["visit"] for name, data in profiles(sandbox).items()}
    assert visits == {"ann": "2025-03-05T00:00:00.25Z", "bob": "in spring", "cid": "05.03.2025"}
    (line,) = rejected()
    assert reason(line) == "column 'strict' is not a date"


def test_a_number_that_json_does_not_know_costs_its_record_only(
    sandbox: Sandbox, play: Play, rejected: Callable[[], list[bytes]]
) -> None:
    result = play("nan-from-tap")
    assert (result.status, result.states) == (0, [{"at": 9}])
    assert profiles(sandbox).keys() == {"ann", "fay"}
    lines = rejected()
    columns = ["sum", "tags", "count", "sum"]
    for number, (line, column) in enumerate(zip(lines, columns, strict=True), 3):
        assert line.startswith(with_rejection(written("nan-from-tap", number)))
        assert b'"code":"not_json"' in line
        assert f"column '{column}' holds NaN, Infinity or a number" in line.decode()
    # Mended, and replayed.
    rejects = b"\n".join([written("nan-from-tap", 1), *lines]).replace(b"NaN", b"11")
    messages: list[Message | str] = list(rejects.decode().splitlines())
    assert play(messages, rejects_path=None).status == 1
    assert play(messages).status == 0
    assert profiles(sandbox)["bob"]["sum"] == 11
    again = rejected()[len(lines) :]
    assert [line.count(b'"rejection"') for line in again] == [1, 1, 1]


def test_a_number_that_json_does_not_know_ends_a_run_without_a_rejects_file(play: Play) -> None:
    result = play("nan-from-tap", rejects_path=None)
    assert result.status == 1
    assert "stream 'deals': the record in line 3 of the input cannot be delivered" in result.error


def test_a_number_that_is_not_sent_may_be_nan(sandbox: Sandbox, play: Play) -> None:
    maps = {"deals": dict.fromkeys(["sum", "tags", "count"], "__NULL__")}
    assert play("nan-from-tap", stream_maps=maps).status == 0
    assert len(sandbox.entries) == 6


def test_a_delete_may_be_marked_by_another_column(sandbox: Sandbox, play: Play) -> None:
    streams = {"clients": {"deleted_column": "_sdc_lsn_deleted_at"}}
    result = play("mssql-cdc-delete", streams=streams)
    assert (result.status, result.states) == (0, [{"at": 9}])
    assert profiles(sandbox).keys() == {"ann"}
    assert "skipped, deleted at the source: 1" in result.stderr
    assert "deleted_column" not in result.stderr


def test_a_flag_marks_a_delete_unless_it_says_no(sandbox: Sandbox, play: Play) -> None:
    assert play("deleted-by-a-flag", deleted_column="gone").status == 0
    assert profiles(sandbox).keys() == {f"no{n}" for n in range(7)}


def test_a_deleted_column_that_no_schema_names_is_warned_about(play: Play) -> None:
    result = play("mssql-cdc-delete", deleted_column="_SDC_LSN_deleted_at")
    assert result.status == 0
    (warning,) = [line for line in result.log("WARNING") if "deleted_column" in line]
    assert "stream 'clients'" in warning
    assert "there is a column '_sdc_lsn_deleted_at'" in warning


def test_a_bookmark_column_that_no_schema_names_is_warned_about(play: Play, tmp_path: Path) -> None:
    settings = {"bookmark_column": "_SDC_LSN_deleted_at"}
    assert "bookmark_column" not in play("mssql-cdc-delete", **settings).stderr
    result = play("mssql-cdc-delete", journal_path=str(tmp_path / "journal"), **settings)
    assert result.status == 0
    (warning,) = [line for line in result.log("WARNING") if "bookmark_column" in line]
    assert "stream 'clients'" in warning
    assert "there is a column '_sdc_lsn_deleted_at'" in warning


HUBSPOT_MAP = {
    "email": "properties['email'] if properties else None",
    "trial_end": "properties['trial_end'] if properties else None",
    "properties": "__NULL__",
}


@pytest.mark.parametrize("nulls", ["omit", "send"])
def test_an_empty_text_in_a_date_column_counts_as_null(
    sandbox: Sandbox, play: Play, rejected: Callable[[], list[bytes]], nulls: str
) -> None:
    settings: Json = {"flattening_enabled": True, "flattening_max_depth": 1, "nulls": nulls}
    settings["match_column"] = "properties__email"
    maps = {"contacts": {"changed_at": "properties['changed'] if properties else None"}}
    for more in ({}, {"stream_maps": maps}):
        result = play("hubspot-nested-properties", **settings, **more)
        assert (result.status, result.states) == (0, [{"at": 9}])
        ann, bob = (entry["data"] for entry in sandbox.entries[-2:])
        assert ann["properties__changed"] == "2025-03-01T09:00:00Z"
        assert ann.get("properties__trial_end", "left out") == (
            None if nulls == "send" else "left out"
        )
        assert bob["properties__trial_end"] == "2025-04-01T00:00:00Z"
        assert "no match value" in reason(rejected()[-1])


def test_an_empty_text_of_a_stream_map_costs_no_contact(sandbox: Sandbox, play: Play) -> None:
    result = play("hubspot-nested-properties", stream_maps={"contacts": HUBSPOT_MAP})
    assert (result.status, result.states) == (0, [{"at": 9}])
    assert profiles(sandbox).keys() == {"ann", "bob"}


def test_half_a_surrogate_pair_is_set_aside_as_the_tap_wrote_it(
    sandbox: Sandbox, play: Play, rejected: Callable[[], list[bytes]]
) -> None:
    result = play("surrogates")
    assert result.status == 0
    assert profiles(sandbox)["cid"]["note"] == "whole 😀 pair"
    assert profiles(sandbox).keys() == {"ann", "cid"}
    (line,) = rejected()
    assert line.startswith(with_rejection(written("surrogates", 3)))
    assert reason(line) == "column 'note' holds half a surrogate pair"
    assert result.stdout == r'{"at": "\uD83d",  "sum": 12.10, "ж": 1}' + "\n"


def test_half_a_surrogate_pair_that_is_not_sent_does_not_matter(
    sandbox: Sandbox, play: Play, rejected: Callable[[], list[bytes]]
) -> None:
    assert play("surrogate-in-an-unsent-column").status == 0
    assert profiles(sandbox).keys() == {"ann"}
    (line,) = rejected()
    assert line.startswith(with_rejection(written("surrogate-in-an-unsent-column", 3)))


@pytest.mark.parametrize("is_gzip", [False, True])
def test_a_row_of_a_batch_file_is_set_aside_as_the_tap_wrote_it(
    sandbox: Sandbox,
    play: Play,
    rejected: Callable[[], list[bytes]],
    tmp_path: Path,
    is_gzip: bool,  # noqa: FBT001
) -> None:
    rows = [
        rb'{"id":1,"email":"ann@example.com"}',
        rb'{"sum":12.10,  "email":"bob@example.com","note":"half \uDC81"}',
        rb'{"email":"cid@example.com","sum":NaN}',
    ]
    data = b"\xef\xbb\xbf" + b"\r\n".join(rows)
    path = tmp_path / "rows"
    path.write_bytes(gzip.compress(data) if is_gzip else data)
    encoding = {"format": "jsonl", "compression": "gzip" if is_gzip else None}
    batch: Message = {"type": "BATCH", "stream": "customers", "encoding": encoding}
    batch["manifest"] = [f"file://{path}"]
    result = play([schema(), batch, state(1)])
    assert (result.status, result.bookmarks) == (0, [1])
    assert profiles(sandbox).keys() == {"ann"}
    start = b'{"type":"RECORD","stream":"customers","record":'
    for line, row in zip(rejected(), rows[1:], strict=True):
        assert line.startswith(start + row + b',"rejection":{')


def test_a_profile_that_a_task_refused_is_set_aside_as_the_tap_wrote_it(
    sandbox: Sandbox, play: Play, rejected: Callable[[], list[bytes]], tmp_path: Path
) -> None:
    sandbox.fail_where = lambda entry: entry["data"]["id"] == 2
    bad = (
        r'{"type":"RECORD", "record":{"sum":12.10,"id":2,"_sdc_x":"\ud83d",'
        r'"email":"bob@example.com"},"stream":"customers"}'
    )
    key = schema(key_properties=["id"], bookmark_properties=["id"])
    messages: list[Message | str] = [key, customer(1), bad, customer(3), state(1)]
    journal = str(tmp_path / "journal")
    result = play(messages, journal_path=journal)
    assert (result.status, result.bookmarks) == (0, [1])
    (line,) = rejected()
    assert line.startswith(with_rejection(bad.encode()))
    assert "rejected before: 1" in play(messages, journal_path=journal).stderr
    assert len(rejected()) == 1


def test_a_bookmark_column_that_no_tap_names_can_be_named(
    sandbox: Sandbox, play: Play, tmp_path: Path
) -> None:
    settings = {"bookmark_column": "changed", "journal_path": str(tmp_path / "journal")}
    for night in (1, 2):
        result = play(f"no-bookmark-named.night-{night}", **settings)
        assert result.status == 0
        assert "repeats" not in "".join(result.log("WARNING"))
    assert len(sandbox.entries) == 3


def test_without_a_bookmark_column_one_warning_says_that_repeats_cannot_be_told(
    sandbox: Sandbox, play: Play, tmp_path: Path
) -> None:
    for night in (1, 2):
        result = play(f"no-bookmark-named.night-{night}", journal_path=str(tmp_path / "journal"))
        assert result.status == 0
        (warning,) = [line for line in result.log("WARNING") if "repeats at its bookmark" in line]
        assert "Set streams.people.bookmark_column" in warning
    assert len(sandbox.entries) == 4


def test_a_column_with_a_byte_order_mark_is_named(
    play: Play, rejected: Callable[[], list[bytes]]
) -> None:
    assert play("bom-in-the-header").status == 0
    (line,) = rejected()
    assert reason(line) == (r"no match value in column 'email'; there is a column '\ufeffemail'")


# References, closed schemas, phones, bookmarks


def test_a_date_behind_a_reference_becomes_utc(sandbox: Sandbox, play: Play) -> None:
    for settings in ({}, {"stream_maps": {"people": {"seen": "seen", "born": "born"}}}):
        assert play("reference-inside", **settings).status == 0
        data = sandbox.entries[-1]["data"]
        assert data["born"] == "1990-02-03T00:00:00Z"
        assert data["seen"] == "2025-03-01T00:00:00Z"
    assert play("reference-inside", flattening_enabled=True, flattening_max_depth=1).status == 0
    assert sandbox.entries[-1]["data"]["place__since"] == "2020-01-01T00:00:00Z"


def test_a_reference_to_another_document_is_named_and_not_followed(
    sandbox: Sandbox, play: Play
) -> None:
    result = play("reference-outside")
    assert (result.status, result.states) == (1, [])
    assert "stream 'forms': its SCHEMA (line 3 of the input) refers to " in result.error
    assert "'https://schemas.example/mail.json'" in result.error
    assert profiles(sandbox).keys() == {"ann"}
    assert play("reference-outside", stream_maps={"forms": None}).status == 0


def test_metadata_columns_may_stand_where_a_schema_is_closed(
    sandbox: Sandbox, play: Play, rejected: Callable[[], list[bytes]]
) -> None:
    assert play("closed-schema").status == 0
    assert profiles(sandbox).keys() == {"ann"}
    (line,) = rejected()
    assert reason(line) == "it breaks its schema: column 'nickname' breaks 'additionalProperties'"


def test_the_first_phone_is_the_first_that_is_not_blank(
    sandbox: Sandbox, play: Play, rejected: Callable[[], list[bytes]]
) -> None:
    assert play("phones-with-blanks", matching="phone").status == 0
    assert [entry["phone"] for entry in sandbox.entries] == ["+79001"]
    assert "no match value" in reason(rejected()[0])


def test_a_bookmark_column_may_change_its_type(
    sandbox: Sandbox, play: Play, tmp_path: Path
) -> None:
    settings = {
        "journal_path": str(tmp_path / "journal"),
        "stream_maps": {"people": {"mark": "__NULL__"}},
    }
    assert play("bookmark-of-any-type", **settings).status == 0
    assert len(sandbox.entries) == 13
    for name in ("bookmark-of-any-type", "bookmark-of-any-type.night-2"):
        result = play(name, **settings)
        assert (result.status, len(sandbox.entries)) == (0, 13)
        assert "delivered before: 13" in result.stderr


# One record a night


def test_the_only_record_of_a_night_may_be_refused_once_the_stream_is_known(
    sandbox: Sandbox, play: Play, rejected: Callable[[], list[bytes]], tmp_path: Path
) -> None:
    sandbox.refuse_where = lambda entry: entry["data"]["id"] == 2
    key = schema(key_properties=["id"], bookmark_properties=["id"])
    settings = {"journal_path": str(tmp_path / "journal")}
    assert play([key, customer(1), state(1)], **settings).status == 0
    result = play([key, customer(2), state(2)], **settings)
    assert (result.status, result.bookmarks) == (0, [2])
    (line,) = rejected()
    assert "Altcraft refused it" in reason(line)
    assert play([key, customer(2), customer(3), state(3)], **settings).bookmarks == [3]


def test_the_only_record_that_a_stream_ever_had_may_mean_a_wrong_setting(
    sandbox: Sandbox, play: Play, tmp_path: Path
) -> None:
    sandbox.refuse_where = lambda entry: entry["data"]["id"] == 2
    key = schema(key_properties=["id"], bookmark_properties=["id"])
    result = play([key, customer(2), state(2)], journal_path=str(tmp_path / "journal"))
    assert (result.status, result.states) == (1, [])


# Names of any form in a SCHEMA


@pytest.mark.parametrize("names", [None, "id", ["id", None], [""], []])
def test_names_of_a_schema_may_be_a_text_or_null(
    sandbox: Sandbox, play: Play, names: t.Any
) -> None:
    message = {**schema(), "key_properties": names, "bookmark_properties": names}
    assert play([message, customer(1), state(1)]).bookmarks == [1]
    assert len(sandbox.entries) == 1


@pytest.mark.parametrize("key", ["key_properties", "bookmark_properties"])
@pytest.mark.parametrize("names", [5, {"id": 1}, [5], [["id"]], True])
def test_names_of_a_schema_that_are_no_names_are_one_message(
    play: Play, key: str, names: t.Any
) -> None:
    result = play([{**schema(), key: names}, customer(1)])
    assert (result.status, result.error) == (
        1,
        f"line 1 of the input: {key} is not an array of names",
    )


@pytest.mark.parametrize(
    "name", [5, None, ["a"], {"a": 1}, "half \ud83d", "two\nlines", "torn\n", "torn\u2028"]
)
@pytest.mark.parametrize("kind", ["SCHEMA", "BATCH", "RECORD"])
def test_a_stream_whose_name_is_no_text_is_one_message(play: Play, kind: str, name: t.Any) -> None:
    message = json.dumps(
        {**schema(), "type": kind, "stream": name, "encoding": {}, "manifest": [], "record": {}}
    )
    result = play([message])
    assert result.status == 1
    if kind == "RECORD" and isinstance(name, str):
        assert "came before its SCHEMA message (line 1 of the input)" in result.error
    else:
        assert result.error == "line 1 of the input: the stream's name is not a text of one line"


def test_bookmarks_too_deep_to_be_compared_cost_no_run(play: Play, tmp_path: Path) -> None:
    head = schema(key_properties=["id"], bookmark_properties=["x"])
    for depth in range(966, 986):
        deep = "[" * depth + "]" * depth
        rows = [json.dumps(customer(n))[:-2] + f', "x": {deep}}}}}' for n in range(2)]
        settings = {"journal_path": str(tmp_path / f"journal-{depth}")}
        maps = {"customers": {"x": None}}
        result = play([head, *rows, customer(3), state(1)], stream_maps=maps, **settings)
        assert "internal error" not in result.stderr


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ({"type": "RECORD"}, "a RECORD message has no record, stream"),
        ({"type": "SCHEMA", "stream": "a"}, "a SCHEMA message has no schema"),
        (
            {"type": "SCHEMA", "stream": "a", "schema": []},
            "a SCHEMA message has no schema object",
        ),
        ({"type": "STATE"}, "a STATE message has no value"),
        ({"type": "BATCH", "stream": "a"}, "a BATCH message has no encoding, manifest"),
    ],
)
def test_a_message_that_lacks_a_member_is_told_by_its_line(
    play: Play, message: dict[str, t.Any], fault: str
) -> None:
    result = play([json.dumps(schema()), json.dumps(message)])
    assert (result.status, result.error) == (1, f"line 2 of the input: {fault}")


def test_a_record_nested_beyond_all_bounds_is_set_aside(sandbox: Sandbox, play: Play) -> None:
    for depth in (200, 400, 800, 900, 920, 940, 960, 980):
        deep = '{"a":' * depth + "1" + "}" * depth
        line = '{"type":"RECORD","stream":"customers","record":{"email":"a@example.com","x":%s}}'
        result = play([schema(), line % deep, customer(1)])
        assert result.status in {0, 1}
        assert result.status == 0 or "of the input is nested too deeply" in result.error
    assert sandbox.entries


@pytest.mark.parametrize("email", ["a@example.com", None])
def test_a_record_too_deep_for_the_journal_is_set_aside(
    play: Play, tmp_path: Path, email: str | None
) -> None:
    for depth in range(970, 990):
        deep = '{"a":' * depth + "1" + "}" * depth
        line = '{"type":"RECORD","stream":"customers","record":{"email":%s,"x":%s}}'
        messages: list[Message | str] = [schema(), line % (json.dumps(email), deep), customer(1)]
        result = play(messages, journal_path=str(tmp_path / f"journal-{depth}"))
        if result.status != 0:
            assert "line 2 of the input is nested too deeply" in result.error, result.stderr


@pytest.mark.parametrize(("is_half", "bookmark"), [(False, "id"), (True, "id"), (False, "x")])
def test_a_row_too_deep_to_be_compared_costs_no_record_that_is_judged_with_it(
    sandbox: Sandbox, play: Play, tmp_path: Path, bookmark: str, *, is_half: bool
) -> None:
    is_met = False
    dropping = {"customers": {"x": None}}
    head = schema(key_properties=[] if is_half else ["id"], bookmark_properties=[bookmark])
    half = "\\ud83d" if is_half else ""
    for depth in range(966, 986):
        settings = {"journal_path": str(tmp_path / f"journal-{depth}"), "stream_maps": dropping}
        play([head, customer(1, email=None), state(1)], max_reject_percent=100, **settings)
        known = len(sandbox.entries)
        deep = "[" * depth + f'"{half}"' + "]" * depth
        line = json.dumps(customer(1))[:-2] + f', "x": {deep}}}}}'
        result = play([head, line, *(customer(n) for n in range(2, 5))], **settings)
        if result.status != 0:
            assert "line 2 of the input is nested too deeply" in result.error, result.stderr
            continue
        is_met = True
        rejected = "rejected, not_json: 1" in result.stderr
        assert len(sandbox.entries) - known == 4 - rejected, result.stderr
    assert is_met
