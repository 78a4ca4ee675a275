"""Many tasks in flight: the window, order per customer, STATE, back-pressure, time-outs."""

from __future__ import annotations

import itertools
import os
import random
import sys
import time
import typing as t

import pytest
from harness import TargetProcess, customer, record, schema, state, wait_for, wait_until

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness import Result

    from target_altcraft.sandbox import Sandbox, Task

    Deliver = Callable[..., Result]


def overlap(one: Task, other: Task) -> bool:
    assert one.ends_at is not None
    assert other.ends_at is not None
    return one.accepted_at < other.ends_at and other.accepted_at < one.ends_at


def test_eight_tasks_in_a_window_of_four_take_two_rounds(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.task_seconds = 2.0
    messages = [schema(), *(customer(n) for n in range(16)), state(1)]
    result = deliver(messages, {"batch_size_rows": 2, "max_in_flight": 4})
    assert (result.status, result.bookmarks) == (0, [1])
    assert sandbox.max_tasks_in_flight() == 4
    first, last = sandbox.tasks[0], sandbox.tasks[-1]
    assert last.ends_at is not None
    assert last.ends_at - first.accepted_at < 3 * 2.0  # a third round would need six seconds


def test_a_silent_tap_sees_its_state_acknowledged_before_the_pipe_closes(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    sandbox.task_seconds = 0.5
    with TargetProcess({**config, "batch_size_rows": 2}, tmp_path) as target:
        target.feed([schema(), *(customer(n) for n in range(4)), state(1)])
        wait_for(target.states, "a STATE while the pipe is open", 10)
        seen = target.stdout[0][0]
        ends = [task.ends_at for task in sandbox.tasks if task.ends_at]
        assert len(ends) == 2
        assert 0 <= seen - max(ends) < 1.0
        target.close_input()
        assert target.wait().bookmarks == [1]


def test_an_open_batch_is_sent_when_it_is_old_even_if_the_tap_is_silent(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    code = (
        "import target_altcraft.batch as b; b.MAX_AGE_SECONDS = 0.2\n"
        "from target_altcraft.__main__ import main; main()"
    )
    with TargetProcess(config, tmp_path, command=(sys.executable, "-c", code)) as target:
        target.feed([schema(), customer(1), state(1)])
        wait_for(lambda: target.states() == [{"bookmark": 1}], "the STATE of an old batch", 10)
        assert len(sandbox.tasks) == 1
        target.close_input()
        assert target.wait().status == 0


def test_states_that_become_safe_together_collapse_into_the_newest(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.task_seconds = lambda _, entries: 0.0 if entries[0]["data"]["id"] else 1.0
    messages = [schema()]
    for n in range(4):
        messages += [customer(n), state(n)]
    result = deliver(messages, {"batch_size_rows": 1})
    assert (result.status, result.bookmarks) == (0, [3])


def test_one_customers_batches_are_never_in_flight_together(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.task_seconds = 0.3
    messages: list[t.Any] = [schema(), schema("orders")]
    messages += [customer(1, step=1), record("orders", email="C1@Example.com", step=2)]
    messages += [customer(2, step=1), customer(1, step=3), state(1)]
    result = deliver(messages, {"batch_size_rows": 1})
    assert (result.status, result.bookmarks) == (0, [1])
    first, second, third = (task for task in sandbox.tasks if task.keys == ["c1@example.com"])
    assert not overlap(first, second)
    assert not overlap(second, third)
    assert [int(task.entries[0]["data"]["step"]) for task in (first, second, third)] == [1, 2, 3]


def test_a_schema_change_does_not_reorder_a_customers_records(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    messages: list[t.Any] = []
    for step in range(6):
        extra = {f"column_{step}": {"type": "integer"}}
        messages += [schema(properties={"email": {}, **extra})]
        messages += [customer(1, step=step), customer(step + 2, step=step)]
    result = deliver([*messages, state(1)], {"batch_size_rows": 3})
    assert (result.status, result.bookmarks) == (0, [1])
    steps = [int(e["data"]["step"]) for e in sandbox.entries if e["data"]["id"] == 1]
    assert steps == list(range(6))


def test_custom_requests_go_one_batch_at_a_time(sandbox: Sandbox, deliver: Deliver) -> None:
    sandbox.task_seconds = 0.2
    settings = {
        "matching": "custom_request",
        "custom_request_column": "query",
        "batch_size_rows": 1,
    }
    messages = [schema(), *(record(query={"CRM_ID": str(n)}, n=n) for n in range(3)), state(1)]
    result = deliver(messages, settings)
    assert result.status == 0, result.stderr
    assert "matching" not in sandbox.tasks[0].envelope
    assert not any(overlap(a, b) for a, b in itertools.combinations(sandbox.tasks, 2))


def test_a_task_that_never_ends_stops_the_run_and_the_reading(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    sandbox.add_fault("task", "stuck", times=None)
    settings = {**config, "task_timeout_seconds": 2, "batch_size_rows": 100, "max_in_flight": 2}
    started = time.monotonic()
    with TargetProcess(settings, tmp_path) as target:
        taken = target.feed_in_background(
            itertools.chain([schema()], (customer(n) for n in range(400_000)), [state(1)])
        )
        wait_for(lambda: len(sandbox.tasks) == 2, "a full window")
        wait_until(started + 2)
        assert taken() < 400_000 / 20
        result = target.wait()
    assert result.status == 1
    assert time.monotonic() - started < 2 + 8  # what the tap still writes is read into nothing
    assert result.states == []
    assert "has not ended within task_timeout_seconds (2)" in result.errors[-1]
    assert "stream 'customers', batch" in result.errors[-1]
    assert len(sandbox.tasks) == 2


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("check_workflow", [True, False])
def test_a_system_that_gives_no_thread_ends_the_run_with_a_message(
    sandbox: Sandbox, deliver: Deliver, number: int, *, check_workflow: bool
) -> None:
    code = (
        "import threading\n"
        "class Thread(threading.Thread):\n"
        "    def start(self):\n"
        f"        if self.name == 'altcraft-worker-{number + 1}':\n"
        '            raise RuntimeError("can\'t start new thread")\n'
        "        super().start()\n"
        "threading.Thread = Thread\n"
        "from target_altcraft.__main__ import main; main()"
    )
    sandbox.task_seconds = 0.5
    messages = [schema(), *(customer(n) for n in range(3)), state(1)]
    settings = {"batch_size_rows": 1, "check_workflow": check_workflow}
    result = deliver(messages, settings, command=(sys.executable, "-c", code))
    assert (result.status, result.states) == (1, [])
    assert "no thread can be started for a batch (can't start new thread)" in result.error
    assert len(sandbox.entries) == number


def test_max_profiles_stops_before_the_batch_that_would_pass_it(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    messages: list[t.Any] = [schema()]
    for n in range(10):
        messages += [customer(n), state(n)]
    result = deliver(messages, {"batch_size_rows": 2, "max_profiles": 5, "max_in_flight": 1})
    assert result.status == 1
    assert "more than max_profiles (5)" in result.error
    assert len(sandbox.entries) == 4
    assert result.bookmarks[-1] in {2, 3}


def test_as_many_as_max_profiles_are_sent(sandbox: Sandbox, deliver: Deliver) -> None:
    messages = [schema(), *map(customer, range(10)), state(1)]
    result = deliver(messages, {"batch_size_rows": 2, "max_profiles": 10})
    assert (result.status, result.bookmarks, len(sandbox.entries)) == (0, [1], 10)


def random_messages(rng: random.Random) -> Iterator[dict[str, t.Any]]:
    """Yield several streams whose customers come again, with a STATE now and then."""
    streams = ["customers", "orders", "visits"]
    for stream in streams:
        yield schema(stream)
    for n in range(400):
        stream = rng.choice(streams)
        if rng.random() < 0.02:
            yield schema(stream, {"email": {}, f"c{n}": {"type": "integer"}})
        yield customer(rng.randrange(60), stream=stream, n=n)
        if rng.random() < 0.1:
            yield state(n)
    yield state("end")


RANDOM_FAULTS = (
    "submit:http,status=503,retry_after=0",
    "submit:http,status=429",
    "submit:reset_before",
    "status:http,status=500",
    "status:reset_after",
    "status:html",
    "task:no_progress",
    "task:unknown_status",
    "submit:error,code=503",
)


def check_promises(messages: list[dict[str, t.Any]], sandbox: Sandbox, result: Result) -> None:
    """Check what every run must keep, whatever happened in it."""
    check_order_per_customer(sandbox)
    before = records_before_each_state(messages)
    positions = [list(before).index(bookmark) for bookmark in result.bookmarks]
    assert positions == sorted(set(positions))
    ends = {int(e["data"]["n"]): task.ends_at or 0 for task in sandbox.tasks for e in task.entries}
    for seen, bookmark in zip(result.state_times, result.bookmarks, strict=True):
        for n in before[bookmark]:
            assert ends[n] <= seen, f"STATE {bookmark} before the task of record {n} had ended"
    if result.status == 0:
        assert sorted(int(e["data"]["n"]) for e in sandbox.entries) == sorted(before["end"])
        assert result.bookmarks[-1] == "end"


def check_order_per_customer(sandbox: Sandbox) -> None:
    for one, other in itertools.combinations(sandbox.tasks, 2):
        if not set(one.keys).isdisjoint(other.keys):
            assert not overlap(one, other)
    order: dict[str, list[int]] = {}
    for entry in sandbox.entries:
        order.setdefault(entry["data"]["email"], []).append(int(entry["data"]["n"]))
    assert all(numbers == sorted(numbers) for numbers in order.values())


def records_before_each_state(messages: list[dict[str, t.Any]]) -> dict[t.Any, set[int]]:
    read: set[int] = set()
    before = {}
    for message in messages:
        if message["type"] == "RECORD":
            read.add(message["record"]["n"])
        elif message["type"] == "STATE":
            before[message["value"]["bookmark"]] = set(read)
    return before


@pytest.mark.parametrize("seed", range(int(os.environ.get("SOAK_SEEDS", "4"))))
def test_random_input_keeps_every_promise(sandbox: Sandbox, deliver: Deliver, seed: int) -> None:
    rng = random.Random(seed)
    sandbox.task_seconds = lambda _number, _entries: rng.choice([0.0, 0.02, 0.1, 0.3])
    for _ in range(8):
        sandbox.add_fault(f"{rng.choice(RANDOM_FAULTS)},after={rng.randrange(40)}")
    messages = list(random_messages(rng))
    settings = {
        "batch_size_rows": rng.choice([3, 10, 50]),
        "batch_size_bytes": rng.choice([1500, 20_000]),
        "max_in_flight": rng.choice([1, 3, 8]),
        "max_profiles": rng.choice([None, None, 150]),
    }
    result = deliver(messages, settings)
    assert result.status == (1 if settings["max_profiles"] else 0), result.stderr
    check_promises(messages, sandbox, result)
