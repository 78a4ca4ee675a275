"""Columns that the settings name and no SCHEMA does: without a word they would do nothing."""

from __future__ import annotations

import logging
import typing as t

from target_altcraft.misspelt import nearest
from target_altcraft.names import visible

if t.TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_PARTS = {"$ref", "allOf", "anyOf", "oneOf", "patternProperties"}
"""Keywords of a schema that may name columns as `properties` does."""

logger = logging.getLogger(__name__)


class NamedColumns:
    """Warns of the columns that the settings name and no SCHEMA does.

    A stream's own settings are about that stream: they are looked at when its SCHEMA comes. Those
    of the top level may be about any: only at the end is it known that no stream had a column.

    Without a match value a record is rejected, so the columns that hold one need no warning.

    Args:
        top_level: The settings for all streams, as they were given.
        streams: Those of each stream.
    """

    def __init__(
        self, top_level: Mapping[str, t.Any], streams: Mapping[str, Mapping[str, t.Any]]
    ) -> None:
        self._streams = streams
        self._unseen = dict.fromkeys(_named(top_level))
        self._columns: dict[str, None] = {}
        self._said: set[tuple[str, str, str]] = set()

    def look(self, stream: str, columns: Collection[str]) -> None:
        """Warn of what a stream's own settings name, and its SCHEMA does not.

        Args:
            stream: Its name after stream maps.
            columns: Those that its SCHEMA names after stream maps; none if it need not name all.
        """
        self._columns.update(dict.fromkeys(columns))
        for each in list(self._unseen):
            if each[1] in columns:
                del self._unseen[each]
        for setting, column in _named(self._streams.get(stream, {})) if columns else ():
            if column not in columns and (stream, setting, column) not in self._said:
                self._said.add((stream, setting, column))
                logger.warning(
                    "stream '%s': %s names the column '%s', which its SCHEMA does not name after "
                    "stream maps%s",
                    stream,
                    setting,
                    visible(column),
                    nearest(column, map(visible, columns)),
                )

    def end(self) -> None:
        """Warn of what the top level names, and no SCHEMA that came does."""
        for setting, column in self._unseen if self._columns else ():
            logger.warning(
                "%s names the column '%s', which no SCHEMA names after stream maps%s",
                setting,
                visible(column),
                nearest(column, map(visible, self._columns)),
            )


def columns_of(schema: Mapping[str, t.Any]) -> Collection[str]:
    """Return the columns that a schema names; none if others may be named in parts of it."""
    return schema.get("properties", {}) if _PARTS.isdisjoint(schema) else ()


def _named(values: Mapping[str, t.Any]) -> Iterator[tuple[str, str]]:
    """Yield each setting of these that names columns of records, and each column that it names."""
    for setting in ("content_columns", "custom_data_columns"):
        yield from ((setting, column) for column in values.get(setting) or ())
    if attach := values.get("attach_column"):
        yield "attach_column", attach
    for number, subscription in enumerate(values.get("subscriptions") or ()):
        if "column" in subscription:
            yield f"subscriptions[{number}].column", subscription["column"]
