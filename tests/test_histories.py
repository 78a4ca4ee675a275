"""Histories of one pipeline: nothing twice without a warning, nothing lost, whatever goes wrong."""

from __future__ import annotations

import os
import typing as t
from collections import Counter

import pytest
from histories import (
    CLEAN_RUNS,
    DURATIONS,
    EVENTS,
    FAULTS,
    Change,
    History,
    Row,
    Run,
    Step,
    Stream,
    generate,
)
from history_checks import judge
from history_run import play
from history_story import tell
from history_tap import Tap, moment_of, spell

if t.TYPE_CHECKING:
    from pathlib import Path

    from fork_server import ForkServer
    from history_tap import Input, Message

HISTORIES = int(os.environ.get("SOAK_HISTORIES", "40"))


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_a_pipeline_keeps_its_promises_over_several_runs(
    seed: int, fork_server: ForkServer, tmp_path: Path
) -> None:
    found = play(generate(seed), tmp_path, fork_server)
    if faults := judge(found):
        pytest.fail(tell(found, faults), pytrace=False)


# The generator

SEEDS = 200


@pytest.fixture(scope="module")
def plans() -> list[History]:
    return [generate(seed) for seed in range(SEEDS)]


def test_a_seed_always_gives_the_same_history(plans: list[History]) -> None:
    assert [generate(seed) for seed in range(SEEDS)] == plans
    assert len({repr(plan) for plan in plans}) == SEEDS


KINDS = [
    *(f"streams: {number}" for number in (1, 2, 3)),
    *(f"stream: bookmark, {rule}" for rule in ("new_version", "always", "changed", "never")),
    *(f"stream: {by}, {r}" for by in ("table", "log") for r in ("always", "changed", "never")),
    "no key: bookmark, new_version",
    "no key: bookmark, always",
    "no key: table, always",
    "no key: log, always",
    "bookmark by schema",
    "bookmark by setting",
    "bookmark dropped by the stream map",
    "change: insert",
    "change: insert at once",
    "change: insert late",
    "change: insert refused",
    "change: insert without e-mail",
    "change: change",
    "change: change, moved",
    "change: change of a dropped column",
    "change: change of a dropped column, moved",
    "change: change of e-mail, moved",
    "change: change to refused, moved",
    "change: touch",
    "tap: one by one",
    "tap: mixed",
    "tap: STATE before",
    "tap: STATE among",
    "tap: STATE after",
    "tap: no STATE after",
    "tap: spelling Z",
    "tap: spelling +00:00",
    "tap: spelling both",
    "tap: dies",
    "tap: STATE lost",
    "tap: record repeated",
    "tap: falls silent",
    *(f"saved: {what}" for what in ("last", "older", "none")),
    *(f"ending: {how}" for how in ("its own", "SIGTERM", "SIGKILL")),
    *(f"signal after: {event}" for event in EVENTS),
    *(f"on_ambiguous_submit: {how}" for how in ("resend", "fail", "skip")),
    *(f"max_in_flight: {number}" for number in (1, 6)),
    *{f"task seconds: {seconds:g}" for choice in DURATIONS for seconds in choice},
    *(f"fault: {name}" for name in FAULTS),
]


def test_everything_that_can_happen_happens_in_some_history(plans: list[History]) -> None:
    counts = sum((plan.kinds() for plan in plans), Counter[str]())
    assert {kind for kind in KINDS if counts[kind] < 3} == set()


def test_the_last_runs_of_a_history_are_clean(plans: list[History]) -> None:
    for plan in plans:
        for step in plan.steps[-CLEAN_RUNS:]:
            run = step.run
            assert not run.faults
            assert run.ending.signal is None
            assert run.ending.hold is None
            assert run.dies is None
            assert (run.save, run.state_after, run.on_ambiguous) == ("last", True, "resend")


def inputs(plan: History, *, save: bool) -> list[Input]:
    """Return what the tap sends over the runs, if the last STATE of each is saved, or none."""
    tap = Tap(plan)
    state: Message | None = None
    sent = []
    for step in plan.steps:
        tap.apply(step.changes)
        state = None if step.run.refresh else state
        sent.append(tap.read(step.run, state))
        if save and sent[-1].states:
            state = sent[-1].messages[sent[-1].states[-1]]["value"]
    return sent


@pytest.mark.parametrize("save", [True, False])
def test_the_tap_reads_every_row_that_its_bookmark_has_not_passed(
    plans: list[History], *, save: bool
) -> None:
    silent = {"insert late", "change", "change of a dropped column"}
    for plan in plans:
        last = {(c.stream, c.row.id): c for step in plan.steps for c in step.changes}
        read = {each.row.change for sent in inputs(plan, save=save) for each in sent.reads}
        for change in last.values():
            passed = save and change.kind in silent and change.row.moment is not None
            assert passed or change.row.change in read, f"history {plan.seed}: {change}"


def test_a_state_never_covers_a_row_that_was_not_sent(plans: list[History]) -> None:
    for plan in plans:
        for sent in inputs(plan, save=True):
            for position in sent.states:
                bookmarks = sent.messages[position]["value"]["bookmarks"]
                for read in sent.reads:
                    bookmark = bookmarks.get(read.stream, {})
                    value = bookmark.get("replication_key_value")
                    if read.position > position and value and read.row.moment is not None:
                        assert read.row.moment >= moment_of(value)


def test_the_input_is_what_a_tap_sends() -> None:
    streams = (Stream("customers", 1), Stream("orders", 2, "log"))
    tap = Tap(History(0, streams, ()))
    tap.apply(
        [
            Change("insert", "customers", Row(1, "a", "Bonn", "x", 3, 1)),
            Change("insert", "customers", Row(2, "b", "Cork", "x", 2, 2)),
            Change("insert", "orders", Row(1, "a", "Bonn", "x", None, 3)),
            Change("change", "orders", Row(1, "a", "Cork", "x", None, 4)),
        ]
    )
    sent = tap.read(Run(1, "seed", state_every=2), None)
    assert [message["type"] for message in sent.messages] == (
        ["SCHEMA"] * 2 + ["RECORD"] * 2 + ["STATE"] + ["RECORD"] * 2 + ["STATE"] * 2
    )
    assert [read.row.change for read in sent.reads] == [2, 1, 3, 4]
    assert sent.tail == []
    value = sent.messages[-1]["value"]
    assert value["bookmarks"]["customers"]["replication_key_value"] == spell(3, "Z")
    again = tap.read(Run(2, "seed"), value)
    assert [read.row.change for read in again.reads] == [1]
    dead = tap.read(Run(3, "seed", state_every=2, dies=0.75), None)
    assert [read.row.change for read in dead.tail] == [3]


@pytest.mark.parametrize("moment", [0, 1, 100, 86_399, 10**6 + 1])
@pytest.mark.parametrize("spelling", ["Z", "+00:00"])
def test_a_moment_is_read_as_it_was_written(moment: int, spelling: str) -> None:
    assert moment_of(spell(moment, spelling)) == moment
    assert spell(moment, spelling).endswith(spelling)


def test_a_story_has_everything_in_it(fork_server: ForkServer, tmp_path: Path) -> None:
    change = Change("insert", "customers", Row(1, "qqx1@secret.example", "qqx-bonn", "qqx", 1, 1))
    run = Run(1, "seed", faults=("submit:http,status=503,retry_after=0",))
    plan = History(0, (Stream("customers", 1),), (Step((change,), run),))
    story = tell(play(plan, tmp_path, fork_server), ["order: wrong"])
    for part in (
        "history 0: 1 faults",
        "order: wrong",
        "changed: insert customers 1 at 1: qqx1@secret.example, qqx-bonn, qqx",
        "server: submit:http,status=503,retry_after=0",
        "struck: http",
        "starts from no STATE",
        "accepted: task 1",
        "customers 1 ('qqx1@secret.example', 'qqx-bonn', 1) arrived",
        "runs to its end; exit status 0",
        "STATE printed: [2]; saved: 2 (last)",
        "receipts: customers 1",
        "log: INFO",
    ):
        assert part in story
