"""One request: a part of a batch, from unsent to its end, as one state machine.

Nothing here knows threads, HTTP or files. Whoever sends a request tells it what happened; whoever
wants to know (journal, report) observes it.
"""

from __future__ import annotations

import enum
import typing as t
from collections import Counter

from target_altcraft.errors import ImpossibleTransition

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from target_altcraft.batch import Batch
    from target_altcraft.delivery.split import Part
    from target_altcraft.origin import Origins


class State(enum.Enum):
    """What is known of a request."""

    UNSENT = "unsent"
    ON_THE_WIRE = "on the wire"
    IN_DOUBT = "in doubt"  # some attempt may have been accepted
    SENT_AGAIN = "sent again"  # on the wire, and an earlier attempt may have been accepted
    ACCEPTED = "accepted"
    UNTRACEABLE = "untraceable"  # accepted, but no task id was named
    COMPLETED = "completed"
    FAILED = "failed"
    VANISHED = "vanished"
    UNFINISHED = "unfinished"  # its task did not end in time, or its results cannot be attributed
    REFUSED = "refused"
    REFUSED_IN_DOUBT = "refused in doubt"
    TOO_LARGE = "too large"
    TOO_LARGE_IN_DOUBT = "too large in doubt"
    SPLIT = "split"  # its parts are requests of their own now


class Event(enum.Enum):
    """What can happen to a request."""

    BODY_BEGINS = "body begins"
    NOT_ACCEPTED = "not accepted"
    OUTCOME_UNKNOWN = "outcome unknown"
    ACCEPTED = "accepted"
    ACCEPTED_WITHOUT_ID = "accepted without id"
    REFUSED = "refused"
    TOO_LARGE = "too large"
    SPLIT = "split"
    COMPLETED = "completed"
    FAILED = "failed"
    VANISHED = "vanished"
    NOT_FINISHED = "not finished"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.UNSENT, Event.BODY_BEGINS): State.ON_THE_WIRE,
    (State.UNSENT, Event.NOT_ACCEPTED): State.UNSENT,
    (State.UNSENT, Event.SPLIT): State.SPLIT,
    (State.ON_THE_WIRE, Event.NOT_ACCEPTED): State.UNSENT,
    (State.ON_THE_WIRE, Event.OUTCOME_UNKNOWN): State.IN_DOUBT,
    (State.ON_THE_WIRE, Event.ACCEPTED): State.ACCEPTED,
    (State.ON_THE_WIRE, Event.ACCEPTED_WITHOUT_ID): State.UNTRACEABLE,
    (State.ON_THE_WIRE, Event.REFUSED): State.REFUSED,
    (State.ON_THE_WIRE, Event.TOO_LARGE): State.TOO_LARGE,
    # Doubt is sticky: nothing but an acceptance leads out of it.
    (State.IN_DOUBT, Event.BODY_BEGINS): State.SENT_AGAIN,
    (State.IN_DOUBT, Event.NOT_ACCEPTED): State.IN_DOUBT,
    (State.IN_DOUBT, Event.SPLIT): State.SPLIT,
    (State.SENT_AGAIN, Event.NOT_ACCEPTED): State.IN_DOUBT,
    (State.SENT_AGAIN, Event.OUTCOME_UNKNOWN): State.IN_DOUBT,
    (State.SENT_AGAIN, Event.ACCEPTED): State.ACCEPTED,
    (State.SENT_AGAIN, Event.ACCEPTED_WITHOUT_ID): State.UNTRACEABLE,
    (State.SENT_AGAIN, Event.REFUSED): State.REFUSED_IN_DOUBT,
    (State.SENT_AGAIN, Event.TOO_LARGE): State.TOO_LARGE_IN_DOUBT,
    (State.REFUSED, Event.SPLIT): State.SPLIT,
    (State.REFUSED_IN_DOUBT, Event.SPLIT): State.SPLIT,
    (State.TOO_LARGE, Event.SPLIT): State.SPLIT,
    (State.TOO_LARGE_IN_DOUBT, Event.SPLIT): State.SPLIT,
    (State.ACCEPTED, Event.COMPLETED): State.COMPLETED,
    (State.ACCEPTED, Event.FAILED): State.FAILED,
    (State.ACCEPTED, Event.VANISHED): State.VANISHED,
    (State.ACCEPTED, Event.NOT_FINISHED): State.UNFINISHED,
}
"""What may happen in which state, and what comes of it. Anything else is a fault of this code."""

_DOUBTFUL = {
    State.IN_DOUBT,
    State.SENT_AGAIN,
    State.REFUSED_IN_DOUBT,
    State.TOO_LARGE_IN_DOUBT,
}


UNANSWERED = "unanswered"
_OUTCOME_UNKNOWN = "accepted, outcome unknown"
DOUBTS = {
    State.ON_THE_WIRE: UNANSWERED,
    **dict.fromkeys(_DOUBTFUL, UNANSWERED),
    State.ACCEPTED: _OUTCOME_UNKNOWN,
    State.UNFINISHED: _OUTCOME_UNKNOWN,
    State.UNTRACEABLE: "accepted without a task id",
    State.FAILED: "its task failed",
    State.VANISHED: "its task vanished",
}
"""Why nobody knows what became of a request's entries, if the run ends in this state."""


class Request:
    """Some entries of a batch that go out in one body.

    ::

        request = Request(1, batch, Part(0, 300))
        request.happened(Event.BODY_BEGINS)
        request.happened(Event.OUTCOME_UNKNOWN)
        request.in_doubt  # True, and so it stays until an attempt is accepted

    Args:
        number: Counts the requests of a run, from 1.
        batch: The batch that it is a part of.
        part: Which entries, and what is known of them.
        observe: Called after each change with the request and its state before.
    """

    def __init__(
        self,
        number: int,
        batch: Batch,
        part: Part,
        observe: Callable[[Request, State], None] = lambda _request, _before: None,
    ) -> None:
        self.number = number
        self.batch = batch
        self.part = part
        self.count = part.last - part.first
        self.resends = part.resends
        self.state = State.UNSENT if part.doubted is None else State.IN_DOUBT
        self.task_id: str | None = None
        self.attempts = 0
        self.polls = 0
        self.progress: float | None = None
        self.not_imported: tuple[int, ...] = ()
        self.set_aside = 0  # how many of its entries stand in the rejects file
        self._observe = observe
        self.size = batch.envelope.size + self.count - 1 + sum(map(len, self.entries()))

    def __str__(self) -> str:
        """Name the batch, the part's size and its task for a message."""
        task = f", task {self.task_id}" if self.task_id else ""
        return f"{self.batch} ({self.count} profiles){task}"

    @property
    def in_doubt(self) -> bool:
        """Whether an attempt may have been accepted without our knowing it."""
        return self.state in _DOUBTFUL

    def doubts(self) -> Counter[str]:
        """Count the entries of which nobody knows whether they were imported, by why."""
        why = DOUBTS.get(self.state)
        known = len(self.not_imported) if self.state is State.FAILED else self.set_aside
        return Counter() if why is None else Counter({why: self.count - known})

    def entries(self) -> list[bytes]:
        """Return its entries, as JSON."""
        return self.batch.entries[self.part.first : self.part.last]

    def origins(self) -> Origins:
        """Return where its entries came from."""
        if self.count == len(self.batch.entries):  # the usual case, without a copy
            return self.batch.origins
        return self.batch.origins.part(self.part.first, self.part.last)

    def parts(self) -> tuple[Part, Part]:
        """Return its halves, in doubt if it is."""
        part = self.part
        if self.in_doubt:
            part = part._replace(doubted=self.number, offset=part.first, resends=self.resends)
        return part.halves()

    def sent_again(self) -> None:
        """Note that its entries are about to be sent again, though they may have been accepted."""
        self.resends += 1

    def happened(self, event: Event) -> None:
        """Go to the next state, and tell who observes.

        Raises:
            ImpossibleTransition: If that cannot happen in this state.
        """
        before = self.state
        try:
            self.state = TRANSITIONS[before, event]
        except KeyError:
            raise ImpossibleTransition(f"{event.value} while {before.value}") from None
        self.attempts += event is Event.BODY_BEGINS
        try:
            self._observe(self, before)
        except BaseException:
            if event is Event.BODY_BEGINS:  # it is not written down, so nothing of the body leaves
                self.state = before
            raise

    def accepted(self, task_id: str) -> None:
        """Note that an attempt was accepted, as a task with this id."""
        self.task_id = task_id
        self.happened(Event.ACCEPTED)

    def asked(self, progress: float | None) -> None:
        """Note one more question for the task's status, and the progress in percent it told."""
        self.polls += 1
        self.progress = progress

    def completed(self, not_imported: tuple[int, ...]) -> None:
        """Note that the task is done.

        Args:
            not_imported: Positions within this request that were not imported.
        """
        self.not_imported = not_imported
        self.happened(Event.COMPLETED)

    def failed(self, not_imported: tuple[int, ...]) -> None:
        """Note that the task failed.

        Args:
            not_imported: Positions of which its results say that they were not imported.
        """
        self.not_imported = not_imported
        self.happened(Event.FAILED)
