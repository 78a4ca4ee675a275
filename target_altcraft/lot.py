"""Records that wait for the journal's word, so that it is asked about many at once."""

from __future__ import annotations

import typing as t
from collections import Counter
from dataclasses import dataclass, field

from target_altcraft.brakes import Later
from target_altcraft.memory.judgement import DELIVERED_BEFORE, Arrivals, Verdict

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from target_altcraft.memory.judgement import Arrival, Judgement
    from target_altcraft.memory.stream import StreamMemory
    from target_altcraft.profile import Entry
    from target_altcraft.route import Route
    from target_altcraft.summary import Summary

_MOST_RECORDS = 1000
"""So many that what a lot costs, whatever is in it, counts no more; as many STATEs fill it, too."""
_MOST_BYTES = 4_000_000
"""Of the tap's lines, entries and STATEs."""


Waiting: t.TypeAlias = (
    "tuple[t.Any, t.Any, t.Any, Mapping[str, t.Any] | None, Entry, bytes, int, int, "
    "Mapping[str, t.Any] | None]"
)
"""A record's source key and bookmark, its mapped key, and the rest of what `Arrival` has.

A plain tuple, for there is one for each record. Versions are made and keys are written when the lot
is judged: much faster for many at once.
"""


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

    waiting: list[Waiting] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)
    size: int = 0

    def add(self, route: Route, waiting: Waiting, size: int) -> bool:
        """Add a record.

        Args:
            route: Its route.
            waiting: What waits of it.
            size: How many bytes that is.

        Returns:
            Whether the lot is to be judged at once.
        """
        self.waiting.append(waiting)
        self.routes.append(route)
        self.size += size
        return len(self.waiting) >= _MOST_RECORDS or self.size >= _MOST_BYTES

    def add_state(self, text: bytes, place: int) -> bool:
        """Add a STATE behind the records that wait.

        Args:
            text: Its JSON.
            place: How many records of the input came before it.

        Returns:
            Whether the lot is to be judged at once.
        """
        self.states.append(State(len(self.waiting), text, place))
        self.size += len(text)
        return len(self.states) >= _MOST_RECORDS or self.size >= _MOST_BYTES

    def only_route(self) -> Route | None:
        """Return the route of all records, None if they have several."""
        first = self.routes[0]
        return first if self.routes.count(first) == len(self.routes) else None

    def note_rejected(self, stream: str, place: int) -> None:
        """Note that a record was rejected, if others wait already that came before it."""
        if self.waiting:
            self.rejected.append((place, stream))

    def later(self, state: State) -> Later:
        """Return what came behind a STATE."""
        return Later(
            Counter(route.name for route in self.routes[state.behind :]),
            Counter(stream for place, stream in self.rejected if place > state.place),
        )

    def judged(self, summary: Summary) -> tuple[Arrivals | list[Arrival], list[Judgement]]:
        """Return the records and what is to become of each.

        Those of `DELIVERED_BEFORE` are counted already.

        Returns:
            The records in columns, if they are of one route.
        """
        route = self.only_route()
        if route is not None:
            return _judged(route, self.waiting, summary)
        lots: dict[str, tuple[Route, list[Waiting]]] = {}
        for route, each in zip(self.routes, self.waiting, strict=True):
            lots.setdefault(route.name, (route, []))[1].append(each)
        judged = {}
        for name, (route, waiting) in lots.items():
            arrivals, judgements = _judged(route, waiting, summary)
            judged[name] = zip(arrivals.each(), judgements, strict=True)
        together = [next(judged[route.name]) for route in self.routes]
        return [arrival for arrival, _ in together], [judgement for _, judgement in together]


def _judged(
    route: Route, waiting: Sequence[Waiting], summary: Summary
) -> tuple[Arrivals, list[Judgement]]:
    columns: t.Any = zip(*waiting, strict=True)
    source_keys, bookmarks, mapped_keys, records, entries, messages, *others = columns
    bodies = [entry.body for entry in entries]
    versions = route.versions.versions(source_keys, bookmarks, bodies)
    keys = [b""] * len(bodies) if route.keys is None else route.keys.write(mapped_keys)
    arrivals = Arrivals(versions, bodies, records, entries, messages, keys, *others)
    judgements = t.cast("StreamMemory", route.memory).judge(arrivals)
    if known := sum([each is DELIVERED_BEFORE for each in judgements]):
        summary.skip(route.name, Verdict.DELIVERED_BEFORE.value, known)
    return arrivals, judgements
