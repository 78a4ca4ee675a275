"""A run: it owns what records pass through, and brings it to an end in whatever way."""

from __future__ import annotations

import logging
import sys
import typing as t
from functools import partial

from target_altcraft.batch import OpenBatches
from target_altcraft.checkpoint import Checkpoints
from target_altcraft.delivery.limit import SizeLimit
from target_altcraft.delivery.recall import recall
from target_altcraft.delivery.scenario import check_scenario
from target_altcraft.delivery.window import Window
from target_altcraft.errors import Braked, OutputError
from target_altcraft.misspelt import nearest
from target_altcraft.outcomes import Outcomes
from target_altcraft.progress import Progress
from target_altcraft.router import Router

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from target_altcraft.batch import Batch
    from target_altcraft.errors import TaskError
    from target_altcraft.reader import LineReader
    from target_altcraft.settings import Settings, StreamSettings

logger = logging.getLogger(__name__)


class Pipeline:
    """One run, from the first byte to the last STATE.

    ::

        pipeline = Pipeline(settings, reader, handed_over=..., delivered=...)
        pipeline.prepare()
        try:
            ...  # pipeline.router.record(...), pipeline.router.state(...)
            pipeline.finish()
        except BaseException as error:
            pipeline.fail(error)

    Args:
        settings: The run's settings.
        reader: Where the input comes from.
        handed_over: Called with each batch that goes to a worker.
        delivered: Called by a worker when a task has imported profiles: the batch and the seconds
            that the task took.

    Raises:
        TargetError: If a file that the settings name cannot be opened.
    """

    def __init__(
        self,
        settings: Settings,
        reader: LineReader,
        *,
        handed_over: Callable[[Batch], None],
        delivered: Callable[[Batch, float], None],
    ) -> None:
        self.settings = settings
        self.outcomes = Outcomes(settings, delivered)
        limit = SizeLimit(settings.batch_size_bytes)
        self._reader = reader
        self._handed_over = handed_over
        self._covered: int | None = None  # place in the input that the last printed STATE covers
        self._checkpoints = Checkpoints(self._write_state)
        self._window = Window(
            settings,
            limit,
            reader.wakeup,
            self.outcomes,
            holds=self.outcomes.brakes.holds,
            settled=self._batch_settled,
            tick=self._say_progress,
        )
        self._batches = OpenBatches(
            max_rows=partial(self.outcomes.brakes.room, most=settings.batch_size_rows),
            limit=limit,
            token=settings.token,
            next_number=self._checkpoints.open_batch,
            opened=self._opened,
            hand_over=self._hand_over,
        )
        self.router = Router(
            settings,
            self.outcomes,
            self._batches,
            self._checkpoints,
            input_=reader,
            check_scenario=self._check_scenario,
            wait=self._window.wait,
        )
        self._progress = Progress(self.outcomes.summary, self._window)
        reader.tick = self.tick

    # The run's callbacks

    def _check_scenario(self, stream: StreamSettings) -> None:
        report = self.outcomes.report
        report.scenario(stream.name, stream.workflow_id)
        if self.settings.check_workflow:
            check = partial(
                check_scenario,
                stream=stream,
                window=self._window,
                settings=self.settings,
                report=report,
            )
            self._window.run_errands([check])

    def _opened(self, batch: Batch) -> None:
        if self.outcomes.memory is not None:
            stream = self.outcomes.memory.stream(batch.stream.name)
            stream.under_way.opened(batch.number, batch.origins)

    def _hand_over(self, batch: Batch) -> None:
        brakes = self.outcomes.brakes
        self._handed_over(batch)
        self.outcomes.summary.batched[batch.stream.name] += len(batch.entries)
        brakes.batched(batch)
        brakes.handed_over(batch)
        if self.outcomes.dry_run is not None:
            self.outcomes.dry_run.add(batch)
            with brakes.settling(batch):
                self.router.batch_settled(batch)
        else:
            self._window.offer(batch)

    def _batch_settled(self, batch: Batch) -> None:
        with self.outcomes.brakes.settling(batch):
            self.router.batch_settled(batch)
            self._checkpoints.settle(batch.number)

    def _write_state(self, state: bytes, place: int) -> None:
        """Emit a STATE: a whole line on stdout, flushed.

        Args:
            state: Its value as JSON.
            place: How many records of the input it covers.

        Raises:
            OutputError: If that is not possible.
        """
        if self.settings.dry_run:
            return
        memory = self.outcomes.memory
        if memory is not None:
            memory.cover(place)
        try:
            with self._progress.aside():
                sys.stdout.buffer.write(state + b"\n")
                sys.stdout.buffer.flush()
        except (OSError, ValueError, AttributeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is closed"
            raise OutputError(f"STATE cannot be written to stdout: {why}") from None
        self._covered = place
        self.outcomes.report.state_printed(place)

    def _say_progress(self) -> None:
        self._progress.tick()

    def tick(self) -> None:
        """Do what is due while the input is read; called before each read.

        Records wait for more of their lot only while more of the input is at hand.
        """
        self._window.check()
        self._window.send_parked()
        if not self._reader.has_more:
            self.router.judge_lot()
        self._batches.close_aged()
        self._progress.tick()

    def send_what_was_read(self) -> None:
        """Hand over every open batch, because what comes next in the input ends the run.

        Raises:
            TargetError: If the run must end for another reason.
        """
        self.router.judge_lot()
        self._batches.close_all()

    # From the beginning to the end

    def prepare(self) -> None:
        """Await what an earlier run left, before a byte is read.

        Raises:
            TargetError: If a task of an earlier run failed.
        """
        self._reader.wakeup.listen_to_signals()
        if self.settings.dry_run:
            logger.warning("dry run: nothing is sent, no STATE is emitted, no file is written")
            return
        if self.outcomes.memory is None:
            return
        leftovers = self.outcomes.memory.leftovers
        leftovers.take_untraceable()
        unknown = leftovers.unknown(wants_results=self.outcomes.receipts is not None)
        if unknown:
            logger.info("an earlier run left %d tasks unacknowledged; awaiting them", len(unknown))
        failures: list[TaskError] = []
        self._window.run_errands(
            [
                partial(
                    recall,
                    leftover=leftover,
                    leftovers=leftovers,
                    window=self._window,
                    settings=self.settings,
                    failures=failures,
                )
                for leftover in unknown
            ]
        )
        for failure in failures[:-1]:
            logger.error("and also: %s", failure)
        if failures:
            raise failures[-1]

    def finish(self) -> None:
        """Send what is left and wait for every task, at the end of the input.

        Raises:
            TargetError: If something of it failed.
        """
        self.router.judge_lot()
        self._batches.close_all()
        self.outcomes.brakes.input_ended()
        self._window.drain()
        self._window.check()
        self._window.close()
        self.outcomes.brakes.judge_at_end()
        if self.outcomes.memory is not None and not self.settings.dry_run:
            self.outcomes.memory.end_well(
                self.router.streams_read(),
                is_replay=self.router.saw_replays and not self.router.saw_records,
                covered=self._covered,
            )
        for where, name in self.settings.named_streams():
            if name not in self.router.streams_seen:
                hint = nearest(name, self.router.streams_seen)
                logger.warning("%s: no such stream came%s", where, hint)
        if self.router.saw_records:  # rejects that are replayed are of some streams only
            self.router.named_columns.end()
        if self._reader.was_empty:
            logger.warning(
                "the input held no message: the tap wrote nothing, not even a SCHEMA. Look at the "
                "tap's log"
            )
        self._progress.close()

    def fail(self, error: BaseException) -> None:
        """Await what is in flight after a failure, and say what else failed or was abandoned.

        If it was the input that failed, batches that are full are sent first: with a journal, their
        records may still be waiting for its word. After a brake nothing more is sent.
        """
        if isinstance(error, Braked):
            self._window.fail(error)
        if self._window.is_sound():
            try:
                self.router.judge_lot()
            except Exception as another:  # noqa: BLE001 - the first failure is what is raised
                self._window.fail(another)
        self._window.drain()
        self._window.say_unraised(error)
        again = "a rerun without journal_path sends these again"
        if self.settings.journal_path is not None:
            again = "by the journal, a rerun asks about it first"
        abandoned, delivered = self._window.close()
        for line in abandoned:
            logger.error("abandoned: %s; Altcraft may still complete it, and %s", line, again)
        for line in delivered:
            logger.error("%s was delivered, but its STATE could not be written to stdout", line)
        if not self.settings.dry_run:
            self.outcomes.summary.account(self._window.doubts())
        self._progress.close()

    def has_threads(self) -> bool:
        """Tell whether a worker is still in a request, after the end."""
        return self._window.has_threads()

    def say_what_became(self) -> None:
        """Log the counts of each stream, after the end in whatever way."""
        for line in self.outcomes.summary.lines():
            logger.info(line)
        for level, line in self.outcomes.summary.subscription_lines():
            logger.log(level, line)
        if self.outcomes.dry_run is not None:
            for line in self.outcomes.dry_run.table(self.outcomes.summary):
                logger.info(line)
        rejected = self.outcomes.summary.rejected()
        if rejected and self.outcomes.rejects is not None:
            ((code, number),) = rejected.most_common(1)
            logger.warning(
                "records rejected: %d, most often for '%s' (%d). They stand in %s, each with its "
                "reason; mend and replay them",
                rejected.total(),
                code,
                number,
                self.settings.rejects_path,
            )
