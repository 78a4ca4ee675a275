"""The way from a stream of the input to one output stream, as SCHEMA and settings make it."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from target_altcraft.memory.versions import ENTRY_DIGEST, VersionMaker, digest, stable_json
from target_altcraft.origin import NO_KIND
from target_altcraft.profile import EntryPlan
from target_altcraft.receipts import KeyWriter

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from target_altcraft.memory.memory import Memory
    from target_altcraft.memory.stream import StreamMemory
    from target_altcraft.origin import Kind
    from target_altcraft.settings import Settings, StreamSettings

_MAPPING_BYTES = 16
_NOT_DELETED = {"", "0", "false", "f", "no", "n", "null"}
"""Texts that say no; some sources know texts only."""


class Output(t.NamedTuple):
    """An output stream of a tap's stream, as a SCHEMA message and the stream maps make it."""

    name: str
    transform: Callable[[dict[str, t.Any]], dict[str, t.Any] | None] | None
    """The stream map; None if it changes nothing. Raises `Rejection`."""
    check: Callable[[dict[str, t.Any]], None]
    """Raises `Rejection` for a mapped record that breaks its schema or lacks a key."""
    schema: Mapping[str, t.Any]
    """Of the mapped records."""
    keys: Sequence[str]
    """Key properties of the mapped records."""
    source_keys: Sequence[str]
    """Key properties of the tap's records."""
    bookmarks: Sequence[str]
    """The SCHEMA's `bookmark_properties`."""
    definition: object
    """What the settings say of its stream map and flattening."""


@dataclass(slots=True, eq=False)
class Route:
    """What a record of one output stream passes through; `memory` only with a journal."""

    name: str
    settings: StreamSettings
    transform: Callable[[dict[str, t.Any]], dict[str, t.Any] | None] | None
    check: Callable[[dict[str, t.Any]], None]
    plan: EntryPlan
    keys: KeyWriter | None
    """Of the mapped records, if there are receipts."""
    versions: VersionMaker
    memory: StreamMemory | None
    kind: Kind
    """Of the stream's records."""
    deleted_column: str | None
    """A column of the tap's records that marks deleted ones, besides `_sdc_deleted_at`."""


def make_route(
    output: Output, settings: Settings, memory: Memory | None, *, has_receipts: bool = False
) -> Route:
    """Return the way to an output stream.

    Args:
        output: The output stream.
        settings: The run's settings.
        memory: The journal's, if there is one.
        has_receipts: Whether the keys of its records are wanted for the receipts file.

    Raises:
        SettingsError: If its settings are not complete, or do not fit what the journal remembers.
    """
    stream = settings.stream(output.name)
    columns = output.bookmarks if stream.bookmark_column is None else [stream.bookmark_column]
    bookmark = columns[0] if len(columns) == 1 else None
    plan = EntryPlan(stream, output.schema)
    versions = VersionMaker(output.source_keys, bookmark)
    remembered = None
    if memory is not None:
        remembered = memory.enter(
            stream,
            _mapping(stream, output, plan),
            has_key=versions.has_key,
            bookmark=bookmark,
        )
    return Route(
        name=output.name,
        settings=stream,
        transform=output.transform,
        check=output.check,
        plan=plan,
        keys=KeyWriter(output.keys) if has_receipts else None,
        versions=versions,
        memory=remembered,
        kind=NO_KIND if remembered is None else remembered.kind,
        deleted_column=stream.deleted_column,
    )


def marks_deleted(value: object) -> bool:
    """Tell whether what stands in the setting `deleted_column`'s column marks a deleted record."""
    if isinstance(value, str):
        return value.strip().casefold() not in _NOT_DELETED
    return bool(value)


def _mapping(stream: StreamSettings, output: Output, plan: EntryPlan) -> bytes:
    """Return a digest of how an output stream's records become entries."""
    parts = [
        [stream.name, stream.workflow_id, stream.matching, stream.field_name, stream.match_column],
        [stream.content_columns, stream.custom_data_columns],
        [stream.attach_column, stream.custom_request_column, stream.nulls],
        list(stream.subscriptions),
        output.definition,
        plan.columns(),
        ENTRY_DIGEST,
    ]
    return digest(stable_json(parts), _MAPPING_BYTES)
