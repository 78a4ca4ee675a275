"""What the page shows of a world: rows cut to a legible size, and the search over every value.

The page asks again twice a second, so what it asks for stays small and quick however much the
sandbox holds: some rows, and how many there are.
"""

from __future__ import annotations

import itertools
import time
import typing as t
from collections import Counter
from dataclasses import dataclass

import msgspec

from target_altcraft.sandbox.values import CELL, cut, fields_of, hit_in, parts_of, text_of
from target_altcraft.sandbox.world import World

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from target_altcraft.sandbox.profiles import Profile
    from target_altcraft.sandbox.requestlog import RequestSeen
    from target_altcraft.sandbox.scenarios import Workflow
    from target_altcraft.sandbox.submission import Json
    from target_altcraft.sandbox.subscriptions import Subscription
    from target_altcraft.sandbox.task import Task

MAX_PROFILES = 1000
TASKS = 100
REQUESTS = 50

_NAME = 80
"""Characters of a scenario's name."""
_CHANNELS = 10
_FULL = 2000
"""Characters of a value in a profile's details."""
_FIELDS_OF_ROW = 24
_FIELDS = 200
_IMPORTS = 50
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
        entered: Only those who entered it, or else any, in this way: "again": more than once;
            "alike": with the same entry; "messaged": and got its message; "unmessaged": and never
            did.
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

    def overview_json(self, outcome: str = "", skip: int = 0, limit: int = TASKS) -> bytes:
        """Return totals, scenarios, some tasks and the newest rejected requests.

        Args:
            outcome: Show tasks with this outcome only.
            skip: How many of the newest of them to pass over.
            limit: How many tasks at most, the newest first.
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
                        "messages": self._runs.messaged.total(),
                        "channels": _channels(self._runs.by_channel),
                        "delivered": self._totals["delivered_entries"],
                        "tasks": len(tasks),
                        "again": len(self._runs.who_again),
                        "alike": len(self._runs.who_alike),
                        "requests": self._requests.totals["requests"],
                        "refused": self._requests.totals["refused_requests"],
                        "unanswered": self._requests.totals["unanswered_requests"],
                    },
                    "workflows": [self._workflow_row(each) for each in self._workflows.values()],
                    "outcomes": Counter(task.outcome for task in tasks),
                    "tasks": _newest(chosen, limit, lambda task: _task_row(task, now), skip),
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
        if needle or wanted.workflow_id is not None or wanted.entered:
            found = list(self._select(found, wanted))
        with self._lock:
            rows = [self._profile_row(profile, needle) for profile in found[: wanted.limit]]
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
                    "id": cut(profile.id, _FULL),
                    **fields_of(profile.fields.items(), _FIELDS, _FULL),
                    "subscriptions": [
                        self._subscription_row(each) for each in profile.subscriptions[:_FIELDS]
                    ],
                    "imports": [self._import_row(profile, each) for each in imports],
                    "more_imports": len(profile.history) - len(imports),
                }
            )

    def _select(self, profiles: Sequence[Profile], wanted: Wanted) -> Iterator[Profile]:
        needle = wanted.needle
        for start in range(0, len(profiles), _AT_ONCE):
            time.sleep(_PAUSE_SECONDS)
            with self._lock:
                for profile in profiles[start : start + _AT_ONCE]:
                    if _entered(profile, wanted) and (not needle or needle in self._text(profile)):
                        yield profile

    def _text(self, profile: Profile) -> str:
        known = self._texts.get(profile.number)
        if known is None or known[0] != len(profile.history):
            known = len(profile.history), text_of(profile)
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
            "reason": cut(seen.text, _FULL),
        }

    def _workflow_row(self, workflow: Workflow) -> Json:
        resource = self._resources.get(workflow.resource_id or 0)
        return {
            "id": workflow.id,
            "name": cut(workflow.name, _NAME)["text"],
            "is_active": workflow.is_active,
            "mode": cut(workflow.mode, _NAME)["text"],
            "channel": cut(workflow.channel or "", _NAME)["text"],
            "resource": cut(resource.name if resource else "", _NAME)["text"],
            "runs": self._runs.entered[workflow.id],
            "ignored": self._runs.ignored[workflow.id],
            "messaged": self._runs.messaged[workflow.id],
            "customers": self._runs.customers[workflow.id],
            "again": self._runs.again[workflow.id],
            "alike": self._runs.alike[workflow.id],
        }

    def _profile_row(self, profile: Profile, needle: str) -> Json:
        channels: Counter[str] = Counter()
        for workflow_id, times in profile.messages.items():
            channels[self._workflows[workflow_id].channel or ""] += times
        return {
            "number": profile.number,
            **fields_of(profile.fields.items(), _FIELDS_OF_ROW, CELL),
            "runs": profile.runs,
            "repeats": profile.repeats,
            "messaged": _channels(channels),
            "imports": len(profile.history),
            "at": profile.history[-1]["at"],
            "hit": hit_in(profile, needle) if needle else None,
        }

    def _subscription_row(self, subscription: Subscription) -> Json:
        return {
            "channel": cut(subscription.channel, _NAME),
            "resource": cut(self._resources[subscription.resource_id].name, _NAME),
            "address": cut(subscription.address, CELL),
            "status": cut(subscription.status, _NAME),
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
            "entered": entered["entered"],
            "channel": cut(entered["channel"] or "", _NAME),
            "address": cut(entered["address"] or "", CELL),
            "reason": cut(entered["reason"], CELL),
            "same_as": next(alike, None),
            **fields_of(parts_of(entered["entry"]), _FIELDS, _FULL),
            "shared": fields_of(parts_of(shared), _FIELDS, _FULL),
        }


def _entered(profile: Profile, wanted: Wanted) -> bool:
    """Whether a profile entered the scenario, or any, in the way that is wanted."""
    way, workflow_id = wanted.entered, wanted.workflow_id
    if workflow_id is None:
        # "again" and "alike" were chosen from beforehand.
        by_message = {"messaged": True, "unmessaged": bool(profile.runs)}
        return way not in by_message or (
            by_message[way] and bool(profile.messages) is (way == "messaged")
        )
    if way == "alike":
        return workflow_id in profile.repeats
    if way == "messaged":
        return workflow_id in profile.messages
    if way == "unmessaged" and workflow_id in profile.messages:
        return False
    return profile.runs.get(workflow_id, 0) > (way == "again")


_Row = t.TypeVar("_Row")


def _newest(rows: Sequence[_Row], limit: int, row: t.Callable[[_Row], Json], skip: int = 0) -> Json:
    shown = [row(each) for each in itertools.islice(reversed(rows), skip, skip + limit)]
    return {"rows": shown, "found": len(rows)}


def _channels(amounts: Counter[str]) -> list[tuple[str, int]]:
    """Return how many messages went by each channel, most first."""
    return [(cut(name, _NAME)["text"], amount) for name, amount in amounts.most_common(_CHANNELS)]


def _task_row(task: Task, now: float) -> Json:
    ended = task.ends_at is not None and task.ends_at <= now
    return {
        "number": task.number,
        "workflow_id": task.workflow_id,
        "entries": task.size,
        "messaged": task.messaged,
        "bytes": task.body_bytes,
        "progress": task.progress(now),
        "outcome": task.outcome,
        "at": task.accepted_at,
        "seconds": (task.ends_at if task.ends_at and ended else now) - task.accepted_at,
        "polls": len(task.polls),
        "fault": task.fault_kind,
        "failures": len(task.failures) if task.outcome == "completed" else 0,
        "reason": cut(_reason(task, now), _FULL),
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
