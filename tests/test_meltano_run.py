"""The target as Meltano starts it: `meltano run`, with brakes that are set for a run."""

from __future__ import annotations

import os
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml
from harness import COMMAND, TOKEN, customer, lines, schema, state

if t.TYPE_CHECKING:
    from target_altcraft.sandbox import Sandbox

pytestmark = pytest.mark.timeout(600)  # the first run installs Meltano

ROOT = Path(__file__).resolve().parent.parent

BRAKES = {
    "TARGET_ALTCRAFT_BASELINE": "false",
    "TARGET_ALTCRAFT_CANARY_ROWS": "2",
    "TARGET_ALTCRAFT_MAX_PROFILES": "50",
    "TARGET_ALTCRAFT_MAX_REJECTS": "0",
    "TARGET_ALTCRAFT_MAX_REJECT_PERCENT": "2.5",
}


class Project:
    """A project with a tap that writes a file, and the target.

    Args:
        meltano: The command.
        folder: Where it is made.
        settings: What the loader defines.
        config: The loader's configuration.
    """

    def __init__(
        self, meltano: Path, folder: Path, settings: list[t.Any], config: dict[str, t.Any]
    ) -> None:
        self._meltano = meltano
        self._folder = folder
        tap, target = folder / "tap", folder / "target"
        tap.write_text(f"#!/bin/sh\ncat '{folder}/input'\n", "utf-8")
        # Meltano takes PYTHONPATH away; it is to be the target of this checkout all the same.
        target.write_text(f"#!/bin/sh\nPYTHONPATH='{ROOT}' exec '{COMMAND}' \"$@\"\n", "utf-8")
        for program in (tap, target):
            program.chmod(0o700)
        messages = [schema(), *map(customer, range(9)), state(1)]
        (folder / "input").write_text("".join(lines(messages)), "utf-8")
        loader = {
            "name": "target-altcraft",
            "namespace": "target_altcraft",
            "executable": str(target),
            "settings": settings,
            "config": config,
        }
        extractor = {"name": "tap-file", "namespace": "tap_file", "executable": str(tap)}
        project = {
            "project_id": "brakes",
            "send_anonymous_usage_stats": False,
            "default_environment": "test",
            "environments": [{"name": "test"}],
            "plugins": {"extractors": [extractor], "loaders": [loader]},
        }
        (folder / "meltano.yml").write_text(yaml.safe_dump(project), "utf-8")

    def run(self, **environment: str) -> tuple[int, str]:
        """Return the status of a run, and its log."""
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TARGET_ALTCRAFT", "MELTANO"))
        }
        done = subprocess.run(
            [str(self._meltano), "run", "--force", "tap-file", "target-altcraft"],
            cwd=self._folder,
            env={**clean, "NO_COLOR": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            encoding="utf-8",
            timeout=120,
        )
        return done.returncode, done.stdout


@pytest.fixture
def given(sandbox: Sandbox) -> dict[str, t.Any]:
    return {
        "api_url": sandbox.url,
        "token": TOKEN,
        "poll_interval_seconds": 0.05,
        "streams": {"customers": {"workflow_id": 1, "content": {"shop": "north"}}},
        "subscriptions": [{"channel": "email", "resource_id": 7}],
        "stream_maps": {"customers": {"city": "'Perm'"}},
    }


def test_brakes_that_meltano_knows_are_in_force(
    meltano: Path, given: dict[str, t.Any], sandbox: Sandbox, tmp_path: Path
) -> None:
    (loader,) = yaml.safe_load((ROOT / "meltano.yml").read_text("utf-8"))["plugins"]["loaders"]
    given |= {"resend": ["orders"], "journal_path": str(tmp_path / "journal")}
    project = Project(meltano, tmp_path, loader["settings"], given)
    status, log = project.run(TARGET_ALTCRAFT_DRY_RUN="true", **BRAKES)
    assert (status, sandbox.tasks) == (0, []), log
    assert "dry run: nothing is sent" in log
    status, log = project.run(**BRAKES, TARGET_ALTCRAFT_RETRY_MAX_SECONDS="7.5")
    assert status == 0, log
    assert [task.size for task in sandbox.tasks] == [2, 7]
    assert "not in force" not in log
    assert "there is no setting" not in log
    status, log = project.run(TARGET_ALTCRAFT_MAX_PROFILES="1", TARGET_ALTCRAFT_RESEND="true")
    assert status == 1
    assert "more than max_profiles (1)" in log


def test_a_brake_that_meltano_does_not_know_stops_the_run(
    meltano: Path, given: dict[str, t.Any], sandbox: Sandbox, tmp_path: Path
) -> None:
    settings = [{"name": "token", "kind": "string", "sensitive": True}]
    project = Project(meltano, tmp_path, settings, given)
    for variable in ("DRY_RUN", "CANARY_ROWS"):
        status, log = project.run(**{f"TARGET_ALTCRAFT_{variable}": "1"})
        assert (status, sandbox.requests) == (1, []), log
        assert f"TARGET_ALTCRAFT_{variable} is set and not in force" in log
    status, log = project.run(TARGET_ALTCRAFT_DRY_RUN="false")
    assert (status, len(sandbox.entries)) == (0, 9), log
    assert "not in force" not in log
