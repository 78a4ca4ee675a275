"""Histories of one pipeline: a table that changes, and runs that go wrong; made from a seed.

A history is a plan and holds no outcome. `history_tap` turns it into a tap's output,
`history_run` plays it against the target and the sandbox, `history_checks` judges what was seen,
`history_story` tells it. One history, played and told:

    PYTHONPATH=tests python -m history_story 17
"""

from __future__ import annotations

import random
import typing as t
from collections import Counter
from dataclasses import dataclass, replace

MARK = "qqx"
"""Stands in every value of a profile, so that a log which holds one is found out."""
REFUSED = f"{MARK}-refused"
"""The city whose profiles the server never imports."""
CITIES = (f"{MARK}-aden", f"{MARK}-bonn", f"{MARK}-cork")
STREAMS = ("customers", "orders", "visits")
CUSTOMERS = 12
"""So many e-mail addresses there are, over all streams."""
CLEAN_RUNS = 2
"""So many runs at the end of a history are without faults and kills."""

Replay = t.Literal["bookmark", "table", "log"]
SendAgain = t.Literal["new_version", "always", "changed", "never"]
Spelling = t.Literal["Z", "+00:00", "both"]
Saved = t.Literal["last", "older", "none"]


@dataclass(frozen=True)
class Stream:
    """A stream and its settings.

    Attributes:
        name: The tap's name of it.
        workflow_id: Its scenario; no two streams share one.
        replay: What the tap sends: rows from the saved bookmark on (inclusive), the whole table, or
            the changes after the saved offset.
        bookmark_by: Who tells the target which column is the bookmark: the SCHEMA, or the setting
            `bookmark_column`.
        send_again: The setting; None: its default.
        keeps_bookmark: `updated_at` stays in the entry; if not, the stream map drops it.
        keyed: Its SCHEMA names the key; if not, the whole row stands for it, and is counted.
    """

    name: str
    workflow_id: int
    replay: Replay = "bookmark"
    bookmark_by: t.Literal["schema", "setting"] = "schema"
    send_again: SendAgain | None = None
    keeps_bookmark: bool = True
    keyed: bool = True

    @property
    def has_bookmark(self) -> bool:
        return self.replay == "bookmark"

    @property
    def rule(self) -> SendAgain:
        """The `send_again` that holds."""
        return self.send_again or ("new_version" if self.has_bookmark else "always")


@dataclass(frozen=True)
class Row:
    """A row of the table as one change left it.

    Attributes:
        id: The key.
        email: The customer; None: the record cannot be delivered.
        city: A column of the entry.
        note: A column that the stream map drops.
        moment: The bookmark in half seconds; None where the stream has none.
        change: Number of the change in the history.
    """

    id: int
    email: str | None
    city: str
    note: str
    moment: int | None
    change: int


@dataclass(frozen=True)
class Change:
    """What happened to a row between two runs."""

    kind: str
    stream: str
    row: Row

    def __str__(self) -> str:
        row = self.row
        moment = "" if row.moment is None else f" at {row.moment}"
        return f"{self.kind} {self.stream} {row.id}{moment}: {row.email}, {row.city}, {row.note}"


@dataclass(frozen=True)
class Ending:
    """How the target's run is ended from outside.

    Attributes:
        signal: SIGTERM or SIGKILL; None: it runs to its end.
        event: What is waited for before the signal, see `history_run`.
        count: How often it must have happened.
        delay: Seconds from there to the signal.
        hold: Share of the messages after which the tap falls silent until the signal; None: it
            sends all.
    """

    signal: t.Literal["SIGTERM", "SIGKILL"] | None = None
    event: str = "start"
    count: int = 1
    delay: float = 0.0
    hold: float | None = None


@dataclass(frozen=True)
class Run:
    """One run: the tap, the server, the target's settings, the orchestrator.

    Attributes:
        number: 1 for the first of the history, and so on.
        seed: For what the tap decides by chance.
        mixed: The streams' records come mixed; if not, one stream after the other.
        state_before: A STATE with the old bookmarks stands before the records.
        state_every: A STATE follows each so many records; 0: none among them.
        state_after: A STATE with all new bookmarks ends the input.
        spelling: How the tap writes a moment.
        dies: Share of the records after which the tap ends without another word.
        refresh: The tap's STATE is lost before the run.
        repeats: The tap sends one record twice.
        durations: Seconds that tasks take.
        troubles: What the server does wrong, by name in `FAULTS`.
        faults: The same in the sandbox's words.
        settings: Of the target, for this run.
        ending: A signal, or none.
        save: Which printed STATE the orchestrator saves.
        position: For "older": which one, as a share of those printed.
    """

    number: int
    seed: str
    mixed: bool = False
    state_before: bool = False
    state_every: int = 0
    state_after: bool = True
    spelling: Spelling = "Z"
    dies: float | None = None
    refresh: bool = False
    repeats: bool = False
    durations: tuple[float, ...] = (0.0,)
    troubles: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    settings: tuple[tuple[str, t.Any], ...] = ()
    ending: Ending = Ending()
    save: Saved = "last"
    position: float = 0.0

    @property
    def on_ambiguous(self) -> str:
        return str(dict(self.settings).get("on_ambiguous_submit", "resend"))


@dataclass(frozen=True)
class Step:
    """What changed in the table, and the run after it."""

    changes: tuple[Change, ...]
    run: Run


@dataclass(frozen=True)
class History:
    seed: int
    streams: tuple[Stream, ...]
    steps: tuple[Step, ...]

    def stream(self, name: str) -> Stream:
        return next(stream for stream in self.streams if stream.name == name)

    def kinds(self) -> Counter[str]:
        """Count what happens in it, by kind."""
        counts: Counter[str] = Counter()
        for stream in self.streams:
            counts[f"stream: {stream.replay}, {stream.rule}"] += 1
            counts[f"bookmark by {stream.bookmark_by}"] += stream.has_bookmark
            counts[f"no key: {stream.replay}, {stream.rule}"] += not stream.keyed
            counts["bookmark dropped by the stream map"] += not stream.keeps_bookmark
        counts[f"streams: {len(self.streams)}"] += 1
        for step in self.steps:
            counts.update(f"change: {change.kind}" for change in step.changes)
            run, ending = step.run, step.run.ending
            settings = dict(run.settings)
            counts[f"tap: {'mixed' if run.mixed else 'one by one'}"] += 1
            counts["tap: STATE before"] += run.state_before
            counts["tap: STATE among"] += run.state_every > 0
            counts["tap: STATE after"] += run.state_after
            counts["tap: no STATE after"] += not run.state_after
            counts[f"tap: spelling {run.spelling}"] += 1
            counts["tap: dies"] += run.dies is not None
            counts["tap: STATE lost"] += run.refresh
            counts["tap: record repeated"] += run.repeats
            counts["tap: falls silent"] += ending.hold is not None
            counts[f"saved: {run.save}"] += 1
            counts[f"ending: {ending.signal or 'its own'}"] += 1
            counts[f"signal after: {ending.event}"] += ending.signal is not None
            counts[f"on_ambiguous_submit: {run.on_ambiguous}"] += 1
            counts[f"max_in_flight: {settings['max_in_flight']}"] += 1
            counts.update(f"task seconds: {seconds:g}" for seconds in run.durations)
            counts.update(f"fault: {name}" for name in run.troubles)
        return +counts


# The server's faults: each menu entry is armed as a whole, from request `{n}` on.
FAULTS: dict[str, tuple[str, ...]] = {
    "answer lost": ("submit:reset_after,after={n}",),
    "answer lost, accepted": ("submit:reset_after,accept,after={n}",),
    "answer lost twice, accepted": ("submit:reset_after,accept,times=2,after={n}",),
    "HTTP 500": ("submit:http,status=500,after={n}",),
    "HTTP 500, accepted": ("submit:http,status=500,accept,after={n}",),
    "a page, accepted": ("submit:html,accept,after={n}",),
    "no answer": ("submit:timeout,after={n}",),
    "no answer, accepted": ("submit:timeout,accept,after={n}",),
    "no task id": ("submit:no_task_id,accept,after={n}",),
    "HTTP 503": ("submit:http,status=503,retry_after=0,times=2,after={n}",),
    "HTTP 503 to the end": ("submit:http,status=503,retry_after=0,times=always,after={n}",),
    "accepted, then HTTP 503 to the end": (
        "submit:reset_after,accept,after={n}",
        "submit:http,status=503,retry_after=0,times=always,after={m}",
    ),
    "lost, then HTTP 503": (
        "submit:reset_after,after={n}",
        "submit:http,status=503,retry_after=0,times=3,after={m}",
    ),
    "always unknown": ("submit:http,status=500,accept,times=always,after={n}",),
    "connection cut before": ("submit:reset_before,after={n}",),
    "task fails": ("task:failed,after={n}",),
    "task has a result error": ("task:result_error,after={n}",),
    "task vanishes": ("task:vanished,after={n}",),
    "task vanishes, perhaps done": ("task:vanished,seconds=0.02,after={n}",),
    "task stuck": ("task:stuck,after={n}",),
    "task partly fails": ("task:partial,indexes=0,after={n}",),
    "status lost": ("status:reset_after,times=3,after={n}",),
    "status HTTP 500": ("status:http,status=500,times=3,after={n}",),
}
WEIGHTS = {
    "answer lost, accepted": 3,
    "accepted, then HTTP 503 to the end": 6,
    "lost, then HTTP 503": 2,
    "task stuck": 1,
    "no answer": 1,
    "no answer, accepted": 1,
}
"""How often a fault comes; 2 unless it says so."""

EVENTS: dict[str, tuple[int, int]] = {
    "start": (1, 1),
    "submit begun": (1, 4),
    "submit answered": (1, 4),
    "status answered": (1, 8),
    "STATE printed": (1, 3),
    "receipt written": (1, 5),
    "task completed": (1, 4),
}
"""What a signal may wait for, and between which counts."""

CAUSES = (
    ("server",),
    ("server",),
    ("signal",),
    ("signal",),
    ("tap",),
    ("tap",),
    ("server", "signal"),
    ("server", "signal", "tap"),
)
"""What may go wrong together in a run."""
SIGNALS: tuple[t.Literal["SIGTERM", "SIGKILL"], ...] = ("SIGTERM", "SIGKILL", "SIGKILL")
DELAYS = (0.0, 0.0, 0.003, 0.01, 0.03, 0.1, 0.3)
DURATIONS = ((0.0,), (0.0,), (0.0, 0.05), (0.0, 0.05, 0.2), (0.1, 0.3))


def generate(seed: int) -> History:
    """Return the history of a seed: the same one each time."""
    rng = random.Random(f"history {seed}")
    streams = tuple(
        _stream(rng, name, number)
        for number, name in enumerate(STREAMS[: rng.choice([1, 1, 2, 2, 3])], start=1)
    )
    table = _Table(rng, streams)
    settings = {
        "max_in_flight": rng.choice([1, 6]),
        "batch_size_rows": rng.choice([1, 2, 3, 5]),
        "check_workflow": rng.random() < 0.2,
        "task_timeout_seconds": 20.0,
    }
    doubts = rng.choices(["resend", "fail", "skip"], [8, 1, 1])[0]
    troubled = rng.randint(2, 4)
    steps = []
    for number in range(1, troubled + CLEAN_RUNS + 1):
        changes = table.begin() if number == 1 else table.change()
        run = Run(number, f"history {seed}, run {number}")
        run = _tap(rng, run)
        if number <= troubled:
            run = _trouble(rng, run, settings, doubts)
        else:
            run = replace(
                run,
                settings=tuple(settings.items()),
                state_after=True,
                refresh=rng.random() < 0.1,
            )
        steps.append(Step(changes, run))
    return History(seed, streams, tuple(_patient(steps)))


def _stream(rng: random.Random, name: str, number: int) -> Stream:
    replay = t.cast("Replay", rng.choices(["bookmark", "table", "log"], [6, 2, 2])[0])
    choices: list[SendAgain | None] = [None, "new_version", "always", "changed", "never"]
    weights = [9, 1, 4, 4, 4] if replay == "bookmark" else [8, 0, 4, 4, 4]
    send_again = rng.choices(choices, weights)[0]
    keeps = rng.random() < (0.2 if send_again in {"changed", "never"} else 0.7)
    return Stream(
        name,
        number,
        replay,
        "setting" if rng.random() < 0.2 else "schema",
        send_again,
        keeps_bookmark=keeps or replay != "bookmark",
        keyed=send_again in {"changed", "never"} or rng.random() < 0.7,
    )


def _tap(rng: random.Random, run: Run) -> Run:
    """Decide how the tap behaves, clean or not."""
    before, every = rng.choice([(True, 0), (True, 3), (False, 1), (False, 3), (False, 0)])
    spellings: list[Spelling] = ["Z", "+00:00", "both"]
    return replace(
        run,
        mixed=rng.random() < 0.3,
        state_before=before,
        state_every=every,
        spelling=rng.choices(spellings, [6, 2, 2])[0],
        repeats=rng.random() < 0.15,
        durations=rng.choice(DURATIONS),
    )


def _trouble(rng: random.Random, run: Run, settings: t.Mapping[str, t.Any], doubts: str) -> Run:
    """Add what goes wrong in a run: by the server, by a signal, by the tap, or by several."""
    causes = set(rng.choice(CAUSES))
    names: list[str] = []
    faults: list[str] = []
    for _ in range(rng.choice([1, 1, 1, 2, 3]) if "server" in causes else 0):
        name = rng.choices(list(FAULTS), [WEIGHTS.get(name, 2) for name in FAULTS])[0]
        first = rng.choice([0, 0, 1, 1, 2, 3, 4])
        names.append(name)
        faults += [part.format(n=first, m=first + 1) for part in FAULTS[name]]
    more: dict[str, t.Any] = {"shutdown_seconds": rng.choice([0, 0.2, 5])}
    if any("timeout" in fault for fault in faults):
        more["request_timeout_seconds"] = 0.4
    if any("to the end" in name for name in names):
        more["retry_max_seconds"] = 0.4
    if rng.random() < 0.7:
        more["on_ambiguous_submit"] = doubts
    if rng.random() < 0.2:
        more["batch_size_rows"] = rng.choice([1, 2, 3, 5])
    saves: list[Saved] = ["last", "older", "none"]
    dies = "tap" in causes and rng.random() < 0.7
    return replace(
        run,
        state_after=rng.random() < (0.3 if "tap" in causes else 0.9),
        dies=rng.uniform(0.2, 1.0) if dies else None,
        refresh=rng.random() < 0.1,
        troubles=tuple(names),
        faults=tuple(faults),
        settings=tuple({**settings, **more}.items()),
        ending=_ending(rng) if "signal" in causes else Ending(),
        save=rng.choices(saves, [5, 2, 2])[0],
        position=rng.random(),
    )


def _ending(rng: random.Random) -> Ending:
    event = rng.choice(list(EVENTS))
    return Ending(
        rng.choice(SIGNALS),
        event,
        rng.randint(*EVENTS[event]),
        rng.choice(DELAYS) + (0.3 * rng.random() if event == "start" else 0.0),
        rng.random() if rng.random() < 0.35 else None,
    )


def _patient(steps: list[Step]) -> t.Iterator[Step]:
    """From the run on in which a task may be stuck, wait less long for tasks."""
    stuck = False
    for step in steps:
        stuck = stuck or any("stuck" in fault for fault in step.run.faults)
        if stuck:
            short = {**dict(step.run.settings), "task_timeout_seconds": 1.5}
            yield replace(step, run=replace(step.run, settings=tuple(short.items())))
        else:
            yield step


class _Table:
    """The source's rows as the history goes on."""

    def __init__(self, rng: random.Random, streams: tuple[Stream, ...]) -> None:
        self._rng = rng
        self._streams = streams
        self._rows: dict[str, dict[int, Row]] = {stream.name: {} for stream in streams}
        self._moment = 100
        self._changes = 0

    def begin(self) -> tuple[Change, ...]:
        return tuple(
            self._insert(stream, self._rng.choice(["insert", "insert", "insert at once"]))
            for stream in self._streams
            for _ in range(self._rng.randint(2, 7))
        )

    def change(self) -> tuple[Change, ...]:
        changes = []
        for stream in self._streams:
            for _ in range(self._rng.choice([0, 0, 1, 1, 2, 3])):
                kinds = (*_INSERTS, *_CHANGES)
                kind = self._rng.choices(
                    list(kinds), [_CHANGE_WEIGHTS.get(kind, 2) for kind in kinds]
                )[0]
                if not stream.has_bookmark:
                    kind = kind.removesuffix(", moved")
                    kind = "insert" if kind in _NEED_BOOKMARK else kind
                changes.append(
                    self._insert(stream, kind) if kind in _INSERTS else self._update(stream, kind)
                )
        return tuple(changes)

    def _insert(self, stream: Stream, kind: str) -> Change:
        rng, rows = self._rng, self._rows[stream.name]
        moments = [row.moment for row in rows.values() if row.moment is not None]
        moment: int | None = None
        if stream.has_bookmark:
            moment = self._next()
            if kind == "insert at once" and moments:
                moment = max(moments)
            elif kind == "insert late" and moments:
                moment = rng.randint(min(moments), max(moments))
        return self._put(
            stream,
            kind,
            Row(
                len(rows) + 1,
                None if kind == "insert without e-mail" else self._email(),
                REFUSED if kind == "insert refused" else rng.choice(CITIES),
                f"{MARK}-note-{rng.randrange(100)}",
                moment,
                0,
            ),
        )

    def _update(self, stream: Stream, kind: str) -> Change:
        rng = self._rng
        row = rng.choice(list(self._rows[stream.name].values()))
        what = kind.removesuffix(", moved")
        if what == "change":
            row = replace(row, city=rng.choice([city for city in CITIES if city != row.city]))
        elif what == "change of a dropped column":
            row = replace(row, note=f"{MARK}-note-{rng.randrange(100, 1000)}")
        elif what == "change of e-mail":
            row = replace(row, email=self._email())
        elif what == "change to refused":
            row = replace(row, city=REFUSED)
        if kind.endswith(", moved") or kind == "touch":
            row = replace(row, moment=self._next())
        return self._put(stream, kind, row)

    def _put(self, stream: Stream, kind: str, row: Row) -> Change:
        self._changes += 1
        row = replace(row, change=self._changes)
        self._rows[stream.name][row.id] = row
        return Change(kind, stream.name, row)

    def _next(self) -> int:
        self._moment += self._rng.randint(1, 3)
        return self._moment

    def _email(self) -> str:
        email = f"{MARK}{self._rng.randrange(CUSTOMERS)}@secret.example"
        return email.upper() if self._rng.random() < 0.1 else email


_INSERTS = (
    "insert",
    "insert at once",
    "insert late",
    "insert refused",
    "insert without e-mail",
)
_CHANGES = (
    "change",
    "change, moved",
    "change of a dropped column",
    "change of a dropped column, moved",
    "change of e-mail, moved",
    "change to refused, moved",
    "touch",
)
_NEED_BOOKMARK = {"insert at once", "insert late", "touch"}
_CHANGE_WEIGHTS = {
    "insert": 5,
    "insert at once": 4,
    "insert refused": 1,
    "insert without e-mail": 1,
    "change, moved": 5,
    "change": 3,
    "change of a dropped column": 3,
    "change to refused, moved": 1,
}
