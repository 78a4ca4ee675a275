"""The window of tasks: at most so many batches at work, and never two for one customer."""

from __future__ import annotations

import logging
import queue
import threading
import time
import typing as t
from collections import Counter
from functools import partial

from target_altcraft.client import Client
from target_altcraft.delivery.first_wait import FirstWait
from target_altcraft.delivery.polling import TaskWatch
from target_altcraft.delivery.retry import retry
from target_altcraft.delivery.sender import Sender
from target_altcraft.delivery.shared import Shared
from target_altcraft.errors import REPEATABLE, Abandoned, Halted, OutputError, Stopped, TargetError

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from target_altcraft.answers import TaskStatus
    from target_altcraft.batch import Batch
    from target_altcraft.delivery.limit import SizeLimit
    from target_altcraft.outcomes import Outcomes
    from target_altcraft.settings import Settings
    from target_altcraft.wakeup import Wakeup

logger = logging.getLogger(__name__)

_TICK_SECONDS = 1.0
_JOIN_SECONDS = 0.5

_T = t.TypeVar("_T")
Errand = t.Callable[[Client], None]
"""Something that a worker does with its client, and that is no batch."""


class Window:
    """At most `max_in_flight` batches at work in Altcraft, each owned by one thread to its end.

    Two batches that hold records of one customer are never at work together; others overtake each
    other freely. The main thread offers batches and waits; it alone calls the public methods, save
    `fail`, `await_task` and `repeat`. After a fatal outcome nothing more is submitted, but the
    tasks in flight are awaited.

    The lock guards what is at work, the doubts that were left, and the first failure.

    Args:
        settings: The run's settings.
        limit: Most bytes of a body; narrowed by what the host refuses.
        wakeup: Rung whenever the main thread may have something to do.
        outcomes: Where it is written down what becomes of requests and records.
        holds: Tells whether a batch must wait for an earlier one of its stream; such a batch is
            parked in a slot of its own, so that other streams go on.
        settled: Called by a worker when every record of a batch is settled.
        tick: Called by the main thread at least once a second while it waits.
    """

    def __init__(  # noqa: PLR0913 - what is beside the road
        self,
        settings: Settings,
        limit: SizeLimit,
        wakeup: Wakeup,
        outcomes: Outcomes,
        *,
        holds: Callable[[Batch], bool],
        settled: Callable[[Batch], None],
        tick: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._limit = limit
        self._wakeup = wakeup
        self._outcomes = outcomes
        self._holds = holds
        self._settled = settled
        self._tick = tick
        self._shared = Shared(FirstWait(settings.poll_interval_seconds))
        self._jobs: queue.SimpleQueue[Callable[[Client], None] | None] = queue.SimpleQueue()
        self._workers: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._senders: dict[int, Sender] = {}  # by the number of their batch
        self._acknowledging: dict[int, Batch] = {}  # delivered; their STATE is being written
        self._doubts: dict[str, Counter[str]] = {}  # by stream, of batches that were left
        self._parked: list[Batch] = []  # belongs to the main thread
        self._errands = 0
        self._failure: BaseException | None = None

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

    def is_sound(self) -> bool:
        """Tell whether batches may still be offered: no signal came, and no worker failed."""
        return self._failure is None and self._wakeup.signum is None

    def fail(self, error: BaseException) -> None:
        """Note a failure: nothing more is submitted; if it is not the first, it is logged."""
        self._shared.halt.set()
        with self._lock:
            first = self._failure is None
            if first:
                self._failure = error
        if not first and error is not self._failure:
            _say_also(error, self._failure)

    def offer(self, batch: Batch) -> None:
        """Hand a batch to a worker; wait until the window and its customers are free.

        A batch that is held is parked, if that leaves a slot free; else it waits here.

        Raises:
            TargetError: If the run must end instead; the batch was not sent then.
        """
        while not self._admit(batch):
            if self._holds(batch) and self._taken() < self._settings.max_in_flight - 1:
                self._parked.append(batch)
                return
            self._wait()

    def send_parked(self) -> None:
        """Hand over the parked batches that need not wait any more, in their order."""
        if self._shared.halt.is_set() or self._wakeup.signum is not None:
            return
        waiting, self._parked = self._parked, []
        for batch in waiting:
            if not self._admit_now(batch):
                self._parked.append(batch)

    def run_errands(self, errands: Sequence[Errand]) -> None:
        """Have the workers do something that is no batch, and wait until it is done.

        Raises:
            TargetError: If one of them failed, or the run must end.
        """
        for errand in errands:
            while self._errands + self._taken() >= self._settings.max_in_flight:
                self.check()
                self._wait()
            self.check()
            self._hire()
            with self._lock:
                self._errands += 1
            self._jobs.put(partial(self._do_errand, errand=errand))
        while self._errands:
            self._wait()
            if self._wakeup.signum is not None:
                self.check()
        self.check()

    def wait(self) -> None:
        """Wait until something has happened, a second at most.

        Raises:
            TargetError: If the run must end.
        """
        self.check()
        self._wait()
        self.check()

    def await_task(self, client: Client, task_id: str, name: str, count: int) -> TaskStatus:
        """Await a task that this run did not start; for errands.

        Args:
            client: The calling worker's.
            task_id: The task.
            name: What to call it in messages.
            count: How many profiles it has.

        Raises:
            TaskError: If it failed, vanished or did not end in time, or the token is refused.
            Abandoned: If the run no longer waits for tasks.
        """
        watch = TaskWatch(self._settings, task_id, name, count, self._shared.unknown_states)
        return watch.completed(client, self._shared.abandon, lambda _progress: None)

    def repeat(self, attempt: Callable[[], _T], name: str) -> _T:
        """Make a call that changes nothing on the server until it succeeds; for errands.

        Args:
            attempt: Makes it once.
            name: Whose call it is, for a warning.

        Raises:
            ApiError: If there is no answer within `retry_max_seconds`, or another failure.
            Halted: If the run is ending.
        """
        return retry(
            attempt,
            REPEATABLE,
            self._settings.retry_max_seconds,
            self._shared.halt,
            partial(self._shared.notices.failed, name),
        )

    def drain(self) -> None:
        """Wait until nothing is at work, or until a signal's patience is over.

        What is parked is sent when it may; it is dropped after a failure of a worker, or a signal.
        """
        deadline = None
        while self._taken():
            if self._wakeup.signum is not None and deadline is None:
                self._shared.halt.set()
                deadline = time.monotonic() + self._settings.shutdown_seconds
            if self._shared.halt.is_set():
                for batch in self._parked:
                    _say_not_sent(batch, len(batch.entries))
                self._parked.clear()
            if deadline is not None and time.monotonic() >= deadline:
                return
            self._wait(deadline)

    def say_unraised(self, raised: BaseException) -> None:
        """Log the first failure of a worker, if the run ends for another reason."""
        if self._failure is not None and self._failure is not raised:
            _say_also(self._failure, raised)

    def close(self) -> tuple[list[str], list[str]]:
        """Stop the workers.

        Returns:
            The requests whose tasks were abandoned, and the batches that were delivered but whose
            STATE could not be written, a line each.
        """
        self._shared.halt.set()
        self._shared.abandon.set()
        with self._lock:
            abandoned = [str(sender) for sender in self._senders.values()]
            delivered = [str(batch) for batch in self._acknowledging.values()]
        for _ in self._workers:
            self._jobs.put(None)
        deadline = time.monotonic() + _JOIN_SECONDS
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        return abandoned, delivered

    def doubts(self) -> dict[str, Counter[str]]:
        """Count the records of which nobody knows whether they were imported; after `close`.

        Returns:
            By stream and by why.
        """
        with self._lock:
            for sender in self._senders.values():
                self._note_doubts(sender)
            return self._doubts

    def has_threads(self) -> bool:
        """Tell whether a worker is still in a request, after `close`."""
        return any(worker.is_alive() for worker in self._workers)

    def in_flight(self) -> list[str]:
        """Return what is at work, for a progress line."""
        with self._lock:
            senders = list(self._senders.values())
        lines = []
        for sender in senders:
            progress = sender.request.progress if sender.request is not None else None
            percent = "" if progress is None else f" {progress:.0f} %"
            lines.append(f"{sender.batch.stream.name} {sender.batch.number}{percent}")
        return lines

    def _at_work(self) -> int:
        return len(self._senders) + len(self._acknowledging)

    def _taken(self) -> int:
        """Return how many slots are taken."""
        return self._at_work() + len(self._parked)

    def _wait(self, deadline: float | None = None) -> None:
        timeout = _TICK_SECONDS
        if deadline is not None:
            timeout = min(timeout, deadline - time.monotonic())
        self._wakeup.wait(timeout)
        self.send_parked()
        self._tick()

    def _admit(self, batch: Batch) -> bool:
        self.check()
        return self._admit_now(batch)

    def _admit_now(self, batch: Batch) -> bool:
        if self._holds(batch):
            return False
        with self._lock:
            if self._taken() >= self._settings.max_in_flight:
                return False
            others = [*self._parked, *(sender.batch for sender in self._senders.values())]
            if any(batch.shares_customer_with(other) for other in others):
                return False
        self._hire()
        sender = Sender(batch, self._settings, self._limit, self._outcomes, self._shared)
        with self._lock:
            self._senders[batch.number] = sender
        self._jobs.put(partial(self._send, sender=sender))
        return True

    def _hire(self) -> None:
        """See to it that one more job finds a free worker.

        Raises:
            TargetError: If the system gives no thread.
        """
        if len(self._workers) > self._errands + self._at_work():
            return
        name = f"altcraft-worker-{len(self._workers) + 1}"
        worker = threading.Thread(target=self._work, name=name, daemon=True)
        try:
            worker.start()
        except RuntimeError as error:
            raise TargetError(
                f"no thread can be started for a batch ({error}). Lower max_in_flight, or raise "
                "the system's limit of threads"
            ) from None
        self._workers.append(worker)

    # For the workers

    def _work(self) -> None:
        client = Client(self._settings, self._shared.halt)
        while (job := self._jobs.get()) is not None:
            job(client)
            del job  # an idle worker would keep its last batch
            self._wakeup.ring()
        client.close()

    def _do_errand(self, client: Client, errand: Errand) -> None:
        try:
            errand(client)
        except (Halted, Abandoned):
            pass  # the main thread knows why
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.fail(error)
        with self._lock:
            self._errands -= 1

    def _send(self, client: Client, sender: Sender) -> None:
        batch = sender.batch
        try:
            sender.send(client)
        except Halted:
            _say_not_sent(batch, len(batch.entries) - sender.settled)
            self._leave(sender)
        except Abandoned:
            return  # still listed as at work
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.fail(error)
            self._leave(sender)
        else:
            with self._lock:
                del self._senders[batch.number]
                self._acknowledging[batch.number] = batch
            try:
                self._settled(batch)
            except BaseException as error:  # noqa: BLE001 - the main thread raises it
                self.fail(error)
            with self._lock:
                del self._acknowledging[batch.number]

    def _leave(self, sender: Sender) -> None:
        with self._lock:
            self._note_doubts(sender)
            del self._senders[sender.batch.number]

    def _note_doubts(self, sender: Sender) -> None:
        self._doubts.setdefault(sender.batch.stream.name, Counter()).update(sender.doubts())


def _say_not_sent(batch: Batch, number: int) -> None:
    logger.warning("%s: %d profiles not sent, the run is ending", batch, number)


def _say_also(error: BaseException, told: BaseException | None) -> None:
    """Log a failure besides the one that is told; of a full disk one message is enough."""
    if all(isinstance(each, OutputError) and each.is_full for each in (error, told)):
        return
    logger.error("and also: %s", error if isinstance(error, TargetError) else type(error).__name__)
