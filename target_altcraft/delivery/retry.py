"""Repeat a call until it is answered, the patience is over, or the run ends."""

from __future__ import annotations

import time
import typing as t

import backoff

from target_altcraft.errors import Fatal, Halted

if t.TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from target_altcraft.errors import ApiError

_T = t.TypeVar("_T")

_FIRST_SECONDS = 0.5
_LONGEST_SECONDS = 30.0
_FIRST_NOTICE_SECONDS = 30.0


def retry(
    attempt: Callable[[], _T],
    kinds: tuple[type[ApiError], ...],
    patience: float,
    halt: threading.Event,
    waiting: Callable[[ApiError, float], None] | None = None,
) -> _T:
    """Make a call again and again while it fails in one of these ways.

    The waits grow from half a second to 30 seconds, at random, unless the server says how long to
    wait. A server that keeps saying "at once" is believed once only.

    Example::

        retry(lambda: client.submit(body), (NotAccepted,), settings.retry_max_seconds, halt)

    Args:
        attempt: Makes the call once.
        kinds: The errors after which it is made again; any other is raised as it is.
        patience: Seconds from the first attempt after which no new one is made.
        halt: Set when the run is ending; it ends a wait at once.
        waiting: Called before a wait with the error and the seconds that are left: at the first
            failure, then at growing intervals (30 seconds, a minute, two, ...).

    Returns:
        What the attempt that succeeded returned.

    Raises:
        Fatal: If the patience is over; made from the last error.
        Halted: If `halt` is set; the last attempt failed in one of these ways, or none was made.
    """
    waits = backoff.expo(factor=_FIRST_SECONDS, max_value=_LONGEST_SECONDS)
    next(waits)  # backoff's generators wait for a first `send`
    started = time.monotonic()
    notice, interval, least = started, _FIRST_NOTICE_SECONDS, 0.0
    while not halt.is_set():
        try:
            return attempt()
        except kinds as error:
            now = time.monotonic()
            grown = backoff.full_jitter(next(waits))
            wait = grown
            if error.retry_after is not None:
                wait = max(error.retry_after, min(grown, least))
            if now + wait > started + patience:
                raise Fatal(
                    error.endpoint,
                    f"{error.text}; not accepted within retry_max_seconds ({patience:g})",
                    code=error.code,
                ) from error
            if waiting is not None and now >= notice:
                waiting(error, started + patience - now)
                notice, interval = now + interval, interval * 2
            least = _FIRST_SECONDS
        halt.wait(wait)
    raise Halted
