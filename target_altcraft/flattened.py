"""Objects that Meltano hands over by the environment, with their keys joined by dots.

Of `streams: {customers: {workflow_id: 12}}` in a `meltano.yml` it makes
`TARGET_ALTCRAFT_STREAMS={"customers.workflow_id": 12}` (seen in Meltano 4.4; in its configuration
files the object is whole).
"""

from __future__ import annotations

import typing as t

from target_altcraft.settings_schema import STREAM_SETTINGS

if t.TYPE_CHECKING:
    from collections.abc import Mapping

_REMOVED = (None, "__NULL__")
"""What a stream map may be besides an object."""


def nested_streams(streams: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the setting `streams` with its objects put together again.

    The names of the stream-level settings tell where a stream's name ends, which may hold dots.

    Args:
        streams: Value of the setting. What is an object already is left as it is.
    """
    result: dict[str, t.Any] = {}
    for key, value in streams.items():
        path = [key] if isinstance(value, dict) else _path(key)
        place = result
        for name in path[:-1]:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                break
        else:
            place[path[-1]] = value
            continue
        result[key] = value
    return result


def nested_maps(maps: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the setting `stream_maps` with its objects put together again.

    A line of a map is told from a stream that is left out by its value, or by other lines.

    Args:
        maps: Value of the setting. What is an object already is left as it is.
    """
    flat = {key: key.rpartition(".") for key, value in maps.items() if not isinstance(value, dict)}
    streams = {
        stream
        for key, (stream, _, column) in flat.items()
        if stream and (maps[key] not in _REMOVED or column.startswith("__"))
    }
    result: dict[str, t.Any] = {}
    for key, value in maps.items():
        stream, _, column = flat.get(key, ("", "", ""))
        if stream in streams and isinstance(result.setdefault(stream, {}), dict):
            result[stream][column] = value
        else:
            result[key] = value
    return result


def _path(key: str) -> list[str]:
    """Return stream, setting and keys within it, or the key alone if it is none of that."""
    names = key.split(".")
    for number in range(1, len(names)):
        if names[number] in STREAM_SETTINGS:
            return [".".join(names[:number]), *names[number:]]
    return [key]
