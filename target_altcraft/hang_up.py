"""The end of a run whose tap is still writing: the tap's complaints must not hide the cause."""

from __future__ import annotations

import os
import stat
import time
import typing as t

if t.TYPE_CHECKING:
    from target_altcraft.wakeup import Wakeup

SCROLL_PAST = (
    "the tap had not ended yet. What it, or Meltano, says of a broken pipe only follows from that: "
    "scroll past it. The cause is the next line"
)
_PATIENCE_SECONDS = 3.0
"""How long a tap may write to its end, into nothing."""
_AFTER_SIGNAL_SECONDS = 0.2
"""The same if the run was stopped: most taps got the signal too."""
_COMPLAINT_SECONDS = 1.0
"""How long a tap may take to complain of the broken pipe."""
_CHUNK_BYTES = 1 << 18


def hang_up(source: t.IO[str] | None, wakeup: Wakeup) -> bool:
    """Let the tap end before the run's last words.

    What it still writes is thrown away for a few seconds. A tap that writes on meets a broken pipe,
    and its complaint is waited for. Meltano itself stands between it and this process, and would
    complain at great length as soon as the pipe breaks: there it breaks after the last words.

    Args:
        source: Where the run read.
        wakeup: What the main thread waits on.

    Returns:
        True if somebody complains of a broken pipe, so that `SCROLL_PAST` is worth saying.
    """
    fd = _pipe_of(source)
    if fd is None or _has_ended(fd, wakeup):
        return False
    if not os.environ.get("MELTANO_PROJECT_ROOT"):
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, fd)  # not closed: the number must not be given to another file
        os.close(nothing)
        time.sleep(_COMPLAINT_SECONDS)
    return True


def _pipe_of(source: t.IO[str] | None) -> int | None:
    """Return the file descriptor of a pipe or socket, None of anything else."""
    try:
        fd = t.cast("t.IO[str]", source).fileno()
        mode = os.fstat(fd).st_mode
    except (AttributeError, OSError, ValueError):
        return None
    return fd if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None


def _has_ended(fd: int, wakeup: Wakeup) -> bool:
    """Read on into nothing; tell whether the writer has closed the pipe in time."""
    started = time.monotonic()
    try:
        while True:
            patience = _PATIENCE_SECONDS if wakeup.signum is None else _AFTER_SIGNAL_SECONDS
            left = started + patience - time.monotonic()
            if left <= 0:
                return False
            if wakeup.wait(left, fd) and not os.read(fd, _CHUNK_BYTES):
                return True
    except OSError:
        return True
