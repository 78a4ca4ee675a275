"""What this run has sent of a stream and has no outcome of yet."""

from __future__ import annotations

import typing as t

from target_altcraft.memory.versions import id_of, key_of

if t.TYPE_CHECKING:
    from collections.abc import Sequence


class UnderWay:
    """The versions of one stream that are in flight, so that none of them goes out a second time.

    Used by the reader's thread alone.

    Args:
        by_key: Whether the key alone names a record.
        is_counted: Whether equal records are sent as often as they come.
        sends_replays_once: Whether, all the same, a replayed reject is sent once.
    """

    def __init__(self, *, by_key: bool, is_counted: bool, sends_replays_once: bool) -> None:
        self._by_key = by_key
        self._is_counted = is_counted
        self._names: set[bytes] = set()
        self._before: set[bytes] = set()  # versions under an earlier SCHEMA of this run
        self._ids_before: set[bytes] = set()  # theirs
        self._replayed: set[bytes] | None = set() if sends_replays_once else None

    @property
    def sends_replays_once(self) -> bool:
        """Whether a replayed reject is sent once, though versions are counted."""
        return self._replayed is not None

    def add(self, version: bytes) -> None:
        """Note that a record is about to be sent."""
        self._names.add(key_of(version) if self._by_key else version)

    def add_all(self, versions: Sequence[bytes]) -> bool:
        """Note that records are about to be sent, where the version names them.

        Returns:
            False if two of them are one, or one is under way: then none is noted.
        """
        new = set(versions)
        if len(new) < len(versions) or not self._names.isdisjoint(new):
            return False
        self._names |= new
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
        if self._is_counted:
            return False
        return version in self._names

    def settle(self, versions: Sequence[bytes]) -> None:
        """Note that the outcome of these is known."""
        self._names.difference_update(map(key_of, versions) if self._by_key else versions)
        if self._before:
            self._before.difference_update(versions)
            self._ids_before = set(map(id_of, self._before))

    def clear(self) -> None:
        """Note that nothing is sent after all."""
        self._names.clear()

    def go_on_from(self, before: UnderWay) -> bool:
        """Take over what is in flight under an earlier SCHEMA; key and bookmark decide then.

        Returns:
            Whether anything is.
        """
        self._names = before._names
        if self._replayed is not None:
            self._replayed |= before._replayed or set()
        if not (self._by_key or self._is_counted):
            self._before = before._before | before._names
            self._ids_before = set(map(id_of, self._before))
        return bool(self._before)
