"""Nobody is messaged twice by a real pipeline: tap-postgres, PostgreSQL, Meltano, the cron script.

What Altcraft did is read from the sandbox, who was messaged above all.
"""

from __future__ import annotations

import os
import signal
import typing as t

import pytest
from harness import TOKEN, wait_for
from nights import accepted, twice
from real_parts import (
    TABLES_OF_README,
    Pipeline,
    bookmarks_of,
    by_cron,
    by_meltano,
    loader_in,
    loader_of,
    production,
    tap_settings,
    told_of,
)

from target_altcraft.messages import TWICE

if t.TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from real_parts import Json, Orchestrated, Postgres, Running

    from target_altcraft.sandbox import Sandbox

pytestmark = pytest.mark.timeout(300)  # the first run installs the tap and Meltano

MORNING = "2025-03-01 10:00+03"
CUSTOMERS, ORDERS = "public-customers", "public-orders"
NIGHTS = 4


def customer(number: int, name: str) -> dict[str, t.Any]:
    """A row; all of them have one bookmark."""
    return {"id": number, "email": f"{name}@example.com", "registered_at": MORNING}


def welcomed(*names: str, scenario: int = 12) -> list[tuple[int, str, str]]:
    """One message of a scenario for each."""
    return sorted((scenario, "email", f"{name}@example.com") for name in names)


# The tap piped into the target


@pytest.fixture
def piped(postgres: Postgres, tap: Path, crm: Sandbox, tmp_path: Path) -> Callable[..., Pipeline]:
    """The pipeline of README, over its tables, which are empty."""
    postgres.execute(TABLES_OF_README)
    file = production()

    def _piped(*streams: str, **more: t.Any) -> Pipeline:
        settings = {**loader_of(file, tmp_path, crm), "token": TOKEN, **more}
        keys = bookmarks_of(file)
        chosen = {name: keys[name] for name in streams}
        return Pipeline(tap, postgres.url, settings, tmp_path, chosen)

    return _piped


def saved(result: Result, before: t.Any) -> t.Any:
    """What an orchestrator hands to the next run."""
    return result.states[-1] if result.states else before


def a_night_passes(postgres: Postgres, number: int) -> None:
    """A new customer comes at the bookmark's own time, and the first one logs in."""
    postgres.execute("update customers set password_hash = now() where id = 1")
    postgres.insert("customers", [customer(number, f"c{number}")])


@pytest.mark.parametrize("streams", [[CUSTOMERS], [CUSTOMERS, ORDERS]], ids=["one", "two"])
def test_rows_at_a_bookmark_that_does_not_move_are_messaged_once_each(
    piped: Callable[..., Pipeline], postgres: Postgres, crm: Sandbox, streams: list[str]
) -> None:
    pipeline = piped(*streams)
    state: t.Any = None
    told: list[str] = []
    for night in range(1, NIGHTS + 1):
        a_night_passes(postgres, night)
        result = pipeline.run(state)
        told.append(f"c{night}")

        assert result.status == 0, result.stderr
        assert sorted(told_of(crm)) == welcomed(*told)
        assert len(crm.entries) == night
        before, state = state, saved(result, state)
        assert before in (None, state)  # it did not move

    # The tap prints the customers' STATE before their records then.
    read = [message["type"] for message in pipeline.read(state)]
    assert read.index("STATE") < read.index("RECORD")
    assert read.count("RECORD") == NIGHTS
    assert read[-1] == ("RECORD" if streams == [CUSTOMERS] else "STATE")


@pytest.mark.parametrize("is_saved", [True, False], ids=["saved", "lost"])
def test_a_kill_a_good_rerun_and_a_third_run_message_nobody_twice(
    piped: Callable[..., Pipeline], postgres: Postgres, crm: Sandbox, *, is_saved: bool
) -> None:
    for number in range(1, 5):
        a_night_passes(postgres, number)
        order = {"id": number, "customer_email": f"o{number}@example.com", "created_at": MORNING}
        postgres.insert("orders", [order])
    told = welcomed("c1", "c2", "c3", "c4", scenario=12)
    told += welcomed("o1", "o2", "o3", "o4", scenario=34)
    pipeline = piped(CUSTOMERS, ORDERS, batch_size_rows=1, max_in_flight=2)
    del pipeline.config["canary_rows"]  # it lets one batch of a stream out at a time
    crm.task_seconds = lambda number, _: 0.0 if number <= 4 else 2.0

    # Two orders are at work, so nothing is on the wire, and the customers' STATE is out.
    killed = pipeline.run(killed_when=lambda target: accepted(6)(target) and target.states() != [])
    assert (killed.status, len(killed.states)) == (-signal.SIGKILL, 1)
    state = saved(killed, None) if is_saved else None
    crm.task_seconds = 0.0
    rerun = pipeline.run(state)
    assert rerun.status == 0, rerun.stderr
    assert sorted(told_of(crm)) == told
    state = saved(rerun, state) if is_saved else None
    a_night_passes(postgres, 5)
    third = pipeline.run(state)

    assert third.status == 0, third.stderr
    assert sorted(told_of(crm)) == sorted([*told, *welcomed("c5")])
    assert len(crm.entries) == len(told) + 1
    assert [*twice(rerun), *twice(third)] == []


# By Meltano, and by the script for cron

SHOPS = 6
AT_ONCE = 4
IN_FLIGHT = 4


@pytest.fixture
def shops(postgres: Postgres) -> list[str]:
    """Six tables of customers, with two rows each: the tap prints a STATE after each."""
    postgres.execute(TABLES_OF_README)
    names: list[str] = []
    for number in range(1, SHOPS + 1):
        pair = [f"alice{number}", f"bob{number}"]
        postgres.execute(f"create table shop_{number} (like customers including all)")
        rows = [customer(len(names) + place, name) for place, name in enumerate(pair)]
        postgres.insert(f"shop_{number}", rows)
        names += pair
    return names


def file_with_shops(url: str, crm: Sandbox, folder: Path) -> Json:
    """README's `meltano.yml`, with a stream for each shop, mapped as its customers are."""
    file = production()
    (extractor,), loader = file["plugins"]["extractors"], loader_in(file)
    config = loader_of(file, folder, crm)
    mapping = config["stream_maps"].pop("public-customers")
    settings = config["streams"].pop("customers")
    for number in range(1, SHOPS + 1):
        config["stream_maps"][f"public-shop_{number}"] = {**mapping, "__alias__": f"s{number}"}
        config["streams"][f"s{number}"] = settings
    loader["config"] = config
    extractor["config"] = tap_settings(url)
    key = extractor["metadata"]["public-customers"]
    streams = [f"public-shop_{number}" for number in range(1, SHOPS + 1)]
    extractor["select"] = [f"{stream}.*" for stream in streams]
    extractor["metadata"] = dict.fromkeys(streams, key)
    return file


@pytest.fixture(params=["meltano", "deliver.sh"])
def nightly(
    request: pytest.FixtureRequest,
    shops: list[str],  # noqa: ARG001 - the tap looks for the tables
    postgres: Postgres,
    tap: Path,
    crm: Sandbox,
    tmp_path: Path,
) -> Orchestrated:
    """The shops' pipeline, by each of the commands that start one."""
    file = file_with_shops(postgres.url, crm, tmp_path)
    loader = loader_in(file)
    loader["config"]["batch_size_rows"] = 1
    del loader["config"]["canary_rows"]  # it lets one batch of a stream out at a time
    if request.param == "meltano":
        return by_meltano(request.getfixturevalue("meltano"), tap, tmp_path, file)
    return by_cron(tap, tmp_path, tap_settings(postgres.url), bookmarks_of(file), loader["config"])


def in_flight(running: Running) -> None:
    """Wait until some tasks are done and all slots are full, so that nothing is on the wire."""
    full = AT_ONCE + IN_FLIGHT
    wait_for(lambda: running.has_logged("accepted as task", full), "tasks in flight")


def test_the_commands_message_each_new_row_once_while_the_bookmark_does_not_move(
    shops: list[str], nightly: Orchestrated, postgres: Postgres, crm: Sandbox
) -> None:
    told = list(shops)
    log = nightly.good()
    for night in range(2, NIGHTS + 1):
        assert sorted(told_of(crm)) == welcomed(*told)
        told.append(f"new{night}")
        postgres.execute("update shop_6 set password_hash = now() where id = 11")
        postgres.insert("shop_6", [customer(100 + night, told[-1])])
        log = nightly.good()
    assert sorted(told_of(crm)) == welcomed(*told)
    assert len(crm.entries) == len(told)
    assert "stream 's6': read: 5; delivered: 1; skipped, delivered before: 4" in log


@pytest.mark.parametrize(
    ("victim", "signum"),
    [
        ("command", signal.SIGTERM),  # what a container's stop sends
        ("command", signal.SIGKILL),
        ("all", signal.SIGTERM),
        ("target", signal.SIGKILL),
    ],
)
def test_after_a_signal_two_reruns_message_nobody_twice_and_forget_nobody(
    shops: list[str], nightly: Orchestrated, crm: Sandbox, victim: str, signum: int
) -> None:
    crm.task_seconds = lambda number, _: 0.0 if number <= AT_ONCE else 4.0
    with nightly.start() as first:
        in_flight(first)
        if victim == "all":
            os.killpg(first.process.pid, signum)
        else:
            os.kill(nightly.target_pid if victim == "target" else first.process.pid, signum)
        status = first.wait()
        wait_for(nightly.target_is_gone, "the target ends")
    assert status != 0
    crm.task_seconds = 0.0

    how = nightly.at_once if (victim, signum) == ("command", signal.SIGKILL) else ()
    rerun = nightly.good(*how)
    assert sorted(told_of(crm)) == welcomed(*shops)
    third = nightly.good(*how)

    assert sorted(told_of(crm)) == welcomed(*shops)
    assert len(crm.entries) == len(shops)
    assert TWICE not in rerun + third


def test_a_run_beside_a_target_whose_command_was_killed_sends_nothing(
    shops: list[str], nightly: Orchestrated, crm: Sandbox
) -> None:
    crm.task_seconds = lambda number, _: 0.0 if number <= AT_ONCE else 1.0
    with nightly.start() as first:
        in_flight(first)
        target = nightly.target_pid
        os.kill(target, signal.SIGSTOP)
        first.process.kill()
        first.wait()
        try:
            status, log = nightly.run(*nightly.at_once)
            assert status != 0
            assert nightly.refusal in log
            assert len(crm.entries) == AT_ONCE + IN_FLIGHT
        finally:
            os.kill(target, signal.SIGCONT)
        wait_for(nightly.target_is_gone, "the target ends")
    crm.task_seconds = 0.0

    nightly.good(*nightly.at_once)
    assert sorted(told_of(crm)) == welcomed(*shops)
    assert len(crm.entries) == len(shops)
