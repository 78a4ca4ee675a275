"""Values of a profile as text: cut to a legible size, and searched."""

from __future__ import annotations

import typing as t

import msgspec

from target_altcraft.sandbox.submission import as_text

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from target_altcraft.sandbox.profiles import Profile
    from target_altcraft.sandbox.submission import Json

CELL = 160
"""Characters of a value in a table."""
_BEFORE_HIT = 40
"""Characters before what was searched for."""

_encoder = msgspec.json.Encoder(decimal_format="number")


def cut(value: object, limit: int) -> Json:
    """Return a value as text, and its length if that is more than can be shown."""
    text = value if isinstance(value, str) else _encoder.encode(value).decode()
    return {"text": text} if len(text) <= limit else {"text": text[:limit], "length": len(text)}


def fields_of(pairs: Iterable[tuple[str, t.Any]], limit: int, length: int) -> Json:
    """Return names and values as text.

    Args:
        pairs: What to show.
        limit: How many at most.
        length: Characters of a value.
    """
    every = list(pairs)
    return {
        "fields": [
            {"name": cut(name, CELL), **cut(value, length)} for name, value in every[:limit]
        ],
        "more_fields": max(0, len(every) - limit),
    }


def parts_of(entry: Json) -> Iterator[tuple[str, t.Any]]:
    """Yield an entry's values: a profile's under their own names, others as `part.name`."""
    yield from entry.get("data", {}).items()
    for part, value in entry.items():
        if part == "data":
            continue
        if isinstance(value, dict):
            yield from ((f"{part}.{name}", each) for name, each in value.items())
        else:
            yield part, value


def _values(profile: Profile) -> Iterator[tuple[str, t.Any]]:
    """Yield every value that is or was the customer's, the present ones first."""
    yield from profile.fields.items()
    yield "id", profile.id
    for entered in reversed(profile.history):
        yield from parts_of(entered["entry"])


def text_of(profile: Profile) -> str:
    """Return every value that is or was the customer's in one text, to search in."""
    present = profile.fields
    values: list[t.Any] = [*present.values(), profile.id]
    for entered in profile.history:
        for part, value in entered["entry"].items():
            if part == "data":
                # Most of what was imported is what the fields still hold: the same objects.
                values += [each for name, each in value.items() if each is not present.get(name)]
            else:
                values.append(value)
    return "\n".join(_leaves(values)).casefold()


def _leaves(value: object) -> Iterator[str]:
    """Yield the texts a value is made of. Not recursive: a value may be nested deeply."""
    left: list[t.Any] = [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, list):
            left += each
        elif isinstance(each, dict):
            left += each.values()
        elif each is not None:
            yield as_text(each)


def hit_in(profile: Profile, needle: str) -> Json | None:
    """Return the first value that holds the text, cut around it."""
    for name, value in _values(profile):
        for text in _leaves(value):
            folded = text.casefold()
            if needle not in folded:
                continue
            # Case-folding may change the length ("ß"); then where the text stands is not known.
            at = folded.index(needle) if len(folded) == len(text) else 0
            start = max(0, at - _BEFORE_HIT)
            shown = ("…" if start else "") + text[start : start + CELL]
            length = {"length": len(text)} if len(text) > CELL else {}
            return {"name": cut(name, CELL), "text": shown, **length}
    return None
