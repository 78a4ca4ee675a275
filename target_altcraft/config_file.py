"""Configuration files, and where one that cannot be read is wrong."""

from __future__ import annotations

import json
import re
import typing as t
from decimal import Decimal
from pathlib import Path

from target_altcraft.errors import SettingsError

_YAML_NAME = re.compile(r"\.ya?ml$", re.IGNORECASE)
_YAML_START = re.compile(r"\s*(#[^\n]*\n\s*)*(---|%YAML|[\w-]+:(\s|$))")
_KINDS = {list: "an array", str: "a text", bool: "true or false", type(None): "null"}


def read_config_file(path: str) -> dict[str, t.Any]:
    """Return the settings of a configuration file. No value of it is quoted.

    Args:
        path: Of a file with a JSON object, in UTF-8.

    Raises:
        SettingsError: If it is no such file.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # editors of Windows write such a mark
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise SettingsError(f"the configuration file {path} cannot be read: {why}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"the configuration file {path} is not in UTF-8 (byte {error.start + 1})"
        ) from None
    try:
        found = json.loads(text, parse_float=Decimal)
    except json.JSONDecodeError as error:
        raise SettingsError(_fault(path, text, error)) from None
    except (ValueError, ArithmeticError, RecursionError):  # digits without end, nested without end
        raise SettingsError(f"the configuration file {path} is not valid JSON") from None
    if not isinstance(found, dict):
        kind = _KINDS.get(type(found), "a number")
        raise SettingsError(f"the configuration file {path} must hold a JSON object, not {kind}")
    return found


def _fault(path: str, text: str, error: json.JSONDecodeError) -> str:
    if not text.strip():
        return f"the configuration file {path} is empty"
    if _YAML_NAME.search(path) or _YAML_START.match(text):
        return (
            f"the configuration file {path} is YAML, and --config takes JSON; under Meltano, "
            "settings stand in meltano.yml, and Meltano writes the JSON itself"
        )
    why = error.msg.partition(": ")[0]  # what follows may be a character of the file
    return (
        f"the configuration file {path} is not valid JSON: line {error.lineno}, column "
        f"{error.colno}: {why}"
    )
