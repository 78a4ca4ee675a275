"""The command `target-altcraft`, also as `python -m target_altcraft`."""

from __future__ import annotations

import gc
import os
import sys
import typing as t

_SWITCH_SECONDS = 0.001
"""How long the reader may keep the interpreter from a worker. Sending a batch and reading its
answer take a worker dozens of turns; at Python's 5 ms each, finished batches would fill memory."""

_MOST_NEW_OBJECTS = 50_000
"""So many containers more than before are looked through for garbage. Records and answers are no
cycles: at Python's 700, waiting ones are looked through over and over."""


def main() -> None:
    """Run the command line."""
    if t.cast("t.TextIO | None", sys.stderr) is None:  # closed, which some schedulers do
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")  # or a file gets its number
    gc.disable()  # what imports make is here to stay; looking for garbage in it costs start-up time
    from target_altcraft.environment import log_level_fault  # noqa: PLC0415
    from target_altcraft.target import TargetAltcraft  # noqa: PLC0415

    gc.freeze()
    gc.set_threshold(_MOST_NEW_OBJECTS)
    gc.enable()
    sys.setswitchinterval(_SWITCH_SECONDS)
    if fault := log_level_fault(os.environ):
        sys.exit(f"Error: {fault}")
    TargetAltcraft.cli()


if __name__ == "__main__":
    main()
