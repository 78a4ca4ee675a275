"""Rejects, receipts, refusals of whole requests, the check of scenarios, and dry runs."""

from __future__ import annotations

import json
import stat
import subprocess
import typing as t
from pathlib import Path

import pytest
from harness import TargetProcess, customer, lines, record, schema, state

from target_altcraft.sandbox.task import Task

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Result

    from target_altcraft.sandbox import Sandbox

    Deliver = Callable[..., Result]


def read(path: Path) -> list[dict[str, t.Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def submits(sandbox: Sandbox) -> list[t.Any]:
    return [seen for seen in sandbox.requests if seen.endpoint == "submit"]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, t.Any]:
    return {
        "rejects_path": str(tmp_path / "rejects.jsonl"),
        "receipts_path": str(tmp_path / "receipts.jsonl"),
    }


def test_receipts_and_rejects_together_are_the_input_and_the_mended_rejects_replay(
    sandbox: Sandbox, deliver: Deliver, files: dict[str, t.Any], tmp_path: Path
) -> None:
    sandbox.fail_where = lambda entry: entry["data"].get("bad") is True
    messages: list[t.Any] = [schema(key_properties=["id"])]
    for n in range(10_000):
        fields: dict[str, t.Any] = {}
        if n < 137:
            fields = {"bad": True}
        elif n < 157:
            fields = {"_fname": 5}
        elif n < 162:
            fields = {"email": " "}
        elif n == 162:
            fields = {"note": "x" * 200_000}
        messages.append(customer(n, **fields))
    settings = {**files, "batch_size_bytes": 150_000}
    result = deliver([*messages, state(1)], settings)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    rejects = read(Path(files["rejects_path"]))
    assert rejects[0] == messages[0]
    assert sorted(line["record"]["id"] for line in rejects[1:]) == list(range(163))
    by_code: dict[str, int] = {}
    for line in rejects[1:]:
        assert set(line["rejection"]) == {"reason", "code", "stream", "task_id", "at"}
        by_code[line["rejection"]["code"]] = by_code.get(line["rejection"]["code"], 0) + 1
    assert by_code == {"error 422": 137, "schema": 20, "no_match_value": 5, "too_large": 1}
    receipts = read(Path(files["receipts_path"]))
    assert sorted(line["key"]["id"] for line in receipts) == list(range(163, 10_000))
    ids = {p["fields"]["email"]: p["id"] for p in sandbox.profiles}
    for line in receipts[:50]:
        assert line["profile_id"] == ids[f"c{line['key']['id']}@example.com"]
        assert (line["stream"], line["workflow_id"]) == ("customers", 1)
    for path in files.values():
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    assert "xample.com" not in result.stderr

    sandbox.fail_where = None
    before = len(sandbox.entries)
    for line in rejects[1:]:
        line["record"] = customer(line["record"]["id"])["record"]
    mended = tmp_path / "mended.jsonl"
    mended.write_text("".join(lines(rejects)), encoding="utf-8")
    again = deliver([], args=("--input", str(mended)), stdin=subprocess.DEVNULL)
    assert again.status == 0, again.stderr
    assert sorted(int(e["data"]["id"]) for e in sandbox.entries[before:]) == list(range(163))


def test_rejects_are_the_messages_as_the_tap_sent_them_and_replay_to_their_own_stream_only(
    sandbox: Sandbox, deliver: Deliver, files: dict[str, t.Any], tmp_path: Path
) -> None:
    maps = {
        "customers": {"_city": "'Perm'"},
        "vip": {"__source__": "customers", "level": "int(level)"},
    }
    settings = {**files, "stream_maps": maps}
    fields = '{"email":"a@example.com","level":"x","sum":1.10}'
    original = f'{{"type":"RECORD","stream":"customers","record":{fields}}}'
    result = deliver([schema(), original, state(1)], settings)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert [task.workflow_id for task in sandbox.tasks] == [1]
    text = Path(files["rejects_path"]).read_text(encoding="utf-8")
    assert f'"record":{fields}' in text
    assert read(Path(files["rejects_path"]))[1]["rejection"]["stream"] == "vip"
    mended = tmp_path / "mended.jsonl"
    mended.write_text(text.replace('"level":"x"', '"level":"7"'), encoding="utf-8")
    again = deliver([], settings, args=("--input", str(mended)), stdin=subprocess.DEVNULL)
    assert again.status == 0, again.stderr
    assert [entry["data"].get("level") for entry in sandbox.entries] == ["x", 7]


def test_rows_of_batch_files_are_rejected_as_records(
    sandbox: Sandbox, deliver: Deliver, files: dict[str, t.Any], tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"email":null,"sum":1.50}\n{"email":"a@example.com"}\n', encoding="utf-8")
    batch = {
        "type": "BATCH",
        "stream": "customers",
        "encoding": {"format": "jsonl"},
        "manifest": [rows.as_uri()],
    }
    result = deliver([schema(), batch, state(1)], files)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    (reject,) = read(Path(files["rejects_path"]))[1:]
    assert (reject["type"], reject["stream"]) == ("RECORD", "customers")
    assert reject["record"] == {"email": None, "sum": 1.5}
    assert len(sandbox.entries) == 1


def test_more_rejects_than_allowed_fail_the_run(deliver: Deliver, files: dict[str, t.Any]) -> None:
    messages = [schema(), *(customer(n, email=None) for n in range(5)), state(1)]
    result = deliver(messages, {**files, "max_rejects": 3})
    assert (result.status, result.states) == (1, [])
    assert "4 records were rejected, more than max_rejects (3)" in result.error
    assert len(read(Path(files["rejects_path"]))) == 1 + 4


def test_the_input_is_never_its_own_rejects_file(deliver: Deliver, files: dict[str, t.Any]) -> None:
    path = Path(files["rejects_path"])
    path.write_text("".join(lines([schema(), customer(1)])), encoding="utf-8")
    result = deliver([], files, args=("--input", str(path)), stdin=subprocess.DEVNULL)
    assert result.status == 1
    assert "rejects_path names the input itself" in result.error
    assert len(read(path)) == 2


@pytest.mark.parametrize("name", ["rejects_path", "receipts_path", "journal_path"])
def test_a_path_that_cannot_be_written_fails_before_anything_is_sent(
    sandbox: Sandbox, deliver: Deliver, tmp_path: Path, name: str
) -> None:
    settings = {name: str(tmp_path / "missing" / "file")}
    result = deliver([schema(), customer(1), state(1)], settings)
    assert (result.status, result.states) == (1, [])
    assert f"{name}: " in result.error
    assert sandbox.requests == []


@pytest.mark.parametrize("name", ["rejects_path", "receipts_path"])
def test_a_full_disk_stops_state_before_what_could_not_be_written(
    deliver: Deliver, tmp_path: Path, name: str
) -> None:
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    messages = [schema(key_properties=["id"]), state(0), customer(1), customer(2, email=None)]
    result = deliver(
        [*messages, state(1)],
        {
            name: str(full),
            **({"rejects_path": str(tmp_path / "rejects")} if name == "receipts_path" else {}),
        },
    )
    assert (result.status, result.bookmarks) == (1, [0])
    assert f"{name}: {full} cannot be written: No space left on device" in result.stderr


def test_one_refused_entry_among_ten_thousand_is_found(
    sandbox: Sandbox, deliver: Deliver, files: dict[str, t.Any]
) -> None:
    sandbox.refuse_where = lambda entry: entry["data"]["id"] == 6_543
    messages = [schema(key_properties=["id"]), *(customer(n) for n in range(10_000)), state(1)]
    result = deliver(messages, files)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert len(submits(sandbox)) <= 40
    ids = sorted(int(entry["data"]["id"]) for entry in sandbox.entries)
    assert ids == [n for n in range(10_000) if n != 6_543]
    (reject,) = read(Path(files["rejects_path"]))[1:]
    assert reject["record"]["id"] == 6_543
    assert reject["rejection"]["code"] == "refused"
    assert "Invalid request" in reject["rejection"]["reason"]


def test_five_refused_entries_are_found_within_the_bound(
    sandbox: Sandbox, deliver: Deliver, files: dict[str, t.Any]
) -> None:
    bad = {0, 17, 5_000, 5_001, 9_999}
    sandbox.refuse_where = lambda entry: int(entry["data"]["id"]) in bad
    result = deliver([schema(), *(customer(n) for n in range(10_000)), state(1)], files)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert len(submits(sandbox)) <= 40 + 5 * 30
    assert len(sandbox.entries) == 10_000 - 5
    assert {r["record"]["id"] for r in read(Path(files["rejects_path"]))[1:]} == bad


def test_a_wrong_setting_is_not_taken_for_bad_records(
    sandbox: Sandbox, deliver: Deliver, files: dict[str, t.Any]
) -> None:
    settings = {**files, "workflow_id": 77, "check_workflow": False}
    result = deliver([schema(), *(customer(n) for n in range(1000)), state(1)], settings)
    assert (result.status, result.states) == (1, [])
    assert "Workflow not found" in result.error
    assert "Either these records are bad, or a setting is wrong" in result.error
    assert len(submits(sandbox)) <= 40
    assert read(Path(files["rejects_path"])) == []


def test_without_a_rejects_file_nothing_is_bisected(sandbox: Sandbox, deliver: Deliver) -> None:
    sandbox.refuse_where = lambda entry: entry["data"]["id"] == 7
    result = deliver([schema(), *(customer(n) for n in range(10)), state(1)])
    assert (result.status, result.states) == (1, [])
    assert len(submits(sandbox)) == 1


@pytest.mark.parametrize("fault", ["short", "long"])
def test_results_that_cannot_be_attributed_give_no_receipts(
    sandbox: Sandbox, deliver: Deliver, files: dict[str, t.Any], fault: str
) -> None:
    sandbox.add_fault("task", fault)
    result = deliver([schema(), customer(1), customer(2), state(1)], files)
    assert (result.status, result.bookmarks) == (0, [1])
    assert read(Path(files["receipts_path"])) == []


def test_faults_among_results_that_cannot_be_attributed_fail_the_run(
    sandbox: Sandbox, deliver: Deliver, files: dict[str, t.Any]
) -> None:
    sandbox.fail_where = lambda entry: entry["data"]["id"] == 1
    sandbox.add_fault("task", "short")
    result = deliver([schema(), *(customer(n) for n in range(4)), state(1)], files)
    assert (result.status, result.states) == (1, [])
    assert "3 results for 4 profiles, with faults among them" in result.error


CHECKS: dict[str, tuple[dict[str, t.Any], str | None, str]] = {
    "missing": ({"workflow_id": 77}, None, "there is no scenario with workflow_id 77"),
    "inactive": ({"workflow_id": 3}, None, "workflow_id 3 is not active"),
    "token": ({"token": "another-token"}, None, "error 401"),
    "tariff": ({}, "list:error,code=402,text=Tariff limit", "error 402, Tariff limit"),
}


@pytest.mark.parametrize("case", CHECKS)
def test_a_scenario_is_checked_before_anything_is_sent(
    sandbox: Sandbox, deliver: Deliver, case: str
) -> None:
    settings, fault, expected = CHECKS[case]
    if fault:
        sandbox.add_fault(fault)
    result = deliver([schema(), customer(1), state(1)], settings)
    assert (result.status, result.states) == (1, [])
    assert expected in result.error
    assert submits(sandbox) == []


@pytest.mark.parametrize("code", [403, 404])
def test_a_token_that_may_not_list_scenarios_only_warns(
    sandbox: Sandbox, deliver: Deliver, code: int
) -> None:
    sandbox.add_fault("list", "error", code=code)
    result = deliver([schema(), customer(1), state(1)])
    assert (result.status, result.bookmarks) == (0, [1])
    assert sum("cannot be checked" in line for line in result.log("WARNING")) == 1


def test_a_list_call_that_fails_for_now_is_repeated(sandbox: Sandbox, deliver: Deliver) -> None:
    sandbox.add_fault("list", "http", status=500, times=2)
    assert deliver([schema(), customer(1)]).status == 0
    assert len(sandbox.entries) == 1


def test_a_scenario_is_not_checked_where_that_is_not_wanted(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    result = deliver([schema(), customer(1)], {"workflow_id": 3, "check_workflow": False})
    assert result.status == 0
    assert [seen.endpoint for seen in sandbox.requests if seen.endpoint == "list"] == []


def test_a_dry_run_sends_nothing_and_says_what_would_go(
    sandbox: Sandbox, deliver: Deliver, files: dict[str, t.Any], tmp_path: Path
) -> None:
    messages = [schema(), schema("orders"), *(customer(n) for n in range(7))]
    messages += [customer(9, email=None), customer(8, stream="orders"), state(1)]
    settings = {**files, "journal_path": str(tmp_path / "j"), "batch_size_rows": 3, "dry_run": True}
    result = deliver(messages, settings)
    assert (result.status, result.states) == (0, []), result.stderr
    assert {seen.endpoint for seen in sandbox.requests} == {"list"}
    table = [line for line in result.log("INFO") if line.startswith("dry run: ")]
    assert [line.split()[2:6] for line in table[1:]] == [
        ["customers", "8", "7", "0"],
        ["orders", "1", "1", "0"],
    ]
    assert "rejected, no_match_value: 1" in table[1]
    assert not any(Path(path).exists() for path in (*files.values(), tmp_path / "j"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"workflow_id": 77}, "there is no scenario"),
        ({"max_profiles": 1}, "more than max_profiles (1)"),
        ({"rejects_path": None}, "no match value"),
        ({"max_rejects": 0}, "more than max_rejects (0)"),
    ],
)
def test_a_dry_run_fails_where_the_run_would(
    deliver: Deliver, files: dict[str, t.Any], settings: dict[str, t.Any], expected: str
) -> None:
    messages = [schema(), customer(1), customer(2), customer(3, email=None), state(1)]
    result = deliver(messages, {**files, "dry_run": True, **settings})
    assert (result.status, result.states) == (1, [])
    assert expected in result.error


def test_a_rejects_file_cut_short_is_still_json_lines(
    deliver: Deliver, files: dict[str, t.Any]
) -> None:
    path = Path(files["rejects_path"])
    path.write_bytes(b'{"type":"RECO')
    assert deliver([schema(), customer(1, email=None)], files).status == 0
    assert [json.loads(line)["type"] for line in path.read_bytes().splitlines()[1:]] == [
        "SCHEMA",
        "RECORD",
    ]


def test_no_value_and_no_token_is_said_of_any_fault(
    sandbox: Sandbox, config: dict[str, t.Any], files: dict[str, t.Any], tmp_path: Path
) -> None:
    sandbox.fail_where = lambda entry: entry["data"]["id"] == 3
    sandbox.refuse_where = lambda entry: entry["data"]["id"] == 5
    for fault in ("submit:http,status=503", "submit:reset_after,after=2", "status:garbage"):
        sandbox.add_fault(fault)
    sandbox.add_fault("submit:error,code=403,text=no access for c7@example.com,after=12,times=9")
    settings = {
        **config,
        **files,
        "journal_path": str(tmp_path / "journal"),
        "batch_size_rows": 2,
        "stream_maps": {"customers": {"half": "int(_fname) if id == 2 else 0"}},
    }
    env = {"TARGET_ALTCRAFT_LOGLEVEL": "DEBUG"}
    with TargetProcess(settings, tmp_path, env=env) as target:
        messages = [schema(), *(customer(n) for n in range(40)), record(email=["x@example.com"])]
        target.feed_in_background([*messages, state(1)])
        result = target.wait()
    assert result.status == 1
    for private in ("example.com", "Ann", config["token"]):
        assert private not in result.stderr


@pytest.mark.parametrize("sets_aside", [True, False])
def test_what_altcraft_says_of_single_profiles_stands_in_the_rejects_file_alone(
    deliver: Deliver,
    files: dict[str, t.Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    sets_aside: bool,
) -> None:
    def with_words(task: Task, _now: float) -> dict[str, t.Any]:
        words = {name: f"{name} of Ann" for name in ("error", "error_text", "error_debug")}
        items = [words, *({"profile_id": "f" * 24} for _ in range(task.size - 1))]
        return {"status": "completed", "result": {"error": 0, "result": items}}

    monkeypatch.setattr(Task, "report", with_words)
    report = tmp_path / "report.json"
    settings = {"report_path": str(report)} | (files if sets_aside else {})
    env = {"TARGET_ALTCRAFT_LOGLEVEL": "DEBUG"}
    result = deliver([schema(), customer(1), customer(2), state(1)], settings, env=env)
    assert result.status == (0 if sets_aside else 1), result.stderr
    assert "Ann" not in result.stderr
    assert "Ann" not in report.read_text(encoding="utf-8")
    if sets_aside:
        assert "error_debug of Ann" in Path(files["rejects_path"]).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["rejects_path", "receipts_path", "journal_path", "report_path"])
def test_a_path_that_the_system_does_not_take_is_named(
    deliver: Deliver, sandbox: Sandbox, tmp_path: Path, name: str
) -> None:
    result = deliver([schema(), customer(1)], {name: str(tmp_path / ("x" * 300) / "file")})
    assert (result.status, sandbox.requests) == (1, [])
    assert f"{name}" in result.error
    assert "internal error" not in result.error
