"""What becomes of requests and records, written down before it counts as settled."""

from __future__ import annotations

import contextlib
import itertools
import threading
import typing as t
from itertools import compress

from target_altcraft.brakes import Brakes
from target_altcraft.codec import decode_json
from target_altcraft.delivery.request import DOUBTS, UNANSWERED, Request, State
from target_altcraft.dry_run import DryRun
from target_altcraft.errors import TaskError
from target_altcraft.memory.judgement import Verdict
from target_altcraft.memory.memory import Memory
from target_altcraft.memory.sent import Sent
from target_altcraft.receipts import Receipts
from target_altcraft.rejects import Reject, Rejects
from target_altcraft.report import Report
from target_altcraft.results import item_fault
from target_altcraft.summary import REJECTED_BEFORE, Summary

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from target_altcraft.batch import Batch
    from target_altcraft.delivery.split import Part
    from target_altcraft.errors import Rejection
    from target_altcraft.memory.judgement import Judgement
    from target_altcraft.memory.sent import Leftover
    from target_altcraft.origin import Origin
    from target_altcraft.results import Fault
    from target_altcraft.settings import Settings, StreamSettings


class Outcomes:
    """The counts, the rejects file, the receipts file, the journal and the report of a run.

    Whatever one of them says of a record is on disk before the record's batch is settled, and so
    before a STATE that covers it. Requests are observed: each change of one is written down here.

    The lock guards the streams of which something was accepted.

    Args:
        settings: The run's settings; a dry run writes no file.
        delivered: Called by a worker when a task has imported profiles: the batch and the seconds
            that the task took.

    Raises:
        TargetError: If a file cannot be opened.
    """

    def __init__(self, settings: Settings, delivered: Callable[[Batch, float], None]) -> None:
        writes = not settings.dry_run
        self._settings = settings
        self.summary = Summary()
        self.brakes = Brakes(settings, self.summary)
        self.memory: Memory | None = None
        self.rejects: Rejects | None = None
        self.receipts: Receipts | None = None
        if settings.journal_path is not None:
            self.memory = Memory(settings, read_only=not writes)
        if writes and settings.rejects_path is not None:
            self.rejects = Rejects(settings.rejects_path)
        if writes and settings.receipts_path is not None:
            self.receipts = Receipts(settings.receipts_path)
        self.dry_run = DryRun() if settings.dry_run else None
        self.report = Report(settings.report_path if writes else None)
        self._delivered = delivered
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._accepted: set[str] = set()  # streams
        self._received: dict[
            tuple[str, str | None], tuple[StreamSettings, list[bytes], list[str | None]]
        ] = {}  # by stream and task; of the reader's thread

    def close(self) -> None:
        """Close the files."""
        for file in (self.rejects, self.receipts, self.memory):
            if file is not None:
                file.close()

    # Requests

    def request(self, batch: Batch, part: Part) -> Request:
        """Return a new request for a part of a batch, observed from now on."""
        request = Request(next(self._numbers), batch, part, self._observe)
        if part.doubted is not None and self.memory is not None:
            self.memory.sent.on_the_wire(
                self._sent(request, self.memory),
                of=part.doubted,
                offset=part.first - part.offset,
            )
        self._report(request)
        return request

    def was_accepted(self, stream: str) -> bool:
        """Tell whether something of a stream was accepted, in this run or by the journal before."""
        with self._lock:
            if stream in self._accepted:
                return True
        return self.memory is not None and self.memory.was_accepted(stream)

    def _observe(self, request: Request, before: State) -> None:
        if request.state is State.ACCEPTED:
            with self._lock:
                self._accepted.add(request.batch.stream.name)
        if self.memory is not None:
            self._write_down(request, before, self.memory)
        self._report(request)

    def _write_down(self, request: Request, before: State, memory: Memory) -> None:
        sent, state = memory.sent, request.state
        if state is State.ON_THE_WIRE:
            sent.on_the_wire(self._sent(request, memory))
        elif state in {State.UNSENT, State.REFUSED, State.TOO_LARGE}:
            if before is State.ON_THE_WIRE:
                sent.forget(request.number)
        elif state in {State.ACCEPTED, State.UNTRACEABLE}:
            sent.accepted(request.number, request.batch.origins.kind.mapping, request.task_id)
        elif state is State.COMPLETED:
            sent.delivered(
                self._sent(request, memory),
                set(request.not_imported),
                by_key=memory.stream(request.batch.stream.name).by_key,
                for_ever=request.batch.origins.kind.send_again != "always",
            )
        elif state in {State.FAILED, State.VANISHED}:
            sent.doubtful(request.number, state.value, request.not_imported)

    @staticmethod
    def _sent(request: Request, memory: Memory) -> Sent:
        origins = request.origins()
        return Sent(
            number=request.number,
            stream=memory.stream(request.batch.stream.name).row.id,
            name=f"{request.batch} ({request.count} profiles)",
            mapping=origins.kind.mapping,
            versions=bytes(origins.versions),
            places=memory.places(origins.places) if origins.kind.is_counted else b"",
        )

    def _report(self, request: Request) -> None:
        self.report.request(
            request.number,
            batch=request.batch.number,
            stream=request.batch.stream.name,
            profiles=request.count,
            size=request.size,
            state=request.state.value,
            task_id=request.task_id,
            attempts=request.attempts,
            polls=request.polls,
            rejected=len(request.not_imported),
        )

    def completed(
        self,
        request: Request,
        items: Sequence[t.Any] | None,
        faults: Sequence[Fault],
        seconds: float,
    ) -> None:
        """Write down what a completed task did: rejects, receipts, and then the journal.

        Args:
            request: The request it came from.
            items: Its results for single profiles; None if they cannot be attributed.
            faults: Those that were not imported.
            seconds: What the task took.

        Raises:
            TargetError: If a file cannot be written, or too much was rejected.
        """
        stream, origins = request.batch.stream, request.origins()
        bad = {fault.position for fault in faults}
        self._set_aside(
            stream, [(origins[f.position], f.kind, f.text) for f in faults], request.task_id
        )
        request.set_aside = len(bad)
        if self.receipts is not None and items is not None:
            keys = origins.keys
            if bad:
                good = [position not in bad for position in range(request.count)]
                keys, items = list(compress(keys, good)), list(compress(items, good))
            ids = [str(item["profile_id"]) for item in items]
            self.receipts.add(stream, request.task_id, keys, ids)
        try:
            request.completed(tuple(bad))
        finally:  # they were delivered, even if that cannot be written down
            self.summary.deliver(stream.name, request.count - len(bad))
        self._delivered(request.batch, seconds)
        if bad:
            self.brakes.refused(request.batch, len(bad))
            self.brakes.check_rejects()
            self.brakes.judge(stream.name)

    # Records

    def set_aside(self, request: Request, rejection: Rejection) -> None:
        """Set the only record of a request aside.

        Raises:
            TargetError: If it cannot be written, or there are too many.
        """
        self.brakes.refused(request.batch, 1)
        origin = request.origins()[0]
        self._set_aside(request.batch.stream, [(origin, rejection.code, rejection.reason)], None)
        request.set_aside = 1
        if self.memory is not None and request.in_doubt:
            self.memory.sent.forget(request.number)
        self.brakes.check_rejects()

    def reject(self, stream: StreamSettings, origin: Origin, rejection: Rejection) -> None:
        """Set one record aside.

        Raises:
            TargetError: If it cannot be written, or there are too many.
        """
        self._set_aside(stream, [(origin, rejection.code, rejection.reason)], None)
        self.brakes.check_rejects()

    def count_rejected_before(self, stream: str) -> None:
        """Count a record that an earlier run rejected; every brake counts it as rejected.

        Raises:
            TargetError: If there are too many.
        """
        self.summary.skip(stream, REJECTED_BEFORE)
        self.brakes.check_rejects()

    def count_left(self, judged: Iterable[tuple[str, Judgement]]) -> None:
        """Count what earlier runs sent, or may have, of records that a failed run did not handle.

        Args:
            judged: The stream of each record, and what the journal said of it.
        """
        for stream, (verdict, leftover, _, received) in judged:
            if verdict is Verdict.DOUBT and leftover is not None:
                is_unanswered = leftover.state == UNANSWERED
                why = UNANSWERED if is_unanswered else DOUBTS[State(leftover.state)]
                self.summary.doubt(stream, why)
            elif verdict is Verdict.DELIVERED_BEFORE and received:  # others are counted
                self.summary.skip(stream, verdict.value)

    def _set_aside(
        self,
        stream: StreamSettings,
        records: Sequence[tuple[Origin, str, str]],
        task_id: str | None,
    ) -> None:
        if self.rejects is not None and records:
            self.rejects.add(
                [
                    Reject(origin.message, stream.name, code, text, task_id)
                    for origin, code, text in records
                ]
            )
        for _, code, _ in records:
            self.summary.reject(stream.name, code)
        if self.memory is not None and self.rejects is not None:
            memory = self.memory.stream(stream.name)
            for origin, _, _ in records:
                if not origin.version:
                    continue
                with contextlib.suppress(RecursionError):  # it is rejected again, then
                    memory.remember_rejected(origin, decode_json(origin.message)["record"])

    def reject_leftover(
        self, stream: StreamSettings, origin: Origin, leftover: Leftover, position: int
    ) -> None:
        """Set aside a record that a task of an earlier run did not import.

        Raises:
            TaskError: If there is no rejects file.
            TargetError: If it cannot be written, or there are too many.
        """
        item = leftover.results[position] if leftover.results is not None else None
        kind, text = item_fault(item) or ("not imported", "")
        if self._settings.rejects_path is None:
            raise TaskError(
                f"{leftover.name}, task {leftover.task_id}, of an earlier run: a profile was not "
                f"imported ({kind}); set rejects_path to have such records set aside"
            )
        self._set_aside(stream, [(origin, kind, text)], leftover.task_id)
        self.brakes.check_rejects()

    def receive_leftover(
        self, stream: StreamSettings, origin: Origin, leftover: Leftover, position: int
    ) -> None:
        """Note the receipt of a record that a task of an earlier run imported, if any is wanted."""
        if self.receipts is None:
            return
        item = leftover.results[position] if leftover.results is not None else None
        found = item.get("profile_id") if isinstance(item, dict) else None
        group = stream.name, leftover.task_id
        _, keys, profile_ids = self._received.setdefault(group, (stream, [], []))
        keys.append(origin.key)
        profile_ids.append(None if found is None else str(found))

    def write_received(self) -> None:
        """Write the receipts that were noted: a record with one may be covered by a STATE then.

        Raises:
            OutputError: If they cannot be written.
        """
        if self.receipts is not None:
            for (_, task_id), (stream, keys, profile_ids) in self._received.items():
                self.receipts.add(stream, task_id, keys, profile_ids)
        self._received.clear()
