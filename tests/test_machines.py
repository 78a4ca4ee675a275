"""One table in parts on several machines: the recipe, as its tasks run it, and what it says."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import sys
import types
import typing as t
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from harness import TOKEN, customer, schema, state, wait_for
from real_parts import (
    RECIPES,
    TABLES_OF_README,
    Pipeline,
    block,
    by_meltano,
    loader_in,
    loader_of,
    production,
    tap_settings,
    told_of,
)

if t.TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Result
    from real_parts import Json, Orchestrated, Postgres

    from target_altcraft.sandbox import Sandbox
    from target_altcraft.sandbox.task import Task

pytestmark = pytest.mark.timeout(600)  # the first run installs the tap and Meltano

PARTS = 2
HELD_SECONDS = 15.0
CUSTOMERS, ORDERS = "public-customers", "public-orders"


def part_of(email: str, parts: int = PARTS) -> int:
    """The part of an address, as the stream map of the recipes and its SQL say it."""
    return int(hashlib.md5(email.lower().encode()).hexdigest()[:8], 16) % parts  # noqa: S324


def address(number: int) -> str:
    return f"C{number}@example.com"


def deep_merged(one: t.Any, other: t.Any) -> t.Any:
    """A plugin's configuration with what the recipe changes of it."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {**one, **{k: deep_merged(one.get(k), v) for k, v in other.items()}}
    return other


def changes() -> tuple[Json, Json]:
    """What the recipe adds to the configuration of tap and target."""
    file = yaml.safe_load(block(RECIPES, "yaml recipe=machines changes"))
    return file["plugins"]["extractors"][0]["config"], loader_in(file)["config"]


# The tasks of the recipe, by Meltano


def tasks_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> list[Json]:
    """What its DAG gives to Airflow's operators, by a stand-in for Airflow."""
    tasks: list[Json] = []

    class Dag:
        def __init__(self, dag_id: str, **how: t.Any) -> None:
            assert (dag_id, how["max_active_runs"]) == ("crm_to_altcraft_in_parts", 1)

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    bash, sdk = "airflow.providers.standard.operators.bash", "airflow.sdk"
    for name in ("airflow", "airflow.providers", "airflow.providers.standard"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, bash.rpartition(".")[0], types.ModuleType("operators"))
    for name, what in (
        (bash, {"BashOperator": lambda **how: tasks.append(how)}),
        (sdk, {"DAG": Dag}),
    ):
        module = types.ModuleType(name)
        vars(module).update(what)
        monkeypatch.setitem(sys.modules, name, module)
    exec(compile(block(RECIPES, "python recipe=machines dag"), "dag.py", "exec"), {})  # noqa: S102
    return tasks


@pytest.fixture
def machines(
    meltano: Path,
    tap: Path,
    postgres: Postgres,
    crm: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> list[Orchestrated]:
    """Each part's task, with a checkout of the project that is the machine's own."""
    postgres.execute(TABLES_OF_README)
    of_tap, of_target = changes()
    made = []
    for part, task in enumerate(tasks_of_the_recipe(monkeypatch)):
        folder = tmp_path / f"machine-{part}"
        (folder / "altcraft" / f"part-{part}").mkdir(parents=True)
        file = production()
        (extractor,), loader = file["plugins"]["extractors"], loader_in(file)
        loader["config"] = deep_merged(loader["config"], of_target)
        loader["config"] = {**loader_of(file, folder, crm), "batch_size_rows": 1}
        del loader["config"]["canary_rows"]  # it lets one batch of a stream out at a time
        extractor["config"] = {**tap_settings(postgres.url), **of_tap}
        machine = by_meltano(meltano, tap, folder, file)
        words = task["bash_command"].split()
        assert words[0] == "meltano"
        machine.command = [str(meltano), *words[1:]]
        machine.env |= task["env"]
        assert task["append_env"]
        made.append(machine)
    assert len(made) == PARTS
    return made


def bought(postgres: Postgres, customers: t.Iterable[int], orders: t.Iterable[int]) -> None:
    """Orders of each of these, day by day."""
    ordered = [
        {"id": 1000 * order + n, "customer_email": address(n), "created_at": f"2025-03-0{order}"}
        for order in orders
        for n in customers
    ]
    postgres.insert("orders", ordered)


def registered(postgres: Postgres, customers: t.Iterable[int], day: int) -> None:
    rows = [{"id": n, "email": address(n), "registered_at": f"2025-03-0{day}"} for n in customers]
    postgres.insert("customers", rows)


def orders_of(crm: Sandbox) -> dict[str, list[int]]:
    """The orders of each customer, as they arrived."""
    found: dict[str, list[int]] = {}
    for task in crm.tasks:
        for entry in task.entries if task.workflow_id == 34 else ():
            found.setdefault(entry["data"]["email"], []).append(int(entry["content"]["order_id"]))
    return found


def parts_of_receipts(machines: list[Orchestrated]) -> list[set[int]]:
    """The customers that each part delivered."""
    found = []
    for part, machine in enumerate(machines):
        path = machine.folder / "altcraft" / f"part-{part}" / "receipts.jsonl"
        lines = map(json.loads, path.read_text("utf-8").splitlines())
        found.append({int(line["key"]["CRM_ID"]) for line in lines if "CRM_ID" in line["key"]})
    return found


def most_at_work(tasks: list[Task]) -> int:
    """How many tasks were at work in Altcraft at one moment, at most."""
    moments = [(task.accepted_at, 1) for task in tasks]
    moments += [(task.ends_at, -1) for task in tasks if task.ends_at is not None]
    return max(itertools.accumulate(change for _, change in sorted(moments)))


def at_once(machines: list[Orchestrated]) -> None:
    """Run all parts at once, which must end well."""
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(machine.start()) for machine in machines]
        statuses = [each.wait() for each in running]
    assert statuses == [0] * len(machines), [each.log() for each in running]


def test_two_tasks_with_a_part_each_message_everybody_once_and_each_customer_in_order(
    machines: list[Orchestrated], postgres: Postgres, crm: Sandbox
) -> None:
    first = range(1, 13)
    registered(postgres, first, day=1)
    bought(postgres, first, orders=(1, 2, 3))
    busy = 1

    def of_part(part: int) -> list[Task]:
        return [task for task in crm.tasks if part_of(task.keys[0]) == part]

    def seconds(_: int, entries: list[Json]) -> float:
        if not (of_part(0) and of_part(busy)):
            return HELD_SECONDS  # until the other one is at work too
        return 5.0 if part_of(entries[0]["data"]["email"]) == busy else 0.05

    crm.task_seconds = seconds
    with machines[0].start() as good, machines[busy].start() as bad:
        # Two tasks are done and two at work, so nothing is on the wire.
        wait_for(lambda: bad.has_logged("accepted as task", 4) and of_part(0), "both at work")
        os.kill(machines[busy].target_pid, signal.SIGKILL)
        assert bad.wait() != 0
        assert good.wait() == 0, good.log()
    begun = [of_part(part)[0].accepted_at for part in range(PARTS)]
    assert max(begun) - min(begun) < HELD_SECONDS  # they were at work at once
    crm.task_seconds = 0.0

    machines[busy].good()  # the retry of this part alone

    told = [(12, "email", address(n)) for n in first]
    told += [(34, "email", address(n)) for n in first for _ in range(3)]
    assert Counter(told_of(crm)) == Counter(told)
    assert orders_of(crm) == {address(n): [1000 + n, 2000 + n, 3000 + n] for n in first}
    expected = [{n for n in first if part_of(address(n)) == part} for part in range(PARTS)]
    assert parts_of_receipts(machines) == expected
    assert all(expected)

    late = range(13, 19)
    registered(postgres, late, day=1)  # at the bookmark
    bought(postgres, first, orders=(4,))
    at_once(machines)
    told += [(12, "email", address(n)) for n in late] + [(34, "email", address(n)) for n in first]
    assert Counter(told_of(crm)) == Counter(told)
    at_once(machines)

    assert Counter(told_of(crm)) == Counter(told)
    assert most_at_work(crm.tasks) <= PARTS * changes()[1]["max_in_flight"]
    for part, machine in enumerate(machines):
        assert (machine.folder / "altcraft" / f"part-{part}" / "last-run.html").exists()


# Where the tap cannot filter


def test_the_stream_map_divides_customers_as_the_sql_does(
    deliver: Callable[..., Result], sandbox: Sandbox
) -> None:
    page = " ".join(RECIPES.read_text("utf-8").split())
    (line,) = re.findall(r"`(__filter__: \"email and int\(md5\(email[^`]+)`", page)
    messages = [schema(), *map(customer, range(24)), customer(24, email=None), state(1)]
    for part in range(PARTS):
        before = len(sandbox.entries)
        maps = {"customers": yaml.safe_load(line)}
        settings = {
            "stream_maps": maps,
            "stream_map_config": {"parts": PARTS, "part": part},
        }
        assert deliver(messages, settings).status == 0

        emails = [entry["data"]["email"] for entry in sandbox.entries[before:]]
        expected = [f"c{n}@example.com" for n in range(24)]
        assert emails == [email for email in expected if part_of(email) == part]


# Another number of parts, by the tap piped into the target


class Parts:
    """The customers of README in so many parts, each of which keeps its journal and STATE.

    Attributes:
        bound: A moment; the taps leave out what is registered then or later. Blank: nothing.
    """

    def __init__(self, number: int, tap: Path, url: str, folder: Path, crm: Sandbox) -> None:
        self.number = number
        self.bound = ""
        self._tap, self._url, self._crm = tap, url, crm
        self._folders = [folder / f"{part}-of-{number}" for part in range(number)]
        for each in self._folders:
            each.mkdir()
        self._states: list[t.Any] = [None] * number

    def _clauses(self, part: int) -> list[str]:
        """The recipe's own clause, for another number of parts."""
        (clause,) = changes()[0]["stream_options"][CUSTOMERS]["custom_where_clauses"]
        assert clause.endswith(", 2) = $PART")
        clause = clause.replace(", 2) = $PART", f", {self.number}) = {part}")
        return [clause, *([f"registered_at < '{self.bound}'"] if self.bound else [])]

    def _run_part(self, part: int, settings: Json) -> None:
        folder, state = self._folders[part], self._states[part]
        config = {**loader_of(production(), folder, self._crm), "token": TOKEN, **settings}
        options = {CUSTOMERS: {"custom_where_clauses": self._clauses(part)}}
        keys = {CUSTOMERS: "registered_at"}
        pipeline = Pipeline(self._tap, self._url, config, folder, keys, stream_options=options)
        result = pipeline.run(state)
        assert result.status == 0, result.stderr
        self._states[part] = result.states[-1] if result.states else state

    def run(self, *, but: int | None = None, **settings: t.Any) -> None:
        """Run the parts at once, save one, each from its STATE on; all must end well."""
        parts = [part for part in range(self.number) if part != but]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda part: self._run_part(part, settings), parts))

    def forget_state(self) -> None:
        self._states = [None] * self.number

    def take(self, other: Parts, parts: t.Iterable[int]) -> None:
        """Let these parts have copies of the journals and STATEs of others."""
        for part in parts:
            folder, source = self._folders[part], part % other.number
            (folder / "altcraft").mkdir(exist_ok=True)
            name = "altcraft/journal.sqlite"
            shutil.copyfile(other._folders[source] / name, folder / name)
            self._states[part] = other._states[source]


@pytest.fixture
def parts(tap: Path, postgres: Postgres, tmp_path: Path, crm: Sandbox) -> Callable[[int], Parts]:
    """The table in so many parts; it has twelve customers, of whom nobody was messaged yet."""
    postgres.execute(TABLES_OF_README)
    registered(postgres, range(1, 13), day=1)
    return lambda number: Parts(number, tap, postgres.url, tmp_path, crm)


def welcomes(crm: Sandbox) -> Counter[int]:
    """How often each customer was messaged."""
    return Counter(int(each.address[1:].partition("@")[0]) for each in crm.messages)


def test_twice_as_many_parts_go_on_with_copies_and_message_everybody_once(
    parts: Callable[[int], Parts], postgres: Postgres, crm: Sandbox
) -> None:
    one, two = parts(1), parts(2)
    one.run()
    two.take(one, range(2))
    registered(postgres, range(13, 25), day=2)

    two.run()
    assert welcomes(crm) == Counter(range(1, 25))
    two.forget_state()
    two.run()

    assert welcomes(crm) == Counter(range(1, 25))


def test_any_number_of_parts_goes_on_after_a_baseline_up_to_a_bound(
    parts: Callable[[int], Parts], postgres: Postgres, crm: Sandbox
) -> None:
    two, one = parts(2), parts(1)
    registered(postgres, range(13, 25), day=2)
    two.bound = one.bound = "2025-03-02"
    two.run()
    assert welcomes(crm) == Counter(range(1, 13))

    one.run(baseline=True)
    assert welcomes(crm) == Counter(range(1, 13))
    one.bound = ""
    one.run()

    assert welcomes(crm) == Counter(range(1, 25))


def test_with_another_number_alone_some_are_messaged_twice_and_some_never(
    parts: Callable[[int], Parts], postgres: Postgres, crm: Sandbox
) -> None:
    two, three = parts(2), parts(3)
    two.run()
    registered(postgres, range(13, 19), day=2)
    registered(postgres, range(19, 25), day=3)
    two.run(but=1)  # whose customers of the second day and the third wait now
    told = welcomes(crm)
    waiting = {n for n in range(1, 25) if n not in told}
    moved = {part: {n for n in range(1, 25) if part_of(address(n), 3) == part} for part in range(3)}

    three.take(two, range(2))
    three.run()
    after = welcomes(crm)

    # The third part has no STATE and no journal.
    assert {after[n] for n in moved[2] - waiting} == {2}
    # The first one's STATE is beyond those who waited in the second.
    never = {n for n in moved[0] & waiting if n < 19}
    assert never
    assert set(range(1, 25)) - after.keys() == never
