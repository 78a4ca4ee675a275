"""What a version of a record is: 28 bytes of digests, never a value.

A version says which row of the source it is (key and bookmark) and what would be sent of it::

    | 8 bytes         | 12 bytes          | 8 bytes             |
    | bookmark        | digest of the key | digest of the entry |
    |------------ id ---------------------|

The bookmark stands in front, in a form that sorts as it does, so that what a tap reads in the
bookmark's order is found side by side in the journal. Two spellings of a moment (`Z` and `+00:00`)
are one bookmark.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import struct
import typing as t
from decimal import Decimal, InvalidOperation
from hashlib import blake2b
from operator import add, itemgetter

from xxhash import xxh3_64_digest

from target_altcraft.codec import JSON, SORTED_JSON, holds_no_number, to_utc

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import msgspec

BOOKMARK_BYTES = 8
KEY_BYTES = 12
ENTRY_BYTES = 8
ENTRY_DIGEST = "xxh3_64"
"""A version under another digest of entries is a version under another mapping."""
ID_BYTES = BOOKMARK_BYTES + KEY_BYTES
VERSION_BYTES = ID_BYTES + ENTRY_BYTES
NO_BOOKMARK = bytes(BOOKMARK_BYTES)
"""Of a record without a usable bookmark."""
_NO_BOOKMARK_NUMBER = int.from_bytes(NO_BOOKMARK, "big")
SETTLED = bytes(VERSION_BYTES)
"""Stands where a version stood that is settled; positions must not shift."""

_ORDERED = {0x7F, 0x80}
"""First bytes of integers and moments of less than 2 ** 56: the years before 4253."""
_METADATA = "_sdc_"
_MIDDLE = 1 << 63
_NAIVE_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - of values that were brought to UTC
_MICROSECOND = dt.timedelta(microseconds=1)
_MICROSECOND_DIGITS = 6
_MINUTE_LENGTH = len("2024-05-06T12:00")
_MOST_DIGITS = 40
_MOST_INTEGER_DIGITS = 19
_MOST_KEPT = 4096
_pack_version = struct.Struct(f">Q{KEY_BYTES}s{ENTRY_BYTES}s").pack
_pack_id = struct.Struct(f">Q{KEY_BYTES}s").pack
_minute_of, _rest_of = itemgetter(slice(_MINUTE_LENGTH)), itemgetter(slice(_MINUTE_LENGTH, None))
_new_key_digest = blake2b(digest_size=KEY_BYTES).copy  # much faster than to make one anew
_parse = dt.datetime.fromisoformat
_NOT_ENCODED = (UnicodeEncodeError, TypeError, ValueError, OverflowError, RecursionError)


def digest(data: bytes, size: int) -> bytes:
    """Return a digest of so many bytes."""
    return blake2b(data, digest_size=size).digest()


def stable_json(value: object) -> bytes:
    """Return JSON that is the same for equal values, also of texts that no UTF-8 can hold."""
    try:
        return SORTED_JSON.encode(value)
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError):
        return json.dumps(value, sort_keys=True, default=str).encode()


def source_row(record: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return a tap's record without the columns that the tap adds itself."""
    return {name: value for name, value in record.items() if not name.startswith(_METADATA)}


def bookmark_bytes(value: t.Any) -> bytes:  # noqa: ANN401 - of the column's type
    """Return a bookmark's value as 8 bytes, the same for each spelling of it.

    Integers and moments sort as they do; other values become a digest. An integer that comes as a
    text one night, because the source or the tap has changed the column's type, is still the same.
    """
    return _bookmark_number(value).to_bytes(BOOKMARK_BYTES, "big")


def _bookmark_number(value: t.Any) -> int:  # noqa: ANN401 - of the column's type
    """Return the number whose bytes are a bookmark."""
    if isinstance(value, str):
        try:
            return _plain_moment(value)
        except (ValueError, OverflowError):  # not of the usual form
            value = _moment(value) if value[4:5] == "-" else _number(value)
    if value is None:
        return _NO_BOOKMARK_NUMBER
    if isinstance(value, Decimal) or (type(value) is int and abs(value) >= _MIDDLE):
        value = _plain(Decimal(value))
    if type(value) is int and -_MIDDLE < value < _MIDDLE:
        return value + _MIDDLE
    with contextlib.suppress(RecursionError):
        return int.from_bytes(digest(stable_json(value), BOOKMARK_BYTES), "big")
    return _NO_BOOKMARK_NUMBER  # nested too deeply to be written again


def _plain_moment(text: str) -> int:
    """Return a date-time in microseconds from the middle of all numbers, put together.

    Several times as fast as to read all of it.

    Raises:
        ValueError, OverflowError: If it is not of the usual form,
            `2024-05-06T12:00:00+03:00`, or the same with three or six digits behind a point.
    """
    if text[19:20] != ".":
        return _MINUTES[text[:_MINUTE_LENGTH]] + _RESTS[text[_MINUTE_LENGTH:]]
    end = 26 if text[23:24].isdigit() else 23
    fraction = text[20:end]
    if not (fraction.isascii() and fraction.isdigit()):
        raise ValueError
    micros = int(fraction.ljust(_MICROSECOND_DIGITS, "0"))
    return _MINUTES[text[:_MINUTE_LENGTH]] + _RESTS[text[_MINUTE_LENGTH:19] + text[end:]] + micros


class _Minutes(dict[str, int]):
    """From the middle of all numbers to each minute, `2024-05-06T12:00`, in microseconds."""

    def __missing__(self, text: str) -> int:
        return _kept(self, text, _since_1970(f"{text[:_MINUTE_LENGTH]}:00") + _MIDDLE)


class _Rests(dict[str, int]):
    """The seconds of `:30+03:00` less the zone's offset, in microseconds."""

    def __missing__(self, text: str) -> int:
        if text[3:4] in {".", ","}:  # a fraction does not repeat
            raise ValueError
        return _kept(self, text, _since_1970(f"1970-01-01T00:00{text}"))


def _since_1970(text: str) -> int:
    """Return a date-time without a fraction in microseconds since 1970."""
    return (_parse(to_utc(text).rstrip("Z")) - _NAIVE_EPOCH) // _MICROSECOND


def _kept(kept: dict[str, int], text: str, number: int) -> int:
    if len(kept) >= _MOST_KEPT:
        kept.clear()
    kept[text] = number
    return number


_MINUTES, _RESTS = _Minutes(), _Rests()
"""Records that follow each other often share the minute; seconds with a zone repeat."""


def _number(text: str) -> str | Decimal:
    """Return the number that a text is, written as a tap would write it; else the text itself."""
    if not text[-1:].isdigit() or len(text) > _MOST_DIGITS:
        return text
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    return number if str(number) == text else text  # `007` is a name


def _plain(number: Decimal) -> int | str:
    """Return a number in one spelling: an integer if it is one and not too large."""
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):  # NaN or infinite
        return str(number)
    if not number:
        return 0
    shown = "".join(map(str, digits)).rstrip("0")
    exponent += len(digits) - len(shown)
    if exponent >= 0 and number.adjusted() < _MOST_INTEGER_DIGITS:
        return int(number)
    return f"{'-' if sign else ''}{shown}E{exponent}"


def _moment(text: str) -> int | str:
    """Return a date or date-time in microseconds since 1970; one spelling where that is too coarse.

    Returns:
        The text itself if it is no date.
    """
    try:
        whole, _, fraction = to_utc(text).rstrip("Z").partition(".")
    except (ValueError, OverflowError):
        return text
    fraction = fraction.rstrip("0")
    if len(fraction) > _MICROSECOND_DIGITS:
        return f"{whole}.{fraction}"
    micros = (_parse(whole) - _NAIVE_EPOCH) // _MICROSECOND
    return micros + int(fraction.ljust(_MICROSECOND_DIGITS, "0"))


class VersionMaker:
    """Makes the versions of one stream's records.

    ::

        maker = VersionMaker(["id"], "updated_at")
        keys = [maker.key(record) for record in records]
        bookmarks = [record.get(maker.bookmark_column) for record in records]
        versions = maker.versions(keys, bookmarks, bodies)

    A lot's records wait as their keys and bookmarks: whole records would push each other out of
    the processor's cache. `key_column` is the only key property, None if there are none or several;
    `bookmark_column` is empty if there is none.

    Args:
        key_properties: Of the tap's SCHEMA; none: the whole source row stands for the key, save
            its bookmark.
        bookmark_column: The bookmark's column in the tap's record; None if there is none.
    """

    def __init__(self, key_properties: Sequence[str], bookmark_column: str | None) -> None:
        self._has_bookmark = bookmark_column is not None
        self.bookmark_column = bookmark_column or ""
        self.key_column = key_properties[0] if len(key_properties) == 1 else None
        self._keys = tuple(key_properties)
        self._json = JSON if self._keys else SORTED_JSON

    @property
    def has_key(self) -> bool:
        """Whether the stream has key properties."""
        return bool(self._keys)

    def key(self, record: Mapping[str, t.Any]) -> t.Any:  # noqa: ANN401 - whatever stands there
        """Return what stands for a record's key."""
        if self.key_column is not None:
            return record.get(self.key_column)
        if self._keys:
            return [record.get(name) for name in self._keys]
        row = source_row(record)
        if self._has_bookmark:
            row.pop(self.bookmark_column, None)  # it stands in front, in one spelling
        return row

    def versions(
        self, keys: Sequence[t.Any], bookmarks: Sequence[t.Any], bodies: Sequence[bytes]
    ) -> list[bytes]:
        """Return the versions of records, in their order.

        Args:
            keys: Of the records: see `key`.
            bookmarks: Of the records, in `bookmark_column`.
            bodies: The entry of each as JSON.
        """
        marks, digests = self._bookmarks(bookmarks), self._key_digests(keys)
        return list(map(_pack_version, marks, digests, map(xxh3_64_digest, bodies)))

    def ids(self, keys: Sequence[t.Any], bookmarks: Sequence[t.Any]) -> list[bytes]:
        """Return the digests of bookmark and key of records, in their order."""
        return list(map(_pack_id, self._bookmarks(bookmarks), self._key_digests(keys)))

    def _bookmarks(self, values: Sequence[t.Any]) -> Sequence[int]:
        """Return the numbers whose bytes are the bookmarks."""
        if not self._has_bookmark:
            return [_NO_BOOKMARK_NUMBER] * len(values)
        first = values[0] if values else None
        if isinstance(first, str) and values.count(first) == len(values):
            return [_bookmark_number(first)] * len(values)
        try:  # what `_bookmark_number` tries first, without a call for each record
            minutes = map(_MINUTES.__getitem__, map(_minute_of, values))
            return list(map(add, minutes, map(_RESTS.__getitem__, map(_rest_of, values))))
        except (TypeError, LookupError, ValueError, OverflowError):
            return list(map(_bookmark_number, values))

    def _key_digests(self, keys: Sequence[t.Any]) -> list[bytes]:
        try:
            texts = self._json.encode_lines(keys).split(b"\n")[:-1]
        except _NOT_ENCODED:
            texts = [_text(self._json, key) for key in keys]
        digests = []
        for text in texts:
            digester = _new_key_digest()
            digester.update(text)
            digests.append(digester.digest())
        return digests


def _text(json_: msgspec.json.Encoder, key: object) -> bytes:
    """Return the JSON of one key among which there are odd ones.

    Of a row that is nested too deeply to be written again there is none: its entry tells it.
    """
    with contextlib.suppress(RecursionError):
        try:
            return json_.encode(key)
        except _NOT_ENCODED:
            return stable_json(key)
    return b""


def source_digest(record: Mapping[str, t.Any], bookmark: str | None) -> bytes:
    """Return a digest of the source row, to tell whether a rejected record has changed.

    Args:
        record: As the tap sent it.
        bookmark: The bookmark's column: it is compared apart, in one spelling.
    """
    row = source_row(record)
    if bookmark is not None:
        row.pop(bookmark, None)
    text = stable_json(row)
    if b"null" in text and holds_no_number(row):  # NaN is not null
        text = json.dumps(row, sort_keys=True, default=str).encode()
    return digest(text, ENTRY_BYTES)


def sorts(version: bytes) -> bool:
    """Tell whether a version's bookmark sorts as its value does.

    A digest does not. One in 128 looks as if it did; of a stream's greatest and least, never both.
    """
    return version[0] in _ORDERED


def parted(versions: bytes | bytearray) -> list[bytes]:
    """Return versions that stand one after the other."""
    whole = bytes(versions)
    return [whole[i : i + VERSION_BYTES] for i in range(0, len(whole), VERSION_BYTES)]


def bookmark_of(version: bytes) -> bytes:
    """Return a version's bookmark."""
    return version[:BOOKMARK_BYTES]


def key_of(version: bytes) -> bytes:
    """Return a version's digest of the key."""
    return version[BOOKMARK_BYTES:ID_BYTES]


def id_of(version: bytes) -> bytes:
    """Return a version's bookmark and key."""
    return version[:ID_BYTES]


def entry_of(version: bytes) -> bytes:
    """Return a version's digest of the entry."""
    return version[ID_BYTES:]
