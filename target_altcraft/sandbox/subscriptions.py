"""Subscriptions: what an entry asks for, and what a profile has.

Source of what is checked: the guide's pages on subscriptions and resources. Messages go to
subscriptions; the e-mail and phones of a profile "are not used for communications".
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from target_altcraft.sandbox.scenarios import Resource, Workflow
    from target_altcraft.sandbox.submission import Json

SUBSCRIBED = "subscribed"
UNSUBSCRIBED = "unsubscribed"


class _WrongError(ValueError):
    """A subscription that is refused; the message says why."""


@dataclass(slots=True)
class Subscription:
    """One of a profile's.

    Attributes:
        channel: Such as "email".
        resource_id: What it is a subscription to.
        address: The e-mail address, phone number, push token or chat id.
        status: Only those "subscribed" are messaged.
        priority: Of several to one resource by one channel, that with the lowest is messaged.
    """

    channel: str
    resource_id: int
    address: str
    status: str = SUBSCRIBED
    priority: int = 0


class Asked(t.NamedTuple):
    """A subscription as an entry has it. None: it does not say."""

    channel: str
    resource_id: int
    address: str
    status: str | None
    priority: int | None


def read_subscriptions(
    data: Json, resources: Mapping[int, Resource]
) -> tuple[list[Asked], list[str]]:
    """Return the good subscriptions in an entry's `data`, and what is wrong with the others."""
    items = data.get("subscriptions")
    if items is None:
        return [], []
    if not isinstance(items, list):
        return [], ["subscriptions is not an array"]
    good: list[Asked] = []
    wrong: list[str] = []
    for index, item in enumerate(items):
        try:
            good.append(_read(item, resources))
        except _WrongError as reason:  # noqa: PERF203 - each item has its own verdict
            wrong.append(f"subscription {index}: {reason}")
    return good, wrong


def subscribe(subscriptions: list[Subscription], asked: Asked) -> None:
    """Add what an entry asks for, or change what is there.

    A new one is subscribed. One that is there keeps its status unless the entry gives one, so that
    an import does not subscribe again who has unsubscribed.
    """
    similar = [
        each
        for each in subscriptions
        if (each.channel, each.resource_id) == (asked.channel, asked.resource_id)
    ]
    address = _comparable(asked.address, asked.channel)
    for found in similar:
        if _comparable(found.address, found.channel) == address:
            found.status = asked.status or found.status
            found.priority = found.priority if asked.priority is None else asked.priority
            return
    if asked.priority is None:
        # "By default, new subscriptions always get a higher priority": as low a number as there is,
        # and of equal ones the newest is messaged.
        priority = min((each.priority for each in similar), default=0)
    else:
        priority = asked.priority
    subscriptions.append(
        Subscription(
            asked.channel, asked.resource_id, asked.address, asked.status or SUBSCRIBED, priority
        )
    )


def messaged(subscriptions: list[Subscription], workflow: Workflow) -> tuple[str | None, str]:
    """Return the address that a scenario messages, and if there is none the reason.

    It sends one message, to the subscription with the lowest number as its priority (help centre,
    "Priority of subscription"). Of equal ones the platform takes any; here it is the newest.
    """
    if workflow.resource_id is None:
        return None, "the scenario has no resource"
    where = f"{workflow.channel} of resource {workflow.resource_id}"
    those = [
        each
        for each in subscriptions
        if (each.channel, each.resource_id) == (workflow.channel, workflow.resource_id)
    ]
    if not those:
        return None, f"no subscription to {where}"
    open_ones = [each for each in reversed(those) if each.status == SUBSCRIBED]
    if not open_ones:
        return None, f"{those[-1].status} from {where}"
    return min(open_ones, key=lambda each: each.priority).address, ""


def unsubscribe(
    subscriptions: list[Subscription],
    address: str,
    channel: str | None = None,
    resource_id: int | None = None,
) -> int:
    """Unsubscribe an address; return how many subscriptions that changed."""
    changed = 0
    for each in subscriptions:
        if (
            _comparable(each.address, each.channel) == _comparable(address, each.channel)
            and channel in (None, each.channel)
            and resource_id in (None, each.resource_id)
            and each.status != UNSUBSCRIBED
        ):
            each.status = UNSUBSCRIBED
            changed += 1
    return changed


def _comparable(address: str, channel: str) -> str:
    return address.strip().casefold() if channel == "email" else address.strip()


def _read(item: object, resources: Mapping[int, Resource]) -> Asked:
    """Return a subscription of an entry.

    Raises:
        _WrongError: What is wrong with it. Values of profiles are not quoted.
    """
    if not isinstance(item, dict):
        raise _WrongError("not an object")
    channel, resource_id = item.get("channel"), item.get("resource_id")
    if not isinstance(channel, str) or not channel:
        raise _WrongError("no channel")
    if not isinstance(resource_id, int) or isinstance(resource_id, bool):
        raise _WrongError("no resource_id")
    if resource_id not in resources:
        raise _WrongError(f"there is no resource {resource_id}")
    if channel not in resources[resource_id].channels:
        raise _WrongError(f"resource {resource_id} has no channel {channel!r}")
    address = _ADDRESSES.get(channel, _any_address)(item)
    if not address:
        raise _WrongError(f"no address for the channel {channel!r}")
    return Asked(channel, resource_id, address, *_details(item))


def _details(item: Json) -> tuple[str | None, int | None]:
    status, priority = item.get("status"), item.get("priority")
    if status is not None and not (isinstance(status, str) and status):
        raise _WrongError("status is not a string")
    if priority is not None and (not isinstance(priority, int) or isinstance(priority, bool)):
        raise _WrongError("priority is not an integer")
    if not isinstance(item.get("custom_fields", {}), dict):
        raise _WrongError("custom_fields is not an object")
    return status, priority


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _in_cc_data(item: Json, name: str) -> str:
    data = item.get("cc_data")
    value = data.get(name) if isinstance(data, dict) else None
    # A chat is known by a number, which may come as one.
    return str(value) if type(value) is int else _text(value)


def _push(item: Json) -> str:
    return _text(item.get("subscription_id")) if _text(item.get("provider")) else ""


def _cc_phone(item: Json) -> str:
    return _in_cc_data(item, "phone")


def _any_address(item: Json) -> str:
    """Return the address of a host's own channel, of which the guide says nothing."""
    found = (_text(item.get(name)) for name in ("email", "phone", "subscription_id"))
    return next(filter(None, found), "") or _in_cc_data(item, "id") or _in_cc_data(item, "phone")


_ADDRESSES: dict[str, Callable[[Json], str]] = {
    "email": lambda item: _text(item.get("email")),
    "sms": lambda item: _text(item.get("phone")),
    "push": _push,
    "telegram_bot": lambda item: _in_cc_data(item, "id"),
    "whatsapp": _cc_phone,
    "viber": _cc_phone,
    "notify": _cc_phone,
}
