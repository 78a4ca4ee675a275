"""What the workers of a run share beside their work."""

from __future__ import annotations

import threading
import typing as t
from dataclasses import dataclass, field

from target_altcraft.delivery.polling import UnknownStates
from target_altcraft.delivery.retry import Notices

if t.TYPE_CHECKING:
    from target_altcraft.delivery.first_wait import FirstWait


@dataclass(frozen=True, slots=True)
class Shared:
    """When the workers of a run stop, and what one of them has said or learned for all.

    `halt` is set when nothing more is to be submitted, `abandon` when no task is waited for any
    more.
    """

    first_wait: FirstWait
    halt: threading.Event = field(default_factory=threading.Event)
    abandon: threading.Event = field(default_factory=threading.Event)
    notices: Notices = field(default_factory=Notices)
    unknown_states: UnknownStates = field(default_factory=UnknownStates)
