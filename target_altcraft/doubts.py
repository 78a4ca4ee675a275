"""What is done with a record that may have been accepted already: `on_ambiguous_submit`."""

from __future__ import annotations

import logging
import typing as t

from target_altcraft.errors import TaskError
from target_altcraft.messages import SENT_AGAIN, TWICE
from target_altcraft.rejects import IN_DOUBT

if t.TYPE_CHECKING:
    from collections.abc import Mapping

    from target_altcraft.memory.sent import Leftover

logger = logging.getLogger(__name__)

_WAYS_ON = (
    "look in Altcraft, then set on_ambiguous_submit to resend to send it again, or to skip to take "
    "it as delivered"
)


class Doubts:
    """Decides, by the setting, about records that an earlier run may have delivered.

    Args:
        how: Setting `on_ambiguous_submit`.
    """

    def __init__(self, how: t.Literal["resend", "fail", "skip"]) -> None:
        self._how = how

    def sends_leftover(self, leftover: Leftover) -> bool:
        """Tell whether a record that an earlier run may have sent is sent again.

        Args:
            leftover: The earlier run's request.

        Raises:
            TaskError: If `on_ambiguous_submit` is `fail`.
        """
        if self._how == "fail":
            raise TaskError(f"{leftover.doubt}. Nothing of it was sent again; {_WAYS_ON}")
        if not leftover.is_said:
            leftover.is_said = True
            then = SENT_AGAIN if self._how == "resend" else "They are taken as delivered"
            logger.warning("%s. %s", leftover.doubt, then)
        return self._how == "resend"

    def sends_replay(
        self, stream: str, rejection: Mapping[str, t.Any] | None, line_number: int
    ) -> bool:
        """Tell whether a record is sent that may be a replayed reject in doubt.

        Args:
            stream: The output stream.
            rejection: What it was rejected for; None if it is no replay.
            line_number: Where it stands in the input.

        Raises:
            TaskError: If `on_ambiguous_submit` is `fail`.
        """
        if rejection is None or rejection.get("code") != IN_DOUBT:
            return True
        doubt = (
            f"stream '{stream}': the rejected record in line {line_number} of the input may have "
            "been accepted before it was refused"
        )
        if self._how == "fail":
            raise TaskError(f"{doubt}. It was not sent again; {_WAYS_ON}")
        if self._how == "resend":
            logger.warning("%s. It is sent again, and %s", doubt, TWICE)
        else:
            logger.warning("%s. It is taken as delivered", doubt)
        return self._how == "resend"
