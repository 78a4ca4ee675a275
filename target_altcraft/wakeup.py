"""What the main thread waits on, and everything that wakes it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time

_ALARM_SLACK_SECONDS = 5.0
_SIGNAL_EXIT = 128
_ONE_WISH_SECONDS = 0.5


class Wakeup:
    """A pipe that workers and signal handlers write to and the main thread waits on.

    A blocked read of stdin cannot be woken by a signal handler that returns, and one that raises
    could fire inside a lock; so the main thread never blocks in anything but `wait`.

    The pipe is opened by the first `wait` or `listen_to_signals`, and closed by `close`; a ring
    while there is none is kept for the next `wait`. The lock guards the pipe: a ring must not go to
    a file that another thread has opened since the pipe was closed. It is reentrant, for a signal
    handler may ring while the main thread holds it.

    `signum` is the signal that asked the run to end, None as long as there was none.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._signalled_at = 0.0
        self._pipe: tuple[int, int] | None = None
        self._rang_before = False
        self._hears_signals = False
        self._lock = threading.RLock()

    def listen_to_signals(self) -> None:
        """Have every signal ring, whichever thread the system delivers it to.

        Raises:
            ValueError: If this is not the main thread.
        """
        with self._lock:
            _, writing = self._open()
            signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
            self._hears_signals = True

    def signalled(self, signum: int, patience: float) -> None:
        """Note a signal; the main thread unwinds where nothing can be cut in half.

        A second signal ends the process at once, unless it comes within half a second: to stop a
        run, orchestrators send signals to it and to its process group, which is one wish. Should
        the main thread be stuck in a write to a stdout that nobody reads, an alarm ends it.

        Args:
            signum: The signal.
            patience: Seconds that the run has to end.
        """
        now = time.monotonic()
        if self.signum is not None:
            if now - self._signalled_at < _ONE_WISH_SECONDS:
                return
            os._exit(_SIGNAL_EXIT + signum)
        self.signum = signum
        self._signalled_at = now
        self.ring()
        signal.signal(signal.SIGALRM, lambda *_: os._exit(_SIGNAL_EXIT + signum))
        signal.setitimer(signal.ITIMER_REAL, patience + _ALARM_SLACK_SECONDS)

    def ring(self) -> None:
        """Wake the main thread; safe in any thread and in a signal handler."""
        with self._lock:
            if self._pipe is None:
                self._rang_before = True
                return
            with contextlib.suppress(BlockingIOError):  # full: the main thread will wake anyway
                os.write(self._pipe[1], b"\0")

    def wait(self, timeout: float, fd: int | None = None) -> bool:
        """Wait for a ring, the time-out, or `fd` to become readable; for the main thread only.

        Args:
            timeout: Seconds.
            fd: A file descriptor, such as stdin's.

        Returns:
            True if `fd` can be read without blocking.
        """
        reading = (self._pipe or self._open())[0]
        poll = select.poll()
        poll.register(reading, select.POLLIN)
        if fd is not None:
            poll.register(fd, select.POLLIN)
        ready = dict(poll.poll(max(0.0, timeout) * 1000))
        if reading in ready:
            os.read(reading, 4096)
        return fd is not None and fd in ready

    def close(self) -> None:
        """Close the pipe, if there is one; signals ring no more. For the main thread only."""
        with self._lock:
            if self._pipe is None:
                return
            reading, writing = self._pipe
            self._pipe = None
            if self._hears_signals:
                self._hears_signals = False
                other = signal.set_wakeup_fd(-1)
                if other not in (-1, writing):  # somebody else listens by now
                    signal.set_wakeup_fd(other, warn_on_full_buffer=False)
            os.close(reading)
            os.close(writing)

    def _open(self) -> tuple[int, int]:
        """Return the pipe's reading and writing end; open it if it is not."""
        with self._lock:
            if self._pipe is None:
                reading, writing = os.pipe()
                os.set_blocking(reading, False)
                os.set_blocking(writing, False)
                self._pipe = reading, writing
                if self._rang_before:
                    self._rang_before = False
                    self.ring()
            return self._pipe
