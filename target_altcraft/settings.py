"""Settings: their JSON schema, where they come from, and the frozen dataclasses they become.

The schema below is the only place that says names, types, ranges and defaults; `--about`,
`meltano.yml`, README's tables and the checks at start are all read from it or tested against it.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
import typing as t
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from urllib.parse import urlsplit

import jsonschema

from target_altcraft.errors import SettingsError

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_HOST = re.compile(r"[\w-]+(\.[\w-]+)*\.?")
_MOST_DIGITS = 30
_LONGEST_SECONDS = 31_536_000  # a year; clocks and locks cannot count for ever
API_PATH = "/api/v1.1"
ENV_PREFIX = "TARGET_ALTCRAFT_"
_JSON_COLUMN_LIST = {"type": "array", "items": {"type": "string"}}

STREAM_SETTINGS: dict[str, dict[str, t.Any]] = {
    "workflow_id": {
        "type": "integer",
        "title": "Workflow ID",
        "description": "The scenario that every profile of the stream enters. Required for each "
        "stream that arrives, here or under `streams.<name>`.",
    },
    "matching": {
        "type": "string",
        "enum": ["email", "email_profile", "phone", "profile_id", "custom", "custom_request"],
        "default": "email",
        "title": "Matching",
        "description": "How Altcraft finds the profile a record belongs to: `email` (profile and "
        "subscriptions), `email_profile` (profile only), `phone`, `profile_id`, `custom` (the "
        "profile field named by `field_name`) or `custom_request` (a query in the record).",
    },
    "field_name": {
        "type": "string",
        "minLength": 1,
        "title": "Field name",
        "description": "With `matching: custom`, the profile field to search by; required then. "
        "Its value is read from the record's column of that name unless `match_column` is set.",
    },
    "match_column": {
        "type": "string",
        "minLength": 1,
        "title": "Match column",
        "description": "Column that holds the match value. By default the one that `matching` "
        "names: `email`, `phone` (else the first of `phones`), `profile_id`, or `field_name`'s.",
    },
    "skip_triggers": {
        "type": "boolean",
        "title": "Skip triggers",
        "description": "Import without firing triggers. Not sent unless set.",
    },
    "skip_invalid_subscriptions": {
        "type": "boolean",
        "title": "Skip invalid subscriptions",
        "description": "Import a profile without those of its subscriptions that are invalid. "
        "Not sent unless set.",
    },
    "detect_geo": {
        "type": "boolean",
        "title": "Detect geo",
        "description": "Let Altcraft derive the location from `_regip` or `_ip`. Not sent unless "
        "set.",
    },
    "content": {
        "type": "object",
        "title": "Content",
        "description": "Values for `{apicontent.<field>}` in message templates, the same for "
        "every profile. Not sent unless set.",
    },
    "custom_data": {
        "type": "object",
        "title": "Custom data",
        "description": "Returned in event hooks, the same for every profile. Not sent unless set.",
    },
    "attach": {
        "type": "array",
        "items": {"type": "object"},
        "title": "Attachments",
        "description": "Files for the e-mails of the scenario, the same for every profile. Not "
        "sent unless set.",
    },
    "content_columns": {
        **_JSON_COLUMN_LIST,
        "default": [],
        "title": "Content columns",
        "description": "Columns moved out of the profile into the entry's own `content`.",
    },
    "custom_data_columns": {
        **_JSON_COLUMN_LIST,
        "default": [],
        "title": "Custom data columns",
        "description": "Columns moved out of the profile into the entry's own `custom_data`.",
    },
    "attach_column": {
        "type": "string",
        "minLength": 1,
        "title": "Attach column",
        "description": "Column moved out of the profile into the entry's own `attach`; holds an "
        "array of objects.",
    },
    "custom_request_column": {
        "type": "string",
        "minLength": 1,
        "title": "Custom request column",
        "description": "Column moved out of the profile into the entry's `custom_request`; holds "
        "a query object. Required with `matching: custom_request`.",
    },
    "nulls": {
        "type": "string",
        "enum": ["omit", "send"],
        "default": "omit",
        "title": "Nulls",
        "description": "What becomes of a null column: `omit` leaves the profile's field as it "
        "is, `send` empties it.",
    },
}
"""Set at the top level for all streams, or under `streams.<name>` for one."""

RUN_SETTINGS: dict[str, dict[str, t.Any]] = {
    "api_url": {
        "type": "string",
        "title": "API URL",
        "description": "Where Altcraft listens: `https://host`, with or without `/` or "
        "`/api/v1.1`. Plain `http://` only for a loopback host.",
    },
    "token": {
        "type": "string",
        "minLength": 1,
        "secret": True,
        "writeOnly": True,
        "title": "Token",
        "description": "API token. Best given by the environment.",
    },
    "batch_size_rows": {
        "type": "integer",
        "minimum": 1,
        "maximum": 10000,
        "default": 10000,
        "title": "Batch size in rows",
        "description": "Most profiles in one request. Altcraft recommends at most 10,000.",
    },
    "batch_size_bytes": {
        "type": "integer",
        "minimum": 1024,
        "default": 10_000_000,
        "title": "Batch size in bytes",
        "description": "Largest request body, envelope included. Altcraft's default limit is "
        "10 MB.",
    },
    "max_in_flight": {
        "type": "integer",
        "minimum": 1,
        "maximum": 32,
        "default": 4,
        "title": "Tasks in flight",
        "description": "Most tasks at work in Altcraft at once.",
    },
    "poll_interval_seconds": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": _LONGEST_SECONDS,
        "default": 0.5,
        "title": "Poll interval in seconds",
        "description": "First and shortest wait between two questions for a task's status.",
    },
    "poll_max_interval_seconds": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": _LONGEST_SECONDS,
        "default": 15,
        "title": "Longest poll interval in seconds",
        "description": "Longest wait between two questions for a task's status.",
    },
    "task_timeout_seconds": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": _LONGEST_SECONDS,
        "default": 3600,
        "title": "Task time-out in seconds",
        "description": "A task that has not ended by then fails the run.",
    },
    "request_timeout_seconds": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": _LONGEST_SECONDS,
        "default": 60,
        "title": "Request time-out in seconds",
        "description": "For connecting, and again for each wait on the answer.",
    },
    "retry_max_seconds": {
        "type": "number",
        "minimum": 0,
        "maximum": _LONGEST_SECONDS,
        "default": 300,
        "title": "Longest retry in seconds",
        "description": "Time spent on repeating one request that was not accepted (`Retry-After` "
        "is honoured); then the run fails.",
    },
    "on_ambiguous_submit": {
        "type": "string",
        "enum": ["resend", "fail"],
        "default": "resend",
        "title": "On an ambiguous submit",
        "description": "When it cannot be known whether a batch was accepted: `resend` it (at "
        "most three times, each with a warning: its customers may enter the scenario twice), or "
        "`fail` the run.",
    },
    "rejects_path": {
        "type": "string",
        "minLength": 1,
        "title": "Rejects file",
        "description": "Records that cannot be delivered are appended here as Singer messages, to "
        "be mended and replayed by `--input`. Unless set, the first one fails the run.",
    },
    "max_rejects": {
        "type": "integer",
        "minimum": 0,
        "title": "Most rejects of a run",
        "description": "More rejected records than this fail the run: rather a wrong setting than "
        "bad records. Unlimited unless set.",
    },
    "receipts_path": {
        "type": "string",
        "minLength": 1,
        "title": "Receipts file",
        "description": "One JSON line per delivered profile is appended here.",
    },
    "journal_path": {
        "type": "string",
        "minLength": 1,
        "title": "Journal",
        "description": "SQLite file, one per pipeline, by which a run after a crash does not send "
        "again what the last one had sent, and by which records that a tap repeats at its "
        "bookmark are not sent. Holds digests, no profile values.",
    },
    "report_path": {
        "type": "string",
        "pattern": r"\.(html|json)$",
        "title": "Run report",
        "description": "When the run ends, in whatever way, a report of what went out is written "
        "here: a page for people if the name ends in `.html`, data for machines if in `.json`. "
        "Holds no profile values.",
    },
    "max_profiles": {
        "type": "integer",
        "minimum": 1,
        "title": "Most profiles of a run",
        "description": "Circuit breaker against a lost bookmark: the run fails rather than send "
        "more profiles than this. Unlimited unless set.",
    },
    "shutdown_seconds": {
        "type": "number",
        "minimum": 0,
        "maximum": _LONGEST_SECONDS,
        "default": 20,
        "title": "Shutdown in seconds",
        "description": "How long SIGTERM or SIGINT waits for the tasks in flight.",
    },
    "check_workflow": {
        "type": "boolean",
        "default": True,
        "title": "Check the workflow",
        "description": "Before the first record of a stream is sent: the token works, the scenario "
        "exists and is active. A token that may not list scenarios only warns.",
    },
    "dry_run": {
        "type": "boolean",
        "default": False,
        "title": "Dry run",
        "description": "Everything but sending: map, validate, batch, check; says what would go, "
        "emits no STATE and writes no file.",
    },
}

_OVERRIDES = {
    name: {key: value for key, value in schema.items() if key != "default"}
    for name, schema in STREAM_SETTINGS.items()
}
# A default in here would be injected into every stream and hide the top level's value.

SCHEMA: dict[str, t.Any] = {
    "type": "object",
    "required": ["api_url", "token"],
    "properties": {
        **RUN_SETTINGS,
        **STREAM_SETTINGS,
        "streams": {
            "type": "object",
            "title": "Streams",
            "description": "Settings of single streams, by the stream's name after stream maps: "
            '`{"orders": {"workflow_id": 12}}`. They take the stream-level settings\' names and '
            "replace (never merge with) the top level's values.",
            "additionalProperties": {
                "type": "object",
                "properties": _OVERRIDES,
                "additionalProperties": False,
            },
        },
    },
}

Matching = t.Literal["email", "email_profile", "phone", "profile_id", "custom", "custom_request"]


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
    on_ambiguous_submit: t.Literal["resend", "fail"]
    rejects_path: str | None
    max_rejects: int | None
    receipts_path: str | None
    journal_path: str | None
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
        _check_stream(name, values)
        for key in ("content_columns", "custom_data_columns"):
            values[key] = tuple(values.get(key, ()))
        return StreamSettings(name=name, **values)


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
    streams = result.get("streams")
    if isinstance(streams, dict) and "streams" in properties:
        stream_schema = properties["streams"]["additionalProperties"]
        result["streams"] = {
            name: coerce(values, stream_schema) if isinstance(values, dict) else values
            for name, values in streams.items()
        }
    return result


def check(config: Mapping[str, t.Any], schema: Mapping[str, t.Any]) -> list[str]:
    """Return what is wrong with the settings, a line each, naming the setting and what is allowed.

    A message never quotes a value: it may be the token.

    Args:
        config: Settings as `coerce` returned them.
        schema: JSON schema of all settings.
    """
    validator = jsonschema.Draft202012Validator(schema)
    try:
        lines = dict.fromkeys(_error_line(error) for error in validator.iter_errors(dict(config)))
    except AttributeError:  # the SDK's own schema of stream_maps has a text among its alternatives
        return ["stream_maps is not of a form that the SDK takes"]
    if lines:
        return list(lines)
    try:
        resolve(config)
    except SettingsError as error:
        return [str(error)]
    return []


def unknown_names(config: Mapping[str, t.Any], schema: Mapping[str, t.Any]) -> Iterator[str]:
    """Yield a warning for each top-level setting that nobody reads.

    Args:
        config: Settings by name.
        schema: JSON schema of all settings.
    """
    for name in config:
        if name not in schema["properties"]:
            yield f"unknown setting '{name}' is ignored{nearest(name, schema['properties'])}"


def nearest(name: str, known: t.Iterable[str]) -> str:
    """Return a hint at the known name that is most like a wrong one, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def resolve(config: Mapping[str, t.Any]) -> Settings:
    """Return the settings as a frozen dataclass.

    Args:
        config: Settings that passed `coerce` and the schema.

    Raises:
        SettingsError: If settings contradict each other.
    """
    run = {name: config.get(name, schema.get("default")) for name, schema in RUN_SETTINGS.items()}
    run["api_url"] = _api_url(run["api_url"])
    if run["poll_max_interval_seconds"] < run["poll_interval_seconds"]:
        raise SettingsError("poll_max_interval_seconds must not be less than poll_interval_seconds")
    settings = Settings(
        **run,
        top_level={name: config[name] for name in STREAM_SETTINGS if name in config},
        streams=config.get("streams", {}),
    )
    for name, values in settings.streams.items():
        _check_stream(name, {**settings.top_level, **values})
    if not settings.streams:
        _check_stream(None, settings.top_level)
    return settings


def _check_stream(name: str | None, values: Mapping[str, t.Any]) -> None:
    where = f" (stream '{name}')" if name else ""
    matching = values.get("matching")
    if matching == "custom" and "field_name" not in values:
        raise SettingsError(f"matching 'custom' needs field_name, the field to search by{where}")
    if matching == "custom_request" and "custom_request_column" not in values:
        raise SettingsError(
            f"matching 'custom_request' needs custom_request_column, the column that holds the "
            f"query{where}"
        )


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
    types = schema.get("type", ())
    types = {types} if isinstance(types, str) else set(types)
    if isinstance(value, str) and types & {"object", "array"}:
        try:
            return json.loads(value, parse_float=Decimal, parse_constant=_refuse_constant)
        except (ValueError, RecursionError, InvalidOperation):
            return value
    if isinstance(value, str) and "boolean" in types:
        return _BOOLEANS.get(value.lower(), value)
    if isinstance(value, (str, Decimal, float)) and types & {"integer", "number"}:
        return _number(value, integer="integer" in types)
    return value


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
    path = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        return f"{', '.join(missing)} must be set"
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        unknown = [name for name in error.instance if name not in known]
        return f"{path}: " + "; ".join(f"unknown setting '{n}'{nearest(n, known)}" for n in unknown)
    allowed = _ALLOWED.get(error.validator, lambda _: f"breaks '{error.validator}'")
    return f"{path or 'settings'} {allowed(error.validator_value)}"
