"""The recipe for a container, without one: what is not on a volume is gone after each run."""

from __future__ import annotations

import os
import re
import shutil
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
RECIPES = (ROOT / "docs" / "recipes.md").read_text("utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")

TAP = """#!/bin/sh
echo "$*" > '{folder}/asked'
cat '{folder}/input'
"""


class Container:
    """A container's file system: `meltano.yml` of the image, and two volumes."""

    def __init__(self, folder: Path, meltano: Path, sandbox: Sandbox) -> None:
        self._folder, self._meltano = folder, meltano
        self._volume = folder / "altcraft"
        self._volume.mkdir()
        (folder / "state").mkdir()
        (folder / "bin").mkdir()
        self._program("tap-file", TAP.format(folder=folder))
        # Meltano takes PYTHONPATH away; it is to be the target of this checkout all the same.
        target = f"#!/bin/sh\nPYTHONPATH='{ROOT}' exec '{COMMAND}' \"$@\"\n"
        self._program("target-altcraft", target)
        block = RECIPES.partition("```yaml recipe=container loader\n")[2].partition("\n```\n")[0]
        (loader,) = yaml.safe_load(block)["loaders"]
        loader["settings"] = [{"name": "token", "kind": "string", "sensitive": True}]
        loader["config"] = {
            "api_url": sandbox.url,
            "poll_interval_seconds": 0.05,
            "journal_path": "$MELTANO_PROJECT_ROOT/altcraft/journal.sqlite",
            "streams": {"customers": {"workflow_id": 1}},
        }
        tap = {"name": "tap-file", "namespace": "tap_file", "executable": "tap-file"}
        self._file = {
            "project_id": "container",
            "send_anonymous_usage_stats": False,
            "default_environment": "prod",
            "environments": [{"name": "prod"}],
            "plugins": {"extractors": [{**tap, "capabilities": ["state"]}], "loaders": [loader]},
        }

    def _program(self, name: str, text: str) -> None:
        path = self._folder / "bin" / name
        path.write_text(text, "utf-8")
        path.chmod(0o700)

    def run(self) -> tuple[str, str]:
        """Run once in a new container; return the tap's arguments and the log."""
        project = self._folder / "project"
        project.mkdir()
        (project / "meltano.yml").write_text(yaml.safe_dump(self._file), "utf-8")
        (project / "altcraft").symlink_to(self._volume)
        foreign = ("MELTANO_", "TARGET_ALTCRAFT_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        (database,) = re.findall(r"^ENV MELTANO_DATABASE_URI=(\S+)$", DOCKERFILE, re.MULTILINE)
        env["MELTANO_DATABASE_URI"] = database.replace("////", f"///{self._folder}/")
        env["TARGET_ALTCRAFT_TOKEN"] = TOKEN
        env["PATH"] = os.pathsep.join([str(self._folder / "bin"), os.environ["PATH"]])
        done = subprocess.run(
            [str(self._meltano), "run", "tap-file", "target-altcraft"],
            cwd=project,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            encoding="utf-8",
            timeout=120,
        )
        assert done.returncode == 0, done.stdout
        shutil.rmtree(project)
        return (self._folder / "asked").read_text("utf-8"), done.stdout


def test_a_new_container_goes_on_where_the_last_one_ended(
    meltano: Path, sandbox: Sandbox, tmp_path: Path
) -> None:
    container = Container(tmp_path, meltano, sandbox)
    feed = tmp_path / "input"
    head = {**schema(), "bookmark_properties": ["id"]}
    feed.write_text("".join(lines([head, customer(1), customer(2), state(2)])), "utf-8")
    asked, log = container.run()
    assert "--state" not in asked, log
    feed.write_text("".join(lines([head, customer(2), customer(3), state(3)])), "utf-8")
    asked, log = container.run()
    assert "--state" in asked, log
    assert "skipped, delivered before: 1" in log
    assert [entry["data"]["id"] for entry in sandbox.entries] == [1, 2, 3]
