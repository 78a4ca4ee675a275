"""One batch, from its first request to its last task's end; owned by one worker."""

from __future__ import annotations

import logging
import time
import typing as t
from collections import Counter
from functools import partial

import backoff

from target_altcraft.answers import SUBMIT
from target_altcraft.client import Body
from target_altcraft.delivery.polling import TaskWatch
from target_altcraft.delivery.request import UNANSWERED, Event, State
from target_altcraft.delivery.retry import retry
from target_altcraft.delivery.split import Bisection, Part, fitting
from target_altcraft.errors import (
    AcceptedWithoutId,
    ApiError,
    Fatal,
    Halted,
    LostInBody,
    NotAccepted,
    OutcomeUnknown,
    Refused,
    Rejection,
    TaskError,
    TaskFailed,
    TaskVanished,
    TooLarge,
)
from target_altcraft.messages import (
    SENT_AGAIN,
    TWICE,
    rerun,
    rerun_in_doubt,
    rerun_unfinished,
    unknown,
)
from target_altcraft.rejects import IN_DOUBT
from target_altcraft.results import attributed, kinds_of, not_imported

if t.TYPE_CHECKING:
    from target_altcraft.batch import Batch
    from target_altcraft.client import Client
    from target_altcraft.delivery.limit import SizeLimit
    from target_altcraft.delivery.request import Request
    from target_altcraft.delivery.shared import Shared
    from target_altcraft.outcomes import Outcomes
    from target_altcraft.settings import Settings

logger = logging.getLogger(__name__)

MAX_RESENDS = 3
"""How often a record is sent again after an unknown outcome."""
_LONGEST_WAIT_SECONDS = 30.0


class Sender:
    """Sends one batch, in as many requests as it takes, one after the other and in order.

    Args:
        batch: The batch.
        settings: The run's settings.
        limit: Most bytes of a body; narrowed by what the host refuses.
        outcomes: Where it is written down what becomes of requests and records.
        shared: What it shares with the run's other senders.

    `request` is the one at work, None before the first. `settled` counts the records whose outcome
    is known.
    """

    def __init__(
        self,
        batch: Batch,
        settings: Settings,
        limit: SizeLimit,
        outcomes: Outcomes,
        shared: Shared,
    ) -> None:
        self.batch = batch
        self.request: Request | None = None
        self.settled = 0
        self._settings = settings
        self._limit = limit
        self._outcomes = outcomes
        self._shared = shared
        self._parts = [Part(0, len(batch.entries))]  # still to be sent, the next one last
        self._losses = 0
        self._bisection = Bisection()
        self._refused: list[tuple[Request, Refused]] = []
        self._suspects: list[Request] = []  # lost without an answer; their halves are under way
        self._waits = backoff.expo(max_value=_LONGEST_WAIT_SECONDS)
        next(self._waits)  # backoff's generators wait for a first `send`

    def __str__(self) -> str:
        """Name the request at work, or the batch, for a message."""
        return str(self.request or f"{self.batch} ({len(self.batch.entries)} profiles)")

    def doubts(self) -> Counter[str]:
        """Count the records of which nobody knows whether they were imported, by why."""
        parts = [part for part in self._parts if part.doubted is not None]
        found = Counter({UNANSWERED: sum(part.last - part.first for part in parts)})
        requests = {request.number: request for request, _ in self._refused}
        if self.request is not None:
            requests[self.request.number] = self.request
        for request in requests.values():
            found += request.doubts()
        return +found

    def send(self, client: Client) -> None:
        """Send the batch and await its tasks.

        Raises:
            TargetError: If the run must end; what is known of the batch is written down.
            Halted: If the run ended before all of it was sent, and nothing of it is in doubt.
            Abandoned: If the run no longer waits for its task.
        """
        while self._parts:
            whole = self._parts[-1]
            part = whole._replace(last=whole.first + fitting(self.batch, whole, self._limit.bytes))
            self.request = self._outcomes.request(self.batch, part)
            self._parts.pop()  # not before its doubt, if there is any, is the request's
            if part.last < whole.last:
                self._parts.append(whole._replace(first=part.last))
            self._bisection.counts()
            self._parts += reversed(self._deliver(client, self.request))
        self._set_refused_aside()

    def _deliver(self, client: Client, request: Request) -> tuple[Part, ...]:
        """Send a request and await its task.

        Returns:
            The parts in which its entries are to be sent instead.
        """
        try:
            task_id = self._submit(client, request)
        except TooLarge as error:
            return self._after_too_large(request, error)
        except OutcomeUnknown:  # it may be sent again, in halves
            self._pause()
            self._suspects.append(request)
            return self._split(request)
        except Refused as error:
            return self._after_refusal(request, error)
        except ApiError as error:
            raise self._failed(request, error) from error
        self._note_accepted(request, task_id)
        self._complete(client, request)
        self.settled += request.count
        return ()

    # From submit to accepted

    def _submit(self, client: Client, request: Request) -> str:
        """Send a request until it is accepted, or until it has to be cut.

        Returns:
            The task's id.

        Raises:
            OutcomeUnknown: If its halves may be sent again.
            TooLarge: If the host does not take a body of its size.
            Refused: If Altcraft refuses it.
            ApiError: If the run must end.
            Halted: If the run ended before it was accepted.
        """
        envelope = self.batch.envelope
        body = Body(
            envelope.start,
            envelope.end,
            request.entries(),
            lambda: request.happened(Event.BODY_BEGINS),
        )
        is_divisible = request.count > 1
        kinds = (NotAccepted,) if is_divisible else (NotAccepted, LostInBody)
        while True:
            try:
                return retry(
                    lambda: self._attempt(client, request, body),
                    kinds,
                    self._settings.retry_max_seconds,
                    self._shared.halt,
                    partial(self._shared.notices.failed, str(request)),
                )
            except Halted:
                if self.doubts()[UNANSWERED]:
                    raise self._still_unknown(request, None, "the run is ending") from None
                raise
            except LostInBody as error:
                self._losses += 1
                if self._losses > 1:
                    self._note_too_large(request)
                    raise TooLarge(SUBMIT, error.text) from error
            except OutcomeUnknown as error:
                self._may_send_again(request, error)
                if is_divisible:
                    raise
            self._pause()

    @staticmethod
    def _attempt(client: Client, request: Request, body: Body) -> str:
        """Send a body once; tell the request what came of it."""
        try:
            return client.submit(body)
        except ApiError as error:
            event = next(event for kind, event in _EVENTS if isinstance(error, kind))
            request.happened(event)
            raise

    def _pause(self) -> None:
        self._shared.halt.wait(backoff.full_jitter(next(self._waits)))

    def _note_accepted(self, request: Request, task_id: str) -> None:
        size = request.size
        request.accepted(task_id)
        self._bisection.accepted()
        self._limit.accepted(size)
        first, last = request.part.first, request.part.last
        self.batch.entries[first:last] = [b""] * request.count  # what was sent is not needed again
        logger.info("%s: %d bytes accepted as task %s", self._plain(request), size, task_id)
        while self._suspects and self._suspects[-1].part.last <= last:
            suspect = self._suspects.pop()
            if self._limit.cap(suspect.size):
                logger.warning(
                    "%s: the outcome of a body of %d bytes was unknown, and its halves were "
                    "accepted: the host may not take one of that size. Bodies stay below it from "
                    "here on; set batch_size_bytes to the host's limit",
                    self.batch,
                    suspect.size,
                )

    def _plain(self, request: Request) -> str:
        return f"{self.batch}: {request.count} profiles"

    # Unknown outcomes

    def _may_send_again(self, request: Request, error: OutcomeUnknown) -> None:
        """Warn that entries are sent again.

        Raises:
            OutcomeUnknown: If they must not be.
        """
        if self._settings.on_ambiguous_submit != "resend":
            why = f"on_ambiguous_submit is '{self._settings.on_ambiguous_submit}'"
            raise self._still_unknown(request, error, why) from error
        if request.resends == MAX_RESENDS:
            why = f"sent again {request.resends} times"
            remedy = "If the host takes smaller requests only, lower batch_size_bytes. "
            raise self._still_unknown(request, error, why, remedy) from error
        if self._shared.halt.is_set():
            raise self._still_unknown(request, error, "the run is ending") from error
        request.sent_again()
        self._outcomes.summary.resend(self.batch.stream.name, request.count)
        logger.warning("%s: %s; %s. %s", request, error, unknown(request.count), SENT_AGAIN)

    def _still_unknown(
        self,
        request: Request,
        error: ApiError | None,
        why: str,
        remedy: str = "",
    ) -> TaskError:
        """Return the error of entries that are not sent again, whose outcome nobody knows."""
        what = f"{error}; " if error is not None else ""
        doubtful = unknown(self.doubts()[UNANSWERED])
        return TaskError(
            f"{request}: {what}{doubtful} ({why}). {remedy}{rerun_in_doubt(self._settings)}"
        )

    def _failed(self, request: Request, error: ApiError) -> TaskError:
        """Return the error of a request that ends the run, and what follows."""
        if isinstance(error, AcceptedWithoutId):
            return TaskError(
                f"{request}: {error}; it was accepted, but nobody can see whether its task "
                f"completes. {self._after_untraceable()}"
            )
        remedy = ""
        if isinstance(error, Refused):  # with a rejects file it would have been set aside
            remedy = "Set rejects_path to have the records that are refused found and set aside. "
        if self.doubts()[UNANSWERED]:
            why = "an earlier attempt may have been accepted"
            return self._still_unknown(request, error, why, remedy)
        return TaskError(f"{request}: {error}. {remedy}{rerun(self._settings)}")

    def _after_untraceable(self) -> str:
        if self._settings.journal_path is not None:
            return "It is not sent again: by the journal, a rerun takes it as delivered"
        return f"STATE stays before this batch: a rerun sends it again, and its profiles {TWICE}"

    # What is too large or refused

    def _split(self, request: Request) -> tuple[Part, ...]:
        parts = request.parts()
        request.happened(Event.SPLIT)
        return parts

    def _note_too_large(self, request: Request) -> None:
        if self._limit.refused(request.size):
            logger.warning(
                "%s: the host does not take a body of %d bytes; batches are split from here on. "
                "Set batch_size_bytes to the host's limit to save these requests",
                request,
                request.size,
            )

    def _after_too_large(self, request: Request, error: TooLarge) -> tuple[Part, ...]:
        if request.state in {State.TOO_LARGE, State.TOO_LARGE_IN_DOUBT}:
            self._note_too_large(request)
        if request.count > 1:
            return self._split(request)
        if self._outcomes.rejects is None and request.in_doubt:
            raise self._failed(request, error) from error
        if self._outcomes.rejects is None:
            raise TaskError(
                f"{request}: {error}: a single profile is too large for the host. Set "
                f"rejects_path to have such records set aside. {rerun(self._settings)}"
            ) from error
        self._reject(request, "too_large", "the host does not take a request of its size")
        return ()

    def _after_refusal(self, request: Request, error: Refused) -> tuple[Part, ...]:
        """Return the halves of a refused request, or note its only entry as refused.

        Raises:
            TaskError: If refused records are not set aside, or the bounds are reached.
        """
        if self._outcomes.rejects is None:
            raise self._failed(request, error) from error
        if request.count == 1:
            self._refused.append((request, error))
        if not self._bisection.refused(request.count):
            raise self._settings_to_blame(error)
        return self._split(request) if request.count > 1 else ()

    def _set_refused_aside(self) -> None:
        """Set the refused entries aside, if others of their stream were accepted.

        Raises:
            TaskError: If none was: then a setting is as likely to be wrong as they are.
        """
        if self._refused and not self._outcomes.was_accepted(self.batch.stream.name):
            raise self._settings_to_blame(self._refused[-1][1])
        for request, error in self._refused:
            self._reject(request, "refused", f"Altcraft refused it: {error.text}")

    def _reject(self, request: Request, code: str, reason: str) -> None:
        """Set the only record of a request aside; doubt goes with it."""
        if request.in_doubt:
            code = IN_DOUBT
            reason += f"; an earlier attempt may have been accepted: sent again, it {TWICE}"
        self._outcomes.set_aside(request, Rejection(code, reason))
        self.settled += 1

    def _settings_to_blame(self, error: Refused) -> TaskError:
        doubts = sum(request.in_doubt for request, _ in self._refused)
        doubt = f". {rerun_in_doubt(self._settings)}" if doubts else ""
        return TaskError(
            f"{self.batch} ({len(self.batch.entries)} profiles): {error}. Either these records are "
            "bad, or a setting is wrong (workflow_id, matching, field_name); too many were refused "
            "to set them aside as rejects. Mend the setting, or drop the records by a stream map. "
            f"{rerun(self._settings)}{doubt}"
        )

    # From accepted to the end

    def _complete(self, client: Client, request: Request) -> None:
        """Await a task and write down what it did."""
        started = time.monotonic()
        watch = TaskWatch(
            self._settings,
            t.cast("str", request.task_id),
            str(request),
            request.count,
            self._shared.unknown_states,
        )
        try:
            status = watch.completed(
                client, self._shared.abandon, request.asked, self._shared.first_wait
            )
            items, faults = attributed(str(request), status.results or [], request.count)
        except TaskFailed as error:
            request.failed(not_imported(error.results, request.count))
            raise TaskError(f"{error}. {rerun_in_doubt(self._settings)}") from error
        except TaskVanished as error:
            request.happened(Event.VANISHED)
            raise TaskError(f"{error}. {rerun_in_doubt(self._settings)}") from error
        except TaskError as error:
            request.happened(Event.NOT_FINISHED)
            raise TaskError(f"{error}. {rerun_unfinished(self._settings)}") from error
        if faults and self._outcomes.rejects is None:
            request.happened(Event.NOT_FINISHED)
            raise TaskError(
                f"{request}: {len(faults)} profiles were not imported ({kinds_of(faults)}). Set "
                f"rejects_path to have such records set aside. {rerun_unfinished(self._settings)}"
            )
        seconds = time.monotonic() - started
        self._outcomes.completed(request, items, faults, seconds)
        logger.info(
            "%s, task %s: completed after %.1f s, %d profiles%s",
            self.batch,
            request.task_id,
            seconds,
            request.count - len(faults),
            f", {len(faults)} rejected ({kinds_of(faults)})" if faults else "",
        )


_EVENTS: tuple[tuple[type[ApiError], Event], ...] = (
    (AcceptedWithoutId, Event.ACCEPTED_WITHOUT_ID),
    (OutcomeUnknown, Event.OUTCOME_UNKNOWN),
    (TooLarge, Event.TOO_LARGE),
    (Refused, Event.REFUSED),
    (NotAccepted, Event.NOT_ACCEPTED),
    (LostInBody, Event.NOT_ACCEPTED),
    (Fatal, Event.NOT_ACCEPTED),
)
"""What each kind of answer means for a request, first match first."""
