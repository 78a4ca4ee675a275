"""Each check of a history finds the fault that it is there for."""

from __future__ import annotations

import typing as t

import pytest
from histories import MARK, Ending, History, Row, Run, Stream
from history_checks import CHECKS, judge, sessions, warned
from history_run import Copy, Found, Receipt, Reject, RunSeen
from history_tap import DAY, Input, Read, form_of

ALL = Stream("customers", 1)
ALWAYS = Stream("customers", 1, "table")
CHANGED = Stream("customers", 1, "table", send_again="changed")
NEVER = Stream("customers", 1, "table", send_again="never")
WARNING = (
    "2024-05-06 12:00:00,000 | WARNING  | target_altcraft | stream 'customers', batch 1 "
    "({} profiles): the answer was lost. They are sent again, and may enter the scenario twice"
)


def read(
    position: int,
    key: int = 1,
    city: str = "bonn",
    change: int = 0,
    *,
    stream: Stream = ALL,
    email: str | None = "a@b",
    moment: int = 1,
    note: str = "",
) -> Read:
    row = Row(key, email, city, note, moment if stream.has_bookmark else None, change or position)
    source = (key, email, city, note, moment)
    return Read(position, stream.name, row, form_of(stream, row), 0, source)


def run(number: int, *reads: Read, states: t.Sequence[int] = (), **seen: t.Any) -> RunSeen:
    plan = {name: seen.pop(name) for name in ("ending", "settings") if name in seen}
    end = max([0, *(each.position for each in reads), *states])
    sent = Input([{}] * (end + 1), list(reads), list(states), {"customers"})
    seen.setdefault("printed", [(100.0 * number, position) for position in states])
    return RunSeen(Run(number, "", **plan), sent, **{"status": 0, **seen})


def copy(each: Read, run_number: int, at: float, **more: t.Any) -> Copy:
    place = (int(at), 0)
    values = {"task": f"task-{at:g}", "ends_at": at + 1, **more}
    customer = each.customer or ""
    return Copy(*each.version, customer, run_number, place=place, at=at, **values)


def receipts(*copies: Copy) -> list[Receipt]:
    return [Receipt(each.stream, each.id, each.task) for each in copies]


def reject(each: Read) -> Reject:
    return Reject(*each.version, each.source)


def failing(stream: Stream, runs: list[RunSeen], copies: t.Sequence[Copy] = ()) -> set[str]:
    """Return the checks that a history fails; receipts are as they should be, unless given."""
    for seen in runs:
        mine = [each for each in copies if each.run == seen.number]
        seen.log += "".join(f"\n{each.task}" for each in mine if each.certain)
        if not seen.receipts:
            seen.receipts = receipts(*mine)
    faults = judge(Found(History(0, (stream,), ()), runs, list(copies)))
    return {fault.split(":")[0] for fault in faults}


TWICE = {
    "no_version_arrives_twice_without_a_warning",
    "no_version_is_accepted_twice_without_a_warning",
}
AGAIN = "only_what_is_in_doubt_is_sent_again"
UNSETTLED = "every_record_before_a_state_is_settled"
LOST = "the_last_state_of_the_table_arrives"
ORDER = "one_customers_entries_keep_their_order"
OVERLAP = "one_customers_tasks_do_not_overlap"
RECEIPT = "every_settled_delivery_has_its_receipt"
REJECT = "a_remembered_reject_stays_rejected"
STATUS = "the_exit_status_says_what_happened"
LOG = "no_log_holds_a_value_or_a_traceback"
STATES = "states_come_in_order_and_once"
STRANGER = "nothing_arrives_that_was_not_read"


def test_every_check_is_switched_on_and_has_a_test() -> None:
    named = {check.__name__ for check, is_on in CHECKS.items() if is_on}
    tested = {AGAIN, UNSETTLED, LOST, ORDER, OVERLAP, RECEIPT, REJECT, STATUS, LOG, STATES}
    assert named == {*TWICE, *tested, STRANGER}


def test_a_history_in_which_all_is_well_fails_no_check() -> None:
    first, moved = read(1), read(1, moment=2, change=5)
    runs = [run(1, first, states=[2]), run(2, first, moved, states=[2])]
    assert failing(ALL, runs, [copy(first, 1, 10), copy(moved, 2, 150)]) == set()


# No version twice


def test_a_version_that_arrives_twice_is_found() -> None:
    one = read(1)
    runs = [run(1, one, states=[2]), run(2, one, states=[2])]
    assert failing(ALL, runs, [copy(one, 1, 10), copy(one, 2, 150)]) == {*TWICE, AGAIN}


def test_a_warning_covers_so_many_profiles_of_its_stream_in_its_run_or_after_a_signal() -> None:
    one, other = read(1), read(2, 2, email="c@d")
    copies = [copy(one, 1, 10, certain=False), copy(other, 1, 11, certain=False)]
    copies += [copy(one, 2, 150), copy(other, 2, 151)]

    def runs(first: str, second: str) -> list[RunSeen]:
        left = run(1, one, other, status=-9, log=first, ending=Ending("SIGKILL"))
        return [left, run(2, one, other, states=[3], log=second)]

    assert failing(ALL, runs("", WARNING.format(2)), copies) == set()
    assert failing(ALL, runs(WARNING.format(2), ""), copies) == set()
    assert failing(ALL, runs("", WARNING.format(1)), copies) == TWICE
    assert failing(ALL, runs("", WARNING.format(2).replace("customers", "x")), copies) == TWICE
    late = [*runs("", ""), run(3, states=[1], log=WARNING.format(2))]
    assert failing(ALL, late, copies) == TWICE
    ended = runs(WARNING.format(2), "")
    ended[0].status, ended[0].run, ended[0].struck = 1, Run(1, ""), ["http"]
    assert failing(ALL, ended, copies) == TWICE


def test_a_warning_does_not_excuse_what_is_known_to_be_delivered() -> None:
    one = read(1)
    runs = [run(1, one, states=[2]), run(2, one, states=[2], log=WARNING.format(1))]
    assert failing(ALL, runs, [copy(one, 1, 10), copy(one, 2, 150)]) == {AGAIN}


def test_what_a_failed_task_held_is_sent_again_with_a_warning_only() -> None:
    one = read(1)
    copies = [copy(one, 1, 10, outcome="lost", certain=False), copy(one, 2, 150)]
    for log, faults in ((WARNING.format(1), set()), ("", TWICE - {min(TWICE)})):
        runs = [run(1, one, status=1, struck=["failed"]), run(2, one, states=[2], log=log)]
        assert failing(ALL, runs, copies) == faults


def test_what_was_refused_may_be_sent_again() -> None:
    one = read(1)
    copies = [copy(one, 1, 10, outcome="refused"), copy(one, 2, 150)]
    runs = [run(1, one, status=1, struck=["partial"], rejects=[reject(one)])]
    assert failing(ALL, [*runs, run(2, one, states=[2])], copies) == set()


def test_a_doubt_that_ends_in_a_refusal_counts_as_refused() -> None:
    one = read(1)
    copies = [copy(one, 1, 10, certain=False), copy(one, 1, 20, outcome="refused")]
    first = run(1, one, status=1, struck=["http"], log=WARNING.format(1), rejects=[reject(one)])
    second = run(2, one, states=[2])
    assert failing(ALL, [first, second], [*copies, copy(one, 2, 150)]) == set()
    copies[1] = copy(one, 1, 20, certain=False)
    assert failing(ALL, [first, second], [*copies, copy(one, 2, 150)]) == TWICE


def test_versions_that_look_alike_are_counted_by_their_bookmarks() -> None:
    stream = Stream("customers", 1, keeps_bookmark=False)
    one, moved = read(1, stream=stream), read(1, stream=stream, moment=2)
    runs = [run(1, one, states=[2]), run(2, moved, states=[2]), run(3, moved, states=[2])]
    copies = [copy(one, 1, 10), copy(moved, 2, 150)]
    assert failing(stream, runs, copies) == set()
    assert failing(stream, runs, copies[:1]) == {UNSETTLED}
    assert failing(stream, runs, [*copies, copy(moved, 3, 250)]) == {*TWICE, AGAIN}


def test_without_a_key_a_version_is_sent_as_often_as_an_input_held_it() -> None:
    stream = Stream("customers", 1, keyed=False)
    one, again = read(1, stream=stream), read(2, stream=stream)
    runs = [run(1, one, states=[2]), run(2, one, again, states=[3]), run(3, one, states=[2])]
    copies = [copy(one, 1, 10), copy(again, 2, 150)]
    for seen in runs:
        seen.receipts = [Receipt("customers", None, each.task) for each in copies]
    assert failing(stream, runs, copies) == set()
    assert failing(stream, runs, copies[:1]) == {UNSETTLED}
    assert failing(stream, runs, [*copies, copy(one, 3, 250)]) == {*TWICE, AGAIN}
    noted = read(1, stream=stream, note="new")
    runs.append(run(4, noted, states=[2], receipts=runs[0].receipts))
    assert failing(stream, runs, copies) == {UNSETTLED}
    runs[0].receipts.append(Receipt("customers", None, "task-350"))
    assert failing(stream, runs, [*copies, copy(noted, 4, 350)]) == set()


def test_an_always_stream_is_sent_once_up_to_a_good_end() -> None:
    one = read(1, stream=ALWAYS)
    killed: t.Any = {"status": -9, "ending": Ending("SIGKILL")}
    runs = [run(1, one, **killed), run(2, one, states=[2]), run(3, one, states=[2])]
    once = [copy(one, 1, 10), copy(one, 3, 250)]
    assert failing(ALWAYS, runs, once) == set()
    assert failing(ALWAYS, runs, [*once, copy(one, 2, 150)]) == {*TWICE, AGAIN}
    assert failing(ALWAYS, runs, once[:1]) == {UNSETTLED}


def test_an_always_stream_is_sent_as_often_as_it_came() -> None:
    one, again = read(1, stream=ALWAYS), read(2, stream=ALWAYS)
    runs = [run(1, one, again, states=[3])]
    twice = [copy(one, 1, 10), copy(one, 1, 12)]
    assert failing(ALWAYS, runs, twice) == set()
    assert failing(ALWAYS, runs, twice[:1]) == {UNSETTLED}
    assert failing(ALWAYS, runs, [*twice, copy(one, 1, 14)]) == {*TWICE, AGAIN, ORDER}


def test_what_is_behind_the_last_state_of_an_always_stream_is_skipped_once() -> None:
    one = read(2, stream=ALWAYS)
    runs = [run(number, one, states=[1]) for number in (1, 2, 3)]
    skipped = [copy(one, 1, 10), copy(one, 3, 250)]
    assert failing(ALWAYS, runs, skipped) == set()
    assert failing(ALWAYS, runs, [*skipped, copy(one, 2, 150)]) == {*TWICE, AGAIN}
    without = [run(1, read(1, stream=ALWAYS)), *runs[1:]]
    assert failing(ALWAYS, without, [*skipped, copy(one, 2, 150)]) == {*TWICE, AGAIN}
    assert failing(ALWAYS, without, [*skipped[:1], copy(one, 2, 150)]) == set()


def test_what_ends_a_session_of_an_always_stream() -> None:
    one = read(1, stream=ALWAYS)
    plan = History(0, (ALWAYS,), ())
    failed = run(1, one, status=1)
    empty = Found(plan, [failed, run(2), run(3, one)], [])
    assert [session.runs for session in sessions(empty, ALWAYS)] == [(1, 2), (3,)]
    killed = run(2, one, status=-9, ending=Ending("SIGKILL"), ended=200.0)
    for at, runs in ((150, [(1, 2), (3,)]), (250, [(1, 2, 3)])):
        found = Found(plan, [failed, killed, run(3, one)], [copy(one, 2, at)])
        assert [session.runs for session in sessions(found, ALWAYS)] == runs


def test_what_a_failed_run_delivered_settles_a_record_until_it_came_in_a_good_one() -> None:
    one, other = read(1, stream=ALWAYS), read(2, 2, stream=ALWAYS, email="c@d")
    runs = [run(1, one, other, status=-9, ending=Ending("SIGKILL")), run(2, one, states=[2])]
    runs += [run(3, one, other, states=[3]), run(4, one, other, states=[3])]
    copies = [copy(one, 1, 10), copy(other, 1, 20), copy(one, 3, 210)]
    copies += [copy(one, 4, 310), copy(other, 4, 320)]
    assert failing(ALWAYS, runs, copies) == set()
    assert failing(ALWAYS, runs, copies[:-1]) == {UNSETTLED}


def test_a_changed_stream_is_sent_when_the_entry_is_another() -> None:
    one, other = read(1, stream=CHANGED), read(1, city="cork", stream=CHANGED)
    runs = [run(n, each, states=[2]) for n, each in enumerate((one, other, one, one), start=1)]
    copies = [copy(one, 1, 10), copy(other, 2, 150), copy(one, 3, 250)]
    assert failing(CHANGED, runs, copies) == set()
    assert failing(CHANGED, runs, [*copies, copy(one, 4, 350)]) == {*TWICE, AGAIN}
    assert failing(CHANGED, runs, copies[:2]) == {LOST}


def test_a_never_stream_is_sent_once_per_key() -> None:
    one, other = read(1, stream=NEVER), read(1, city="cork", stream=NEVER)
    runs = [run(1, one, states=[2]), run(2, other, states=[2])]
    copies = [copy(one, 1, 10), copy(other, 2, 150)]
    assert failing(NEVER, runs, copies[:1]) == set()
    assert failing(NEVER, runs, copies) == {*TWICE, AGAIN}
    assert failing(NEVER, runs) == {UNSETTLED, LOST}


def test_warnings_are_counted_by_stream() -> None:
    log = "\n".join([WARNING.format(3), WARNING.format(2), "stream 'customers', batch 3"])
    assert warned(log) == {"customers": 5}


# Nothing lost


def test_a_state_ahead_of_its_records_is_found() -> None:
    one = read(1)
    late = [copy(one, 1, 100)]  # its task ends at 101, the STATE was read at 100
    assert failing(ALL, [run(1, one, states=[2])], late) == {UNSETTLED}
    assert failing(ALL, [run(1, one, states=[2], printed=[(101.0, 2)])], late) == set()
    assert failing(ALL, [run(1, read(3), states=[2])], [copy(one, 1, 150)]) == set()


def test_a_good_end_with_a_record_unsent_is_found() -> None:
    assert failing(ALL, [run(1, read(1))]) == {UNSETTLED, LOST}


def test_a_record_that_is_set_aside_is_settled() -> None:
    one = read(1, email=None)
    assert failing(ALL, [run(1, one, states=[2], rejects=[reject(one)])]) == set()


def test_what_the_user_had_taken_as_delivered_is_not_missed() -> None:
    one = read(1)
    settings = (("on_ambiguous_submit", "skip"),)
    killed = run(1, one, status=-9, ending=Ending("SIGKILL"))
    assert failing(ALL, [killed, run(2, one, states=[2], settings=settings)]) == set()
    assert failing(ALL, [run(1, one, states=[2], settings=settings)]) == {UNSETTLED, LOST}


def test_a_row_that_is_lost_is_found() -> None:
    one = read(1)
    killed = run(1, one, status=-9, ending=Ending("SIGKILL"))
    assert failing(ALL, [killed, run(2, states=[1])]) == {LOST}


@pytest.mark.parametrize("positions", [[2, 1], [1, 1], [3]])
def test_states_out_of_order_twice_or_from_nowhere_are_found(positions: list[int]) -> None:
    printed = [(1.0, position) for position in positions]
    assert failing(ALL, [run(1, states=[1, 2], printed=printed)]) == {STATES}


# Order


def test_entries_of_one_customer_out_of_order_are_found() -> None:
    one, other = read(1, 1), read(2, 2)
    copies = [copy(other, 1, 10), copy(one, 1, 20)]
    assert failing(ALL, [run(1, one, other, states=[3])], copies) == {ORDER}
    resent = run(1, one, other, states=[3], log=WARNING.format(1))
    assert failing(ALL, [resent], copies) == set()
    strangers = [one, read(2, 2, email="c@d")]
    copies = [copy(strangers[1], 1, 10), copy(one, 1, 20)]
    assert failing(ALL, [run(1, *strangers, states=[3])], copies) == set()


def test_tasks_of_one_customer_that_overlap_are_found() -> None:
    one, other = read(1, 1, email="A@B"), read(2, 2)
    copies = [copy(one, 1, 10, ends_at=30), copy(other, 1, 20)]
    assert failing(ALL, [run(1, one, other, states=[3])], copies) == {OVERLAP}
    copies[0] = copy(one, 1, 10, ends_at=30, certain=False)
    assert failing(ALL, [run(1, one, other, states=[3])], copies) == set()


# Files, exit status, log


def test_a_missing_receipt_is_found() -> None:
    one = read(1)
    copies = [copy(one, 1, 10)]
    wrong = [Receipt("customers", 1, "another task")]
    assert failing(ALL, [run(1, one, states=[2], receipts=wrong)], copies) == {RECEIPT}
    twice = receipts(*copies, *copies)
    assert failing(ALL, [run(1, one, states=[2], receipts=twice)], copies) == set()
    later = [run(1, one, states=[2], receipts=wrong), run(2, receipts=receipts(*copies))]
    assert failing(ALL, later, copies) == set()


def test_a_receipt_for_a_task_that_a_killed_run_did_not_log_is_one() -> None:
    one, stream = read(1), ALL
    killed = run(2, one, status=-9, ending=Ending("SIGKILL"), log="sent again")
    copies = [copy(one, 1, 10, certain=False), copy(one, 2, 150, certain=False)]
    runs = [run(1, one, log=copies[0].task, receipts=[]), killed, run(3, one, states=[2])]
    for seen in runs:
        seen.receipts = receipts(copies[1])
    assert RECEIPT not in failing(stream, runs, copies)
    for seen in runs:
        seen.receipts = [Receipt("customers", 1, "another task")]
    assert RECEIPT in failing(stream, runs, copies)


def test_a_rejection_that_is_forgotten_is_found() -> None:
    one = read(1)
    first = run(1, one, states=[2], rejects=[reject(one)])
    again = [copy(one, 1, 10, outcome="refused"), copy(one, 2, 150, outcome="refused")]
    assert failing(ALL, [first, run(2, one, states=[2])], again) == {REJECT}
    assert failing(ALL, [first, run(2, one, states=[2], rejects=[reject(one)])]) == {REJECT}
    changed = read(1, note="new")
    second = run(2, changed, states=[2], rejects=[reject(changed)])
    assert failing(ALL, [first, second], again) == set()
    uncovered = run(1, one, rejects=[reject(one)])
    assert failing(ALL, [uncovered, run(2, one, rejects=[reject(one)])], again) == set()


@pytest.mark.parametrize("status", [1, 2, -9, 143])
def test_an_exit_status_without_a_cause_is_found(status: int) -> None:
    assert failing(ALL, [run(1, status=status), run(2)]) == {STATUS}


@pytest.mark.parametrize(
    ("ending", "status"), [("SIGTERM", 143), ("SIGTERM", 0), ("SIGKILL", -9), ("SIGKILL", 0)]
)
def test_a_signal_is_a_cause(ending: t.Any, status: int) -> None:
    assert failing(ALL, [run(1, status=status, ending=Ending(ending)), run(2)]) == set()
    assert failing(ALL, [run(1, status=143, ending=Ending("SIGKILL")), run(2)]) == {STATUS}


def test_what_the_journal_holds_fails_one_run_and_says_how_to_get_past_it() -> None:
    error = "2024 | ERROR    | x | set on_ambiguous_submit to resend"
    killed = run(1, status=-9, ending=Ending("SIGKILL"))
    assert failing(ALL, [killed, run(2, status=1, log=error), run(3)]) == set()
    assert failing(ALL, [killed, run(2, status=1), run(3)]) == {STATUS}
    stuck = [run(2, status=1, log=error), run(3, status=1, log=error)]
    assert failing(ALL, [killed, *stuck, run(4)]) == {STATUS}
    careful = (("on_ambiguous_submit", "fail"),)
    for seen in stuck:
        seen.run = Run(seen.number, "", settings=careful)
    assert failing(ALL, [killed, *stuck, run(4)]) == set()


def test_a_last_run_that_fails_is_found() -> None:
    assert failing(ALL, [run(1, status=1, struck=["http"])]) == {STATUS}


@pytest.mark.parametrize(
    "line", [f"a{MARK}3@secret.example", MARK.upper(), DAY, "Traceback", "internal error, KeyError"]
)
def test_a_value_or_a_traceback_in_a_log_is_found(line: str) -> None:
    assert failing(ALL, [run(1, log=f"WARNING {line}")]) == {LOG}


def test_an_entry_from_nowhere_is_found() -> None:
    assert failing(ALL, [run(1)], [copy(read(1), 1, 10)]) >= {STRANGER}
    assert failing(ALL, [run(1), run(2, read(1), states=[2])], [copy(read(1), 1, 10)]) >= {STRANGER}
