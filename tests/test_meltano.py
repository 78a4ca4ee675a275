"""The target behind a tap of the MeltanoLabs family, out of a real database.

The tap runs in an environment of its own, as it does under Meltano; it is installed once into
pytest's cache folder. The database server is Debian's, a cluster of the test's own.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest
from harness import TargetProcess, wait_for

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Result

    from target_altcraft.sandbox import Sandbox

pytestmark = pytest.mark.timeout(300)  # the first run installs the tap

TAP = "meltanolabs-tap-postgres>=0.10,<0.11"
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


@pytest.fixture
def tap(pytestconfig: pytest.Config, tmp_path: Path) -> Path:
    """The tap's command; the first run of the suite installs it."""
    cache: pytest.Cache | None = getattr(pytestconfig, "cache", None)
    version = ".".join(map(str, sys.version_info[:2]))
    folder = cache.mkdir(f"tap-postgres-{version}") if cache else tmp_path
    venv, stamp = folder / "venv", folder / "installed"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != TAP:
            shutil.rmtree(venv, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
            pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            subprocess.run([*pip, TAP], check=True)
            stamp.write_text(TAP)
    return venv / "bin" / "tap-postgres"


class Postgres:
    """A database server that listens on a socket in a temporary folder only."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self.folder = folder
        self._as_user: dict[str, t.Any] = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            user = pwd.getpwnam("nobody")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data = str(folder / "data")
        subprocess.run(
            [
                self._program("initdb"),
                *("-D", data, "-U", "crm", "-A", "trust", "-E", "UTF8"),
                *("--locale=C", "--no-sync"),
            ],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            **self._as_user,
        )
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(
            [
                self._program("postgres"),
                *("-D", data, "-k", str(folder)),
                *("-c", "listen_addresses=", "-c", "fsync=off", "-c", "timezone=Europe/Moscow"),
            ],
            cwd=folder,
            stdout=self._log,
            stderr=self._log,
            **self._as_user,
        )

    def _program(self, name: str) -> str:
        return str(self._binaries / name)

    def _client(self, name: str, *arguments: str) -> list[str]:
        address = ("-h", str(self.folder), "-U", "crm", "-d", "postgres")
        return [self._program(name), *address, *arguments]

    def is_ready(self) -> bool:
        assert self._process.poll() is None, (self.folder / "log").read_text()
        answer = subprocess.run(self._client("pg_isready", "-q"), check=False)
        return answer.returncode == 0

    @property
    def url(self) -> str:
        return f"postgresql://crm:unused@localhost/postgres?host={self.folder}"

    def execute(self, sql: str) -> None:
        command = self._client("psql", "--quiet", "--set=ON_ERROR_STOP=1", "--no-psqlrc")
        subprocess.run(command, input=sql, check=True, encoding="utf-8")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)  # the server's fast shutdown
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._log.close()


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL server is installed (Debian's package postgresql)")
    with tempfile.TemporaryDirectory(prefix="altcraft-pg-") as folder:
        server = Postgres(found[-1].parent, Path(folder))
        try:
            wait_for(server.is_ready, "the database answers")
            server.execute(TABLE)
            yield server
        finally:
            server.stop()


class Pipeline:
    """`tap-postgres | target-altcraft`, with the STATE of a run handed to the next."""

    def __init__(self, tap: Path, url: str, config: dict[str, t.Any], folder: Path) -> None:
        self._tap = tap
        self._config = config
        self._folder = folder
        settings = {
            "sqlalchemy_url": url,
            "filter_schemas": ["public"],
            "json_as_object": True,
            "default_replication_method": "INCREMENTAL",
        }
        self._tap_config = self._write("tap.json", settings)
        self._catalog = self._write("catalog.json", self._discovered())

    def _write(self, name: str, content: t.Any) -> str:
        path = self._folder / name
        path.write_text(json.dumps(content), encoding="utf-8")
        return str(path)

    def _discovered(self) -> t.Any:
        command = [str(self._tap), "--config", self._tap_config, "--discover"]
        answer = subprocess.run(command, check=True, capture_output=True, timeout=60)
        catalog = json.loads(answer.stdout)
        (stream,) = catalog["streams"]
        stream["replication_method"], stream["replication_key"] = "INCREMENTAL", "updated_at"
        (metadata,) = (m["metadata"] for m in stream["metadata"] if m["breadcrumb"] == [])
        metadata |= {
            "selected": True,
            "replication-method": "INCREMENTAL",
            "replication-key": "updated_at",
        }
        return catalog

    def run(self, state: t.Any = None) -> Result:
        command = [str(self._tap), "--config", self._tap_config, "--catalog", self._catalog]
        if state is not None:
            command += ["--state", self._write("state.json", state)]
        with (
            (self._folder / "tap.log").open("wb") as log,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as tap,
        ):
            assert tap.stdout
            with TargetProcess(self._config, self._folder, stdin=tap.stdout.fileno()) as target:
                tap.stdout.close()  # the target alone holds it now
                result = target.wait()
            assert tap.wait(60) == 0, (self._folder / "tap.log").read_text()
        return result


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
    pipeline = Pipeline(tap, postgres.url, settings, tmp_path)

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
