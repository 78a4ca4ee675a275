"""What stops a run that is going wrong: too many profiles, too many rejects, a bad first batch.

One place judges. Everything that is counted stands in the summary, save what belongs to a brake
alone.
"""

from __future__ import annotations

import logging
import threading
import typing as t
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field

from target_altcraft.errors import Braked, TargetError

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from target_altcraft.batch import Batch
    from target_altcraft.settings import Settings
    from target_altcraft.summary import Summary

logger = logging.getLogger(__name__)

LEAST = 20
"""A stream is judged from so many records on; fewer say little of the rest."""


class Later(t.NamedTuple):
    """Records that were read and are not to be counted yet, by stream."""

    waiting: Counter[str]
    """Of these nothing is known yet."""
    rejected: Counter[str]


_NOTHING = Later(Counter(), Counter())


@dataclass(slots=True)
class _Canary:
    """The first profiles of a stream: how many are still to come, and which batches hold them."""

    left: int
    sent: int = 0
    unsettled: int = 0
    batches: set[int] = field(default_factory=set)  # that have not passed yet
    is_judged: bool = False


class Brakes:
    """The settings `max_profiles`, `max_rejects`, `max_reject_percent` and `canary_rows`.

    ::

        brakes.batched(batch)      # before it is sent: max_profiles
        brakes.check_rejects()     # after each reject: max_rejects
        brakes.judge("customers")  # max_reject_percent
        brakes.holds(batch)        # canary_rows: True while the stream's first profiles are out
        with brakes.settling(batch):
            ...                    # STATE moves on

    Every "rejected before" counts as rejected. A brake that has struck stays so: it raises the same
    error again, but not for a batch that nothing was rejected of. The lock guards all that is
    counted here save the profiles, which are the reader's thread's; the workers use it too.

    Args:
        settings: The run's settings.
        summary: The counts of the run.
    """

    def __init__(self, settings: Settings, summary: Summary) -> None:
        self._settings = settings
        self._summary = summary
        self._lock = threading.Lock()
        self._profiles = 0
        self._refused: Counter[str] = Counter()  # rejected by Altcraft, by stream
        self._with_rejects: set[int] = set()  # unsettled batches of which Altcraft rejected some
        self._struck: dict[str, Braked] = {}  # by stream; that of `max_rejects` by nothing
        self._canaries: dict[str, _Canary] = {}

    # max_profiles

    def batched(self, batch: Batch) -> None:
        """Count the profiles of a batch that is about to be sent.

        Raises:
            TargetError: If they would be more than `max_profiles`.
        """
        limit = self._settings.max_profiles
        self._profiles += len(batch.entries)
        if limit is not None and self._profiles > limit:
            raise TargetError(
                f"{batch} would bring this run to {self._profiles} profiles, more than "
                f"max_profiles ({limit}); it was not sent. If so many are right, raise "
                "max_profiles; if not, look at the tap's bookmark"
            )

    # max_rejects

    def check_rejects(self) -> None:
        """Judge the rejected records, those that an earlier run rejected as well.

        Raises:
            Braked: If they are more than `max_rejects`.
        """
        limit = self._settings.max_rejects
        if limit is None or (rejected := self._summary.rejected_now_or_before()) <= limit:
            return
        if self._settings.dry_run:
            raise Braked(f"more than max_rejects ({limit}) records would be rejected")
        raise self._strike(
            "",
            f"{rejected} records were rejected, more than max_rejects ({limit}): rather a wrong "
            f"setting than bad records. They stand in {self._settings.rejects_path}; STATE stays "
            "before those of the last batch",
        )

    def _strike(self, what: str, why: str) -> Braked:
        """Return the error of a brake: the first one."""
        with self._lock:
            return self._struck.setdefault(what, Braked(why))

    # max_reject_percent

    def refused(self, batch: Batch, number: int) -> None:
        """Count profiles of a batch that Altcraft did not take."""
        with self._lock:
            self._refused[batch.stream.name] += number
            self._with_rejects.add(batch.number)

    def judge(self, stream: str, *, later: Later = _NOTHING, least: int = LEAST) -> None:
        """Judge a stream by what is known of it so far.

        Twice: by all profiles that came, where one that is not settled counts as good; and by those
        alone that Altcraft has answered for. The second tells a bad batch while others are at work.

        Args:
            stream: The output stream.
            later: Records that were read and are not to be counted yet.
            least: Do not judge fewer profiles that Altcraft has answered for.

        Raises:
            Braked: If too many of them were rejected.
        """
        if stream in self._struck:
            raise self._struck[stream]
        shares = self._summary.shares(stream)
        with self._lock:
            refused = self._refused[stream]
        answered = shares.delivered + refused + shares.good
        for rejected, profiles, enough in (
            (
                shares.rejected - later.rejected[stream],
                shares.profiles - later.waiting[stream] - later.rejected[stream],
                LEAST,
            ),
            (refused, answered, least),
        ):
            if rejected and profiles >= enough and self._are_too_many(rejected, profiles):
                raise self._strike(stream, self._words(stream, rejected, profiles, shares.reason))

    def judge_all(self, later: Callable[[], Later] | None = None) -> None:
        """Judge every stream.

        Args:
            later: Returns the records that were read and are not to be counted yet; asked only if
                something was rejected.

        Raises:
            Braked: If too many of one were rejected.
        """
        rejecting = self._summary.rejecting()
        not_yet = later() if later is not None and rejecting else _NOTHING
        for stream in rejecting:
            self.judge(stream, later=not_yet)

    def _are_too_many(self, rejected: int, profiles: int) -> bool:
        limit = self._settings.max_reject_percent
        return rejected >= profiles if limit is None else 100 * rejected > limit * profiles

    def _words(self, stream: str, rejected: int, profiles: int, reason: str) -> str:
        limit = self._settings.max_reject_percent
        what = f"stream '{stream}': {rejected} of {profiles} profiles were rejected"
        if limit is None:
            what = f"stream '{stream}': all of its {profiles} profiles so far were rejected"
        else:
            what += f", more than max_reject_percent ({limit:g})"
        why = f" (most often: {reason})"
        where = "" if self._settings.dry_run else f". They stand in {self._settings.rejects_path}"
        way_on = (
            "set max_reject_percent to 100 to let them pass"
            if limit is None
            else "raise max_reject_percent"
        )
        return (
            f"{what}{why}: rather a wrong setting than bad records. Nothing more is sent{where}. "
            f"Mend the setting, or {way_on}"
        )

    # canary_rows

    def room(self, stream: str, most: int) -> int:
        """Return how many profiles the next batch of a stream may hold.

        Args:
            stream: The output stream.
            most: Setting `batch_size_rows`.
        """
        if self._settings.canary_rows is None:
            return most
        with self._lock:
            canary = self._canaries.setdefault(stream, _Canary(self._settings.canary_rows))
            return min(most, canary.left) if canary.left > 0 else most

    def handed_over(self, batch: Batch) -> None:
        """Note that a batch is full and is to be sent, as part of the first ones or not."""
        with self._lock:
            canary = self._canaries.get(batch.stream.name)
            if canary is None or canary.left <= 0:
                return
            canary.batches.add(batch.number)
            canary.unsettled += 1
            canary.left -= len(batch.entries)
            canary.sent += len(batch.entries)
            if canary.left > 0:
                return
        logger.info(
            "stream '%s': its first %d profiles go alone (canary_rows); the rest waits for them",
            batch.stream.name,
            canary.sent,
        )

    def holds(self, batch: Batch) -> bool:
        """Tell whether a batch must wait for the first profiles of its stream."""
        with self._lock:
            canary = self._canaries.get(batch.stream.name)
            if canary is None or canary.left > 0 or not canary.batches:
                return False
            return batch.number not in canary.batches

    def input_ended(self) -> None:
        """Note that no more profiles come: what a stream has sent is all of its first ones."""
        with self._lock:
            for canary in self._canaries.values():
                canary.left = 0

    @contextmanager
    def settling(self, batch: Batch) -> Iterator[None]:
        """Judge the stream of a batch whose records are all settled, around what settles it.

        A batch of which something was rejected is judged before, so that no STATE goes past it. Any
        other one is settled whatever the verdict on its stream is: all of it was delivered.

        Raises:
            Braked: If too many profiles of its stream were rejected.
        """
        name, ends = batch.stream.name, False
        with self._lock:
            is_first = batch.number in self._with_rejects
            canary = self._canaries.get(name)
            if canary is not None and batch.number in canary.batches:
                canary.unsettled -= 1
                ends = canary.left <= 0 and not canary.unsettled
        least = 1 if ends else LEAST
        if is_first:
            self.judge(name, least=least)
        yield
        if not is_first and name not in self._struck:
            self.judge(name, least=least)
        with self._lock:
            self._with_rejects.discard(batch.number)
            if canary is not None:
                canary.batches.discard(batch.number)
                canary.is_judged = canary.is_judged or ends
        if ends:
            logger.info("stream '%s': its first profiles passed; the rest may go", name)

    def judge_at_end(self) -> None:
        """Judge every stream when everything is settled.

        Raises:
            Braked: If too many profiles of one were rejected.
        """
        for stream in self._summary.rejecting():
            canary = self._canaries.get(stream)
            is_new = canary is not None and canary.sent > 0 and not canary.is_judged
            self.judge(stream, least=1 if is_new else LEAST)
