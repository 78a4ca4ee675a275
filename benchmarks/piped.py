"""A real tap piped into the target: which share of the work is the target's."""

from __future__ import annotations

import json
import subprocess
import typing as t
from statistics import median

from installed import TAP, environment, name_of
from real_parts import MissingPartError, database, discovered, tap_settings

from benchmarks.bench import TARGET, say
from benchmarks.customers import RENAMING
from benchmarks.measure import HERE, run
from benchmarks.production import FILES

if t.TYPE_CHECKING:
    from pathlib import Path

    from real_parts import Postgres

    from benchmarks.bench import Bench
    from benchmarks.measure import Run

_STREAM = "public-customers"
_REPEATS = 3
_TABLE = """
create table customers (
    id bigint primary key,
    email text,
    first_name text,
    last_name text,
    phone text,
    birth_date date,
    updated_at timestamptz not null,
    city text,
    balance numeric(12, 2),
    orders integer
);
insert into customers select
    n,
    'customer.' || n || '@example.com',
    (array['Ada', 'Max', 'Zoë', 'Иван', 'Мария', 'Ольга'])[n % 6 + 1],
    (array['Lovelace', 'Müller', 'O''Hara', 'Петров', 'Кузнецова', 'Щербакова'])[n % 6 + 1],
    '+7986' || lpad(n::text, 7, '0'),
    date '1950-01-01' + (n::bigint * 7919 % 20000)::integer,
    timestamptz '2024-01-01 00:00+03' + n * interval '1 second',
    (array['London', 'Köln', 'Москва', 'Казань'])[n % 4 + 1],
    (n::bigint * 37 % 10000000) / 100.0,
    n % 200
from generate_series(1, {records}) as n;
"""


def piped(bench: Bench) -> None:
    """Measure a table of customers, read by tap-postgres, in production settings.

    Without a PostgreSQL server or the tap it says so, and there is no row.
    """
    try:
        tap = _installed()
        with database() as server:
            _measure(bench, server, tap)
    except MissingPartError as error:
        say(f"skipped: {error}")


def _installed() -> Path:
    """Return the tap's command; it is the tests' own."""
    cache = HERE.parent / ".pytest_cache" / "d" / name_of("tap-postgres")
    cache.mkdir(parents=True, exist_ok=True)
    try:
        return environment(cache, TAP) / "tap-postgres"
    except subprocess.CalledProcessError as error:
        raise MissingPartError(
            f"tap-postgres cannot be installed: pip's exit status was {error.returncode}"
        ) from error


def _measure(bench: Bench, server: Postgres, tap: Path) -> None:
    records = bench.sizes.journal_records
    server.execute(_TABLE.format(records=records))
    config = bench.inputs.folder / "tap.json"
    config.write_text(json.dumps(tap_settings(server.url)), encoding="utf-8")
    catalog = bench.inputs.folder / "catalog.json"
    found = discovered(tap, str(config), {_STREAM: "updated_at"})
    catalog.write_text(json.dumps(found), encoding="utf-8")
    command = [str(tap), "--config", str(config), "--catalog", str(catalog)]
    settings = {"stream_maps": {_STREAM: RENAMING}, **FILES}
    its: list[Run] = []
    for _ in range(min(bench.sizes.repeats, _REPEATS)):
        its.append(run(TARGET, command, records, settings=settings))
        say(".")
    shares = [100 * own.cpu / (own.cpu + own.tap_cpu) for own in its]
    note = (
        f"{median(shares):.1f} % ({min(shares):.1f} to {max(shares):.1f}) of the CPU time of tap "
        f"and target; the tap's is {median(own.tap_cpu for own in its):.2f} s"
    )
    bench.row(f"{records:,} rows of PostgreSQL, by tap-postgres", TARGET, its, note)
