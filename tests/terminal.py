"""The command as a person runs it: at a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios
import typing as t

from harness import COMMAND, lines

if t.TYPE_CHECKING:
    from pathlib import Path

    from harness import Message

_QUIET_SECONDS = 0.3


def at_a_terminal(
    config: dict[str, t.Any],
    folder: Path,
    messages: list[Message],
    *,
    shows_stdout: bool = True,
    **env: str,
) -> list[str]:
    """Run with stderr at a terminal, and stdout too or nowhere; return its lines as they were left.

    A message is written when the terminal has been quiet for a moment.
    """
    path = folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CI", "MELTANO"))}
    process = subprocess.Popen(
        [COMMAND, "--config", str(path)],
        stdin=subprocess.PIPE,
        stdout=theirs if shows_stdout else subprocess.DEVNULL,
        stderr=theirs,
        env={**environment, **env},
    )
    os.close(theirs)
    assert process.stdin
    shown = b""
    for line in lines(messages):
        process.stdin.write(line.encode())
        process.stdin.flush()
        while select.select([ours], [], [], _QUIET_SECONDS)[0]:
            shown += os.read(ours, 65536)
    process.stdin.close()
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:
        pass  # the other side of the terminal is gone
    os.close(ours)
    assert process.wait(60) == 0, shown
    return shown.decode().replace("\r\n", "\n").split("\n")
