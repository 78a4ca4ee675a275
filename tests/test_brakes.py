"""What stops a run that is going wrong, through the command line."""

from __future__ import annotations

import json
import time
import typing as t
from pathlib import Path

import pytest
from harness import TargetProcess, customer, record, schema, state, wait_for

if t.TYPE_CHECKING:
    from collections.abc import Callable, Container

    from harness import Message, Result

    from target_altcraft.sandbox import Sandbox

    Deliver = Callable[..., Result]


@pytest.fixture
def rejecting(config: dict[str, t.Any], tmp_path: Path) -> dict[str, t.Any]:
    """Have rejected records set aside."""
    config["rejects_path"] = str(tmp_path / "rejects.jsonl")
    return config


def rejects(config: dict[str, t.Any]) -> list[Message]:
    text = Path(config["rejects_path"]).read_text(encoding="utf-8")
    found = [json.loads(line) for line in text.splitlines()]
    return [line for line in found if line["type"] == "RECORD"]


def nobody(number: int, stream: str = "customers") -> Message:
    """A record that has no match value."""
    return customer(number, stream, email=None)


def mixed(bad: int, good: int) -> list[Message]:
    """Bad ones spread evenly among good ones, the first one good."""
    total, made, messages = bad + good, 0, list[t.Any]()
    for number in range(1, total + 1):
        if made * total < bad * number - total / 2:
            messages.append(nobody(number))
            made += 1
        else:
            messages.append(customer(number))
    while made < bad:
        messages[-1 - made] = nobody(total - made)
        made += 1
    return messages


def submitted(sandbox: Sandbox) -> list[int]:
    return [entry["data"]["id"] for entry in sandbox.entries]


# A stream of which nothing but rejects came


def test_a_stream_of_20_rejects_and_nothing_else_fails_the_run_before_its_state(
    sandbox: Sandbox, deliver: Deliver, rejecting: dict[str, t.Any]
) -> None:
    result = deliver([schema(), *map(nobody, range(20)), state(1)])
    assert (result.status, result.states, sandbox.tasks) == (1, [], [])
    assert result.error == (
        "stream 'customers': all of its 20 profiles so far were rejected (most often: "
        "no_match_value): rather a wrong setting than bad records. Nothing more is sent. They "
        f"stand in {rejecting['rejects_path']}. Mend the setting, or set max_reject_percent to 100 "
        "to let them pass"
    )
    assert len(rejects(rejecting)) == 20


@pytest.mark.usefixtures("rejecting")
def test_such_a_stream_fails_the_run_at_its_end_if_it_has_no_state(deliver: Deliver) -> None:
    result = deliver([schema(), *map(nobody, range(25))])
    assert result.status == 1
    assert "all of its 25 profiles so far were rejected" in result.error


@pytest.mark.usefixtures("rejecting")
@pytest.mark.parametrize(
    "messages",
    [
        pytest.param(list(map(nobody, range(19))), id="fewer than 20"),
        pytest.param([customer(0), *map(nobody, range(1, 40))], id="one that is good"),
    ],
)
def test_other_streams_with_rejects_end_well(deliver: Deliver, messages: list[t.Any]) -> None:
    result = deliver([schema(), *messages, state(1)])
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr


@pytest.mark.usefixtures("rejecting")
def test_a_limit_of_100_percent_lets_everything_pass(deliver: Deliver) -> None:
    messages = [schema(), *map(nobody, range(50)), state(1)]
    result = deliver(messages, {"max_reject_percent": 100})
    assert (result.status, result.bookmarks) == (0, [1])
    assert "rejected, no_match_value: 50" in result.stderr


@pytest.mark.usefixtures("rejecting")
def test_a_stream_that_altcraft_rejects_whole_fails_the_run(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.fail_where = lambda _: True
    result = deliver([schema(), *map(customer, range(30)), state(1)])
    assert (result.status, result.states) == (1, [])
    assert "all of its 30 profiles so far were rejected (most often: error 422)" in result.error


@pytest.mark.usefixtures("rejecting")
def test_records_that_were_never_to_be_sent_are_no_profiles(deliver: Deliver) -> None:
    maps = {"stream_maps": {"customers": {"__filter__": "id < 30"}}}
    gone = [customer(n, _sdc_deleted_at="2025-03-01T00:00:00Z") for n in range(9)]
    dropped = [customer(n) for n in range(30, 39)]
    result = deliver([schema(), *gone, *map(nobody, range(20)), *dropped, state(1)], maps)
    assert (result.status, result.states) == (1, [])
    assert "all of its 20 profiles so far" in result.error


# A share of a stream


@pytest.mark.usefixtures("rejecting")
@pytest.mark.parametrize(
    ("bad", "good", "limit", "passes"),
    [
        (10, 90, 10, True),
        (11, 89, 10, False),
        (1, 99, 0, False),
        (0, 100, 0, True),
        (3, 197, 1.5, True),
        (4, 196, 1.5, False),
        (10, 9, 10, True),  # fewer than 20
        (11, 9, 10, False),
        (99, 1, 99, True),
    ],
)
def test_more_than_max_reject_percent_fails_the_run(
    deliver: Deliver,
    bad: int,
    good: int,
    limit: float,
    passes: bool,  # noqa: FBT001
) -> None:
    messages = [schema(), *mixed(bad, good), state(1)]
    result = deliver(messages, {"max_reject_percent": limit})
    assert (result.status, result.bookmarks) == ((0, [1]) if passes else (1, [])), result.stderr
    if not passes:
        assert result.error.startswith(
            f"stream 'customers': {bad} of {bad + good} profiles were rejected, more than "
            f"max_reject_percent ({limit:g}) (most often: no_match_value): rather a wrong setting"
        )


@pytest.mark.usefixtures("rejecting")
def test_each_stream_is_judged_by_itself(deliver: Deliver) -> None:
    messages = [schema(), schema("orders"), *map(customer, range(500))]
    messages += [*(nobody(n, "orders") for n in range(5)), customer(900, "orders")]
    messages += [customer(n, "orders") for n in range(20)]
    result = deliver([*messages, state(1)], {"max_reject_percent": 10})
    assert result.status == 1
    assert "stream 'orders': 5 of 26 profiles were rejected" in result.error


@pytest.mark.usefixtures("rejecting")
def test_a_stream_is_judged_at_each_completed_task_and_nothing_more_is_sent(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.fail_where = lambda entry: entry["data"]["id"] % 2 == 0
    settings = {"batch_size_rows": 20, "max_in_flight": 1, "max_reject_percent": 40}
    messages: list[t.Any] = [schema()]
    for number in range(200):
        messages.append(customer(number))
        if number % 20 == 19:
            messages.append(state(number))
    result = deliver(messages, settings)
    assert (result.status, result.states) == (1, [])
    assert "10 of 20 profiles were rejected" in result.error
    assert submitted(sandbox) == list(range(20))


@pytest.mark.usefixtures("rejecting")
def test_a_bad_batch_stops_the_run_though_most_profiles_are_still_under_way(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.fail_where = lambda entry: entry["data"]["id"] < 100
    sandbox.task_seconds = lambda _, entries: 0 if entries[0]["data"]["id"] < 100 else 1.5
    result = deliver(
        [schema(), *map(customer, range(1000)), state(1)],
        {"batch_size_rows": 100, "max_in_flight": 2, "max_reject_percent": 50},
    )
    assert (result.status, result.states) == (1, [])
    assert "100 of 100 profiles were rejected" in result.error
    assert len(sandbox.tasks) <= 3


@pytest.mark.usefixtures("rejecting")
def test_a_stream_is_judged_every_1000_records(sandbox: Sandbox, deliver: Deliver) -> None:
    messages = [schema(), *mixed(300, 700), *map(customer, range(2000, 5000))]
    result = deliver([*messages, state(1)], {"max_reject_percent": 25, "batch_size_rows": 10_000})
    assert (result.status, result.states) == (1, [])
    assert "300 of 1000 profiles were rejected" in result.error
    assert sandbox.tasks == []


@pytest.mark.usefixtures("rejecting")
def test_what_is_read_ahead_is_not_held_against_the_few_that_are_delivered(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.task_seconds = 0.3
    messages = [schema(), *mixed(20, 980), state(1)]
    settings = {"max_reject_percent": 2.5, "batch_size_rows": 50, "max_in_flight": 2}
    result = deliver(messages, settings, seconds=60)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr


@pytest.mark.usefixtures("rejecting")
def test_records_of_which_altcraft_refuses_the_request_count_too(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.refuse_where = lambda entry: entry["data"]["id"] % 10 == 0
    messages = [schema(), *map(customer, range(1, 31)), state(1)]
    result = deliver(messages, {"max_reject_percent": 9})
    assert (result.status, result.states) == (1, [])
    assert "3 of 30 profiles were rejected" in result.error
    assert deliver(messages, {"max_reject_percent": 10}).status == 0


def test_the_state_before_the_rejects_goes_out(
    sandbox: Sandbox, deliver: Deliver, rejecting: dict[str, t.Any]
) -> None:
    messages = [schema(), *map(customer, range(10)), state(1), *map(nobody, range(50)), state(2)]
    result = deliver(messages, {**rejecting, "max_reject_percent": 50, "batch_size_rows": 10})
    assert (result.status, result.bookmarks) == (1, [1])
    assert submitted(sandbox) == list(range(10))


@pytest.mark.usefixtures("rejecting")
def test_what_was_rejected_before_counts_as_rejected(deliver: Deliver, tmp_path: Path) -> None:
    settings = {"journal_path": str(tmp_path / "journal")}
    head = schema(key_properties=["id"], bookmark_properties=["id"])
    messages = [head, *map(nobody, range(30)), state(1)]
    passing = {**settings, "max_reject_percent": 100}
    assert deliver(messages, passing).status == 0
    again = deliver(messages, settings)
    assert (again.status, again.states) == (1, [])
    assert "all of its 30 profiles so far were rejected (most often: rejected before)" in (
        again.error
    )
    with_good = [head, *map(nobody, range(30)), *map(customer, range(100, 170)), state(2)]
    low = deliver(with_good, {**settings, "max_reject_percent": 29})
    assert (low.status, low.states) == (1, [])
    high = deliver(with_good, {**settings, "max_reject_percent": 30})
    assert (high.status, high.bookmarks) == (0, [2]), high.stderr


@pytest.mark.usefixtures("rejecting")
def test_a_state_between_rejects_of_earlier_runs_is_judged_by_what_came_before_it(
    deliver: Deliver, tmp_path: Path
) -> None:
    settings = {"journal_path": str(tmp_path / "journal")}
    head = schema(key_properties=["id"], bookmark_properties=["id"])
    bad = [nobody(n) for n in range(20)]
    deliver([head, *bad, state(1)], {**settings, "max_reject_percent": 100})
    result = deliver([head, *bad, state(2), customer(50), state(3)], settings)
    assert (result.status, result.states) == (1, [])


@pytest.mark.usefixtures("rejecting")
def test_what_was_delivered_before_speaks_for_a_stream(deliver: Deliver, tmp_path: Path) -> None:
    settings = {"journal_path": str(tmp_path / "journal"), "max_reject_percent": 30}
    head = schema(key_properties=["id"], bookmark_properties=["id"])
    good = [customer(n) for n in range(100)]
    assert deliver([head, *good, state(1)], settings).status == 0
    result = deliver([head, *good, *map(nobody, range(200, 230)), state(2)], settings)
    assert (result.status, result.bookmarks) == (0, [2]), result.stderr


@pytest.mark.usefixtures("rejecting")
def test_after_such_a_failure_a_mended_rerun_delivers_what_was_rejected(
    sandbox: Sandbox, deliver: Deliver, tmp_path: Path
) -> None:
    settings = {"journal_path": str(tmp_path / "journal"), "max_reject_percent": 10}
    messages = [schema(key_properties=["id"]), *map(customer, range(40)), state(1)]
    sandbox.fail_where = lambda entry: entry["data"]["id"] % 2 == 0
    assert deliver(messages, settings).status == 1
    sandbox.fail_where = None
    result = deliver(messages, settings)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    delivered = {profile["fields"]["email"]: profile["runs"] for profile in sandbox.profiles}
    assert len(delivered) == 40
    assert set(map(str, delivered.values())) == {"{1: 1}"}


@pytest.mark.usefixtures("rejecting")
@pytest.mark.parametrize("limit", [None, 50])
def test_a_dry_run_fails_where_the_run_would(deliver: Deliver, limit: float | None) -> None:
    settings = {"dry_run": True, "max_reject_percent": limit}
    result = deliver([schema(), *map(nobody, range(20)), state(1)], settings)
    assert result.status == 1
    assert "Nothing more is sent. Mend the setting" in result.error


# The first profiles go alone


def test_the_first_profiles_of_a_stream_go_alone_and_the_rest_waits_for_their_task(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.task_seconds = 0.5
    result = deliver(
        [schema(), *map(customer, range(100)), state(1)],
        {"canary_rows": 3, "batch_size_rows": 20},
    )
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    first, *rest = sandbox.tasks
    assert (first.size, [task.size for task in rest]) == (3, [20, 20, 20, 20, 17])
    assert first.ends_at is not None
    assert all(task.accepted_at >= first.ends_at for task in rest)
    assert sorted(submitted(sandbox)) == list(range(100))


@pytest.mark.usefixtures("rejecting")
@pytest.mark.parametrize(
    ("canary", "bad", "limit", "passes"),
    [
        (5, {0, 1}, 30, False),
        (5, {0}, 30, True),
        (1, {0}, None, False),
        (5, {0, 1, 2, 3, 4}, None, False),
        (5, {0, 1, 2, 3}, None, True),
        (5, {0, 1, 2, 3, 4}, 100, True),
    ],
)
def test_they_are_judged_when_their_task_ends_however_few(
    sandbox: Sandbox,
    deliver: Deliver,
    canary: int,
    bad: set[int],
    limit: float | None,
    passes: bool,  # noqa: FBT001
) -> None:
    sandbox.fail_where = lambda entry: entry["data"]["id"] in bad
    result = deliver(
        [schema(), *map(customer, range(100)), state(1)],
        {"canary_rows": canary, "max_reject_percent": limit},
    )
    if passes:
        assert (result.status, result.bookmarks) == (0, [1]), result.stderr
        assert len(sandbox.entries) == 100
    else:
        assert (result.status, result.states) == (1, [])
        assert f"{len(bad)} of {canary} profiles" in result.error or "all of its" in result.error
        assert submitted(sandbox) == list(range(canary))


def test_a_failed_task_of_the_first_profiles_keeps_the_rest_at_home(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.add_fault("task:failed,text=no such resource")
    result = deliver(
        [schema(), *map(customer, range(500)), state(1)],
        {"canary_rows": 10, "batch_size_rows": 100},
    )
    assert (result.status, result.states) == (1, [])
    assert submitted(sandbox) == list(range(10))
    assert any("profiles not sent, the run is ending" in line for line in result.log("WARNING"))


@pytest.mark.usefixtures("rejecting")
def test_a_stream_shorter_than_canary_rows_is_judged_when_it_ends(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.fail_where = lambda entry: entry["data"]["id"] == 0
    result = deliver(
        [schema(), *map(customer, range(4)), state(1)],
        {"canary_rows": 10, "max_reject_percent": 20},
    )
    assert (result.status, result.states) == (1, [])
    assert "1 of 4 profiles were rejected" in result.error


def test_other_streams_go_on_meanwhile(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    sandbox.task_seconds = lambda _, entries: 60 if entries[0]["data"]["id"] < 100 else 0
    settings = {**config, "canary_rows": 2, "batch_size_rows": 5, "shutdown_seconds": 0}
    with TargetProcess(settings, tmp_path) as target:
        target.feed([schema(), schema("orders"), *map(customer, range(9))])
        target.feed([customer(n, "orders") for n in range(100, 112)])
        wait_for(lambda: len(sandbox.entries) >= 14, "the other stream's batches")
        target.terminate()
        result = target.wait()
    assert [task.size for task in sandbox.tasks] == [2, 2, 5, 5]
    assert sorted(submitted(sandbox)) == [0, 1, *range(100, 112)]
    assert result.states == []


def test_reading_waits_when_nothing_more_may_be_held(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    sandbox.task_seconds = lambda number, _: 2 if number == 1 else 0
    settings = {**config, "canary_rows": 1, "batch_size_rows": 1000, "max_in_flight": 3}
    with TargetProcess(settings, tmp_path) as target:
        count = target.feed_in_background(
            [schema(), *(customer(n, note="x" * 1000) for n in range(20_000)), state(1)]
        )
        wait_for(lambda: sandbox.tasks, "the first profile")
        time.sleep(1)
        assert len(sandbox.tasks) == 1
        assert count() < 5000  # two batches, what the pipe holds, and what was read of it
        result = target.wait()
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert submitted(sandbox)[0] == 0
    assert sorted(submitted(sandbox)) == list(range(20_000))


@pytest.mark.parametrize("most", [1, 2, 4])
def test_one_customer_in_several_streams_is_served_in_order_all_the_same(
    sandbox: Sandbox, deliver: Deliver, most: int
) -> None:
    sandbox.task_seconds = lambda number, _: 0.4 if number == 1 else 0.05
    messages: list[t.Any] = [schema(name) for name in ("a", "b", "c")]
    steps = [(n, "abc"[n % 3], n % 7) for n in range(60)]
    messages += [
        record(stream, id=n, email=f"c{who}@example.com", _fname="x") for n, stream, who in steps
    ]
    result = deliver(
        [*messages, state(1)], {"canary_rows": 2, "batch_size_rows": 4, "max_in_flight": most}
    )
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    for who in range(7):
        served = [e["data"]["id"] for e in sandbox.entries if f"c{who}@" in e["data"]["email"]]
        assert served == [n for n, _, each in steps if each == who]


def test_a_batch_that_waits_for_the_first_profiles_keeps_its_customers_later_ones_waiting(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.task_seconds = lambda number, _: 0.6 if number == 1 else 0.0
    messages = [
        schema("a"),
        schema("b"),
        customer(1, "a"),
        customer(2, "a", email="ann@example.com"),
        customer(3, "b", email="Ann@example.com"),
        state(1),
    ]
    result = deliver(messages, {"canary_rows": 1, "batch_size_rows": 1})
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert submitted(sandbox) == [1, 2, 3]


def test_a_broken_line_while_the_first_profiles_are_out_loses_no_full_batch(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    sandbox.task_seconds = lambda number, _: 1 if number == 1 else 0
    messages = [schema(), *map(customer, range(6)), state(1), customer(6), "broken"]
    result = deliver(messages, {"canary_rows": 1, "batch_size_rows": 5})
    assert (result.status, result.bookmarks) == (1, [1]), result.stderr
    assert submitted(sandbox) == list(range(6))


@pytest.mark.usefixtures("rejecting")
@pytest.mark.parametrize("limit", ["max_rejects", "max_reject_percent"])
def test_rejects_at_reading_while_the_first_profiles_are_out_drop_the_rest(
    sandbox: Sandbox, deliver: Deliver, limit: str
) -> None:
    sandbox.task_seconds = lambda number, _: 1 if number == 1 else 0
    messages = [schema(), customer(0), state(1), *map(customer, range(1, 6))]
    messages += [*map(nobody, range(10, 40)), state(2)]
    result = deliver(messages, {"canary_rows": 1, "batch_size_rows": 5, limit: 20})
    assert (result.status, result.bookmarks) == (1, [1]), result.stderr
    assert f"more than {limit} (20)" in result.error
    assert submitted(sandbox) == [0]
    assert any("5 profiles not sent" in line for line in result.log("WARNING"))


@pytest.mark.usefixtures("rejecting")
@pytest.mark.parametrize("limit", ["max_rejects", "max_reject_percent"])
def test_records_that_wait_for_the_journals_word_are_not_sent_after_a_brake(
    sandbox: Sandbox, deliver: Deliver, tmp_path: Path, limit: str
) -> None:
    settings = {"journal_path": str(tmp_path / "journal"), "batch_size_rows": 5, limit: 20}
    messages = [*map(customer, range(200)), *map(nobody, range(600, 1200))]
    result = deliver([schema(key_properties=["id"]), *messages, state(1)], settings)
    assert (result.status, result.states) == (1, []), result.stderr
    assert f"more than {limit} (20)" in result.error
    if limit == "max_rejects":
        assert sandbox.tasks == []


@pytest.fixture(params=[False, True], ids=["no journal", "journal"])
def five_percent(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, t.Any]:
    """Settings with a brake, with a journal and without."""
    settings = {"rejects_path": str(tmp_path / "rejects"), "max_reject_percent": 5}
    if request.param:
        settings["journal_path"] = str(tmp_path / "journal")
    return settings


@pytest.mark.parametrize("bad", [(100, 150, 200), range(0, 1300, 22)])
def test_what_waits_for_the_journals_word_is_judged_with_the_rejects_among_it(
    deliver: Deliver, five_percent: dict[str, t.Any], bad: Container[int]
) -> None:
    rows: list[t.Any] = [nobody(n) if n in bad else customer(n) for n in range(1300)]
    rows.insert(40, state("early"))
    result = deliver([schema(key_properties=["id"]), *rows, state(1)], five_percent)
    assert (result.status, result.bookmarks[-1:]) == (0, [1]), result.stderr


def test_what_was_rejected_before_is_judged_with_what_waits_too(
    deliver: Deliver, five_percent: dict[str, t.Any], tmp_path: Path
) -> None:
    journal = {"journal_path": str(tmp_path / "journal"), "send_again": "new_version"}
    head, rows = schema(key_properties=["id"]), [*map(nobody, range(3)), state(0)]
    lenient = {**five_percent, **journal, "max_reject_percent": 100}
    assert deliver([head, *rows], lenient).status == 0
    rows = [*map(customer, range(10, 50)), state("early"), *rows[:3]]
    result = deliver([head, *rows, *map(customer, range(50, 90)), state(1)], five_percent | journal)
    assert (result.status, result.bookmarks[-1:]) == (0, [1]), result.stderr
    assert "rejected before: 3" in result.stderr


def test_a_state_is_judged_by_what_came_before_it(
    deliver: Deliver, five_percent: dict[str, t.Any]
) -> None:
    rows: list[t.Any] = [nobody(n) if n in {10, 20, 30} else customer(n) for n in range(200)]
    rows.insert(40, state("early"))
    result = deliver([schema(key_properties=["id"]), *rows, state(1)], five_percent)
    assert (result.status, result.bookmarks) == (1, [])
    assert "3 of 40 profiles were rejected, more than max_reject_percent (5)" in result.error


def test_a_signal_while_the_first_profiles_are_out_drops_the_rest(
    sandbox: Sandbox, config: dict[str, t.Any], tmp_path: Path
) -> None:
    sandbox.task_seconds = 1
    settings = {**config, "canary_rows": 2, "batch_size_rows": 5, "shutdown_seconds": 5}
    with TargetProcess(settings, tmp_path) as target:
        target.feed([schema(), *map(customer, range(2)), state(1), *map(customer, range(2, 9))])
        wait_for(lambda: sandbox.tasks, "the first profiles")
        time.sleep(0.2)
        target.terminate()
        result = target.wait()
    assert (result.status, result.bookmarks) == (143, [1]), result.stderr
    assert submitted(sandbox) == [0, 1]
    assert any("5 profiles not sent" in line for line in result.log("WARNING"))


def test_a_dry_run_shows_the_batch_of_the_first_profiles(deliver: Deliver) -> None:
    settings = {"canary_rows": 3, "batch_size_rows": 20, "dry_run": True}
    result = deliver([schema(), *map(customer, range(30)), state(1)], settings)
    (row,) = (line for line in result.log("INFO") if line.startswith("dry run: customers"))
    assert row.split()[2:7] == ["customers", "30", "30", "0", "3"]


# A brake that is not in force

BRAKES = {
    "DRY_RUN": "true",
    "MAX_PROFILES": "10",
    "MAX_REJECTS": "0",
    "MAX_REJECT_PERCENT": "2.5",
    "CANARY_ROWS": "5",
    "BASELINE": "true",
}


@pytest.mark.parametrize("name", BRAKES)
def test_a_brake_of_the_environment_that_is_not_read_stops_the_run(
    sandbox: Sandbox, deliver: Deliver, name: str
) -> None:
    variable = f"TARGET_ALTCRAFT_{name}"
    result = deliver([schema(), customer(1), state(1)], env={variable: BRAKES[name]})
    assert (result.status, result.states, sandbox.requests) == (1, [], [])
    assert result.error == (
        f"settings: {variable} is set and not in force: the environment is read with --config ENV "
        f"only; under Meltano, name {name.lower()} in the loader's settings"
    )


def test_a_brake_whose_value_the_file_does_not_have_is_not_in_force(deliver: Deliver) -> None:
    env = {"TARGET_ALTCRAFT_MAX_PROFILES": "10"}
    result = deliver([schema(), customer(1)], {"max_profiles": 50_000}, env=env)
    assert result.status == 1
    assert "TARGET_ALTCRAFT_MAX_PROFILES is set and not in force" in result.error


@pytest.mark.usefixtures("rejecting")
def test_brakes_that_the_file_holds_as_well_are_in_force(deliver: Deliver, tmp_path: Path) -> None:
    settings = {
        "dry_run": False,
        "baseline": ["a", "b"],
        "max_profiles": 50_000,
        "max_rejects": 0,
        "max_reject_percent": 2.5,
        "canary_rows": 5,
        "journal_path": str(tmp_path / "journal"),
    }
    env = {f"TARGET_ALTCRAFT_{name.upper()}": str(value) for name, value in settings.items()}
    env["TARGET_ALTCRAFT_MAX_REJECT_PERCENT"] = "2.50"
    result = deliver([schema(), customer(1), state(1)], settings, env=env)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert "TARGET_ALTCRAFT" not in result.stderr


@pytest.mark.parametrize("text", ["", " ", "false", "False", "no", "off"])
def test_a_brake_that_is_set_to_nothing_or_false_is_not_set(deliver: Deliver, text: str) -> None:
    env = {f"TARGET_ALTCRAFT_{name}": text for name in BRAKES}
    result = deliver([schema(), customer(1), state(1)], env=env)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert "TARGET_ALTCRAFT" not in result.stderr


def test_the_environment_is_in_force_with_config_env(sandbox: Sandbox, deliver: Deliver) -> None:
    env = {"TARGET_ALTCRAFT_DRY_RUN": "true", "TARGET_ALTCRAFT_MAX_PROFILES": "5"}
    result = deliver([schema(), customer(1)], args=("--config", "ENV"), env=env)
    assert (result.status, sandbox.tasks) == (0, [])
    assert "TARGET_ALTCRAFT" not in result.stderr


@pytest.mark.parametrize("args", [(), ("--config", "ENV")])
def test_a_misspelt_brake_of_the_environment_stops_the_run(
    sandbox: Sandbox, deliver: Deliver, args: tuple[str, ...]
) -> None:
    env = {"TARGET_ALTCRAFT_DRYRUN": "true"}
    result = deliver([schema(), customer(1)], args=args, env=env)
    assert (result.status, sandbox.requests) == (1, [])
    assert result.error == (
        "settings: TARGET_ALTCRAFT_DRYRUN is set, and there is no setting 'dryrun' (did you mean "
        "'dry_run'?): a brake must not be ignored"
    )


def test_other_variables_that_nothing_reads_are_warned_of_without_their_values(
    deliver: Deliver,
) -> None:
    env = {
        "TARGET_ALTCRAFT_BATCH_SIZE_ROWS": "v4lue-1",
        "TARGET_ALTCRAFT_WORKLOW_ID": "v4lue-2",
        "TARGET_ALTCRAFT_FOO": "v4lue-3",
        "TARGET_ALTCRAFT_LOGLEVEL": "INFO",
        "TARGET_ALTCRAFT_RETRY_MAX_SECONDS": "5",  # as in the file
        "TARGET_ALTCRAFT__DIALECT": "x",  # Meltano's own
        "TARGET_ALTCRAFT_STREAMS_CUSTOMERS_MAX_PROFILE": "x",  # a part of an object
        "TARGET_ALTCRAFT_STREAM_MAPS_CUSTOMERS___ALIAS__": "x",
    }
    result = deliver([schema(), customer(1), state(1)], env=env)
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    said = [line for line in result.log("WARNING") if "TARGET_ALTCRAFT" in line]
    assert said == [
        (
            "TARGET_ALTCRAFT_BATCH_SIZE_ROWS is set and not in force: the environment is read with "
            "--config ENV only; under Meltano, name batch_size_rows in the loader's settings"
        ),
        "TARGET_ALTCRAFT_FOO is set, and there is no setting 'foo'; it is ignored",
        (
            "TARGET_ALTCRAFT_WORKLOW_ID is set, and there is no setting 'worklow_id' (did you mean "
            "'workflow_id'?); it is ignored"
        ),
    ]
    assert "v4lue" not in result.stderr


def test_an_unknown_setting_that_looks_like_a_brake_stops_the_run_and_others_warn(
    sandbox: Sandbox, deliver: Deliver
) -> None:
    messages = [schema(), customer(1), state(1)]
    wrong = deliver(messages, {"max_profile": 5, "hard_delete": True})
    assert (wrong.status, sandbox.requests) == (1, [])
    assert wrong.error == (
        "settings: unknown setting 'max_profile' (did you mean 'max_profiles'?): a brake or a size "
        "must not be ignored"
    )
    result = deliver(messages, {"hard_delete": True})
    assert (result.status, result.bookmarks) == (0, [1])
    assert "unknown setting 'hard_delete' is ignored" in result.log("WARNING")


def test_a_key_that_comes_again_while_the_first_profiles_are_out_waits_for_its_outcome(
    sandbox: Sandbox, deliver: Deliver, tmp_path: Path
) -> None:
    sandbox.task_seconds = lambda number, _: 0.5 if number == 1 else 0
    head = schema(key_properties=["id"])
    again = [customer(5, _fname="Zoe"), customer(5, _fname="Zoe"), customer(0, _fname="Zoe")]
    result = deliver(
        [head, *map(customer, range(6)), *again, state(1)],
        {"canary_rows": 2, "journal_path": str(tmp_path / "journal"), "send_again": "changed"},
    )
    assert (result.status, result.bookmarks) == (0, [1]), result.stderr
    assert sandbox.tasks[0].size == 2
    assert sorted(submitted(sandbox)) == [0, 0, 1, 2, 3, 4, 5, 5]
    assert "skipped, not changed: 1" in result.stderr
