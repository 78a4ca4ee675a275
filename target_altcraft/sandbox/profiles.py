"""The customer database: profiles, and the values by which they are found."""

from __future__ import annotations

import typing as t
from dataclasses import asdict, dataclass, field

from target_altcraft.sandbox.submission import as_text, fold, phones_of
from target_altcraft.sandbox.subscriptions import subscribe, unsubscribe

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from target_altcraft.sandbox.submission import Identity, Json
    from target_altcraft.sandbox.subscriptions import Asked, Subscription

_CUSTOM = "custom:"


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
        messages: How many messages the customer got, by workflow id.
        subscriptions: In the order in which they came; those that ended too.
    """

    id: str
    number: int
    fields: Json = field(default_factory=dict)
    history: list[Json] = field(default_factory=list)
    runs: dict[int, int] = field(default_factory=dict)
    repeats: dict[int, int] = field(default_factory=dict)
    messages: dict[int, int] = field(default_factory=dict)
    subscriptions: list[Subscription] = field(default_factory=list)

    def as_dict(self) -> Json:
        """Return a copy for those outside the lock."""
        return {
            "id": self.id,
            "fields": dict(self.fields),
            "history": list(self.history),
            "runs": dict(self.runs),
            "messages": dict(self.messages),
            "subscriptions": [asdict(each) for each in self.subscriptions],
        }


class ProfileStore:
    """The profiles of one world. Guarded by its owner's lock.

    Attributes:
        rows: The profiles, in order of creation.
    """

    def __init__(self) -> None:
        self.rows: list[Profile] = []
        self._index: dict[tuple[str, str], Profile] = {}
        self._custom_fields: set[str] = set()
        self._indexed_fields = {"email", "phones"}

    def upsert(self, identity: Identity, data: Json, subscriptions: list[Asked]) -> Profile:
        """Return the profile that an entry means, or a new one, updated by the entry.

        Args:
            identity: How it is found.
            data: Its new values. `subscriptions` is not one: it is given by itself.
            subscriptions: Those that are good.
        """
        if identity.kind.startswith(_CUSTOM):
            self._index_custom_field(identity.kind[len(_CUSTOM) :])
        profile = self._index.get((identity.kind, identity.key)) or self._create(identity)
        if "subscriptions" in data:
            data = {name: value for name, value in data.items() if name != "subscriptions"}
        for name in self._indexed_fields:
            if name in data and data[name] != profile.fields.get(name):
                self._reindex(profile, name, data[name])
        profile.fields.update(data)
        for asked in subscriptions:
            subscribe(profile.subscriptions, asked)
        return profile

    def unsubscribe(
        self, address: str, channel: str | None = None, resource_id: int | None = None
    ) -> int:
        """Unsubscribe an address; return how many subscriptions that changed."""
        return sum(
            unsubscribe(profile.subscriptions, address, channel, resource_id)
            for profile in self.rows
        )

    def _create(self, identity: Identity) -> Profile:
        """Make the profile that was looked for, with the value it was looked for by."""
        by_id = identity.kind == "profile_id"
        number = len(self.rows) + 1
        profile = Profile(identity.key if by_id else f"{number:024x}", number)
        if identity.kind == "email":
            profile.fields["email"] = identity.value
        elif identity.kind == "phone":
            profile.fields["phones"] = [identity.value]
        elif identity.kind.startswith(_CUSTOM):
            profile.fields[identity.kind[len(_CUSTOM) :]] = identity.value
        self.rows.append(profile)
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

    def _keys(self, name: str, value: object) -> Iterator[tuple[str, str]]:
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
        for profile in self.rows:
            if profile.fields.get(name) is not None:
                self._index.setdefault((_CUSTOM + name, as_text(profile.fields[name])), profile)
