"""The tap of a history: what it sends in a run, from the saved STATE on."""

from __future__ import annotations

import datetime as dt
import random
import typing as t
from dataclasses import dataclass, field

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from histories import Change, History, Row, Run, Stream

Message = dict[str, t.Any]
Form = tuple[t.Any, ...]
"""The entry that a row becomes, without the key: e-mail, city, and the moment if it is kept."""
Version = tuple[str, int, Form]
"""Stream, key and form. Where the entry does not hold the bookmark, several versions look alike."""

_BEGINNING = dt.datetime(2019, 5, 6, tzinfo=dt.timezone.utc)
DAY = _BEGINNING.date().isoformat()
"""Begins every bookmark, as written: it has no place in a log either."""
_SCHEMA = {
    "id": {"type": "integer"},
    "email": {"type": ["string", "null"]},
    "city": {"type": "string"},
    "note": {"type": "string"},
}


def spell(moment: int, spelling: str) -> str:
    """Write a moment, half seconds since the beginning, with this name of UTC."""
    text = (_BEGINNING + dt.timedelta(seconds=moment / 2)).isoformat()
    return text.replace("+00:00", spelling)


def moment_of(text: str) -> int:
    """Read a moment, however it is written."""
    head, _, fraction = text.replace("Z", "+00:00").replace("+00:00", "").partition(".")
    at = dt.datetime.fromisoformat(head).replace(tzinfo=dt.timezone.utc)
    halves, rest = divmod(round(float(f"0.{fraction or 0}") * 1e6), 500_000)
    assert not rest
    return int((at - _BEGINNING).total_seconds()) * 2 + halves


def form_of(stream: Stream, row: Row) -> Form:
    kept = (row.moment,) if stream.has_bookmark and stream.keeps_bookmark else ()
    return (row.email, row.city, *kept)


@dataclass(frozen=True)
class Read:
    """A RECORD of an input.

    Attributes:
        position: Of its message in the input.
        stream: Its stream's name.
        row: The row as it was sent.
        form: The entry it becomes.
        copy: 1 if the tap sent it a second time in this input.
        source: Its columns as they were written.
    """

    position: int
    stream: str
    row: Row
    form: Form
    copy: int = 0
    source: Form = ()

    @property
    def customer(self) -> str | None:
        return None if self.row.email is None else self.row.email.casefold()

    @property
    def version(self) -> Version:
        return (self.stream, self.row.id, self.form)


@dataclass
class Input:
    """What the tap sent in a run; a STATE's value names its position under `position`."""

    messages: list[Message] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    schemas: set[str] = field(default_factory=set)

    @property
    def tail(self) -> list[Read]:
        """The records behind the last STATE; none if there was no STATE."""
        return [read for read in self.reads if self.states and read.position > self.states[-1]]


class Tap:
    """The source's table and its log of changes, and who reads them."""

    def __init__(self, history: History) -> None:
        self._streams = history.streams
        self.rows: dict[str, dict[int, Row]] = {stream.name: {} for stream in history.streams}
        self._log: dict[str, list[Row]] = {stream.name: [] for stream in history.streams}

    def apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self.rows[change.stream][change.row.id] = change.row
            self._log[change.stream].append(change.row)

    def read(self, run: Run, saved: Message | None) -> Input:
        """Return what the tap sends in a run."""
        rng = random.Random(run.seed)
        bookmarks: dict[str, t.Any] = dict(saved["bookmarks"]) if saved else {}
        rows = {s.name: list(self._replay(s, bookmarks.get(s.name))) for s in self._streams}
        if run.repeats and (full := [name for name in rows if rows[name]]):
            again = rows[rng.choice(full)]
            place = rng.randrange(len(again))
            again.insert(place, again[place])
        turns = [name for name in rows for _ in rows[name]]
        if run.mixed:
            rng.shuffle(turns)
        limit = len(turns) if run.dies is None else int(run.dies * len(turns))
        written = Input()
        for stream in self._streams:
            written.messages.append(_schema(stream))
            written.schemas.add(stream.name)
        if run.state_before:
            _add_state(written, bookmarks, run)
        places = {name: iter(rows[name]) for name in rows}
        seen: set[tuple[str, int]] = set()
        for number, name in enumerate(turns[:limit], start=1):
            row, offset = next(places[name])
            stream = next(stream for stream in self._streams if stream.name == name)
            spelling = rng.choice(("Z", "+00:00")) if run.spelling == "both" else run.spelling
            if not stream.keyed:
                spelling = "Z"  # the row as it is written stands for the key
            values = _values(row, spelling)
            written.reads.append(
                Read(
                    len(written.messages),
                    name,
                    row,
                    form_of(stream, row),
                    int((name, row.change) in seen),
                    source_of(values),
                )
            )
            seen.add((name, row.change))
            written.messages.append({"type": "RECORD", "stream": name, "record": values})
            if stream.replay != "table":
                bookmarks[name] = _bookmark(row, offset, spelling)
            if run.state_every and number % run.state_every == 0:
                _add_state(written, bookmarks, run)
        if run.state_after and run.dies is None:
            _add_state(written, bookmarks, run)
        return written

    def _replay(self, stream: Stream, bookmark: t.Any) -> Iterator[tuple[Row, int]]:
        """Yield rows, each with its offset in the log, in the order in which they are sent."""
        if stream.replay == "log":
            offset = bookmark["offset"] if bookmark else 0
            for place, row in enumerate(self._log[stream.name], start=1):
                if place > offset:
                    yield row, place
            return
        since = moment_of(bookmark["replication_key_value"]) if bookmark else None
        rows = [(row, 0) for row in self.rows[stream.name].values()]
        if stream.has_bookmark:
            rows = [each for each in rows if since is None or _moment(each) >= since]
            rows.sort(key=_moment)
        yield from rows


def _moment(each: tuple[Row, int]) -> int:
    moment = each[0].moment
    assert moment is not None
    return moment


def _bookmark(row: Row, offset: int, spelling: str) -> Message:
    if row.moment is None:
        return {"offset": offset}
    return {
        "replication_key": "updated_at",
        "replication_key_value": spell(row.moment, spelling),
    }


def _add_state(written: Input, bookmarks: Message, run: Run) -> None:
    position = len(written.messages)
    value = {"bookmarks": dict(bookmarks), "run": run.number, "position": position}
    written.states.append(position)
    written.messages.append({"type": "STATE", "value": value})


def _schema(stream: Stream) -> Message:
    properties: Message = dict(_SCHEMA)
    message: Message = {
        "type": "SCHEMA",
        "stream": stream.name,
        "schema": {"type": "object", "properties": properties},
        "key_properties": ["id"] if stream.keyed else [],
    }
    if stream.has_bookmark:
        properties["updated_at"] = {"type": "string", "format": "date-time"}
        if stream.bookmark_by == "schema":
            message["bookmark_properties"] = ["updated_at"]
    return message


def _values(row: Row, spelling: str) -> Message:
    values = {"id": row.id, "email": row.email, "city": row.city, "note": row.note}
    return values if row.moment is None else {**values, "updated_at": spell(row.moment, spelling)}


def source_of(values: Message) -> Form:
    """Return a record's columns, to compare."""
    return tuple(values.get(name) for name in ("id", "email", "city", "note", "updated_at"))
