"""The run report tells the truth, however the run ended."""

from __future__ import annotations

import json
import signal
import stat
import threading
import typing as t
from decimal import Decimal

import pytest
from harness import TOKEN, TargetProcess, customer, schema, state, wait_for
from terminal import at_a_terminal

from target_altcraft.report import STATES, Report
from target_altcraft.report_page import TONES
from target_altcraft.summary import Summary

if t.TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result

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
            "in_doubt": {},
            "not_sent": 0,
            "resent": 2,
            "with_subscription": 0,
            "without_subscription": 5,
        }
    }
    lost, *tasks = report["tasks"]  # its halves went out instead
    assert (lost["state"], lost["outcome"], lost["was_in_doubt"]) == ("split", "unknown", True)
    assert (lost["task_id"], lost["accepted"], lost["profiles"]) == (None, None, 2)
    assert [task["profiles"] for task in tasks] == [1, 1, 1, 1, 1]  # no larger body was accepted
    assert [task["task_id"] for task in tasks] == [task.id for task in sandbox.tasks]
    assert delivered_by(report) == len(sandbox.entries) == 5
    assert [task["bytes"] for task in tasks] == [t.body_bytes for t in sandbox.tasks]
    assert [task["polls"] for task in tasks] == [len(t.polls) for t in sandbox.tasks]
    assert [task["retries"] for task in tasks] == [1, 0, 0, 0, 0]
    for task in tasks:
        assert task["submitted"] <= task["accepted"] <= task["finished"] <= report["seconds"]
    assert report["settings"]["workflow_id"] == 1
    assert "token" not in report["settings"]


def test_a_report_shows_no_setting_that_may_hold_a_secret_or_an_address(
    deliver: Deliver, path: Path
) -> None:
    settings = {
        "report_path": str(path),
        "api_token": "hush",
        "content": {"reply_to": "hush@example.com"},
        "batch_config": {
            "encoding": {"format": "jsonl"},
            "storage": {"root": "s3://bucket", "params": {"secret": "hush"}},
        },
    }
    assert deliver([schema(), customer(1), state(1)], settings).status == 0
    assert "hush" not in path.read_text(encoding="utf-8")
    assert read(path)["settings"]["report_path"] == str(path)


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
    assert report["streams"]["customers"]["skipped"] == {"delivered before": 3}
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


def test_a_report_says_where_to_and_up_to_which_record(
    sandbox: Sandbox, deliver: Deliver, path: Path
) -> None:
    sandbox.add_fault("task", "failed", where="c3@example.com", text="No room")
    settings = {
        "report_path": str(path),
        "batch_size_rows": 1,
        "max_in_flight": 1,
        "streams": {"orders": {"workflow_id": 2}},
    }
    messages = [schema(), customer(1), state(1), customer(2), state(2), schema("orders")]
    messages += [customer(3, "orders"), state("secret-bookmark")]
    assert deliver(messages, settings).bookmarks == [1, 2]
    report = read(path)
    assert report["host"] == f"127.0.0.1:{sandbox.port}"
    assert report["scenarios"] == {
        "customers": {"workflow_id": 1, "name": "Welcome series"},
        "orders": {"workflow_id": 2, "name": "Order follow-up"},
    }
    printed_at = report["state"].pop("printed_at")
    assert report["started_at"] <= printed_at <= report["ended_at"]
    assert report["state"] == {"covers": 2, "records": 3}
    assert "secret-bookmark" not in path.read_text(encoding="utf-8")


def test_a_report_of_a_run_that_asked_for_no_scenario_has_its_number(
    deliver: Deliver, path: Path
) -> None:
    settings = {"report_path": str(path), "check_workflow": False}
    assert deliver([schema(), customer(1)], settings).status == 0
    report = read(path)
    assert report["scenarios"] == {"customers": {"workflow_id": 1, "name": ""}}
    assert report["state"] == {"printed_at": None, "covers": 0, "records": 1}


def test_a_page_holds_everything_it_needs(deliver: Deliver, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert deliver([schema(), customer(1), state(1)], {"report_path": str(path)}).status == 0
    page = path.read_text(encoding="utf-8")
    assert "<svg" in page
    for said in ("ended well", "Welcome series", "covers all records (1)", "127.0.0.1:"):
        assert said in page
    for outside in ("http:", "https:", "src=", "href=", "<script"):
        assert outside not in page.replace("<wbr>", "").replace("http://127.0.0.1", "")
    assert "example.com" not in page


def test_a_report_in_a_folder_that_is_missing_is_refused_at_the_start(
    sandbox: Sandbox, deliver: Deliver, tmp_path: Path
) -> None:
    settings = {"report_path": str(tmp_path / "missing" / "report.html")}
    result = deliver([schema(), customer(1), state(1)], settings)
    assert (result.status, result.states) == (1, [])
    assert "report_path" in result.error
    assert sandbox.entries == []


def test_a_report_whose_name_is_too_long_is_known_before_the_run(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    result = deliver([schema(), customer(1), state(1)], {"report_path": f"{'a' * 5000}.html"})
    assert (result.status, sandbox.requests) == (1, [])
    assert result.error.startswith("report_path: ")
    assert result.error.endswith("is no path that the system takes")


@pytest.mark.parametrize("kind", ["json", "html"])
def test_half_a_character_in_a_setting_does_not_cost_the_report(
    deliver: Deliver, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"report.{kind}"
    settings = {"report_path": str(path), "deleted_column": "a\ud83d"}
    result = deliver([schema(), customer(1), state(1)], settings)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert "a\\ud83d" in path.read_text(encoding="utf-8")
    if kind == "json":
        assert read(path)["settings"]["deleted_column"] == "a\ud83d"


def test_a_report_that_cannot_be_written_in_the_end_warns(
    config: dict[str, t.Any], tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    settings = {**config, "report_path": str(folder / "report.html"), "batch_size_rows": 1}
    with TargetProcess(settings, tmp_path) as target:
        target.feed([schema(), customer(1), state(1)])
        wait_for(target.states, "the run goes well")
        folder.rmdir()
        target.close_input()
        result = target.wait()
    assert (result.status, result.bookmarks) == (0, [1])
    assert sum("report_path: " in line for line in result.log("WARNING")) == 1


def test_a_report_of_another_kind_is_refused(deliver: Deliver) -> None:
    result = deliver([], {"report_path": "report.txt"})
    assert result.status == 1
    assert "report_path must end in" in result.error


# What requests report


class Reported:
    """A report whose clock stands still until it is moved, and one request of it."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        monkeypatch.setattr("time.monotonic", lambda: self.seconds)
        self.path = path
        self.report = Report(str(path))

    def walk(self, *states: str, number: int = 1, **last: t.Any) -> None:
        """Report one state after the other, the first at second 1, the next at second 2, ..."""
        for state_name in states:
            self.seconds += 1.0
            more = last if state_name == states[-1] else {}
            self.report.request(
                number,
                **{"batch": 3, "stream": "customers", "profiles": 5, "size": 700, **more},
                state=state_name,
            )

    def tasks(self, settings: t.Any = None, message: str | None = None) -> list[dict[str, t.Any]]:
        self.report.write(Summary(), settings or {}, 0, message, records=0)
        return t.cast("list[dict[str, t.Any]]", read(self.path)["tasks"])

    def task(self) -> dict[str, t.Any]:
        (only,) = self.tasks()
        return only


@pytest.fixture
def reported(path: Path, monkeypatch: pytest.MonkeyPatch) -> Reported:
    return Reported(path, monkeypatch)


SENT = ("unsent", "on the wire")
TAKEN = (*SENT, "accepted")
WALKS = [  # states at second 1, 2, ...; the outcome; submitted, accepted and finished
    (SENT, "unknown", (2, None, None)),
    ((*SENT, "unsent"), "not accepted", (2, None, 3)),
    ((*SENT, "unsent", "on the wire"), "unknown", (2, None, None)),
    (TAKEN, "in flight", (2, 3, None)),
    ((*TAKEN, "completed"), "delivered", (2, 3, 4)),
    ((*TAKEN, "failed"), "failed", (2, 3, 4)),
    ((*TAKEN, "vanished"), "unknown", (2, 3, 4)),
    ((*TAKEN, "unfinished"), "in flight", (2, 3, None)),
    ((*SENT, "untraceable"), "unknown", (2, 3, 3)),
    ((*SENT, "refused"), "not accepted", (2, None, 3)),
    ((*SENT, "too large"), "not accepted", (2, None, 3)),
    ((*SENT, "too large", "split"), "not accepted", (2, None, 4)),
    ((*SENT, "split"), "not accepted", (2, None, 3)),
    ((*SENT, "in doubt"), "unknown", (2, None, 3)),
    ((*SENT, "in doubt", "sent again"), "unknown", (2, None, None)),
    ((*SENT, "in doubt", "sent again", "in doubt"), "unknown", (2, None, 5)),
    ((*SENT, "in doubt", "sent again", "accepted", "completed"), "delivered", (2, 5, 6)),
    ((*SENT, "in doubt", "sent again", "refused in doubt"), "unknown", (2, None, 5)),
    ((*SENT, "in doubt", "sent again", "too large in doubt"), "unknown", (2, None, 5)),
    ((*SENT, "in doubt", "sent again", "too large in doubt", "split"), "unknown", (2, None, 6)),
    ((*SENT, "in doubt", "split"), "unknown", (2, None, 4)),
]


@pytest.mark.parametrize(("states", "outcome", "times"), WALKS)
def test_states_of_a_request_become_an_outcome_and_times(
    reported: Reported,
    states: tuple[str, ...],
    outcome: str,
    times: tuple[float | None, float | None, float | None],
) -> None:
    reported.walk(*states)
    task = reported.task()
    assert (task["state"], task["outcome"]) == (states[-1], outcome)
    assert (task["submitted"], task["accepted"], task["finished"]) == times
    assert task["was_in_doubt"] is ("in doubt" in states)


def test_every_state_is_walked_through_and_has_a_colour_of_the_legend() -> None:
    assert {state_name for states, _, _ in WALKS for state_name in states} == set(STATES)
    assert {outcome for _, outcome, _ in WALKS} | {"partly rejected"} == set(TONES)


def test_snapshot_stands_in_the_report_as_it_was_last(reported: Reported) -> None:
    last: dict[str, t.Any] = {"task_id": "7f3a", "attempts": 3, "polls": 4, "rejected": 2}
    reported.walk(*TAKEN, "completed", **last)
    assert reported.task() == {
        "batch": 3,
        "stream": "customers",
        "profiles": 5,
        "bytes": 700,
        "state": "completed",
        "outcome": "partly rejected",
        "submitted": 2.0,
        "accepted": 3.0,
        "finished": 4.0,
        "task_id": "7f3a",
        "polls": 4,
        "retries": 2,
        "rejected": 2,
        "was_in_doubt": False,
    }


def test_same_state_again_changes_counts_and_no_time(reported: Reported) -> None:
    reported.walk(*TAKEN, "accepted", "completed", "completed", polls=9)
    task = reported.task()
    assert (task["accepted"], task["finished"], task["polls"]) == (3, 5, 9)


def test_requests_that_never_were_on_the_wire_are_left_out(reported: Reported) -> None:
    reported.walk("unsent", "split", number=1)
    reported.walk("accepted", "completed", number=2)  # of an earlier run
    reported.walk(*SENT, number=3)
    assert [task["outcome"] for task in reported.tasks()] == ["unknown"]


def test_requests_stand_in_the_order_in_which_they_came(reported: Reported) -> None:
    for number in (5, 2, 9):
        reported.walk(*SENT, number=number, batch=number)
    reported.walk("accepted", number=2, batch=2)
    assert [task["batch"] for task in reported.tasks()] == [5, 2, 9]


def test_state_that_nobody_knows_is_refused(reported: Reported) -> None:
    with pytest.raises(KeyError):
        reported.walk("lost in the post")


def test_without_a_path_nothing_is_kept_or_written(tmp_path: Path) -> None:
    report = Report(None)
    about: dict[str, t.Any] = {"batch": 1, "stream": "customers", "profiles": 5, "size": 700}
    before = vars(report).copy()
    for number in range(1000):
        report.request(number, **about, state="whatever")
    report.write(Summary(), {}, 0, None, records=0)
    assert vars(report) == before
    assert list(tmp_path.iterdir()) == []


def test_workers_may_report_at_the_same_time(path: Path) -> None:
    report = Report(str(path))

    def work(worker: int) -> None:
        about: dict[str, t.Any] = {"stream": "customers", "profiles": 5, "size": 700}
        for n in range(200):
            for state_name in (*TAKEN, "completed"):
                report.request(1000 * worker + n, batch=worker, **about, state=state_name)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    report.write(Summary(), {}, 0, None, records=0)
    for thread in threads:
        thread.join()
    report.write(Summary(), {}, 0, None, records=0)
    assert [task["outcome"] for task in read(path)["tasks"]] == ["delivered"] * 800


def test_settings_and_counts_are_written_as_they_are_given(path: Path) -> None:
    summary = Summary()
    summary.read["customers"] = 3
    summary.deliver("customers", 2)
    summary.reject("customers", "schema")
    settings = {"workflow_id": 1, "rate": Decimal("0.5")}
    Report(str(path)).write(summary, settings, 1, "it broke", records=3)
    report = read(path)
    assert (report["exit_status"], report["message"]) == (1, "it broke")
    assert report["settings"] == {"workflow_id": 1, "rate": "0.5"}
    assert report["streams"] == {n: c.as_dict() for n, c in summary.streams().items()}


def test_report_that_cannot_be_written_leaves_no_file_behind(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        Report(str(path)).write(Summary(), {}, 0, None, records=0)
    assert list(tmp_path.iterdir()) == [path]


def test_a_person_at_a_terminal_sees_a_live_line(config: dict[str, t.Any], tmp_path: Path) -> None:
    messages = [schema(), customer(1), state(1)]
    for variables, is_live in (({}, True), ({"MELTANO_PROJECT_ROOT": "/project"}, False)):
        shown = at_a_terminal(config, tmp_path, messages, shows_stdout=False, **variables)
        assert any("1 read, 0 in flight" in line for line in shown) is is_live
