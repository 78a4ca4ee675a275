"""One stream of the input, judged by what the journal remembers of it."""

from __future__ import annotations

import typing as t

from target_altcraft.memory import format1
from target_altcraft.memory.delivered import place_bytes, run_of
from target_altcraft.memory.judgement import DELIVERED_BEFORE, SEND, Judgement, Verdict
from target_altcraft.memory.questions import Questions
from target_altcraft.memory.remembered import is_newest
from target_altcraft.memory.resume import StreamLeftovers
from target_altcraft.memory.under_way import UnderWay
from target_altcraft.memory.versions import (
    SETTLED,
    entry_of,
    id_of,
    key_of,
    source_digest,
)

if t.TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from target_altcraft.memory.bookmark_watch import BookmarkWatch
    from target_altcraft.memory.judgement import Arrival, Arrivals
    from target_altcraft.memory.questions import NotedKeys
    from target_altcraft.memory.remembered import Known, Remembered, StreamRow
    from target_altcraft.memory.sent import Leftover
    from target_altcraft.origin import Kind, Origin
    from target_altcraft.settings import StreamSettings

ENDED_WELL, REPLAYED = 1, 2
"""How an earlier run ended: it read the tap to its end, or it replayed rejects."""


class StreamMemory:
    """What is remembered of one stream, and what follows for the records that come.

    Used by the reader's thread; workers only note what was rejected. `met` counts the records that
    came, `known_before` those that were delivered before. `needs_records` tells whether it can only
    judge records that are at hand. `under_way` is what this run has sent.

    Args:
        remembered: The journal's versions.
        row: What it knows of the stream.
        noted: The keys that this run has met, of all streams.
        settings: The stream's settings.
        kind: Of its records.
        leftovers: What earlier runs left of the stream.
        boundary: What format 1 knew of its greatest bookmark.
        is_baseline: Whether everything that comes is taken as delivered.
        touches: Whether it is to be noted that a version was met again.
        watch: Looks whether the tap reads from before the newest bookmark.
    """

    def __init__(  # noqa: PLR0913 - what is known of a stream
        self,
        remembered: Remembered,
        row: StreamRow,
        noted: NotedKeys,
        settings: StreamSettings,
        kind: Kind,
        *,
        leftovers: Sequence[Leftover] = (),
        boundary: format1.Boundary | None = None,
        is_baseline: bool = False,
        touches: bool = False,
        watch: BookmarkWatch | None = None,
    ) -> None:
        self.row = row
        self.kind = kind
        self.by_key = kind.send_again in {"changed", "never"}
        self.is_counted = kind.is_counted
        self.known_before = 0
        self.met = 0
        self.tail_was_met = False
        self.watch = watch
        self._remembered = remembered
        self._questions = Questions(row.greatest, noted, by_key=self.by_key)
        self._settings = settings
        since = row.resend_since or 0  # a resend sends again what was done before it began
        self._leftovers = StreamLeftovers(
            [left for left in leftovers if left.is_doubtful or left.run >= since],
            row.mapping,
            by_key=self.by_key,
            is_counted=self.is_counted,
        )
        self._boundary = boundary
        self._is_baseline = is_baseline
        self._touches = touches or self.is_counted
        self._greatest = row.greatest
        self.under_way = UnderWay(
            by_key=self.by_key,
            is_counted=self.is_counted,
            sends_replays_once=kind.send_again == "always" and kind.has_key,
        )
        self._used: set[tuple[bytes, bytes, bytes]] = set()  # until it is written down
        self._adopted: dict[bytes, tuple[Known, bytes]] = {}  # by id, with its new entry
        has_boundary = boundary is not None
        self._has_particulars = bool(self.by_key or self._leftovers or has_boundary or is_baseline)
        self._may_repeat = not (
            self._has_particulars or self._touches or row.resend_since is not None
        )
        self._repeats = False  # whether all of the last lot was delivered before
        self.needs_records = has_boundary or row.has_rejected

    # Judging

    def judge(self, arrivals: Arrivals) -> list[Judgement]:
        """Return what is to become of each record, in their order."""
        versions = arrivals.versions
        self.met += len(arrivals)
        if self.watch is not None and self.watch.may_speak(versions):
            each = zip(versions, arrivals.rejections, strict=True)
            self.watch.look(version for version, rejection in each if rejection is None)
        if self._repeats and self._remembered.are_delivered(
            self.row.id, self.row.mapping, versions
        ):
            self.known_before += len(arrivals)
            return [DELIVERED_BEFORE] * len(arrivals)
        asked = self._questions.about(versions)
        known, rejected = self._look_up(versions, asked), self._rejected(versions)
        has_replays = arrivals.rejections.count(None) < len(arrivals)
        if not (known or rejected or has_replays) and self._are_new(versions, are_first=not asked):
            self._repeats = False
            return [SEND] * len(arrivals)
        return self._judge_each(arrivals.each(), known, rejected)

    def judge_again(self, arrival: Arrival) -> Judgement:
        """Return what is to become of a record, once the outcome that decides about it is known."""
        version = [arrival.version]
        known = self._look_up(version, self._questions.about(version))
        return self._judge_each([arrival], known, self._rejected(version))[0]

    def _judge_each(
        self,
        arrivals: Sequence[Arrival],
        known: Mapping[int, Sequence[Known]],
        rejected: Mapping[int, Collection[tuple[bytes, int]]],
    ) -> list[Judgement]:
        if self._remembered.may_write:
            self._used.clear()
            self._adopted.clear()
        met: list[tuple[Arrival, Known, Judgement]] = []
        judgements = []
        for position, arrival in enumerate(arrivals):
            match = self._match(arrival, known[position]) if position in known else None
            judgement = self._judge(
                arrival, match, known.get(position, ()), rejected.get(position, ())
            )
            judgements.append(judgement)
            if match is not None and judgement.verdict not in {Verdict.SEND, Verdict.WAIT}:
                met.append((arrival, match, judgement))
        has_adopted = self._note_met(met)
        self._take_baseline(arrivals, judgements)
        self._repeats = (
            self._may_repeat
            and not has_adopted
            and judgements.count(DELIVERED_BEFORE) == len(judgements)
        )
        return judgements

    def _note_met(self, met: Sequence[tuple[Arrival, Known, Judgement]]) -> bool:
        """Note that delivered versions came again, and what they look like under a new mapping.

        Returns:
            Whether some were delivered under another mapping.
        """
        seen: list[tuple[bytes, Known, bytes]] = []
        adopted: list[tuple[bytes, Known, bytes]] = []
        moved: dict[tuple[int, int], Leftover] = {}  # which owe receipts, by their copies' places
        for arrival, match, judgement in met:
            version = arrival.version
            if match.mapping != self.row.mapping and not self.is_counted:
                adopted.append((self._stored_id(version), match, entry_of(version)))
            elif self._touches and match.run < self._remembered.run:
                copy = self._copy_of(match, arrival.place)
                seen.append((self._stored_id(version), match, copy))
                for leftover, position in judgement.received if copy != match.copy else ():
                    leftover.move(position, copy)
                    moved[leftover.run, leftover.number] = leftover
        if self._remembered.may_write and seen:
            self._remembered.meet(self.row.id, seen, moved.values())
        if self._remembered.may_write and adopted:
            self._remembered.adopt(self.row.id, self.row.mapping, adopted)
        return bool(adopted)

    def _are_new(self, versions: Sequence[bytes], *, are_first: bool) -> bool:
        """Note that a whole lot is about to be sent, if nothing at all is known of it."""
        if self._has_particulars:
            return False
        if self.is_counted:
            return True
        return self.under_way.add_all(versions, are_first=are_first)

    def _look_up(self, versions: Sequence[bytes], asked: Sequence[int]) -> dict[int, list[Known]]:
        """Return what was delivered of the keys and bookmarks of those asked for, by position."""
        if not asked:
            return {}
        found = self._remembered.known(
            self.row.id, [versions[position] for position in asked], by_key=self.by_key
        )
        return {asked[position]: known for position, known in found.items()}

    def _match(self, arrival: Arrival, known: Sequence[Known]) -> Known | None:
        """Return the delivered version that a record repeats, None if there is none.

        Under another mapping the first record of an id stands for all that was delivered of it.
        """
        id_, entry = self._stored_id(arrival.version), entry_of(arrival.version)
        adopted, adopted_as = self._adopted.get(id_, (None, b""))
        is_adopted = adopted is not None or is_newest(self.row.mapping, known)
        best: Known | None = None
        for each in known:
            if self.row.resend_since is not None and each.run < self.row.resend_since:
                continue
            is_other = each.mapping != self.row.mapping
            is_equal = (adopted_as if each == adopted else each.entry) == entry
            is_same = is_equal or (is_other and (self.is_counted or not is_adopted))
            if not is_same and self.kind.send_again != "never":
                continue
            if self.is_counted and not self._is_free(arrival, each):
                continue
            if best is None or is_equal:
                best = each
        if best is not None and self.is_counted:
            self._used.add((id_, best.entry, best.copy))
        elif best is not None and best.mapping != self.row.mapping:
            self._adopted[id_] = best, entry
        return best

    def _is_free(self, arrival: Arrival, known: Known) -> bool:
        """Tell whether a counted version may still stand for a record of this run."""
        if arrival.rejection is not None and self.under_way.sends_replays_once:
            return True
        is_used = (id_of(arrival.version), known.entry, known.copy) in self._used
        if is_used or known.run >= self._remembered.run:
            return False
        if self.kind.send_again != "always":
            return True
        how = self._remembered.ended(run_of(known.copy))
        self.tail_was_met |= how == ENDED_WELL
        return how != REPLAYED or arrival.rejection is not None

    def _copy_of(self, known: Known, place: int) -> bytes:
        """Return where a version that is met again counts as delivered.

        What a run that did not end well delivered counts as this run's, at the place where it came:
        should this run end well, it may lie behind its last STATE.
        """
        if self.kind.send_again != "always" or self._remembered.ended(run_of(known.copy)) != 0:
            return known.copy
        return self._copy(place)

    def _judge(
        self,
        arrival: Arrival,
        match: Known | None,
        known: Sequence[Known],
        rejected: Collection[tuple[bytes, int]],
    ) -> Judgement:
        if self.under_way.decides(arrival.version):
            return Judgement(Verdict.WAIT)
        received: tuple[tuple[Leftover, int], ...] = ()
        if self._leftovers and self.is_counted and match is not None:
            received = self._received_copy(arrival, match)
        elif self._leftovers and not self.under_way.is_repeat(arrival.version, is_replay=False):
            judgement = self._judge_leftovers(arrival, match, known)
            if judgement.verdict is not Verdict.SEND:
                return judgement
            received = judgement.received
        verdict = self._verdict(arrival, match, rejected)
        if verdict is Verdict.DELIVERED_BEFORE and not received:
            return DELIVERED_BEFORE
        return Judgement(verdict, received=received)

    def _verdict(
        self, arrival: Arrival, match: Known | None, rejected: Collection[tuple[bytes, int]]
    ) -> Verdict:
        """Return what is to become of a record that no leftover is about."""
        if match is not None:
            self.known_before += 1
            return (
                Verdict.NOT_CHANGED
                if self.kind.send_again == "changed"
                else Verdict.DELIVERED_BEFORE
            )
        record = arrival.record or {}
        if self._boundary is not None and self._boundary.knows(record, arrival.version):
            self.known_before += 1
            self.take_as_delivered([arrival])
            return Verdict.DELIVERED_BEFORE
        if arrival.rejection is None and self._is_among(rejected, record):
            return Verdict.REJECTED_BEFORE
        version = arrival.version
        if self.under_way.is_repeat(version, is_replay=arrival.rejection is not None):
            self.known_before += 1
            return Verdict.DELIVERED_BEFORE
        self._sending(version)
        return Verdict.SEND

    def _judge_leftovers(
        self, arrival: Arrival, match: Known | None, known: Sequence[Known]
    ) -> Judgement:
        """Judge a record of which no copy is under way by what an earlier run left of it.

        Returns:
            `SEND` if that settles nothing.
        """
        received: list[tuple[Leftover, int]] = []
        old = self._old_version(arrival)
        while found := self._leftovers.take(arrival.version, old):
            leftover, position = found
            is_same = self.is_about(leftover, position, arrival)
            is_newer = any(each.run > leftover.run for each in known)
            is_known = is_newer if self.by_key else match is not None
            if leftover.is_doubtful and (is_same or match is not None) and not is_known:
                self._sending(arrival.version)
                return Judgement(Verdict.DOUBT, leftover, position, tuple(received))
            leftover.versions[position] = SETTLED
            if leftover.is_doubtful:
                continue  # it was delivered since, or the row is another one now
            if position not in leftover.faults:
                received.append((leftover, position))
                if is_same and match is None:
                    self.known_before += 1
                    if not (self.by_key and is_newer):  # that is the key's last version
                        self.take_as_delivered([arrival])
                    return Judgement(Verdict.DELIVERED_BEFORE, received=tuple(received))
            elif is_same:
                return Judgement(Verdict.FAULT, leftover, position, tuple(received))
        return Judgement(Verdict.SEND, received=tuple(received))

    def _received_copy(self, arrival: Arrival, match: Known) -> tuple[tuple[Leftover, int], ...]:
        """Settle what earlier runs left of the very copy that a counted record repeats."""
        old = self._old_version(arrival)
        self._leftovers.settle_doubt(arrival.version, old, run_of(match.copy))
        found = self._leftovers.take_copy(match.copy)
        if found is None:
            return ()
        leftover, position = found
        leftover.versions[position] = SETTLED
        return (found,)

    def _old_version(self, arrival: Arrival) -> bytes:
        """Return a record's version as format 1 knew it, if anything was carried over."""
        if not self._leftovers.has_old:
            return b""
        return format1.version(self._settings, arrival.entry.body)

    def is_about(self, leftover: Leftover, position: int, arrival: Arrival) -> bool:
        """Tell whether a leftover, found by its key, is about a record as it is now."""
        return (
            not self.by_key
            or leftover.mapping != self.row.mapping
            or self.kind.send_again == "never"
            or entry_of(leftover.versions[position]) == entry_of(arrival.version)
        )

    def _take_baseline(self, arrivals: Sequence[Arrival], judgements: list[Judgement]) -> None:
        if not self._is_baseline:
            return
        taken = []
        for position, judgement in enumerate(judgements):
            if judgement.verdict in {Verdict.SEND, Verdict.DOUBT, Verdict.WAIT}:
                taken.append(arrivals[position])
                judgements[position] = Judgement(Verdict.BASELINE)
                if judgement.leftover is not None:
                    judgement.leftover.versions[judgement.position] = SETTLED
        self.under_way.clear()
        self.take_as_delivered(taken)

    # What this run does

    def take_as_delivered(self, arrivals: Sequence[Arrival]) -> None:
        """Remember records as delivered, though this run does not send them."""
        if not arrivals or not self._remembered.may_write:
            return
        versions = [arrival.version for arrival in arrivals]
        if self.by_key:  # one version a key: the last one
            versions = list({key_of(version): version for version in versions}.values())
        places = b"".join(self._copy(a.place) for a in arrivals) if self.is_counted else b""
        self._remembered.remember(
            self.row.id, self.row.mapping, b"".join(versions), places, by_key=self.by_key
        )
        self._note_greatest(max(versions))

    def take_leftover_as_delivered(self, version: bytes, mapping: int) -> None:
        """Remember as delivered what an earlier run may have sent of a key."""
        if self._remembered.may_write:
            self._remembered.remember(self.row.id, mapping, version, b"", by_key=self.by_key)

    def _sending(self, version: bytes) -> None:
        """Note that a record is about to be sent."""
        if self.is_counted:
            return
        self.under_way.add(version)
        self._note_greatest(version)

    def _note_greatest(self, version: bytes) -> None:
        """Note how far this run has come, where that tells when the boundary can be forgotten."""
        if self._boundary is not None:
            self._greatest = max(self._greatest or b"", id_of(version))

    def forgets_boundary(self) -> bool:
        """Tell whether what format 1 knew of the greatest bookmark is not needed any more."""
        return self._boundary is not None and self._boundary.is_done(self._greatest)

    def go_on_from(self, before: StreamMemory) -> None:
        """Take over what this run did under an earlier SCHEMA of the stream."""
        self.known_before, self.met = before.known_before, before.met
        self.tail_was_met = before.tail_was_met
        self.watch = before.watch or self.watch
        self._has_particulars |= self.under_way.go_on_from(before.under_way)
        self._questions.go_on_from(before._questions)
        self._greatest = max(filter(None, (self._greatest, before._greatest)), default=None)

    def was_rejected_before(self, version: bytes, record: Mapping[str, t.Any]) -> bool:
        """Tell whether a record was rejected before, just as it is; a resend tries it anew."""
        return self._is_among(self._rejected([version]).get(0, ()), record)

    def _rejected(self, versions: Sequence[bytes]) -> dict[int, set[tuple[bytes, int]]]:
        """Return by position what was rejected before of the rows that versions are of."""
        if not self.row.has_rejected or self.row.resend_since is not None:
            return {}
        return self._remembered.rejected(self.row.id, versions)

    def _is_among(
        self, rejected: Collection[tuple[bytes, int]], record: Mapping[str, t.Any]
    ) -> bool:
        if not rejected:
            return False
        try:
            return (source_digest(record, self.kind.bookmark), self.row.mapping) in rejected
        except RecursionError:  # nested too deeply to have been remembered
            return False

    def remember_rejected(self, origin: Origin, record: Mapping[str, t.Any]) -> None:
        """Note a rejected record, so that it is not rejected anew every night."""
        if origin.kind.send_again == "new_version" and self._remembered.may_write:
            id_ = id_of(origin.version)
            source = source_digest(record, origin.kind.bookmark)
            self._remembered.reject(self.row.id, origin.kind.mapping, id_, source, origin.place)

    def _copy(self, place: int) -> bytes:
        return place_bytes(self._remembered.run, place) if self.is_counted else b""

    def _stored_id(self, version: bytes) -> bytes:
        return bytes(8) + key_of(version) if self.by_key else id_of(version)
