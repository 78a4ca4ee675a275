"""Settings: where they come from, how they are checked, and the frozen dataclasses they become.

A run takes them in this order::

    given = coerce({**file, **from_environment(os.environ, schema)}, schema)
    lines = check(given, schema)        # what is wrong: ["max_in_flight must be at most 32"]
    settings = resolve(given)           # Settings(max_in_flight=4, ...)
    check_report_folder(settings)
    settings.stream("orders")           # StreamSettings(name="orders", workflow_id=12, ...)

Names, types, ranges and defaults stand in `settings_schema.py` alone.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import re
import typing as t
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema

from target_altcraft import stream_maps, subscriptions
from target_altcraft.contradictions import contradictions, stream_contradictions
from target_altcraft.errors import SettingsError
from target_altcraft.flattened import nested_maps, nested_streams
from target_altcraft.misspelt import misspelt_names, nearest
from target_altcraft.settings_schema import (
    RUN_SETTINGS,
    SCHEMA,
    STREAM_SETTINGS,
    may_be_shown,
    types_of,
)

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from target_altcraft.subscriptions import Subscription

_HOST = re.compile(r"[\w-]+(\.[\w-]+)*\.?")
_MOST_DIGITS = 30
API_PATH = "/api/v1.1"
ENV_PREFIX = "TARGET_ALTCRAFT_"
Matching = t.Literal["email", "email_profile", "phone", "profile_id", "custom", "custom_request"]
SendAgain = t.Literal["new_version", "always", "changed", "never"]


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How one stream becomes profiles: the stream-level settings, resolved."""

    name: str
    workflow_id: int
    matching: Matching = "email"
    field_name: str | None = None
    match_column: str | None = None
    skip_triggers: bool | None = None
    skip_invalid_subscriptions: bool | None = None
    detect_geo: bool | None = None
    content: dict[str, t.Any] | None = None
    custom_data: dict[str, t.Any] | None = None
    attach: list[dict[str, t.Any]] | None = None
    content_columns: tuple[str, ...] = ()
    custom_data_columns: tuple[str, ...] = ()
    attach_column: str | None = None
    custom_request_column: str | None = None
    nulls: t.Literal["omit", "send"] = "omit"
    subscriptions: tuple[Subscription, ...] = ()
    send_again: SendAgain | None = None
    """None if it was not given: the default depends on the stream's SCHEMA."""
    bookmark_column: str | None = None
    deleted_column: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """The run-level settings, and the stream-level ones as they were given."""

    api_url: str
    token: str = field(repr=False)
    batch_size_rows: int
    batch_size_bytes: int
    max_in_flight: int
    poll_interval_seconds: float
    poll_max_interval_seconds: float
    task_timeout_seconds: float
    request_timeout_seconds: float
    retry_max_seconds: float
    on_ambiguous_submit: t.Literal["resend", "fail", "skip"]
    rejects_path: str | None
    max_rejects: int | None
    max_reject_percent: float | None
    canary_rows: int | None
    receipts_path: str | None
    journal_path: str | None
    journal_keep_days: int | None
    resend: bool | tuple[str, ...]
    baseline: bool | tuple[str, ...]
    report_path: str | None
    max_profiles: int | None
    shutdown_seconds: float
    check_workflow: bool
    dry_run: bool
    top_level: Mapping[str, t.Any] = field(repr=False)
    streams: Mapping[str, Mapping[str, t.Any]] = field(repr=False)

    def stream(self, name: str) -> StreamSettings:
        """Return the settings of a stream: its own, else the top level's.

        Args:
            name: The stream's name after stream maps.

        Raises:
            SettingsError: If the stream has no `workflow_id`, or its settings contradict each
                other.
        """
        values = {**self.top_level, **self.streams.get(name, {})}
        if "workflow_id" not in values:
            raise SettingsError(
                f"stream '{name}' has no workflow_id: set it under streams.{name}, or at the top "
                "level for all streams"
            )
        for fault in stream_contradictions(values):
            raise SettingsError(f"{fault} (stream '{name}')")
        for key in ("content_columns", "custom_data_columns"):
            values[key] = tuple(values.get(key, ()))
        values["subscriptions"] = subscriptions.compiled(values.get("subscriptions", ()))
        return StreamSettings(name=name, **values)

    def resends(self, stream: str) -> bool:
        """Tell whether the setting `resend` names a stream.

        Args:
            stream: The stream's name after stream maps.
        """
        return _names(self.resend, stream)

    def baselines(self, stream: str) -> bool:
        """Tell whether the setting `baseline` names a stream.

        Args:
            stream: The stream's name after stream maps.
        """
        return _names(self.baseline, stream)

    def named_streams(self) -> Iterator[tuple[str, str]]:
        """Yield the place of each stream's name in the settings, for a message, and the name."""
        yield from ((f"streams.{name}", name) for name in self.streams)
        for setting, names in (("resend", self.resend), ("baseline", self.baseline)):
            if not isinstance(names, bool):
                yield from ((f"{setting} '{name}'", name) for name in names)


def _names(setting: bool | t.Sequence[str], stream: str) -> bool:  # noqa: FBT001
    return setting if isinstance(setting, bool) else stream in setting


def from_environment(environment: Mapping[str, str], schema: Mapping[str, t.Any]) -> dict[str, str]:
    """Return the settings that the environment gives, still as text.

    Args:
        environment: Usually `os.environ`.
        schema: JSON schema of all settings.
    """
    return {
        name: environment[variable]
        for name in schema["properties"]
        if (variable := ENV_PREFIX + name.upper()) in environment
    }


def coerce(config: Mapping[str, t.Any], schema: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the settings in their own types, whether a file or the environment gave them.

    Text becomes numbers, booleans, JSON objects and arrays; `Decimal` becomes `int` or `float`;
    a null counts as not given. What cannot be converted is left for `check` to name.

    Args:
        config: Settings by name.
        schema: JSON schema of an object.
    """
    properties = schema["properties"]
    result = {
        name: _coerce(value, properties.get(name, {}))
        for name, value in config.items()
        if value is not None
    }
    _unflatten(result, config)
    streams = result.get("streams")
    if isinstance(streams, dict) and "streams" in properties:
        stream_schema = properties["streams"]["additionalProperties"]
        result["streams"] = {
            name: coerce(values, stream_schema) if isinstance(values, dict) else values
            for name, values in streams.items()
        }
    return result


def _unflatten(result: dict[str, t.Any], given: Mapping[str, t.Any]) -> None:
    """Put together again what came as text, and so from the environment."""
    for name, whole in (("streams", nested_streams), ("stream_maps", nested_maps)):
        if isinstance(given.get(name), str) and isinstance(result[name], dict):
            result[name] = whole(result[name])


def check(config: Mapping[str, t.Any], schema: Mapping[str, t.Any]) -> list[str]:
    """Return what is wrong with the settings, a line each, naming the setting and what is allowed.

    A message never quotes a value: it may be the token.

    Args:
        config: Settings as `coerce` returned them.
        schema: JSON schema of all settings.
    """
    maps = list(stream_maps.faults(config.get("stream_maps")))
    rest = {name: value for name, value in config.items() if not (maps and name == "stream_maps")}
    try:
        errors = list(jsonschema.Draft202012Validator(schema).iter_errors(rest))
    except AttributeError:  # the SDK's own schema of stream_maps has a text among its alternatives
        return ["stream_maps is not of a form that the SDK takes"]
    wrong = {error.absolute_path[0] for error in errors if error.absolute_path}
    sound = {name: value for name, value in config.items() if name not in wrong}
    lines = [*map(_error_line, errors), *maps, *misspelt_names(config, schema)]
    lines += _value_faults(sound)
    if not (errors or maps):
        lines += contradictions(config)
    return list(dict.fromkeys(lines))


def resolve(config: Mapping[str, t.Any]) -> Settings:
    """Return the settings as a frozen dataclass.

    Args:
        config: Settings that passed `coerce` and the schema.

    Raises:
        SettingsError: If settings contradict each other.
    """
    if lines := [*_value_faults(config), *contradictions(config)]:
        raise SettingsError("; ".join(lines))
    run = {name: config.get(name, schema.get("default")) for name, schema in RUN_SETTINGS.items()}
    run["api_url"] = _api_url(run["api_url"])
    for name in ("resend", "baseline"):
        run[name] = run[name] if isinstance(run[name], bool) else tuple(run[name])
    return Settings(
        **run,
        top_level={name: config[name] for name in STREAM_SETTINGS if name in config},
        streams=config.get("streams", {}),
    )


def check_report_folder(settings: Settings) -> None:
    """Check that a report can be written, so that this is known before the run.

    It is written when the run ends, when it is too late to mend a setting. Nothing is opened.

    Raises:
        SettingsError: If `report_path` is no path or a folder, or its folder is missing or cannot
            be written.
    """
    if settings.report_path is None:
        return
    path = Path(settings.report_path)
    try:
        path.lstat()
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            raise SettingsError(
                f"report_path: {settings.report_path!r} is no path that the system takes"
            ) from None
    folder = path.parent
    if os.path.isdir(path):  # noqa: PTH112 - pathlib raises where it may not look
        raise SettingsError(f"report_path must name a file; {path} is a folder")
    if not os.path.isdir(folder):  # noqa: PTH112 - the same
        raise SettingsError(f"report_path must be in a folder that exists; {folder} does not")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SettingsError(f"report_path must be in a writable folder; {folder} is not")


def reportable(
    config: Mapping[str, t.Any], schema: Mapping[str, t.Any] = SCHEMA
) -> dict[str, t.Any]:
    """Return the settings that may stand in a report: those that the schema knows as harmless.

    Args:
        config: Settings as `coerce` returned them.
        schema: JSON schema of all settings.

    Returns:
        Scalars and arrays of scalars that are not secret, by name; of `subscriptions` channel and
        resource; of each stream the same. No name that the schema does not know.
    """
    properties = schema["properties"]
    shown = _shown(config, properties)
    streams = config.get("streams")
    if isinstance(streams, dict):
        shown["streams"] = {
            name: _shown(values, STREAM_SETTINGS)
            for name, values in streams.items()
            if isinstance(values, dict)
        }
    return shown


def _shown(config: Mapping[str, t.Any], properties: Mapping[str, t.Any]) -> dict[str, t.Any]:
    shown = {
        name: value
        for name, value in config.items()
        if name in properties and may_be_shown(properties[name])
    }
    elements = config.get("subscriptions")
    if isinstance(elements, list):
        shown["subscriptions"] = [
            {key: element[key] for key in ("channel", "resource_id") if key in element}
            for element in elements
            if isinstance(element, dict)
        ]
    return shown


def _value_faults(config: Mapping[str, t.Any]) -> Iterator[str]:
    """Yield what is wrong with those settings whose values no JSON schema can tell.

    Args:
        config: Settings that fit the schema; those that do not may be left out.
    """
    if "api_url" in config:
        try:
            _api_url(config["api_url"])
        except SettingsError as error:
            yield str(error)
    token = config.get("token", "")
    if token != token.strip():
        yield "token must not be blank, nor begin or end with a blank or a line end"


def _api_url(text: str) -> str:
    """Return the URL up to and including the API's path, without a slash at the end."""
    allowed = f"api_url must be https://host, with or without / or {API_PATH}"
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError as error:
        raise SettingsError(allowed) from error
    if url.scheme not in {"https", "http"} or not host or url.query or url.fragment:
        raise SettingsError(allowed)
    if ":" not in host and not _HOST.fullmatch(host):
        raise SettingsError(allowed)
    if url.username is not None or url.path.rstrip("/") not in {"", API_PATH}:
        raise SettingsError(allowed)
    if url.scheme == "http" and not is_loopback(host):
        raise SettingsError(f"{allowed}; plain http:// only for a loopback host")
    return f"{url.scheme}://{url.netloc}{API_PATH}"


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _coerce(value: t.Any, schema: Mapping[str, t.Any]) -> t.Any:  # noqa: ANN401
    types = types_of(schema)
    if isinstance(value, str) and "boolean" in types and value.lower() in _BOOLEANS:
        return _BOOLEANS[value.lower()]
    if isinstance(value, str) and types & {"object", "array"}:
        try:
            value = json.loads(value, parse_float=Decimal, parse_constant=_refuse_constant)
        except (ValueError, RecursionError, InvalidOperation):
            return value
    if isinstance(value, list) and (properties := schema.get("items", {}).get("properties")):
        return [_coerce_item(item, properties) for item in value]
    if isinstance(value, (str, Decimal, float)) and types & {"integer", "number"}:
        return _number(value, integer="integer" in types)
    return value


def _coerce_item(item: t.Any, properties: Mapping[str, t.Any]) -> t.Any:  # noqa: ANN401
    """Return an object of an array; only what the schema knows is touched."""
    if not isinstance(item, dict):
        return item
    return {
        name: _coerce(value, properties.get(name, {}))
        for name, value in item.items()
        if value is not None or name not in properties
    }


def _refuse_constant(name: str) -> t.NoReturn:
    raise ValueError(name)  # NaN and its like are not JSON


def _number(value: str | Decimal | float, *, integer: bool) -> t.Any:  # noqa: ANN401
    try:
        number = Decimal(value)
    except InvalidOperation:
        return value
    if not number.is_finite() or number.adjusted() > _MOST_DIGITS:
        return value if isinstance(value, str) else str(value)
    if number == number.to_integral_value():
        return int(number)
    return float(number) if not integer else value


_BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_ALLOWED: dict[str, t.Callable[[t.Any], str]] = {
    "type": lambda kind: f"must be of type {kind if isinstance(kind, str) else ' or '.join(kind)}",
    "enum": lambda values: f"must be one of {', '.join(map(str, values))}",
    "minimum": lambda bound: f"must be at least {bound}",
    "maximum": lambda bound: f"must be at most {bound}",
    "exclusiveMinimum": lambda bound: f"must be greater than {bound}",
    "minLength": lambda _: "must not be empty",
    "pattern": lambda _: "must end in .html or .json",
}


def _error_line(error: t.Any) -> str:  # noqa: ANN401 - its stubs leave out what matters
    parts = error.absolute_path
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)[1:]
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        if path:
            return f"{path}: " + "; ".join(f"'{name}' is required" for name in missing)
        return f"{', '.join(missing)} must be set"
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        unknown = [name for name in error.instance if name not in known]
        return f"{path}: " + "; ".join(f"unknown setting '{n}'{nearest(n, known)}" for n in unknown)
    allowed = _ALLOWED.get(error.validator, lambda _: f"breaks '{error.validator}'")
    return f"{path or 'settings'} {allowed(error.validator_value)}"
