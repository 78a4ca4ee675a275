"""Settings that are each allowed, and contradict each other.

A line names the settings. It quotes none of their values, save names of streams, columns and
channels.
"""

from __future__ import annotations

import os
import typing as t

from target_altcraft import subscriptions
from target_altcraft.settings_schema import FILES, RUN_SETTINGS

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MOVING = ("content_columns", "custom_data_columns", "attach_column", "custom_request_column")
"""Settings by which columns leave the profile, each to a place of its own."""
_SIDE_FILES = ("-journal", "-wal", "-shm")  # SQLite's own, beside the journal: sqlite.org/tempfiles


def contradictions(config: Mapping[str, t.Any]) -> Iterator[str]:
    """Yield what is wrong with settings that fit their JSON schema, a line each.

    Args:
        config: Settings as `settings.coerce` returned them.
    """
    shortest, longest = (
        config.get(name, RUN_SETTINGS[name]["default"])
        for name in ("poll_interval_seconds", "poll_max_interval_seconds")
    )
    if longest < shortest:
        yield "poll_max_interval_seconds must not be less than poll_interval_seconds"
    yield from _journal_faults(config)
    yield from _file_faults(config)
    yield from _stream_faults(config)


def stream_contradictions(values: Mapping[str, t.Any]) -> Iterator[str]:
    """Yield what is wrong with the settings of one stream.

    Args:
        values: The stream's own settings over those of the top level.
    """
    matching = values.get("matching")
    if matching == "custom" and "field_name" not in values:
        yield "matching 'custom' needs field_name, the field to search by"
    if matching == "custom_request" and "custom_request_column" not in values:
        yield (
            "matching 'custom_request' needs custom_request_column, the column that holds the query"
        )
    taken: dict[str, str] = {}
    for setting in _MOVING:
        columns = values.get(setting) or ()
        for column in dict.fromkeys([columns] if isinstance(columns, str) else columns):
            if column in taken:
                yield f"{taken[column]} and {setting} must not both name the column '{column}'"
            taken.setdefault(column, setting)


def _journal_faults(config: Mapping[str, t.Any]) -> Iterator[str]:
    """Yield which settings need the journal, and where `resend` and `baseline` contradict."""
    needs = "needs journal_path, the file that remembers what was delivered"
    resend, baseline = config.get("resend", False), config.get("baseline", False)
    if "journal_path" not in config:
        for name in ("resend", "baseline", "journal_keep_days"):
            if config.get(name):
                yield f"{name} {needs}"
        given = {None: config, **config.get("streams", {})}
        for stream, values in given.items():
            if values.get("send_again", "always") != "always":
                where = "" if stream is None else f"streams.{stream}."
                yield f"{where}send_again '{values['send_again']}' {needs}"
    if resend is True and baseline is True:
        yield "resend and baseline must not both be true"
    elif resend and baseline:
        streams = baseline if isinstance(baseline, list) else resend
        for stream in dict.fromkeys(streams):
            if all(each is True or stream in each for each in (resend, baseline)):
                yield f"resend and baseline must not both name a stream ('{stream}')"


def _file_faults(config: Mapping[str, t.Any]) -> Iterator[str]:
    """Yield which settings name the same file, by whatever path."""
    taken: dict[object, str] = {}
    for name in FILES:
        path = config.get(name)
        if path is None or path == os.devnull:
            continue
        file = _file(path)
        if file in taken:
            yield f"{taken[file]} and {name} must not name the same file"
        taken.setdefault(file, name)
    if journal := config.get("journal_path"):
        for ending in _SIDE_FILES:
            if other := taken.get(_file(_real(journal) + ending)):
                yield f"{other} must not be journal_path with '{ending}': SQLite writes that file"


def _file(path: str) -> object:
    """Return what tells a file from any other: where it is on disk, or else its real path."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a path with a null byte is no error here
    except (OSError, ValueError):
        return _real(path)
    return found.st_dev, found.st_ino


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:  # no path at all, as will be said when it is opened
        return path


def _stream_faults(config: Mapping[str, t.Any]) -> Iterator[str]:
    """Yield what is wrong with stream-level settings, the top level's and each stream's."""
    streams = config.get("streams", {})
    for name, values in streams.items():
        for fault in stream_contradictions({**config, **values}):
            yield f"{fault} (stream '{name}')"
    if not streams:
        yield from stream_contradictions(config)
    for where, values in (("", config), *((f"streams.{n}.", v) for n, v in streams.items())):
        for fault in subscriptions.faults(values.get("subscriptions", ())):
            yield f"{where}subscriptions{fault}"
