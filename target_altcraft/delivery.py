"""From batch to outcome: the window of tasks, and what each of them comes to."""

from __future__ import annotations

import logging
import queue
import threading
import time
import typing as t
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

import backoff

from target_altcraft.client import SUBMIT, Body, Client, Halted
from target_altcraft.errors import (
    ApiError,
    Fatal,
    LostInBody,
    OutcomeUnknown,
    Refused,
    Rejection,
    Stopped,
    TargetError,
    TaskError,
    TaskFailed,
    TaskVanished,
    TooLarge,
)
from target_altcraft.outcomes import Request, faults_of
from target_altcraft.polling import Abandoned, TaskWatch, rerun

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from target_altcraft.batch import Batch
    from target_altcraft.journal import Leftover
    from target_altcraft.limit import SizeLimit
    from target_altcraft.outcomes import Fault, Outcomes
    from target_altcraft.report import TaskReport
    from target_altcraft.settings import Settings
    from target_altcraft.wakeup import Wakeup

logger = logging.getLogger(__name__)

MAX_RESENDS = 3
"""How often a batch is sent again after an unknown outcome."""
MAX_REFUSED_AT_FIRST = 40
"""Most requests of a bisection while nothing of the batch was accepted."""
MAX_PER_REFUSED = 30
"""Requests more for each refused entry that was found."""
MAX_REFUSED = 100
"""Most refused entries of a batch."""
_TICK_SECONDS = 1.0
_JOIN_SECONDS = 0.5


@dataclass(slots=True)
class Flight:
    """A batch at work: what is known of it while its worker has it.

    `bisection` counts the requests since Altcraft first refused a part of it; `refused` are the
    positions that it refused on their own, until it is certain that no setting is to blame.
    """

    batch: Batch
    task_id: str | None = None
    progress: float | None = None
    resends: int = 0
    losses: int = 0
    done: int = 0
    bisection: int = 0
    accepted: bool = False
    refused: list[tuple[int, Refused]] = field(default_factory=list)

    def __str__(self) -> str:
        """Name the batch, its size and its task for a message."""
        task = f", task {self.task_id}" if self.task_id else ""
        return f"{self.batch} ({len(self.batch.entries)} profiles){task}"


class Delivery:
    """At most `max_in_flight` batches at work in Altcraft, each owned by one thread to its end.

    Two batches that hold records of one customer are never at work together; others overtake each
    other freely. The main thread offers batches and waits; it is the only caller of the public
    methods. After a fatal outcome nothing more is submitted, but the tasks in flight are awaited.

    The lock guards what is in flight, the first failure and the streams that were accepted.

    Args:
        settings: The run's settings.
        limit: Most bytes of a body; narrowed by what the host refuses.
        wakeup: Rung whenever the main thread may have something to do.
        outcomes: Where it is written down what became of each record.
        delivered: Called by a worker when a task has imported profiles: the batch and the seconds
            from submit to completion.
        settled: Called by a worker when every record of a batch is settled.
        tick: Called by the main thread at least once a second while it waits.
    """

    def __init__(  # noqa: PLR0913 - what a run is made of
        self,
        settings: Settings,
        limit: SizeLimit,
        wakeup: Wakeup,
        outcomes: Outcomes,
        *,
        delivered: Callable[[Batch, float], None],
        settled: Callable[[Batch], None],
        tick: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._limit = limit
        self._wakeup = wakeup
        self._outcomes = outcomes
        self._delivered = delivered
        self._settled = settled
        self._tick = tick
        self._rerun = rerun(settings)
        self._halt = threading.Event()  # submit nothing more
        self._abandon = threading.Event()  # wait for nothing more
        self._queue: queue.SimpleQueue[Callable[[Client], None] | None] = queue.SimpleQueue()
        self._workers: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._flights: dict[int, Flight] = {}
        self._errands = 0
        self._failure: BaseException | None = None
        self._offered = 0
        self._accepting: set[str] = set()  # streams of which something was accepted

    # For the main thread

    def check(self) -> None:
        """Raise what should end the run, if anything has happened.

        Raises:
            Stopped: If a signal came.
            BaseException: The first failure of a worker.
        """
        if self._failure is not None:
            raise self._failure
        if self._wakeup.signum is not None:
            raise Stopped(self._wakeup.signum, f"stopped by signal {self._wakeup.signum}")

    def offer(self, batch: Batch) -> None:
        """Hand a batch to a worker; wait until the window and its customers are free.

        Raises:
            TargetError: If the run must end instead; the batch was not sent then.
        """
        self.count(batch)
        while not self._take_off(batch):
            self._wait()

    def count(self, batch: Batch) -> None:
        """Count a batch's profiles.

        Raises:
            TargetError: If they would be more than `max_profiles`.
        """
        limit = self._settings.max_profiles
        self._offered += len(batch.entries)
        if limit is not None and self._offered > limit:
            raise TargetError(
                f"{batch} would bring this run to {self._offered} profiles, more than max_profiles "
                f"({limit}); it was not sent. If so many are right, raise max_profiles; if not, "
                "look at the tap's bookmark"
            )

    def check_workflow(self, workflow_id: int, stream: str) -> None:
        """Make sure that a scenario exists and is active; wait for the answer.

        Raises:
            TargetError: If the token is refused, or the scenario is missing or not active.
        """
        self._run_errands([partial(_check_workflow, workflow_id=workflow_id, stream=stream)])

    def resume(self, leftovers: list[Leftover]) -> None:
        """Await the tasks that an earlier run left, and note what became of them.

        Raises:
            TaskFailed: If one of them failed; it is forgotten once that was said.
            TaskError: If one of them does not end.
        """
        unknown = [left for left in leftovers if left.task_id is not None and not left.known]
        if unknown:
            logger.info("an earlier run left %d tasks unacknowledged; awaiting them", len(unknown))
        self._run_errands([partial(self._recall, leftover=leftover) for leftover in unknown])

    def _run_errands(self, errands: list[Callable[[Client], None]]) -> None:
        """Have the workers do something that is no batch, and wait until it is done."""
        for errand in errands:
            while self._errands + len(self._flights) >= self._settings.max_in_flight:
                self.check()
                self._wait()
            self.check()
            with self._lock:
                self._errands += 1
            self._start(partial(self._do_errand, errand=errand))
        while self._errands:
            self._wait()
            if self._wakeup.signum is not None:
                self.check()
        self.check()

    def drain(self) -> None:
        """Wait until nothing is in flight, or until a signal's patience is over."""
        deadline = None
        while self._flights:
            if self._wakeup.signum is not None and deadline is None:
                self._halt.set()
                deadline = time.monotonic() + self._settings.shutdown_seconds
            if deadline is not None and time.monotonic() >= deadline:
                return
            self._wait(deadline)

    def say_unraised(self, raised: BaseException) -> None:
        """Log the first failure of a worker, if the run ends for another reason."""
        if self._failure is not None and self._failure is not raised:
            _say_also(self._failure)

    def close(self) -> list[str]:
        """Stop the workers.

        Returns:
            The batches that were abandoned, a line each.
        """
        self._halt.set()
        self._abandon.set()
        with self._lock:
            abandoned = [str(flight) for flight in self._flights.values()]
        for _ in self._workers:
            self._queue.put(None)
        deadline = time.monotonic() + _JOIN_SECONDS
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        return abandoned

    def has_threads(self) -> bool:
        """Tell whether a worker is still in a request, after `close`."""
        return any(worker.is_alive() for worker in self._workers)

    def in_flight(self) -> list[str]:
        """Return what is at work, for a progress line."""
        with self._lock:
            return [
                f"{flight.batch.stream.name} {flight.batch.number}"
                + (f" {flight.progress:.0f} %" if flight.progress is not None else "")
                for flight in self._flights.values()
            ]

    def _wait(self, deadline: float | None = None) -> None:
        timeout = _TICK_SECONDS
        if deadline is not None:
            timeout = min(timeout, deadline - time.monotonic())
        self._wakeup.wait(timeout)
        self._tick()

    def _take_off(self, batch: Batch) -> bool:
        self.check()
        with self._lock:
            if len(self._flights) >= self._settings.max_in_flight:
                return False
            if any(batch.shares_customer_with(f.batch) for f in self._flights.values()):
                return False
            flight = self._flights[batch.number] = Flight(batch)
        self._start(partial(self._fly, flight=flight))
        return True

    def _start(self, job: Callable[[Client], None]) -> None:
        """Give a job to a worker; there is a free one, or room for one more."""
        if len(self._workers) < self._errands + len(self._flights):
            name = f"altcraft-worker-{len(self._workers) + 1}"
            worker = threading.Thread(target=self._work, name=name, daemon=True)
            self._workers.append(worker)
            worker.start()
        self._queue.put(job)

    # For the workers

    def _work(self) -> None:
        client = Client(self._settings, self._halt)
        while (job := self._queue.get()) is not None:
            job(client)
            del job  # an idle worker would keep its last batch
            self._wakeup.ring()
        client.close()

    def _do_errand(self, client: Client, errand: Callable[[Client], None]) -> None:
        try:
            errand(client)
        except (Halted, Abandoned):
            pass  # the main thread knows why
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self._fail(error)
        with self._lock:
            self._errands -= 1

    def _fly(self, client: Client, flight: Flight) -> None:
        try:
            self._deliver(client, flight)
            self._settled(flight.batch)
        except Halted:
            unsent = len(flight.batch.entries) - flight.done
            logger.warning("%s: %d profiles not sent, the run is ending", flight.batch, unsent)
        except Abandoned:
            return  # still listed as in flight
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self._fail(error)
        with self._lock:
            del self._flights[flight.batch.number]

    def _fail(self, error: BaseException) -> None:
        self._halt.set()
        with self._lock:
            first = self._failure is None
            if first:
                self._failure = error
        if not first:
            _say_also(error)

    def _deliver(self, client: Client, flight: Flight) -> None:
        """Send a batch, in as many parts as it takes, one after the other and in order."""
        ranges = [(0, len(flight.batch.entries))]  # those still to be sent, the next one last
        while ranges:
            first, last = ranges.pop()
            number = self._fitting(flight.batch, first, last)
            if first + number < last:
                ranges.append((first + number, last))
            request = Request(self._outcomes.journal, flight.batch, first, number)
            entries = flight.batch.entries[first : first + number]
            flight.bisection += bool(flight.bisection)
            size = flight.batch.envelope.size + sum(map(len, entries)) + number - 1
            report = self._outcomes.report.task(
                flight.batch.number, flight.batch.stream.name, number, size
            )
            try:
                self._submit(client, flight, entries, request, report)
            except TooLarge as error:
                if number == 1:
                    self._reject_too_large(flight, first, error)
                else:
                    ranges.append((first, first + number))  # the limit is lower now
                continue
            except Refused as error:
                ranges += self._bisected(flight, first, number, error)
                continue
            except ApiError as error:
                raise self._named(flight, error) from error
            entries.clear()  # accepted: what was sent is not needed again
            flight.batch.entries[first : first + number] = [b""] * number
            self._complete(client, flight, request, report)
            flight.done += number
            flight.task_id = flight.progress = None
        self._set_refused_aside(flight)

    def _fitting(self, batch: Batch, first: int, last: int) -> int:
        """Return how many entries from `first` on one request may hold; at least one."""
        if first == 0 and last == len(batch.entries) and batch.size <= self._limit.bytes:
            return last
        size = batch.envelope.size - 1
        for position in range(first, last):
            size += len(batch.entries[position]) + 1
            if size > self._limit.bytes and position > first:
                return position - first
        return last - first

    def _complete(
        self, client: Client, flight: Flight, request: Request, report: TaskReport
    ) -> None:
        """Await a task and write down what it did."""
        task_id = t.cast("str", flight.task_id)

        def progressed(progress: float | None) -> None:
            flight.progress = progress

        watch = TaskWatch(self._settings, task_id, str(flight))
        try:
            status = watch.completed(client, self._abandon, progressed)
        except TaskError as error:
            report.outcome = "failed"
            if isinstance(error, TaskFailed):
                request.failed()
            elif isinstance(error, TaskVanished):
                report.outcome = "unknown"
            raise
        finally:
            report.polls = watch.polls
        report.finished = self._outcomes.report.now()
        number = len(request.rows)
        items, faults = _attributed(str(flight), status.results or [], number)
        if faults and self._outcomes.rejects is None:
            report.outcome = "failed"
            raise TaskError(
                f"{flight}: {len(faults)} profiles were not imported ({_kinds(faults)}). Set "
                f"rejects_path to have such records set aside. {self._rerun}"
            )
        delivered = self._outcomes.completed(flight.batch, request, task_id, items, faults)
        report.outcome = "partly rejected" if faults else "delivered"
        seconds = report.finished - report.submitted
        logger.info(
            "%s, task %s: completed after %.1f s, %d profiles%s",
            flight.batch,
            task_id,
            seconds,
            delivered,
            f", {len(faults)} rejected ({_kinds(faults)})" if faults else "",
        )
        self._delivered(flight.batch, seconds)

    def _recall(self, client: Client, leftover: Leftover) -> None:
        """Await a task of an earlier run; note its results in `leftover`."""
        task_id = t.cast("str", leftover.task_id)
        name = f"{leftover.name}, task {task_id}, of an earlier run"
        watch = TaskWatch(self._settings, task_id, name)
        try:
            status = watch.completed(client, self._abandon, lambda _: None)
        except TaskFailed:
            if self._outcomes.journal is not None:
                self._outcomes.journal.failed(leftover.id)
            raise
        except TaskVanished:
            return  # settled as an unknown outcome when one of its records comes
        except TaskError as error:
            raise TaskError(f"{error}. To get past it, set journal_path to a new file") from error
        items, faults = _attributed(name, status.results or [], len(leftover.digests))
        leftover.known = True
        leftover.results = items
        leftover.faults = {fault.position for fault in faults}

    # What is too large or refused

    def _reject_too_large(self, flight: Flight, position: int, error: TooLarge) -> None:
        if self._outcomes.rejects is None:
            raise TaskError(
                f"{flight}: {error}: a single profile is too large for the host. Set rejects_path "
                f"to have such records set aside. {self._rerun}"
            ) from error
        rejection = Rejection("too_large", "the host does not take a request of its size")
        self._outcomes.reject(flight.batch.stream, flight.batch.rows[position], rejection)
        flight.done += 1

    def _bisected(
        self, flight: Flight, first: int, number: int, error: Refused
    ) -> list[tuple[int, int]]:
        """Return the halves of a refused part, or note its only entry as refused.

        Raises:
            TaskError: If refused records are not set aside, or the bounds are reached.
        """
        if self._outcomes.rejects is None:
            raise self._named(flight, error) from error
        flight.bisection = flight.bisection or 1
        if number == 1:
            flight.refused.append((first, error))
        found = len(flight.refused)
        bound = MAX_REFUSED_AT_FIRST + (MAX_PER_REFUSED * found if flight.accepted else 0)
        if flight.bisection >= bound or found > MAX_REFUSED:
            raise self._settings_to_blame(flight, error)
        half = first + number // 2
        return [(half, first + number), (first, half)] if number > 1 else []

    def _set_refused_aside(self, flight: Flight) -> None:
        """Set the refused entries of a batch aside, if others of their stream were accepted.

        Raises:
            TaskError: If none was: then a setting is as likely to be wrong as they are.
        """
        stream = flight.batch.stream
        with self._lock:
            accepted = stream.name in self._accepting
        if flight.refused and not accepted:
            raise self._settings_to_blame(flight, flight.refused[-1][1])
        for position, error in flight.refused:
            rejection = Rejection("refused", f"Altcraft refused it: {error.text}")
            self._outcomes.reject(stream, flight.batch.rows[position], rejection)

    def _settings_to_blame(self, flight: Flight, error: Refused) -> TaskError:
        return TaskError(
            f"{flight}: {error}. Either these records are bad, or a setting is wrong (workflow_id, "
            "matching, field_name); too many were refused to set them aside as rejects. Mend the "
            f"setting, or drop the records by a stream map. {self._rerun}"
        )

    # From submit to accepted

    def _submit(
        self,
        client: Client,
        flight: Flight,
        entries: list[bytes],
        request: Request,
        report: TaskReport,
    ) -> None:
        """Send a part until it is accepted; sets the flight's task id."""
        body = Body(flight.batch.envelope, entries, request)
        waits = backoff.expo(max_value=30.0)
        next(waits)  # backoff's generators wait for a first `send`
        unknown: OutcomeUnknown | None = None
        while True:
            try:
                report.outcome = "not accepted"
                task_id = client.submit(body, divisible=len(entries) > 1)
            except Halted:
                if unknown is None:
                    raise
                report.outcome = "unknown"
                raise self._still_unknown(unknown, len(entries), "the run is ending") from unknown
            except LostInBody as error:
                flight.losses += 1
                if flight.losses > 1:
                    self._too_large(flight, body)
                    raise TooLarge(SUBMIT, error.text) from error
            except TooLarge:
                self._too_large(flight, body)
                raise
            except OutcomeUnknown as error:
                report.outcome = "unknown"
                self._may_resend(flight, len(entries), error)
                unknown = error
            else:
                request.accepted(task_id)
                break
            finally:
                report.retries = body.attempts - 1
                report.finished = self._outcomes.report.now()
            self._halt.wait(backoff.full_jitter(next(waits)))
        report.accepted, report.finished = report.finished, None
        report.task_id, report.outcome = task_id, "in flight"
        flight.task_id = task_id
        flight.accepted = True
        self._limit.accepted(len(body))
        with self._lock:
            self._accepting.add(flight.batch.stream.name)
        logger.info(
            "%s: %d profiles, %d bytes accepted as task %s",
            flight.batch,
            len(entries),
            len(body),
            task_id,
        )

    def _too_large(self, flight: Flight, body: Body) -> None:
        if self._limit.refused(len(body)):
            logger.warning(
                "%s: the host does not take a body of %d bytes; batches are split from here on. "
                "Set batch_size_bytes to the host's limit to save these requests",
                flight.batch,
                len(body),
            )

    def _may_resend(self, flight: Flight, number: int, error: OutcomeUnknown) -> None:
        """Warn that a part is sent again, or raise."""
        if self._settings.on_ambiguous_submit == "fail":
            raise self._still_unknown(error, number, "on_ambiguous_submit is 'fail'") from error
        if flight.resends == MAX_RESENDS:
            why = f"sent again {flight.resends} times"
            raise self._still_unknown(error, number, why) from error
        if self._halt.is_set():
            raise self._still_unknown(error, number, "the run is ending") from error
        flight.resends += 1
        self._outcomes.summary.resend(flight.batch.stream.name, number)
        logger.warning(
            "%s: %s; %s. They are sent again, and may enter the scenario twice",
            flight.batch,
            error,
            _doubt(number),
        )

    @staticmethod
    def _still_unknown(error: OutcomeUnknown, number: int, why: str) -> OutcomeUnknown:
        """Return the error of a part that is not sent again, though nobody knows its outcome."""
        text = (
            f"{error.text}; {_doubt(number)} ({why}). Sent again, they may enter the scenario twice"
        )
        return OutcomeUnknown(error.endpoint, text, code=error.code)

    def _named(self, flight: Flight, error: ApiError) -> TargetError:
        """Return an error of the API that says which batch it is about and what follows."""
        return TaskError(f"{flight}: {error}. {self._rerun}")


def _attributed(
    name: str, items: list[t.Any], number: int
) -> tuple[list[t.Any] | None, list[Fault]]:
    """Return a task's results and the faults among them, where they can be attributed.

    Returns:
        None for the results if there are more or fewer than profiles.

    Raises:
        TaskError: If there are faults among results that cannot be attributed.
    """
    faults = faults_of(items)
    if len(items) == number:
        return items, faults
    numbers = f"{len(items)} results for {number} profiles"
    if faults:
        raise TaskError(
            f"{name}: {numbers}, with faults among them ({_kinds(faults)}), which cannot be "
            "attributed"
        )
    logger.warning("%s: %s; the batch counts as delivered, without receipts", name, numbers)
    return None, []


def _doubt(number: int) -> str:
    return f"it is unknown whether its {number} profiles were accepted"


def _say_also(error: BaseException) -> None:
    """Log a failure that is not the one which ends the run."""
    logger.error("and also: %s", error if isinstance(error, TargetError) else type(error).__name__)


def _kinds(faults: list[Fault]) -> str:
    counts = Counter(fault.kind for fault in faults)
    return ", ".join(f"{kind}: {number}" for kind, number in counts.items())


def _check_workflow(client: Client, workflow_id: int, stream: str) -> None:
    where = f"stream '{stream}'"
    try:
        workflow = client.workflow(workflow_id)
    except Fatal as error:
        if error.code in {403, 404}:
            logger.warning(
                "%s: scenario %d cannot be checked (%s); set check_workflow to false to skip this",
                where,
                workflow_id,
                error,
            )
            return
        raise TaskError(f"{where}: {error}. Nothing of this stream was sent") from error
    except Refused as error:
        raise TaskError(f"{where}: {error}. Nothing of this stream was sent") from error
    if workflow is None:
        raise TaskError(
            f"{where}: there is no scenario with workflow_id {workflow_id}. Nothing of this stream "
            "was sent"
        )
    if not workflow.get("is_active", True):
        raise TaskError(
            f"{where}: the scenario with workflow_id {workflow_id} is not active. Nothing of "
            "this stream was sent; activate it in Altcraft, or set check_workflow to false"
        )
