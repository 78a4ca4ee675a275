"""What this run has sent of a stream and has no outcome of yet."""

from __future__ import annotations

import typing as t

from target_altcraft.memory.versions import id_of, key_of, parted

if t.TYPE_CHECKING:
    from collections.abc import Collection

    from target_altcraft.origin import Origins


class UnderWay:
    """The versions of one stream that are in flight, so that none of them goes out a second time.

    They stand in the batches that are not settled. Only once a record comes that may be one of them
    are they made a set, which grows and shrinks from then on. Most streams never need it.

    Used by the reader's thread alone.

    Args:
        by_key: Whether the key alone names a record.
        is_counted: Whether equal records are sent as often as they come.
        sends_replays_once: Whether, all the same, a replayed reject is sent once.
    """

    def __init__(self, *, by_key: bool, is_counted: bool, sends_replays_once: bool) -> None:
        self._by_key = by_key
        self._is_counted = is_counted
        self._batches: dict[int, Origins] = {}
        self._made: set[bytes] | None = None
        self._before: set[bytes] = set()  # versions under an earlier SCHEMA of this run
        self._ids_before: set[bytes] = set()  # theirs
        self._replayed: set[bytes] | None = set() if sends_replays_once else None

    @property
    def sends_replays_once(self) -> bool:
        """Whether a replayed reject is sent once, though versions are counted."""
        return self._replayed is not None

    @property
    def _names(self) -> set[bytes]:
        if self._made is None:
            self._made = set()
            for origins in self._batches.values():
                if not origins.kind.is_counted:
                    self._made.update(self._named(parted(origins.versions)))
        return self._made

    def _named(self, versions: Collection[bytes]) -> Collection[bytes]:
        return [key_of(version) for version in versions] if self._by_key else versions

    def opened(self, number: int, origins: Origins) -> None:
        """Take note of a batch whose entries will be under way as soon as they are in it."""
        self._batches[number] = origins

    def settled(self, number: int) -> None:
        """Note that the outcome of a batch is known."""
        origins = self._batches.pop(number)
        if self._made or self._before:
            self.settle(parted(origins.versions))

    def settle(self, versions: Collection[bytes]) -> None:
        """Note that the outcome of these is known."""
        if self._made:
            self._made.difference_update(self._named(versions))
        if self._before:
            self._before.difference_update(versions)
            self._ids_before = set(map(id_of, self._before))

    def add(self, version: bytes) -> None:
        """Note that a record is about to be sent."""
        self._names.update(self._named([version]))

    def add_all(self, versions: Collection[bytes], *, are_first: bool) -> bool:
        """Note that records are about to be sent, where the version names them.

        Args:
            versions: Theirs.
            are_first: Whether none of them can be under way.

        Returns:
            False if two of them are one, or one is under way: then none is noted.
        """
        new = set(versions)
        if len(new) < len(versions) or not (are_first or self._names.isdisjoint(new)):
            return False
        if self._made is not None:
            self._made |= new
        return True

    def decides(self, version: bytes) -> bool:
        """Tell whether the outcome of what is in flight decides about a record.

        It does where the key names it, and where its row was sent under an earlier SCHEMA: what
        that looks like under this one is told by the first record of it that comes.
        """
        if self._by_key:
            return key_of(version) in self._names
        return id_of(version) in self._ids_before

    def is_repeat(self, version: bytes, *, is_replay: bool) -> bool:
        """Tell whether this run has sent a record already that is to go out once."""
        if is_replay and self._replayed is not None:
            is_known = version in self._replayed
            self._replayed.add(version)
            return is_known
        return not self._is_counted and version in self._names

    def clear(self) -> None:
        """Note that nothing is sent after all."""
        self._made = set()

    def go_on_from(self, before: UnderWay) -> bool:
        """Take over what is in flight under an earlier SCHEMA; key and bookmark decide then.

        Returns:
            Whether anything is.
        """
        self._batches, self._made = before._batches, before._made
        if self._replayed is not None:
            self._replayed |= before._replayed or set()
        if not (self._by_key or self._is_counted):
            self._before = before._before | before._names
            self._ids_before = set(map(id_of, self._before))
        return bool(self._before)
