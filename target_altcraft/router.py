"""What becomes of a record: it is skipped, rejected, or an entry in a batch.

With a journal, records are judged in lots: the journal is asked about a whole lot at once. A STATE
that comes among them keeps its place.
"""

from __future__ import annotations

import contextlib
import logging
import typing as t
from collections import deque
from functools import partial

import msgspec

from target_altcraft import undeliverable
from target_altcraft.doubts import Doubts
from target_altcraft.errors import Rejection, SettingsError
from target_altcraft.lot import Lot
from target_altcraft.memory.judgement import DELIVERED_BEFORE, SEND, Arrivals, Verdict
from target_altcraft.memory.versions import ENTRY_BYTES, SETTLED
from target_altcraft.named_columns import NamedColumns, columns_of
from target_altcraft.origin import NO_ORIGIN, Origin
from target_altcraft.rejects import rejection_of
from target_altcraft.replays import Replays
from target_altcraft.route import make_route, marks_deleted
from target_altcraft.summary import DELETED, DROPPED
from target_altcraft.unmarked import UnmarkedStreams

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from target_altcraft.batch import Batch, OpenBatches
    from target_altcraft.checkpoint import Checkpoints
    from target_altcraft.memory.judgement import Arrival, Judgement
    from target_altcraft.memory.sent import Leftover
    from target_altcraft.memory.stream import StreamMemory
    from target_altcraft.outcomes import Outcomes
    from target_altcraft.profile import Entry
    from target_altcraft.route import Output, Route
    from target_altcraft.settings import Settings, StreamSettings

logger = logging.getLogger(__name__)

_JUDGED_EVERY = 1000
"""After so many records the streams are judged by what was rejected of them."""
TAKEN_AS_DELIVERED = "in doubt, taken as delivered"


class Input(t.Protocol):
    """What is read: the line that is being handled, and its number."""

    line: bytes
    line_number: int


class Router:
    """Decides what becomes of each record of the input.

    Used by the reader's thread alone, save for `batch_settled`. `place` counts the records of the
    input.

    Args:
        settings: The run's settings.
        outcomes: Where it is written down what becomes of records.
        batches: Where records go that are to be sent.
        checkpoints: Where each STATE goes.
        input_: Tells the line that is being handled.
        check_scenario: Called before the first record of a stream is batched.
        wait: Called to wait until something has happened.
    """

    def __init__(  # noqa: PLR0913 - what is beside the road
        self,
        settings: Settings,
        outcomes: Outcomes,
        batches: OpenBatches,
        checkpoints: Checkpoints,
        *,
        input_: Input,
        check_scenario: Callable[[StreamSettings], None],
        wait: Callable[[], None],
    ) -> None:
        self.place = 0
        self.streams_seen: set[str] = set()
        self._seen_before_state: set[str] = set()
        self.saw_replays = self.saw_records = False
        self._settings = settings
        self._outcomes = outcomes
        self._summary = outcomes.summary
        self._batches = batches
        self._checkpoints = checkpoints
        self._input = input_
        self._check_scenario = check_scenario
        self._doubts = Doubts(settings.on_ambiguous_submit)
        self._wait = wait
        self._routes: dict[str, list[Route]] = {}
        self._checked: set[str] = set()
        self._replays = Replays(self._summary)
        self._unmarked = UnmarkedStreams()
        self.named_columns = NamedColumns(settings.top_level, settings.streams)
        self._lot = Lot()
        self._is_due = False  # whether the lot is to be judged at the record's end
        self._sources: dict[str, str] = {}  # by output stream
        self._settled: deque[Batch] = deque()
        self._keeps_message = outcomes.rejects is not None
        self._keeps_keys = outcomes.receipts is not None
        self._keeps_origins = self._keeps_message or self._keeps_keys

    # SCHEMA

    def enter(self, tap_stream: str, outputs: Sequence[Output]) -> None:
        """Take a SCHEMA: what its records become from here on.

        Raises:
            SettingsError: If an output stream's settings are not complete, or do not fit what the
                journal remembers.
        """
        self.judge_lot()
        self._routes[tap_stream] = [self._route(tap_stream, output) for output in outputs]
        if self._outcomes.rejects is not None:
            self._outcomes.rejects.schema(tap_stream, self._input.line)

    def streams_read(self) -> set[str]:
        """Return the output streams that the tap has read: a record came, or a STATE behind them.

        A SCHEMA alone may be all that a tap wrote before it died.
        """
        return self._seen_before_state | {n for n in self.streams_seen if self._summary.read[n]}

    @property
    def tap_streams(self) -> set[str]:
        """The tap's streams whose SCHEMA came."""
        return set(self._routes)

    def _route(self, tap_stream: str, output: Output) -> Route:
        memory = self._outcomes.memory
        route = make_route(output, self._settings, memory, has_receipts=self._keeps_keys)
        source = self._sources.setdefault(output.name, tap_stream)
        if route.memory is not None and source != tap_stream:
            raise SettingsError(
                f"stream_maps: '{source}' and '{tap_stream}' are both mapped to stream "
                f"'{output.name}'. With journal_path each output stream comes from one stream of "
                "the tap, for equal keys would be taken for one record: give them different "
                "__alias__es, and the same workflow_id"
            )
        self.streams_seen.add(output.name)
        self.named_columns.look(output.name, columns_of(output.schema))
        is_unmarked = route.kind.bookmark is None and route.settings.send_again is None
        if route.memory is not None and is_unmarked:
            self._unmarked.add(tap_stream, output.name)
        return route

    # RECORD

    def record(
        self,
        tap_stream: str,
        record: dict[str, t.Any],
        message: Mapping[str, t.Any],
        line: Callable[[], bytes] | None = None,
    ) -> None:
        """Bring one record on its way, once for each stream it is mapped to.

        Args:
            tap_stream: The tap's name of its stream.
            record: As the tap sent it.
            message: The RECORD message; that of a replayed reject says which stream it is for.
            line: Returns the message as a line, if that is not the input's line.

        Raises:
            UndeliverableRecord: If it cannot be delivered and there is no rejects file, or if it is
                no record of a known stream.
            TargetError: If the run must end.
        """
        self.place += 1
        try:
            routes = self._routes[tap_stream]
        except (KeyError, TypeError):
            raise undeliverable.without_schema(tap_stream, self._input.line_number) from None
        if not isinstance(record, dict):
            raise undeliverable.not_an_object(tap_stream, self._input.line_number)
        rejection = rejection_of(message) if "rejection" in message else None
        if rejection is not None:
            self.saw_replays = True
            routes = self._replays.routes(routes, rejection)
        else:
            self.saw_records = True
            if not routes:
                self._summary.read[tap_stream] += 1
                self._summary.skip(tap_stream, DROPPED)
        is_deleted = record.get("_sdc_deleted_at") is not None
        for route in routes:
            self._summary.read[route.name] += 1
            column = route.deleted_column
            if is_deleted or (column is not None and marks_deleted(record.get(column))):
                self._summary.skip(route.name, DELETED)
                continue
            try:
                self._take(route, record, rejection, line)
            except Rejection as fault:
                self._reject(route, record, fault, line, is_replay=rejection is not None)
            except RecursionError:
                deep = Rejection("not_json", "it is nested too deeply")
                self._set_aside(route, Origin(self._message(line)), deep, self._input.line_number)
        if self._is_due or self.place % _JUDGED_EVERY == 0:
            self._judge_what_is_due()

    def _judge_what_is_due(self) -> None:
        """Judge a full lot, and the streams; at a record's end, lest an error be taken for its."""
        self.judge_lot()
        if self.place % _JUDGED_EVERY == 0:
            self._outcomes.brakes.judge_all()

    def _take(
        self,
        route: Route,
        record: dict[str, t.Any],
        rejection: Mapping[str, t.Any] | None,
        line: Callable[[], bytes] | None,
    ) -> None:
        """Map and serialise a record; send it, or let it wait for the journal's word.

        Raises:
            Rejection: If it cannot be delivered.
        """
        mapped = record if route.transform is None else route.transform(record)
        if mapped is None:
            self._summary.skip(route.name, DROPPED)
            return
        route.check(mapped)
        entry = route.plan.entry(mapped)
        memory = route.memory
        if memory is None and rejection is None and not self._keeps_origins:
            self._send(route, entry, NO_ORIGIN, self._input.line_number)
            return
        number = self._input.line_number
        text = self._input.line if line is None else line()
        message = text if self._keeps_message else b""
        keys = route.keys
        if memory is None:
            if not self._doubts.sends_replay(route.name, rejection, number):
                self._summary.skip(route.name, TAKEN_AS_DELIVERED)
                return
            key = b"" if keys is None else keys.write_one(mapped)
            origin = Origin(message, key) if self._keeps_origins else NO_ORIGIN
            self._send(route, entry, origin, number)
            return
        maker = route.versions
        column = maker.key_column
        waiting = (
            maker.key(record) if column is None else record.get(column),  # a call less
            record.get(maker.bookmark_column),
            None if keys is None else keys.key(mapped),
            record if memory.needs_records else None,
            entry,
            message,
            self.place,
            number,
            rejection,
        )
        size = len(entry.body) + len(text)  # the record itself may wait with it
        self._is_due |= self._lot.add(route, waiting, size)

    def _send_arrival(self, route: Route, arrival: Arrival) -> None:
        """Send a record that the journal lets pass."""
        self._send(route, arrival.entry, arrival.origin(route.kind), arrival.line_number)

    def _send_all(self, route: Route, arrivals: Arrivals, first: int, last: int) -> int:
        """Send records that the journal lets pass, all of one stream, while it needs no decision.

        Returns:
            How many were sent, from the first one on.
        """
        number = self._batches.add_all(route.settings, route.kind, arrivals, first, last)
        subscribed = sum([each.subscribed for each in arrivals.entries[first : first + number]])
        self._summary.subscribed[route.name] += subscribed
        return number

    def _send(self, route: Route, entry: Entry, origin: Origin, line_number: int) -> None:
        """Put an entry into its stream's batch; set it aside if no request could hold it."""
        if route.name not in self._checked:
            self._checked.add(route.name)
            self._check_scenario(route.settings)
        try:
            self._batches.add(route.settings, entry, origin)
        except Rejection as rejection:
            self._set_aside(route, origin, rejection, line_number)
            if route.memory is not None:
                route.memory.under_way.settle([origin.version])
            return
        if entry.subscribed:
            self._summary.subscribed[route.name] += 1

    def _message(self, line: Callable[[], bytes] | None) -> bytes:
        """Return the RECORD message as the rejects file wants it."""
        return self._input.line if line is None else line()

    # STATE

    def state(self, value: t.Any, text: bytes) -> None:  # noqa: ANN401 - whatever the tap says
        """Take a STATE, and its JSON: that goes out once all records before it are settled."""
        self._unmarked.look(value)
        if len(self._seen_before_state) < len(self.streams_seen):
            self._seen_before_state = self.streams_seen.copy()
        if self._lot.waiting:
            if self._lot.add_state(text, self.place):
                self.judge_lot()
        else:
            self._outcomes.brakes.judge_all()
            self._checkpoints.add(text, self.place)

    # The journal's word

    def batch_settled(self, batch: Batch) -> None:
        """Note that a batch is settled; called by workers."""
        if self._outcomes.memory is not None:
            self._settled.append(batch)

    def judge_lot(self) -> None:
        """Ask the journal about the records that wait, and do what it says."""
        if not self._lot.waiting:
            return
        lot, self._lot, self._is_due = self._lot, Lot(), False
        routes, states = lot.routes, lot.states
        self._collect_settled()
        arrivals, judgements = lot.judged(self._summary)
        is_plain = not self.saw_replays and judgements.count(SEND) == len(arrivals)
        plain = arrivals if is_plain and isinstance(arrivals, Arrivals) else None
        position = 0
        try:
            for behind, state in (*((each.behind, each) for each in states), (len(arrivals), None)):
                if judgements[position:behind].count(DELIVERED_BEFORE) < behind - position:
                    self._checkpoints.emit()  # what comes may have to wait
                while position < behind:
                    if plain and (sent := self._send_all(routes[0], plain, position, behind)):
                        position += sent
                        continue
                    route, arrival = routes[position], arrivals[position]
                    judgement = judgements[position]
                    if judgement is SEND and arrival.rejection is None:
                        self._send_arrival(route, arrival)
                    elif judgement is not DELIVERED_BEFORE:
                        self._follow(route, arrival, judgement)
                    position += 1
                self._outcomes.write_received()
                if state is not None:
                    self._outcomes.brakes.judge_all(partial(lot.later, state))
                    self._checkpoints.note(state.text, state.place)
        except Exception:
            left = zip(routes[position:], judgements[position:], strict=True)
            self._outcomes.count_left((route.name, judgement) for route, judgement in left)
            raise
        finally:
            self._checkpoints.emit()

    def _collect_settled(self) -> None:
        memory = self._outcomes.memory
        while self._settled and memory is not None:
            batch = self._settled.popleft()
            memory.stream(batch.stream.name).under_way.settled(batch.number)

    def _follow(self, route: Route, arrival: Arrival, judgement: Judgement) -> None:
        """Do what a judgement says."""
        memory = t.cast("StreamMemory", route.memory)
        origin = arrival.origin(route.kind)
        while judgement.verdict is Verdict.WAIT:
            self._batches.close(route.name)
            self._collect_settled()
            while memory.under_way.decides(origin.version):
                self._wait()
                self._collect_settled()
            judgement = memory.judge_again(arrival)
        for leftover, position in judgement.received:
            self._outcomes.receive_leftover(route.settings, origin, leftover, position)
        if judgement.verdict in {Verdict.SEND, Verdict.DOUBT}:
            self._send_judged(route, arrival, judgement)
        elif judgement.verdict is Verdict.FAULT:
            leftover = t.cast("Leftover", judgement.leftover)
            self._outcomes.reject_leftover(route.settings, origin, leftover, judgement.position)
        elif judgement.verdict is Verdict.REJECTED_BEFORE:
            self._count_rejected_before(route, arrival.line_number)
        else:
            self._summary.skip(route.name, judgement.verdict.value)

    def _send_judged(self, route: Route, arrival: Arrival, judgement: Judgement) -> None:
        """Send a record, unless it is in doubt and the settings say otherwise."""
        memory = t.cast("StreamMemory", route.memory)
        leftover, position = judgement.leftover, judgement.position
        if leftover is not None:
            sends = self._doubts.sends_leftover(leftover)
            is_about = memory.is_about(leftover, position, arrival)
            doubted, leftover.versions[position] = leftover.versions[position], SETTLED
            if not sends and not is_about:  # what is taken as delivered is an earlier version
                memory.take_leftover_as_delivered(doubted, leftover.mapping)
                memory.under_way.settle([arrival.version])
                self._follow(route, arrival, memory.judge_again(arrival))
                return
        else:
            sends = self._doubts.sends_replay(route.name, arrival.rejection, arrival.line_number)
        if sends:
            self._send_arrival(route, arrival)
            return
        memory.take_as_delivered([arrival])
        self._summary.skip(route.name, TAKEN_AS_DELIVERED)
        memory.under_way.settle([arrival.version])

    # Rejects

    def _reject(
        self,
        route: Route,
        record: Mapping[str, t.Any],
        rejection: Rejection,
        line: Callable[[], bytes] | None,
        *,
        is_replay: bool,
    ) -> None:
        """Set a record aside that did not become an entry."""
        origin = Origin(self._message(line), place=self.place)
        if route.memory is not None:
            with contextlib.suppress(RecursionError):  # too deep for a digest: rejected anew, then
                maker = route.versions
                (id_,) = maker.ids([maker.key(record)], [record.get(maker.bookmark_column)])
                version = id_ + bytes(ENTRY_BYTES)  # there is no entry
                if not is_replay and route.memory.was_rejected_before(version, record):
                    self._count_rejected_before(route, self._input.line_number)
                    return
                origin = msgspec.structs.replace(origin, version=version, kind=route.kind)
        self._set_aside(route, origin, rejection, self._input.line_number)

    def _set_aside(
        self, route: Route, origin: Origin, rejection: Rejection, line_number: int
    ) -> None:
        if self._settings.rejects_path is None:
            raise undeliverable.rejected(route.name, line_number, rejection)
        self._outcomes.reject(route.settings, origin, rejection)
        self._lot.note_rejected(route.name, self.place)

    def _count_rejected_before(self, route: Route, line_number: int) -> None:
        """Count a record that an earlier run rejected; every brake counts it as rejected.

        Raises:
            TargetError: If there are too many, or there is no rejects file any more.
        """
        if self._settings.rejects_path is None:
            raise undeliverable.rejected_before(route.name, line_number)
        self._outcomes.count_rejected_before(route.name)
        self._lot.note_rejected(route.name, self.place)
