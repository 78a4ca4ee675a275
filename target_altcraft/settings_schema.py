"""The JSON schema of the settings: names, types, ranges, defaults, titles and descriptions.

It is the only place that says them; `--about`, `meltano.yml`, the tables of the documentation and
the checks at the start are all read from it or tested against it. What the settings become is said
in `settings.py`.
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_SECONDS = 31_536_000  # a year; clocks and locks cannot count for ever
_TEXTS = {"type": "array", "items": {"type": "string"}}
_STREAMS = {"type": ["boolean", "array"], "items": {"type": "string", "minLength": 1}}
_NAME = {"type": "string", "minLength": 1}

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
        **_TEXTS,
        "default": [],
        "title": "Content columns",
        "description": "Columns moved out of the profile into the entry's own `content`.",
    },
    "custom_data_columns": {
        **_TEXTS,
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
    "subscriptions": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["channel", "resource_id"],
            "properties": {
                "channel": _NAME,
                "resource_id": {"type": "integer"},
                "column": _NAME,
                "field": _NAME,
            },
        },
        "title": "Subscriptions",
        "description": "Subscriptions that each profile gets, one object per channel and resource: "
        '`[{"channel": "email", "resource_id": 7}]`. Altcraft sends messages to subscriptions, not '
        "to a profile's `email` and `phones`. `column` holds the address: by default `email` for "
        "email, `phone` (else `phones`) for sms, whatsapp, viber and notify; required otherwise. "
        "`field` says where the address goes, dots nest: by default `email` for email, `phone` for "
        "sms, `cc_data.phone` for whatsapp, viber and notify, `cc_data.id` for telegram_bot, "
        "`subscription_id` for push; required otherwise. Every other key is sent as it is. Not "
        "sent unless set.",
    },
    "send_again": {
        "type": "string",
        "enum": ["new_version", "always", "changed", "never"],
        "title": "Send again",
        "description": "When a key that was delivered is sent again: `new_version`, `always`, "
        "`changed` (the entry differs from the one last delivered) or `never`. All but `always` "
        "need `journal_path`; `changed` and `never` need key properties. By default "
        "`new_version` for a stream with one bookmark column if `journal_path` is set, else "
        "`always`.",
    },
    "bookmark_column": {
        "type": "string",
        "minLength": 1,
        "title": "Bookmark column",
        "description": "Column whose value tells the versions of a record apart, for taps that "
        "name none. By default the one of the SCHEMA message's `bookmark_properties`.",
    },
    "deleted_column": {
        "type": "string",
        "minLength": 1,
        "title": "Deleted column",
        "description": "Column of the tap's record that marks a record as deleted, besides "
        "`_sdc_deleted_at`: such records are skipped. Null, false, 0, a blank text and the texts "
        "`false`, `f`, `no`, `n`, `null` and `0` do not mark it.",
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
        "description": "From when a task was accepted to the second question for its status; later "
        "waits are not shorter. The first question comes at once, or when short tasks have ended.",
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
        "enum": ["resend", "fail", "skip"],
        "default": "resend",
        "title": "On an ambiguous submit",
        "description": "When it cannot be known whether a batch was accepted: `resend` it (at "
        "most three times, each with a warning: its customers may enter the scenario twice), or "
        "`fail` the run. `skip` is for what an earlier run left in doubt: it counts as delivered; "
        "within a run, `skip` acts as `fail`.",
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
    "max_reject_percent": {
        "type": "number",
        "minimum": 0,
        "maximum": 100,
        "title": "Most rejects of a stream in percent",
        "description": "More rejected profiles of a stream than this, in percent of those that "
        "came so far, fail the run. Judged from 20 records on, at each completed task, every 1,000 "
        "records, before a STATE and at the end. Unless set, a stream of at least 20 records "
        "fails the run if all were rejected; 100 lets everything pass.",
    },
    "canary_rows": {
        "type": "integer",
        "minimum": 1,
        "title": "First profiles that go alone",
        "description": "The first so many profiles of each stream go alone: the rest of the stream "
        "waits for their task to complete. Then the stream is judged by `max_reject_percent`, "
        "by what Altcraft rejected of them and however few they are. All go at once unless set.",
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
    "journal_keep_days": {
        "type": "integer",
        "minimum": 1,
        "title": "Days that the journal remembers",
        "description": "Days after which the journal forgets a version, counted from when it was "
        "last seen. It never forgets what is unresolved, what has the greatest bookmark, nor what "
        "`send_again: changed` and `never` need. Needs `journal_path`. For ever unless set.",
    },
    "resend": {
        **_STREAMS,
        "default": False,
        "title": "Resend",
        "description": "For one run: send every record that comes, delivered before or not. "
        "`true` for all streams, or an array of streams. Needs `journal_path`. Best given by the "
        "environment.",
    },
    "baseline": {
        **_STREAMS,
        "default": False,
        "title": "Baseline",
        "description": "For one run: send nothing, remember what comes as delivered, and emit "
        "STATE. `true` for all streams, or an array of streams. Needs `journal_path`. Best given "
        "by the environment.",
    },
    "report_path": {
        "type": "string",
        "pattern": r"\.(html|json)$",
        "title": "Run report",
        "description": "When a run that has begun ends, in whatever way, a report of what went "
        "out is written here: a page for people if the name ends in `.html`, data for machines if "
        "in `.json`. Holds no profile values.",
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

BRAKES = (
    "dry_run",
    "baseline",
    "max_profiles",
    "max_rejects",
    "max_reject_percent",
    "canary_rows",
)
"""Settings that keep a run from sending what it should not: none of them may be ignored."""
SIZES = ("batch_size_rows", "batch_size_bytes", "max_in_flight")
FILES = ("rejects_path", "receipts_path", "journal_path", "report_path")

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

_SCALARS = {"string", "integer", "number", "boolean"}


def types_of(schema: Mapping[str, t.Any]) -> frozenset[str]:
    """Return the JSON types that the schema of a setting allows, without null.

    Args:
        schema: JSON schema of one setting. Without a `type` of its own, it allows none.
    """
    types = schema.get("type", ())
    return frozenset({types} if isinstance(types, str) else types) - {"null"}


def may_be_shown(schema: Mapping[str, t.Any]) -> bool:
    """Tell whether a setting's value may stand in a report.

    Scalars and arrays of scalars may, unless the schema marks them secret. Objects may not:
    `content` can hold an address, `stream_map_config` the salt of a hash, and `batch_config` the
    key of a storage.

    Args:
        schema: JSON schema of one setting.
    """
    types = types_of(schema)
    if not types or schema.get("secret") or schema.get("writeOnly"):
        return False
    if "array" in types:
        items = types_of(schema.get("items", {}))
        return bool(items) and items <= _SCALARS and types <= _SCALARS | {"array"}
    return types <= _SCALARS
