"""What the page shows of a world: rows cut to a legible size, and the search over every value.

The page asks again twice a second, so what it asks for stays small and quick however much the
sandbox holds: the newest rows, and how many more there are.
"""

from __future__ import annotations

import itertools
import time
import typing as t
from collections import Counter
from dataclasses import dataclass

import msgspec

from target_altcraft.sandbox.submission import as_text
from target_altcraft.sandbox.world import World

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from target_altcraft.sandbox.profiles import Profile
    from target_altcraft.sandbox.requestlog import RequestSeen
    from target_altcraft.sandbox.submission import Json
    from target_altcraft.sandbox.task import Task

MAX_PROFILES = 1000
TASKS = 100
REQUESTS = 50

_CELL = 160
"""Characters of a value in a table."""
_NAME = 80
"""Characters of a scenario's name."""
_FULL = 2000
"""Characters of a value in a profile's details."""
_FIELDS_OF_ROW = 24
_FIELDS = 200
_IMPORTS = 50
_BEFORE_HIT = 40
"""Characters before what was searched for."""
_AT_ONCE = 1000
"""Profiles searched under the lock at one time."""
_PAUSE_SECONDS = 0.0005
"""Between these times: a lock is not fair, and who waits for it would not get it otherwise."""
_IN_OWN_COLUMNS = ("workflow_id", "matching")

_encoder = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which profiles to show.

    Attributes:
        search: Text that one of the values holds, whatever the case: a field, the id, anything
            ever imported for the customer. Blank: all.
        workflow_id: Only those who entered this scenario.
        entered: "again": only those who entered it, or else any, more than once; "alike": with
            the same entry.
        limit: How many at most, the newest first.
    """

    search: str = ""
    workflow_id: int | None = None
    entered: str = ""
    limit: int = 100

    @property
    def needle(self) -> str:
        """The text in the form in which values are compared."""
        return self.search.strip().casefold()


class ShownWorld(World):
    """A world that can tell its page what to show, as JSON."""

    def __post_init__(self) -> None:
        """Start empty."""
        super().__post_init__()
        # A profile's values as one text, with how many imports it covers: made by the first search.
        self._texts: dict[int, tuple[int, str]] = {}

    def overview_json(self, outcome: str = "") -> bytes:
        """Return totals, scenarios, the newest tasks and the newest rejected requests.

        Args:
            outcome: Show tasks with this outcome only.
        """
        with self._lock:
            now = time.monotonic()
            self._settle(now)
            tasks = list(self._tasks.values())
            chosen = [task for task in tasks if task.outcome == outcome] if outcome else tasks
            return _encoder.encode(
                {
                    "started": self._started,
                    "remember": self.remember,
                    "revision": self._totals["delivered_entries"],
                    "totals": {
                        "profiles": len(self._profiles.rows),
                        "runs": self._runs.entered.total(),
                        "delivered": self._totals["delivered_entries"],
                        "tasks": len(tasks),
                        "again": len(self._runs.who_again),
                        "alike": len(self._runs.who_alike),
                        "requests": self._requests.totals["requests"],
                        "refused": self._requests.totals["refused_requests"],
                        "unanswered": self._requests.totals["unanswered_requests"],
                    },
                    "workflows": [
                        {
                            "id": workflow.id,
                            "name": _cut(workflow.name, _NAME)["text"],
                            "is_active": workflow.is_active,
                            "runs": self._runs.entered[workflow.id],
                            "customers": self._runs.customers[workflow.id],
                            "again": self._runs.again[workflow.id],
                            "alike": self._runs.alike[workflow.id],
                        }
                        for workflow in self._workflows.values()
                    ],
                    "outcomes": Counter(task.outcome for task in tasks),
                    "tasks": _newest(chosen, TASKS, lambda task: _task_row(task, now)),
                    "requests": _newest(self._requests.troubles, REQUESTS, self._request_row),
                }
            )

    def profiles_json(self, wanted: Wanted) -> bytes:
        """Return the rows of the profiles wanted, the newest first, and how many there are."""
        needle = wanted.needle
        with self._lock:
            self._settle(time.monotonic())
            total = len(self._profiles.rows)
            some = {"again": self._runs.who_again, "alike": self._runs.who_alike}.get(
                wanted.entered
            )
            found = list(self._profiles.rows if some is None else some.values())
        found.reverse()
        if needle or wanted.workflow_id is not None:
            found = list(self._select(found, wanted))
        with self._lock:
            rows = [_profile_row(profile, needle) for profile in found[: wanted.limit]]
        return _encoder.encode({"rows": rows, "found": len(found), "total": total})

    def profile_json(self, number: int) -> bytes | None:
        """Return one profile with its imports, the newest first; None if there is none."""
        with self._lock:
            self._settle(time.monotonic())
            if not 1 <= number <= len(self._profiles.rows):
                return None
            profile = self._profiles.rows[number - 1]
            imports = range(len(profile.history), 0, -1)[:_IMPORTS]
            return _encoder.encode(
                {
                    "number": number,
                    "id": _cut(profile.id, _FULL),
                    **_fields(profile.fields.items(), _FIELDS, _FULL),
                    "imports": [self._import_row(profile, each) for each in imports],
                    "more_imports": len(profile.history) - len(imports),
                }
            )

    def _select(self, profiles: Sequence[Profile], wanted: Wanted) -> Iterator[Profile]:
        needle, workflow_id = wanted.needle, wanted.workflow_id
        for start in range(0, len(profiles), _AT_ONCE):
            time.sleep(_PAUSE_SECONDS)
            with self._lock:
                for profile in profiles[start : start + _AT_ONCE]:
                    is_wanted = workflow_id is None or _entered(profile, workflow_id, wanted)
                    if is_wanted and (not needle or needle in self._text(profile)):
                        yield profile

    def _text(self, profile: Profile) -> str:
        known = self._texts.get(profile.number)
        if known is None or known[0] != len(profile.history):
            known = len(profile.history), _text_of(profile)
            self._texts[profile.number] = known
        return known[1]

    def _request_row(self, seen: RequestSeen) -> Json:
        task = self._tasks.get(seen.task_id or "") if seen.accepted else None
        return {
            "at": seen.at,
            "endpoint": seen.endpoint,
            "entries": seen.entries,
            "bytes": seen.bytes,
            "status": seen.status,
            "error": seen.error,
            "fault": seen.fault,
            "task": task.number if task else None,
            "reason": _cut(seen.text, _FULL),
        }

    def _import_row(self, profile: Profile, number: int) -> Json:
        entered = profile.history[number - 1]
        task = self._tasks[entered["task_id"]]
        alike = (
            index
            for index, other in enumerate(profile.history[: number - 1], 1)
            if self._runs.is_alike(entered, other)
        )
        shared = {
            name: value for name, value in task.envelope.items() if name not in _IN_OWN_COLUMNS
        }
        return {
            "number": number,
            "at": entered["at"],
            "workflow_id": entered["workflow_id"],
            "task": task.number,
            "matching": task.matching,
            "same_as": next(alike, None),
            **_fields(_parts(entered["entry"]), _FIELDS, _FULL),
            "shared": _fields(_parts(shared), _FIELDS, _FULL),
        }


def _entered(profile: Profile, workflow_id: int, wanted: Wanted) -> bool:
    if wanted.entered == "alike":
        return workflow_id in profile.repeats
    return profile.runs.get(workflow_id, 0) > (wanted.entered == "again")


_Row = t.TypeVar("_Row")


def _newest(rows: Sequence[_Row], limit: int, row: t.Callable[[_Row], Json]) -> Json:
    shown = [row(each) for each in itertools.islice(reversed(rows), limit)]
    return {"rows": shown, "more": len(rows) - len(shown)}


def _cut(value: object, limit: int) -> Json:
    """Return a value as text, and its length if that is more than can be shown."""
    text = value if isinstance(value, str) else _encoder.encode(value).decode()
    return {"text": text} if len(text) <= limit else {"text": text[:limit], "length": len(text)}


def _fields(pairs: t.Iterable[tuple[str, t.Any]], limit: int, length: int) -> Json:
    every = list(pairs)
    return {
        "fields": [
            {"name": _cut(name, _CELL), **_cut(value, length)} for name, value in every[:limit]
        ],
        "more_fields": max(0, len(every) - limit),
    }


def _parts(entry: Json) -> Iterator[tuple[str, t.Any]]:
    """Yield an entry's values: a profile's under their own names, others as `part.name`."""
    yield from entry.get("data", {}).items()
    for part, value in entry.items():
        if part == "data":
            continue
        if isinstance(value, dict):
            yield from ((f"{part}.{name}", each) for name, each in value.items())
        else:
            yield part, value


def _values(profile: Profile) -> Iterator[tuple[str, t.Any]]:
    """Yield every value that is or was the customer's, the present ones first."""
    yield from profile.fields.items()
    yield "id", profile.id
    for entered in reversed(profile.history):
        yield from _parts(entered["entry"])


def _text_of(profile: Profile) -> str:
    """Return every value that is or was the customer's in one text, to search in."""
    present = profile.fields
    values: list[t.Any] = [*present.values(), profile.id]
    for entered in profile.history:
        for part, value in entered["entry"].items():
            if part == "data":
                # Most of what was imported is what the fields still hold: the same objects.
                values += [each for name, each in value.items() if each is not present.get(name)]
            else:
                values.append(value)
    return "\n".join(_leaves(values)).casefold()


def _leaves(value: object) -> Iterator[str]:
    """Yield the texts a value is made of. Not recursive: a value may be nested deeply."""
    left: list[t.Any] = [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, list):
            left += each
        elif isinstance(each, dict):
            left += each.values()
        elif each is not None:
            yield as_text(each)


def _profile_row(profile: Profile, needle: str) -> Json:
    return {
        "number": profile.number,
        **_fields(profile.fields.items(), _FIELDS_OF_ROW, _CELL),
        "runs": profile.runs,
        "repeats": profile.repeats,
        "imports": len(profile.history),
        "at": profile.history[-1]["at"],
        "hit": _hit(profile, needle) if needle else None,
    }


def _hit(profile: Profile, needle: str) -> Json | None:
    """Return the first value that holds the text, cut around it."""
    for name, value in _values(profile):
        for text in _leaves(value):
            folded = text.casefold()
            if needle not in folded:
                continue
            # Case-folding may change the length ("ß"); then where the text stands is not known.
            at = folded.index(needle) if len(folded) == len(text) else 0
            start = max(0, at - _BEFORE_HIT)
            shown = ("…" if start else "") + text[start : start + _CELL]
            cut = {"length": len(text)} if len(text) > _CELL else {}
            return {"name": _cut(name, _CELL), "text": shown, **cut}
    return None


def _task_row(task: Task, now: float) -> Json:
    ended = task.ends_at is not None and task.ends_at <= now
    return {
        "number": task.number,
        "workflow_id": task.workflow_id,
        "entries": task.size,
        "bytes": task.body_bytes,
        "progress": task.progress(now),
        "outcome": task.outcome,
        "at": task.accepted_at,
        "seconds": (task.ends_at if task.ends_at and ended else now) - task.accepted_at,
        "polls": len(task.polls),
        "fault": task.fault_kind,
        "failures": len(task.failures) if task.outcome == "completed" else 0,
        "reason": _cut(_reason(task, now), _FULL),
    }


def _reason(task: Task, now: float) -> str:
    """Return why a task, or the first of its profiles that failed, came to nothing."""
    if task.outcome == "completed" and task.failures:
        failure = next(iter(task.failures.values()))
        return _words(failure) or "no profile_id in the result"
    if task.outcome == "vanished":
        return "the platform no longer knows it"
    if task.outcome not in ("running", "stuck", "completed"):
        return _words(task.report(now)["result"])
    return ""


def _words(answer: Json) -> str:
    texts = dict.fromkeys(
        str(answer[name]) for name in ("error", "error_text", "error_debug") if answer.get(name)
    )
    return ": ".join(texts)
