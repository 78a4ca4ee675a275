"""Files that hold records: appended to, readable by their owner alone, on disk when said so."""

from __future__ import annotations

import os
import stat
import threading
import typing as t

from target_altcraft.errors import OutputError

if t.TYPE_CHECKING:
    from collections.abc import Iterable


class JsonLines:
    """A JSON Lines file that a run appends to.

    The lock guards the file: the reader and the workers write to it.

    Args:
        path: Where it is; created with mode 0600.
        setting: The setting that names it, for messages.

    Raises:
        OutputError: If it cannot be opened.
    """

    def __init__(self, path: str, setting: str) -> None:
        self.path = path
        self._setting = setting
        self._lock = threading.Lock()
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            if os.fstat(self._fd).st_size and not self._ends_a_line():
                os.write(self._fd, b"\n")  # a crash or a full disk cut the last line short
        except OSError as error:
            raise self._error(error) from None

    def append(self, lines: Iterable[bytes]) -> None:
        """Append lines; they are on disk when this returns.

        Raises:
            OutputError: If they cannot be written; some of them may have been.
        """
        data = b"".join(line + b"\n" for line in lines)
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
                if self._is_regular():
                    os.fsync(self._fd)
            except OSError as error:
                raise self._error(error) from None

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _ends_a_line(self) -> bool:
        with open(self.path, "rb") as file:  # noqa: PTH123 - the path may be a pipe's
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"

    def _is_regular(self) -> bool:
        return stat.S_ISREG(os.fstat(self._fd).st_mode)

    def _error(self, error: OSError) -> OutputError:
        return OutputError(f"{self._setting}: {self.path} cannot be written: {error.strerror}")
