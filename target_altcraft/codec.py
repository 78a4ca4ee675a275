"""JSON and dates: how values are read from the tap's lines and written to Altcraft.

Numbers stay as they are written (`12.10` stays `12.10`), and what msgspec refuses but JSON allows
is read by the standard library. So are NaN and Infinity, which are no JSON, but which Python's own
`json` writes, and so many a tap: they are for the caller to refuse, each with its record.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import typing as t
from decimal import Decimal, InvalidOperation
from functools import lru_cache

import msgspec
import simplejson

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

JSON = msgspec.json.Encoder(decimal_format="number")
"""Compact UTF-8 JSON, in which numbers stand as they were read.

It raises UnicodeEncodeError if a text holds half a surrogate pair.
"""
SORTED_JSON = msgspec.json.Encoder(decimal_format="number", order="sorted")
"""The same with sorted keys, so that equal objects are written alike."""
encode_json = JSON.encode
decode_line = msgspec.json.Decoder(float_hook=Decimal).decode
"""Fast, but it does not know half surrogate pairs; see `decode_json`."""

_DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(?::\d\d)?)((?<=:\d\d:\d\d)[.,]\d+)?"
    r"\s?([Zz]|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?",
    re.ASCII,
)
_SECONDS = frozenset(f":{second:02}" for second in range(60))
_ZONES = {"", "Z", "z", "+", "-"}
"""How a zone begins, if there is one."""
_MOST_KEPT = 4096
_MINUTE = len("2024-01-31T23:59")
_HOURS_AND_MINUTES = len("23:59")
_MOST_DIGITS = 40
_UTC = {None, "Z", "z", "+00:00", "-00:00", "+0000", "+00"}


def is_text(value: str) -> bool:
    """Tell whether UTF-8 can hold a text: not if there is half a surrogate pair in it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_written(value: object, line: bytes) -> bytes:
    """Return JSON of a message's member `value`, as the tap wrote it where it can be only that.

    Args:
        value: The member, decoded.
        line: The line that it stands in.

    Raises:
        RecursionError: If it is nested too deeply.
    """
    try:
        return encode_json(value)
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError):
        found = [member.value for member in members(line) if member.name == "value"]
        return found[-1].replace(b"\r", b" ")  # some take it for the end of a line


def encode_text(value: object) -> bytes:
    """Return JSON of a value that must be written whatever it holds: half pairs are escaped."""
    try:
        return encode_json(value)
    except UnicodeEncodeError:
        return simplejson.dumps(value, separators=(",", ":"), ignore_nan=True, default=str).encode()


def encode_lines(values: Sequence[object]) -> bytes:
    """Return the JSON of many values that must be written whatever they hold, a line for each.

    What is nested too deeply to be written is null.
    """
    try:
        return JSON.encode_lines(values)
    except (UnicodeEncodeError, RecursionError):
        return b"".join([_encode_anyway(value) + b"\n" for value in values])


def encode_each(values: Sequence[object]) -> list[bytes]:
    """Return the JSON of each of many values that must be written whatever they hold."""
    return encode_lines(values).split(b"\n")[:-1]  # JSON has no bare line end in a text


def _encode_anyway(value: object) -> bytes:
    try:
        return encode_text(value)
    except RecursionError:
        return b"null"


def rfc3339(moment: dt.datetime, timespec: str = "seconds") -> str:
    """Return a moment in UTC as RFC 3339, `1990-02-22T21:00:00Z`."""
    return moment.isoformat(timespec=timespec).replace("+00:00", "Z")


def to_utc(value: str | dt.date) -> str:
    """Return a date or date-time as RFC 3339 in UTC, `1990-02-22T21:00:00Z`.

    A date becomes its midnight, a value without a time zone counts as UTC, and the fraction of a
    second keeps all of its digits. That Altcraft reads this form: developer guide, `_bdate`.

    Raises:
        ValueError: If it is not a date or date-time; the message may hold the value.
        OverflowError: If it is before year 1 or after year 9999 in UTC.
    """
    if not isinstance(value, str):
        value = value.isoformat()
    if value[4::3] == "--":  # every third character of 2024-01-31
        dt.date.fromisoformat(value)  # raises what is no date
        return f"{value}T00:00:00Z"
    seconds = value[16:19]
    if seconds not in _SECONDS:
        return _read_to_utc(value)
    try:
        if value[19:20] != ".":
            return f"{_UTC_MINUTES[value[:16] + value[19:]]}{seconds}Z"
        rest = value[20:]
        zone = rest.lstrip("0123456789")
        if len(zone) < len(rest):
            fraction = rest[: len(rest) - len(zone)]
            return f"{_UTC_MINUTES[value[:16] + zone]}{seconds}.{fraction}Z"
    except ValueError:
        pass  # what is wrong is seen in the whole
    return _read_to_utc(value)


class _UtcMinutes(dict[str, str]):
    """A minute and its zone, `2024-01-31T23:59+03:00`, in UTC: records often share them."""

    def __missing__(self, text: str) -> str:
        minute, zone = text[:_MINUTE], text[_MINUTE:]
        if zone[:1] not in _ZONES:
            raise ValueError(text)
        if len(self) >= _MOST_KEPT:
            self.clear()
        self[text] = _read_to_utc(f"{minute}:00{zone}")[:_MINUTE]
        return self[text]


_UTC_MINUTES = _UtcMinutes()


def _read_to_utc(value: str) -> str:
    """Return a date-time as RFC 3339 in UTC, as `to_utc` does, read as a whole."""
    match = _DATE_TIME.fullmatch(value)
    if match is None:
        raise ValueError(value)
    date, time, fraction, zone = match.groups()
    text = f"{date}T{time}"
    moment = dt.datetime.fromisoformat(text)
    if zone not in _UTC:
        text = (moment - _offset(zone)).isoformat()
    elif len(time) == _HOURS_AND_MINUTES:
        text += ":00"
    return f"{text}.{fraction[1:]}Z" if fraction else f"{text}Z"


def to_text(value: object) -> str | None:
    """Return a text or a number as text, however the source typed it; None for null or blank.

    Raises:
        TypeError: If it is neither text nor a number.
        OverflowError: If it is a number that is not finite, or has too many digits to be written.
    """
    if isinstance(value, str):
        return value if value.strip() else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise TypeError
    if isinstance(value, Decimal):
        if not value.is_finite() or value.adjusted() > _MOST_DIGITS:
            raise OverflowError
        return format(value, "f")
    if isinstance(value, float) and not math.isfinite(value):
        raise OverflowError
    try:
        return str(value)
    except ValueError:  # an integer beyond the interpreter's own limit
        raise OverflowError from None


@lru_cache(maxsize=256)
def _offset(zone: str) -> dt.timedelta:
    minutes = int(zone[1:3]) * 60 + int(zone[3:].lstrip(":") or 0)
    offset = dt.timedelta(minutes=minutes)
    return -offset if zone[0] == "-" else offset


def decode_json(line: bytes) -> t.Any:  # noqa: ANN401
    """Return the JSON value of a line; numbers that are not integers stay as they are written.

    NaN, Infinity and numbers beyond all bounds become floats that `holds_no_number` finds.

    Raises:
        ValueError: If it is not JSON in UTF-8. The message may hold a part of the line.
        RecursionError: If it is nested too deeply.
    """
    try:
        return decode_line(line)
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidOperation):
        # The slow road knows half surrogate pairs, which JSON allows and msgspec does not.
        # It would guess at other encodings, so it gets text; a byte order mark is no fault.
        return _SLOW.decode(line.decode("utf-8-sig").strip(_BLANKS))


def members(line: bytes) -> Iterator[Member]:
    """Yield the members of the object that a line holds, as they are written.

    Raises:
        ValueError: If the line is no JSON object.
        RecursionError: If it is nested too deeply.
    """
    text = line.decode("utf-8-sig")
    place = _skip(text, 0)
    if text[place : place + 1] != "{":
        raise ValueError
    begin = place + 1
    place = _skip(text, begin)
    while text[place : place + 1] != "}":
        name, place = _SLOW.raw_decode(text, place)
        first = _skip(text, _skip(text, place) + 1)  # behind the colon
        _, end = _SLOW.raw_decode(text, first)
        place = _skip(text, end)
        yield Member(name, text[first:end].encode(), text[begin:place].encode())
        if text[place : place + 1] == ",":
            begin = place + 1
            place = _skip(text, begin)


class Member(t.NamedTuple):
    """A member of an object, as it is written."""

    name: str
    value: bytes
    whole: bytes
    """Name and value, with the blanks around them."""


def holds_no_number(value: object) -> bool:
    """Tell whether there is a NaN or an infinity in it, which msgspec would write as null."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, (list, tuple)):
            waiting.extend(value)
        elif isinstance(value, float) and not math.isfinite(value):
            return True
    return False


def _skip(text: str, place: int) -> int:
    """Return where the blanks end that begin at a place."""
    while text[place : place + 1] in _BLANK_CHARACTERS:
        place += 1
    return place


def _decimal(text: str) -> Decimal | float:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond all bounds
        return math.inf


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) < _DIGITS_OF_64_BITS else Decimal(text)


_BLANKS = " \t\r\n"
_BLANK_CHARACTERS = frozenset(_BLANKS)
_DIGITS_OF_64_BITS = 19
_SLOW = json.JSONDecoder(parse_float=_decimal, parse_int=_integer)
