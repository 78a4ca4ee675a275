"""JSON and dates: how values are read from the tap's lines and written to Altcraft.

Numbers stay as they are written (`12.10` stays `12.10`), and what msgspec refuses but JSON allows
is read by the standard library.
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

if t.TYPE_CHECKING:
    from collections.abc import Mapping

_encode = msgspec.json.Encoder(decimal_format="number").encode
_encode_sorted = msgspec.json.Encoder(decimal_format="number", order="sorted").encode
decode_line = msgspec.json.Decoder(float_hook=Decimal).decode
"""Fast, but it does not know half surrogate pairs; see `decode_json`."""

_DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(?::\d\d)?)((?<=:\d\d:\d\d)[.,]\d+)?"
    r"\s?([Zz]|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?",
    re.ASCII,
)
_WITH_OFFSET = {"--T::+:", "--T::-:"}  # every third character of 2024-01-31T23:59:59+03:00
_HOURS_AND_MINUTES = len("23:59")
_MOST_DIGITS = 40
_UTC = {None, "Z", "z", "+00:00", "-00:00", "+0000", "+00"}


def encode_json(value: object) -> bytes:
    """Return compact UTF-8 JSON in which numbers stand as they were read.

    Raises:
        UnicodeEncodeError: If a text holds half a surrogate pair.
    """
    return _encode(value)


def encode_sorted(value: object) -> bytes:
    """Return JSON in which keys are sorted, so that equal objects are written alike.

    Raises:
        UnicodeEncodeError: If a text holds half a surrogate pair.
    """
    return _encode_sorted(value)


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
    separators = value[4::3]
    if separators == "--":  # every third character of 2024-01-31
        dt.date.fromisoformat(value)  # raises what is no date
        return f"{value}T00:00:00Z"
    if separators in _WITH_OFFSET:
        moment = dt.datetime.fromisoformat(value).astimezone(dt.timezone.utc)
        return t.cast("str", msgspec.to_builtins(moment))  # much faster than isoformat
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


def is_date_like(schema: Mapping[str, t.Any]) -> bool:
    """Tell whether a column's schema says date or date-time, in itself or in an alternative."""
    return schema.get("format") in {"date", "date-time"} or any(
        is_date_like(alternative)
        for key in ("anyOf", "oneOf")
        for alternative in schema.get(key, ())
        if isinstance(alternative, dict)
    )


def decode_json(line: bytes) -> t.Any:  # noqa: ANN401
    """Return the JSON value of a line; numbers that are not integers stay as they are written.

    Raises:
        ValueError: If it is not JSON in UTF-8. The message may hold a part of the line.
        RecursionError: If it is nested too deeply.
    """
    try:
        return decode_line(line)
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidOperation):
        # The slow road knows half surrogate pairs, which JSON allows and msgspec does not.
        # It would guess at other encodings, so it gets text; a byte order mark is no fault.
        text = line.decode("utf-8-sig")
        return json.loads(text, parse_float=_decimal, parse_constant=_refuse_constant)


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond all bounds
        raise ValueError from None


def _refuse_constant(name: str) -> t.NoReturn:
    raise ValueError(name)  # NaN and its like are not JSON
