"""Subscriptions: what the setting `subscriptions` adds to a profile.

Altcraft sends messages to a profile's subscriptions; the e-mail and phones of its "Profile" tab
"are not used for communications" (user guide). The names of channels, and of the fields that hold
an address, are those of the developer guide.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from target_altcraft.codec import to_text
from target_altcraft.errors import Rejection

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_COLUMNS = {
    "email": ("email",),
    **dict.fromkeys(("sms", "whatsapp", "viber", "notify"), ("phone", "phones")),
}
_FIELDS = {
    "email": "email",
    "sms": "phone",
    **dict.fromkeys(("whatsapp", "viber", "notify"), "cc_data.phone"),
    "telegram_bot": "cc_data.id",
    "push": "subscription_id",
}
_OURS = {"channel", "resource_id", "column", "field"}
_PROFILE_FIELDS = frozenset({"email", "phones"})
_Identity = tuple[str, int, str]  # channel, resource, address


@dataclass(frozen=True, slots=True)
class Subscription:
    """One object of the setting `subscriptions`, with its defaults filled in.

    Objects of the setting that mean the same become equal ones, so their JSON can stand for the
    setting in a digest.
    """

    channel: str
    """Altcraft's name of the channel."""
    resource_id: int
    """The resource that the profile is subscribed to."""
    columns: tuple[str, ...]
    """Columns that may hold the address; the first that holds one counts."""
    path: tuple[str, ...]
    """Where the address goes: names of keys, each inside the one before."""
    rest: Mapping[str, t.Any]
    """What passes through as it is."""


def compiled(elements: Iterable[Mapping[str, t.Any]]) -> tuple[Subscription, ...]:
    """Return the subscriptions that a setting describes.

    Args:
        elements: Value of the setting `subscriptions`, without `faults`.
    """
    return tuple(
        Subscription(
            channel=element["channel"],
            resource_id=element["resource_id"],
            columns=(column,)
            if (column := element.get("column"))
            else _COLUMNS[element["channel"]],
            path=tuple(_field(element).split(".")),
            rest={key: value for key, value in element.items() if key not in _OURS},
        )
        for element in elements
    )


def faults(elements: Sequence[Mapping[str, t.Any]]) -> Iterator[str]:
    """Yield what is wrong with the setting `subscriptions`, beyond its JSON schema.

    Args:
        elements: Value of the setting; it fits its JSON schema.

    Yields:
        The number of the element and its fault, such as
        `[2]: 'column' is required for channel 'push'`.
    """
    for number, element in enumerate(elements):
        for fault in _faults(element):
            yield f"[{number}]: {fault}"


def _faults(element: Mapping[str, t.Any]) -> Iterator[str]:
    channel = element["channel"]
    if "column" not in element and channel not in _COLUMNS:
        yield f"'column' is required for channel '{channel}'"
    if element.get("column") == "subscriptions":
        yield "'column' must not be 'subscriptions'"
    field = _field(element)
    if not field:
        yield f"'field' is required for channel '{channel}'"
        return
    path = field.split(".")
    if not all(path):
        yield "'field' must be names joined by dots"
    elif path[0] in {"channel", "resource_id"}:
        yield f"'field' must not be '{path[0]}'"
    elif _is_taken(element, path):
        yield "another key stands where the address goes (see 'field'); leave that key out"


def _field(element: Mapping[str, t.Any]) -> str:
    field: str = element.get("field") or _FIELDS.get(element["channel"], "")
    return field


def _is_taken(element: Mapping[str, t.Any], path: Sequence[str]) -> bool:
    """Tell whether an element has a value where the address goes, or on the way there."""
    place: t.Any = {key: value for key, value in element.items() if key not in _OURS}
    for name in path:
        if not isinstance(place, dict):
            return True
        if name not in place:
            return False
        place = place[name]
    return True


class SubscriptionPlan:
    """How the records of one stream get their subscriptions.

    Args:
        subscriptions: The stream's setting, compiled.
        stays: Columns that the profile keeps though a subscription uses them; `email` and `phones`
            are always kept.
    """

    def __init__(self, subscriptions: Sequence[Subscription], stays: Iterable[str] = ()) -> None:
        self._subscriptions = tuple(subscriptions)
        self._parts = tuple(
            (each, {"channel": each.channel, "resource_id": each.resource_id, **each.rest})
            for each in self._subscriptions
        )
        columns = dict.fromkeys(name for each in self._subscriptions for name in each.columns)
        self._moved = tuple(columns.keys() - _PROFILE_FIELDS.union(stays))

    def add(self, profile: dict[str, t.Any], record: Mapping[str, t.Any]) -> bool:
        """Add the subscriptions to a profile, and move the columns out that only they use.

        Those of the record's own `subscriptions` column come first and stay as they are; one with
        the same channel, resource and address is not added again. A null or blank address makes no
        subscription, an array one for each of its addresses.

        Args:
            profile: The profile, after its match value has been put in its place.
            record: The record after stream maps; it has the columns that the profile lost.

        Returns:
            Whether the profile has any subscription.

        Raises:
            Rejection: If an address is neither text nor a number, or the record's own
                `subscriptions` is not an array of objects.
        """
        own = profile.get("subscriptions")
        result, seen = self._own(own) if own else ([], set())
        for subscription, template in self._parts:
            for address in _addresses(subscription.columns, profile, record):
                key = _identity(subscription, address)
                if key not in seen:
                    seen.add(key)
                    result.append(_made(template, subscription.path, address))
        for name in self._moved:
            profile.pop(name, None)
        if not result:
            return False
        profile["subscriptions"] = result
        return True

    def _own(self, own: t.Any) -> tuple[list[t.Any], set[_Identity]]:  # noqa: ANN401
        """Return the record's own subscriptions, and which of the setting's they stand for."""
        if not isinstance(own, list) or not all(isinstance(item, dict) for item in own):
            raise Rejection(
                "bad_subscriptions", "column 'subscriptions' is not an array of objects"
            )
        seen = {
            _identity(subscription, address)
            for item in own
            for subscription in self._subscriptions
            if item.get("channel") == subscription.channel
            and str(item.get("resource_id")) == str(subscription.resource_id)
            and (address := _address_at(item, subscription.path))
        }
        return list(own), seen


def _identity(subscription: Subscription, address: str) -> _Identity:
    channel = subscription.channel
    return channel, subscription.resource_id, address.casefold() if channel == "email" else address


def _addresses(
    columns: Iterable[str], profile: Mapping[str, t.Any], record: Mapping[str, t.Any]
) -> Sequence[str]:
    """Return the addresses of the first column that holds any."""
    for name in columns:
        value = profile.get(name)
        if value is None:
            value = record.get(name)
        if isinstance(value, str) and value.strip():
            return (value,)  # the usual case
        try:
            found = [
                text
                for item in (value if isinstance(value, list) else (value,))
                if (text := to_text(item)) is not None
            ]
        except (TypeError, OverflowError):
            raise Rejection(
                "bad_subscriptions",
                f"column '{name}' holds an address that is neither text nor a number",
            ) from None
        if found:
            return found
    return ()


def _address_at(item: t.Any, path: Iterable[str]) -> str | None:  # noqa: ANN401
    for name in path:
        item = item.get(name) if isinstance(item, dict) else None
    try:
        return to_text(item)
    except (TypeError, OverflowError):
        return None


def _made(template: Mapping[str, t.Any], path: Sequence[str], address: str) -> dict[str, t.Any]:
    """Return a template with the address in its place; the template is left as it is."""
    if len(path) == 1:
        return {**template, path[0]: address}
    name, *rest = path
    return {**template, name: _made(template.get(name, {}), rest, address)}
