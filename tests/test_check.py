"""`--check`: what it finds, all of it at once, and that it sends, writes and creates nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import time
import typing as t
from dataclasses import dataclass

import pytest
from harness import COMMAND, TOKEN, TargetProcess, customer, lines, schema, state, wait_for

from target_altcraft import check, check_api
from target_altcraft import settings as settings_module
from target_altcraft.check import Finding, as_json, as_table, exit_status
from target_altcraft.memory import look as look_module
from target_altcraft.memory.journal import Journal
from target_altcraft.memory.look import look as look_at_journal
from target_altcraft.sandbox import Sandbox, Workflow
from target_altcraft.settings_schema import SCHEMA

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness import Result

    Deliver = Callable[..., Result]

SUBSCRIPTIONS = [{"channel": "email", "resource_id": 7}]
CALLS = {"list", "status"}


@dataclass(frozen=True)
class Checked:
    """What a run of `--check` said."""

    status: int
    stdout: str
    stderr: str
    seconds: float

    def about(self, what: str) -> list[tuple[str, str]]:
        """The verdict and the rest of each line of the table about something."""
        found = []
        for line in self.stdout.splitlines()[1:]:
            verdict, _, rest = line.partition(f"  {what} ")
            if rest:
                found.append((verdict.strip(), " ".join(rest.split())))
        return found


Check = t.Callable[..., Checked]


@pytest.fixture
def checked(config: dict[str, t.Any], tmp_path: Path) -> Check:
    """Run the command with `--check`, settings on top of `config`, and an input not to read."""

    def _checked(more: dict[str, t.Any], *args: str, env: dict[str, str] | None = None) -> Checked:
        path = tmp_path / "config.json"
        path.write_text(json.dumps({**config, **more}), encoding="utf-8")
        began = time.monotonic()
        done = subprocess.run(
            [COMMAND, "--config", str(path), "--check", *args],
            input="".join(lines([schema(), customer(1), state(1)])),
            capture_output=True,
            check=False,
            encoding="utf-8",
            timeout=60,
            env={**os.environ, **(env or {})},
        )
        assert "Traceback" not in done.stderr
        return Checked(done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    return _checked


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    workflows = [
        Workflow(1, "Welcome series"),
        Workflow(2, "Order follow-up", mode="skip"),
        Workflow(3, "Winter sale", is_active=False),
    ]
    with Sandbox(port=0, token=TOKEN, workflows=workflows) as running:
        yield running


def files_of(folder: Path) -> dict[str, t.Any]:
    return {
        "rejects_path": str(folder / "rejects.jsonl"),
        "receipts_path": str(folder / "receipts.jsonl"),
        "journal_path": str(folder / "journal.sqlite"),
        "report_path": str(folder / "report.html"),
    }


def resolved(config: dict[str, t.Any]) -> settings_module.Settings:
    return settings_module.resolve(settings_module.coerce(config, SCHEMA))


# All right


def test_all_is_right_and_nothing_is_sent_or_written(
    sandbox: Sandbox, checked: Check, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    result = checked({**files_of(folder), "subscriptions": SUBSCRIPTIONS})
    assert result.status == 0, result.stdout
    assert result.stdout.splitlines()[-1] == "all right"
    assert result.about("token") == [("ok", f"{sandbox.url}/api/v1.1 accepted")]
    assert result.about("scenario") == [("ok", "1 'Welcome series' active; for every stream")]
    assert result.about("subscriptions") == [
        ("ok", "every stream email to resource 7, address in email")
    ]
    assert [verdict for verdict, _ in result.about("file")] == ["ok"] * 4
    assert all("B free" in line for _, line in result.about("file"))
    assert result.about("journal") == [
        ("ok", f"{folder / 'journal.sqlite'} new: it remembers nothing")
    ]
    assert list(folder.iterdir()) == []
    assert sandbox.tasks == []
    assert {seen.endpoint for seen in sandbox.requests} == {"list"}


def test_json_has_the_same_for_machines(checked: Check) -> None:
    streams = {"customers": {"workflow_id": 1}, "orders": {"workflow_id": 2}}
    result = checked({"streams": streams, "subscriptions": SUBSCRIPTIONS}, "--format", "json")
    content = json.loads(result.stdout)
    assert (result.status, content["exit_status"]) == (0, 0)
    scenarios = [each for each in content["findings"] if each["about"] == "scenario"]
    assert [(s["workflow_id"], s["name"], s["is_active"], s["mode"]) for s in scenarios] == [
        (1, "Welcome series", True, "restart"),
        (2, "Order follow-up", True, "skip"),
    ]
    assert [s["streams"] for s in scenarios] == [["customers", "every other stream"], ["orders"]]
    assert [s["verdict"] for s in scenarios] == ["ok", "warning"]


def test_the_settings_may_come_from_the_environment(checked: Check) -> None:
    result = checked(
        {"token": "wrong", "subscriptions": SUBSCRIPTIONS},
        "--config",
        "ENV",
        env={"TARGET_ALTCRAFT_TOKEN": TOKEN},
    )
    assert result.status == 0, result.stdout


# Token and scenarios


def test_a_refused_token_is_a_fault_and_is_not_shown(sandbox: Sandbox, checked: Check) -> None:
    result = checked({"token": "tok-of-somebody", "subscriptions": SUBSCRIPTIONS})
    assert result.status == 1
    ((verdict, said),) = result.about("token")
    assert verdict == "FAULT"
    assert "refused: workflows/list: " in said
    assert "401" in said
    assert result.about("scenario") == [("not checked", "1 for every stream")]
    assert "tok-of-somebody" not in result.stdout + result.stderr
    assert len(sandbox.requests) == 1  # the others would be refused too


def test_no_line_of_another_library_is_logged_at_debug(checked: Check) -> None:
    result = checked({"token": "tok-of-somebody"}, env={"TARGET_ALTCRAFT_LOGLEVEL": "DEBUG"})
    assert result.status == 1
    assert "urllib3" not in result.stderr


def test_every_fault_of_scenarios_is_told_at_once(checked: Check) -> None:
    streams = {
        "customers": {"workflow_id": 1},
        "orders": {"workflow_id": 2},
        "sale": {"workflow_id": 3},
        "typo": {"workflow_id": 77},
        "also": {"workflow_id": 77},
    }
    result = checked({"streams": streams, "workflow_id": 1})
    assert result.status == 1
    ignores = "its mode 'skip' ignores those who are in it already"
    assert result.about("scenario") == [
        ("ok", "1 'Welcome series' active; for customers, every other stream"),
        ("warning", f"2 'Order follow-up' active; {ignores}; for orders"),
        ("FAULT", "3 'Winter sale' not active; for sale"),
        ("FAULT", "77 there is no such scenario; for typo, also"),
    ]
    assert [verdict for verdict, _ in result.about("subscriptions")] == ["warning"] * 6
    assert result.stdout.splitlines()[-1] == "2 faults, 7 warnings"


def test_a_scenario_that_is_not_active_is_no_fault_where_a_run_would_not_stop_at_it(
    checked: Check, deliver: Deliver, sandbox: Sandbox
) -> None:
    settings = {"workflow_id": 3, "check_workflow": False}
    result = checked(settings)
    assert result.status == 0
    assert result.about("scenario") == [("warning", "3 'Winter sale' not active; for every stream")]
    assert deliver([schema(), customer(1), state(1)], settings).status == 0
    assert len(sandbox.entries) == 1


@pytest.mark.parametrize("right", [True, False])
def test_a_token_that_may_not_list_scenarios_is_tried_on_a_task(
    sandbox: Sandbox, checked: Check, *, right: bool
) -> None:
    sandbox.add_fault("list:error,code=403,text=No access,times=9")
    if not right:
        sandbox.add_fault("status:error,code=403,text=No access,times=9")
    result = checked({})
    ((verdict, said),) = result.about("token")
    if right:
        assert (result.status, verdict) == (0, "warning")
        assert "accepted; scenarios cannot be looked at: workflows/list: error 403" in said
    else:
        assert (result.status, verdict) == (1, "FAULT")
        assert "refused: workflows/list: error 403" in said
    assert result.about("scenario") == [("not checked", "1 for every stream")]
    assert {seen.endpoint for seen in sandbox.requests} == CALLS


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("list:error,code=440", "refused: workflows/list: error 440"),
        ("list:html,times=9", "is not Altcraft's JSON"),
        ("list:redirect", "redirects are not followed"),
        ("list:error,code=400,text=Invalid request,times=9", "cannot be told"),
    ],
)
def test_whatever_the_host_answers_is_one_line(
    sandbox: Sandbox, checked: Check, fault: str, said: str
) -> None:
    sandbox.add_fault(fault)
    result = checked({})
    ((verdict, line),) = result.about("token")
    assert (result.status, verdict) == (1, "FAULT")
    assert said in line


def test_a_host_that_is_busy_for_a_moment_is_asked_again(sandbox: Sandbox, checked: Check) -> None:
    sandbox.add_fault("list:http,status=503,times=1")
    assert checked({"subscriptions": SUBSCRIPTIONS}).status == 0


def test_many_scenarios_are_asked_for_side_by_side(sandbox: Sandbox, config: t.Any) -> None:
    sandbox.add_fault("list:slow,seconds=0.3,times=99")
    streams = {f"s{n}": {"workflow_id": 1 + n % 40} for n in range(50)}
    began = time.monotonic()
    findings = check.look(resolved({**config, "streams": streams}))
    assert time.monotonic() - began < 40 * 0.3 * 0.6
    scenarios = [finding for finding in findings if finding.about == "scenario"]
    assert [finding.facts["workflow_id"] for finding in scenarios] == list(range(1, 41))
    assert sum(finding.verdict == "fault" for finding in scenarios) == 38


# A host that is not there


def test_a_refused_connection_is_told_quickly(checked: Check) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # not listening
        result = checked({"api_url": f"http://127.0.0.1:{unused.getsockname()[1]}"})
    ((verdict, said),) = result.about("token")
    assert (result.status, verdict) == (1, "FAULT")
    assert "the connection was refused" in said
    assert result.seconds < 10
    assert result.about("scenario") == [("not checked", "1 for every stream")]


def test_a_silent_host_is_told_quickly(checked: Check) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        streams = {f"s{n}": {"workflow_id": n} for n in range(1, 9)}
        result = checked({"api_url": url, "streams": streams, "request_timeout_seconds": 600})
    ((verdict, said),) = result.about("token")
    assert (result.status, verdict) == (1, "FAULT")
    assert f"no answer within {check_api.CALL_SECONDS:g} seconds" in said
    assert result.seconds < check_api.ALL_SECONDS + 5


def test_an_answer_that_comes_by_drops_is_not_awaited(
    monkeypatch: pytest.MonkeyPatch, config: t.Any
) -> None:
    monkeypatch.setattr(check_api, "ALL_SECONDS", 0.5)
    monkeypatch.setattr(check, "ALL_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        findings = check.look(resolved({**config, "api_url": url}))
    assert [(f.verdict, f.found) for f in findings if f.about == "token"] == [
        ("fault", "no answer within 0.5 seconds")
    ]


# Settings


def test_faults_of_the_settings_are_all_told(checked: Check) -> None:
    result = checked({"max_in_flight": 99, "streams": {"a": {"matching": "custom"}}})
    assert result.status == 1
    assert [verdict for verdict, _ in result.about("settings")] == ["FAULT"]
    again = checked({"journal_keep_days": 3, "streams": {"a": {"matching": "custom"}}})
    assert [line.split(" needs ")[0] for _, line in again.about("settings")] == [
        "journal_keep_days",
        "matching 'custom'",
    ]


def test_streams_without_a_scenario_are_faults(config: t.Any) -> None:
    del config["workflow_id"]
    findings = check.look(resolved({**config, "streams": {"a": {}, "b": {"workflow_id": 1}}}))
    faults = [finding.found for finding in findings if finding.verdict == "fault"]
    assert faults == [
        "stream 'a' has no workflow_id: set it under streams.a, or at the top level for all streams"
    ]
    none = check.look(resolved(config))
    assert [f.found for f in none if f.verdict == "fault"] == [
        "no stream has a workflow_id: set it under streams.<name>, or at the top"
    ]
    assert [f.verdict for f in none if f.about == "token"] == ["ok"]


def test_subscriptions_that_send_a_status_are_warned_about(config: t.Any) -> None:
    sends = [{**SUBSCRIPTIONS[0], "status": "subscribed"}]
    findings = check.look(resolved({**config, "subscriptions": sends}))
    (found,) = (finding for finding in findings if finding.about == "subscriptions")
    assert found.verdict == "warning"
    assert found.found.endswith("status is sent, also for those who unsubscribed")


# Files


def test_every_file_that_cannot_be_written_is_told(checked: Check, tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    result = checked(
        {
            "rejects_path": str(tmp_path / "missing" / "rejects.jsonl"),
            "receipts_path": str(tmp_path / "config.json" / "receipts.jsonl"),
            "report_path": str(tmp_path / "report.html"),
        }
    )
    assert result.status == 1
    assert result.about("file") == [
        ("FAULT", f"rejects_path its folder {tmp_path / 'missing'} does not exist"),
        ("FAULT", f"receipts_path {tmp_path / 'config.json' / 'receipts.jsonl'}: Not a directory"),
        ("FAULT", f"report_path {tmp_path / 'report.html'} is a folder"),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_told(checked: Check, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    result = checked({"rejects_path": str(folder / "rejects.jsonl")})
    assert result.about("file") == [
        ("FAULT", f"rejects_path its folder {folder} cannot be written")
    ]


def test_files_and_folders_without_permission_are_told(
    monkeypatch: pytest.MonkeyPatch, config: t.Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # as it is for all but root
    (tmp_path / "rejects.jsonl").touch()
    findings = check.look(resolved({**config, **files_of(tmp_path)}))
    assert [f.found for f in findings if f.about == "file"][:2] == [
        f"{tmp_path / 'rejects.jsonl'} cannot be written",
        f"its folder {tmp_path} cannot be written",
    ]
    assert exit_status(findings) == 1


def test_a_file_that_is_none_is_taken_as_it_is(config: t.Any) -> None:
    findings = check.look(resolved({**config, "receipts_path": os.devnull}))
    assert [(f.verdict, f.found) for f in findings if f.about == "file"] == [
        ("ok", "/dev/null is no regular file, and can be written")
    ]


def test_a_disk_that_is_almost_full_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, config: t.Any, tmp_path: Path
) -> None:
    little = shutil.disk_usage(tmp_path)._replace(free=5_300_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: little)
    findings = check.look(resolved({**config, "report_path": str(tmp_path / "report.html")}))
    ((verdict, found, facts),) = (
        (f.verdict, f.found, f.facts) for f in findings if f.about == "file"
    )
    assert (verdict, found) == ("warning", f"{tmp_path} can be written; 5.3 MB free")
    assert facts["free_bytes"] == 5_300_000


# The journal


def with_journal(path: Path) -> dict[str, t.Any]:
    return {"journal_path": str(path), "bookmark_column": "id", "subscriptions": SUBSCRIPTIONS}


def test_the_journal_says_what_it_remembers(
    deliver: Deliver, checked: Check, tmp_path: Path
) -> None:
    path = tmp_path / "j" / "journal.sqlite"
    path.parent.mkdir()
    settings = with_journal(path)
    messages = [schema(), schema("orders"), *(customer(n) for n in range(3))]
    assert deliver([*messages, customer(9, "orders"), state(1)], settings).status == 0
    before = {each: each.read_bytes() for each in path.parent.iterdir()}

    result = checked(settings)

    assert result.status == 0, result.stdout
    ((verdict, said),) = result.about("journal")
    assert verdict == "ok"
    assert "readable; 4 versions (customers 3, orders 1)" in said
    assert said.endswith("and ended well")
    assert {each: each.read_bytes() for each in path.parent.iterdir()} == before


@pytest.mark.parametrize("way", ["resend", "fail", "skip"])
def test_what_an_earlier_run_left_is_told(
    sandbox: Sandbox, deliver: Deliver, checked: Check, tmp_path: Path, way: str
) -> None:
    settings = {**with_journal(tmp_path / "j"), "on_ambiguous_submit": way}
    sandbox.add_fault("task:failed")
    failed = deliver([schema(), customer(1), customer(2), state(1)], settings)
    assert failed.status == 1
    result = checked(settings, "--format", "json")
    (journal,) = (
        each for each in json.loads(result.stdout)["findings"] if each["about"] == "journal"
    )
    assert (result.status, journal["verdict"]) == (0, "warning")
    assert (journal["leftovers"], journal["leftovers_in_doubt"]) == (0, 1)
    assert "1 request (2 profiles) in doubt: the next run" in journal["found"]
    assert f"on_ambiguous_submit '{way}'" in journal["found"]
    assert journal["last_run_ended_well"] is False


def test_tasks_of_a_killed_run_are_told(
    sandbox: Sandbox, config: t.Any, checked: Check, tmp_path: Path
) -> None:
    settings = with_journal(tmp_path / "j")
    sandbox.task_seconds = 60
    with TargetProcess({**config, **settings}, tmp_path) as target:
        target.feed([schema(), customer(1)])
        target.close_input()
        wait_for(lambda: sandbox.tasks and sandbox.tasks[0].polls, "the task is in flight")
        busy = checked(settings)
        target.process.kill()
    assert busy.status == 1
    assert "is in use by another run" in busy.about("journal")[0][1]
    result = checked(settings)
    assert result.status == 0
    ((verdict, said),) = result.about("journal")
    assert verdict == "ok"
    assert "1 request (1 profile) left, to be settled by the next run" in said


def test_a_file_that_is_no_journal_is_a_fault_and_left_alone(
    checked: Check, tmp_path: Path
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a journal", encoding="utf-8")
    result = checked({"journal_path": str(path)})
    ((verdict, said),) = result.about("journal")
    assert (result.status, verdict) == (1, "FAULT")
    assert f"{path} is not a journal; it was left as it is" in said
    assert path.read_text(encoding="utf-8") == "not a journal"


def test_journals_that_the_next_run_puts_in_order_are_no_faults(
    config: t.Any, tmp_path: Path
) -> None:
    empty, old, cut = (tmp_path / name for name in ("empty", "old", "cut"))
    empty.touch()
    with contextlib.closing(sqlite3.connect(old)) as db:
        db.execute("PRAGMA user_version = 1")
        db.execute("PRAGMA application_id = 0x416C7463")
        db.execute("CREATE TABLE request (id, stream, name, digests, task_id, rejected)")
        db.execute("CREATE TABLE boundary (stream, bookmark, digests)")
    leave_cut_short(cut)
    found = {}
    for path in (empty, old, cut):
        findings = check.look(resolved({**config, "journal_path": str(path)}))
        found[path.name] = [(f.verdict, f.found) for f in findings if f.about == "journal"]
    assert found == {
        "empty": [("ok", "new: it remembers nothing")],
        "old": [("ok", "of format 1; the next run carries it over")],
        "cut": [("ok", "a run was killed while it wrote; the next run takes that back")],
    }


def leave_cut_short(path: Path) -> None:
    """Leave a journal as a run does that is killed in the middle of a transaction."""
    journal = Journal(str(path))
    journal.close()
    side = path.with_name(path.name + "-journal")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA cache_size = 1")
        db.execute("BEGIN")
        for number in range(2000):
            db.execute("INSERT INTO run (started) VALUES (?)", (number,))
        copies = path.read_bytes(), side.read_bytes()
        db.execute("ROLLBACK")
    path.write_bytes(copies[0])
    side.write_bytes(copies[1])


def test_counting_that_takes_too_long_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "journal"
    journal = Journal(str(path))
    with journal.durable() as db:
        db.execute("INSERT INTO stream (id, name, by_key) VALUES (1, 'customers', 0)")
        db.executemany(
            "INSERT INTO version VALUES (1, ?, x'', x'', 1, 1, NULL)",
            ((number.to_bytes(4, "big"),) for number in range(5000)),
        )
    journal.close()
    seen = look_at_journal(str(path), 5)
    assert seen is not None
    assert seen.versions == {"customers": 5000}
    monkeypatch.setattr(look_module, "_INSTRUCTIONS", 1)
    given_up = look_at_journal(str(path), -1)
    assert given_up is not None
    assert (given_up.versions, given_up.last_run) == (None, seen.last_run)


# How it is shown


FINDINGS = [
    Finding("token", "https://altcraft.example", "ok", "accepted", {"token_accepted": True}),
    Finding("scenario", "12 'Привет'", "fault", "not active", {"workflow_id": 12}),
    Finding("scenario", "34", "not checked", "for orders"),
]


def test_the_table_is_aligned_and_sums_up() -> None:
    assert as_table(FINDINGS).splitlines() == [
        "             about     which                     found",
        "ok           token     https://altcraft.example  accepted",
        "FAULT        scenario  12 'Привет'               not active",
        "not checked  scenario  34                        for orders",
        "",
        "1 fault",
    ]


def test_the_json_holds_words_and_facts() -> None:
    content = json.loads(as_json(FINDINGS))
    assert content["exit_status"] == exit_status(FINDINGS) == 1
    assert content["findings"][1] == {
        "about": "scenario",
        "subject": "12 'Привет'",
        "verdict": "fault",
        "found": "not active",
        "workflow_id": 12,
    }


def test_names_of_scenarios_are_shown_on_one_line_without_the_token(config: t.Any) -> None:
    hostile = f"Sale\n\x1b[31m{TOKEN} 2025-03-01 {'x' * 200}"
    with Sandbox(port=0, token=TOKEN, workflows=[Workflow(1, hostile)]) as running:
        findings = check.look(resolved({**config, "api_url": running.url}))
    (name,) = (f.facts["name"] for f in findings if f.about == "scenario")
    assert name.startswith("Sale  [31m*** 2025-03-01 xxx")
    assert len(name) == 60
