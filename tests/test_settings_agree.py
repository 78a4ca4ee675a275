"""meltano.yml, the tables of the pages and `--about` say of every setting what the schema says."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import yaml
from harness import COMMAND

from target_altcraft.settings_schema import RUN_SETTINGS, SCHEMA, STREAM_SETTINGS
from target_altcraft.target import TargetAltcraft

ROOT = Path(__file__).resolve().parent.parent
WRITER = ROOT / "scripts" / "write_settings.py"
OURS = {*RUN_SETTINGS, *STREAM_SETTINGS, "streams"}
PAGE = ROOT / "docs" / "settings.md"
DEFINITION = ROOT / "target-altcraft.yml"
UNKNOWN_TO_MELTANO = {"validate-records"}  # its own schema does not take it
KINDS = {
    "string": "string",
    "integer": "integer",
    "number": "string",  # Meltano 4.4 cannot write a decimal of the environment
    "boolean": "boolean",
    "object": "object",
    "array": "array",
}


def advertised() -> dict[str, dict[str, t.Any]]:
    schema = copy.deepcopy(SCHEMA)
    TargetAltcraft.append_builtin_config(schema)
    properties: dict[str, dict[str, t.Any]] = schema["properties"]
    return properties


def about(kind: str) -> str:
    command = [COMMAND, "--about", f"--format={kind}"]
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout


def loader() -> dict[str, t.Any]:
    project = yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))
    (definition,) = project["plugins"]["loaders"]
    return t.cast("dict[str, t.Any]", definition)


def kind_of(schema: dict[str, t.Any]) -> str:
    if "enum" in schema:
        return "options"
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    kinds = [KINDS[name] for name in types if name != "null"]
    return kinds[0] if len(kinds) == 1 else "string"  # which Meltano passes on unconverted


def test_meltano_defines_every_setting_as_the_schema_does() -> None:
    expected = {}
    for name, schema in advertised().items():
        expected[name] = {
            "label": schema["title"],
            "kind": kind_of(schema),
            "sensitive": schema.get("secret", False),
            "value": schema.get("default"),
            "options": schema.get("enum", []),
            "description": " ".join(schema["description"].split()),
        }
    defined = {
        setting["name"]: {
            "label": setting["label"],
            "kind": setting["kind"],
            "sensitive": setting.get("sensitive", False),
            "value": setting.get("value"),
            "options": [option["value"] for option in setting.get("options", [])],
            "description": setting["description"],
        }
        for setting in loader()["settings"]
    }
    assert defined == expected
    assert defined["token"]["sensitive"]


def test_meltano_lists_the_capabilities_and_required_settings_of_the_target() -> None:
    said = json.loads(about("json"))
    capabilities = [name for name in said["capabilities"] if name not in UNKNOWN_TO_MELTANO]
    assert loader()["capabilities"] == capabilities
    assert loader()["settings_group_validation"] == [said["settings"]["required"]]


def test_the_plugin_definition_is_that_of_meltano_yml() -> None:
    definition = yaml.safe_load(DEFINITION.read_text(encoding="utf-8"))
    assert definition.items() >= {k: v for k, v in loader().items() if k != "pip_url"}.items()
    assert definition["commands"]["check"]["args"] == "--config ENV --check"


def test_about_as_json_is_the_schema() -> None:
    said = json.loads(about("json"))["settings"]
    assert said["properties"] == json.loads(json.dumps(advertised()))
    assert said["required"] == SCHEMA["required"]


def test_about_as_markdown_has_a_row_for_every_setting() -> None:
    text = about("markdown")
    for name, schema in advertised().items():
        required = name in SCHEMA["required"]
        description = schema["description"].replace("\n", "<BR/>")
        row = f"| {name} | {required} | {schema.get('default', 'None')} | {description} |"
        assert row in text.splitlines(), name


def test_the_page_of_the_settings_has_a_row_for_every_setting() -> None:
    text = PAGE.read_text(encoding="utf-8")
    block = text.partition("settings:begin")[2].partition("settings:end")[0]
    rows = {}
    for line in block.splitlines():
        if match := re.match(r"\| `(\w+)` \|", line):
            rows[match[1]] = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[2:-1]]
    settings = advertised()
    assert list(rows) == [
        *STREAM_SETTINGS,
        "streams",
        *RUN_SETTINGS,
        *(name for name in settings if name not in OURS),
    ]
    for name, (kind, default, description) in rows.items():
        schema = settings[name]
        assert description.replace("\\|", "|") == " ".join(schema["description"].split())
        assert all(f"`{option}`" in kind for option in schema.get("enum", []))
        if "default" in schema:
            value = schema["default"]
            assert default == f"`{value if isinstance(value, str) else json.dumps(value)}`"
        else:
            assert default == ("**required**" if name in SCHEMA["required"] else "")


def test_setting_of_two_types_says_both() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "| `baseline` | boolean or array of strings | `false` |" in text


def test_what_make_settings_wrote_is_up_to_date() -> None:
    check = subprocess.run(
        [sys.executable, str(WRITER), "--check"], check=False, capture_output=True, text=True
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_the_check_of_the_settings_notices_an_outdated_file(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    copied = tmp_path / "scripts" / WRITER.name
    copied.write_bytes(WRITER.read_bytes())
    meltano = (ROOT / "meltano.yml").read_text(encoding="utf-8")
    outdated = meltano.replace("name: max_in_flight", "name: max_in_flght")
    assert outdated != meltano
    (tmp_path / "meltano.yml").write_text(outdated, encoding="utf-8")
    page = tmp_path / "docs" / "settings.md"
    page.parent.mkdir()
    page.write_text(
        "# Title\n<!-- settings:begin -->\n<!-- settings:end -->\nThe rest\n", encoding="utf-8"
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(copied), *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    check = run("--check")
    assert check.returncode == 1
    assert "meltano.yml and target-altcraft.yml and docs/settings.md" in check.stderr

    assert run().returncode == 0
    assert (tmp_path / "meltano.yml").read_text(encoding="utf-8") == meltano
    assert (tmp_path / "target-altcraft.yml").read_bytes() == DEFINITION.read_bytes()
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Title\n<!-- settings:begin -->\n")
    assert text.endswith("<!-- settings:end -->\nThe rest\n")
    assert "| `workflow_id` | integer |" in text
    assert run("--check").returncode == 0
