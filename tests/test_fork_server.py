"""The fork server gives tests real processes, sooner."""

from __future__ import annotations

import os
import signal
import subprocess
import typing as t

import pytest
from fork_server import ForkServer
from harness import TargetProcess, customer, schema, state, wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from target_altcraft.sandbox import Sandbox


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer() as running:
        yield running


def test_a_fork_delivers_as_the_command_does(
    server: ForkServer, sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    for runs in (1, 2):
        with TargetProcess(config, tmp_path, server=server) as target:
            target.feed_in_background([schema(), customer(1), state(runs)])
            result = target.wait()
        assert (result.status, result.bookmarks) == (0, [runs])
        assert len(sandbox.entries) == runs
        assert "delivered: 1" in result.stderr


def test_a_failure_is_an_exit_status(server: ForkServer, tmp_path: Path) -> None:
    with TargetProcess({"token": "t"}, tmp_path, server=server) as target:
        result = target.wait()
    assert (result.status, result.states) == (1, [])
    assert "api_url must be set" in result.error


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_a_fork_is_killed_and_reaped(
    server: ForkServer,
    sandbox: Sandbox,
    config: dict[str, t.Any],
    tmp_path: Path,
    signum: signal.Signals,
    status: int,
) -> None:
    sandbox.add_fault("task", "stuck")
    with TargetProcess({**config, "shutdown_seconds": 0}, tmp_path, server=server) as target:
        target.feed([schema(), customer(1), state(1)])
        target.close_input()
        wait_for(lambda: "accepted as task" in target.log(), "the run is at work")
        assert target.process.poll() is None
        assert os.getsid(target.process.pid) == target.process.pid
        with pytest.raises(subprocess.TimeoutExpired):
            target.process.wait(0)
        target.terminate(signum)
        assert target.wait().status == status
    with pytest.raises(ProcessLookupError):
        os.kill(target.process.pid, 0)
    target.terminate(signum)  # hits nobody


def test_a_fork_has_its_own_environment_arguments_and_patches(
    server: ForkServer, sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    with TargetProcess(
        {},
        tmp_path,
        args=["--config", "ENV"],
        env={f"TARGET_ALTCRAFT_{name.upper()}": str(value) for name, value in config.items()},
        server=server,
        patches={"target_altcraft.errors:_SHOWN_CHARACTERS": 9},
    ) as target:
        sandbox.add_fault("submit", "http", status=418, text="I am a teapot")
        target.feed_in_background([schema(), customer(1)])
        assert "I am a t…" in target.wait().error
    with TargetProcess(config, tmp_path, server=server) as target:
        sandbox.add_fault("submit", "http", status=418, text="I am a teapot")
        target.feed_in_background([schema(), customer(1)])
        assert "I am a teapot" in target.wait().error


def test_the_end_of_the_server_is_the_end_of_its_forks(tmp_path: Path) -> None:
    with ForkServer() as server:
        process = server.start(["--help"], tmp_path, {**os.environ})
        assert process.stdout
        assert b"--config" in process.stdout.read()
        assert process.wait(10) == 0
        config = '{"api_url": "http://127.0.0.1:9", "token": "t"}'
        (tmp_path / "config.json").write_text(config, encoding="utf-8")
        other = server.start(["--config", "config.json"], tmp_path, {**os.environ})
        assert other.poll() is None
    with pytest.raises(ProcessLookupError):
        os.kill(other.pid, 0)
    with pytest.raises(AssertionError, match="has gone"):
        other.wait(10)
    for pipe in (process, other):
        for file in (pipe.stdin, pipe.stdout, pipe.stderr):
            assert file
            file.close()
