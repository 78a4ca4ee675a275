"""Variables of the environment that nothing reads, and the level of the log.

The environment is read with `--config ENV` only. Meltano reads it for the plugin, if it knows the
setting; then the value stands in the configuration file. For each setting that it knows it also
sets the variable, as `str(value)`, and for each part of an object, and for settings of its own with
`__` behind the prefix (seen in Meltano 4.4).
"""

from __future__ import annotations

import logging
import typing as t

from target_altcraft.misspelt import misspelt, nearest
from target_altcraft.settings import ENV_PREFIX, coerce
from target_altcraft.settings_schema import BRAKES, types_of

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping

_LOG_LEVEL = "loglevel"  # of the SDK
_NOT_SET = {"", "false", "no", "off"}
_WHERE = "the environment is read with --config ENV only; under Meltano, name {} in the loader's"


class Unread(t.NamedTuple):
    """A variable that nothing reads."""

    is_brake: bool
    text: str


def unread(
    environment: Mapping[str, str],
    config: Mapping[str, t.Any],
    schema: Mapping[str, t.Any],
    *,
    is_read: bool,
) -> Iterator[Unread]:
    """Yield each variable of the target's that nothing reads. No value is quoted.

    Args:
        environment: Usually `os.environ`.
        config: The settings in force, as `settings.coerce` returned them.
        schema: JSON schema of all settings.
        is_read: Whether known settings are read from the environment.
    """
    known = schema["properties"]
    objects = [f"{name}_" for name in known if "object" in types_of(known[name])]
    for variable in sorted(environment):
        name = variable.removeprefix(ENV_PREFIX).lower()
        text = environment[variable].strip()
        if not variable.startswith(ENV_PREFIX) or not text:
            continue
        if name in known:
            if not (
                is_read or _is_off(text, known[name]) or _is_in_force(name, text, config, schema)
            ):
                where = _WHERE.format(name)
                yield Unread(
                    name in BRAKES, f"{variable} is set and not in force: {where} settings"
                )
        elif name == _LOG_LEVEL or name in config or name.startswith(("_", *objects)):
            continue
        elif meant := misspelt(name, known, BRAKES):
            yield Unread(
                is_brake=True,
                text=f"{variable} is set, and there is no setting '{name}' (did you mean "
                f"'{meant}'?): a brake must not be ignored",
            )
        else:
            hint = nearest(name, known)
            yield Unread(
                is_brake=False,
                text=f"{variable} is set, and there is no setting '{name}'{hint}; it is ignored",
            )


def _is_off(text: str, schema: Mapping[str, t.Any]) -> bool:
    """Tell whether a variable says what is so without it."""
    return text.lower() in _NOT_SET or (text == "0" and "boolean" in types_of(schema))


def _is_in_force(
    name: str, text: str, config: Mapping[str, t.Any], schema: Mapping[str, t.Any]
) -> bool:
    if name not in config:
        return False
    return text == str(config[name]) or coerce({name: text}, schema)[name] == config[name]


def log_level_fault(environment: MutableMapping[str, str]) -> str:
    """Return what is wrong with the level of the log, or nothing.

    The SDK takes the first one that is not empty, and fails with a traceback if it is no level. One
    that is empty is taken out of the environment: the SDK would read it as a level.

    Args:
        environment: Usually `os.environ`.
    """
    for variable in (f"{ENV_PREFIX}{_LOG_LEVEL.upper()}", "LOGLEVEL"):
        level = environment.get(variable)
        if level == "":
            del environment[variable]
        elif level is not None:
            if isinstance(logging.getLevelName(level.upper()), int):
                return ""
            return f"{variable} must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL"
    return ""
