"""Rejects that are replayed: each goes to the output stream that rejected it, and to no other."""

from __future__ import annotations

import logging
import typing as t

from target_altcraft.names import visible
from target_altcraft.summary import NO_STREAM

if t.TYPE_CHECKING:
    from collections.abc import Mapping

    from target_altcraft.route import Route
    from target_altcraft.summary import Summary

logger = logging.getLogger(__name__)


class Replays:
    """Chooses the routes of replayed rejects, and counts those that no stream is for.

    Args:
        summary: The counts.
    """

    def __init__(self, summary: Summary) -> None:
        self._summary = summary
        self._unknown: set[str] = set()

    def routes(self, routes: list[Route], rejection: Mapping[str, t.Any]) -> list[Route]:
        """Return the routes that a replayed reject takes.

        Args:
            routes: Those of its stream of the tap.
            rejection: What it was rejected for, and by which output stream.
        """
        name = rejection.get("stream")
        if not isinstance(name, str):
            return routes
        chosen = [route for route in routes if route.name == name]
        if not chosen:
            self._skip(visible(name))
        return chosen

    def _skip(self, name: str) -> None:
        """Count a replayed reject that no output stream is for."""
        self._summary.read[name] += 1
        self._summary.skip(name, NO_STREAM)
        if name not in self._unknown:
            self._unknown.add(name)
            logger.warning(
                "stream '%s': a rejects file holds records for it, but there is no such output "
                "stream any more; they are not sent. Bring the stream back, or change the name in "
                "their 'rejection'",
                name,
            )
