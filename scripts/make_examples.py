"""Write `examples/customers.singer`: a small CRM export as Singer messages.

Customers and their orders as two streams, in the order of their bookmarks, with STATE in between.
The people are made up: the same seed gives the same file everywhere. E-mail addresses lie in the
domains reserved for documentation, telephone numbers in ranges that nobody is called by.

    python scripts/make_examples.py           # write the file
    python scripts/make_examples.py --check   # exit 1 if the file is not what would be written
"""

# ruff: noqa: RUF001 - most of these customers are Russian

from __future__ import annotations

import argparse
import datetime as dt
import random
import sys
import typing as t
from decimal import Decimal
from pathlib import Path

import msgspec

if t.TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, t.Any]

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "examples" / "customers.singer"

SEED = 20250301
CUSTOMERS = 300
ORDERS = 420
WITHOUT_EMAIL = 40
"""One in so many customers gave no e-mail."""
STATE_EVERY = 100
"""Records between two STATE messages."""

_FIRST_ORDER = 100_001
_DOMAINS = ("example.com", "example.org", "example.net")
_MOSCOW = dt.timezone(dt.timedelta(hours=3))

# Name, and how it is written in an e-mail address.
_RUSSIAN_WOMEN = (
    ("Анна", "anna"),
    ("Екатерина", "ekaterina"),
    ("Мария", "maria"),
    ("Ольга", "olga"),
    ("Наталья", "natalya"),
    ("Юлия", "yulia"),
    ("Алёна", "alyona"),
    ("Светлана", "svetlana"),
)
_RUSSIAN_MEN = (
    ("Иван", "ivan"),
    ("Дмитрий", "dmitry"),
    ("Сергей", "sergey"),
    ("Алексей", "alexey"),
    ("Пётр", "pyotr"),
    ("Михаил", "mikhail"),
    ("Егор", "egor"),
    ("Юрий", "yuri"),
)
_RUSSIAN_SURNAMES = (  # the form of a man's; a woman's adds an a
    ("Смирнов", "smirnov"),
    ("Кузнецов", "kuznetsov"),
    ("Попов", "popov"),
    ("Соловьёв", "solovyov"),
    ("Васильев", "vasiliev"),
    ("Новиков", "novikov"),
    ("Фёдоров", "fyodorov"),
    ("Щербаков", "shcherbakov"),
    ("Орлов", "orlov"),
    ("Зайцев", "zaitsev"),
)
_WESTERN_FIRST = (
    ("Ada", "ada"),
    ("Max", "max"),
    ("Chloé", "chloe"),
    ("Jürgen", "juergen"),
    ("Sinéad", "sinead"),
    ("Liam", "liam"),
    ("Zoë", "zoe"),
    ("Søren", "soren"),
)
_WESTERN_SURNAMES = (
    ("O'Brien", "obrien"),
    ("Müller", "mueller"),
    ("García", "garcia"),
    ("Lovelace", "lovelace"),
    ("Jensen", "jensen"),
    ("Dubois", "dubois"),
    ("Smith-Jones", "smith-jones"),
)
_RUSSIAN_CITIES = (
    "Москва",
    "Санкт-Петербург",
    "Казань",
    "Екатеринбург",
    "Новосибирск",
    "Ростов-на-Дону",
)
_WESTERN_CITIES = ("London", "Köln", "Málaga", "Dublin", "Århus", "Lyon")
_GOODS = (  # SKU, title, price
    ("TEA-100", "Чай улун, 100 г", "690.00"),
    ("TEA-250", "Чай чёрный, 250 г", "545.50"),
    ("CUP-01", "Кружка «Утро»", "1290.50"),
    ("POT-07", "Чайник, 0.7 л", "3499.90"),
    ("HNY-03", "Мёд липовый, 350 г", "480.00"),
    ("CHO-70", "Шоколад 70 %", "215.25"),
    ("BOX-L", "Подарочная коробка L", "150.10"),
)

_TEXT = {"type": ["string", "null"]}
_DATE = {"type": ["string", "null"], "format": "date"}
_DATE_TIME = {"type": ["string", "null"], "format": "date-time"}

CUSTOMERS_SCHEMA: Json = {
    "type": "SCHEMA",
    "stream": "customers",
    "schema": {
        "type": "object",
        "properties": {
            "customer_id": {"type": "integer"},
            "first_name": _TEXT,
            "last_name": _TEXT,
            "email": _TEXT,
            "phone": _TEXT,
            "birth_date": _DATE,
            "city": _TEXT,
            "bonus_points": {"type": ["integer", "null"]},
            "registered_at": _DATE_TIME,
            "updated_at": {"type": "string", "format": "date-time"},
        },
        "required": ["customer_id", "updated_at"],
    },
    "key_properties": ["customer_id"],
    "bookmark_properties": ["updated_at"],
}

ORDERS_SCHEMA: Json = {
    "type": "SCHEMA",
    "stream": "orders",
    "schema": {
        "type": "object",
        "properties": {
            "order_id": {"type": "string"},
            "customer_email": {"type": "string"},
            "items": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "sku": {"type": "string"},
                        "title": {"type": "string"},
                        "quantity": {"type": "integer"},
                        "price": {"type": "number"},
                    },
                },
            },
            "total": {"type": "number"},
            "currency": {"type": "string"},
            "ordered_at": {"type": "string", "format": "date-time"},
        },
        "required": ["order_id", "customer_email", "ordered_at"],
    },
    "key_properties": ["order_id"],
    "bookmark_properties": ["ordered_at"],
}


class Dice:
    """Chance that falls the same way on every version of Python."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def below(self, bound: int) -> int:
        """Return a number from 0 to `bound` - 1."""
        return int(self._random.random() * bound)

    def one_in(self, number: int) -> bool:
        """Return whether a chance of one in `number` came true."""
        return self.below(number) == 0

    def pick(self, choices: t.Sequence[t.Any]) -> t.Any:  # noqa: ANN401 - whatever is in there
        """Return one of the choices."""
        return choices[self.below(len(choices))]


def customers(dice: Dice) -> Iterator[Json]:
    """Yield the customers, in the order they were last updated."""
    updated = dt.datetime(2025, 3, 1, 9, 0, tzinfo=_MOSCOW)
    for number in range(1, CUSTOMERS + 1):
        updated += dt.timedelta(seconds=60 + dice.below(5400), milliseconds=dice.below(1000))
        russian = dice.below(10) < 7  # noqa: PLR2004 - seven in ten
        if russian:
            woman = dice.one_in(2)
            first, first_latin = dice.pick(_RUSSIAN_WOMEN if woman else _RUSSIAN_MEN)
            last, last_latin = dice.pick(_RUSSIAN_SURNAMES)
            if woman:
                last, last_latin = f"{last}а", f"{last_latin}a"
            phone = f"+7900000{number:04d}"
        else:
            first, first_latin = dice.pick(_WESTERN_FIRST)
            last, last_latin = dice.pick(_WESTERN_SURNAMES)
            phone = f"+447700900{number:03d}"
        born = dt.date(1950, 1, 1) + dt.timedelta(days=dice.below(20_000))
        registered = updated - dt.timedelta(days=dice.below(900), seconds=dice.below(86_400))
        city = dice.pick(_RUSSIAN_CITIES if russian else _WESTERN_CITIES)
        customer = {
            "customer_id": number,
            "first_name": first,
            "last_name": None if dice.one_in(25) else last,
            "email": f"{first_latin}.{last_latin}{number}@{dice.pick(_DOMAINS)}",
            "phone": None if dice.one_in(8) else phone,
            "birth_date": None if dice.one_in(6) else born.isoformat(),
            "city": None if dice.one_in(12) else city,
            "bonus_points": None if dice.one_in(10) else dice.below(5000),
            "registered_at": registered.isoformat(timespec="seconds"),
            "updated_at": updated.isoformat(timespec="milliseconds"),
        }
        if number % WITHOUT_EMAIL == 0:
            customer["email"] = None
        yield customer


def orders(dice: Dice, buyers: t.Sequence[Json]) -> Iterator[Json]:
    """Yield the orders, in the order they were placed."""
    ordered = dt.datetime(2025, 3, 8, 8, 30, tzinfo=dt.timezone.utc)
    for number in range(ORDERS):
        ordered += dt.timedelta(seconds=30 + dice.below(2400))
        items = []
        total = Decimal(0)
        for _ in range(1 + dice.below(3)):
            sku, title, price = dice.pick(_GOODS)
            quantity = 1 + dice.below(3)
            total += quantity * Decimal(price)
            items.append(
                {"sku": sku, "title": title, "quantity": quantity, "price": Decimal(price)}
            )
        yield {
            "order_id": f"A-{_FIRST_ORDER + number}",
            "customer_email": dice.pick(buyers)["email"],
            "items": items,
            "total": total,
            "currency": "RUB",
            "ordered_at": ordered.isoformat(timespec="seconds").replace("+00:00", "Z"),
        }


def messages() -> Iterator[Json]:
    """Yield the messages of the export."""
    dice = Dice(SEED)
    buyers = list(customers(dice))
    bookmarks: dict[str, Json] = {}
    for schema, records in (
        (CUSTOMERS_SCHEMA, buyers),
        (ORDERS_SCHEMA, list(orders(dice, [buyer for buyer in buyers if buyer["email"]]))),
    ):
        yield schema
        stream, (bookmark,) = schema["stream"], schema["bookmark_properties"]
        for number, record in enumerate(records, start=1):
            yield {"type": "RECORD", "stream": stream, "record": record}
            if number % STATE_EVERY == 0 or number == len(records):
                bookmarks[stream] = {
                    "replication_key": bookmark,
                    "replication_key_value": record[bookmark],
                }
                yield {"type": "STATE", "value": {"bookmarks": dict(bookmarks)}}


def render() -> bytes:
    """Return the file, decimals as a price is written: 1290.50."""
    encode = msgspec.json.Encoder(decimal_format="number").encode
    return b"".join(encode(message) + b"\n" for message in messages())


def main() -> int:
    """Write or check the file; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if outdated")
    arguments = parser.parse_args()
    wanted = render()
    if arguments.check:
        if not TARGET.exists() or TARGET.read_bytes() != wanted:
            print(f"{TARGET.relative_to(ROOT)} is out of date: run scripts/make_examples.py")
            return 1
        return 0
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_bytes(wanted)
    print(f"{TARGET.relative_to(ROOT)}: {len(wanted.splitlines())} messages, {len(wanted)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
