"""Write what other files say of the settings, from the one place that knows them: the schema.

`target-altcraft.yml` is the plugin's definition, in the form of Meltano's hub: what
`meltano add --from-ref` reads. Between the marks `settings:begin` and `settings:end` stand

* in `meltano.yml` the same capabilities, settings and commands of the loader,
* in `docs/settings.md` the tables of the settings.

    python scripts/write_settings.py           # write them
    python scripts/write_settings.py --check   # exit 1 if one is out of date
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import sys
import textwrap
import typing as t
from pathlib import Path

import yaml

from target_altcraft.settings_schema import RUN_SETTINGS, SCHEMA, STREAM_SETTINGS
from target_altcraft.target import TargetAltcraft

Json = dict[str, t.Any]

ROOT = Path(__file__).resolve().parent.parent
MELTANO = ROOT / "meltano.yml"
DEFINITION = ROOT / "target-altcraft.yml"
PAGE = ROOT / "docs" / "settings.md"
BEGIN, END = "settings:begin", "settings:end"

_INDENT = 4  # of a loader's keys in meltano.yml
_KINDS = {"number": "string"}
"""Meltano's name, where it is not JSON Schema's. Its `decimal` would be the one: Meltano 4.4 cannot
write one that the environment gives into the configuration file. A text becomes a number here."""
_UNKNOWN_TO_MELTANO = {"validate-records"}
"""Capabilities that Meltano's own schema of `meltano.yml` does not take."""

_HEAD = """\
# The plugin's definition, for `meltano add --from-ref`. Written by `make settings`.
# pip_url: this folder stands beside that of the Meltano project.
"""
_ABOUT: Json = {
    "name": "target-altcraft",
    "namespace": "target_altcraft",
    "variant": "target-altcraft",
    "label": "Altcraft",
    "description": "Singer target that imports records as Altcraft profiles and starts a scenario "
    "for each of them.",
    "maintenance_status": "beta",
    "keywords": ["meltano_sdk", "reverse-etl"],
    "pip_url": "-e ../target-altcraft",
    "executable": "target-altcraft",
}
_USAGE = """\
Give `api_url` and `token` (best as `TARGET_ALTCRAFT_TOKEN`), and `workflow_id` for each stream
under `streams`. Altcraft messages subscriptions, not profiles: set `subscriptions` too.

    meltano invoke target-altcraft:check    # token, scenarios, files: sends nothing
    TARGET_ALTCRAFT_DRY_RUN=true meltano run tap-postgres target-altcraft
    meltano run tap-postgres target-altcraft
"""


class OutputError(Exception):
    """A file cannot take its settings."""


def advertised() -> dict[str, Json]:
    """Return the schema of every setting that `--about` names: ours, then the SDK's."""
    schema = copy.deepcopy(SCHEMA)
    TargetAltcraft.append_builtin_config(schema)
    properties: dict[str, Json] = schema["properties"]
    return properties


def meltano_setting(name: str, schema: Json) -> Json:
    """Return the definition of a setting as Meltano wants it."""
    setting: Json = {"name": name, "label": schema.get("title", name)}
    if options := schema.get("enum"):
        setting["kind"] = "options"
        setting["options"] = [{"label": option, "value": option} for option in options]
    elif len(json_types(schema)) > 1:
        setting["kind"] = "string"  # Meltano converts it to nothing: `true` and `["a"]` both pass
    else:
        setting["kind"] = _KINDS.get(json_type(schema), json_type(schema))
    if schema.get("secret"):
        setting["sensitive"] = True
    if "default" in schema:
        setting["value"] = schema["default"]
    setting["description"] = one_line(schema.get("description", ""))
    return setting


def loader() -> Json:
    """Return what Meltano must know of the loader, whoever installs it."""
    capabilities = [capability.value for capability in TargetAltcraft.capabilities]
    return {
        "capabilities": [name for name in capabilities if name not in _UNKNOWN_TO_MELTANO],
        "settings_group_validation": [list(SCHEMA["required"])],
        "settings": [meltano_setting(name, schema) for name, schema in advertised().items()],
        "commands": {
            "check": {
                "args": "--config ENV --check",
                "description": "Look at token, scenarios, files and journal; sends nothing.",
            }
        },
    }


def as_yaml(value: Json) -> str:
    """Return YAML for people, in the order of the keys."""
    return yaml.dump(value, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=96)


class _Dumper(yaml.SafeDumper):
    """Writes a text of several lines as such."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def tables() -> str:
    """Return the tables of the settings as Markdown."""
    settings = advertised()
    ours = {*RUN_SETTINGS, *STREAM_SETTINGS, "streams"}
    groups = {
        "Of a stream: at the top level for all, under `streams.<name>` for one": [
            *STREAM_SETTINGS,
            "streams",
        ],
        "Of the run": list(RUN_SETTINGS),
        "Of the Singer SDK": [name for name in settings if name not in ours],
    }
    parts = []
    for title, names in groups.items():
        rows = [_row(name, settings[name]) for name in names]
        header = ["| setting | type | default | |", "| --- | --- | --- | --- |"]
        parts.append("\n".join([f"**{title}**", "", *header, *rows]))
    return "\n" + "\n\n".join(parts) + "\n\n"


def _row(name: str, schema: Json) -> str:
    if "default" in schema:
        value = schema["default"]
        default = f"`{value if isinstance(value, str) else json.dumps(value)}`"
    else:
        default = "**required**" if name in SCHEMA["required"] else ""
    cells = (f"`{name}`", type_words(schema), default, one_line(schema.get("description", "")))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def type_words(schema: Json) -> str:
    """Return what a setting takes, in words: `integer, 1 to 32`."""
    if options := schema.get("enum"):
        return ", ".join(f"`{option}`" for option in options)
    words = " or ".join(
        f"array of {json_type(schema['items'])}s" if name == "array" else name
        for name in json_types(schema)
    )
    if {"minimum", "maximum"} <= schema.keys():
        words += f", {schema['minimum']} to {schema['maximum']}"
    else:
        bounds = {
            "minimum": "at least",
            "exclusiveMinimum": "more than",
            "maximum": "at most",
        }
        words += "".join(f", {text} {schema[key]}" for key, text in bounds.items() if key in schema)
    return f"{words}, secret" if schema.get("secret") else words


def json_types(schema: Json) -> list[str]:
    """Return the types of a setting, other than null."""
    types = schema["type"]
    return [types] if isinstance(types, str) else [name for name in types if name != "null"]


def json_type(schema: Json) -> str:
    """Return the first type of a setting, other than null."""
    return json_types(schema)[0]


def one_line(text: str) -> str:
    """Return a text without its line breaks."""
    return " ".join(text.split())


def filled(path: Path, block: str) -> str:
    """Return a file's text with the block between its marks.

    Raises:
        OutputError: If a mark is missing, or stands there twice.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    begins, ends = text.count(BEGIN), text.count(END)
    pattern = re.compile(rf"(^[^\n]*{BEGIN}[^\n]*\n).*?(^[^\n]*{END})", re.DOTALL | re.MULTILINE)
    if begins != 1 or ends != 1 or not pattern.search(text):
        raise OutputError(f"{path.name} must hold {BEGIN} and {END} once each, in this order")
    return pattern.sub(lambda match: f"{match[1]}{block}{match[2]}", text)


def wanted() -> dict[Path, str]:
    """Return each file as it should be.

    Raises:
        OutputError: If one cannot take its settings.
    """
    ours = loader()
    return {
        MELTANO: filled(MELTANO, textwrap.indent(as_yaml(ours), " " * _INDENT)),
        DEFINITION: _HEAD + as_yaml({**_ABOUT, **ours, "usage": _USAGE}),
        PAGE: filled(PAGE, tables()),
    }


def main() -> int:
    """Write or check the files; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if outdated")
    check = parser.parse_args().check
    try:
        outdated = {
            path: text
            for path, text in wanted().items()
            if not path.exists() or text != path.read_text(encoding="utf-8")
        }
    except OutputError as error:
        print(error, file=sys.stderr)
        return 1
    names = " and ".join(str(path.relative_to(ROOT)) for path in outdated)
    if check and outdated:
        print(f"out of date: {names}; run scripts/write_settings.py", file=sys.stderr)
        return 1
    for path, text in outdated.items():
        path.write_text(text, encoding="utf-8")
    print(f"written: {names}" if outdated else "up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
