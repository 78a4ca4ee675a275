"""What the main thread waits on, and everything that wakes it."""

from __future__ import annotations

import contextlib
import os
import select
import signal


class Wakeup:
    """A pipe that workers and signal handlers write to and the main thread waits on.

    A blocked read of stdin cannot be woken by a signal handler that returns, and one that raises
    could fire inside a lock; so the main thread never blocks in anything but `wait`.

    `signum` is the signal that asked the run to end, None as long as there was none.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)

    def listen_to_signals(self) -> None:
        """Have every signal ring, whichever thread the system delivers it to."""
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)

    def ring(self) -> None:
        """Wake the main thread; safe in any thread and in a signal handler."""
        with contextlib.suppress(BlockingIOError):  # full: the main thread will wake anyway
            os.write(self._writing, b"\0")

    def wait(self, timeout: float, fd: int | None = None) -> bool:
        """Wait for a ring, the time-out, or `fd` to become readable.

        Args:
            timeout: Seconds.
            fd: A file descriptor, such as stdin's.

        Returns:
            True if `fd` can be read without blocking.
        """
        poll = select.poll()
        poll.register(self._reading, select.POLLIN)
        if fd is not None:
            poll.register(fd, select.POLLIN)
        ready = dict(poll.poll(max(0.0, timeout) * 1000))
        if self._reading in ready:
            os.read(self._reading, 4096)
        return fd is not None and fd in ready

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._reading)
        os.close(self._writing)
