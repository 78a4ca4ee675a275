"""Files that hold records: appended to, readable by their owner alone, on disk when said so."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
import typing as t
from pathlib import Path

from target_altcraft.errors import OutputError

if t.TYPE_CHECKING:
    from collections.abc import Iterable

_LOT_BYTES = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT}
_DIRECTORY_CANNOT_BE_SYNCED = {errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOTSUP, errno.EPERM}


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Put a directory's list of names on disk, so that a new file in it survives a crash.

    A directory that may not be opened, or is on a file system that cannot do this (some network
    file systems), is left as it is.

    Args:
        path: The directory.

    Raises:
        OSError: If the disk fails, or there is no such directory.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _DIRECTORY_CANNOT_BE_SYNCED:
            raise


class JsonLines:
    """A JSON Lines file that a run appends to.

    A line that a crash or a full disk cut short is ended before the next one is written. The lock
    guards the file: the reader and the workers write to it.

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
        self._lot = io.BytesIO()  # one for all: new memory each time costs more than the lines
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                found = os.fstat(self._fd)
                self._is_regular = stat.S_ISREG(found.st_mode)
                self._line_is_cut = found.st_size > 0 and not self._ends_a_line()
                if self._is_regular and not found.st_size:
                    sync_directory(Path(path).resolve().parent)
            except OSError:
                os.close(self._fd)
                raise
        except (OSError, ValueError) as error:  # a null byte in a path is a ValueError
            raise self._error(error) from None

    def append(self, lines: Iterable[bytes]) -> None:
        """Append lines; they are on disk when this returns.

        Args:
            lines: Each one line, or several, without the end of the last. They are taken and
                written in lots of about a megabyte.

        Raises:
            OutputError: If they cannot be written; some of them may have been.
        """
        with self._lock:
            self._lot.seek(0)
            try:
                for line in lines:
                    self._lot.write(line)
                    self._lot.write(b"\n")
                    if self._lot.tell() >= _LOT_BYTES:
                        self._write_lot()
                self._write_lot()
                if self._is_regular:
                    os.fsync(self._fd)
            except OSError as error:
                raise self._error(error) from None

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _write_lot(self) -> None:
        """Write the whole lines that are in the lot."""
        size, written = self._lot.tell(), 0
        if size and self._line_is_cut:
            os.write(self._fd, b"\n")
            self._line_is_cut = False
        while written < size:
            with self._lot.getbuffer() as lot, lot[written:size] as left:
                written += os.write(self._fd, left)
            self._line_is_cut = written < size
        self._lot.seek(0)

    def _ends_a_line(self) -> bool:
        with open(self.path, "rb") as file:  # noqa: PTH123 - the path may be a pipe's
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"

    def _error(self, error: OSError | ValueError) -> OutputError:
        if isinstance(error, OSError):
            return OutputError(
                f"{self._setting}: {self.path} cannot be written: {error.strerror}",
                is_full=error.errno in _FULL,
            )
        return OutputError(f"{self._setting}: {self.path!r} is no path that the system takes")
