"""One task: when it ends, how, and what `tasks/status` says of it meanwhile."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from target_altcraft.sandbox.faults import DEFAULT_CODE

if t.TYPE_CHECKING:
    from target_altcraft.sandbox.faults import Fault
    from target_altcraft.sandbox.submission import Identity, Json

_STUCK_PROGRESS = 40
_DONE = 100


@dataclass(slots=True)
class Task:
    """A batch that was accepted. All times are `time.monotonic()` seconds.

    Attributes:
        id: What the submit was answered with.
        number: 1 for the first task of the sandbox, and so on.
        workflow_id: The scenario.
        matching: As sent; "custom_request" where none was.
        field_name: As sent.
        accepted_at: When the submit was accepted.
        ends_at: When it completes, fails or vanishes; None: never.
        body_bytes: Size of the submit's body.
        size: Number of entries.
        entries: As sent, in order; empty when the sandbox only counts.
        envelope: The root of the body without `token` and `data`.
        polls: When its status was asked for.
        outcome: "running", then "completed", "failed" (or the fault's `name`), "result_error",
            "vanished"; "stuck" from the start.
        delivered: How many entries reached their profile.
        entered: How many of them had it enter the scenario.
        messaged: To how many of these the scenario sent its message.
    """

    id: str
    number: int
    workflow_id: int
    matching: str
    field_name: str | None
    accepted_at: float
    ends_at: float | None
    body_bytes: int
    size: int
    envelope: Json
    fault: Fault | None = None
    entries: list[Json] = field(default_factory=list)
    polls: list[float] = field(default_factory=list)
    outcome: str = "running"
    delivered: int = 0
    entered: int = 0
    messaged: int = 0
    vanishes_at: float | None = None
    identities: list[Identity] = field(default_factory=list, repr=False)
    failures: dict[int, Json] = field(default_factory=dict)
    profile_ids: list[str] = field(default_factory=list, repr=False)

    @property
    def keys(self) -> list[str]:
        """The match value of each entry, e-mail case-folded; empty when the sandbox only counts."""
        return [identity.key for identity in self.identities]

    @property
    def fault_kind(self) -> str | None:
        """The kind of the task's fault, if it has one."""
        return self.fault.kind if self.fault else None

    def settled_outcome(self) -> str:
        """Return what a task that reached its end has come to."""
        if self.vanishes_at is not None and self.vanishes_at == self.ends_at:
            return "vanished"
        if self.fault and self.fault.kind == "failed":
            return self.fault.name or "failed"
        if self.fault and self.fault.kind == "result_error":
            return "result_error"
        return "completed"

    def is_known(self, now: float) -> bool:
        """Whether the platform still knows the task."""
        return self.vanishes_at is None or now < self.vanishes_at

    def progress(self, now: float) -> int:
        """Return the percentage reported: it rises evenly, and is 100 only at the end."""
        if self.ends_at is None:
            return _STUCK_PROGRESS
        if now >= self.ends_at:
            return _DONE
        elapsed = (now - self.accepted_at) / (self.ends_at - self.accepted_at)
        return max(0, min(_DONE - 1, int(_DONE * elapsed)))

    def report(self, now: float) -> Json:
        """Return `data` of a status answer."""
        data: Json = {"status": "running", "progress": self.progress(now)}
        if self.ends_at is None or now < self.ends_at:
            if self.fault and self.fault.kind == "unknown_status":
                data["status"] = self.fault.name or "pondering"
        elif self.fault and self.fault.kind in ("failed", "result_error"):
            failed = self.fault.kind == "failed"
            data["status"] = (self.fault.name or "failed") if failed else "completed"
            data["result"] = {
                "error": DEFAULT_CODE if self.fault.code is None else self.fault.code,
                "error_text": self.fault.text or "Task failed",
                "result": [],
            }
        else:
            data["status"] = "completed"
            if self.fault and self.fault.kind == "done_as":
                data["status"] = self.fault.name or "success"
            data["result"] = {"error": 0, "error_text": "", "result": self._items()}
        if self.fault_kind == "no_progress":
            del data["progress"]
        return data

    def _items(self) -> list[Json]:
        if self.profile_ids:
            items = [{"profile_id": profile_id} for profile_id in self.profile_ids]
        else:  # the sandbox only counts: any id will do
            first = self.number << 32
            items = [{"profile_id": f"{first + index:024x}"} for index in range(self.size)]
        for index, item in self.failures.items():
            items[index] = item
        if self.fault_kind == "short":
            items.pop()
        elif self.fault_kind == "long":
            items.append({"profile_id": f"{self.number:024x}"})
        return items
