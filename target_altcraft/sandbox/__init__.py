"""A local stand-in for the Altcraft marketing platform: demos, rehearsals, tests.

It imports nothing else of this project, and nothing else imports it. It binds loopback only.

    with Sandbox(port=0, task_seconds=0.5) as sandbox:
        sandbox.add_fault("submit", "http", status=503, retry_after="1")
        ...  # talk to sandbox.url
        assert sandbox.profiles and sandbox.messages
"""

from __future__ import annotations

import importlib
import typing as t

if t.TYPE_CHECKING:
    from target_altcraft.sandbox.faults import Fault
    from target_altcraft.sandbox.requestlog import RequestSeen
    from target_altcraft.sandbox.runs import Message
    from target_altcraft.sandbox.scenarios import Resource, Workflow
    from target_altcraft.sandbox.server import Sandbox
    from target_altcraft.sandbox.task import Task

__all__ = ["Fault", "Message", "RequestSeen", "Resource", "Sandbox", "Task", "Workflow"]

_HOMES = {
    "Fault": "faults",
    "Message": "runs",
    "RequestSeen": "requestlog",
    "Resource": "scenarios",
    "Sandbox": "server",
    "Task": "task",
    "Workflow": "scenarios",
}


def __getattr__(name: str) -> t.Any:  # noqa: ANN401 - what a module attribute is
    """Import on first use, so that the command can say that Flask is missing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
