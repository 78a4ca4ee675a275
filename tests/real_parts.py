"""Real parts: a PostgreSQL server, tap-postgres out of it, and Meltano around tap and target.

Tap and Meltano each run in an environment of their own, installed once into pytest's cache folder.
The database server is Debian's, a cluster of the test's own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import shlex
import signal
import subprocess
import tempfile
import typing as t
from pathlib import Path

import yaml
from harness import COMMAND, TOKEN, TargetProcess, wait_for

import target_altcraft

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness import Message, Result
    from typing_extensions import Self

    from target_altcraft.sandbox import Sandbox

    Json = dict[str, t.Any]

ROOT = Path(__file__).resolve().parent.parent
RUN_SECONDS = 120.0


class MissingPartError(Exception):
    """A program is not installed here; says which."""


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

    def insert(self, table: str, rows: list[Json]) -> None:
        values = ", ".join(str(tuple(map(str, row.values()))) for row in rows)
        self.execute(f"insert into {table} ({', '.join(rows[0])}) values {values}")  # noqa: S608

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)  # the server's fast shutdown
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._log.close()


@contextlib.contextmanager
def database() -> Iterator[Postgres]:
    """A server with an empty database, until the end of the block.

    Raises:
        MissingPartError: If no server is installed.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise MissingPartError("no PostgreSQL server is installed (Debian's package postgresql)")
    with tempfile.TemporaryDirectory(prefix="altcraft-pg-") as folder:
        server = Postgres(found[-1].parent, Path(folder))
        try:
            wait_for(server.is_ready, "the database answers")
            yield server
        finally:
            server.stop()


def tap_settings(url: str) -> Json:
    """The tap's configuration."""
    return {
        "sqlalchemy_url": url,
        "filter_schemas": ["public"],
        "json_as_object": True,
        "default_replication_method": "INCREMENTAL",
    }


def discovered(tap: Path, config: str, bookmarks: dict[str, str]) -> Json:
    """The tap's catalog: these streams, each with its replication key."""
    command = [str(tap), "--config", config, "--discover"]
    answer = subprocess.run(command, check=True, capture_output=True, timeout=60)
    found = {stream["tap_stream_id"]: stream for stream in json.loads(answer.stdout)["streams"]}
    for name, key in bookmarks.items():
        stream = found[name]
        stream["replication_method"], stream["replication_key"] = "INCREMENTAL", key
        (metadata,) = (m["metadata"] for m in stream["metadata"] if m["breadcrumb"] == [])
        metadata |= {
            "selected": True,
            "replication-method": "INCREMENTAL",
            "replication-key": key,
        }
    return {"streams": [found[name] for name in bookmarks]}


class Pipeline:
    """`tap-postgres | target-altcraft`, with the STATE of a run handed to the next.

    Args:
        bookmarks: The replication key of each stream; no other stream is selected.
        tap_options: The tap's configuration, besides what it needs here.
    """

    def __init__(
        self,
        tap: Path,
        url: str,
        config: dict[str, t.Any],
        folder: Path,
        bookmarks: dict[str, str],
        **tap_options: t.Any,
    ) -> None:
        self._tap = tap
        self.config = config
        self._folder = folder
        self._tap_config = self._write("tap.json", {**tap_settings(url), **tap_options})
        self._catalog = self._write("catalog.json", discovered(tap, self._tap_config, bookmarks))

    def _write(self, name: str, content: t.Any) -> str:
        path = self._folder / name
        path.write_text(json.dumps(content), encoding="utf-8")
        return str(path)

    def _tap_command(self, state: t.Any) -> list[str]:
        command = [str(self._tap), "--config", self._tap_config, "--catalog", self._catalog]
        if state is not None:
            command += ["--state", self._write("state.json", state)]
        return command

    def run(
        self, state: t.Any = None, killed_when: Callable[[TargetProcess], bool] | None = None
    ) -> Result:
        """Run to the end, or until something has happened: the target is then killed."""
        with (
            (self._folder / "tap.log").open("wb") as log,
            subprocess.Popen(self._tap_command(state), stdout=subprocess.PIPE, stderr=log) as tap,
        ):
            assert tap.stdout
            with TargetProcess(self.config, self._folder, stdin=tap.stdout.fileno()) as target:
                tap.stdout.close()  # the target alone holds it now
                if killed_when is not None:
                    wait_for(lambda: killed_when(target), "what the kill waits for")
                    target.terminate(signal.SIGKILL)
                result = target.wait()
            status = tap.wait(60)
            assert status == 0 or killed_when, (self._folder / "tap.log").read_text()
        return result

    def read(self, state: t.Any) -> list[Message]:
        """What the tap prints from a STATE on."""
        command = self._tap_command(state)
        answer = subprocess.run(command, check=True, capture_output=True, timeout=60)
        return [json.loads(line) for line in answer.stdout.splitlines()]


# README's `meltano.yml`, and who was messaged

README = ROOT / "README.md"
RECIPES = ROOT / "docs" / "recipes.md"
DEFINITION = ROOT / "target-altcraft.yml"

TABLES_OF_README = """
create table customers (
    id bigint primary key,
    email text,
    phone text,
    first_name text,
    last_name text,
    birth_date date,
    city text,
    password_hash text,
    registered_at timestamptz not null
);
create table orders (
    id bigint primary key,
    customer_email text not null,
    total numeric(12, 2),
    created_at timestamptz not null
);
"""


def block(page: Path, fence: str) -> str:
    """A block of the documentation."""
    return page.read_text(encoding="utf-8").partition(f"```{fence}\n")[2].partition("\n```\n")[0]


def production() -> Json:
    """The `meltano.yml` of README."""
    return t.cast("Json", yaml.safe_load(block(README, "yaml recipe=production meltano")))


def bookmarks_of(file: Json) -> dict[str, str]:
    """The replication keys of the tap's streams."""
    (extractor,) = file["plugins"]["extractors"]
    metadata = extractor["metadata"]
    assert {each["replication-method"] for each in metadata.values()} == {"INCREMENTAL"}
    return {name: each["replication-key"] for name, each in metadata.items()}


def loader_in(file: Json) -> Json:
    """What the file says of the target, whose definition `meltano add` brings."""
    (environment,) = file["environments"]
    (loader,) = environment["config"]["plugins"]["loaders"]
    return t.cast("Json", loader)


def loader_of(file: Json, folder: Path, crm: Sandbox) -> Json:
    """The target's configuration, with its files in a folder and a sandbox as its server."""
    (folder / "altcraft").mkdir(exist_ok=True)
    text = json.dumps(loader_in(file)["config"]).replace("$MELTANO_PROJECT_ROOT", str(folder))
    where = {"api_url": crm.url, "poll_interval_seconds": 0.05}
    return t.cast("Json", {**json.loads(text), **where})


def told_of(crm: Sandbox) -> list[tuple[int, str, str]]:
    """Who was messaged: scenario, channel and address of each message, in order."""
    return [(each.workflow_id, each.channel, each.address) for each in crm.messages]


# Commands that start tap and target by themselves


class Running:
    """A command in a session of its own, which is ended with all that it has started."""

    def __init__(self, command: t.Sequence[str], folder: Path, env: dict[str, str]) -> None:
        self._log = folder / "run.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def log(self) -> str:
        return self._log.read_text("utf-8")

    def has_logged(self, words: str, times: int) -> bool:
        """Whether it said so, so often; fails if it has ended and did not."""
        is_over = self.process.poll() is not None
        found = self.log().count(words) >= times
        assert found or not is_over, self.log()
        return found

    def wait(self) -> int:
        try:
            return self.process.wait(RUN_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running:\n{self.log()}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Orchestrated:
    """A command that pipes the tap into the target and keeps STATE, to be run again and again.

    Attributes:
        folder: Where it runs, with the programs `tap-postgres` and `target-altcraft` in `bin`.
        command: What is run.
        at_once: Arguments by which it runs though the last run is not marked as ended.
        refusal: What the log of a run says beside another one that is alive.
    """

    at_once: tuple[str, ...] = ()
    refusal = "the last run is still at work"

    def __init__(self, folder: Path, tap: Path) -> None:
        self.folder = folder
        self.command: list[str] = []
        self._pid, self._alive = folder / "target.pid", folder / "target.alive"
        programs = folder / "bin"
        programs.mkdir()
        (programs / "tap-postgres").symlink_to(tap)
        target = programs / "target-altcraft"
        here = Path(target_altcraft.__file__).parent.parent
        lines = [
            "#!/usr/bin/env bash",
            f"exec 8>> {shlex.quote(str(self._alive))} && flock -s 8",  # as long as it lives
            f"echo $$ > {shlex.quote(str(self._pid))}",
            f'PYTHONPATH={shlex.quote(str(here))} exec {shlex.quote(COMMAND)} "$@"',
        ]
        target.write_text("\n".join([*lines, ""]), "utf-8")
        target.chmod(0o700)
        foreign = ("MELTANO_", "TARGET_ALTCRAFT_", "TAP_POSTGRES_")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        self.env["PATH"] = os.pathsep.join([str(programs), os.environ["PATH"]])

    def start(self, *arguments: str) -> Running:
        self._pid.unlink(missing_ok=True)
        return Running([*self.command, *arguments], self.folder, self.env)

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run to the end; return the exit status and the log."""
        with self.start(*arguments) as running:
            return running.wait(), running.log()

    def good(self, *arguments: str) -> str:
        """Run to the end, which must be a good one; return the log."""
        status, log = self.run(*arguments)
        assert status == 0, log
        return log

    @property
    def target_pid(self) -> int:
        return int(self._pid.read_text())

    def target_is_gone(self) -> bool:
        with self._alive.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True


def by_meltano(meltano: Path, tap: Path, folder: Path, file: Json) -> Orchestrated:
    """`meltano run tap-postgres target-altcraft`, by a `meltano.yml` that installs nothing."""
    made = Orchestrated(folder, tap)
    path = folder / "meltano.yml"
    path.write_text(yaml.safe_dump(file), "utf-8")
    made.command = [str(meltano), "run", "tap-postgres", "target-altcraft"]
    made.at_once = ("--force",)
    made.refusal = "is in use by another run"
    made.env |= {
        "MELTANO_SEND_ANONYMOUS_USAGE_STATS": "false",
        "MELTANO_CLI_DISABLE_VERSION_CHECK": "true",
        "TARGET_ALTCRAFT_TOKEN": TOKEN,
        "COLUMNS": "1000",
    }
    add = ["add", "--no-install", "--from-ref", str(DEFINITION), "target-altcraft"]
    subprocess.run([str(meltano), *add], cwd=folder, env=made.env, check=True, timeout=RUN_SECONDS)
    added = yaml.safe_load(path.read_text("utf-8"))
    for plugin in (*added["plugins"]["extractors"], *added["plugins"]["loaders"]):
        del plugin["pip_url"]
        plugin["executable"] = str(folder / "bin" / plugin["executable"])
    path.write_text(yaml.safe_dump(added), "utf-8")
    return made


def by_cron(
    tap: Path, folder: Path, tap_config: Json, bookmarks: dict[str, str], config: Json
) -> Orchestrated:
    """`deliver.sh` of the recipes, with its files."""
    made = Orchestrated(folder, tap)
    path = folder / "deliver.sh"
    path.write_text(block(RECIPES, "bash recipe=cron script") + "\n", "utf-8")
    path.chmod(0o700)
    (folder / "secrets.env").write_text(f"export TARGET_ALTCRAFT_TOKEN={TOKEN}\n", "utf-8")
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    given = folder / "tap.json"
    given.write_text(json.dumps(tap_config), "utf-8")
    catalog = discovered(tap, str(given), bookmarks)
    (folder / "catalog.json").write_text(json.dumps(catalog), "utf-8")
    made.command = [str(path)]
    return made
