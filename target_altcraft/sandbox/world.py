"""What the platform would know: it takes the API's calls, and carries out the tasks they make."""

from __future__ import annotations

import heapq
import threading
import time
import typing as t
import uuid
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime, timezone

import msgspec

from target_altcraft.sandbox.faults import FaultPlan, make_fault, parse_fault
from target_altcraft.sandbox.profiles import ProfileStore
from target_altcraft.sandbox.requestlog import RequestLog
from target_altcraft.sandbox.runs import Runs
from target_altcraft.sandbox.scenarios import DEFAULT_RESOURCES, DEFAULT_WORKFLOWS, with_channel
from target_altcraft.sandbox.submission import Refusal
from target_altcraft.sandbox.subscriptions import read_subscriptions
from target_altcraft.sandbox.task import Task
from target_altcraft.sandbox.verdicts import failures_of, profile_error

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from target_altcraft.sandbox.faults import Fault
    from target_altcraft.sandbox.requestlog import RequestSeen
    from target_altcraft.sandbox.runs import Message
    from target_altcraft.sandbox.scenarios import Resource, Workflow
    from target_altcraft.sandbox.submission import Json, Submission

DEFAULT_BODY_LIMIT = 10_000_000
DEFAULT_TOKEN = "demo-token"  # noqa: S105 - a demonstration's, for loopback only

_encoder = msgspec.json.Encoder(decimal_format="number")


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
        resources: What customers may subscribe to.
        forbid_list: The token's role may not list workflows.
        remember: Keep profiles, entries and requests; if not, only tasks and counters.
        refuse_where: A submit with an entry of which this is true is refused as a whole.
        fail_where: An entry of which this is true gets an error in its task's result.
    """

    token: str = DEFAULT_TOKEN
    task_seconds: float | Callable[[int, list[Json]], float] = 0.0
    body_limit: int = DEFAULT_BODY_LIMIT
    workflows: Iterable[Workflow] | None = None
    resources: Iterable[Resource] | None = None
    close_on_too_large: bool = False
    forbid_list: bool = False
    remember: bool = True
    refuse_where: Callable[[Json], bool] | None = None
    fail_where: Callable[[Json], bool] | None = None

    def __post_init__(self) -> None:
        """Start empty.

        Raises:
            SetupError: A scenario has a resource or a channel that is not there.
        """
        resources = DEFAULT_RESOURCES if self.resources is None else tuple(self.resources)
        self._resources = {resource.id: resource for resource in resources}
        chosen = DEFAULT_WORKFLOWS if self.workflows is None else self.workflows
        self._workflows = {
            workflow.id: with_channel(workflow, resources)
            for workflow in sorted(chosen, key=lambda each: each.id)
        }
        self._lock = threading.RLock()
        self._faults = FaultPlan()
        self._requests = RequestLog()
        self._tasks: dict[str, Task] = {}
        self._ends: list[tuple[float, int, Task]] = []
        self._profiles = ProfileStore()
        self._runs = Runs(self._tasks)
        self._totals = Counter(accepted_entries=0, delivered_entries=0)
        self._started = {
            "wall": datetime.now(timezone.utc).isoformat(),
            "monotonic": time.monotonic(),
        }

    # What a test or a person looks at

    @property
    def requests(self) -> list[RequestSeen]:
        """Every request to an API endpoint, in order of arrival."""
        with self._lock:
            return list(self._requests.rows)

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
        """Every profile: `id`, `fields`, `history`, `runs`, `messages` and `subscriptions`."""
        with self._lock:
            self._settle(time.monotonic())
            return [profile.as_dict() for profile in self._profiles.rows]

    @property
    def messages(self) -> list[Message]:
        """Every message that a scenario sent, in order."""
        with self._lock:
            self._settle(time.monotonic())
            return list(self._runs.messages)

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
                        {
                            **asdict(workflow),
                            "runs": self._runs.entered[workflow.id],
                            "messaged": self._runs.messaged[workflow.id],
                            "ignored": self._runs.ignored[workflow.id],
                        }
                        for workflow in self._workflows.values()
                    ],
                    "resources": list(self._resources.values()),
                    "tasks": [_task_view(task, now) for task in self._tasks.values()],
                    "profiles": self._profiles.rows,
                    "messages": self._runs.messages,
                    "requests": self._requests.rows,
                    "faults": self._faults.armed,
                    "totals": {
                        "profiles": len(self._profiles.rows),
                        "runs": self._runs.entered.total(),
                        "messages": self._runs.messaged.total(),
                        "messages_by_channel": self._runs.by_channel,
                        "tasks": len(self._tasks),
                        **self._totals,
                        **self._requests.totals,
                    },
                }
            )

    def view(self) -> Json:
        """Return the whole state, as `GET /_sandbox/state` shows it."""
        return t.cast("Json", msgspec.json.decode(self.view_json()))

    # What a customer does

    def unsubscribe(
        self, address: str, *, channel: str | None = None, resource_id: int | None = None
    ) -> int:
        """Unsubscribe an address: an e-mail (in any case), a phone, a push token, a chat id.

        Args:
            address: Whose subscriptions end.
            channel: Only those by this one.
            resource_id: Only those to this one.

        Returns:
            How many were open and no longer are.
        """
        with self._lock:
            self._settle(time.monotonic())
            return self._profiles.unsubscribe(address, channel, resource_id)

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
        with self._lock:
            return self._requests.begins(endpoint, remember=self.remember)

    def request_ends(
        self, seen: RequestSeen, *, status: int | None, error: int | None, text: str
    ) -> None:
        """Log how a request was answered.

        Called before the answer goes out, so that whoever has it finds it in the log.
        """
        with self._lock:
            self._requests.ends(seen, status=status, error=error, text=text, remember=self.remember)

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
        failures = failures_of(submission, self._resources, self.fail_where)
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
        found = [each.listed() for each in self._workflows.values() if each.id >= from_id]
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
                        profile_error(submission, index, fault) if fault.kind == "partial" else {}
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
        workflow = self._workflows[task.workflow_id]
        if workflow.is_active and not task.entries:  # only counted: nobody knows who was messaged
            task.entered = task.delivered
            self._runs.entered[workflow.id] += task.entered
        for index, (identity, entry) in enumerate(zip(task.identities, task.entries, strict=True)):
            if index in task.failures:
                task.profile_ids.append("")
                continue
            good, _ = read_subscriptions(entry["data"], self._resources)
            profile = self._profiles.upsert(identity, entry["data"], good)
            task.profile_ids.append(profile.id)
            self._runs.arrive(profile, workflow, task, entry)


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
        "entered": task.entered,
        "messaged": task.messaged,
        "failures": len(task.failures),
        "body_bytes": task.body_bytes,
        "polls": len(task.polls),
        "envelope": task.envelope,
    }
