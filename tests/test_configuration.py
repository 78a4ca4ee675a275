"""Configuration files that cannot be read, and a level of the log that is none."""

from __future__ import annotations

import json
import os
import subprocess
import typing as t

import pytest
from harness import COMMAND, customer, schema, state

if t.TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result

    Deliver = Callable[..., Result]


def command(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if "LOGLEVEL" not in k}
    return subprocess.run(
        [COMMAND, *args],
        env={**clean, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        encoding="utf-8",
        timeout=60,
    )


FAULTS = {
    "comma": (
        "c.json",
        '{\n  "api_url": "https://a.example"\n  "token": "tok-secret"}',
        "is not valid JSON: line 3, column 3: Expecting ',' delimiter",
    ),
    "colon": ("c.json", '{"token" "tok-secret"}', "line 1, column 10: Expecting ':' delimiter"),
    "value": ("c.json", '{\n\n "token": tok-secret}', "line 3, column 11: Expecting value"),
    "cut short": ("c.json", '{"token": "tok-secret', "line 1, column 11: Unterminated string"),
    "two": ("c.json", '{"token": "tok-secret"}\n{}', "line 2, column 1: Extra data"),
    "escape": ("c.json", '{"token": "tok\\secret"}', "line 1, column 15: Invalid \\escape"),
    "YAML by its name": ("c.YML", "token: tok-secret", "c.YML is YAML, and --config takes JSON"),
    "YAML": ("c.conf", "# ours\n\ntoken: tok-secret\n", "is YAML, and --config takes JSON"),
    "YAML document": ("c.json", "---\n{token: tok-secret}\n", "is YAML"),
    "array": ("c.json", '["tok-secret"]', "must hold a JSON object, not an array"),
    "text": ("c.json", '"tok-secret"', "must hold a JSON object, not a text"),
    "number": ("c.json", "12", "must hold a JSON object, not a number"),
    "null": ("c.json", "null", "must hold a JSON object, not null"),
    "empty": ("c.json", " \n", "c.json is empty"),
    "nested": ("c.json", "[" * 100_000, "is not valid JSON"),
    "digits": ("c.json", f'{{"token": {"9" * 5000}}}', "is not valid JSON"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_configuration_file_that_cannot_be_read_is_named_with_the_place(
    tmp_path: Path, case: str
) -> None:
    name, text, expected = FAULTS[case]
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    done = command("--config", str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"Error: the configuration file {path} ")
    assert expected in done.stderr
    assert "secret" not in done.stderr


def test_a_configuration_file_that_is_not_there_or_a_folder_is_named(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "c", "No such file or directory"), (tmp_path, "Is a directory")):
        done = command("--config", str(path))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"Error: the configuration file {path} cannot be read: {why}\n"


def test_a_configuration_file_in_another_encoding_is_told_by_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes('{"token": "тайна"}'.encode("cp1251"))
    done = command("--config", str(path))
    assert done.returncode == 1
    assert done.stderr == f"Error: the configuration file {path} is not in UTF-8 (byte 12)\n"


def test_a_byte_order_mark_before_a_configuration_is_no_fault(
    deliver: Deliver, config: dict[str, t.Any], tmp_path: Path
) -> None:
    path = tmp_path / "marked.json"
    path.write_text(json.dumps({**config, "max_profiles": 1}), encoding="utf-8-sig")
    result = deliver([schema(), customer(1), state(1)], args=("--config", str(path)))
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr


def test_a_later_configuration_file_goes_before_an_earlier_one(
    deliver: Deliver, tmp_path: Path
) -> None:
    path = tmp_path / "more.json"
    path.write_text('{"max_profiles": 1}', encoding="utf-8")
    messages = [schema(), customer(1), customer(2)]
    result = deliver(messages, {"max_profiles": 5}, args=("--config", str(path)))
    assert result.status == 1
    assert "more than max_profiles (1)" in result.error


def test_a_wrong_command_line_ends_with_2() -> None:
    done = command("--confg", "c.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such option" in done.stderr


@pytest.mark.parametrize("variable", ["LOGLEVEL", "TARGET_ALTCRAFT_LOGLEVEL"])
@pytest.mark.parametrize("level", ["verbose", "10", "trace"])
def test_a_level_of_the_log_that_is_none_is_one_message(variable: str, level: str) -> None:
    done = command("--about", **{variable: level})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: {variable} must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL\n"
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"LOGLEVEL": ""},
        {"TARGET_ALTCRAFT_LOGLEVEL": "", "LOGLEVEL": "warn"},
        {"TARGET_ALTCRAFT_LOGLEVEL": "error", "LOGLEVEL": "verbose"},  # the second is not read
    ],
)
def test_an_empty_level_of_the_log_is_none_at_all(
    deliver: Deliver, environment: dict[str, str]
) -> None:
    result = deliver([schema(), customer(1), state(1)], env=environment)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
