"""Objects that Meltano hands over by the environment, with their keys joined by dots.

Of `streams: {customers: {workflow_id: 12}}` in a `meltano.yml` it makes
`TARGET_ALTCRAFT_STREAMS={"customers.workflow_id": 12}` (seen in Meltano 4.4; in its configuration
files the object is whole).
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Container, Mapping


def nested(streams: Mapping[str, t.Any], settings: Container[str]) -> dict[str, t.Any]:
    """Return the setting `streams` with its objects put together again.

    Args:
        streams: Value of the setting. What is an object already is left as it is.
        settings: Names of the stream-level settings: they tell where a stream's name ends, which
            may hold dots itself.
    """
    result: dict[str, t.Any] = {}
    for key, value in streams.items():
        path = [key] if isinstance(value, dict) else _path(key, settings)
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


def _path(key: str, settings: Container[str]) -> list[str]:
    """Return stream, setting and keys within it, or the key alone if it is none of that."""
    names = key.split(".")
    for number in range(1, len(names)):
        if names[number] in settings:
            return [".".join(names[:number]), *names[number:]]
    return [key]
