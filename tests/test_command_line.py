"""What the two commands say of themselves."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import typing as t
from importlib.metadata import version
from pathlib import Path

import pytest
from harness import COMMAND

from target_altcraft.sandbox.__main__ import _parser
from target_altcraft.target import TargetAltcraft

SANDBOX = str(Path(COMMAND).with_name("altcraft-sandbox"))
VERSION = version("target-altcraft")


def said(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8", timeout=60)
    return done.stdout


def examples(command: str) -> list[str]:
    """The lines of `--help` that begin with a command's name, or pipe into it."""
    lines = said(command, "--help").splitlines()
    return [line.strip() for line in lines if re.match(r" +(\S.* \| )?\S*altcraft\S* -", line)]


@pytest.mark.parametrize("command", [COMMAND, SANDBOX], ids=["target", "sandbox"])
def test_help_has_a_short_name_and_examples(command: str) -> None:
    assert said(command, "-h") == said(command, "--help")
    assert len(examples(command)) >= 3


@pytest.mark.parametrize("command", [COMMAND, SANDBOX], ids=["target", "sandbox"])
def test_version_is_that_of_the_package(command: str) -> None:
    assert said(command, "--version").startswith(f"{Path(command).name} v{VERSION}")


def test_the_examples_of_help_are_command_lines_that_are_understood(tmp_path: Path) -> None:
    config, rejects = tmp_path / "config.json", tmp_path / "mended.jsonl"
    config.write_text("{}", "utf-8")
    rejects.touch()
    for example in examples(COMMAND):
        (*_, ours) = example.split(" | ")
        words = ours.replace("config.json", str(config)).replace("mended.jsonl", str(rejects))
        TargetAltcraft.get_singer_command().make_context("target", shlex.split(words)[1:])
    for example in examples(SANDBOX):
        _parser().parse_args(shlex.split(example)[1:])


def test_config_may_be_given_again_and_the_environment_wins(
    config: dict[str, t.Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = " ".join(said(COMMAND, "--help").split())
    assert "Repeatable: a later file replaces" in words
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    first.write_text(json.dumps({**config, "workflow_id": 98}), "utf-8")
    second.write_text(json.dumps({"workflow_id": 99}), "utf-8")
    files = ["--config", str(first), "--config", str(second)]
    check = [COMMAND, *files, "--check"]

    done = subprocess.run(check, check=False, capture_output=True, encoding="utf-8", timeout=60)
    scenarios = re.findall(r"scenario +(\d+)", done.stdout)
    assert set(scenarios) == {"99"}, done.stdout
    monkeypatch.setenv("TARGET_ALTCRAFT_WORKFLOW_ID", "1")
    for order in (["--config", "ENV", *files], [*files, "--config", "ENV"]):
        assert "1 'Welcome series'" in said(COMMAND, *order, "--check")


def test_about_has_three_forms() -> None:
    text, markdown, data = (
        said(COMMAND, "--about", *form)
        for form in ([], ["--format", "markdown"], ["--format", "json"])
    )
    assert text.startswith("Name: target-altcraft\nDescription: ")
    assert "  - Name: max_in_flight\n    Type: integer\n" in text
    assert "    Environment Variable: TARGET_ALTCRAFT_MAX_IN_FLIGHT\n" in text
    assert markdown.startswith("# `target-altcraft`\n")
    assert "| max_in_flight | False | 4 | Most tasks" in markdown
    assert json.loads(data)["settings"]["properties"]["max_in_flight"]["default"] == 4
