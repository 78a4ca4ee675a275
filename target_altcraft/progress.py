"""How far a run has got: a line in the log now and then, or a live line for a person."""

from __future__ import annotations

import logging
import os
import sys
import time
import typing as t
from contextlib import ExitStack, nullcontext

if t.TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from tqdm import tqdm

    from target_altcraft.delivery.window import Window
    from target_altcraft.summary import Summary

logger = logging.getLogger(__name__)

LOG_SECONDS = 30.0
_PIPELINES = ("CI", "MELTANO_RUN_ID", "MELTANO_PROJECT_ROOT", "MELTANO_ENVIRONMENT")


def is_for_a_person(environment: Mapping[str, str]) -> bool:
    """Tell whether somebody looks at stderr while the run goes on."""
    return sys.stderr.isatty() and not any(environment.get(name) for name in _PIPELINES)


class Progress:
    """Says how far the run has got, whenever it is asked to and it is time.

    Args:
        summary: The counts.
        window: The window of tasks.
    """

    def __init__(self, summary: Summary, window: Window) -> None:
        self._summary = summary
        self._window = window
        self._started = self._said = time.monotonic()
        self._live = ExitStack()
        self._bar: tqdm[t.NoReturn] | None = None
        if is_for_a_person(os.environ):
            from tqdm import tqdm  # noqa: PLC0415 - not worth its time where nobody looks
            from tqdm.contrib.logging import logging_redirect_tqdm  # noqa: PLC0415

            self._bar = self._live.enter_context(tqdm(unit=" profiles", file=sys.stderr))
            self._live.enter_context(logging_redirect_tqdm())

    def tick(self) -> None:
        """Say what there is to say, if it is time."""
        now = time.monotonic()
        if self._bar is not None:
            self._bar.set_postfix_str(
                f"{self._summary.read.total()} read, {len(self._window.in_flight())} in flight",
                refresh=False,
            )
            self._bar.update(self._summary.delivered() - self._bar.n)
        elif now - self._said >= LOG_SECONDS:
            self._said = now
            delivered = self._summary.delivered()
            in_flight = self._window.in_flight()
            logger.info(
                "%d records read, %d profiles delivered (%.0f/s), %d tasks in flight%s",
                self._summary.read.total(),
                delivered,
                delivered / (now - self._started),
                len(in_flight),
                f": {', '.join(in_flight)}" if in_flight else "",
            )

    def aside(self) -> AbstractContextManager[object]:
        """Keep the live line out of the way while something is written to the terminal's stdout."""
        if self._bar is None or not sys.stdout.isatty():
            return nullcontext()
        return self._bar.external_write_mode()

    def close(self) -> None:
        """Leave the terminal as it was."""
        self.tick()
        self._live.close()
        self._bar = None
