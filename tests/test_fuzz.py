"""Whatever a tap may send, the target answers in words: no internal error, no value in the log."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import typing as t
from pathlib import Path

import pytest
from fork_server import ForkServer
from harness import TOKEN, TargetProcess
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from target_altcraft.sandbox import Sandbox

if t.TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, t.Any]

EXAMPLES = int(os.environ.get("SOAK_FUZZ", "60"))
SECRET = "v4lue"
"""Stands in texts of records and states, and nowhere else."""
DEADLINE_SECONDS = 60.0

# Values of any kind. Texts that a record may hold carry the secret; names do not.

SECRETS = st.sampled_from(
    [
        SECRET,
        f"{SECRET}@example.com",
        f"2024-01-01T00:00:00Z{SECRET}",
        f"{SECRET}\x00",
        f"{SECRET}\ud83d",
        f"\u2028{SECRET}\u202e",
        f"{SECRET}" * 300,
    ]
)
TEXTS = (
    SECRETS
    | st.sampled_from(
        ["", " ", "2024-01-01", "2024-02-30", "2024-01-01T25:00:00Z", "0001-01-01T00:00:00+05:00"]
    )
    | st.sampled_from(
        ["9999-12-31T23:59:59.999999999-01:00", "7", "007", "true", "null", "\ufeff", "+7 900 1"]
    )
)
NUMBERS = st.sampled_from(
    [0, -1, 1, 2**63, -(2**64), 10**30, 10**4000, 1.5, -0.0, 1e300, 5e-324]
) | st.sampled_from([float("nan"), float("inf"), -float("inf")])
FINITE = st.none() | st.booleans() | TEXTS | NUMBERS.filter(lambda number: abs(number) < math.inf)
SCALARS = st.none() | st.booleans() | TEXTS | NUMBERS
COLUMNS = st.sampled_from(
    ["id", "email", "phones", "updated_at", "_sdc_deleted_at", "_sdc_x", "subscriptions", "gone"]
) | st.sampled_from(
    ["\ufeffemail", "E-mail", "x\ud83d", "", "a__b", "a", "b", "data", "content", "$ref", "type"]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(COLUMNS, inner, max_size=3),
    max_leaves=6,
)


def deep(depth: int, inside: str) -> str:
    return '{"a":[' * depth + inside + "]}" * depth


# Schemas

TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object", "x"])
KEYWORDS = (
    st.sampled_from(
        ["type", "format", "anyOf", "oneOf", "allOf", "not", "items", "properties", "enum", "const"]
    )
    | st.sampled_from(
        ["$ref", "$id", "$defs", "definitions", "additionalProperties", "patternProperties"]
    )
    | st.sampled_from(
        ["required", "pattern", "multipleOf", "minimum", "maxLength", "$anchor", "default"]
    )
)
PARTS = (
    TYPES
    | st.lists(TYPES, max_size=3)
    | st.sampled_from(["date", "date-time", "#", "#/definitions/d", "#/$defs/d", "#/properties/id"])
    | st.sampled_from(["https://a.example/x.json", "file:///etc/passwd", "[", "(?<x>a)", 0.01, 5])
    | st.none()
    | st.booleans()
)
COLUMN_SCHEMAS: st.SearchStrategy[t.Any] = st.sampled_from(
    [
        {"type": ["null", "string"]},
        {"type": "string", "format": "date-time"},
        {"anyOf": [{"type": "string", "format": "date"}, {"type": "string"}]},
        {"$ref": "#/definitions/d"},
        {},
        True,
        {"type": ["object", "null"], "properties": {"b": {}, "d": {"format": "date"}}},
        {"type": "array", "items": {"type": "string"}},
    ]
)
ODD_SCHEMAS = st.recursive(
    PARTS,
    lambda inner: (
        st.dictionaries(KEYWORDS | COLUMNS, inner, max_size=3) | st.lists(inner, max_size=2)
    ),
    max_leaves=8,
)
PROPERTIES = st.dictionaries(COLUMNS, COLUMN_SCHEMAS, max_size=6).map(
    lambda columns: {"id": {}, "email": {"type": ["string", "null"]}, **columns}
)
SCHEMAS = st.fixed_dictionaries(
    {
        "properties": PROPERTIES,
        "definitions": st.just({"d": {"type": ["string", "null"], "format": "date"}}),
    },
    optional={
        "additionalProperties": st.booleans(),
        "required": st.just(["id"]),
    },
)
ANY_SCHEMAS = st.one_of(
    ODD_SCHEMAS,
    st.dictionaries(COLUMNS, ODD_SCHEMAS, max_size=3).map(lambda c: {"properties": c}),
    st.sampled_from([True, False, None, [], {}, 5, {"properties": []}, {"type": "object"}]),
)

# Messages

STREAMS = st.sampled_from(["customers", "customers", "orders"])
ODD_NAMES = st.sampled_from(
    [5, None, True, ["customers"], {"a": 1}, "", "x\ud83d", "a\nb", "*", "__else__", "x" * 5000]
)
NAMES = st.sampled_from([None, [], ["id"], "id", [None], ["updated_at"], ["nothing"]])
ODD_LISTS = st.sampled_from([5, {}, [5], [["id"]], True, ["x\ud83d"], ["id", "id"]])
USUAL = st.integers(0, 3).map(
    lambda n: {"id": n, "email": f"{SECRET}{n}@example.com", "updated_at": f"2024-01-0{n + 1}"}
)
RECORDS = (
    USUAL
    | USUAL
    | st.builds(
        lambda usual, odd: {**usual, **odd}, USUAL, st.dictionaries(COLUMNS, VALUES, max_size=4)
    )
)
STATES = FINITE | st.fixed_dictionaries(
    {"bookmarks": st.dictionaries(STREAMS, FINITE | st.lists(FINITE), max_size=2) | FINITE}
)
KINDS = st.sampled_from(
    ["SCHEMA", "RECORD", "STATE", "BATCH", "ACTIVATE_VERSION", "schema", "", 5, None, ["RECORD"]]
)


def schema_message(
    stream: t.Any = "customers", schema: t.Any = None, keys: t.Any = (), marks: t.Any = ()
) -> Json:
    message = {"type": "SCHEMA", "stream": stream, "schema": schema}
    return {**message, "key_properties": keys, "bookmark_properties": marks}


def record_message(stream: t.Any, record: t.Any) -> Json:
    return {"type": "RECORD", "stream": stream, "record": record}


MESSAGES: st.SearchStrategy[Json] = st.one_of(
    st.builds(record_message, STREAMS, RECORDS),
    st.builds(record_message, STREAMS, RECORDS),
    st.builds(lambda value: {"type": "STATE", "value": value}, STATES),
    st.builds(schema_message, STREAMS, SCHEMAS, NAMES, NAMES),
)
ODD_MESSAGES: st.SearchStrategy[t.Any] = st.one_of(
    st.builds(schema_message, STREAMS, ANY_SCHEMAS, NAMES, NAMES),
    st.builds(schema_message, STREAMS | ODD_NAMES, SCHEMAS, NAMES | ODD_LISTS, NAMES | ODD_LISTS),
    st.builds(record_message, STREAMS | ODD_NAMES, RECORDS | VALUES),
    st.builds(
        lambda record, rejection: {**record_message("customers", record), "rejection": rejection},
        RECORDS,
        VALUES
        | st.fixed_dictionaries(
            {"stream": STREAMS | ODD_NAMES, "code": st.sampled_from(["in_doubt", 5, None])}
        ),
    ),
    st.dictionaries(
        st.sampled_from(["type", "stream", "record", "value", "schema", "version", "manifest"]),
        KINDS | VALUES,
        max_size=4,
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("BATCH"),
            "stream": STREAMS | ODD_NAMES,
            "encoding": st.just({"format": "jsonl"})
            | st.sampled_from([None, {}, {"format": "jsonl", "compression": "gzip"}, [5]]),
            "manifest": st.sampled_from(
                [["ROWS"], ["ROWS", "ROWS"], [], ["file:///nowhere"], ["file:///"], [""], 5, None]
            )
            | st.sampled_from(
                [["\x00"], ["file:///\ud83d"], ["http://[x"], [5], {"a": 1}, ["bogus://x"]]
            ),
        }
    ),
    st.builds(lambda value: {"type": "STATE", "value": value}, VALUES),
    VALUES,
)


def as_line(message: t.Any, *, ascii_only: bool, spaces: bool) -> bytes:
    text = json.dumps(
        message, ensure_ascii=ascii_only, separators=(", ", " : ") if spaces else (",", ":")
    )
    return text.encode("utf-8", "surrogatepass")


YES, NO = st.sampled_from([True]), st.sampled_from([False])
LINES = st.builds(as_line, MESSAGES, ascii_only=YES, spaces=st.booleans())
ODD_LINES = st.one_of(
    st.builds(as_line, ODD_MESSAGES, ascii_only=YES, spaces=st.booleans()),
    st.builds(as_line, MESSAGES | ODD_MESSAGES, ascii_only=NO, spaces=st.booleans()),
    st.sampled_from([b"", b"  ", b"\r", b"\x0b", b"\x00", b"{", b"[]", b"5", b'"', b"null", b"x"]),
    st.builds(lambda line: b"\xef\xbb\xbf" + line, LINES),
    st.builds(lambda line: b"\t" + line + b" \r", LINES),
    st.builds(lambda line, cut: line[: cut % (len(line) + 1)], LINES, st.integers(0, 500)),
    st.builds(
        lambda line, place, byte: line[: place % len(line)] + byte + line[place % len(line) :],
        LINES,
        st.integers(0, 500),
        st.sampled_from([b"\x00", b"\xff", b"\\", b'"', b"NaN", b"}", b"\xef\xbb\xbf", b"1e9"]),
    ),
    st.builds(
        lambda depth, kind: (
            (
                kind % deep(depth, f'"{SECRET}"')  # near the limits of what can be nested
            ).encode()
        ),
        st.sampled_from([50, 120, 240, 300, 460, 470, 480, 490, 2000]),
        st.sampled_from(
            [
                '{"type":"RECORD","stream":"customers","record":{"id":1,"email":"%%","x":%s}}',
                '{"type":"STATE","value":%s}',
                '{"type":"SCHEMA","stream":"customers","schema":{"properties":{"x":%s}}}',
                '{"type":"RECORD","stream":%s,"record":{}}',
            ]
        ),
    ),
)


def usual_start(one: Json, other: Json, keys: t.Any) -> list[bytes]:
    return [
        as_line(schema_message(stream, schema, keys, keys), ascii_only=True, spaces=False)
        for stream, schema in (("customers", one), ("orders", other))
    ]


STARTS = st.builds(usual_start, SCHEMAS, SCHEMAS, st.sampled_from([["id"], [], ["updated_at"]]))
BEGINNINGS = STARTS | STARTS | STARTS | st.lists(LINES, max_size=2)
ENDS = st.lists(LINES, max_size=4) | st.builds(
    lambda odd, lines: [odd, *lines], ODD_LINES, st.lists(LINES, max_size=2)
)
INPUTS = st.builds(
    lambda start, lines, end: [*start, *lines, *end],
    BEGINNINGS,
    st.lists(LINES, min_size=1, max_size=8),
    ENDS,
)

SETTINGS = st.fixed_dictionaries(
    {
        "rejects_path": st.sampled_from(["rejects", "rejects", "rejects", None]),
        "journal_path": st.sampled_from(["journal", None]),
    },
    optional={
        "receipts_path": st.just("receipts"),
        "report_path": st.just("report.json"),
        "bookmark_column": st.just("updated_at"),
        "deleted_column": st.just("gone"),
        "nulls": st.just("send"),
        "validate_records": st.just(False),  # noqa: FBT003
        "flattening": st.integers(1, 2),
        "matching": st.sampled_from(["phone", "profile_id", "custom", "email_profile"]),
        "match_column": st.just("id"),
        "content_columns": st.just(["a"]),
        "subscriptions": st.just([{"channel": "email", "resource_id": 7}]),
        "stream_maps": st.sampled_from(
            [
                {"orders": "__NULL__"},
                {"customers": {"a": "updated_at", "x": "id * 2", "__filter__": "id != 3"}},
                {"customers": {"email": "email", "__else__": None, "id": "id"}},
                {"others": {"__source__": "customers", "id": "str(id)", "b": "record['a']['b']"}},
            ]
        ),
    },
)


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer() as running:
        yield running


@pytest.fixture(scope="module")
def altcraft() -> Iterator[Sandbox]:
    with Sandbox(port=0, token=TOKEN, remember=False) as running:
        yield running


def configuration(altcraft: Sandbox, chosen: Json, folder: Path) -> Json:
    config = {
        "api_url": altcraft.url,
        "token": TOKEN,
        "workflow_id": 1,
        "poll_interval_seconds": 0.01,
        "field_name": "id",
        **chosen,
    }
    if level := config.pop("flattening", 0):
        config |= {"flattening_enabled": True, "flattening_max_depth": level}
    for name in ("rejects_path", "journal_path", "receipts_path", "report_path"):
        if config.get(name):
            config[name] = str(folder / config[name])
    return {name: value for name, value in config.items() if value is not None}


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(lines=INPUTS, rows=st.lists(LINES | ODD_LINES, max_size=3), chosen=SETTINGS)
def test_whatever_a_tap_sends_is_answered_in_words(
    server: ForkServer, altcraft: Sandbox, lines: list[bytes], rows: list[bytes], chosen: Json
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    try:
        (folder / "rows").write_bytes(b"\n".join(rows))
        manifest = json.dumps(f"file://{folder}/rows").encode()
        data = b"\n".join(lines).replace(b'"ROWS"', manifest)
        config = configuration(altcraft, chosen, folder)
        env = {"TARGET_ALTCRAFT_LOGLEVEL": "DEBUG"}
        for _ in range(2):  # a second night, with what the first one left
            with TargetProcess(config, folder, server=server, env=env) as process:
                assert process.process.stdin
                try:
                    process.process.stdin.write(data)
                    process.process.stdin.close()
                except BrokenPipeError:
                    process.process.stdin = None
                result = process.wait(DEADLINE_SECONDS)
            check(result.status, result.stdout, result.stderr, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check(status: int, stdout: str, stderr: str, folder: Path) -> None:
    assert status in {0, 1}, stderr
    for line in stdout.split("\n")[:-1]:
        json.loads(line)
    assert "internal error" not in stderr, stderr
    assert "Traceback" not in stderr, stderr
    assert SECRET not in stderr, stderr
    assert status == 0 or "| ERROR" in stderr
    path = folder / "rejects"
    for reject in path.read_bytes().splitlines() if path.exists() else ():
        assert json.loads(reject)["type"] in {"SCHEMA", "RECORD"}
