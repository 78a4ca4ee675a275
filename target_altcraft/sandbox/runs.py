"""Scenario runs: who entered which scenario, how often, with what, and who was messaged."""

from __future__ import annotations

import typing as t
from collections import Counter
from dataclasses import dataclass

from target_altcraft.sandbox.scenarios import MODES_THAT_IGNORE
from target_altcraft.sandbox.subscriptions import messaged

if t.TYPE_CHECKING:
    from collections.abc import Mapping

    from target_altcraft.sandbox.profiles import Profile
    from target_altcraft.sandbox.scenarios import Workflow
    from target_altcraft.sandbox.submission import Json
    from target_altcraft.sandbox.task import Task

_LOOK_BACK = 100
"""How many of a profile's imports the next one is compared with."""


@dataclass(frozen=True, slots=True)
class Message:
    """What a customer got.

    Attributes:
        profile: The profile's id.
        workflow_id: The scenario that sent it.
        resource_id: The resource that the customer has subscribed to.
        channel: By which it went, such as "email".
        address: Where it went.
        task_id: The task that had the customer enter the scenario.
        at: When, in `time.monotonic()` seconds: at the task's end.
    """

    profile: str
    workflow_id: int
    resource_id: int
    channel: str
    address: str
    task_id: str
    at: float


class Runs:
    """The scenario runs of one world. Guarded by its owner's lock.

    Attributes:
        entered: How many runs there were, by workflow id.
        ignored: How many were none, because the profile was in the scenario, by workflow id.
        messaged: How many messages were sent, by workflow id.
        by_channel: How many messages were sent, by channel.
        messages: The messages, in order.
        customers: How many profiles entered, by workflow id.
        again: How many of them did so more than once, by workflow id.
        alike: How many did so with the same entry, by workflow id.
        who_again: The profiles that entered any one scenario more than once, by number.
        who_alike: Those that did so with the same entry, by number.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self._tasks = tasks
        self.entered: Counter[int] = Counter()
        self.ignored: Counter[int] = Counter()
        self.messaged: Counter[int] = Counter()
        self.by_channel: Counter[str] = Counter()
        self.messages: list[Message] = []
        self.customers: Counter[int] = Counter()
        self.again: Counter[int] = Counter()
        self.alike: Counter[int] = Counter()
        self.who_again: dict[int, Profile] = {}
        self.who_alike: dict[int, Profile] = {}

    def arrive(self, profile: Profile, workflow: Workflow, task: Task, entry: Json) -> None:
        """Note an import of a profile, and have it enter the scenario if that lets it."""
        note: Json = {
            "task_id": task.id,
            "workflow_id": workflow.id,
            "at": task.ends_at,
            "entry": entry,
            "entered": False,
            "channel": None,
            "address": None,
            "reason": "",
        }
        profile.history.append(note)
        if not workflow.is_active:
            note["reason"] = "the scenario is inactive"
        elif workflow.mode in MODES_THAT_IGNORE and workflow.id in profile.runs:
            note["reason"] = f"already in the scenario (mode {workflow.mode})"
            self.ignored[workflow.id] += 1
        else:
            note["entered"] = True
            task.entered += 1
            self._enter(profile, workflow.id)
            address, note["reason"] = messaged(profile.subscriptions, workflow)
            if address is not None:
                note["channel"], note["address"] = workflow.channel, address
                task.messaged += 1
                self._message(profile, workflow, task, address)

    def _enter(self, profile: Profile, workflow_id: int) -> None:
        self.entered[workflow_id] += 1
        times = profile.runs[workflow_id] = profile.runs.get(workflow_id, 0) + 1
        if times == 1:
            self.customers[workflow_id] += 1
            return
        if times == 2:  # noqa: PLR2004
            self.again[workflow_id] += 1
            self.who_again[profile.number] = profile
        *before, last = profile.history[-1 - _LOOK_BACK :]
        if any(self.is_alike(last, each) for each in before):
            repeats = profile.repeats[workflow_id] = profile.repeats.get(workflow_id, 0) + 1
            if repeats == 1:
                self.alike[workflow_id] += 1
                self.who_alike[profile.number] = profile

    def _message(self, profile: Profile, workflow: Workflow, task: Task, address: str) -> None:
        message = Message(
            profile=profile.id,
            workflow_id=workflow.id,
            resource_id=workflow.resource_id or 0,
            channel=workflow.channel or "",
            address=address,
            task_id=task.id,
            at=task.ends_at or 0.0,
        )
        self.messages.append(message)
        self.messaged[workflow.id] += 1
        self.by_channel[message.channel] += 1
        profile.messages[workflow.id] = profile.messages.get(workflow.id, 0) + 1

    def is_alike(self, one: Json, other: Json) -> bool:
        """Whether two imports of a profile asked for the same: to the customer, the same twice."""
        if one["workflow_id"] != other["workflow_id"] or one["entry"] != other["entry"]:
            return False
        return self._tasks[one["task_id"]].envelope == self._tasks[other["task_id"]].envelope
