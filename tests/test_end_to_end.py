"""The whole road through the installed command, against the sandbox."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from harness import COMMAND, TOKEN, customer, lines, record, run, schema, state

from target_altcraft.sandbox.task import Task

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result

    from target_altcraft.sandbox import Sandbox

    Deliver = Callable[..., Result]

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_a_stream_becomes_profiles_and_the_last_state_comes_out(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    result = deliver([schema(), *(customer(n) for n in range(3)), state(1), state(2)])
    assert result.status == 0, result.stderr
    assert result.bookmarks == [2]
    assert [profile["fields"]["email"] for profile in sandbox.profiles] == [
        "c0@example.com",
        "c1@example.com",
        "c2@example.com",
    ]
    assert [task.workflow_id for task in sandbox.tasks] == [1]
    assert sandbox.tasks[0].envelope == {"workflow_id": 1, "matching": "email"}
    assert sandbox.entries[0] == {"data": {"id": 0, "email": "c0@example.com", "_fname": "Ann 0"}}


def test_the_module_runs_as_the_command_does(config: dict[str, t.Any], tmp_path: Path) -> None:
    result = run(
        [schema(), customer(1), state(1)],
        config,
        tmp_path,
        command=(sys.executable, "-m", "target_altcraft"),
    )
    assert (result.status, result.bookmarks) == (0, [1])


def test_a_run_without_stderr_does_its_work_and_tells_its_end_by_its_status(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    rejects, journal = tmp_path / "rejects.jsonl", tmp_path / "journal.sqlite"
    settings = {**config, "rejects_path": str(rejects), "journal_path": str(journal)}
    command = ("sh", "-c", 'exec "$0" "$@" 2>&-', COMMAND)
    messages = [schema(), customer(1), customer(2, email=None), state(1)]
    result = run(messages, settings, tmp_path, command=command)
    assert (result.status, result.stderr, result.bookmarks) == (0, "", [1])
    assert len(sandbox.entries) == 1
    kinds = [json.loads(line)["type"] for line in rejects.read_text().splitlines()]
    assert kinds.count("RECORD") == 1
    assert run([*messages, "{"], settings, tmp_path, command=command).status == 1


def test_input_may_come_from_a_file(sandbox: Sandbox, deliver: Deliver, tmp_path: Path) -> None:
    path = tmp_path / "in.singer"
    path.write_text("".join(lines([schema(), customer(1), state(1)])), encoding="utf-8")
    result = deliver([], args=("--input", str(path)), stdin=subprocess.DEVNULL)
    assert (result.status, result.bookmarks, len(sandbox.entries)) == (0, [1], 1)


def test_input_is_utf8_whatever_the_locale(sandbox: Sandbox, deliver: Deliver) -> None:
    messages = [schema(), customer(1, _fname="Ольга 😀"), state("Ж")]
    result = deliver(messages, env={"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert result.status == 0, result.stderr
    assert sandbox.entries[0]["data"]["_fname"] == "Ольга 😀"
    assert result.bookmarks == ["Ж"]


def test_the_examples_arrive(deliver: Deliver, sandbox: Sandbox) -> None:
    settings = json.loads((EXAMPLES / "config.json").read_text(encoding="utf-8"))
    settings.update(api_url=sandbox.url)
    text = (EXAMPLES / "customers.singer").read_text(encoding="utf-8")
    result = deliver(text.splitlines(), settings)
    assert result.status == 0, result.stderr
    records = [json.loads(line) for line in text.splitlines() if '"RECORD"' in line]
    assert len(sandbox.entries) == len(records) > 0
    assert (
        result.states[-1]
        == [json.loads(line)["value"] for line in text.splitlines() if '"STATE"' in line][-1]
    )


def test_many_records_arrive_exactly_once(sandbox: Sandbox, deliver: Deliver) -> None:
    result = deliver([schema(), *(customer(n) for n in range(25_000)), state(1)])
    assert result.status == 0, result.stderr
    assert sorted(entry["data"]["id"] for entry in sandbox.entries) == list(range(25_000))
    sizes = sorted(task.size for task in sandbox.tasks)  # batches may overtake each other
    assert sizes == [5_000, 10_000, 10_000]
    assert result.bookmarks == [1]


def test_bodies_keep_to_the_byte_budget_and_use_it(sandbox: Sandbox, deliver: Deliver) -> None:
    note = "Ж" * 800
    messages = [schema(), *(customer(n, note=note) for n in range(9_000)), state(1)]
    assert sum(len(line.encode()) for line in lines(messages)) > 15_000_000
    result = deliver(messages)
    assert result.status == 0, result.stderr
    assert len({entry["data"]["id"] for entry in sandbox.entries}) == len(sandbox.entries) == 9_000
    _, *full = sizes = sorted(task.body_bytes for task in sandbox.tasks)
    assert max(sizes) <= 10_000_000
    assert all(size >= 8_000_000 for size in full)


def test_the_taps_lines_are_held_only_where_a_rejects_file_needs_them(
    sandbox: Sandbox, deliver: Deliver, tmp_path: Path
) -> None:
    messages = [schema(), *(customer(n, note="x" * 1000) for n in range(200)), state(1)]
    settings = {"batch_size_bytes": 50_000, "stream_maps": {"customers": {"note": None}}}
    assert deliver(messages, settings).status == 0
    assert [task.size for task in sandbox.tasks] == [200]
    rejecting = {**settings, "rejects_path": str(tmp_path / "rejects")}
    assert deliver(messages, rejecting).status == 0
    assert max(task.size for task in sandbox.tasks[1:]) < 50
    assert sum(task.size for task in sandbox.tasks) == 400


def test_numbers_dates_nulls_and_sdc_columns_arrive_as_promised(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    properties = {
        "email": {"type": "string"},
        "total": {"type": "number"},
        "_bdate": {"type": ["null", "string"], "format": "date"},
        "_regdate": {"type": "string", "format": "date-time"},
        "gone": {"type": ["null", "string"]},
    }
    row = (
        '{"type":"RECORD","stream":"customers","record":{"email":"a@example.com","total":12.10,'
        '"_bdate":"1990-02-23","_regdate":"2024-05-06T07:08:09.1234567+03:00","gone":null,'
        '"_sdc_extracted_at":"2024-01-01T00:00:00Z","_sdc_deleted_at":null}}'
    )
    deleted = record(email="d@example.com", total=1, _sdc_deleted_at="2024-01-01T00:00:00Z")
    result = deliver([schema(properties=properties), row, deleted, state(1)])
    assert (result.status, result.bookmarks) == (0, [1])
    assert json.loads(json.dumps(sandbox.entries, default=str)) == [
        {
            "data": {
                "email": "a@example.com",
                "total": "12.10",
                "_bdate": "1990-02-23T00:00:00Z",
                "_regdate": "2024-05-06T04:08:09.1234567Z",
            }
        }
    ]
    assert "stream 'customers': read: 2; delivered: 1; skipped, deleted at the source: 1" in (
        result.stderr
    )


def test_every_stream_level_setting_acts(sandbox: Sandbox, deliver: Deliver) -> None:
    settings = {
        "streams": {
            "orders": {
                "workflow_id": 2,
                "matching": "custom",
                "field_name": "CRM_ID",
                "match_column": "customer",
                "skip_triggers": True,
                "skip_invalid_subscriptions": False,
                "detect_geo": True,
                "content": {"shop": "north"},
                "custom_data": {"source": "crm"},
                "attach": [{"name": "a.txt", "file_key": "k"}],
                "content_columns": ["total"],
                "custom_data_columns": ["trace"],
                "attach_column": "files",
                "nulls": "send",
            }
        }
    }
    files = [{"name": "b.txt"}]
    row = record("orders", customer="0015", total=1290.5, trace="t1", files=files, city=None)
    result = deliver([schema("orders", {"customer": {}}), row, state(1)], settings)
    assert result.status == 0, result.stderr
    task = sandbox.tasks[0]
    assert task.envelope == {
        "workflow_id": 2,
        "matching": "custom",
        "field_name": "CRM_ID",
        "skip_triggers": True,
        "skip_invalid_subscriptions": False,
        "detect_geo": True,
        "content": {"shop": "north"},
        "custom_data": {"source": "crm"},
        "attach": [{"name": "a.txt", "file_key": "k"}],
    }
    (entry,) = task.entries
    assert float(entry["content"]["total"]) == 1290.5
    assert entry["custom_data"] == {"trace": "t1"}
    assert entry["attach"] == files
    assert entry["data"] == {"CRM_ID": "0015", "city": None}


def test_settings_come_from_the_environment(sandbox: Sandbox, tmp_path: Path) -> None:
    environment = {
        "TARGET_ALTCRAFT_API_URL": f"{sandbox.url}/",
        "TARGET_ALTCRAFT_TOKEN": TOKEN,
        "TARGET_ALTCRAFT_WORKFLOW_ID": "2",
        "TARGET_ALTCRAFT_BATCH_SIZE_ROWS": "2",
        "TARGET_ALTCRAFT_POLL_INTERVAL_SECONDS": "0.05",
        "TARGET_ALTCRAFT_CONTENT": '{"price": 12.10}',
        "TARGET_ALTCRAFT_SKIP_TRIGGERS": "true",
        "TARGET_ALTCRAFT_STREAM_MAPS": '{"customers": {"_fname": null}}',
    }
    messages = [schema(), *(customer(n) for n in range(3)), state(1)]
    result = run(messages, {}, tmp_path, args=("--config", "ENV"), env=environment)
    assert result.status == 0, result.stderr
    assert sorted(task.size for task in sandbox.tasks) == [1, 2]
    assert sandbox.tasks[0].workflow_id == 2
    assert str(sandbox.tasks[0].envelope["content"]["price"]) == "12.10"
    assert sandbox.tasks[0].envelope["skip_triggers"] is True
    assert "_fname" not in sandbox.entries[0]["data"]


@pytest.mark.parametrize("compression", ["gzip", None])
def test_batch_files_take_the_same_way_as_records(
    sandbox: Sandbox, deliver: Deliver, tmp_path: Path, compression: str | None
) -> None:
    rows = [customer(n, _sdc_batched_at="x")["record"] for n in range(7)]
    rows.append(customer(99, _sdc_deleted_at="2024-01-01T00:00:00Z")["record"])
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path = tmp_path / "rows.jsonl"
    path.write_bytes(gzip.compress(content) if compression else content)
    encoding = {"format": "jsonl", **({"compression": compression} if compression else {})}
    batch = {
        "type": "BATCH",
        "stream": "customers",
        "encoding": encoding,
        "manifest": [path.as_uri()],
    }
    maps = {"customers": {"_city": "'Perm'", "_fname": None}}
    messages = [schema(), customer(100), batch, customer(101), state(1)]
    result = deliver(messages, {"batch_size_rows": 4, "stream_maps": maps, "max_in_flight": 1})
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert [entry["data"]["id"] for entry in sandbox.entries] == [100, *range(7), 101]
    assert {entry["data"]["_city"] for entry in sandbox.entries} == {"Perm"}
    assert max(task.size for task in sandbox.tasks) == 4


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_with_a_journal_large_rows_of_a_batch_file_are_not_held_by_the_hundred(
    deliver: Deliver, tmp_path: Path
) -> None:
    """The journal is asked about lots of some hundred rows, or fewer if they are large."""
    code = (
        "import atexit, sys\n"
        "peak = lambda: [line for line in open('/proc/self/status') if 'VmHWM' in line][0]\n"
        "atexit.register(lambda: sys.stderr.write(peak()))\n"
        "from target_altcraft.__main__ import main; main()"
    )
    peaks = []
    for count in (90, 900):
        rows = tmp_path / f"rows-{count}.jsonl"
        texts = (json.dumps(customer(n, note="x" * 100_000)["record"]) for n in range(count))
        rows.write_text("\n".join(texts), encoding="ascii")
        manifest = {"encoding": {"format": "jsonl"}, "manifest": [f"file://{rows}"]}
        settings = {
            "journal_path": str(tmp_path / f"journal-{count}"),
            "stream_maps": {"customers": {"note": None}},
        }
        messages = [schema(), {"type": "BATCH", "stream": "customers", **manifest}, state(1)]
        result = deliver(messages, settings, command=(sys.executable, "-c", code))
        assert (result.status, result.bookmarks) == (0, [1]), result.stderr
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("VmHWM")]
        peaks.append(int(line.split()[1]))
    assert peaks[1] - peaks[0] < 20_000, "kilobytes; the larger file has 81,000 more"


def test_stream_maps_name_the_stream_that_settings_speak_of(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    settings = {
        "workflow_id": None,
        "stream_maps": {
            "customers": {"__alias__": "welcome"},
            "vip": {"__source__": "customers", "__filter__": "id > 1"},
            "noise": None,
        },
        "streams": {"welcome": {"workflow_id": 1}, "vip": {"workflow_id": 2}},
    }
    messages = [
        schema(),
        schema("noise"),
        customer(1),
        customer(2),
        customer(3, stream="noise"),
        state(1),
    ]
    result = deliver(messages, settings)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    by_workflow = {task.workflow_id: task.keys for task in sandbox.tasks}
    assert by_workflow == {1: ["c1@example.com", "c2@example.com"], 2: ["c2@example.com"]}
    assert "stream 'vip': read: 2; delivered: 1; skipped, dropped by the stream map: 1" in (
        result.stderr
    )


BAD_INPUT: dict[str, tuple[list[t.Any], dict[str, t.Any], str]] = {
    "wrong token": (
        [schema(), customer(1), state(1)],
        {"token": "not-the-right-token"},
        "error 401",
    ),
    "wrong URL": (
        [schema(), customer(1), state(1)],
        {"api_url": "http://127.0.0.1:9", "retry_max_seconds": 0},
        "the connection was refused",
    ),
    "unknown workflow": (
        [schema(), customer(1), state(1)],
        {"workflow_id": 77},
        "there is no scenario with workflow_id 77. Nothing of this stream was sent",
    ),
    "missing setting": ([], {"token": None}, "settings: token must be set"),
    "token as a number": ([], {"token": 4711081542}, "settings: token must be of type string"),
    "plain http": ([], {"api_url": "http://altcraft.example"}, "plain http:// only for a loopback"),
    "no workflow": ([schema()], {"workflow_id": None}, "stream 'customers' has no workflow_id"),
    "typo in a stream": (
        [],
        {"streams": {"customers": {"workflw_id": 1}}},
        "unknown setting 'workflw_id' (did you mean 'workflow_id'?)",
    ),
    "broken line": (
        [schema(), '{"type": "RECORD", "stream": "customers", "record": {"email": "hush@example'],
        {},
        "line 2 of the input is not valid JSON",
    ),
    "record before schema": ([customer(1)], {}, "came before its SCHEMA message (line 1"),
    "no record": ([schema(), {"type": "RECORD", "stream": "customers"}], {}, "has no record"),
    "unknown message": (
        [{"type": "hush@example.com"}],
        {},
        "line 1 of the input is not a Singer",
    ),
    "schema broken by a record": (
        [schema(), customer(1, id="hush")],
        {},
        (
            "stream 'customers': the record in line 2 of the input cannot be delivered: it breaks "
            "its schema: column 'id' breaks 'type'"
        ),
    ),
    "no match value": (
        [schema(), customer(1, email=None)],
        {},
        "no match value in column 'email'",
    ),
    "missing key": (
        [schema(key_properties=["key"]), customer(1)],
        {},
        "it has no key property 'key'",
    ),
    "bad date": (
        [schema(properties={"_bdate": {"format": "date"}}), customer(1, _bdate="hush")],
        {},
        "column '_bdate' is not a date",
    ),
    "failing stream map": (
        [schema(), customer(1, email="hush@example.com")],
        {"stream_maps": {"customers": {"id": "int(email)"}}},
        "a stream-map expression failed for column 'id' (ValueError)",
    ),
    "failing filter": (
        [schema(), customer(1, email="hush@example.com")],
        {"stream_maps": {"customers": {"__filter__": "surname"}}},
        "a stream map failed for __filter__: Failed to evaluate simpleeval expressions surname",
    ),
    "record too large": (
        [schema(), customer(1, note="hush" * 500)],
        {"batch_size_bytes": 1024},
        "more than batch_size_bytes (1024)",
    ),
    "parquet": (
        [
            schema(),
            {
                "type": "BATCH",
                "stream": "customers",
                "encoding": {"format": "parquet"},
                "manifest": [],
            },
        ],
        {},
        "let the tap write jsonl",
    ),
    "broken schema": (
        [schema(properties={"id": {"type": "hush"}})],
        {},
        "stream 'customers': its SCHEMA (line 1 of the input) is no valid JSON schema",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_message_and_no_value(deliver: Deliver, case: str) -> None:
    messages, settings, expected = BAD_INPUT[case]
    result = deliver(messages, settings, env={"TARGET_ALTCRAFT_LOGLEVEL": "DEBUG"})
    assert result.status == 1
    assert expected in result.error
    assert result.states == []
    for private in ("hush", "example.com", "Ann", TOKEN, "4711081542", "not-the-right-token"):
        assert private not in result.stderr


@pytest.mark.parametrize("content", ["{", "[1]", None])
def test_a_configuration_that_cannot_be_read_is_one_message(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    done = subprocess.run(
        [COMMAND, "--config", str(path)], input="", capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "configuration file" in done.stderr


def test_unknown_settings_and_streams_are_named(deliver: Deliver) -> None:
    settings = {"match_colum": 3, "streams": {"customrs": {"workflow_id": 2}}}
    result = deliver([schema(), customer(1), state(1)], settings)
    assert result.status == 0
    warnings = "\n".join(result.log("WARNING"))
    assert "unknown setting 'match_colum' is ignored (did you mean 'match_column'?)" in (warnings)
    assert "streams.customrs: no such stream came (did you mean 'customers'?)" in warnings


def test_a_resend_and_a_baseline_of_streams_that_never_came_are_named(
    deliver: Deliver, tmp_path: Path
) -> None:
    messages = [schema(key_properties=["id"], bookmark_properties=["id"]), customer(1), state(1)]
    for number, setting in enumerate(("resend", "baseline")):
        settings = {setting: ["customrs"], "journal_path": str(tmp_path / f"journal-{number}")}
        result = deliver(messages, settings)
        assert result.status == 0
        warnings = "\n".join(result.log("WARNING"))
        assert f"{setting} 'customrs': no such stream came (did you mean 'customers'?)" in warnings


def test_no_profile_value_and_no_token_is_logged_at_debug(deliver: Deliver) -> None:
    messages = [schema(), *(customer(n) for n in range(20)), state(1)]
    settings = {"batch_size_rows": 5, "stream_maps": {"customers": {"__filter__": "email"}}}
    result = deliver(messages, settings, env={"TARGET_ALTCRAFT_LOGLEVEL": "DEBUG"})
    assert (result.status, result.bookmarks) == (0, [1])
    assert "| DEBUG" in result.stderr
    for private in ("example.com", "Ann", TOKEN):
        assert private not in result.stderr


def test_errors_of_our_own_are_named_without_their_words(
    sandbox: Sandbox, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Task.report

    def both(task: Task, now: float) -> dict[str, t.Any]:
        is_over = len(sandbox.tasks) == 2
        return report(task, now) if is_over else {"status": "running", "progress": 0}

    monkeypatch.setattr(Task, "report", both)
    code = (
        "import target_altcraft.outcomes as o\n"
        "o.Outcomes.completed = lambda outcomes, request, *rest: int('A' + 'nn')\n"
        "from target_altcraft.__main__ import main; main()"
    )
    command, env = (sys.executable, "-c", code), {"TARGET_ALTCRAFT_LOGLEVEL": "DEBUG"}
    messages = [schema(), customer(1), customer(2), state(1)]
    result = deliver(messages, {"batch_size_rows": 1}, command=command, env=env)
    assert (result.status, result.states) == (1, [])
    assert len(result.errors) == 2
    assert "and also: ValueError" in result.errors
    assert "internal error, ValueError at " in result.errors[-1]
    assert "Ann" not in result.stderr


def test_a_token_that_stands_in_the_name_of_a_stream_is_masked(deliver: Deliver) -> None:
    result = deliver([schema(f"list-{TOKEN}"), customer(1, f"list-{TOKEN}"), state(1)])
    assert (result.status, result.bookmarks) == (0, [1])
    assert "stream 'list-***'" in result.stderr
    assert TOKEN not in result.stderr


def test_the_netrc_file_is_never_used(sandbox: Sandbox, deliver: Deliver, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n", encoding="utf-8")
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    result = deliver([schema(), customer(1)], env={"NETRC": str(netrc), **proxies})
    assert result.status == 0, result.stderr
    assert len(sandbox.entries) == 1


def test_about_speaks_of_settings_that_mean_something() -> None:
    done = subprocess.run(
        [COMMAND, "--about", "--format=json"], capture_output=True, text=True, check=True
    )
    settings = json.loads(done.stdout)["settings"]["properties"]
    assert {"api_url", "workflow_id", "streams", "stream_maps", "validate_records"} <= set(settings)
    assert not {"load_method", "add_record_metadata"} & set(settings)
    assert all("description" in setting for setting in settings.values())


def test_a_run_without_records_passes_state_on(deliver: Deliver, sandbox: Sandbox) -> None:
    result = deliver([schema(), state(1)])
    assert (result.status, result.bookmarks) == (0, [1])
    assert sandbox.tasks == []
    assert os.environ.get("TARGET_ALTCRAFT_TOKEN") is None
