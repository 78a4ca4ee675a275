"""Scenario runs: who entered which scenario, how often, and with what."""

from __future__ import annotations

import typing as t
from collections import Counter

if t.TYPE_CHECKING:
    from collections.abc import Mapping

    from target_altcraft.sandbox.profiles import Profile
    from target_altcraft.sandbox.submission import Json
    from target_altcraft.sandbox.task import Task

_LOOK_BACK = 100
"""How many of a profile's imports the next one is compared with."""


class Runs:
    """The scenario runs of one world. Guarded by its owner's lock.

    Attributes:
        entered: How many runs there were, by workflow id.
        customers: How many profiles entered, by workflow id.
        again: How many of them did so more than once, by workflow id.
        alike: How many did so with the same entry, by workflow id.
        who_again: The profiles that entered any one scenario more than once, by number.
        who_alike: Those that did so with the same entry, by number.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self._tasks = tasks
        self.entered: Counter[int] = Counter()
        self.customers: Counter[int] = Counter()
        self.again: Counter[int] = Counter()
        self.alike: Counter[int] = Counter()
        self.who_again: dict[int, Profile] = {}
        self.who_alike: dict[int, Profile] = {}

    def enter(self, profile: Profile, workflow_id: int) -> None:
        """Count that a profile enters a scenario with the last of its imports."""
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

    def is_alike(self, one: Json, other: Json) -> bool:
        """Whether two imports of a profile asked for the same: to the customer, the same twice."""
        if one["workflow_id"] != other["workflow_id"] or one["entry"] != other["entry"]:
            return False
        return self._tasks[one["task_id"]].envelope == self._tasks[other["task_id"]].envelope
