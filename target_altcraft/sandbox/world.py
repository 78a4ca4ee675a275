"""The state of the sandbox: workflows, profiles, tasks, armed faults, and what was requested."""

from __future__ import annotations

import heapq
import threading
import time
import typing as t
import uuid
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone

import msgspec

from target_altcraft.sandbox.faults import (
    DEFAULT_PROFILE_CODE,
    FaultPlan,
    make_fault,
    parse_fault,
)
from target_altcraft.sandbox.submission import (
    Refusal,
    as_text,
    email_of,
    fold,
    phones_of,
)
from target_altcraft.sandbox.task import Task

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from target_altcraft.sandbox.faults import Fault
    from target_altcraft.sandbox.submission import Identity, Json, Submission

DEFAULT_BODY_LIMIT = 10_000_000
DEFAULT_TOKEN = "demo-token"  # noqa: S105 - a demonstration's, for loopback only

_CUSTOM = "custom:"
_LOOK_BACK = 100
"""How many of a profile's imports the next one is compared with."""
_encoder = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class Workflow:
    """A scenario. An inactive one imports profiles, and starts no run."""

    id: int
    name: str
    is_active: bool = True


DEFAULT_WORKFLOWS = (
    Workflow(1, "Welcome series"),
    Workflow(2, "Order follow-up"),
    Workflow(3, "Winter sale", is_active=False),
)


@dataclass(slots=True)
class Profile:
    """A customer.

    Attributes:
        id: The platform's.
        number: 1 for the first profile of the sandbox, and so on.
        fields: The values as last imported.
        history: The imports, oldest first.
        runs: How often the customer entered a scenario, by workflow id.
        repeats: How many of these runs had the same content as one before, by workflow id.
    """

    id: str
    number: int
    fields: Json = field(default_factory=dict)
    history: list[Json] = field(default_factory=list)
    runs: dict[int, int] = field(default_factory=dict)
    repeats: dict[int, int] = field(default_factory=dict)

    def as_dict(self) -> Json:
        """Return a copy for those outside the lock."""
        return {
            "id": self.id,
            "fields": dict(self.fields),
            "history": list(self.history),
            "runs": dict(self.runs),
        }


@dataclass(slots=True)
class RequestSeen:
    """One request to an API endpoint, from its arrival on. Times are `time.monotonic()` seconds.

    Attributes:
        at: When its headers had been read.
        endpoint: "submit", "status" or "list".
        done_at: When it was answered or given up; None: neither yet.
        bytes: How many bytes of the body were received.
        entries: How many entries the body held.
        error: `error` of the answer; None: the answer had none, or there was no answer.
        status: HTTP status of the answer; None: no answer.
        fault: The kind of fault that struck it.
        task_id: The task it made, or asked after.
        accepted: A task was made, whether or not an answer told of it.
        profiles: The match value of each entry, e-mail case-folded.
        text: `error_text` and `error_debug` of the answer, or why there was none.
    """

    at: float
    endpoint: str
    done_at: float | None = None
    bytes: int = 0
    entries: int = 0
    error: int | None = None
    status: int | None = None
    fault: str | None = None
    task_id: str | None = None
    accepted: bool = False
    profiles: list[str] = field(default_factory=list)
    text: str = ""


@dataclass(kw_only=True, eq=False)
class World:
    """What the platform would know.

    Its lock guards everything in it: profiles and their indexes, tasks, the request log, the
    counters and the armed faults. A `RequestSeen` is filled in by the one thread that serves it.
    The settings are plain attributes, read once per request, and may be changed at any time. The
    lock is re-entrant, because `task_seconds` may be a function that asks the world.

    Attributes:
        token: The one token that is let in.
        task_seconds: How long a task takes, or a function of the task's number (from 1) and
            entries.
        body_limit: Bytes of the largest body taken.
        close_on_too_large: Cut the connection in mid-body instead of answering.
        workflows: The scenarios there are.
        forbid_list: The token's role may not list workflows.
        remember: Keep profiles, entries and requests; if not, only tasks and counters.
        refuse_where: A submit with an entry of which this is true is refused as a whole.
        fail_where: An entry of which this is true gets an error in its task's result.
    """

    token: str = DEFAULT_TOKEN
    task_seconds: float | Callable[[int, list[Json]], float] = 0.0
    body_limit: int = DEFAULT_BODY_LIMIT
    workflows: Iterable[Workflow] | None = None
    close_on_too_large: bool = False
    forbid_list: bool = False
    remember: bool = True
    refuse_where: Callable[[Json], bool] | None = None
    fail_where: Callable[[Json], bool] | None = None

    def __post_init__(self) -> None:
        """Start empty."""
        chosen = DEFAULT_WORKFLOWS if self.workflows is None else self.workflows
        self._workflows = {workflow.id: workflow for workflow in sorted(chosen, key=_id_of)}
        self._lock = threading.RLock()
        self._faults = FaultPlan()
        self._requests: list[RequestSeen] = []
        self._tasks: dict[str, Task] = {}
        self._ends: list[tuple[float, int, Task]] = []
        self._profiles: list[Profile] = []
        self._index: dict[tuple[str, str], Profile] = {}
        self._custom_fields: set[str] = set()
        self._indexed_fields = {"email", "phones"}
        self._runs: Counter[int] = Counter()
        # For the page: who entered, who did so more than once, and who with the same entry: as
        # counts per workflow, and who did so in any of them, by number; and requests gone wrong.
        self._customers: Counter[int] = Counter()
        self._again: Counter[int] = Counter()
        self._alike: Counter[int] = Counter()
        self._who_again: dict[int, Profile] = {}
        self._who_alike: dict[int, Profile] = {}
        self._troubles: list[RequestSeen] = []
        self._totals: Counter[str] = Counter()
        self._started = {
            "wall": datetime.now(timezone.utc).isoformat(),
            "monotonic": time.monotonic(),
        }

    # What a test or a person looks at

    @property
    def requests(self) -> list[RequestSeen]:
        """Every request to an API endpoint, in order of arrival."""
        with self._lock:
            return list(self._requests)

    @property
    def tasks(self) -> list[Task]:
        """Every task, in order of acceptance."""
        with self._lock:
            self._settle(time.monotonic())
            return list(self._tasks.values())

    @property
    def entries(self) -> list[Json]:
        """Every accepted entry, in order of tasks, then of the body."""
        return [entry for task in self.tasks for entry in task.entries]

    @property
    def profiles(self) -> list[Json]:
        """Every profile as a dictionary with `id`, `fields`, `history` and `runs`."""
        with self._lock:
            self._settle(time.monotonic())
            return [profile.as_dict() for profile in self._profiles]

    def max_tasks_in_flight(self) -> int:
        """Return the greatest number of tasks that were running at one time."""
        moments: list[tuple[float, int]] = []
        for task in self.tasks:
            moments.append((task.accepted_at, 1))
            if task.ends_at is not None:
                moments.append((task.ends_at, -1))
        most = running = 0
        for _, change in sorted(moments):
            running += change
            most = max(most, running)
        return most

    def view_json(self) -> bytes:
        """Return the whole state as JSON."""
        with self._lock:
            now = time.monotonic()
            self._settle(now)
            return _encoder.encode(
                {
                    "started": self._started,
                    "now": now,
                    "workflows": [
                        {**asdict(workflow), "runs": self._runs[workflow.id]}
                        for workflow in self._workflows.values()
                    ],
                    "tasks": [_task_view(task, now) for task in self._tasks.values()],
                    "profiles": self._profiles,
                    "requests": self._requests,
                    "faults": self._faults.armed,
                    "totals": {
                        "profiles": len(self._profiles),
                        "runs": self._runs.total(),
                        "tasks": len(self._tasks),
                        **{name: self._totals[name] for name in _TOTALS},
                    },
                }
            )

    def view(self) -> Json:
        """Return the whole state, as `GET /_sandbox/state` shows it."""
        return t.cast("Json", msgspec.json.decode(self.view_json()))

    # Faults

    def add_fault(self, fault: Fault | str, kind: str | None = None, **options: object) -> Fault:
        """Arm a fault: one that is ready, a text for `parse_fault`, or endpoint, kind, options.

        Raises:
            FaultError: It means nothing.
        """
        if isinstance(fault, str):
            fault = parse_fault(fault) if kind is None else make_fault(fault, kind, options)
        with self._lock:
            self._faults.add(fault)
        return fault

    def clear_faults(self) -> None:
        """Disarm all faults; tasks that have one keep it."""
        with self._lock:
            self._faults.armed.clear()

    def faults_json(self) -> bytes:
        """Return the armed faults, with how often each has struck."""
        with self._lock:
            return _encoder.encode({"faults": self._faults.armed})

    def claim_fault(self, endpoint: str, body: bytes | None = None) -> Fault | None:
        """Return the fault that strikes this request; see `FaultPlan.claim`."""
        with self._lock:
            return self._faults.claim(endpoint, body)

    # Requests

    def request_begins(self, endpoint: str) -> RequestSeen:
        """Log a request whose headers have arrived."""
        seen = RequestSeen(time.monotonic(), endpoint)
        with self._lock:
            self._totals["requests"] += 1
            if self.remember:
                self._requests.append(seen)
        return seen

    def request_ends(
        self, seen: RequestSeen, *, status: int | None, error: int | None, text: str
    ) -> None:
        """Log how a request was answered.

        Called before the answer goes out, so that whoever has it finds it in the log.
        """
        with self._lock:
            seen.done_at = time.monotonic()
            seen.status, seen.error, seen.text = status, error, text
            if status is None:
                self._totals["unanswered_requests"] += 1
            elif error or status != 200:  # noqa: PLR2004
                self._totals["refused_requests"] += 1
            elif seen.fault is None or seen.fault == "slow":
                return
            if self.remember:
                self._troubles.append(seen)

    # The API's three calls

    def check_token(self, token: object) -> None:
        """Let in the one token.

        Raises:
            Refusal: 401.
        """
        if token is None:
            raise Refusal(401, "Token required")
        if token != self.token:
            raise Refusal(401, "Token required", "invalid token")

    def submit(self, submission: Submission, body: bytes, seen: RequestSeen) -> str:
        """Make a task of a well-formed submit, and return its id.

        Raises:
            Refusal: The workflow is not there, or `refuse_where` says so.
        """
        if submission.workflow_id not in self._workflows:
            raise Refusal(400, "Workflow not found")
        if self.refuse_where is not None:
            for index, entry in enumerate(submission.entries):
                if self.refuse_where(entry):
                    raise Refusal(400, debug=f"entry {index} is invalid")
        failures: dict[int, Json] = {}
        if self.fail_where is not None:
            for index, entry in enumerate(submission.entries):
                if self.fail_where(entry):
                    failures[index] = _profile_error(submission, index, None)
        with self._lock:
            now = time.monotonic()
            self._settle(now)
            task = self._make_task(submission, len(body), now)
            task.fault = self._faults.claim("task") or self._faults.claim("task", body)
            task.failures = failures
            self._apply_fault(task, submission)
            if task.ends_at is not None:
                heapq.heappush(self._ends, (task.ends_at, task.number, task))
            self._tasks[task.id] = task
            self._totals["accepted_entries"] += task.size
            seen.accepted = True
            seen.task_id = task.id
        return task.id

    def task_report(self, task_id: object) -> Json:
        """Return `data` of a status answer.

        Raises:
            Refusal: There is no such task, or no longer.
        """
        with self._lock:
            now = time.monotonic()
            self._settle(now)
            task = self._tasks.get(task_id) if isinstance(task_id, str) else None
            if task is None:
                raise Refusal(400, "no such task")
            task.polls.append(now)
            if not task.is_known(now):
                raise Refusal(400, "no such task")
            return task.report(now)

    def list_workflows(self, from_id: object, limit: object) -> list[Json]:
        """Return the workflows from an id on, in order of id.

        Raises:
            Refusal: 403 if that is forbidden, 400 if a parameter is no integer.
        """
        if self.forbid_list:
            raise Refusal(403, "No access")
        if not isinstance(from_id, int) or not isinstance(limit, int):
            raise Refusal(400, debug="from_id and limit must be integers")
        found = [asdict(each) for each in self._workflows.values() if each.id >= from_id]
        return found[: max(0, limit)]

    # Below here the lock is held

    def _make_task(self, submission: Submission, body_bytes: int, now: float) -> Task:
        number = len(self._tasks) + 1
        seconds = (
            self.task_seconds(number, submission.entries)
            if callable(self.task_seconds)
            else self.task_seconds
        )
        task = Task(
            id=str(uuid.uuid4()),
            number=number,
            workflow_id=submission.workflow_id,
            matching=submission.matching,
            field_name=submission.field_name,
            accepted_at=now,
            ends_at=now + seconds,
            body_bytes=body_bytes,
            size=len(submission.entries),
            envelope=submission.envelope,
        )
        if self.remember:
            task.entries = submission.entries
            task.identities = submission.identities
            task.keys = [identity.key for identity in submission.identities]
        return task

    def _apply_fault(self, task: Task, submission: Submission) -> None:
        fault = task.fault
        if fault is None:
            return
        if fault.kind == "stuck":
            task.ends_at, task.outcome = None, "stuck"
        elif fault.kind == "vanished" and task.ends_at is not None:
            task.vanishes_at = task.accepted_at + fault.seconds
            task.ends_at = min(task.ends_at, task.vanishes_at)
        elif fault.kind in ("partial", "no_profile_id"):
            for index in fault.indexes:
                if index < task.size:
                    task.failures[index] = (
                        _profile_error(submission, index, fault) if fault.kind == "partial" else {}
                    )

    def _settle(self, now: float) -> None:
        """Carry out the tasks that have ended: in order of their ends, then of acceptance.

        Done by whoever looks next rather than by a clock of its own; nobody can tell.
        """
        while self._ends and self._ends[0][0] <= now:
            _, _, task = heapq.heappop(self._ends)
            task.outcome = task.settled_outcome()
            if task.outcome == "completed":
                self._deliver(task)

    def _deliver(self, task: Task) -> None:
        task.delivered = task.size - len(task.failures)
        self._totals["delivered_entries"] += task.delivered
        is_active = self._workflows[task.workflow_id].is_active
        if is_active:
            self._runs[task.workflow_id] += task.delivered
        for index, (identity, entry) in enumerate(zip(task.identities, task.entries, strict=True)):
            if index in task.failures:
                task.profile_ids.append("")
                continue
            profile = self._upsert(identity, entry["data"])
            task.profile_ids.append(profile.id)
            profile.history.append(
                {
                    "task_id": task.id,
                    "workflow_id": task.workflow_id,
                    "at": task.ends_at,
                    "entry": entry,
                }
            )
            if is_active:
                self._enter(profile, task.workflow_id)

    def _enter(self, profile: Profile, workflow_id: int) -> None:
        times = profile.runs[workflow_id] = profile.runs.get(workflow_id, 0) + 1
        if times == 1:
            self._customers[workflow_id] += 1
            return
        if times == 2:  # noqa: PLR2004
            self._again[workflow_id] += 1
            self._who_again[profile.number] = profile
        *before, last = profile.history[-1 - _LOOK_BACK :]
        if any(self._is_alike(last, each) for each in before):
            repeats = profile.repeats[workflow_id] = profile.repeats.get(workflow_id, 0) + 1
            if repeats == 1:
                self._alike[workflow_id] += 1
                self._who_alike[profile.number] = profile

    def _is_alike(self, one: Json, other: Json) -> bool:
        """Whether two imports of a profile asked for the same: to the customer, the same twice."""
        if one["workflow_id"] != other["workflow_id"] or one["entry"] != other["entry"]:
            return False
        return self._tasks[one["task_id"]].envelope == self._tasks[other["task_id"]].envelope

    def _upsert(self, identity: Identity, data: Json) -> Profile:
        if identity.kind.startswith(_CUSTOM):
            self._index_custom_field(identity.kind[len(_CUSTOM) :])
        profile = self._index.get((identity.kind, identity.key)) or self._create(identity)
        for name in self._indexed_fields:
            if name in data and data[name] != profile.fields.get(name):
                self._reindex(profile, name, data[name])
        profile.fields.update(data)
        return profile

    def _create(self, identity: Identity) -> Profile:
        """Make the profile that was looked for, with the value it was looked for by."""
        by_id = identity.kind == "profile_id"
        number = len(self._profiles) + 1
        profile = Profile(identity.key if by_id else f"{number:024x}", number)
        if identity.kind == "email":
            profile.fields["email"] = identity.value
        elif identity.kind == "phone":
            profile.fields["phones"] = [identity.value]
        elif identity.kind.startswith(_CUSTOM):
            profile.fields[identity.kind[len(_CUSTOM) :]] = identity.value
        self._profiles.append(profile)
        self._index["profile_id", profile.id] = profile
        self._index[identity.kind, identity.key] = profile
        return profile

    def _reindex(self, profile: Profile, name: str, value: object) -> None:
        """Find a profile by a field's new value, and no longer by its old one."""
        for key in self._keys(name, profile.fields.get(name)):
            if self._index.get(key) is profile:
                del self._index[key]
        for key in self._keys(name, value):
            # An address that another profile has already goes on finding that other one.
            self._index.setdefault(key, profile)

    def _keys(self, name: str, value: object) -> Iterable[tuple[str, str]]:
        """Yield the index keys that a field's value stands for."""
        if name == "email" and isinstance(value, str):
            yield "email", fold(value)
        elif name == "phones":
            for phone in phones_of(value):
                yield "phone", phone
        if name in self._custom_fields and value is not None:
            yield _CUSTOM + name, as_text(value)

    def _index_custom_field(self, name: str) -> None:
        """Index a custom field the first time anybody searches by it."""
        if name in self._custom_fields:
            return
        self._custom_fields.add(name)
        self._indexed_fields.add(name)
        for profile in self._profiles:
            if profile.fields.get(name) is not None:
                self._index.setdefault((_CUSTOM + name, as_text(profile.fields[name])), profile)


_TOTALS = (
    "accepted_entries",
    "delivered_entries",
    "requests",
    "refused_requests",
    "unanswered_requests",
)


def _id_of(workflow: Workflow) -> int:
    return workflow.id


def _task_view(task: Task, now: float) -> Json:
    return {
        "id": task.id,
        "number": task.number,
        "workflow_id": task.workflow_id,
        "matching": task.matching,
        "field_name": task.field_name,
        "accepted_at": task.accepted_at,
        "ends_at": task.ends_at,
        "outcome": task.outcome,
        "progress": task.progress(now),
        "fault": task.fault_kind,
        "entries": task.size,
        "delivered": task.delivered,
        "failures": len(task.failures),
        "body_bytes": task.body_bytes,
        "polls": len(task.polls),
        "envelope": task.envelope,
    }


def _profile_error(submission: Submission, index: int, fault: Fault | None) -> Json:
    """Return the item of a profile that was not imported; as platforms do, it quotes it."""
    who = email_of(submission.entries[index]) or submission.identities[index].key
    code = fault.code if fault else None
    return {
        "error": DEFAULT_PROFILE_CODE if code is None else code,
        "error_text": (fault.text if fault else "") or "Invalid profile",
        "error_debug": f"profile {who} was not imported",
    }
