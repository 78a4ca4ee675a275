"""What stands around the code: workflows, hooks, forms, the container; see also `make lint`."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from test_packaging import PROJECT

ROOT = Path(__file__).resolve().parent.parent
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
VERSION = "Programming Language :: Python :: 3."
PYTHONS = [each.split()[-1] for each in PROJECT["classifiers"] if each.startswith(VERSION)]


def read(path: Path) -> dict[str, t.Any]:
    loaded = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def name_of(path: Path) -> str:
    return path.name


# Workflows


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_every_action_is_pinned_by_a_commit_and_says_its_version(path: Path) -> None:
    used = re.findall(r"uses: (.+)", path.read_text("utf-8"))
    assert used
    for each in used:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+|\$/\S+", each)


def test_an_action_has_one_version_in_all_workflows() -> None:
    text = "".join(path.read_text("utf-8") for path in WORKFLOWS)
    used = {each.partition("@")[::2] for each in re.findall(r"uses: ([^$].+)", text)}
    assert len(used) == len({name for name, _ in used})


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_a_workflow_may_do_nothing_but_what_each_job_says(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        expected = {"id-token": "write"} if name == "publish" else {"contents": "read"}
        assert job["permissions"] == expected, name
        for step in job.get("steps", []):
            if "actions/checkout@" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_the_tests_run_on_every_python_that_is_supported() -> None:
    jobs = read(GITHUB / "workflows" / "ci.yml")["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == PYTHONS


def test_a_release_waits_for_everything_else() -> None:
    jobs = read(GITHUB / "workflows" / "release.yml")["jobs"]
    publish = jobs.pop("publish")
    assert set(publish["needs"]) == jobs.keys()
    assert publish["environment"] == "pypi"
    assert jobs["ci"]["uses"] == "$/.github/workflows/ci.yml"


# nox


def sessions(path: str) -> list[str]:
    """The sessions that nox would run."""
    done = subprocess.run(
        [sys.executable, "-m", "nox", "--list"],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "PYENV_ROOT": os.devnull, "HOME": os.devnull},
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    return re.findall(r"^\* tests-(\S+)", done.stdout, re.MULTILINE)


def test_nox_takes_the_newest_python_where_it_is_present(tmp_path: Path) -> None:
    newest = tmp_path / f"python{PYTHONS[-1]}"
    newest.write_text("#!/bin/sh\n")
    newest.chmod(0o700)
    assert sessions(str(tmp_path)) == PYTHONS
    newest.unlink()
    assert sessions(str(tmp_path)) == PYTHONS[:-1]


# Hooks, forms


def test_the_hooks_run_what_make_lint_runs() -> None:
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    hooks = {Path(hook["entry"].split()[0]).name for hook in repository["hooks"]}
    recipe = (ROOT / "Makefile").read_text("utf-8").partition("\nlint:")[2].partition("\n\n")[0]
    assert hooks == set(re.findall(r"\$\(BIN\)/(\S+)", recipe)) - {"pre-commit"}


def test_the_form_for_faults_asks_for_version_command_and_log() -> None:
    body = read(GITHUB / "ISSUE_TEMPLATE" / "bug.yml")["body"]
    required = {each["id"] for each in body if each.get("validations", {}).get("required")}
    assert {"version", "command", "log"} <= required


def test_dependabot_waits_a_week_and_looks_after_all_that_is_pinned() -> None:
    updates = read(GITHUB / "dependabot.yml")["updates"]
    assert {each["package-ecosystem"] for each in updates} == {"github-actions", "pip", "docker"}
    assert all(each["cooldown"]["default-days"] >= 7 for each in updates)


# Files with secrets, and files about customers


@pytest.mark.parametrize("path", [".env", "secrets.env", "altcraft/journal.sqlite"])
def test_git_takes_no_secrets_and_nothing_about_customers(path: str) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no clone")
    command = ["git", "check-ignore", "--quiet", "--no-index", path]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def test_the_example_of_an_environment_holds_no_values() -> None:
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == [
        "TARGET_ALTCRAFT_TOKEN=",
        "TAP_POSTGRES_PASSWORD=",
    ]


# The container


def test_the_container_runs_as_another_user_with_its_memory_on_volumes() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    (user,) = re.findall(r"^USER (\d+)$", final, re.MULTILINE)
    assert int(user) > 0
    assert f"--uid {user} " in final
    (volumes,) = re.findall(r"^VOLUME (.+)$", final, re.MULTILINE)
    assert ast.literal_eval(volumes) == ["/project/altcraft", "/state"]
    assert "MELTANO_DATABASE_URI=sqlite:////state/" in final


def test_the_container_has_a_supported_python_and_the_meltano_that_is_tested() -> None:
    versions = re.findall(r"^FROM python:([\d.]+)-", DOCKERFILE, re.MULTILINE)
    assert len(set(versions)) == 1
    assert set(versions) <= set(PYTHONS)
    (meltano,) = (r for r in PROJECT["optional-dependencies"]["demo"] if r.startswith("meltano"))
    assert f"'{meltano}'" in DOCKERFILE


def test_what_the_package_is_built_from_gets_into_the_container() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert let_in == {
        "pyproject.toml",
        "README.md",
        *PROJECT["license-files"],
        "target_altcraft",
    }
    assert "*" in lines
