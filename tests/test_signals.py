"""How a run ends when it is told to, or when nobody listens."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
from harness import COMMAND, TargetProcess, customer, lines, schema, state, wait_for, wait_until

if t.TYPE_CHECKING:
    from target_altcraft.sandbox import Sandbox


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_acknowledges_what_is_completed_and_nothing_else(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path, signum: int
) -> None:
    for email in ("c2@example.com", "c3@example.com"):
        sandbox.add_fault("task", "stuck", where=email)
    settings = {**config, "batch_size_rows": 1, "shutdown_seconds": 1}
    with TargetProcess(settings, tmp_path) as target:
        messages: list[t.Any] = [schema()]
        for n in range(4):
            messages += [customer(n), state(n)]
        target.feed(messages)
        wait_for(lambda: {"bookmark": 1} in target.states(), "two batches are completed")
        wait_for(lambda: len(sandbox.tasks) == 4, "two more are in flight")
        asked = time.monotonic()
        target.terminate(signum)
        result = target.wait()
    assert result.status == 128 + signum
    assert result.bookmarks[-1] == 1
    assert time.monotonic() - asked < 1 + 3
    abandoned = [line for line in result.errors if line.startswith("abandoned: ")]
    assert len(abandoned) == 2
    stuck = [task for task in sandbox.tasks if task.keys[0] in {"c2@example.com", "c3@example.com"}]
    assert {task.id for task in stuck} == {
        line.split("task ")[1][: len(stuck[0].id)] for line in abandoned
    }
    for line in abandoned:
        assert "(1 profiles)" in line
        assert "a rerun without journal_path sends these again" in line


def test_a_signal_waits_for_tasks_that_end_in_time(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    sandbox.task_seconds = 0.7
    with TargetProcess({**config, "batch_size_rows": 1}, tmp_path) as target:
        target.feed([schema(), customer(1), state(1), customer(2)])
        wait_for(lambda: len(sandbox.tasks) == 2, "two tasks")
        target.terminate()
        result = target.wait()
    assert result.status == 128 + signal.SIGTERM
    assert result.bookmarks == [1]
    assert "abandoned" not in result.stderr


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        ("signal", 128 + signal.SIGTERM, "stopped by signal 15"),
        ("broken line", 1, "line 4 of the input is not valid JSON in UTF-8"),
    ],
)
def test_a_task_that_fails_while_the_run_is_ending_is_said_to_have_failed(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path, ending: str, status: int, said: str
) -> None:
    sandbox.task_seconds = 1.0
    sandbox.add_fault("task", "failed")
    with TargetProcess({**config, "batch_size_rows": 1}, tmp_path) as target:
        target.feed([schema(), customer(1), state(1)])
        wait_for(lambda: len(sandbox.tasks) == 1, "a task")
        if ending == "signal":
            target.terminate()
        else:
            target.feed(["no JSON"])
            target.close_input()
        result = target.wait()
    assert result.status == status
    assert result.states == []
    also, last = result.errors
    assert also.startswith("and also: stream 'customers', batch 1 (1 profiles), task ")
    assert "ended as 'failed'" in also
    assert last == said


def test_a_signal_during_the_wait_to_send_again_leaves_the_outcome_unknown(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    sandbox.add_fault("submit", "reset_after", accept=True)
    sandbox.add_fault("submit", "http", after=1, times=None, retry_after="60")
    settings = {**config, "batch_size_rows": 1, "retry_max_seconds": 100}
    with TargetProcess(settings, tmp_path) as target:
        target.feed([schema(), customer(1), state(1)])
        wait_for(lambda: len(sandbox.requests) >= 3, "the second attempt is put off")
        target.terminate()
        result = target.wait()
    assert result.status == 128 + signal.SIGTERM
    assert "profiles not sent" not in result.stderr
    also, stopped = result.errors
    assert "it is unknown whether its 1 profiles were accepted" in also
    assert stopped == "stopped by signal 15"


def test_a_second_signal_ends_the_run_at_once(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    sandbox.add_fault("task", "stuck")
    with TargetProcess({**config, "batch_size_rows": 1}, tmp_path) as target:
        target.feed([schema(), customer(1), state(1)])
        wait_for(lambda: len(sandbox.tasks) == 1, "a task")
        target.terminate()
        wait_until(time.monotonic() + 1.0)
        target.terminate(signal.SIGINT)
        result = target.wait(10)
    assert result.status in {128 + signal.SIGINT, 128 + signal.SIGTERM}
    assert result.states == []


def test_a_call_without_an_answer_does_not_hold_up_the_end(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    sandbox.add_fault("status", "timeout", times=None)
    settings = {**config, "request_timeout_seconds": 600, "shutdown_seconds": 0}
    with TargetProcess({**settings, "batch_size_rows": 1}, tmp_path) as target:
        target.feed([schema(), customer(1), state(1)])
        wait_for(lambda: sandbox.tasks and sandbox.tasks[0].polls, "its status is asked for")
        target.terminate()
        result = target.wait()
    assert result.status == 128 + signal.SIGTERM
    assert "abandoned: stream 'customers', batch 1" in result.stderr


def test_a_second_signal_at_the_same_moment_is_the_same_wish(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    sandbox.task_seconds = 1.5
    with TargetProcess({**config, "batch_size_rows": 1}, tmp_path) as target:
        target.feed([schema(), customer(1), state(1)])
        wait_for(lambda: len(sandbox.tasks) == 1, "a task")
        target.terminate()
        target.terminate()
        target.terminate(signal.SIGINT)
        result = target.wait(20)
    assert result.status in {128 + signal.SIGINT, 128 + signal.SIGTERM}
    assert result.bookmarks == [1]  # the task in flight was awaited


@pytest.mark.parametrize("send_again", ["new_version", "always"])
def test_what_the_message_of_a_closed_stdout_says_of_a_rerun_is_true(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path, send_again: str
) -> None:
    path = tmp_path / "config.json"
    settings = {"journal_path": str(tmp_path / "journal"), "send_again": send_again}
    path.write_text(json.dumps({**config, **settings, "batch_size_rows": 2}), encoding="utf-8")
    messages = [schema(key_properties=["id"], bookmark_properties=["id"])]
    messages += [message for n in range(1, 7) for message in (customer(n), state(n))]

    def run(stdout: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, "--config", str(path)],
            input="".join(lines(messages)),
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )

    reading, writing = os.pipe()
    os.close(reading)
    done = run(writing)
    os.close(writing)
    assert done.returncode == 1
    assert "a rerun sends again only what is not known to be delivered" in done.stderr
    delivered = len(sandbox.entries)
    assert delivered
    assert run(subprocess.PIPE).returncode == 0
    emails = [entry["data"]["email"] for entry in sandbox.entries]
    assert sorted(emails) == sorted(f"c{n}@example.com" for n in range(1, 7))


def test_a_closed_stdout_ends_the_run_with_a_message(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**config, "batch_size_rows": 1}), encoding="utf-8")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [COMMAND, "--config", str(path)],
        input="".join(lines([schema(), customer(1), state(1), customer(2), state(2)])),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writing)
    assert done.returncode == 1
    assert "STATE cannot be written to stdout: Broken pipe" in done.stderr
    assert "Traceback" not in done.stderr
    assert sandbox.entries


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_stdout_ends_the_run_with_a_message(
    config: dict[str, t.Any], tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [COMMAND, "--config", str(path)],
            input="".join(lines([schema(), customer(1), state(1)])),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert "STATE cannot be written to stdout: No space left on device" in done.stderr


@pytest.mark.parametrize("seed", range(int(os.environ.get("SOAK_SIGNALS", "12"))))
def test_a_signal_at_any_moment_never_hangs_and_never_breaks_a_line(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    sandbox.task_seconds = lambda _number, _entries: rng.choice([0.0, 0.1, 0.3])
    settings = {**config, "batch_size_rows": 5, "shutdown_seconds": rng.choice([0, 0.2, 2])}
    patience = rng.uniform(0.0, 1.5)
    with TargetProcess(settings, tmp_path) as target:

        def endless() -> t.Iterator[dict[str, t.Any]]:
            yield schema()
            for n in range(200_000):
                yield customer(n)
                if n % 3 == 0:
                    yield state(n)

        target.feed_in_background(endless())
        wait_until(time.monotonic() + patience)
        target.terminate()
        result = target.wait(settings["shutdown_seconds"] + 10)
    assert result.status in {128 + signal.SIGTERM, -signal.SIGTERM}, result.stderr
    assert result.stdout == "" or result.stdout.endswith("\n")
    done = {
        int(entry["data"]["id"])
        for task in sandbox.tasks
        for entry in task.entries
        if task.ends_at is not None
    }
    for seen, bookmark in zip(result.state_times, result.bookmarks, strict=True):
        assert set(range(bookmark + 1)) <= done
        assert seen
