"""Records that wait for the journal's word, so that it is asked about many at once."""

from __future__ import annotations

import typing as t
from collections import Counter
from dataclasses import dataclass, field

from target_altcraft.brakes import Later
from target_altcraft.memory.judgement import DELIVERED_BEFORE, Verdict

if t.TYPE_CHECKING:
    from target_altcraft.memory.judgement import Arrival, Judgement
    from target_altcraft.memory.stream import StreamMemory
    from target_altcraft.memory.versions import VersionMaker
    from target_altcraft.route import Route
    from target_altcraft.summary import Summary

_MOST_RECORDS = 250
"""Many for one question to the journal, few enough to stay near the processor."""
_MOST_BYTES = 4_000_000
"""Of the tap's lines and of entries."""


class State(t.NamedTuple):
    """A STATE among the records of a lot."""

    behind: int
    """So many of the lot's records stand before it."""
    text: bytes
    place: int


@dataclass(slots=True)
class Lot:
    """Records of the input that follow each other, and the STATEs among them.

    `routes` are those of the records, `size` the bytes that wait with them. `rejected` are the
    places and streams of records that came among them and were rejected at once.
    """

    arrivals: list[Arrival] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)
    size: int = 0

    def is_full(self) -> bool:
        """Tell whether the lot is to be judged at once."""
        return len(self.arrivals) >= _MOST_RECORDS or self.size >= _MOST_BYTES

    def only_route(self) -> Route | None:
        """Return the route of all records, None if they have several."""
        first = self.routes[0]
        return first if self.routes.count(first) == len(self.routes) else None

    def note_rejected(self, stream: str, place: int) -> None:
        """Note that a record was rejected, if others wait already that came before it."""
        if self.arrivals:
            self.rejected.append((place, stream))

    def later(self, state: State) -> Later:
        """Return what came behind a STATE."""
        return Later(
            Counter(route.name for route in self.routes[state.behind :]),
            Counter(stream for place, stream in self.rejected if place > state.place),
        )

    def judged(self, summary: Summary) -> list[Judgement]:
        """Return the judgement of each record; those of `DELIVERED_BEFORE` are counted already."""
        route = self.only_route()
        if route is not None:
            return _judged(route, self.arrivals, summary)
        lots: dict[str, tuple[Route, list[Arrival]]] = {}
        for route, arrival in zip(self.routes, self.arrivals, strict=True):
            lots.setdefault(route.name, (route, []))[1].append(arrival)
        judged = {name: iter(_judged(*each, summary)) for name, each in lots.items()}
        return [next(judged[route.name]) for route in self.routes]


def _judged(route: Route, arrivals: list[Arrival], summary: Summary) -> list[Judgement]:
    versions = t.cast("VersionMaker", route.versions).versions(
        [arrival.source_key for arrival in arrivals],
        [arrival.bookmark for arrival in arrivals],
        [arrival.entry.body for arrival in arrivals],
    )
    for arrival, version in zip(arrivals, versions, strict=True):
        arrival.version = version
    judgements = t.cast("StreamMemory", route.memory).judge(arrivals)
    if known := judgements.count(DELIVERED_BEFORE):
        summary.skip(route.name, Verdict.DELIVERED_BEFORE.value, known)
    return judgements
