"""The scenarios that there are."""

from __future__ import annotations

from dataclasses import dataclass


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
