"""Streams whose repeats cannot be told, because the tap names no bookmark column for them."""

from __future__ import annotations

import logging
import typing as t

logger = logging.getLogger(__name__)


class UnmarkedStreams:
    """Warns once of each stream for which a STATE holds a bookmark, and the SCHEMA names none."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def add(self, tap_stream: str, name: str) -> None:
        """Note a stream without a bookmark column.

        Args:
            tap_stream: The tap's name of it.
            name: Its name after stream maps.
        """
        self._names.setdefault(tap_stream, name)

    def look(self, state: t.Any) -> None:  # noqa: ANN401 - whatever the tap says
        """Warn of the streams that a STATE holds a bookmark for."""
        if not self._names:
            return
        bookmarks = state.get("bookmarks") if isinstance(state, dict) else None
        if not isinstance(bookmarks, dict):
            return
        for tap_stream, name in list(self._names.items()):
            if not bookmarks.get(tap_stream):
                continue
            del self._names[tap_stream]
            logger.warning(
                "stream '%s': the tap's STATE holds a bookmark for it, but its SCHEMA names no "
                "single one of bookmark_properties: what the tap repeats at its bookmark cannot be "
                "told and is sent again. Set streams.%s.bookmark_column to the bookmark's column, "
                "or send_again",
                name,
                name,
            )
