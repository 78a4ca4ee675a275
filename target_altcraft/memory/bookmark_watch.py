"""Whether a tap reads from before what was delivered last: its bookmark lost, or a full refresh."""

from __future__ import annotations

import logging
import typing as t

from target_altcraft.memory.versions import bookmark_of, sorts

if t.TYPE_CHECKING:
    from collections.abc import Collection, Iterable

logger = logging.getLogger(__name__)


class BookmarkWatch:
    """Looks at the versions of a stream as they come, and speaks once.

    Args:
        name: The stream.
        greatest: The greatest id that earlier runs delivered; None if there is none.
        is_expected: Whether no run has ended well since: its STATE may lie far behind.
    """

    def __init__(self, name: str, greatest: bytes | None, *, is_expected: bool) -> None:
        self.knows_order = greatest is None or sorts(greatest)
        self._name = name
        self._newest = bookmark_of(greatest) if greatest and self.knows_order else None
        self._is_expected = is_expected

    def may_speak(self, versions: Collection[bytes]) -> bool:
        """Tell whether versions are worth a look, by the least of them: a short way for most."""
        return self._newest is not None and min(versions) < self._newest

    def look(self, versions: Iterable[bytes]) -> None:
        """Say if one of these lies below the newest bookmark that was delivered."""
        newest = self._newest
        if newest is None or not any(sorts(v) and bookmark_of(v) < newest for v in versions):
            return
        self._newest = None
        if self._is_expected:
            logger.info(
                "stream '%s': the tap begins before the newest bookmark that was delivered, as it "
                "should after a run that did not end well. What was delivered is not sent again",
                self._name,
            )
            return
        logger.warning(
            "stream '%s': the tap reads from before the newest bookmark that was delivered: was "
            "its bookmark lost, or is it a full refresh? What was delivered before is not sent; "
            "what the journal does not know is sent. To send all of it again, run once with resend "
            "set to this stream",
            self._name,
        )
