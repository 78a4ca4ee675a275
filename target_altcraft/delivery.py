"""From batch to outcome: the window of tasks, and what each of them comes to."""

from __future__ import annotations

import logging
import queue
import threading
import time
import typing as t
from collections import Counter
from dataclasses import dataclass, field

import backoff

from target_altcraft.client import SUBMIT, Body, Client, Halted
from target_altcraft.errors import (
    ApiError,
    LostInBody,
    OutcomeUnknown,
    Stopped,
    TargetError,
    TaskError,
    TooLarge,
)
from target_altcraft.polling import AGAIN, Abandoned, TaskWatch

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from target_altcraft.batch import Batch
    from target_altcraft.client import TaskStatus
    from target_altcraft.limit import SizeLimit
    from target_altcraft.settings import Settings
    from target_altcraft.wakeup import Wakeup

logger = logging.getLogger(__name__)

MAX_RESENDS = 3
"""How often a batch is sent again after an unknown outcome."""
_TICK_SECONDS = 1.0
_JOIN_SECONDS = 0.5


@dataclass(slots=True)
class Flight:
    """A batch at work: what is known of it while its worker has it."""

    batch: Batch
    task_id: str | None = None
    progress: float | None = None
    resends: int = 0
    losses: int = 0
    delivered: int = 0

    def __str__(self) -> str:
        """Name the batch, its size and its task for a message."""
        task = f", task {self.task_id}" if self.task_id else ""
        return f"{self.batch} ({len(self.batch.entries)} profiles){task}"


@dataclass(frozen=True, slots=True)
class Part:
    """The entries of a batch that one request carries: usually all of them."""

    first: int
    entries: list[bytes] = field(repr=False)


class Delivery:
    """At most `max_in_flight` batches at work in Altcraft, each owned by one thread to its end.

    Two batches that hold records of one customer are never at work together; others overtake each
    other freely. The main thread offers batches and waits; it is the only caller of the public
    methods. After a fatal outcome nothing more is submitted, but the tasks in flight are awaited.

    The lock guards what is in flight, the first failure and the number of profiles offered.

    Args:
        settings: The run's settings.
        limit: Most bytes of a body; narrowed by what the host refuses.
        wakeup: Rung whenever the main thread may have something to do.
        delivered: Called by a worker when a task has imported profiles: the batch, how many, and
            the seconds from submit to completion.
        settled: Called by a worker when every record of a batch is settled.
        tick: Called by the main thread at least once a second while it waits.
    """

    def __init__(
        self,
        settings: Settings,
        limit: SizeLimit,
        wakeup: Wakeup,
        *,
        delivered: Callable[[Batch, int, float], None],
        settled: Callable[[Batch], None],
        tick: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._limit = limit
        self._wakeup = wakeup
        self._delivered = delivered
        self._settled = settled
        self._tick = tick
        self._halt = threading.Event()  # submit nothing more
        self._abandon = threading.Event()  # wait for nothing more
        self._queue: queue.SimpleQueue[Flight | None] = queue.SimpleQueue()
        self._workers: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._flights: dict[int, Flight] = {}
        self._failure: BaseException | None = None
        self._offered = 0

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
        limit = self._settings.max_profiles
        self._offered += len(batch.entries)
        if limit is not None and self._offered > limit:
            raise TargetError(
                f"{batch} would bring this run to {self._offered} profiles, more than max_profiles "
                f"({limit}); it was not sent. If so many are right, raise max_profiles; if not, "
                "look at the tap's bookmark"
            )
        while not self._take_off(batch):
            self._wait()

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
        if len(self._workers) < len(self._flights):
            name = f"altcraft-worker-{len(self._workers) + 1}"
            worker = threading.Thread(target=self._work, name=name, daemon=True)
            self._workers.append(worker)
            worker.start()
        self._queue.put(flight)
        return True

    # For the workers

    def _work(self) -> None:
        client = Client(self._settings, self._halt)
        while (flight := self._queue.get()) is not None:
            try:
                self._deliver(client, flight)
                self._settled(flight.batch)
            except Halted:
                unsent = len(flight.batch.entries) - flight.delivered
                logger.warning("%s: %d profiles not sent, the run is ending", flight.batch, unsent)
            except Abandoned:
                continue  # still listed as in flight
            except BaseException as error:  # noqa: BLE001 - the main thread raises it
                self._fail(error)
            with self._lock:
                del self._flights[flight.batch.number]
            self._wakeup.ring()
        client.close()

    def _fail(self, error: BaseException) -> None:
        self._halt.set()
        with self._lock:
            first = self._failure is None
            if first:
                self._failure = error
        if not first:
            text = error if isinstance(error, TargetError) else type(error).__name__
            logger.error("and also: %s", text)

    def _deliver(self, client: Client, flight: Flight) -> None:
        """Send a batch, in as many parts as the host's limit asks for, one after the other."""
        batch = flight.batch
        first = 0
        while first < len(batch.entries):
            part = Part(first, self._fitting(batch, first))
            started = time.monotonic()
            try:
                self._submit(client, flight, part)
            except TooLarge as error:
                if len(part.entries) == 1:
                    raise self._named(flight, error) from error
                continue  # the limit is lower now
            except ApiError as error:
                raise self._named(flight, error) from error
            status = self._watch(client, flight)
            self._judge(flight, part, status)
            seconds = time.monotonic() - started
            logger.info(
                "%s, task %s: completed after %.1f s, %d profiles",
                batch,
                flight.task_id,
                seconds,
                len(part.entries),
            )
            self._delivered(batch, len(part.entries), seconds)
            first += len(part.entries)
            flight.delivered = first
            flight.task_id = flight.progress = None

    def _fitting(self, batch: Batch, first: int) -> list[bytes]:
        """Return as many entries from `first` on as one request may hold; at least one."""
        if first == 0 and batch.size <= self._limit.bytes:
            return batch.entries
        size = batch.envelope.size
        last = first
        for entry in batch.entries[first:]:
            size += len(entry) + (last > first)
            if last > first and size > self._limit.bytes:
                break
            last += 1
        return batch.entries[first:last]

    def _submit(self, client: Client, flight: Flight, part: Part) -> None:
        """Send a part until it is accepted; sets the flight's task id."""
        body = Body(flight.batch.envelope, part.entries)
        waits = backoff.expo(max_value=30.0)
        next(waits)  # backoff's generators wait for a first `send`
        while True:
            try:
                flight.task_id = client.submit(body, divisible=len(part.entries) > 1)
            except LostInBody as error:
                flight.losses += 1
                if flight.losses > 1:
                    self._too_large(flight, body)
                    raise TooLarge(SUBMIT, error.text) from error
            except TooLarge:
                self._too_large(flight, body)
                raise
            except OutcomeUnknown as error:
                self._may_resend(flight, part, error)
            else:
                self._limit.accepted(len(body))
                logger.info(
                    "%s: %d profiles, %d bytes accepted as task %s",
                    flight.batch,
                    len(part.entries),
                    len(body),
                    flight.task_id,
                )
                return
            self._halt.wait(backoff.full_jitter(next(waits)))

    def _too_large(self, flight: Flight, body: Body) -> None:
        if self._limit.refused(len(body)):
            logger.warning(
                "%s: the host does not take a body of %d bytes; batches are split from here on. "
                "Set batch_size_bytes to the host's limit to save these requests",
                flight.batch,
                len(body),
            )

    def _may_resend(self, flight: Flight, part: Part, error: OutcomeUnknown) -> None:
        """Warn that a part is sent again, or raise."""
        number = len(part.entries)
        unknown = f"it is unknown whether its {number} profiles were accepted"
        if self._settings.on_ambiguous_submit == "fail":
            raise OutcomeUnknown(
                error.endpoint, f"{error.text}; {unknown}", code=error.code
            ) from error
        if flight.resends == MAX_RESENDS or self._halt.is_set():
            raise OutcomeUnknown(
                error.endpoint,
                f"{error.text}; {unknown}, sent again {flight.resends} times",
                code=error.code,
            ) from error
        flight.resends += 1
        logger.warning(
            "%s: %s; %s. They are sent again, and may enter the scenario twice",
            flight.batch,
            error,
            unknown,
        )

    def _watch(self, client: Client, flight: Flight) -> TaskStatus:
        """Wait for a flight's task to complete."""

        def progressed(progress: float | None) -> None:
            flight.progress = progress

        watch = TaskWatch(self._settings, t.cast("str", flight.task_id), str(flight))
        return watch.completed(client, self._abandon, progressed)

    @staticmethod
    def _judge(flight: Flight, part: Part, status: TaskStatus) -> None:
        """Look at what a completed task says of single profiles.

        Raises:
            TaskError: If it did not import all of them.
        """
        items = status.results or []
        faults = Counter(fault for item in items if (fault := _item_fault(item)))
        kinds = ", ".join(f"{fault}: {number}" for fault, number in faults.items())
        if len(items) != len(part.entries):
            numbers = f"{len(items)} results for {len(part.entries)} profiles"
            if faults:
                raise TaskError(
                    f"{flight}: {numbers}, with faults among them ({kinds}), which cannot be "
                    f"attributed. {AGAIN}"
                )
            logger.warning("%s: %s; the batch counts as delivered", flight, numbers)
        elif faults:
            raise TaskError(
                f"{flight}: {sum(faults.values())} profiles were not imported ({kinds}). {AGAIN}"
            )

    @staticmethod
    def _named(flight: Flight, error: ApiError) -> TargetError:
        """Return an error of the API that says which batch it is about and what follows."""
        return TaskError(f"{flight}: {error}. {AGAIN}")


def _item_fault(item: object) -> str | None:
    """Return what is wrong with one profile's result, None if nothing is; its shape is a guess."""
    if not isinstance(item, dict):
        return "no result object"
    error = item.get("error")
    if error not in (None, 0, "", "0"):
        return f"error {error}" if isinstance(error, int) else "error"
    return None if item.get("profile_id") else "no profile_id"
