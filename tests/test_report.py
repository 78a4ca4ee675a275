"""The run report tells the truth, however the run ended."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import stat
import struct
import subprocess
import termios
import typing as t

import pytest
from harness import COMMAND, TOKEN, TargetProcess, customer, lines, schema, state, wait_for

from target_altcraft.report import as_html, timeline

if t.TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from selenium import webdriver

    from target_altcraft.sandbox import Sandbox

    Deliver = Callable[..., Result]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "report.json"


def read(path: Path) -> dict[str, t.Any]:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text(encoding="utf-8")
    for private in ("example.com", "Ann", TOKEN):
        assert private not in text
    return t.cast("dict[str, t.Any]", json.loads(text))


def delivered_by(report: dict[str, t.Any]) -> int:
    return sum(t["profiles"] for t in report["tasks"] if t["outcome"] == "delivered")


def test_a_report_after_success(sandbox: Sandbox, deliver: Deliver, path: Path) -> None:
    sandbox.add_fault("submit", "http", status=500)
    sandbox.add_fault("submit", "http", status=503, retry_after="0", after=1)
    messages = [schema(), *(customer(n) for n in range(5)), customer(9, _sdc_deleted_at="x")]
    settings = {"report_path": str(path), "batch_size_rows": 2, "max_in_flight": 1}
    result = deliver([*messages, state(1)], settings)
    assert result.status == 0, result.stderr
    report = read(path)
    assert (report["exit_status"], report["message"]) == (0, None)
    assert report["streams"] == {
        "customers": {
            "read": 6,
            "delivered": 5,
            "rejected": {},
            "skipped": {"deleted at the source": 1},
            "resent": 2,
        }
    }
    assert [task["task_id"] for task in report["tasks"]] == [task.id for task in sandbox.tasks]
    assert delivered_by(report) == len(sandbox.entries) == 5
    assert [task["bytes"] for task in report["tasks"]] == [t.body_bytes for t in sandbox.tasks]
    assert [task["polls"] for task in report["tasks"]] == [len(t.polls) for t in sandbox.tasks]
    assert report["tasks"][0]["retries"] == 2
    for task in report["tasks"]:
        assert task["submitted"] <= task["accepted"] <= task["finished"] <= report["seconds"]
    assert report["settings"]["token"] == "***"


def test_a_report_after_a_failed_task(sandbox: Sandbox, deliver: Deliver, path: Path) -> None:
    sandbox.add_fault("task", "failed", where="c2@example.com", text="No room")
    messages = [schema(), *(customer(n) for n in range(4)), state(1)]
    settings = {"report_path": str(path), "batch_size_rows": 1, "max_in_flight": 1}
    result = deliver(messages, settings)
    assert result.status == 1
    report = read(path)
    assert report["exit_status"] == 1
    assert "No room" in report["message"]
    assert [task["outcome"] for task in report["tasks"]] == ["delivered", "delivered", "failed"]
    completed = [task for task in sandbox.tasks if task.outcome == "completed"]
    assert report["streams"]["customers"]["delivered"] == sum(task.size for task in completed)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_report_after_a_signal_or_a_crash_and_after_the_resumed_run(
    sandbox: Sandbox,
    config: dict[str, t.Any],
    deliver: Deliver,
    path: Path,
    tmp_path: Path,
    signum: int,
) -> None:
    sandbox.task_seconds = lambda _, entries: 2.0 if entries[0]["data"]["id"] else 0.0
    more = {
        "report_path": str(path),
        "journal_path": str(tmp_path / "journal"),
        "batch_size_rows": 1,
        "shutdown_seconds": 0,
    }
    messages = [schema(), customer(0), customer(1), customer(2), state(1)]
    with TargetProcess({**config, **more}, tmp_path) as target:
        target.feed(messages)
        wait_for(lambda: "completed after" in target.log(), "the first is delivered")
        wait_for(lambda: target.log().count("accepted as task") == 3, "two more in flight")
        target.terminate(signum)
        target.wait()
    if signum == signal.SIGTERM:
        report = read(path)
        assert report["exit_status"] == 143
        outcomes = sorted(task["outcome"] for task in report["tasks"])
        assert outcomes == ["delivered", "in flight", "in flight"]
        assert report["streams"]["customers"]["delivered"] == 1
    else:
        assert not path.exists()
    result = deliver(messages, more)
    assert result.status == 0, result.stderr
    report = read(path)
    assert report["streams"]["customers"]["skipped"] == {"settled from the journal": 3}
    assert report["tasks"] == []
    assert len(sandbox.entries) == 3


def test_a_report_counts_rejects_by_reason(
    sandbox: Sandbox, deliver: Deliver, path: Path, tmp_path: Path
) -> None:
    sandbox.fail_where = lambda entry: entry["data"]["id"] == 1
    settings = {"report_path": str(path), "rejects_path": str(tmp_path / "rejects")}
    messages = [schema(), *(customer(n) for n in range(3)), customer(4, email=None), state(1)]
    assert deliver(messages, settings).status == 0
    report = read(path)
    assert report["streams"]["customers"]["rejected"] == {"no_match_value": 1, "error 422": 1}
    assert [task["outcome"] for task in report["tasks"]] == ["partly rejected"]


def test_a_page_holds_everything_it_needs(deliver: Deliver, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert deliver([schema(), customer(1), state(1)], {"report_path": str(path)}).status == 0
    page = path.read_text(encoding="utf-8")
    assert "<svg" in page
    assert "ended well" in page
    for outside in ("http:", "https:", "src=", "href=", "<script"):
        assert outside not in page.replace("http://127.0.0.1", "")
    assert "example.com" not in page


def test_a_report_that_cannot_be_written_warns(deliver: Deliver, tmp_path: Path) -> None:
    settings = {"report_path": str(tmp_path / "missing" / "report.html")}
    result = deliver([schema(), customer(1), state(1)], settings)
    assert (result.status, result.bookmarks) == (0, [1])
    assert sum("report_path: " in line for line in result.log("WARNING")) == 1


def test_a_report_of_another_kind_is_refused(deliver: Deliver) -> None:
    result = deliver([], {"report_path": "report.txt"})
    assert result.status == 1
    assert "report_path must end in" in result.error


def fake_tasks(number: int, stream: str = "customers") -> list[dict[str, t.Any]]:
    return [
        {
            "batch": n,
            "stream": stream,
            "profiles": 10_000,
            "bytes": 2_000_000,
            "submitted": n * 0.5,
            "accepted": n * 0.5 + 0.2,
            "finished": n * 0.5 + 2.0,
            "task_id": f"task-{n}",
            "polls": 4,
            "retries": 0,
            "outcome": "delivered",
        }
        for n in range(number)
    ]


@pytest.mark.parametrize("number", [5, 5000])
def test_a_timeline_has_a_bar_per_task_and_a_lane_per_task_in_flight(number: int) -> None:
    svg = timeline(fake_tasks(number), number * 0.5 + 2)
    assert svg.count("<g>") == number
    assert f'viewBox="0 0 1000 {4 * 16}"' in svg


HOSTILE = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>\u202eabc"


def page_of(number: int, text: str) -> str:
    counts = {"read": 1, "delivered": 0, "rejected": {text: 1}, "skipped": {}, "resent": 0}
    return as_html(
        {
            "exit_status": 1,
            "message": text,
            "started_at": "a",
            "ended_at": "b",
            "seconds": number * 0.5 + 2,
            "streams": {text: counts},
            "tasks": fake_tasks(number, text),
            "settings": {"x": text},
            "versions": {},
        }
    )


def test_names_on_the_page_are_escaped() -> None:
    page = page_of(2, HOSTILE)
    assert "<script" not in page
    assert "<img" not in page


@pytest.mark.parametrize(
    ("number", "text"), [(5, "customers"), (5000, "customers"), (5, HOSTILE), (5, "x" * 100_000)]
)
def test_the_page_is_readable_in_a_browser_and_runs_nobodys_text(
    driver: webdriver.Chrome, tmp_path: Path, number: int, text: str
) -> None:
    path = tmp_path / "report.html"
    path.write_text(page_of(number, text), encoding="utf-8")
    driver.get(path.as_uri())
    assert driver.execute_script("return window.pwned === undefined")
    assert driver.execute_script("return document.querySelectorAll('svg g').length") == number
    rows = "return document.querySelectorAll('.scroll tbody tr').length"
    assert driver.execute_script(rows) == number
    wide = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert driver.execute_script(wide)


def test_a_person_at_a_terminal_sees_a_live_line(config: dict[str, t.Any], tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    outcomes = {}
    for name, variables in (("person", {}), ("meltano", {"MELTANO_PROJECT_ROOT": "/project"})):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("CI", "MELTANO"))}
        process = subprocess.Popen(
            [COMMAND, "--config", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**environment, **variables},
        )
        os.close(theirs)
        process.communicate("".join(lines([schema(), customer(1), state(1)])).encode(), timeout=60)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:
            pass  # the other side of the terminal is gone
        os.close(ours)
        assert process.returncode == 0, shown
        outcomes[name] = b"1 read, 0 in flight" in shown
    assert outcomes == {"person": True, "meltano": False}
