"""The target behind a tap of the MeltanoLabs family, out of a real database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from decimal import Decimal

import pytest
import yaml
from harness import TOKEN
from real_parts import (
    ROOT,
    TABLES_OF_README,
    Pipeline,
    bookmarks_of,
    loader_of,
    production,
    told_of,
)

if t.TYPE_CHECKING:
    from pathlib import Path

    from real_parts import Postgres

    from target_altcraft.sandbox import Sandbox

pytestmark = pytest.mark.timeout(300)  # the first run installs the tap

STREAM = "public-customers"

TABLE = """
create table customers (
    id bigint primary key,
    email text not null,
    first_name text,
    phone text,
    birth_date date,
    balance numeric(12, 2),
    rate numeric,
    score double precision,
    vip boolean,
    tags text[],
    preferences jsonb,
    registered_at timestamptz,
    last_seen timestamp,
    updated_at timestamptz not null
);
insert into customers values
    (1, 'anna@example.com', 'Анна', '+79000000001', '1990-02-22', 12.10, 0.1000000000000000055,
     0.1, true, array['чай', 'кофе'], '{"город": "Москва", "n": [1, 2.50, null]}',
     '2025-03-01 12:00:00+03', '2025-03-01 09:00:00.25', '2025-03-02 10:00:00.123456+03'),
    (2, 'max@example.com', null, null, null, null, 12345678901234567890.123456789,
     null, false, null, null, null, null, '2025-03-02 11:00:00+03');
"""


def as_written(value: t.Any) -> t.Any:
    """Decimals as their digits, because 12.10 == 12.1 otherwise."""
    if isinstance(value, dict):
        return {key: as_written(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_written(item) for item in value]
    return f"{value:f}" if isinstance(value, Decimal) else value


def test_rows_of_a_database_arrive_as_written_and_a_second_run_goes_on_at_the_bookmark(
    postgres: Postgres, tap: Path, sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    settings = {
        **config,
        "journal_path": str(tmp_path / "journal.db"),
        "stream_maps": {
            STREAM: {
                "__alias__": "customers",
                "_fname": "first_name",
                "first_name": "__NULL__",
                "phones": "phone",
                "phone": "__NULL__",
                "_bdate": "birth_date",
                "birth_date": "__NULL__",
                "_regdate": "registered_at",
                "registered_at": "__NULL__",
            }
        },
        "streams": {"customers": {"workflow_id": 2, "custom_data_columns": ["preferences"]}},
    }
    postgres.execute(TABLE)
    pipeline = Pipeline(tap, postgres.url, settings, tmp_path, {STREAM: "updated_at"})

    first = pipeline.run()

    assert first.status == 0, first.stderr
    assert [as_written(entry) for entry in sandbox.entries] == [
        {
            "data": {
                "id": 1,
                "email": "anna@example.com",
                "balance": "12.10",
                "rate": "0.1000000000000000055",
                "score": "0.1",
                "vip": True,
                "tags": ["чай", "кофе"],
                "last_seen": "2025-03-01T09:00:00.250000Z",
                "updated_at": "2025-03-02T07:00:00.123456Z",
                "_fname": "Анна",
                "phones": "+79000000001",
                "_bdate": "1990-02-22T00:00:00Z",
                "_regdate": "2025-03-01T09:00:00.000000Z",
            },
            "custom_data": {"preferences": {"город": "Москва", "n": [1, "2.50", None]}},
        },
        {
            "data": {
                "id": 2,
                "email": "max@example.com",
                "rate": "12345678901234567890.123456789",
                "vip": False,
                "updated_at": "2025-03-02T08:00:00.000000Z",
            },
        },
    ]
    bookmark = {
        "replication_key": "updated_at",
        "replication_key_value": "2025-03-02T11:00:00.000000+03:00",
    }
    assert first.states[-1] == {"bookmarks": {STREAM: bookmark}}

    postgres.execute(
        "update customers set balance = 7.00, updated_at = '2025-03-03 09:30+03' where id = 1"
    )
    second = pipeline.run(first.states[-1])

    assert second.status == 0, second.stderr
    # The tap brings the row at the bookmark again; it was delivered, so it is not sent again.
    sent = sandbox.entries[2:]
    assert [(entry["data"]["id"], str(entry["data"]["balance"])) for entry in sent] == [(1, "7.00")]
    bookmark["replication_key_value"] = "2025-03-03T09:30:00.000000+03:00"
    assert second.states[-1] == {"bookmarks": {STREAM: bookmark}}


# The meltano.yml of README


def test_the_production_file_has_new_customers_messaged_and_nobody_subscribed_again(
    postgres: Postgres, tap: Path, crm: Sandbox, tmp_path: Path
) -> None:
    file = production()
    settings = {**loader_of(file, tmp_path, crm), "token": TOKEN}
    postgres.execute(TABLES_OF_README)
    postgres.execute("""
        insert into customers (id, email, first_name, password_hash, registered_at) values
            (1, 'ada@example.com', 'Ada', 'x', '2025-03-01 10:00+03'),
            (2, null, 'Nobody', 'x', '2025-03-01 11:00+03'),
            (3, 'max@example.com', 'Max', 'x', '2025-03-01 12:00+03');
        insert into orders values (7, 'ada@example.com', 12.10, '2025-03-02 09:00+03');
    """)
    pipeline = Pipeline(tap, postgres.url, settings, tmp_path, bookmarks_of(file))

    first = pipeline.run()

    assert first.status == 0, first.stderr
    assert sorted(told_of(crm)) == [
        (12, "email", "ada@example.com"),
        (12, "email", "max@example.com"),
        (34, "email", "ada@example.com"),
    ]
    assert "stream 'customers': profiles with a subscription: 2; without: 0" in first.log("INFO")
    assert "carried a subscription" not in first.stderr

    # Max unsubscribes, and orders. A new customer comes.
    assert crm.unsubscribe("max@example.com") == 1
    postgres.execute("""
        insert into customers (id, email, first_name, registered_at) values
            (4, 'zoe@example.com', 'Zoë', '2025-03-02 10:00+03');
        insert into orders values (8, 'max@example.com', 5, '2025-03-03 09:00+03');
    """)
    second = pipeline.run(first.states[-1])

    assert second.status == 0, second.stderr
    assert sorted(told_of(crm)[3:]) == [(12, "email", "zoe@example.com")]
    profiles = {profile["fields"]["email"]: profile for profile in crm.profiles}
    assert profiles["max@example.com"]["runs"] == {12: 1, 34: 1}  # entered, and was not messaged
    (subscription,) = profiles["max@example.com"]["subscriptions"]
    assert subscription["status"] == "unsubscribed"

    # Without subscriptions, an order reaches only those who are subscribed already.
    pipeline.config["streams"]["orders"]["subscriptions"] = []
    postgres.execute("""
        insert into orders values
            (9, 'zoe@example.com', 7, '2025-03-04 09:00+03'),
            (10, 'guest@example.com', 8, '2025-03-04 10:00+03');
    """)
    third = pipeline.run(second.states[-1])

    assert third.status == 0, third.stderr
    assert told_of(crm)[4:] == [(34, "email", "zoe@example.com")]
    (warning,) = (line for line in third.log("WARNING") if "subscription" in line)
    assert warning == (
        "stream 'orders': none of its 2 profiles carried a subscription; the scenario reaches only "
        "those whose profile has one already. To subscribe them, set subscriptions"
    )


# Meltano itself

TAP_OF_OURS = """#!{python}
import json, time
print(json.dumps({{"type": "SCHEMA", "stream": "customers", "key_properties": ["id"],
    "schema": {{"type": "object", "properties": {{"id": {{}}, "email": {{}}}}}}}}))
for number in range({number}):
    print(json.dumps({{"type": "RECORD", "stream": "customers",
        "record": {{"id": number, "email": "c%d@example.com" % number}}}}))
"""

TARGET_OF_OURS = """#!{python}
import sys
sys.path.insert(0, {root!r})
from target_altcraft.__main__ import main
main()
"""  # Meltano hides PYTHONPATH


@pytest.mark.parametrize("number", [20_000, 10**9])
def test_under_meltano_an_error_is_an_error_and_tells_what_to_scroll_past(
    meltano: Path, sandbox: Sandbox, tmp_path: Path, number: int
) -> None:
    tap, target = tmp_path / "tap", tmp_path / "target"
    tap.write_text(TAP_OF_OURS.format(python=sys.executable, number=number), encoding="utf-8")
    target.write_text(TARGET_OF_OURS.format(python=sys.executable, root=str(ROOT)))
    for program in (tap, target):
        program.chmod(0o700)
    (loader,) = yaml.safe_load((ROOT / "meltano.yml").read_text("utf-8"))["plugins"]["loaders"]
    (extractor,) = [{"name": "tap-ours", "namespace": "tap_ours", "executable": str(tap)}]
    del loader["pip_url"]
    loader["executable"] = str(target)
    loader["config"] = {"api_url": sandbox.url, "token": TOKEN, "workflow_id": 99}
    project = {
        "default_environment": "test",
        "project_id": "test",
        "send_anonymous_usage_stats": False,
        "environments": [{"name": "test"}],
        "plugins": {"extractors": [extractor], "loaders": [loader]},
    }
    (tmp_path / "meltano.yml").write_text(json.dumps(project), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TARGET_ALTCRAFT_")}

    done = subprocess.run(
        [str(meltano), "--log-format=json", "run", "tap-ours", "target-altcraft"],
        cwd=tmp_path,
        env={**environment, "MELTANO_SEND_ANONYMOUS_USAGE_STATS": "false"},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )

    assert done.returncode == 1
    log = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    ours = [(x["level"], x["event"]) for x in log if x.get("name") == "target-altcraft"]
    assert ours[-1][0] == "error", done.stderr
    assert "there is no scenario with workflow_id 99" in ours[-1][1]
    others = [x["event"] for x in log[-6:] if x.get("name") != "target-altcraft"]
    if number > 20_000:
        assert ours[-2][0] == "warning"
        assert "scroll past it. The cause is the next line" in ours[-2][1]
    else:
        assert "scroll past" not in done.stderr
        assert "BrokenPipeError" not in done.stderr
        assert "Loader failed" in others
