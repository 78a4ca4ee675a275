"""The pipeline's memory as a run meets it: opened, asked stream by stream, ended."""

from __future__ import annotations

import logging
import typing as t

from target_altcraft.errors import SettingsError
from target_altcraft.memory.bookmark_watch import BookmarkWatch
from target_altcraft.memory.delivered import places_bytes
from target_altcraft.memory.journal import Journal
from target_altcraft.memory.questions import NotedKeys
from target_altcraft.memory.remembered import Remembered
from target_altcraft.memory.resume import Leftovers
from target_altcraft.memory.sent import SentRequests
from target_altcraft.memory.stream import ENDED_WELL, REPLAYED, StreamMemory
from target_altcraft.origin import Kind

if t.TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from target_altcraft.memory.remembered import StreamRow
    from target_altcraft.settings import SendAgain, Settings, StreamSettings

logger = logging.getLogger(__name__)

_BY_KEY = {"changed", "never"}
_MANY = 20
"""So many known versions, and more than half of a stream's records, are worth a word."""


class Memory:
    """What the journal remembers, for one run.

    ::

        memory = Memory(settings)
        stream = memory.enter(customers, mapping, has_key=True, bookmark="updated_at")
        stream.judge(arrivals)
        memory.end_well({"customers"}, is_replay=False, covered=1200)

    The main thread enters streams and ends the run; workers write requests down (`sent`), ask for a
    stream that was entered, and note what a STATE covers. What is shared is the journal's, behind
    its lock.

    Args:
        settings: The run's settings, with a `journal_path`.
        read_only: Whether nothing may be written, as in a dry run.

    Raises:
        TargetError: If the journal cannot be used.
    """

    def __init__(self, settings: Settings, *, read_only: bool = False) -> None:
        self._settings = settings
        self._journal = Journal(t.cast("str", settings.journal_path), read_only=read_only)
        self._remembered = Remembered(self._journal)
        if not read_only:
            self._remembered.tidy()
        self.sent = SentRequests(self._journal)
        if not read_only:
            self.sent.remember_delivered()
        self.leftovers = Leftovers(self.sent, may_write=not read_only)
        self._noted = NotedKeys()
        self._streams: dict[str, StreamMemory] = {}

    def enter(
        self, stream: StreamSettings, mapping: bytes, *, has_key: bool, bookmark: str | None
    ) -> StreamMemory:
        """Return what is remembered of a stream whose SCHEMA has come.

        Args:
            stream: The stream's settings.
            mapping: Digest of how its records become entries.
            has_key: Whether it has key properties.
            bookmark: Its one bookmark column; None if there is none, or several.

        Raises:
            SettingsError: If the settings do not fit what is remembered.
        """
        how: SendAgain = stream.send_again or ("new_version" if bookmark is not None else "always")
        self._check_setting(stream.name, how, has_key=has_key)
        row = self._remembered.stream(stream.name, mapping, by_key=how in _BY_KEY)
        before = self._streams.get(stream.name)
        kind = Kind(row.mapping, how, has_key, bookmark)
        if before is not None and kind == before.kind:
            return before
        self._check_mapping(stream.name, how, row)
        self._begin_resend(stream.name, row, is_new=before is None)
        memory = StreamMemory(
            self._remembered,
            row,
            self._noted,
            stream,
            kind,
            leftovers=[left for left in self.leftovers.all if left.stream == row.id],
            boundary=None if how == "always" else self._remembered.boundary(row.id, stream),
            is_baseline=self._settings.baselines(stream.name),
            touches=self._settings.journal_keep_days is not None,
            watch=self._watch(stream.name, row) if how == "new_version" else None,
        )
        if before is not None:
            memory.go_on_from(before)
        self._streams[stream.name] = memory
        return memory

    def _watch(self, name: str, row: StreamRow) -> BookmarkWatch | None:
        if row.resend_since is not None or self._settings.baselines(name):
            return None
        greatest = row.greatest
        is_expected = greatest is not None and not self._remembered.has_ended_well_since(
            row.id, greatest
        )
        return BookmarkWatch(name, greatest, is_expected=is_expected)

    def _check_setting(self, name: str, how: SendAgain, *, has_key: bool) -> None:
        if how in _BY_KEY and not has_key:
            raise SettingsError(
                f"stream '{name}': send_again '{how}' needs key properties, and its SCHEMA names "
                "none; let the tap name them, or set send_again to new_version or always"
            )
        if self._settings.baselines(name) and how == "always":
            raise SettingsError(
                f"stream '{name}': baseline remembers what was delivered, and with send_again "
                "'always' nothing is; set send_again or bookmark_column for it, or leave it out of "
                "baseline"
            )

    def _check_mapping(self, name: str, how: SendAgain, row: StreamRow) -> None:
        ways_on = self._settings.baselines(name) or self._settings.resends(name)
        if how in _BY_KEY and row.mapping_changed and not ways_on:
            raise SettingsError(
                f"stream '{name}': its mapping (scenario, matching, stream map or columns) is not "
                f"the one that its records were delivered with, so send_again '{how}' cannot "
                "compare them. Run once with baseline to take everything that comes as delivered, "
                "or once with resend to send it all again"
            )

    def _begin_resend(self, name: str, row: StreamRow, *, is_new: bool) -> None:
        """Note from which run on what was delivered counts, if the stream is sent again."""
        if not self._settings.resends(name):
            if row.resend_since is not None and is_new:
                logger.warning(
                    "stream '%s': a resend did not end well. To go on with it, run again with "
                    "resend; this run sends only what was never delivered",
                    name,
                )
            row.resend_since = None
        elif row.resend_since is None:
            row.resend_since = self._remembered.run
            if self._remembered.may_write:
                self._remembered.begin_resend(row.id)
        elif is_new and row.resend_since < self._remembered.run:
            logger.warning(
                "stream '%s': an earlier resend did not end well; it goes on, and what it "
                "delivered is not sent again",
                name,
            )

    def stream(self, name: str) -> StreamMemory:
        """Return what is remembered of a stream that was entered."""
        return self._streams[name]

    def places(self, places: Sequence[int]) -> bytes:
        """Return run and place of records whose versions are counted."""
        return places_bytes(self._remembered.run, places)

    def was_accepted(self, name: str) -> bool:
        """Tell whether an earlier run had something of a stream accepted with the same settings."""
        return self._streams[name].row.mapping_accepted

    def cover(self, place: int) -> None:
        """Note that a STATE is about to be printed that covers the input up to a place.

        Raises:
            TargetError: If what it covers cannot be brought to disk.
        """
        self._remembered.cover(place)

    def end_well(self, read: Collection[str], *, is_replay: bool, covered: int | None) -> None:
        """End a run that went well.

        Args:
            read: Streams that the tap has read: a record came, or a STATE behind the SCHEMA.
            is_replay: Whether it replayed rejects.
            covered: The place that the last STATE covers; None if there was no STATE.

        Raises:
            TargetError: If it cannot be written.
        """
        streams = {name: self._streams[name] for name in read if name in self._streams}
        always = [
            stream.row.id
            for stream in streams.values()
            if stream.kind.send_again == "always" and not is_replay
        ]
        self._say_what_did_not_come(always)
        self._say_what_was_known(streams)
        self.leftovers.save({stream.row.id for stream in self._streams.values()})
        for name, stream in streams.items():
            if stream.kind.send_again == "new_version" and not is_replay:
                self._expire(name, stream)
            if stream.forgets_boundary():
                self._remembered.forget_boundary(stream.row.id)
        self.sent.forget_delivered(always, covered)
        self._remembered.end_well(
            REPLAYED if is_replay else ENDED_WELL,
            always,
            [] if is_replay else [s.row.id for s in streams.values() if s.row.resend_since],
            [
                stream.row.mapping
                for name, stream in streams.items()
                if self._settings.resends(name) or self._settings.baselines(name)
            ],
            covered,
        )

    def _say_what_did_not_come(self, always: Collection[int]) -> None:
        unmatched = sum(left.open() for left in self.leftovers.all if left.stream in always)
        if unmatched:
            logger.info(
                "%d profiles that an earlier run had sent did not come again; the journal forgets "
                "them",
                unmatched,
            )

    @staticmethod
    def _say_what_was_known(streams: dict[str, StreamMemory]) -> None:
        known = {
            name: stream
            for name, stream in streams.items()
            if stream.kind.send_again == "new_version"
            and (stream.watch is None or not stream.watch.knows_order)
            and stream.known_before >= _MANY
            and stream.known_before * 2 > stream.met
        }
        if known:
            logger.warning(
                "%d of %d records of %s were delivered before and not sent: was the tap's bookmark "
                "lost, or is it a full refresh? To send them again, run once with resend set to "
                "these streams",
                sum(stream.known_before for stream in known.values()),
                sum(stream.met for stream in known.values()),
                ", ".join(f"'{name}'" for name in known),
            )
        for name, stream in streams.items():
            if stream.tail_was_met:
                logger.warning(
                    "stream '%s': some records lay behind the last STATE of the last run, which "
                    "ended well; what it delivered of them was not sent again",
                    name,
                )

    def _expire(self, name: str, stream: StreamMemory) -> None:
        days = self._settings.journal_keep_days
        if days is None:
            return
        forgotten = self._remembered.expire(stream.row.id, days)
        if forgotten:
            logger.info(
                "stream '%s': %d versions were last seen more than %d days ago (journal_keep_days) "
                "and are forgotten",
                name,
                forgotten,
                days,
            )

    def close(self) -> None:
        """Let go of the file.

        Raises:
            TargetError: If what was to be written soon cannot be.
        """
        self._journal.close()
