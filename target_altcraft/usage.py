"""What the SDK's command line has besides, and what `--help` says of it."""

from __future__ import annotations

import click

_HELP = {
    "about": "Say what the target can, and its settings: names, types and variables. With "
    "--format markdown also their defaults and meaning, with json the whole schema.",
    "about_format": "How --about, or --check with json, is written.",
    "config": "A JSON file of settings, or ENV for the environment (TARGET_ALTCRAFT_ and the "
    "setting's name in capitals). Repeatable: a later file replaces the top-level settings of an "
    "earlier one, and the environment wins over all files.",
}
_EXAMPLES = """\b
Examples:
  target-altcraft --config config.json --check
  tap-postgres --config tap.json | target-altcraft --config config.json --config ENV
  target-altcraft --config config.json --input mended.jsonl
  target-altcraft --about --format markdown"""


def dressed(command: click.Command) -> click.Command:
    """Return the SDK's command with `--check`, `-h` and examples."""
    command.context_settings["help_option_names"] = ["-h", "--help"]
    command.help = "Read Singer messages, and send their records into Altcraft scenarios."
    command.epilog = _EXAMPLES
    command.params.append(
        click.Option(
            ["--check"],
            is_flag=True,
            help="Look at token, scenarios, files and journal, say what was found, and exit with 0 "
            "or 1. Reads no input and sends nothing.",
        )
    )
    for option in command.params:
        if isinstance(option, click.Option) and option.name in _HELP:
            option.help = _HELP[option.name]
    return command
