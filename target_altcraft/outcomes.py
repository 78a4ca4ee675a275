"""What becomes of each record, written down before it counts as settled."""

from __future__ import annotations

import logging
import typing as t
from collections import defaultdict, deque

from target_altcraft.boundary import greatest
from target_altcraft.errors import OutcomeUnknown, TaskError
from target_altcraft.journal import SETTLED, Journal
from target_altcraft.receipts import Receipts
from target_altcraft.rejects import Reject, Rejects
from target_altcraft.report import Report
from target_altcraft.summary import Summary

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from target_altcraft.batch import Batch
    from target_altcraft.errors import Rejection
    from target_altcraft.journal import Leftover
    from target_altcraft.profile import Row
    from target_altcraft.settings import Settings, StreamSettings

logger = logging.getLogger(__name__)

FROM_JOURNAL = "settled from the journal"


class Fault(t.NamedTuple):
    """Why one profile of a completed task was not imported; `text` is for the rejects file only."""

    position: int
    kind: str
    text: str


class Request:
    """One request of this run in the journal, if there is one; told of its way by the client.

    Args:
        journal: The journal; None if there is none.
        batch: The batch that the request is of.
        first: Position of its first entry in the batch.
        number: How many entries it carries.
    """

    def __init__(self, journal: Journal | None, batch: Batch, first: int, number: int) -> None:
        self._journal = journal
        self._batch = batch
        self.rows = batch.rows[first : first + number]
        self._id: int | None = None

    def on(self) -> None:
        """Note that it goes on the wire."""
        if self._journal is not None and self._id is None:
            name = f"{self._batch} ({len(self.rows)} profiles)"
            digests = [row.digest for row in self.rows]
            self._id = self._journal.sending(
                self._batch.number, self._batch.stream.name, name, digests
            )

    def off(self) -> None:
        """Note that it was not accepted."""
        if self._journal is not None and self._id is not None:
            self._journal.forget(self._id)
            self._id = None

    def accepted(self, task_id: str) -> None:
        """Note the task that it became."""
        if self._journal is not None and self._id is not None:
            self._journal.accepted(self._id, task_id)

    def completed(self, faults: Sequence[Fault]) -> None:
        """Note that its task is done."""
        if self._journal is not None and self._id is not None:
            self._journal.completed(self._id, [fault.position for fault in faults])

    def failed(self) -> None:
        """Note that its task failed, so that the next run sends its records."""
        if self._journal is not None and self._id is not None:
            self._journal.failed(self._id)


class Outcomes:
    """The counts, the rejects file, the receipts file and the journal of a run.

    Whatever one of them says of a record is on disk before the record's batch is settled, and so
    before a STATE that covers it.

    Args:
        settings: The run's settings; a dry run opens no file.

    Raises:
        TargetError: If a file cannot be opened.
    """

    def __init__(self, settings: Settings) -> None:
        real = not settings.dry_run
        self.summary = Summary()
        self.rejects: Rejects | None = None
        self.receipts: Receipts | None = None
        self.journal: Journal | None = None
        if real and settings.journal_path is not None:
            self.journal = Journal(settings.journal_path)
        if real and settings.rejects_path is not None:
            self.rejects = Rejects(settings.rejects_path, settings.max_rejects)
        if real and settings.receipts_path is not None:
            self.receipts = Receipts(settings.receipts_path)
        self.report = Report(settings.report_path if real else None)
        self._resend = settings.on_ambiguous_submit == "resend"
        self.leftovers = self.journal.leftovers() if self.journal is not None else []
        self._by_digest: defaultdict[bytes, deque[tuple[Leftover, int]]] = defaultdict(deque)

    def forget_failed(self) -> None:
        """Let the journal forget the tasks whose failure was reported."""
        if self.journal is not None:
            self.journal.forget_failed()

    def close(self) -> None:
        """Close the files."""
        for file in (self.rejects, self.receipts, self.journal):
            if file is not None:
                file.close()

    # Rejects

    def reject(self, stream: StreamSettings, row: Row, rejection: Rejection) -> None:
        """Set one record aside.

        Raises:
            TargetError: If it cannot be written, or there are too many.
        """
        self._set_aside(stream, [(row, rejection.code, rejection.reason)], None)

    def _set_aside(
        self,
        stream: StreamSettings,
        records: Sequence[tuple[Row, str, str]],
        task_id: str | None,
    ) -> None:
        if self.rejects is None or not records:
            return
        for _, code, _ in records:
            self.summary.reject(stream.name, code)
        self.rejects.add(
            [Reject(row.message, stream.name, code, text, task_id) for row, code, text in records]
        )

    # Tasks of this run

    def completed(
        self,
        batch: Batch,
        request: Request,
        task_id: str,
        items: Sequence[t.Any] | None,
        faults: Sequence[Fault],
    ) -> int:
        """Write down what a completed task did.

        Args:
            batch: The batch it belongs to.
            request: The request it came from.
            task_id: The task.
            items: Its results for single profiles; None if they cannot be attributed.
            faults: Those that were not imported.

        Returns:
            How many profiles were delivered.
        """
        rows, stream = request.rows, batch.stream
        bad = {fault.position for fault in faults}
        good = [position for position in range(len(rows)) if position not in bad]
        self._set_aside(stream, [(rows[f.position], f.kind, f.text) for f in faults], task_id)
        if self.receipts is not None and items is not None:
            self.receipts.add(
                stream,
                task_id,
                ((rows[n].key or {}, str(items[n]["profile_id"])) for n in good),
            )
        request.completed(faults)
        if self.journal is not None:
            marks = [mark for n in good if (mark := rows[n].mark) is not None]
            newest = greatest(marks)
            if newest is not None:
                self.journal.delivered(batch.number, stream.name, newest)
        self.summary.deliver(stream.name, len(good))
        return len(good)

    # Requests of an earlier run

    def resumed(self) -> None:
        """Take what is now known of the leftovers into account."""
        for leftover in self.leftovers:
            for position, entry in enumerate(leftover.digests):
                self._by_digest[entry].append((leftover, position))

    def settled_before(self, stream: StreamSettings, row: Row) -> bool:
        """Settle a record by the outcome of the same entry in an earlier run, if there is one.

        Returns:
            True if it must not be sent.

        Raises:
            OutcomeUnknown: If that outcome is unknown and `on_ambiguous_submit` is `fail`.
        """
        waiting = self._by_digest.get(row.digest)
        if not waiting:
            return False
        leftover, position = waiting.popleft()
        leftover.digests[position] = SETTLED
        if not leftover.known:
            self._unknown(leftover)
            return False
        if leftover.results is None:  # its reject or receipt was written then
            self.summary.skip(stream.name, FROM_JOURNAL)
        elif position in leftover.faults:
            kind, text = item_fault(leftover.results[position]) or ("", "")
            if self.rejects is None:
                raise TaskError(
                    f"{leftover.name}, task {leftover.task_id}, of an earlier run: a profile was "
                    f"not imported ({kind}); set rejects_path to have such records set aside"
                )
            self._set_aside(stream, [(row, kind, text)], leftover.task_id)
        else:
            if self.receipts is not None:
                profile_id = str(leftover.results[position]["profile_id"])
                self.receipts.add(stream, leftover.task_id, [(row.key or {}, profile_id)])
            self.summary.skip(stream.name, FROM_JOURNAL)
        return True

    def _unknown(self, leftover: Leftover) -> None:
        if self.journal is None or leftover.name == "":
            return
        why = "an earlier run ended before its answer"
        if leftover.task_id is not None:
            why = f"Altcraft does not know task {leftover.task_id} of an earlier run any more"
        unknown = (
            f"{leftover.name}: {why}; it is unknown whether its {len(leftover.digests)} profiles "
            "were accepted"
        )
        if not self._resend:
            raise OutcomeUnknown(
                "journal_path",
                f"{unknown}. Nothing of it was sent again; set on_ambiguous_submit to resend to "
                "send it, or take these records out of the input",
            )
        logger.warning("%s. They are sent again, and may enter the scenario twice", unknown)
        self.journal.forget(leftover.id)
        leftover.name = ""  # said once

    def finish(self, streams: set[str], *, state_was_emitted: bool) -> None:
        """End a run that went well.

        Args:
            streams: Those whose SCHEMA the run saw.
            state_was_emitted: Whether it acknowledged anything.
        """
        if self.journal is None:
            return
        over, kept, unmatched = [], [], 0
        for leftover in self.leftovers:
            if leftover.stream not in streams:
                continue
            still_open = sum(entry != SETTLED for entry in leftover.digests)
            if still_open and not state_was_emitted:
                kept.append(leftover)
            else:
                over.append(leftover)
                unmatched += still_open
        if unmatched:
            logger.info(
                "%d profiles that an earlier run had sent did not come again; the journal forgets "
                "them",
                unmatched,
            )
        self.journal.finish(over, kept)


def item_fault(item: object) -> tuple[str, str] | None:
    """Return what is wrong with one profile's result, None if nothing is; its shape is a guess.

    Returns:
        The kind of fault, a few fixed words and a code, and what the server said of it.
    """
    if not isinstance(item, dict):
        return "no result object", ""
    error = item.get("error")
    text = f"{item.get('error_text', '')} {item.get('error_debug', '')}".strip()
    if error not in (None, 0, "", "0"):
        return (f"error {error}" if isinstance(error, int) else "error"), text
    return None if item.get("profile_id") else ("no profile_id", text)


def faults_of(items: Sequence[t.Any]) -> list[Fault]:
    """Return the faults among a task's results, by position."""
    return [
        Fault(position, *fault)
        for position, item in enumerate(items)
        if not (isinstance(item, dict) and item.get("profile_id") and not item.get("error"))
        and (fault := item_fault(item)) is not None
    ]
