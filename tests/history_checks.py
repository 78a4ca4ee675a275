"""What must be true of every history, whatever went wrong in it.

Each check takes what was found and yields a line for each fault. `CHECKS` switches them.
"""

from __future__ import annotations

import bisect
import re
import typing as t
from collections import Counter, defaultdict
from dataclasses import dataclass

from histories import MARK
from history_tap import DAY

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from histories import Stream
    from history_run import Copy, Found, RunSeen
    from history_tap import Form, Read, Version

TWICE = "may enter the scenario twice"
SETTINGS = ("on_ambiguous_submit", "journal_path", "resend", "baseline", "rejects_path")
"""One of these must stand in the message of a run that fails on what the journal holds."""
ENDINGS = {"SIGTERM": {143, -15}, "SIGKILL": {-9}}
"""-15: the signal came before the target could handle it."""

_NAMED = re.compile(r"stream '([^']+)', batch \d+ \((\d+) profiles\)")
_COUNTED = re.compile(r"stream '([^']+)'.*?(\d+) profiles")


# What the runs of an `always` stream mean together


@dataclass(frozen=True)
class Session:
    """The runs of an `always` stream up to one that ended well.

    Attributes:
        runs: Their numbers.
        tail: What the session before left behind the last STATE of its input, and delivered.
    """

    runs: tuple[int, ...]
    tail: tuple[Read, ...] = ()


def sessions(found: Found, stream: Stream) -> list[Session]:
    """Divide the runs into sessions: as many as the target may see.

    Its SCHEMA is enough for a run to have read a stream, which the contract leaves open. A signal
    that came when all was delivered may have come after the target had noted its good end.
    """
    divided: list[Session] = []
    runs: list[int] = []
    tail: tuple[Read, ...] = ()
    for run in found.runs:
        runs.append(run.number)
        if run.good and stream.name in run.input.schemas:
            divided.append(Session(tuple(runs), tail))
            arrived = Counter(c.version for c in found.arrived(stream) if c.run in runs)
            tail = tuple(_as_often_as(arrived, run.input.tail))
            runs = []
        elif run.run.ending.signal and _all_settled(run, reads_of(run, stream), found):
            divided.append(Session(tuple(runs), tail))
            runs, tail = [], ()
    return [*divided, Session(tuple(runs), tail)] if runs else divided


def _as_often_as(arrived: Counter[Version], reads: Iterable[Read]) -> Iterator[Read]:
    """Yield reads, of each version as many as arrived: a read may have been skipped for another."""
    left = arrived.copy()
    for read in reads:
        if left[read.version]:
            left[read.version] -= 1
            yield read


def _all_settled(run: RunSeen, reads: Sequence[Read], found: Found) -> bool:
    """Whether a run had nothing more to do: each record had arrived, or was set aside."""
    settled = {copy.version for copy in found.copies if copy.at < run.ended}
    settled |= {reject.version for reject in run.rejects}
    return all(read.version in settled for read in reads)


def reads_of(run: RunSeen, stream: Stream) -> list[Read]:
    return [read for read in run.input.reads if read.stream == stream.name]


def which_version(stream: Stream, read: Read, row: t.Any) -> t.Any:
    """Tell versions of one form apart: by the bookmark, and without a key by the whole row."""
    return read.row.moment if stream.keyed else row


# No version twice


def excess(found: Found, stream: Stream, copies: Iterable[Copy]) -> list[Copy]:
    """Return the copies that are one too many for the stream's `send_again`.

    Args:
        found: The history.
        stream: A stream.
        copies: Those of its copies that count.
    """
    return list(_EXCESS[stream.rule](found, stream, sorted(copies, key=_place)))


class _Surplus:
    """Tells, copy by copy, which are more than allowed; each that is too many once."""

    def __init__(self) -> None:
        self._sent: Counter[Version] = Counter()
        self._over: Counter[Version] = Counter()

    def is_one(self, version: Version, allowed: int) -> bool:
        self._sent[version] += 1
        if self._sent[version] - allowed <= self._over[version]:
            return False
        self._over[version] += 1
        return True


def _excess_versions(found: Found, stream: Stream, copies: list[Copy]) -> Iterator[Copy]:
    """Each version once, or without a key as often as one input held it."""
    surplus = _Surplus()
    for copy in copies:
        held: Counter[t.Any] = Counter()
        for run in found.runs[: copy.run]:
            reads = [read for read in reads_of(run, stream) if read.version == copy.version]
            held |= Counter(which_version(stream, read, read.source) for read in reads)
        if surplus.is_one(copy.version, held.total() if not stream.keyed else len(held)):
            yield copy


def _excess_of_sessions(found: Found, stream: Stream, copies: list[Copy]) -> Iterator[Copy]:
    """Each record once in the runs up to one that ended well."""
    for session in sessions(found, stream):
        behind = {(read.row.change, read.copy) for read in session.tail}
        surplus = _Surplus()
        for copy in copies:
            if copy.run not in session.runs:
                continue
            records = {
                (read.row.change, read.copy)
                for run in found.runs
                if run.number in session.runs and run.number <= copy.run
                for read in reads_of(run, stream)
                if read.version == copy.version
            }
            if surplus.is_one(copy.version, len(records - behind)):
                yield copy


def _excess_unchanged(_found: Found, _stream: Stream, copies: list[Copy]) -> Iterator[Copy]:
    """Each entry differs from the one before it of its key."""
    last: dict[int, Form] = {}
    for copy in copies:
        if last.get(copy.id) == copy.form:
            yield copy
        last[copy.id] = copy.form


def _excess_keys(_found: Found, _stream: Stream, copies: list[Copy]) -> Iterator[Copy]:
    """Each key once."""
    seen: set[int] = set()
    for copy in copies:
        if copy.id in seen:
            yield copy
        seen.add(copy.id)


_EXCESS: dict[str, Callable[[Found, Stream, list[Copy]], Iterator[Copy]]] = {
    "new_version": _excess_versions,
    "always": _excess_of_sessions,
    "changed": _excess_unchanged,
    "never": _excess_keys,
}


def warned(log: str) -> Counter[str]:
    """Count the profiles that a log warns of, by stream."""
    counts: Counter[str] = Counter()
    for line in log.splitlines():
        if TWICE in line and (names := _NAMED.search(line) or _COUNTED.search(line)):
            counts[names[1]] += int(names[2])
    return counts


def _uncovered(found: Found, stream: Stream, surplus: Sequence[Copy]) -> Iterator[str]:
    """Yield the copies too many that no warning covers.

    Whoever sends again warns in the same run. Only a signal may come between a warning and what it
    warns of: then it holds for the next run as well. So it does where a form may be sent several
    times without a warning: which copy is the one too many, nobody can tell.
    """
    lasting = stream.rule == "always" or not stream.keyed
    covered = 0
    for run in found.runs:
        warnings = warned(run.log)[stream.name]
        covered += warnings
        for copy in surplus:
            if copy.run == run.number:
                covered -= 1
                if covered < 0:
                    yield (
                        f"{_named(copy)} is one too many; of '{stream.name}', run {run.number} "
                        f"warns of {warnings} profiles"
                    )
        lasts = lasting or (run.run.ending.signal and not run.good)
        covered = max(0, covered) if lasts else 0


def _counting(found: Found, stream: Stream) -> list[Copy]:
    """Return the copies that may have been delivered.

    What was in doubt, sent again with a warning and then refused counts as refused: the second
    attempt was answered, which ends the doubt.
    """
    copies = found.of(stream)
    refused = {copy.version: copy.place for copy in copies if copy.outcome == "refused"}
    return [
        copy
        for copy in copies
        if copy.outcome != "refused"
        and (copy.certain or copy.place > refused.get(copy.version, (0, 0)))
    ]


def no_version_arrives_twice_without_a_warning(found: Found) -> Iterator[str]:
    for stream in found.history.streams:
        arrived = [copy for copy in _counting(found, stream) if copy.outcome == "arrived"]
        yield from _uncovered(found, stream, excess(found, stream, arrived))


def no_version_is_accepted_twice_without_a_warning(found: Found) -> Iterator[str]:
    """As above, of what was accepted: a task that failed is a doubt as well."""
    for stream in found.history.streams:
        accepted = _counting(found, stream)
        yield from _uncovered(found, stream, excess(found, stream, accepted))


def only_what_is_in_doubt_is_sent_again(found: Found) -> Iterator[str]:
    """A warning does not excuse the second copy of what is known to be delivered."""
    for stream in found.history.streams:
        copies = _counting(found, stream)
        doubtful = {copy.id for copy in copies if not copy.certain}
        for copy in excess(found, stream, [copy for copy in copies if copy.certain]):
            if stream.rule == "changed" and copy.id in doubtful:
                continue  # what came between may have been delivered
            yield f"{_named(copy)} was sent again, though an earlier copy was known to be delivered"


# Nothing lost


def settlements(found: Found) -> Iterator[tuple[RunSeen, float, int, str]]:
    """Yield what was acknowledged: the run, when, up to which position, by what."""
    for run in found.runs:
        for at, position in run.printed:
            yield run, at, position, f"STATE at {position} of run {run.number}"
        if run.good:
            yield run, float("inf"), len(run.input.messages), f"the good end of run {run.number}"


def every_record_before_a_state_is_settled(found: Found) -> Iterator[str]:
    """No STATE is printed, and no run ends well, ahead of its records."""
    facts = _Facts(found)
    for run, at, position, what in settlements(found):
        for stream in found.history.streams:
            before = [read for read in reads_of(run, stream) if read.position < position]
            for read in facts.unsettled(stream, run, before, at):
                yield f"{what} covers {_read(read)}, which is not settled by then"


def the_last_state_of_the_table_arrives(found: Found) -> Iterator[str]:
    """What was read last of each key arrives, or is set aside."""
    facts = _Facts(found)
    for stream in found.history.streams:
        last = {read.row.id: read for run in found.runs for read in reads_of(run, stream)}
        for key, read in sorted(last.items()):
            if facts.rejections(read) or facts.excused(stream, read, found.runs[-1]):
                continue
            copies = sorted(found.arrived(stream), key=_place)
            forms = [copy.form for copy in copies if copy.id == key]
            if stream.rule == "never":
                arrived = bool(forms)
            elif stream.rule == "changed":
                arrived = forms[-1:] == [read.form]
            else:
                arrived = read.form in forms
            if not arrived:
                came = ", ".join(map(str, forms)) or "nothing"
                yield f"{_read(read)} is the last that was read of it; of it arrived: {came}"


class _Facts:
    """What is known of records, to be looked up."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self._ends: defaultdict[Version, list[float]] = defaultdict(list)
        self._keys: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
        self._copies: defaultdict[Version, list[Copy]] = defaultdict(list)
        for copy in found.copies:
            if copy.outcome == "arrived":
                assert copy.ends_at is not None
                bisect.insort(self._ends[copy.version], copy.ends_at)
                bisect.insort(self._keys[copy.version[:2]], copy.ends_at)
                self._copies[copy.version].append(copy)
        self._rejects: defaultdict[Version, list[int]] = defaultdict(list)
        for run in found.runs:
            for reject in run.rejects:
                self._rejects[reject.version].append(run.number)
        self._came: defaultdict[Version, list[RunSeen]] = defaultdict(list)
        for run in found.runs:
            for version in {read.version for read in run.input.reads}:
                self._came[version].append(run)
        self._needed: defaultdict[Version, Counter[t.Any]] = defaultdict(Counter)

    def rejections(self, read: Read) -> list[int]:
        """Return the numbers of the runs that set its version aside."""
        return self._rejects[read.version]

    def excused(self, stream: Stream, read: Read, until: RunSeen) -> bool:
        """Whether the user had it taken as delivered: it may have been in doubt."""
        doubted = False
        for run in self._found.runs:
            if run.number > until.number:
                break
            if doubted and run.run.on_ambiguous == "skip":
                return True
            if not run.good:
                doubted = doubted or any(
                    each.row.id == read.row.id for each in reads_of(run, stream)
                )
        return False

    def unsettled(
        self, stream: Stream, run: RunSeen, reads: Sequence[Read], at: float
    ) -> Iterator[Read]:
        """Yield the records of a run that were neither delivered nor rejected by a moment.

        To be asked in the order in which the records were acknowledged.
        """
        came: Counter[Version] = Counter()
        held: Counter[t.Any] = Counter()
        for read in reads:
            if self.excused(stream, read, run):
                continue
            came[read.version] += 1
            number = 1
            if stream.rule == "always":
                number = came[read.version]
            elif stream.rule == "new_version":
                which = which_version(stream, read, (read.row.note, read.row.moment))
                held[read.version, which] += 1
                needed = self._needed[read.version]
                needed |= Counter({which: 1 if stream.keyed else held[read.version, which]})
                number = needed.total()
            if self._settled(stream, run, read, at) < number:
                yield read

    def _settled(self, stream: Stream, run: RunSeen, read: Read, at: float) -> int:
        """Count what settles a record: deliveries and rejections up to a moment."""
        if stream.rule == "always":
            return self._settled_anew(run, read.version, at)
        ends = self._keys[read.version[:2]] if stream.rule == "never" else self._ends[read.version]
        rejected = sum(number <= run.number for number in self.rejections(read))
        if rejected and not stream.keyed:
            return len(run.input.reads)  # rejections are remembered, and not counted
        return bisect.bisect_right(ends, at) + rejected

    def _settled_anew(self, run: RunSeen, version: Version, at: float) -> int:
        """Count since the last run with this version that ended well, and what it left behind."""
        good = [each for each in self._came[version] if each.good and each.number < run.number]
        before, last = [0, 0, *(each.number for each in good)][-2:]
        arrived = [copy for copy in self._copies[version] if t.cast("float", copy.ends_at) <= at]
        settled = [copy.run for copy in arrived] + self._rejects[version]
        number = sum(last < each <= run.number for each in settled)
        if good:
            behind = sum(read.version == version for read in good[-1].input.tail)
            number += min(behind, sum(before < each <= last for each in settled))
        return number


def states_come_in_order_and_once(found: Found) -> Iterator[str]:
    for run in found.runs:
        positions = [position for _, position in run.printed]
        if positions != sorted(set(positions)):
            yield f"run {run.number} printed STATE of {positions}"
        for position in set(positions) - set(run.input.states):
            yield f"run {run.number} printed a STATE at {position}, where its input has none"


# Order


def one_customers_entries_keep_their_order(found: Found) -> Iterator[str]:
    """Judge each run; what was sent again, and what is in doubt, may come late."""
    for run in found.runs:
        order: defaultdict[str, list[Version]] = defaultdict(list)
        for read in run.input.reads:
            if read.customer is not None:
                order[read.customer].append(read.version)
        waiting = {customer: iter(versions) for customer, versions in order.items()}
        resent = warned(run.log)
        for copy in sorted(found.copies, key=_place):
            if copy.run != run.number or not copy.certain or resent[copy.stream]:
                continue
            if copy.version not in waiting.get(copy.customer, ()):
                yield f"{_named(copy)} came after a later record of its customer"


def one_customers_tasks_do_not_overlap(found: Found) -> Iterator[str]:
    """A task in doubt may be running still when its customers' next entries are sent."""
    tasks: defaultdict[str, dict[str, Copy]] = defaultdict(dict)
    for copy in found.copies:
        tasks[copy.customer][copy.task] = copy
    for copies in tasks.values():
        ordered = sorted(copies.values(), key=_place)
        for number, one in enumerate(ordered):
            for other in ordered[number + 1 :]:
                if one.certain and one.ends_at is not None and other.at < one.ends_at:
                    yield f"{_named(one)} was not over when {_named(other)} was sent"


# Files, exit status, log


def every_settled_delivery_has_its_receipt(found: Found) -> Iterator[str]:
    """A delivery of which the target never knew the task can have none."""
    facts = _Facts(found)
    receipts = {tuple(receipt) for run in found.runs for receipt in run.receipts}
    tasks, known = _delivering_tasks(found)
    told: set[tuple[Version, t.Any]] = set()
    for run, _, position, what in settlements(found):
        for read in run.input.reads:
            stream = found.history.stream(read.stream)
            which = (read.version, read.row.moment)
            if read.position > position or which in told or which not in known:
                continue
            told.add(which)
            if facts.excused(stream, read, run):
                continue
            key = read.row.id if stream.keyed else None
            if not any((read.stream, key, task) in receipts for task in tasks[which]):
                yield f"{_read(read)} was delivered and acknowledged by {what}: no receipt"


def _delivering_tasks(
    found: Found,
) -> tuple[dict[tuple[Version, t.Any], set[str]], set[tuple[Version, t.Any]]]:
    """Return the tasks that delivered each version, and the versions of which a log names one.

    A run that was killed before it logged a task may know it by its journal all the same.
    """
    logs = "".join(run.log for run in found.runs)
    sent = {run.number: run.input.reads for run in found.runs}
    tasks: defaultdict[tuple[Version, t.Any], set[str]] = defaultdict(set)
    known: set[tuple[Version, t.Any]] = set()
    for copy in found.copies:
        if copy.outcome != "arrived":
            continue
        for read in sent[copy.run]:
            if read.version == copy.version:
                tasks[read.version, read.row.moment].add(copy.task)
                if copy.task in logs:
                    known.add((read.version, read.row.moment))
    return tasks, known


def a_remembered_reject_stays_rejected(found: Found) -> Iterator[str]:
    """Of streams with `new_version`, once a STATE covers it, until its row changes."""
    for stream in found.history.streams:
        if stream.rule != "new_version":
            continue
        remembered: set[Form] = set()
        for run in found.runs:
            reads = reads_of(run, stream)
            fresh = {read.version for read in reads if read.source not in remembered}
            known = {read.version for read in reads} - fresh
            for copy in found.of(stream):
                if copy.run == run.number and copy.version in known:
                    yield f"{_named(copy)} had been rejected before, and its row is the same"
            for reject in run.rejects:
                if reject.stream == stream.name and reject.source in remembered:
                    yield f"run {run.number} set {reject.source} aside once more"
            covered = max((position for _, position in run.printed), default=0)
            rejected = {reject.source for reject in run.rejects if reject.stream == stream.name}
            remembered |= {
                read.source for read in reads if read.position < covered and read.source in rejected
            }


def the_exit_status_says_what_happened(found: Found) -> Iterator[str]:
    failed_by_journal = False
    for number, run in enumerate(found.runs):
        allowed = {0} | ENDINGS.get(run.run.ending.signal or "", set())
        left = any(not each.good or each.struck for each in found.runs[:number])
        by_journal = run.status == 1 and not run.struck
        if run.struck or left:
            allowed.add(1)
        if run.status not in allowed:
            yield f"run {run.number} ended with exit status {run.status}"
        elif by_journal and not any(name in _errors(run) for name in SETTINGS):
            yield f"run {run.number} failed on what the journal holds and names no way past it"
        if by_journal and failed_by_journal and run.run.on_ambiguous == "resend":
            yield f"run {run.number} failed on what the journal holds, as the run before it"
        failed_by_journal = by_journal and run.run.on_ambiguous == "resend"
    if not found.runs[-1].good:
        yield "the last run, in which nothing goes wrong, did not end well"


def _errors(run: RunSeen) -> str:
    return "\n".join(line for line in run.log.splitlines() if "| ERROR" in line)


def no_log_holds_a_value_or_a_traceback(found: Found) -> Iterator[str]:
    for run in found.runs:
        for line in run.log.splitlines():
            for wrong in (MARK, DAY, "Traceback", "internal error"):
                if wrong.casefold() in line.casefold():
                    yield f"run {run.number} logs {wrong!r}: {line[:200]}"


def nothing_arrives_that_was_not_read(found: Found) -> Iterator[str]:
    read = {read.version: run.number for run in found.runs[::-1] for read in run.input.reads}
    for copy in found.copies:
        if read.get(copy.version, copy.run + 1) > copy.run:
            yield f"{_named(copy)} is no record that had been read"


def _place(copy: Copy) -> tuple[float, tuple[int, int]]:
    return copy.at, copy.place


def _named(copy: Copy) -> str:
    return (
        f"{copy.stream} {copy.id} {copy.form} (run {copy.run}, task {copy.place[0]}, entry "
        f"{copy.place[1]})"
    )


def _read(read: Read) -> str:
    return f"{read.stream} {read.row.id} {read.form} at position {read.position}"


CHECKS: dict[Callable[[Found], Iterable[str]], bool] = {
    no_version_arrives_twice_without_a_warning: True,
    no_version_is_accepted_twice_without_a_warning: True,
    only_what_is_in_doubt_is_sent_again: True,
    every_record_before_a_state_is_settled: True,
    the_last_state_of_the_table_arrives: True,
    states_come_in_order_and_once: True,
    one_customers_entries_keep_their_order: True,
    one_customers_tasks_do_not_overlap: True,
    every_settled_delivery_has_its_receipt: True,
    a_remembered_reject_stays_rejected: True,
    the_exit_status_says_what_happened: True,
    no_log_holds_a_value_or_a_traceback: True,
    nothing_arrives_that_was_not_read: True,
}
"""Each check, and whether it is switched on."""


def judge(found: Found) -> list[str]:
    """Return the faults that the checks find, each after the name of its check."""
    return [
        f"{check.__name__}: {fault}"
        for check, is_on in CHECKS.items()
        if is_on
        for fault in check(found)
    ]
