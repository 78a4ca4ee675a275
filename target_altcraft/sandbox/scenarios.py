"""What an account is set up with: resources with their channels, and the scenarios there are."""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass

if t.TYPE_CHECKING:
    from collections.abc import Iterable

    from target_altcraft.sandbox.submission import Json

EMAIL = "email"
MODES_THAT_IGNORE = ("skip", "skip_in_any_case")
"""A scenario with one of these modes ignores profiles that are already in it (`workflows/list`)."""

_AGAIN = "restart"
"""The mode of a scenario that may be entered again. The guide does not tell its name."""


class SetupError(ValueError):
    """Resources or scenarios that do not fit together, or a text that means none."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What customers subscribe to, by one or several channels.

    Attributes:
        id: `resource_id` of subscriptions.
        name: For people.
        channels: Such as "email", "sms", "push", "telegram_bot", or a host's own.
    """

    id: int
    name: str
    channels: tuple[str, ...] = (EMAIL,)


@dataclass(frozen=True, slots=True)
class Workflow:
    """A scenario. An inactive one imports profiles, and starts no run.

    Attributes:
        id: `workflow_id` of submits.
        name: For people.
        is_active: Whether profiles enter it.
        resource_id: The resource whose subscriptions it messages; None: the first that has its
            channel.
        channel: By which it messages; None: e-mail, or the first channel of a resource without.
        mode: What happens to a profile that enters again; see `MODES_THAT_IGNORE`.
        list_id: The database of its profiles.
    """

    id: int
    name: str
    is_active: bool = True
    resource_id: int | None = None
    channel: str | None = None
    mode: str = _AGAIN
    list_id: int = 1

    def listed(self) -> Json:
        """Return the item of `workflows/list`, as the guide shows it."""
        return {
            "id": self.id,
            "name": self.name,
            "is_active": self.is_active,
            "list_id": self.list_id,
            "mode": self.mode,
            "nodes": [
                {"name": "Start", "type": "start"},
                {"name": "Message", "type": "campaign"},
            ],
        }


DEFAULT_RESOURCES = (
    Resource(7, "Newsletter", (EMAIL, "sms")),
    Resource(8, "Bot", ("telegram_bot", "push")),
)
DEFAULT_WORKFLOWS = (
    Workflow(1, "Welcome series"),
    Workflow(2, "Order follow-up"),
    Workflow(3, "Winter sale", is_active=False),
)


def with_channel(workflow: Workflow, resources: Iterable[Resource]) -> Workflow:
    """Return the scenario with its resource and channel filled in; without resources, as it is.

    Raises:
        SetupError: No resource is like that.
    """
    every = list(resources)
    if not every and workflow.resource_id is None and workflow.channel is None:
        return workflow
    wanted = workflow.channel or EMAIL
    those = [each for each in every if workflow.resource_id in (None, each.id)]
    for resource in those:
        if wanted in resource.channels:
            return dataclasses.replace(workflow, resource_id=resource.id, channel=wanted)
    if workflow.channel is None and those:
        first = those[0]
        return dataclasses.replace(workflow, resource_id=first.id, channel=first.channels[0])
    if workflow.resource_id is None:
        raise SetupError(f"workflow {workflow.id}: no resource has the channel {wanted!r}")
    if not those:
        raise SetupError(f"workflow {workflow.id}: there is no resource {workflow.resource_id}")
    raise SetupError(
        f"workflow {workflow.id}: resource {workflow.resource_id} has no channel {wanted!r}"
    )


def parse_resource(text: str) -> Resource:
    """Return the resource that a text like `7:email+sms:Newsletter` means.

    Raises:
        SetupError: It means none.
    """
    number, _, rest = text.partition(":")
    channels, _, name = rest.partition(":")
    names = tuple(channel.strip() for channel in channels.split("+"))
    if not (number.isdecimal() and all(names) and name):
        raise SetupError(f"{text!r} is not ID:CHANNEL[+CHANNEL]...:NAME")
    return Resource(int(number), name, names)


def parse_workflow(text: str) -> Workflow:
    """Return the scenario that a text like `7:Welcome:resource=7:channel=sms:mode=skip` means.

    What follows the name may come in any order; the name may hold colons.

    Raises:
        SetupError: It means none.
    """
    number, _, name = text.partition(":")
    options: dict[str, t.Any] = {}
    while True:
        before, colon, last = name.rpartition(":")
        option, equals, value = last.partition("=")
        if not colon or (last != "inactive" and not (equals and option in _OPTIONS and value)):
            break
        name = before
        if last == "inactive":
            options["is_active"] = False
        else:
            options[_OPTIONS[option]] = value
    resource = options.get("resource_id", "0")
    if not (number.isdecimal() and name and resource.isdecimal()):
        raise SetupError(
            f"{text!r} is not ID:NAME[:inactive][:resource=ID][:channel=CHANNEL][:mode=MODE]"
        )
    if "resource_id" in options:
        options["resource_id"] = int(resource)
    return Workflow(int(number), name, **options)


_OPTIONS = {"resource": "resource_id", "channel": "channel", "mode": "mode"}
