"""The plugin's definition: valid by Meltano's schema, added by Meltano, and run."""

from __future__ import annotations

import json
import os
import subprocess
import typing as t

import jsonschema
import pytest
import yaml
from harness import TOKEN, lines, record, schema, state
from real_parts import DEFINITION, ROOT, loader_in, production, told_of

if t.TYPE_CHECKING:
    from pathlib import Path

    from target_altcraft.sandbox import Sandbox

    Json = dict[str, t.Any]

pytestmark = pytest.mark.timeout(600)  # the first run installs Meltano, and it the target

OF_THE_HUB = {"keywords", "maintenance_status", "usage"}
"""What the hub shows of a plugin, and Meltano neither knows nor keeps."""


def definition() -> Json:
    return t.cast("Json", yaml.safe_load(DEFINITION.read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def meltanos_schema(meltano: Path) -> Json:
    """The schema of `meltano.yml` that Meltano ships."""
    (path,) = meltano.parent.parent.glob("lib/*/site-packages/meltano/schemas/meltano.schema.json")
    return t.cast("Json", json.loads(path.read_text(encoding="utf-8")))


def faults(schema_: Json, value: object) -> list[str]:
    """What is wrong with a value; Meltano's schema names no dialect that knows all its words."""
    validator = jsonschema.Draft202012Validator(schema_)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def test_the_definition_is_a_loader_by_meltanos_schema(meltanos_schema: Json) -> None:
    of_a_loader = {"$ref": "#/$defs/plugins/loaders", "$defs": meltanos_schema["$defs"]}
    given = definition()
    known = {name: value for name, value in given.items() if name not in OF_THE_HUB}
    assert faults(of_a_loader, known) == []
    assert given.keys() - known.keys() == OF_THE_HUB
    assert faults(of_a_loader, {**known, "colour": "blue"}) != []  # the schema is a closed one
    kinds = {each["kind"] for each in known["settings"]}
    assert kinds == {"string", "integer", "boolean", "options", "object", "array"}


@pytest.mark.parametrize("whose", ["README's", "the demonstration's"])
def test_a_meltano_yml_is_one_by_meltanos_schema(meltanos_schema: Json, whose: str) -> None:
    ours = yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))
    assert faults(meltanos_schema, production() if whose == "README's" else ours) == []


class Project:
    """README's project beside a clone, with a tap that writes a file."""

    def __init__(self, meltano: Path, folder: Path, messages: list[Json]) -> None:
        self.folder = folder / "crm-to-altcraft"
        (self.folder / "altcraft").mkdir(parents=True)
        (folder / "target-altcraft").symlink_to(ROOT)
        tap = folder / "tap"
        tap.write_text(f"#!/bin/sh\ncat '{folder}/input'\n", "utf-8")
        tap.chmod(0o700)
        (folder / "input").write_text("".join(lines(messages)), "utf-8")
        self.file = production()
        (extractor,) = self.file["plugins"]["extractors"]
        del extractor["pip_url"]
        extractor |= {"executable": str(tap), "capabilities": []}
        self.path = self.folder / "meltano.yml"
        self.path.write_text(yaml.safe_dump(self.file), "utf-8")
        self._meltano = meltano
        foreign = ("MELTANO_", "TARGET_ALTCRAFT_")
        self._env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        self._env |= {
            "MELTANO_SEND_ANONYMOUS_USAGE_STATS": "false",
            "NO_COLOR": "1",
            "COLUMNS": "1000",
        }

    def run(self, *arguments: str, **environment: str) -> str:
        """Run Meltano, which must end well; return what it says."""
        done = subprocess.run(
            [str(self._meltano), *arguments],
            cwd=self.folder,
            env={**self._env, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            encoding="utf-8",
            timeout=300,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def now(self) -> Json:
        return t.cast("Json", yaml.safe_load(self.path.read_text(encoding="utf-8")))


def test_the_target_is_added_configured_checked_and_run(
    meltano: Path, meltanos_schema: Json, crm: Sandbox, tmp_path: Path
) -> None:
    columns = ("id", "email", "phone", "first_name", "last_name", "birth_date", "city")
    words = {name: {"type": ["string", "null"]} for name in (*columns, "registered_at")}
    ada = {**dict.fromkeys(words), "id": "15", "email": "ada@example.com"}
    messages = [
        schema("public-customers", words),
        record("public-customers", **ada),
        state(1),
    ]
    project = Project(meltano, tmp_path, messages)
    where = {"TARGET_ALTCRAFT_API_URL": crm.url, "TARGET_ALTCRAFT_TOKEN": TOKEN}
    add = ("add", "--from-ref", "../target-altcraft/target-altcraft.yml", "target-altcraft")

    assert "Installed loader 'target-altcraft'" in project.run(*add)
    (added,) = project.now()["plugins"]["loaders"]
    kept = definition()
    assert {name: added.get(name) for name in kept} == {**kept, **dict.fromkeys(OF_THE_HUB)}
    assert project.now()["environments"] == project.file["environments"]
    assert faults(meltanos_schema, project.now()) == []

    listed = project.run("--environment=prod", "config", "list", "target-altcraft", **where)
    assert "Required settings: api_url, token" in listed
    assert "max_profiles [env: TARGET_ALTCRAFT_MAX_PROFILES] current value: 50000" in listed
    assert TOKEN not in listed
    project.run("--environment=prod", "config", "set", "target-altcraft", "max_profiles", "60000")
    assert loader_in(project.now())["config"]["max_profiles"] == 60000

    # What Meltano does with it once more, after an update: `pip_url` is the definition's again.
    changed = project.now()
    changed["plugins"]["loaders"][0] |= {"pip_url": "elsewhere", "settings": []}
    project.path.write_text(yaml.safe_dump(changed), "utf-8")
    assert "Updated loader 'target-altcraft'" in project.run(*add)
    assert project.now()["plugins"]["loaders"] == [added]
    assert loader_in(project.now())["config"]["max_profiles"] == 60000

    checked = project.run("invoke", "target-altcraft:check", **where)
    assert "12 'Welcome'" in checked
    assert "all right" in checked
    assert crm.tasks == []
    dry = project.run(
        "run", "tap-postgres", "target-altcraft", TARGET_ALTCRAFT_DRY_RUN="true", **where
    )
    assert "dry run: customers" in dry
    assert crm.tasks == []
    project.run("run", "tap-postgres", "target-altcraft", **where)
    assert told_of(crm) == [(12, "email", "ada@example.com")]
    assert (project.folder / "altcraft" / "journal.sqlite").exists()
