"""The input: customers as a tap would export them, the same in every run."""

from __future__ import annotations

import datetime as dt
import json
import random
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Record = dict[str, t.Any]
Kind = t.Literal["customers", "wide", "tiny"]
Bookmark = t.Literal["none", "ascending", "one"]
"""What `updated_at` is to the tap: no bookmark, one that grows, or one with one value for all."""

STREAM = "customers"
RENAMES = {
    "first_name": "_fname",
    "last_name": "_lname",
    "phone": "phones",
    "birth_date": "_bdate",
    "city": "_city",
}
"""Columns of the input and the profile fields they stand for."""
RENAMING = {
    **{field: column for column, field in RENAMES.items()},
    **dict.fromkeys(RENAMES, "__NULL__"),
}
"""The stream map that does it: fields are added first, then the old columns removed."""

_BOOKMARK = "updated_at"
_SEED = 20
_STATE_EVERY = 10_000  # as often as a tap of the SDK says how far it is
_WIDE_COLUMNS = 60
_NAMES = (
    ("Ada", "Lovelace"),
    ("Max", "Müller"),
    ("Zoë", "O'Hara"),
    ("Иван", "Петров"),
    ("Мария", "Кузнецова"),
    ("Ольга", "Щербакова-Лебедева"),
)
_CITIES = ("London", "Köln", "Москва", "Нижний Новгород", "Казань", "Санкт-Петербург")
_FIRST_DAY = dt.date(1950, 1, 1)
_MOSCOW = dt.timezone(dt.timedelta(hours=3))
_FIRST_SECOND = dt.datetime(2024, 1, 1, tzinfo=_MOSCOW)


def updated_at(number: int) -> str:
    """Return when a customer changed."""
    return (_FIRST_SECOND + dt.timedelta(seconds=number)).isoformat()


def customer(number: int, dice: random.Random) -> Record:
    """Return a record of ten columns."""
    first_name, last_name = dice.choice(_NAMES)
    return {
        "id": number,
        "email": f"customer.{number}@example.com",
        "first_name": first_name,
        "last_name": last_name,
        "phone": f"+7986{number:07}",
        "birth_date": (_FIRST_DAY + dt.timedelta(days=dice.randrange(20_000))).isoformat(),
        "updated_at": updated_at(number),
        "city": dice.choice(_CITIES),
        "balance": dice.randrange(10_000_000) / 100,
        "orders": dice.randrange(200),
    }


def wide_customer(number: int, dice: random.Random) -> Record:
    """Return a record of sixty columns; some of them are empty, as such columns are."""
    record = customer(number, dice)
    for column in range(len(record), _WIDE_COLUMNS):
        values = (f"value {dice.randrange(1000)}", dice.randrange(1000), bool(column % 3), None)
        record[f"attribute_{column}"] = values[column % len(values)]
    return record


def tiny_customer(number: int, dice: random.Random) -> Record:
    """Return a record of two columns."""
    del dice
    return {"id": number, "email": f"customer.{number}@example.com"}


_MAKERS: dict[Kind, Callable[[int, random.Random], Record]] = {
    "customers": customer,
    "wide": wide_customer,
    "tiny": tiny_customer,
}


def schema(kind: Kind, bookmark: Bookmark = "none") -> Record:
    """Return the SCHEMA message of a stream."""
    properties: dict[str, t.Any] = {
        name: {"type": [_json_type(value), "null"]}
        for name, value in _MAKERS[kind](1, random.Random(_SEED)).items()
    }
    properties["id"] = {"type": "integer"}
    if kind != "tiny":
        properties["birth_date"]["format"] = "date"
        properties["updated_at"]["format"] = "date-time"
    message: Record = {
        "type": "SCHEMA",
        "stream": STREAM,
        "schema": {"type": "object", "properties": properties},
        "key_properties": ["id"],
    }
    if bookmark != "none":
        message["bookmark_properties"] = [_BOOKMARK]
    return message


def _json_type(value: object) -> str:
    names: dict[type, str] = {bool: "boolean", int: "integer", float: "number"}
    return names.get(type(value), "string")


def write_input(
    path: Path,
    kind: Kind,
    records: int,
    *,
    bookmark: Bookmark = "none",
    first: int = 1,
) -> None:
    """Write what a tap would: a SCHEMA, the records, and now and then a STATE.

    Args:
        path: File to write.
        kind: Which customers.
        records: How many.
        bookmark: What the stream's bookmark is.
        first: The first customer's number.
    """
    dice = random.Random(_SEED)
    make = _MAKERS[kind]
    with path.open("w", encoding="utf-8") as file:

        def write(message: Record) -> None:
            file.write(json.dumps(message) + "\n")  # letters beyond ASCII escaped, as taps do

        write(schema(kind, bookmark))
        for number in range(first, first + records):
            record = make(number, dice)
            if bookmark == "one":
                record[_BOOKMARK] = updated_at(0)
            write(
                {
                    "type": "RECORD",
                    "stream": STREAM,
                    "record": record,
                    "time_extracted": "2024-05-01T00:00:00+00:00",
                }
            )
            if number % _STATE_EVERY == 0 or number == first + records - 1:
                write({"type": "STATE", "value": {"bookmarks": {STREAM: {"id": number}}}})


def write_streams(path: Path, streams: int) -> None:
    """Write an input of so many streams, each of one tiny customer, and a STATE at its end."""
    dice = random.Random(_SEED)
    messages: list[Record] = []
    for number in range(1, streams + 1):
        stream = {"stream": f"{STREAM}_{number}"}
        messages.append({**schema("tiny"), **stream})
        messages.append({"type": "RECORD", **stream, "record": tiny_customer(number, dice)})
    messages.append({"type": "STATE", "value": {"bookmarks": {}}})
    path.write_text("".join(f"{json.dumps(message)}\n" for message in messages), encoding="utf-8")


class Inputs:
    """Input files in a folder, each written when it is first asked for.

    Args:
        folder: An existing folder, for other files of the benchmark too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(
        self, kind: Kind, records: int, *, bookmark: Bookmark = "none", first: int = 1
    ) -> Path:
        """Return the file of so many customers of a kind."""
        path = self.folder / f"{kind}-{records}-{bookmark}-{first}.singer"
        if not path.exists():
            write_input(path, kind, records, bookmark=bookmark, first=first)
        return path

    def streams(self, number: int) -> Path:
        """Return the file of so many streams, each of one record."""
        path = self.folder / f"streams-{number}.singer"
        if not path.exists():
            write_streams(path, number)
        return path
